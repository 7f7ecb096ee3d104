//! `sockeye sockets --all-netns`: the sockets of one namespace after another, each with where it is.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::io::{self, Write};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::thread::Builder;

use anyhow::Context as _;
use sock_diag::filter::Names;
use sockeye_host::FoundNamespace;

use super::muster::{Muster, Visited};
use super::way::{self, Barred};
use crate::args::{FeedArgs, SocketsArgs};
use crate::command::sockets::{Listing, Settings, cgroups, list, parse_filter, sink};
use crate::feed::Feed;
use crate::holders::Holders;
use crate::names::HostNames;
use crate::render::socket_formats::SocketSink;
use crate::surroundings::Surroundings;
use crate::terminal::{Harmless, ignore_closed_pipe};

/// Runs the command.
pub(crate) fn run(args: &SocketsArgs) -> anyhow::Result<()> {
    // One thread does it all: what is written comes in order, and nothing is held back. It enters one namespace after the
    // other and ends in the last.
    std::thread::scope(|scope| {
        let thread = Builder::new().name("netns".to_owned()).spawn_scoped(scope, || list_all(args));
        let thread = thread.context("starting a thread to enter network namespaces")?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn list_all(args: &SocketsArgs) -> anyhow::Result<()> {
    let mut muster = Muster::call()?;
    // The thread is there, and whoever may enter no namespace stays there.
    let home = muster.home;
    muster.namespaces.sort_by_key(|found| (found.inode != home, found.inode));
    let feed = Feed::open(&FeedArgs::default())?;
    let known = Known::default();
    // At home a filter that makes no sense is an error; elsewhere it may name an interface that is not there.
    let filter = parse_filter(args, &known.with(feed.surroundings()))?;
    let settings = Settings::of(args, filter.as_ref());
    let lister = Lister {
        args,
        settings: &settings,
        cgroups: if args.extended { cgroups(&feed) } else { HashMap::new() },
        known,
    };
    drop(feed);
    // Inodes are the machine's: one reading serves all namespaces.
    let mut holders = args.processes.then(Holders::read);
    let mut sink = sink(args, &settings)?;
    let mut visited: Vec<Visited<Vec<String>>> = Vec::new();
    for found in &muster.namespaces {
        let entered = if found.inode == home { Ok(()) } else { way::enter(found) };
        let listed = entered
            .and_then(|()| lister.list(found, holders.as_mut(), sink.as_mut()).map_err(Barred::Failed));
        match listed {
            Ok(None) => return Ok(()),
            Ok(Some(refused)) => visited.push(Ok(refused)),
            Err(barred) => visited.push(Err(barred)),
        }
    }
    ignore_closed_pipe(sink.finish()).context("writing to standard output")?;
    // What was left out in one namespace was left out in all.
    let refused: BTreeSet<&String> = visited.iter().flatten().flatten().collect();
    for refused in refused {
        let _ = writeln!(io::stderr(), "sockeye: {refused}");
    }
    if let Some(note) = holders.and_then(|holders| holders.note()) {
        let _ = writeln!(io::stderr(), "sockeye: {note}");
    }
    for note in muster.notes(&visited) {
        let _ = writeln!(io::stderr(), "sockeye: {}", Harmless(&note.message));
    }
    Ok(())
}

/// What is the same in all namespaces.
struct Lister<'a> {
    args: &'a SocketsArgs,
    settings: &'a Settings,
    cgroups: HashMap<u64, String>,
    known: Known,
}

impl Lister<'_> {
    /// Of the namespace the thread is in. None when whoever reads the output had enough.
    fn list(
        &self,
        found: &FoundNamespace,
        holders: Option<&mut Holders>,
        sink: &mut dyn SocketSink,
    ) -> anyhow::Result<Option<Vec<String>>> {
        let mut feed = Feed::open(&FeedArgs::default())?;
        // Interfaces have other indices in each namespace.
        let filter = parse_filter(self.args, &self.known.with(feed.surroundings()))?;
        let listing = Listing {
            settings: self.settings,
            filter: filter.as_ref(),
            cgroups: &self.cgroups,
            netns: Some(found),
        };
        let refused = list(&mut feed, &listing, holders, sink)?;
        Ok(refused.map(|refused| refused.iter().map(|error| format!("{error:#}")).collect()))
    }
}

/// What a filter names beside interfaces, looked up once: other namespaces have other networks, perhaps without a way to the
/// name server, and processes are the same seen from anywhere.
#[derive(Default)]
struct Known {
    hosts: RefCell<HashMap<String, Vec<IpAddr>>>,
    of_pids: RefCell<HashMap<u32, Option<Vec<u32>>>>,
    of_names: RefCell<HashMap<String, Option<Vec<u32>>>>,
}

impl Known {
    fn with<'a>(&'a self, surroundings: &'a Surroundings) -> FleetNames<'a> {
        FleetNames { here: HostNames::new(surroundings), known: self }
    }
}

struct FleetNames<'a> {
    here: HostNames<'a>,
    known: &'a Known,
}

impl Names for FleetNames<'_> {
    fn service(&self, name: &str) -> Option<u16> {
        self.here.service(name)
    }

    fn host(&self, name: &str) -> Vec<IpAddr> {
        let mut hosts = self.known.hosts.borrow_mut();
        hosts.entry(name.to_owned()).or_insert_with(|| self.here.host(name)).clone()
    }

    fn interface(&self, name: &str) -> Option<NonZeroU32> {
        self.here.interface(name)
    }

    fn cgroup(&self, path: &str) -> Option<u64> {
        self.here.cgroup(path)
    }

    fn cgroups_below(&self, path: &str) -> Option<Vec<u64>> {
        self.here.cgroups_below(path)
    }

    fn user(&self, name: &str) -> Option<u32> {
        self.here.user(name)
    }

    fn sockets_of_pid(&self, pid: u32) -> Option<Vec<u32>> {
        let mut of_pids = self.known.of_pids.borrow_mut();
        of_pids.entry(pid).or_insert_with(|| self.here.sockets_of_pid(pid)).clone()
    }

    fn sockets_of_name(&self, name: &str) -> Option<Vec<u32>> {
        let mut of_names = self.known.of_names.borrow_mut();
        of_names.entry(name.to_owned()).or_insert_with(|| self.here.sockets_of_name(name)).clone()
    }

    fn port_range(&self) -> Option<(u16, u16)> {
        self.here.port_range()
    }
}
