//! The config file: options that someone wants each time, put before those that were typed.
//!
//! It has no meaning of its own. Each key is the name of an option, becomes that option's argument, and is checked where
//! the others are. What was typed wins: over the same key, and over keys that exclude it.

use std::collections::HashSet;
use std::ffi::OsString;
use std::io::{self, ErrorKind, Read};
use std::ops::Range;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context, anyhow, bail};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, CommandFactory};
use toml::de::{DeTable, DeValue};

use crate::args::{CommandLine, output_spelled_out};

/// The section whose keys count for every command that has them.
const DEFAULTS: &str = "defaults";
/// Options that make no sense each time: they name a file that one run reads or writes, or are about this file.
const OF_ONE_RUN: &[&str] = &[
    "capture",
    "config",
    "export-json",
    "export-junit",
    "export-markdown",
    "help",
    "hlog",
    "no-config",
    "replay",
    "save",
    "version",
];

/// Which config file is read; the same for every command.
#[derive(Args, Debug, Clone, Default)]
pub(crate) struct ConfigArgs {
    /// Take defaults of options from FILE, not from ~/.config/sockeye/config.toml
    #[arg(long, value_name = "FILE", global = true, help_heading = "Config file")]
    config: Option<PathBuf>,
    /// Read no config file: for scripts
    #[arg(long, global = true, conflicts_with = "config", help_heading = "Config file")]
    no_config: bool,
}

/// No config file is as long; devices and pipes may have no end.
const LONGEST: u64 = 1 << 20;

/// The arguments that were typed, with those of the config file before them.
///
/// Without a config file, or where what was typed is wrong by itself, they come back as they are.
///
/// # Errors
/// A config file that was asked for and cannot be read; a config file that says what no option does: its name and line.
pub(crate) fn arguments(typed: impl IntoIterator<Item = OsString>) -> anyhow::Result<Vec<OsString>> {
    let mut root = CommandLine::command();
    root.build();
    let typed = command_first(output_spelled_out(typed), &root);
    let Ok(matches) = root.clone().try_get_matches_from(&typed) else { return Ok(typed) };
    let (name, matches) = matches.subcommand().unwrap_or(("snapshot", &matches));
    let Some(file) = File::of_this_run(matches)? else { return Ok(typed) };
    let command = root.find_subcommand(name).context("a command that was parsed is known")?;
    let sections = file.sections(&root)?;
    let keys = chosen(&sections, command, matches);
    // What comes later overrides it.
    let place = if typed.get(1).is_some_and(|word| word == command.get_name()) { 2 } else { 1 };
    let with = |keys: &[&Key]| {
        let mut all = typed.clone();
        all.splice(place..place, keys.iter().filter_map(|key| key.argument.clone()));
        all
    };
    let all = with(&keys);
    let Err(error) = root.clone().try_get_matches_from(&all) else { return Ok(all) };
    for key in &keys {
        if let Err(error) = root.clone().try_get_matches_from(with(&[key])) {
            bail!("{}: {}", file.at(&key.span), first_paragraph(&error));
        }
    }
    bail!("{}, for {name}: {}", file.path.display(), first_paragraph(&error))
}

/// One key of the file that an option answers to.
struct Key {
    /// Of the option in clap.
    id: String,
    /// None: the flag is off, as it is without the key.
    argument: Option<OsString>,
    span: Range<usize>,
}

struct Section {
    /// `defaults`, or a command.
    name: String,
    /// For `defaults` one for each command that has the option, as commands may spell one key differently.
    keys: Vec<(String, Key)>,
}

struct File {
    path: PathBuf,
    text: String,
}

impl File {
    /// The file that was named, in the arguments or the environment, or else that of the user, if there is one.
    fn of_this_run(matches: &ArgMatches) -> anyhow::Result<Option<File>> {
        if matches.get_flag("no_config") {
            return Ok(None);
        }
        let named = matches.get_one::<PathBuf>("config").cloned();
        let named = named.or_else(|| env::var_os("SOCKEYE_CONFIG").map(PathBuf::from));
        match named {
            Some(none) if none.as_os_str().is_empty() => Ok(None),
            Some(path) => match text_of(&path) {
                Ok(text) => Ok(Some(File { path, text })),
                Err(error) => Err(anyhow!("cannot read the config file {}: {error}", path.display())),
            },
            None => File::of_the_user(),
        }
    }

