//! Repeats one scenario as often as told and ends: what instruction counters are put around.

use anyhow::{Context, Result, bail};
use sockeye_benches::{SCENARIOS, Scenario};

#[allow(clippy::print_stdout, reason = "the list is this program's result")]
fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        // Without arguments: name, unit and units of all there are.
        [] => {
            for scenario in SCENARIOS {
                println!("{} {} {}", scenario.name, scenario.unit, scenario.units);
            }
            Ok(())
        }
        [name, repetitions] => {
            let scenario = Scenario::find(name).with_context(|| format!("no scenario {name}"))?;
            let mut run = (scenario.prepare)();
            for _ in 0..repetitions.parse().context("how often?")? {
                run();
            }
            Ok(())
        }
        _ => bail!("scenario [NAME REPETITIONS]"),
    }
}
