//! Instructions of the pure parts, counted by valgrind, and the committed baseline they are held against.
//!
//! Unlike times, counts hardly change from run to run: a small growth is seen on any machine. They depend on the
//! compiler, so the baseline names the one that made it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// By how much a count may exceed the baseline. Random seeds of hash tables alone make about 0.1 %.
const TOLERANCE: f64 = 0.03;

/// Counts every scenario of `program` and tells them beside the baseline.
pub(crate) fn run(program: &Path, baseline: &Path, update: bool, check: bool) -> Result<()> {
    if Command::new("valgrind").arg("--version").output().is_err() {
        bail!("NOTHING WAS COUNTED: valgrind is not installed");
    }
    let toolchain = toolchain()?;
    let known = if update { Baseline::default() } else { Baseline::read(baseline)? };
    if !update && known.toolchain != toolchain {
        say(&format!(
            "WARNING: the baseline was counted with {}, this is {toolchain}: differences may be the compiler's",
            known.toolchain
        ));
    }
    say(&format!("{:<28} {:>12} {:>12} {:>8}  per", "scenario", "instructions", "baseline", "change"));
    let mut counted = Baseline { toolchain, instructions: BTreeMap::new() };
    let mut grown = Vec::new();
    for scenario in scenarios(program)? {
        let count = scenario.count(program)?;
        let Scenario { name, unit, .. } = &scenario;
        let before = known.instructions.get(name);
        let change = before.map(|before| count / before - 1.0);
        let show = |value: Option<String>| value.unwrap_or_else(|| "—".to_owned());
        say(&format!(
            "{name:<28} {count:>12.1} {:>12} {:>8}  {unit}",
            show(before.map(|before| format!("{before:.1}"))),
            show(change.map(|change| format!("{:+.1} %", change * 100.0))),
        ));
        // A scenario the baseline does not know is a gap as well.
        if change.is_none_or(|change| change > TOLERANCE) {
            grown.push(name.clone());
        }
        counted.instructions.insert(name.clone(), count);
    }
    if update {
        return std::fs::write(baseline, counted.to_toml()).with_context(|| baseline.display().to_string());
    }
    let gone: Vec<_> =
        known.instructions.keys().filter(|name| !counted.instructions.contains_key(*name)).collect();
    ensure!(!check || gone.is_empty(), "the baseline has scenarios that are gone: {gone:?}");
    if !grown.is_empty() {
        let verdict = format!(
            "more than {:.0} % above the baseline, or not in it: {}",
            TOLERANCE * 100.0,
            grown.join(", ")
        );
        ensure!(!check, "{verdict}");
        say(&verdict);
    }
    Ok(())
}

/// A line of what the program says it can do.
struct Scenario {
    name: String,
    unit: String,
    units: f64,
}

fn scenarios(program: &Path) -> Result<Vec<Scenario>> {
    let output = Command::new(program).output().with_context(|| program.display().to_string())?;
    ensure!(output.status.success(), "{}: {}", program.display(), output.status);
    String::from_utf8(output.stdout)?.lines().map(scenario).collect()
}

fn scenario(line: &str) -> Result<Scenario> {
    match line.split(' ').collect::<Vec<_>>().as_slice() {
        [name, unit, units] => {
            Ok(Scenario { name: (*name).to_owned(), unit: (*unit).to_owned(), units: units.parse()? })
        }
        _ => bail!("not a scenario: {line}"),
    }
}

impl Scenario {
    /// Instructions per unit: what two runs of it cost beyond one, so that start and input do not count.
    fn count(&self, program: &Path) -> Result<f64> {
        let once = instructions(program, &self.name, 1)?;
        let twice = instructions(program, &self.name, 2)?;
        ensure!(twice > once, "{}: a second run costs nothing", self.name);
        Ok((twice - once) as f64 / self.units)
    }
}

fn instructions(program: &Path, scenario: &str, repetitions: u32) -> Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args([scenario, &repetitions.to_string()])
        .output()
        .context("cannot run valgrind")?;
    let log = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "valgrind: {}\n{log}", output.status);
    collected(&log).with_context(|| format!("valgrind tells no count:\n{log}"))
}

/// The count in callgrind's last words: `==4711== Collected : 12345`.
fn collected(log: &str) -> Option<u64> {
    log.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok())
}

/// Compiler and target, which counts depend on.
fn toolchain() -> Result<String> {
    let version = Command::new("rustc").arg("-vV").output().context("rustc -vV")?;
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let field = |name: &str| version.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    match (field("release:"), field("host:")) {
        (Some(release), Some(host)) => Ok(format!("rustc {release} {host}")),
        _ => bail!("rustc -vV tells no release and host"),
    }
}

/// The committed counts.
#[derive(Default, PartialEq, Debug)]
struct Baseline {
    toolchain: String,
    /// Instructions per unit by scenario.
    instructions: BTreeMap<String, f64>,
}

impl Baseline {
    fn read(path: &Path) -> Result<Baseline> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        Baseline::from_toml(&text).with_context(|| path.display().to_string())
    }

    fn from_toml(text: &str) -> Result<Baseline> {
        let table: toml::Table = text.parse()?;
        let toolchain =
            table.get("toolchain").and_then(toml::Value::as_str).context("no toolchain")?.to_owned();
        let counts = table.get("instructions").and_then(toml::Value::as_table).context("no instructions")?;
        let instructions = counts
            .iter()
            .map(|(name, count)| {
                Ok((name.clone(), count.as_float().with_context(|| format!("{name}: no count"))?))
            })
            .collect::<Result<_>>()?;
        Ok(Baseline { toolchain, instructions })
    }

    fn to_toml(&self) -> String {
        let mut text = format!(
            "# Instructions per unit of each scenario, in release; written by `cargo xtask bench --instructions --update`.\n\
             toolchain = \"{}\"\n\n[instructions]\n",
            self.toolchain
        );
        for (name, count) in &self.instructions {
            text.push_str(&format!("{name} = {count:.1}\n"));
        }
        text
    }
}

#[allow(clippy::print_stdout, reason = "the table is this command's result")]
fn say(line: &str) {
    println!("{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_baseline_reads_as_it_was_written() {
        let baseline = Baseline {
            toolchain: "rustc 1.95.0 x86_64".to_owned(),
            instructions: [("decode".to_owned(), 143.0), ("fold".to_owned(), 12.5)].into(),
        };
        assert_eq!(Baseline::from_toml(&baseline.to_toml()).unwrap(), baseline);
        assert!(Baseline::from_toml("toolchain = \"x\"\n[instructions]\ndecode = \"many\"\n").is_err());
    }

    #[test]
    fn the_committed_baseline_reads() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../benches/instructions.toml");
        assert!(!Baseline::read(&path).unwrap().instructions.is_empty());
    }

    #[test]
    fn the_count_is_found_in_the_log() {
        let log =
            "==12== Callgrind, a call-graph generator\n==12== Events    : Ir\n==12== Collected : 5432109\n";
        assert_eq!(collected(log), Some(5_432_109));
        assert_eq!(collected("==12== Collected : many\n"), None);
    }

    #[test]
    fn scenarios_are_lines_of_three_words() {
        let decode = scenario("decode record 100000").unwrap();
        assert_eq!(
            (decode.name.as_str(), decode.unit.as_str(), decode.units),
            ("decode", "record", 100_000.0)
        );
        assert!(scenario("decode record").is_err() && scenario("decode record many").is_err());
    }
}
