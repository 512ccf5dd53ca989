//! What people and scripts do with a service from a terminal, by its [`client`](crate::client).
//!
//! | module | says |
//! | --- | --- |
//! | `end` | how a command ends, and its exit status |
//! | `show` | text for a terminal, and lines on stdout |
//! | `view` | what is to be shown of a task, from its events |
//! | `watch` | `watch`: bars on a terminal, lines in a pipe |
//! | `tasks` | `tasks`: a table |
//! | `calls` | `register`, `claim`, `cancel`, `retry` |
//! | `work` | `work`: a worker made of any program |

mod calls;
mod end;
mod show;
mod tasks;
mod view;
mod watch;
mod work;

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::terminal::ConnectArgs;
use crate::cli::{Cli, TerminalCommand};
use crate::client::{Client, Patience};
use end::{End, Ended};

/// Does what a command line says; what goes wrong is said on stderr.
pub fn run(command: TerminalCommand) -> ExitCode {
    // One thread is enough for what waits nearly always.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(done(command)),
        Err(error) => Err(error.into()),
    };
    end::exit_code(ended)
}

async fn done(command: TerminalCommand) -> Ended {
    match command {
        TerminalCommand::Watch(args) => watch::watch(&args).await,
        TerminalCommand::Tasks(args) => tasks::tasks(&args).await,
        TerminalCommand::Register(args) => calls::register(&args).await,
        TerminalCommand::Claim(args) => calls::claim(&args).await,
        TerminalCommand::Cancel(args) => calls::cancel(&args).await,
        TerminalCommand::Retry(args) => calls::retry(&args).await,
        TerminalCommand::Work(args) => work::work(args).await,
        TerminalCommand::Completions { shell } => {
            show::bytes(&completions(shell))?;
            Ok(End::Done)
        }
    }
}

/// The script that a shell completes our command line by.
fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "task-tracker", &mut script);
    if shell == Shell::Bash {
        // clap_complete 4.6 writes a name with a hyphen in two ways, and completes no options behind a subcommand
        // (https://github.com/clap-rs/clap/issues/6421).
        let text = String::from_utf8_lossy(&script);
        script = text.replace("task__subcmd__tracker", "task__tracker").into_bytes();
    }
    script
}

/// The client that the arguments mean, and how long it tries.
fn connect(args: &ConnectArgs) -> Result<(Client, Patience), crate::client::Error> {
    Ok((Client::new(args.url.clone(), &args.header_map())?, Patience::For(args.retry_for)))
}
