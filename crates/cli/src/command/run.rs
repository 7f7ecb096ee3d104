//! `sockeye run`: runs a command, accounts for its connections, and holds it to budgets.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use sock_diag::Protocol;
use sockeye_core::Direction;
use sockeye_gate::{Account, Baseline, Budget, Count, Verdict};
use sockeye_host::{Counters, OwnCgroup, isolate};

use crate::NOT_PASSED;
use crate::args::RunArgs;
use crate::by::former_owner;
use crate::follow::{Follow, Pace};
use crate::render::{run_json, run_junit, run_markdown, run_table};
use crate::run::child::{self, Child, Exit, NotStarted, Patience, Signals};
use crate::run::descent::descendants;
use crate::run::scope::{Belonging, Look, Scope};
use crate::run::tally::{Finish, Tally, placed};
use crate::sweep::Note;
use crate::terminal::{Harmless, Palette, width_on};

/// From look to look while the command runs.
const INTERVAL: Duration = Duration::from_millis(100);
/// From look to look while what it left settles.
const LAST_INTERVAL: Duration = Duration::from_millis(20);
/// The kernel tells of ends from a work queue, late on a busy machine; looks confirm what is not told.
const SETTLING: Duration = Duration::from_secs(2);
/// A look walks the host's whole table of connections, however few are ours.
const CPU_BUDGET: f64 = 0.1;
/// What may be spent besides, so that a command of a second is looked at as well.
const FIRST_BUDGET: Duration = Duration::from_millis(200);

/// Of a budget or a baseline.
const MOST_BYTES: u64 = 4 << 20;

/// The exit codes of `env`, `nohup` and shells.
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

/// Runs the command. What this process is to exit with.
pub(crate) fn run(args: &RunArgs) -> anyhow::Result<u8> {
    // What is typed wrong is said before anything runs.
    let budget = budget(args)?;
    let baseline = args.baseline.as_deref().map(read_baseline).transpose()?;
    if args.isolate {
        isolate()?;
    }
    let signals = Signals::hold()?;
    let cgroup = (!args.isolate).then(|| OwnCgroup::make(&format!("sockeye-run-{}", std::process::id())));
    let mut counters_unread = Vec::new();
    let before = Counters::read(&mut counters_unread);
    let pace = Pace { interval: INTERVAL, count: None, for_: None, cpu_budget: Some(CPU_BUDGET) };
    let mut follow = Follow::open_accounting(&pace)?;
    follow.keep_closed();
    let ephemeral = follow.surroundings().core_settings().pool().range();
    let caller = follow.caller().context("making a pipe")?;
    let (no_cgroup, cgroup) = match cgroup.transpose() {
        Ok(made) => (None, made),
        Err(error) => (Some(error), None),
    };
    let mut scope = match args.isolate {
        true => Scope::namespace(),
        false => Scope::among_others(cgroup, &mut follow),
    };

    let began = Instant::now();
    let patience = Patience { timeout: args.timeout, kill_after: args.kill_after };
    let child = match child::start(&args.command, patience, signals, caller, scope.cgroup()) {
        Ok(child) => child,
        Err(reason) => return Ok(not_started(args, &reason)),
    };
    scope.begin(child.pid());
    follow.grant(FIRST_BUDGET);
    let mut tally = Tally::default();
    while !child.has_ended() {
        follow_once(&mut follow, &mut tally, &mut scope, Some(&child))?;
    }
    let (exit, ended) = child.end();
    follow.lift_budget();
    follow.set_interval(LAST_INTERVAL);
    while !follow_once(&mut follow, &mut tally, &mut scope, None)? {}
    let mut left_running = descendants().len();
    if left_running > 0 {
        tally.left(&scope.look(&mut follow));
        if args.kill_left || exit == Exit::TimedOut {
            left_running = if child::end_the_rest(SETTLING) { descendants().len() } else { 0 };
        }
    }
    settle(&mut follow, &mut tally, &mut scope, left_running)?;
    let after = Counters::read(&mut counters_unread);

    let look = scope.look(&mut follow);
    let [opens, accepts] = opened(&mut follow, &tally, &scope, &look, [&before, &after]);
    let mut account = tally.account(Finish {
        scope: scope.kind(),
        look,
        opens,
        accepts,
        duration_ms: ended.duration_since(began).as_millis() as u64,
        notes: notes(&follow, &scope, no_cgroup, left_running),
    });
    follow.finish()?;
    if args.isolate && exit.code() != 0 && account.opens.max == 0 {
        account.notes.push(
            "only loopback is in that namespace: what is elsewhere cannot be reached from it".to_owned(),
        );
    }
    let mut verdict = Verdict::of(&account, &budget);
    if let Some(baseline) = &baseline {
        verdict.compare(&account, baseline, &args.tolerance.clone().unwrap_or_default());
    }
    tell(args, &account, &verdict, exit)?;
    if let Some(path) = &args.save {
        write_whole(path, &Baseline::of(&account, ephemeral.first..=ephemeral.last).text())?;
    }
    Ok(match exit {
        Exit::TimedOut => exit.code(),
        _ if !verdict.passes() => NOT_PASSED,
        _ => exit.code(),
    })
}

