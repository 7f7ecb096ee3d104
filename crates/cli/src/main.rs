//! The `sockeye` program: arguments in, exit code out.

mod args;
mod command;
mod explain;
mod feed;
mod follow;
mod names;
mod quantity;
mod render;
mod stop;
mod surroundings;
mod sweep;
mod terminal;

use std::io::Write;
use std::process::ExitCode;

use args::Command;

/// Wrong usage, or an error. 1 is kept for "a budget, threshold or comparison failed".
const FAILED: u8 = 2;

fn main() -> ExitCode {
    let line = match args::parse(std::env::args_os()) {
        Ok(line) => line,
        Err(error) => {
            // clap writes help and version to stdout, usage errors to stderr.
            let written = terminal::ignore_closed_pipe(error.print());
            let succeeded = written.is_ok() && !error.use_stderr();
            return if succeeded { ExitCode::SUCCESS } else { ExitCode::from(FAILED) };
        }
    };
    let done = match &line.command {
        None => command::snapshot::run(&line.snapshot),
        Some(Command::Closes(args)) => command::closes::run(args),
        Some(Command::Lifetimes(args)) => command::lifetimes::run(args),
        Some(Command::Snapshot(args)) => command::snapshot::run(args),
        Some(Command::Sockets(args)) => command::sockets::run(args),
        Some(Command::Watch(args)) => command::watch::run(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "sockeye: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}
