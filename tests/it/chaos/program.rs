//! A program that is killed and started again, always by the same command.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a program that is asked to end may take.
const POLITE: Duration = Duration::from_secs(10);

/// What is run, and as whom.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Its whole environment.
    pub environment: Vec<(String, String)>,
    /// Where it runs.
    pub folder: PathBuf,
    /// The user it runs as, where that is not ours.
    pub user: Option<User>,
}

/// A user, by numbers.
#[derive(Debug, Clone, Copy)]
pub struct User {
    /// The user.
    pub id: u32,
    /// Its group.
    pub group: u32,
}

impl User {
    /// Whom servers run as that refuse to run as root; `None` where we are not root.
    pub fn for_servers() -> Option<Self> {
        let asked = |flag: &str, name: &[&str]| -> Option<u32> {
            let output = Command::new("id").arg(flag).args(name).output().ok()?;
            String::from_utf8(output.stdout).ok()?.trim().parse().ok()
        };
        if asked("-u", &[]) != Some(0) {
            return None;
        }
        let of = |name| Some(Self { id: asked("-u", &[name])?, group: asked("-g", &[name])? });
        Some(of("postgres").or_else(|| of("nobody")).expect("a user who is not root"))
    }
}

impl Recipe {
    /// The command. What it starts dies with us, even if we are killed outright, and does not hear the terminal's
    /// Ctrl-C. It must be started by a thread that lives as long as it should.
    fn command(&self, signal_at_our_death: &str) -> Command {
        let mut command = Command::new("setsid");
        command.args(["setpriv", "--pdeathsig", signal_at_our_death]);
        if let Some(User { id, group }) = self.user {
            let (id, group) = (id.to_string(), group.to_string());
            command.args(["--reuid", &id, "--regid", &group, "--clear-groups"]);
        }
        command.arg("--").arg(&self.program).args(&self.arguments);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir(&self.folder).stdin(Stdio::null());
        command
    }

    /// Runs it to its end, which must be a good one.
    pub fn run(&self) {
        let output = self.command("KILL").output().expect("a process");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {said}", self.program.display());
    }
}

/// A program that should run.
#[derive(Debug)]
pub struct Program {
    recipe: Recipe,
    log: PathBuf,
    child: Option<Child>,
}

impl Program {
    /// One that does not run yet; what it says goes to a file of this name.
    pub fn new(recipe: Recipe, log: PathBuf) -> Self {
        Self { recipe, log, child: None }
    }

    /// Starts it.
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.log.display());
        let log = File::options().create(true).append(true).open(&self.log).expect("a log");
        let errors = log.try_clone().expect("a log");
        let child = self.recipe.command("KILL").stdout(log).stderr(errors).spawn();
        self.child = Some(child.expect("a process"));
    }

    /// How it ended, if it did so by itself.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        let ended = self.child.as_mut()?.try_wait().expect("a child")?;
        self.child = None;
        Some(ended)
    }

    /// `kill -9` of it and of what it started, which for Postgres are sessions of their own.
    pub fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let mut all = vec![child.id()];
        all.extend(children(child.id()));
        // All at once, before they notice of each other.
        signal("KILL", &all);
        child.kill().expect("a signal, if that failed");
        child.wait().expect("its end");
    }

    /// Has it and what it started stand still, with every connection open and silent.
    pub fn freeze(&self) {
        self.signal_all("STOP");
    }

    /// Has it go on as if no time had passed.
    pub fn thaw(&self) {
        self.signal_all("CONT");
    }

    fn signal_all(&self, name: &str) {
        let Some(child) = &self.child else { return };
        let mut all = children(child.id());
        all.push(child.id());
        signal(name, &all);
    }

    /// Asks it to end, and waits: a Postgres that is killed leaves shared memory behind.
    #[expect(clippy::disallowed_methods, reason = "a drop cannot await, and nothing runs any more")]
    fn stop(&mut self) {
        let Some(child) = &mut self.child else { return };
        signal("INT", &[child.id()]);
        let asked = Instant::now();
        while asked.elapsed() < POLITE {
            if self.has_ended().is_some() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.kill();
    }

    /// The last lines it said.
    pub fn last_words(&self, lines: usize) -> String {
        let said = self.said();
        let all: Vec<&str> = said.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// Everything it said, in all its lives.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Sends a signal to processes that we started; those that have ended are none any more.
fn signal(name: &str, processes: &[u32]) {
    if !processes.is_empty() {
        let processes = processes.iter().map(u32::to_string);
        let _ = Command::new("kill").args(["-s", name]).args(processes).output();
    }
}

/// The processes that `parent` started and that run.
fn children(parent: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter(|id| parent_of(*id) == Some(parent)).collect()
}

/// The fourth field of `/proc/<id>/stat`; the second is a name in parentheses that may hold anything.
fn parent_of(id: u32) -> Option<u32> {
    let stat = fs::read_to_string(Path::new("/proc").join(id.to_string()).join("stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}
