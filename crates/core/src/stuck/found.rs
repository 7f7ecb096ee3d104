//! What is said of stuck sockets: how many, for how long, towards whom, and who has them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use sock_diag::SocketRecord;

use super::{Age, StuckKind, StuckSample};

/// Sockets that are stuck in one way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stuck {
    /// In what.
    pub kind: StuckKind,
    /// Sockets in that state, for however long.
    pub sockets: u32,
    /// Of these, the ones whose age is known at all: a fair sample where it is not all.
    pub examined: u32,
    /// Of the examined, in that state for longer than [`StuckKind::long_ms`] for certain.
    pub long: u32,
    /// The longest of the examined: that with the greatest lower bound.
    pub longest: Age,
    /// Where most of the long ones go, if that is half of them or more.
    pub towards: Option<Towards>,
    /// Who has the long ones. The caller's to find out.
    pub holders: Holders,
}

/// A remote end that many sockets have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Towards {
    /// It.
    pub remote: SocketAddr,
    /// How many have it.
    pub sockets: u32,
}

/// [`Stuck`], and the sockets it is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// What there is to say.
    pub stuck: Stuck,
    /// The long ones.
    pub records: Vec<SocketRecord>,
}

impl Found {
    /// What the sockets of one kind deserve to have said of them; None where too few have stood for long.
    pub(crate) fn in_sample(
        kind: StuckKind,
        sample: &StuckSample,
        age: impl Fn(&SocketRecord) -> Option<Age>,
    ) -> Option<Found> {
        let known = sample.sampled.iter().filter_map(|record| Some((record, age(record)?)));
        let known: Vec<(&SocketRecord, Age)> = known.collect();
        let longest = known.iter().map(|(_, age)| *age).max_by_key(|age| age.min_ms)?;
        let long = known.iter().filter(|(_, age)| age.min_ms > kind.long_ms());
        let records: Vec<SocketRecord> = long.map(|(record, _)| **record).collect();
        if records.len() < kind.least() as usize {
            return None;
        }
        let stuck = Stuck {
            kind,
            sockets: sample.sockets,
            examined: known.len() as u32,
            long: records.len() as u32,
            longest,
            towards: Towards::of(&records),
            holders: Holders::default(),
        };
        Some(Found { stuck, records })
    }
}

impl Towards {
    fn of(records: &[SocketRecord]) -> Option<Towards> {
        let mut counts: BTreeMap<SocketAddr, u32> = BTreeMap::new();
        for record in records.iter().filter(|record| record.id.remote_port != 0) {
            let address = record.id.remote_address.to_canonical();
            *counts.entry(SocketAddr::new(address, record.id.remote_port)).or_default() += 1;
        }
        let (remote, sockets) = counts.into_iter().max_by_key(|(_, sockets)| *sockets)?;
        (sockets as usize * 2 >= records.len()).then_some(Towards { remote, sockets })
    }
}

/// Who has some sockets, as far as somebody found out.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Holders {
    /// Those who were found, with most sockets first.
    pub found: Vec<Holder>,
    /// Sockets whose holder was asked for; 0: nobody asked.
    pub asked: u32,
    /// Of these, sockets that no process has any more.
    pub nobodys: u32,
}

/// Somebody who has sockets. Plain values of whoever found out: names are other people's text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holder {
    /// One harmless line to show.
    pub label: String,
    /// The process, where one was found.
    pub pid: Option<u32>,
    /// Its name as it came, for formats with an escaping of their own.
    pub name: Option<String>,
    /// Its user.
    pub uid: Option<u32>,
    /// That user's name as it came.
    pub user: Option<String>,
    /// How many of the asked are its.
    pub sockets: u32,
}

/// So many are named in a sentence.
const NAMED: usize = 3;

impl Holders {
    /// `nginx (812) has 198, curl (99) 2`, of so many sockets; nothing where nobody was found.
    pub fn of(&self, sockets: u32) -> impl fmt::Display + '_ {
        Told { holders: self, verb: "has ", of: sockets }
    }
}

/// Holders with what they do or did, of so many sockets.
struct Told<'a> {
    holders: &'a Holders,
    verb: &'static str,
    of: u32,
}

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Holders { found, asked, nobodys } = self.holders;
        let (mut before, mut verb) = ("", self.verb);
        for holder in found.iter().take(NAMED) {
            write!(f, "{before}{} {verb}{}", holder.label, holder.sockets)?;
            (before, verb) = (", ", "");
        }
        let count = |holders: &[Holder]| holders.iter().map(|holder| holder.sockets).sum::<u32>();
        let rest = found.get(NAMED..).unwrap_or_default();
        if !rest.is_empty() {
            let others = if rest.len() == 1 { "other" } else { "others" };
            write!(f, ", {} {others} {}", rest.len(), count(rest))?;
        }
        let known = count(found);
        if known > 0 && known + nobodys < self.of {
            write!(f, ", of {asked} looked for")?;
        }
        Ok(())
    }
}