    fn of_the_user() -> anyhow::Result<Option<File>> {
        let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let folder =
            absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")));
        let Some(path) = folder.map(|folder| folder.join("sockeye/config.toml")) else { return Ok(None) };
        // Nobody asked for it, and it would be waited for.
        if fs::metadata(&path).is_ok_and(|found| found.file_type().is_fifo()) {
            bail!("cannot read the config file {}: it is a pipe", path.display());
        }
        match text_of(&path) {
            Ok(text) => Ok(Some(File { path, text })),
            // Who changed user and kept HOME cannot read the other one's, and did not ask for it.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::PermissionDenied
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(anyhow!("cannot read the config file {}: {error}", path.display())),
        }
    }

    /// File and line, as compilers say them.
    fn at(&self, span: &Range<usize>) -> String {
        let before = self.text.as_bytes().get(..span.start).unwrap_or_default();
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        format!("{}:{line}", self.path.display())
    }

    /// What it says, each key held to the options there are.
    fn sections(&self, root: &Command) -> anyhow::Result<Vec<Section>> {
        let table = DeTable::parse(&self.text).map_err(|error| {
            anyhow!("{}: {}", self.at(&error.span().unwrap_or_default()), error.message().replace('\n', ", "))
        })?;
        let commands: Vec<&Command> =
            root.get_subcommands().filter(|command| command.get_name() != "help").collect();
        let mut sections = Vec::new();
        for (name, value) in table.get_ref() {
            let at = self.at(&name.span());
            let name = name.get_ref().as_ref();
            if matches!(value.get_ref(), DeValue::Array(array) if array.iter().any(|one| matches!(one.get_ref(), DeValue::Table(_))))
            {
                bail!("{at}: [[{name}]] is a list: a section has one pair of brackets, like [{name}]");
            }
            let DeValue::Table(keys) = value.get_ref() else {
                bail!(
                    "{at}: {name} stands before any section: put it below [{DEFAULTS}] or a command, like [watch]"
                );
            };
            let of: Vec<&Command> = commands
                .iter()
                .copied()
                .filter(|command| name == DEFAULTS || command.get_name() == name)
                .collect();
            if of.is_empty() {
                let known = commands.iter().map(|command| command.get_name()).chain([DEFAULTS]);
                bail!("{at}: no section is called [{name}]; the nearest is [{}]", nearest(name, known));
            }
            let mut known_keys = Vec::new();
            for (key, value) in keys {
                known_keys.extend(self.key(name, &of, key.get_ref(), &key.span(), value.get_ref())?);
            }
            sections.push(Section { name: name.to_owned(), keys: known_keys });
        }
        Ok(sections)
    }

    /// A key as the argument of each command that has it.
    fn key(
        &self,
        section: &str,
        commands: &[&Command],
        key: &str,
        span: &Range<usize>,
        value: &DeValue<'_>,
    ) -> anyhow::Result<Vec<(String, Key)>> {
        let at = self.at(span);
        if OF_ONE_RUN.contains(&key) {
            bail!("{at}: {key} is of one run: give it on the command line");
        }
        let mut found = Vec::new();
        for command in commands {
            let Some(option) = command.get_arguments().find(|option| name(option).as_deref() == Some(key))
            else {
                continue;
            };
            let argument = argument(option, key, value).map_err(|what| anyhow!("{at}: {key} {what}"))?;
            let key = Key { id: option.get_id().to_string(), argument, span: span.clone() };
            found.push((command.get_name().to_owned(), key));
        }
        if found.is_empty() {
            let known: Vec<String> =
                commands.iter().flat_map(|command| command.get_arguments()).filter_map(name).collect();
            let nearest = nearest(key, known.iter().map(String::as_str));
            let key = if key.is_empty() { "\"\"" } else { key };
            bail!("{at}: no option of [{section}] is called {key}; the nearest is {nearest}");
        }
        Ok(found)
    }
}

