//! Man pages and completions, from the definition of the command line. Built with the tests only: the program does not
//! carry them, and needs no crate for them.
//!
//! `cargo xtask generate` runs the test in here with a folder to write to; a run of all tests holds them to what there is.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::args::CommandLine;

/// Where to write; without it nothing is.
const FOLDER: &str = "SOCKEYE_GENERATE";

/// Contents by path below the folder.
fn files() -> BTreeMap<String, Vec<u8>> {
    // `help` is no command with a page.
    let mut root = CommandLine::command().disable_help_subcommand(true);
    root.build();
    let mut files = BTreeMap::new();
    for command in [&root].into_iter().chain(root.get_subcommands()) {
        let name = page(command, &root);
        let mut text = Vec::new();
        let man = Man::new(command.clone().bin_name(call(command, &root))).title(&name).manual("sockeye");
        man.render(&mut text).unwrap();
        files.insert(format!("man/{name}.1"), unfilled(&String::from_utf8(text).unwrap()).into_bytes());
    }
    for (shell, name) in
        [(Shell::Bash, "sockeye.bash"), (Shell::Zsh, "_sockeye"), (Shell::Fish, "sockeye.fish")]
    {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut CommandLine::command(), "sockeye", &mut text);
        files.insert(format!("completions/{name}"), text);
    }
    files
}

/// The help behind the options under a heading that says what it is, its lines as they were laid out.
fn unfilled(page: &str) -> String {
    const EXTRA: &str = ".SH EXTRA\n";
    let (before, rest) = page.split_once(EXTRA).expect("every command has examples");
    let (extra, after) = rest.split_at(rest.find("\n.SH ").map_or(rest.len(), |end| end + 1));
    format!("{before}.SH \"HOW TO USE IT\"\n.nf\n{extra}.fi\n{after}")
}

/// The commands, without `help`.
fn commands(root: &Command) -> impl Iterator<Item = &Command> {
    root.get_subcommands().filter(|command| command.get_name() != "help")
}

fn page(command: &Command, root: &Command) -> String {
    call(command, root).replace(' ', "-")
}

/// What is typed.
fn call(command: &Command, root: &Command) -> String {
    match command.get_name() {
        name if name == root.get_name() => name.to_owned(),
        name => format!("{} {name}", root.get_name()),
    }
}

#[test]
fn man_pages_and_completions_have_every_command_and_option() {
    let files = files();
    let text = |path: &str| String::from_utf8(files[path].clone()).unwrap();
    let root = CommandLine::command();
    let shells =
        ["sockeye.bash", "_sockeye", "sockeye.fish"].map(|name| text(&format!("completions/{name}")));
    let contents = text("man/sockeye.1");
    for command in commands(&root) {
        let page = page(command, &root);
        assert!(contents.contains(&page.replace('-', "\\-")), "sockeye.1 lacks {page}");
        assert!(shells.iter().all(|shell| shell.contains(command.get_name())), "{page}");
        let page = text(&format!("man/{page}.1"));
        for option in command.get_arguments().filter_map(|option| option.get_long()) {
            assert!(page.contains(&format!("\\-\\-{}", option.replace('-', "\\-"))), "--{option}: {page}");
            assert!(shells.iter().all(|shell| shell.contains(option)), "--{option}");
        }
        // What help says behind the options, its lines not run together.
        let examples = page.find("\nExamples:").unwrap();
        assert!(
            page.find("\n.nf\n").unwrap() < examples && examples < page.rfind("\n.fi\n").unwrap(),
            "{page}"
        );
    }
    // The one at the top and one for each.
    assert_eq!(files.keys().filter(|path| path.starts_with("man/")).count(), 1 + commands(&root).count());
    if let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) {
        for (path, text) in &files {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }
}
