//! The `sockeye` program: arguments in, exit code out.

mod account;
mod args;
mod by;
mod command;
mod config;
mod explain;
mod feed;
mod fleet;
mod follow;
#[cfg(test)]
mod generated;
mod help;
mod holders;
mod inodes;
mod makers;
mod names;
mod programs;
mod quantity;
mod render;
mod stop;
mod stuck;
mod surroundings;
mod sweep;
mod terminal;
mod top;
mod whose;

use std::io::Write;
use std::process::ExitCode;

use args::Command;

/// A budget, threshold or comparison failed: of `headroom`, no connect() succeeds.
const NOT_PASSED: u8 = 1;
/// Wrong usage, or an error.
const FAILED: u8 = 2;

fn main() -> ExitCode {
    let arguments = match config::arguments(std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(error) => return failed(&error),
    };
    let line = match args::parse(arguments) {
        Ok(line) => line,
        Err(error) => {
            // clap writes help and version to stdout, usage errors to stderr.
            let written = terminal::ignore_closed_pipe(error.print());
            let succeeded = written.is_ok() && !error.use_stderr();
            return if succeeded { ExitCode::SUCCESS } else { ExitCode::from(FAILED) };
        }
    };
    let done = match &line.command {
        None => command::snapshot::run(&line.snapshot).map(passed),
        Some(Command::Closes(args)) => command::closes::run(args).map(passed),
        Some(Command::Diff(args)) => command::diff::run(args),
        Some(Command::Headroom(args)) => command::headroom::run(args),
        Some(Command::Lifetimes(args)) => command::lifetimes::run(args).map(passed),
        Some(Command::Ports(args)) => command::ports::run(args).map(passed),
        Some(Command::Snapshot(args)) => command::snapshot::run(args).map(passed),
        Some(Command::Sockets(args)) => command::sockets::run(args).map(passed),
        Some(Command::Top(args)) => command::top::run(args).map(passed),
        Some(Command::Watch(args)) => command::watch::run(args).map(passed),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(NOT_PASSED),
        Err(error) => failed(&error),
    }
}

/// Says why.
fn failed(error: &anyhow::Error) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "sockeye: {error:#}");
    ExitCode::from(FAILED)
}

/// What a command that judges nothing has to say.
fn passed((): ()) -> bool {
    true
}