/// Connections that the command opened and accepted.
fn opened(
    follow: &mut Follow,
    tally: &Tally,
    scope: &Scope,
    look: &Look,
    [before, after]: [&Counters; 2],
) -> [Count; 2] {
    let counted = |count: fn(&Counters) -> Option<u64>| Some(count(after)?.saturating_sub(count(before)?));
    let counted = [counted(|all| all.active_opens), counted(|all| all.passive_opens)];
    let churn = follow.monitor().report_mut().churn.clone().unwrap_or_default();
    let all_seen = [churn.outgoing.opened, churn.incoming.opened];
    if scope.kind() == sockeye_gate::Scope::Namespace {
        // The kernel counts each; what was seen beyond that was seen before it was counted.
        return [0, 1].map(|side| Count::exactly(counted[side].unwrap_or(all_seen[side])));
    }
    // Which side an unseen one was on, nobody knows either.
    let all = |numbers: [Option<u64>; 2]| numbers.into_iter().flatten().sum::<u64>();
    let unseen = all(counted).saturating_sub(all_seen.iter().sum());
    let open = scope.perhaps(follow);
    let seen = tally.seen(look);
    let mut bounds = [0, 1].map(|side| {
        let Count { min, max } = seen[side];
        match counted[side] {
            // At most what nobody is known to have begun, and never more than there were.
            Some(counted) => Count::between(min, (max + open + unseen).min(counted)),
            None => Count::between(min, max + open + unseen),
        }
    });
    if let Some(begun) = scope.begun(follow) {
        // Seen and begun are the same connections.
        bounds[0] = Count::between(begun.min.max(bounds[0].min), begun.max);
    }
    bounds
}

/// Until every end that the kernel has to tell is told: at once, but on a busy machine.
fn settle(
    follow: &mut Follow,
    tally: &mut Tally,
    scope: &mut Scope,
    left_running: usize,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + SETTLING;
    // A look that began after the end, whatever the one before was made of.
    let mut looks = 0;
    loop {
        looks += u64::from(follow_once(follow, tally, scope, None)?);
        let look = scope.look(follow);
        let churn = follow.monitor().report_mut().churn.clone().unwrap_or_default();
        let has_all = churn.coverage.counted.is_none_or(|counted| churn.coverage.seen >= counted);
        let is_settled = churn.unconfirmed == 0
            && (left_running > 0 || look.outgoing + look.incoming == 0)
            && (has_all || scope.kind() != sockeye_gate::Scope::Namespace);
        if (looks >= 2 && is_settled) || Instant::now() > deadline {
            return Ok(());
        }
    }
}

/// One batch of ends, or one look. Whether it was a look.
fn follow_once(
    follow: &mut Follow,
    tally: &mut Tally,
    scope: &mut Scope,
    child: Option<&Child>,
) -> anyhow::Result<bool> {
    let before = follow.ticks();
    let batch = follow.next_closed()?.context("the watch has ended before the command")?;
    let looked = follow.ticks() > before;
    if looked || !batch.is_empty() {
        scope.refresh(follow);
    }
    for closed in batch.iter().filter(|closed| closed.protocol == Protocol::Tcp) {
        let Some(whose) = follow.whose() else { break };
        let closed = &placed(closed, whose.hears_all());
        let at_exit = whose.closed_at_exit(closed);
        match scope.of_closed(closed, whose) {
            Belonging::Command => tally.ended(closed, former_owner(closed, whose).as_ref(), at_exit),
            Belonging::Perhaps => {
                let is_incoming = closed.direction == Direction::Incoming || scope.knows_connects(whose);
                tally.ended_perhaps(at_exit, is_incoming);
            }
            Belonging::Other => {}
        }
    }
    if looked {
        let is_running = child.is_some_and(|child| !child.has_ended());
        tally.looked(&scope.look(follow), is_running);
    }
    Ok(looked)
}

