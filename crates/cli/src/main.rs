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
mod history;
mod holders;
mod inodes;
mod instant;
mod makers;
mod names;
mod programs;
mod quantity;
mod render;
mod run;
mod stop;
mod stuck;
mod surroundings;
mod sweep;
mod terminal;
mod threshold;
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
    // Whoever asks for a check reads wrong usage where it reads the answer.
    let is_check = config::command_typed(std::env::args_os()).is_some_and(|word| word == "check");
    let arguments = match config::arguments(std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(error) if is_check => return command::check::unknown(&format!("{error:#}")).into(),
        Err(error) => return failed(&error),
    };
    let line = match args::parse(arguments) {
        Ok(line) => line,
        Err(error) if is_check && error.use_stderr() => {
            return command::check::unknown(&config::first_paragraph(&error)).into();
        }
        Err(error) => {
            // clap writes help and version to stdout, usage errors to stderr.
            let written = terminal::ignore_closed_pipe(error.print());
            let succeeded = written.is_ok() && !error.use_stderr();
            return if succeeded { ExitCode::SUCCESS } else { ExitCode::from(FAILED) };
        }
    };
    let done = match &line.command {
        None => command::snapshot::run(&line.snapshot).map(done),
        Some(Command::Check(args)) => Ok(command::check::run(args)),
        Some(Command::Closes(args)) => command::closes::run(args).map(done),
        Some(Command::Diff(args)) => command::diff::run(args).map(passed),
        Some(Command::Headroom(args)) => command::headroom::run(args).map(passed),
        Some(Command::Lifetimes(args)) => command::lifetimes::run(args).map(done),
        Some(Command::Ports(args)) => command::ports::run(args).map(done),
        Some(Command::Record(args)) => command::record::run(args).map(done),
        Some(Command::Report(args)) => command::report::run(args).map(done),
        Some(Command::Run(args)) => command::run::run(args),
        Some(Command::Snapshot(args)) => command::snapshot::run(args).map(done),
        Some(Command::Sockets(args)) => command::sockets::run(args).map(done),
        Some(Command::Top(args)) => command::top::run(args).map(done),
        Some(Command::Watch(args)) => command::watch::run(args).map(done),
    };
    done.map_or_else(|error| failed(&error), ExitCode::from)
}

/// What a command that judges nothing exits with.
fn done((): ()) -> u8 {
    0
}

/// What one exits with that has only to say whether something holds.
fn passed(passed: bool) -> u8 {
    if passed { 0 } else { NOT_PASSED }
}

/// Says why.
fn failed(error: &anyhow::Error) -> ExitCode {
    let mut text = format!("sockeye: {error:#}");
    // The C library's words: of any of our libraries.
    if text.contains("Too many open files") {
        text.push_str("; `ulimit -n 1024` allows enough of them");
    }
    // Paths and names in it may be anything. Lines stay lines: a filter has its mistake marked below.
    for line in text.lines() {
        let _ = writeln!(std::io::stderr(), "{}", terminal::Harmless(line));
    }
    ExitCode::from(FAILED)
}