impl Stuck {
    /// `213 sockets are in CLOSE-WAIT, 200 of them for more than 60 s, the longest for 5 min at least`.
    fn write_how_many(&self, f: &mut fmt::Formatter<'_>, what: &str) -> fmt::Result {
        let (are, sockets) = if self.sockets == 1 { ("is", "socket") } else { ("are", "sockets") };
        write!(f, "{} {sockets} {are} {what}, ", self.sockets)?;
        let threshold = Span(self.kind.long_ms());
        match self.examined == self.sockets {
            true if self.long == self.sockets && self.sockets == 1 => {}
            true if self.long == self.sockets => write!(f, "all for more than {threshold}, the longest ")?,
            true => write!(f, "{} of them for more than {threshold}, the longest ", self.long)?,
            false => {
                write!(
                    f,
                    "of {} looked at {} for more than {threshold}, the longest ",
                    self.examined, self.long
                )?;
            }
        }
        match self.longest {
            Age { min_ms, max_ms: Some(max_ms) } if Span(min_ms).to_string() == Span(max_ms).to_string() => {
                write!(f, "for {}", Span(min_ms))
            }
            Age { min_ms, max_ms: Some(max_ms) } => write!(f, "for {} to {}", Span(min_ms), Span(max_ms)),
            Age { min_ms, max_ms: None } => write!(f, "for {} at least", Span(min_ms)),
        }?;
        match self.towards {
            None => Ok(()),
            Some(Towards { remote, .. }) if self.long == 1 => write!(f, ", with {remote}"),
            Some(Towards { remote, sockets }) if sockets == self.long => write!(f, ", all with {remote}"),
            Some(Towards { remote, .. }) => write!(f, ", most with {remote}"),
        }
    }

    fn write_holders(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Holders { found, asked, nobodys } = &self.holders;
        let told = |verb| Told { holders: &self.holders, verb, of: self.long };
        let (they, them) = if self.long == 1 { ("it waits", "it") } else { ("they wait", "them") };
        match self.kind {
            _ if found.is_empty() && (*nobodys == 0 || nobodys < asked) => Ok(()),
            // A connection of a listener that the peer has given up meanwhile.
            StuckKind::CloseWait if found.is_empty() => {
                write!(f, "; {they} for accept() in a listener's queue")
            }
            _ if found.is_empty() => write!(f, "; no process holds {them}"),
            // Who watched remembers.
            StuckKind::Orphan | StuckKind::OrphanFinWait2 => write!(f, "; {}", told("had ")),
            _ => write!(f, "; {}", told("has ")),
        }
    }
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, why, cure) = match self.kind {
            StuckKind::CloseWait => (
                "in CLOSE-WAIT",
                "the peer has closed and a program here has not",
                "nothing but the program's close() ends that",
            ),
            StuckKind::SynSent => (
                "in SYN-SENT",
                "nobody answers connect()",
                "look at routes and firewalls, or give the program a shorter timeout",
            ),
            StuckKind::Orphan => (
                "closed here without an answer (FIN-WAIT-1, CLOSING, LAST-ACK)",
                "the peer does not take what was left to send, or is gone",
                "the kernel gives up by itself, in minutes (net.ipv4.tcp_orphan_retries)",
            ),
            StuckKind::OrphanFinWait2 => (
                "closed here and not there (FIN-WAIT-2)",
                "the peer has not closed its side",
                "each keeps its port until net.ipv4.tcp_fin_timeout is over",
            ),
            StuckKind::BoundIdle => (
                "bound to a port and neither listening nor connected",
                "every connect() skips these ports",
                "look for a program that binds and then waits",
            ),
        };
        self.write_how_many(f, what)?;
        write!(f, ": {why}")?;
        self.write_holders(f)?;
        write!(f, "; {cure}")
    }
}

/// Milliseconds as people say them, rounded down: `61 s`, `5 min`, `3 h 12 min`.
struct Span(u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / 1_000;
        match seconds {
            0..120 => write!(f, "{seconds} s"),
            120..7_200 => write!(f, "{} min", seconds / 60),
            7_200..172_800 => write!(f, "{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
            _ => write!(f, "{} days", seconds / 86_400),
        }
    }
}
