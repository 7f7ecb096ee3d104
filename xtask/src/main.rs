//! `cargo xtask …`: what developers and CI run. Each subcommand is a module of its own.
mod bench;
mod fuzz;
mod instructions;
mod layers;
mod licences;
mod lint;
mod rust_code;
mod spdx;
mod tidy;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Developer tasks of sockeye.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    Bench(bench::Bench),
    Fuzz(fuzz::Fuzz),
    Lint(lint::Lint),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Bench(bench) => bench.run(),
        Task::Fuzz(fuzz) => fuzz.run(),
        Task::Lint(lint) => lint.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