fn text_of(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(LONGEST + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LONGEST {
        return Err(io::Error::other("it is longer than 1 MiB"));
    }
    Ok(text)
}

/// What an option is called in the file: its long name, or that of a word that has a default (the INTERVAL of watch).
fn name(option: &Arg) -> Option<String> {
    let long = option.get_long().map(str::to_owned);
    let word =
        || (!option.get_default_values().is_empty()).then(|| option.get_id().as_str().replace('_', "-"));
    long.or_else(word).filter(|name| !OF_ONE_RUN.contains(&name.as_str()))
}

/// What would have to be typed; None for a flag that is off.
fn argument(option: &Arg, key: &str, value: &DeValue<'_>) -> Result<Option<OsString>, &'static str> {
    if matches!(option.get_action(), ArgAction::SetTrue) {
        let on = value.as_bool().ok_or("is on or off: true or false")?;
        return Ok(on.then(|| format!("--{key}").into()));
    }
    let text = match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        _ => return Err("must be a number or a text in quotes"),
    };
    Ok(Some(if option.is_positional() { text.into() } else { format!("--{key}={text}").into() }))
}

/// The keys that count for this command beside what was typed, those of its own section before the defaults.
fn chosen<'s>(sections: &'s [Section], command: &Command, typed: &ArgMatches) -> Vec<&'s Key> {
    let mut taken: HashSet<&str> = typed.ids().map(|id| id.as_str()).collect();
    taken.retain(|id| typed.value_source(id) == Some(ValueSource::CommandLine));
    let mut chosen = Vec::new();
    for is_default in [false, true] {
        let of_this_kind = sections.iter().filter(|section| (section.name == DEFAULTS) == is_default);
        let keys = of_this_kind.flat_map(|section| &section.keys);
        let keys: Vec<&Key> = keys.filter(|(of, _)| of == command.get_name()).map(|(_, key)| key).collect();
        let free: Vec<&Key> = keys.into_iter().filter(|key| !excluded(&key.id, &taken, command)).collect();
        taken.extend(free.iter().map(|key| key.id.as_str()));
        chosen.extend(free);
    }
    chosen
}

/// Whether an option was already given, or one that cannot stand beside it.
fn excluded(id: &str, taken: &HashSet<&str>, command: &Command) -> bool {
    let excludes = |one: &Arg, other: &str| {
        command.get_arg_conflicts_with(one).iter().any(|conflict| conflict.get_id().as_str() == other)
    };
    let options = command.get_arguments().filter(|option| !option.is_global_set());
    taken.contains(id)
        || options.into_iter().any(|option| {
            let other = option.get_id().as_str();
            (other == id && taken.iter().any(|taken| excludes(option, taken)))
                || (taken.contains(other) && excludes(option, id))
        })
}

/// Where the first word stands that is not about the config file.
fn after_config(typed: &[OsString]) -> usize {
    let mut place = 1;
    while let Some(word) = typed.get(place).and_then(|word| word.to_str()) {
        match word {
            "--config" => place += 2,
            "--no-config" => place += 1,
            _ if word.starts_with("--config=") => place += 1,
            _ => break,
        }
    }
    place
}

/// The word that names a command, if the first one does.
pub(crate) fn command_typed(typed: impl IntoIterator<Item = OsString>) -> Option<OsString> {
    let typed: Vec<OsString> = typed.into_iter().collect();
    typed.get(after_config(&typed)).cloned()
}

/// `--config FILE watch` as `watch --config FILE`: clap, told that options exclude commands, takes no option before one.
fn command_first(mut typed: Vec<OsString>, root: &Command) -> Vec<OsString> {
    let place = after_config(&typed);
    let is_command = |word: &OsString| root.get_subcommands().any(|command| word == command.get_name());
    if typed.get(place).is_some_and(is_command) {
        typed[1..=place].rotate_right(1);
    }
    typed
}

