//! One look at all namespaces: which there are, a visit to each, and what to say of those that could not be visited.

use std::time::Duration;

use anyhow::Context as _;
use sock_diag::Namespace;
use sockeye_host::{FoundNamespace, Namespaces, Processes};

use super::crew::{Desk, Job, share_out};
use super::way::Barred;
use crate::sweep::Note;

/// A search takes a few milliseconds per thousand processes; beyond this it is cut, and that is told.
const LONGEST_SEARCH: Duration = Duration::from_secs(3);

/// The namespaces of the host at one time.
pub(crate) struct Muster {
    /// By their inode.
    pub(super) namespaces: Vec<FoundNamespace>,
    pub(super) processes: Processes,
    /// All that there were when it began are known.
    is_whole: bool,
    /// The one the calling thread is in.
    pub(super) home: u64,
}

/// What became of a visit.
pub(super) type Visited<T> = Result<T, Barred>;

impl Muster {
    /// Looks for them.
    ///
    /// # Errors
    /// `/proc` is not mounted.
    pub(super) fn call() -> anyhow::Result<Muster> {
        let home = home()?;
        let mut namespaces = Namespaces::new();
        let is_whole = namespaces.look(LONGEST_SEARCH);
        let processes = namespaces.processes();
        Ok(Muster { namespaces: namespaces.iter().collect(), processes, is_whole, home })
    }

    /// Calls `visit` in each namespace, on threads of its own; of the calling thread's own namespace on that thread. What
    /// became of it, in the order of the namespaces.
    ///
    /// # Errors
    /// No thread can be started.
    pub(super) fn visit<T: Send>(
        &self,
        visit: impl Fn(&FoundNamespace) -> anyhow::Result<T> + Sync,
    ) -> anyhow::Result<Vec<Visited<T>>> {
        let mut visited: Vec<Visited<T>> = self.namespaces.iter().map(|_| Err(Barred::Gone)).collect();
        let places = self.namespaces.iter().zip(&mut visited);
        let jobs = places.map(|(found, result)| Visit { found, result, visit: &visit }).collect();
        share_out(jobs, self.home)?;
        Ok(visited)
    }

    /// What to tell of those that could not be visited.
    pub(super) fn notes<T>(&self, visited: &[Visited<T>]) -> Vec<Note> {
        let barred = self.namespaces.iter().zip(visited);
        let barred = barred.filter_map(|(found, result)| Some((found, result.as_ref().err()?)));
        let mut notes = notes_on(barred, self.namespaces.len(), self.processes);
        if !self.is_whole {
            notes.push(Note {
                id: "search_cut",
                message: format!(
                    "not all processes were looked at within {} s: namespaces that only the others are in are missing",
                    LONGEST_SEARCH.as_secs()
                ),
            });
        }
        notes
    }
}

/// What to tell of namespaces that were not entered, of so many; and of processes that hide some.
pub(super) fn notes_on<'a>(
    barred: impl Iterator<Item = (&'a FoundNamespace, &'a Barred)>,
    all: usize,
    processes: Processes,
) -> Vec<Note> {
    let mut notes = Vec::new();
    let mut forbidden = 0;
    for (found, barred) in barred {
        match barred {
            // Between the search and the visit: it is none of those that are there.
            Barred::Gone => {}
            Barred::Forbidden => forbidden += 1,
            Barred::Failed(error) => notes.push(Note {
                id: "netns_unreadable",
                message: format!("network namespace {} could not be read: {error:#}", found.name),
            }),
        }
    }
    if forbidden > 0 {
        let message = format!(
            "{forbidden} of {all} network namespaces may not be entered, which needs CAP_SYS_ADMIN: run it as root"
        );
        notes.push(Note { id: "netns_forbidden", message });
    }
    if processes.hidden > 0 {
        let message = format!(
            "{} of {} processes may not be looked at, which needs CAP_SYS_PTRACE: namespaces that only they are in are missing",
            processes.hidden,
            processes.hidden + processes.seen
        );
        notes.push(Note { id: "processes_hidden", message });
    }
    notes
}

/// The inode of the calling thread's namespace.
///
/// # Errors
/// `/proc` is not mounted.
pub(super) fn home() -> anyhow::Result<u64> {
    let current = Namespace::current().context("looking for network namespaces takes /proc")?;
    Ok(current.inode())
}

struct Visit<'a, T, F> {
    found: &'a FoundNamespace,
    result: &'a mut Visited<T>,
    visit: &'a F,
}

impl<T: Send, F: Fn(&FoundNamespace) -> anyhow::Result<T> + Sync> Job for Visit<'_, T, F> {
    fn namespace(&self) -> &FoundNamespace {
        self.found
    }

    fn work(self, entered: Result<(), Barred>, _: &mut Desk) {
        *self.result = entered.and_then(|()| (self.visit)(self.found).map_err(Barred::Failed));
    }
}
