//! A terminal to draw on.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::process::{Child, Command};

use crate::harness::eventually;

/// A client on a terminal of its own.
#[derive(Debug)]
pub struct Drawn {
    pub child: Child,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Drawn {
    /// Starts it on a terminal of so many columns and 24 rows.
    pub fn start(mut command: Command, columns: u16) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&master).expect("ours");
        unlockpt(&master).expect("unlocked");
        let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).expect("a size");
        let name = ptsname(&master, Vec::new()).expect("a name");
        let name = std::ffi::OsStr::from_bytes(name.as_bytes());
        let end = OpenOptions::new().read(true).write(true).open(name).expect("its other end");
        let child = command
            .stdout(Stdio::from(end.try_clone().expect("a handle")))
            .stderr(Stdio::from(end))
            .env("TERM", "xterm-256color")
            .spawn()
            .expect("a process");
        // The command holds the other end, too; without it reading ends when the client does.
        drop(command);
        let seen = Arc::<Mutex<Vec<u8>>>::default();
        let into = Arc::clone(&seen);
        std::thread::spawn(move || {
            let mut master = std::fs::File::from(master);
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = master.read(&mut buffer) {
                into.lock().unwrap().extend_from_slice(&buffer[..length]);
            }
        });
        Self { child, seen }
    }

    /// All that was written to it.
    pub fn seen(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned()
    }

    /// Waits until this was written, colours aside.
    pub async fn shows(&self, text: &str) {
        eventually(|| async {
            let seen = self.seen();
            console::strip_ansi_codes(&seen).contains(text).then_some(())
        })
        .await;
    }
}
