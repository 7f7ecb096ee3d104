//! `cargo xtask …`: the developer's tasks.

mod fuzz;

use clap::Parser;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The developer's tasks")]
enum Task {
    Fuzz(fuzz::Fuzz),
}

fn main() -> anyhow::Result<()> {
    match Task::parse() {
        Task::Fuzz(fuzz) => fuzz.run(),
    }
}