fn notes(follow: &Follow, scope: &Scope, no_cgroup: Option<io::Error>, left_running: usize) -> Vec<String> {
    // Others' owners are of no interest, and what a user may not do is told in one.
    let is_meant = |note: &&Note| match scope.kind() {
        sockeye_gate::Scope::Namespace => true,
        sockeye_gate::Scope::Cgroup => note.id != "owners_unknown",
        sockeye_gate::Scope::Processes => !["owners_unknown", "connects_not_heard"].contains(&note.id),
    };
    let mut notes: Vec<String> =
        follow.notes().iter().filter(is_meant).map(|note| note.message.clone()).collect();
    notes.extend(no_cgroup.map(|error| {
        format!(
            "connections are told by which process holds them, as no cgroup could be made for the command ({error}); brief \
             ones may be anybody's: as root, or with --isolate, each is counted"
        )
    }));
    if left_running > 0 {
        let (processes, are) = if left_running == 1 { ("process", "is") } else { ("processes", "are") };
        notes.push(format!(
            "{left_running} {processes} of the command {are} still running; --kill-left ends what is left"
        ));
    }
    notes
}

fn budget(args: &RunArgs) -> anyhow::Result<Budget> {
    let mut budget = Budget { rules: args.limits.rules(&args.to) };
    if let Some(path) = &args.budget {
        let read = || -> anyhow::Result<Budget> { Ok(Budget::parse(&read_text(path)?)?) };
        budget
            .rules
            .extend(read().with_context(|| format!("cannot use the budget {}", path.display()))?.rules);
    }
    Ok(budget)
}

fn read_baseline(path: &Path) -> anyhow::Result<Baseline> {
    let read = || -> anyhow::Result<Baseline> { Ok(Baseline::parse(&read_text(path)?)?) };
    read().with_context(|| {
        format!("cannot use the baseline {} (`sockeye run --save` writes one)", path.display())
    })
}

/// A file that people keep in git: a device need not end.
fn read_text(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MOST_BYTES + 1).read_to_string(&mut text)?;
    ensure!(text.len() as u64 <= MOST_BYTES, "it has more than {} MiB", MOST_BYTES >> 20);
    Ok(text)
}

fn not_started(args: &RunArgs, reason: &NotStarted) -> u8 {
    let name = args.command.first().map(|name| name.to_string_lossy()).unwrap_or_default();
    let (error, code) = match reason {
        NotStarted::NotFound(error) => (error, NOT_FOUND),
        NotStarted::NotExecutable(error) => (error, NOT_EXECUTABLE),
    };
    let _ = writeln!(io::stderr(), "sockeye: cannot run {}: {error}", Harmless(&name));
    code
}

/// The table for whoever is there, and the files that were asked for.
fn tell(args: &RunArgs, account: &Account, verdict: &Verdict, exit: Exit) -> anyhow::Result<()> {
    let palette = Palette::choose_on(args.color.when, &io::stderr());
    let width = width_on(&io::stderr()).unwrap_or(usize::MAX);
    let mut text = run_table::render(account, verdict, exit, palette, width);
    if std::env::var_os("GITHUB_ACTIONS").is_some_and(|value| value == "true") {
        text += &run_markdown::annotations(verdict);
    }
    // The command's result does not depend on whether anybody reads ours.
    let _ = io::stderr().write_all(text.as_bytes());
    let command: Vec<String> = args.command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    for (path, text) in [
        (&args.export_json, run_json::render(account, verdict, &command, exit)?),
        (&args.export_junit, run_junit::render(account, verdict, &command)?),
        (&args.export_markdown, run_markdown::render(account, verdict, &command, exit)),
    ] {
        if let Some(path) = path {
            write_whole(path, &text)?;
        }
    }
    Ok(())
}

/// A file that appears when it is whole; pipes and devices are written to.
fn write_whole(path: &Path, text: &str) -> anyhow::Result<()> {
    let write = || -> io::Result<()> {
        if fs::metadata(path).is_ok_and(|known| !known.is_file()) {
            return fs::write(path, text);
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // Opened here, as any other file of this user: tempfile's own would be for nobody else, and tell its name in errors.
        let open = |name: &Path| File::options().write(true).create_new(true).open(name);
        let mut file = tempfile::Builder::new().prefix(".sockeye").make_in(folder, open)?;
        file.write_all(text.as_bytes())?;
        file.persist(path).map_err(|kept| kept.error)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}