/// The word a wrong one was most likely meant to be.
fn nearest<'n>(word: &str, known: impl Iterator<Item = &'n str>) -> &'n str {
    known.min_by_key(|known| strsim::damerau_levenshtein(word, known)).unwrap_or(DEFAULTS)
}

/// What clap has to say, without its usage.
pub(crate) fn first_paragraph(error: &clap::Error) -> String {
    let text = error.to_string();
    let lines = text.lines().take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
    let joined = lines.map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    joined.strip_prefix("error: ").unwrap_or(&joined).to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::args::{self, ColorChoice, ReportFormat, StreamFormat};

    /// What a command line means beside this file.
    fn with(file: &str, line: &str) -> anyhow::Result<CommandLine> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        fs::write(&path, file).unwrap();
        let mut words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        words.splice(1..1, ["--config".into(), path.into()]);
        Ok(args::parse(arguments(words)?)?)
    }

    /// What is said of a wrong file, without the folder it is in.
    fn complaint(file: &str, line: &str) -> String {
        let error = with(file, line).unwrap_err().to_string();
        let (_, complaint) = error.split_once("config.toml").unwrap_or_else(|| panic!("no file in: {error}"));
        complaint.to_owned()
    }

    fn watch(file: &str, line: &str) -> args::WatchArgs {
        match with(file, line).map(|line| line.command) {
            Ok(Some(args::Command::Watch(args))) => args,
            other => panic!("{file} {line}: {other:?}"),
        }
    }

    #[test]
    fn a_key_is_an_option_and_what_was_typed_wins() {
        let file = "[defaults]\ncolor = 'always'\ninterval = 5\ncpu-budget = 0.25\n[watch]\ntop = 3\ninterval = '2s'\n";
        let from_file = watch(file, "sockeye watch");
        assert_eq!((from_file.top, from_file.color.when), (3, ColorChoice::Always));
        assert_eq!((from_file.interval, from_file.pace.cpu_budget), (Duration::from_secs(2), Some(0.25)));
        let typed = watch(file, "sockeye watch 9 4 --top 1 --color never");
        assert_eq!((typed.top, typed.color.when), (1, ColorChoice::Never));
        assert_eq!((typed.interval, typed.count), (Duration::from_secs(9), Some(4)));
        // No --interval in a snapshot, and no cpu budget: the defaults of other commands are no error there.
        assert_eq!(with(file, "sockeye").unwrap().snapshot.color.when, ColorChoice::Always);
    }

    #[test]
    fn a_file_without_end_is_no_config_file() {
        let words = ["sockeye", "--config", "/dev/zero"].map(OsString::from);
        let complaint = arguments(words).unwrap_err().to_string();
        assert_eq!(complaint, "cannot read the config file /dev/zero: it is longer than 1 MiB");
    }

    #[test]
    fn what_was_typed_wins_over_what_excludes_it() {
        let file = "[defaults]\njson = true\n[watch]\nall-netns = true\n[sockets]\nall = true\n[ports]\noutput = 'table'";
        assert_eq!(watch(file, "sockeye watch -o csv").output.format(), StreamFormat::Csv);
        assert_eq!(watch(file, "sockeye watch").output.format(), StreamFormat::Jsonl);
        assert!(watch(file, "sockeye watch").fleet.all_netns);
        assert!(!watch(file, "sockeye watch -N web").fleet.all_netns);
        // The section of the command wins over the defaults in the same way.
        let Some(args::Command::Ports(ports)) = with(file, "sockeye ports").unwrap().command else {
            panic!()
        };
        assert_eq!(ports.output.format(), ReportFormat::Table);
        let Some(args::Command::Sockets(sockets)) = with(file, "sockeye sockets -l").unwrap().command else {
            panic!()
        };
        assert_eq!((sockets.all, sockets.listening), (false, true));
    }

    #[test]
    fn a_bare_call_takes_the_section_of_snapshot() {
        for line in ["sockeye", "sockeye snapshot"] {
            let parsed = with("[snapshot]\ntop = 7\nsort = 'closes'\njson = false", line).unwrap();
            let args = match parsed.command {
                Some(args::Command::Snapshot(args)) => args,
                _ => parsed.snapshot,
            };
            assert_eq!((args.top, args.output.format()), (Some(7), ReportFormat::Table), "{line}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line_and_the_nearest_word() {
        for (file, said) in [
            (
                "[defaults]\n\ncolour = 'always'",
                ":3: no option of [defaults] is called colour; the nearest is color",
            ),
            ("[watch]\nsort = 'live'", ":2: no option of [watch] is called sort; the nearest is for"),
            ("[watch]\n\"\" = 1", ":2: no option of [watch] is called \"\"; the nearest is"),
            (
                "[[watch]]\ntop = 1",
                ":1: [[watch]] is a list: a section has one pair of brackets, like [watch]",
            ),
            ("[wacth]\ntop = 1", ":1: no section is called [wacth]; the nearest is [watch]"),
            (
                "color = 'never'",
                ":1: color stands before any section: put it below [defaults] or a command, like [watch]",
            ),
            ("[watch]\nall-netns = 'yes'", ":2: all-netns is on or off: true or false"),
            ("[watch]\ntop = [1]", ":2: top must be a number or a text in quotes"),
            ("[defaults]\nreplay = 'x'", ":2: replay is of one run: give it on the command line"),
            (
                "[defaults]\ntop = 1\n[watch]\ncolor = 'red'",
                ":4: invalid value 'red' for '--color <WHEN>' [possible values: auto, always, never]",
            ),
            ("[watch]\ninterval = 'x'", ":2: invalid value 'x' for '[INTERVAL]': "),
            ("[watch]\ntop =\n", ":2: "),
            ("[watch]\nfor = '5s'\nfor = '6s'", ":3: duplicate key"),
            (
                "[watch]\njson = true\noutput = 'csv'",
                ", for watch: the argument '--json' cannot be used with '--output <FORMAT>'",
            ),
        ] {
            let complaint = complaint(file, "sockeye watch");
            assert!(
                complaint.starts_with(said) && !complaint.contains('\n'),
                "{file}\n  {complaint}\n  {said}"
            );
        }
    }

    #[test]
    fn a_wrong_command_line_is_told_before_a_wrong_file() {
        let error = with("nonsense", "sockeye watch --nonsense").unwrap_err();
        assert!(error.downcast_ref::<clap::Error>().is_some(), "{error}");
        assert!(with("nonsense", "sockeye --help").is_err_and(|e| e.downcast_ref::<clap::Error>().is_some()));
    }

    #[test]
    fn a_file_that_was_asked_for_must_be_there() {
        let words = ["sockeye", "--config", "/nowhere/config.toml", "watch"].map(OsString::from);
        let error = arguments(words).unwrap_err().to_string();
        assert!(
            error.starts_with("cannot read the config file /nowhere/config.toml: No such file"),
            "{error}"
        );
        let words = ["sockeye", "watch", "--no-config"].map(OsString::from);
        assert_eq!(arguments(words.clone()).unwrap(), words);
    }

    #[test]
    fn the_documented_example_holds() {
        let example = include_str!("../../../docs/config.toml");
        // Its keys stand in comments, so that it can be copied and changes nothing.
        let live: String = example
            .lines()
            .map(|line| line.strip_prefix("#: ").unwrap_or(line))
            .fold(String::new(), |text, line| text + line + "\n");
        assert!(live.matches('=').count() > 10, "{live}");
        let commands = CommandLine::command();
        let needs_nothing = |command: &&Command| !command.get_arguments().any(Arg::is_required_set);
        for name in commands.get_subcommands().filter(needs_nothing).map(Command::get_name) {
            with(&live, &format!("sockeye {name}")).unwrap_or_else(|error| panic!("{name}: {error}"));
            with(example, &format!("sockeye {name}")).unwrap();
        }
    }
}
