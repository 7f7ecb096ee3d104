//! `cargo xtask …`: what developers and CI run. Each subcommand is a module of its own.
mod bench;
mod dist;
mod fuzz;
mod generate;
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
    Dist(dist::Dist),
    Fuzz(fuzz::Fuzz),
    Generate(generate::Generate),
    Lint(lint::Lint),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Bench(bench) => bench.run(),
        Task::Dist(dist) => dist.run(),
        Task::Fuzz(fuzz) => fuzz.run(),
        Task::Generate(generate) => generate.run(),
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
