//! Connections by whatever they are asked for: destination, listener, owner, cgroup, user, how they got their port.
//!
//! Adds the Monitor's accounts up; how rows are shown is for the renderers.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use clap::ValueEnum;
use serde::Serialize;
use sockeye_core::{AccountRow, Closed, DestinationId, Direction, Group, Monitor, OwnerId};
use sockeye_host::owners::Place;

use crate::whose::{Facet, Who, Whose};

/// What connections are grouped by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum By {
    /// Outgoing connections, by where they go
    Destination,
    /// Incoming connections, by the port they came to
    Listener,
    /// The process that has them
    Owner,
    /// The control group they were made in: services, containers, pods
    Cgroup,
    /// The user they belong to
    User,
}

impl By {
    /// What has to be found out beside the connections; None where their ends tell it.
    pub(crate) fn facet(self) -> Option<Facet> {
        match self {
            By::Destination | By::Listener => None,
            By::Owner => Some(Facet::Process),
            By::Cgroup => Some(Facet::Cgroup),
            By::User => Some(Facet::User),
        }
    }

    /// The word of JSON, and the head of the column.
    pub(crate) fn name(self) -> &'static str {
        match self {
            By::Destination => "destination",
            By::Listener => "listener",
            By::Owner => "owner",
            By::Cgroup => "cgroup",
            By::User => "user",
        }
    }
}

/// Connections that belong together.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Row {
    pub(crate) group: GroupName,
    /// Safe to show.
    pub(crate) label: String,
    pub(crate) live: u64,
    pub(crate) time_wait: u64,
    /// Of these two, the ones whose owner nobody saw: they go where only this owner's go.
    pub(crate) inferred: u64,
    /// Over the shortest window.
    pub(crate) opens_per_second: f32,
    pub(crate) closes_per_second: f32,
}

/// What a row is about, as JSON tells it.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum GroupName {
    Destination { protocol: &'static str, local_address: IpAddr, remote_address: IpAddr, remote_port: u16 },
    Listener { protocol: &'static str, local_port: u16 },
    Owner { owner: OwnerName },
    Other {},
}

/// An owner; unknown parts are absent. Names are as they came: JSON escapes them.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub(crate) struct OwnerName {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cgroup: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) unit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) container: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pod: Option<String>,
}

/// The rows, most sockets first. `whose` is needed for what the ends do not tell.
pub(crate) fn rows(by: By, monitor: &Monitor, whose: Option<&Whose>) -> Vec<Row> {
    let accounts = monitor.accounts();
    let mut rows: BTreeMap<Key, Row> = BTreeMap::new();
    let guess = Guess::from(&accounts, whose);
    for account in &accounts {
        let is_outgoing = matches!(account.group, Group::Destination(_));
        let is_incoming = matches!(account.group, Group::Listener(_));
        let (key, inferred) = match by {
            By::Destination if !is_outgoing => continue,
            By::Listener if !is_incoming => continue,
            By::Destination | By::Listener => (Key::Group(account.group), false),
            By::Owner | By::Cgroup | By::User => match guess.of(account) {
                Some(key) => (key, true),
                None => (Key::Owner(account.owner), false),
            },
        };
        let row = rows.entry(key).or_insert_with(|| row(key, by, whose));
        row.live += account.live;
        row.time_wait += account.time_wait;
        row.inferred += if inferred { account.live + account.time_wait } else { 0 };
        row.opens_per_second += account.rates.opens[0];
        row.closes_per_second += account.rates.closes[0];
    }
    let mut rows: Vec<Row> = rows.into_values().collect();
    // Stable: equals stay in the order of their names.
    rows.sort_by_key(|row| std::cmp::Reverse(row.live + row.time_wait));
    rows
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Group(Group),
    Owner(OwnerId),
    /// One of the processes of this one's program.
    Program(OwnerId),
}

/// Whose connections are that nobody saw alive, as far as it can be told from others: what goes where only one process goes
/// is that process's, and what came in is of those who listen there.
struct Guess<'a> {
    whose: Option<&'a Whose>,
    likely: BTreeMap<Group, Key>,
}

impl<'a> Guess<'a> {
    fn from(accounts: &[AccountRow], whose: Option<&'a Whose>) -> Guess<'a> {
        let mut guess = Guess { whose, likely: BTreeMap::new() };
        let mut owners: BTreeMap<Group, Vec<OwnerId>> = BTreeMap::new();
        for account in accounts.iter().filter(|account| account.group != Group::Other) {
            let known = (account.owner != OwnerId::UNKNOWN).then_some(account.owner);
            owners.entry(account.group).or_default().extend(known);
        }
        // One for each program, by which all of it is called.
        let mut programs: Vec<OwnerId> = Vec::new();
        for (group, owners) in owners {
            let key = match (group, whose) {
                (Group::Listener(port), Some(whose)) if !whose.doorkeepers(port).is_empty() => {
                    guess.who_accepts(&owners, whose.doorkeepers(port), whose)
                }
                _ => guess.who_connects(&owners),
            };
            let is_same =
                |program: &OwnerId, one| whose.is_some_and(|whose| whose.is_same_program(*program, one));
            let key = match key {
                Some(Key::Program(one)) => {
                    let program = programs.iter().copied().find(|program| is_same(program, one));
                    programs.extend(program.is_none().then_some(one));
                    Some(Key::Program(program.unwrap_or(one)))
                }
                key => key,
            };
            guess.likely.extend(key.map(|key| (group, key)));
        }
        guess
    }

    /// Of those who have connections of a group, the only one or only program that can have the others.
    fn who_connects(&self, owners: &[OwnerId]) -> Option<Key> {
        let is_somebody_else = |one: &OwnerId| !owners.iter().any(|other| self.may_be(*one, *other));
        let different: Vec<OwnerId> = owners.iter().copied().filter(is_somebody_else).collect();
        let is_same = |one, other| self.whose.is_some_and(|whose| whose.is_same_program(one, other));
        match different[..] {
            [owner] => Some(Key::Owner(owner)),
            [first, ref others @ ..] => {
                others.iter().all(|other| is_same(first, *other)).then_some(Key::Program(first))
            }
            [] => None,
        }
    }

    /// The same where it is known who listens: they, and processes of the same program.
    fn who_accepts(&self, owners: &[OwnerId], keepers: &[OwnerId], whose: &Whose) -> Option<Key> {
        let accepting: Vec<OwnerId> = owners.iter().copied().filter(|one| whose.is_process(*one)).collect();
        let first = accepting.first().or(keepers.first()).copied()?;
        let mut all = accepting.iter().chain(keepers);
        match all.all(|other| whose.are_akin(first, *other)) {
            // Nobody else was ever seen to accept.
            true if accepting == keepers => Some(Key::Owner(first)),
            true => Some(Key::Program(first)),
            false => None,
        }
    }

    fn of(&self, account: &AccountRow) -> Option<Key> {
        let key = self.likely.get(&account.group).copied()?;
        let (Key::Owner(likely) | Key::Program(likely)) = key else { return None };
        let is_likely = match (account.group, self.whose) {
            _ if account.owner == OwnerId::UNKNOWN => true,
            // Nobody else listens there.
            (Group::Listener(port), Some(whose)) if !whose.doorkeepers(port).is_empty() => {
                !whose.is_process(account.owner)
            }
            _ => self.may_be(account.owner, likely),
        };
        is_likely.then_some(key)
    }

    fn may_be(&self, one: OwnerId, process: OwnerId) -> bool {
        self.whose.is_some_and(|whose| whose.may_be(one, process))
    }
}

/// The owner of a connection that has ended.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct FormerOwner {
    pub(crate) name: OwnerName,
    /// Safe to show.
    pub(crate) label: String,
    /// Nobody saw it: those who listen there are of this program.
    pub(crate) is_inferred: bool,
}

/// Whose an ended connection was, as far as it is known.
pub(crate) fn former_owner(closed: &Closed, whose: &Whose) -> Option<FormerOwner> {
    let port = closed.local.filter(|_| closed.direction == Direction::Incoming).map(|local| local.port());
    let keepers = port.map_or(&[][..], |port| whose.doorkeepers(port));
    let is_alike = |first: &&OwnerId| keepers.iter().all(|other| whose.are_akin(**first, *other));
    let keeper = keepers.first().filter(is_alike).filter(|_| !whose.is_process(closed.owner));
    let row = match keeper {
        Some(keeper) => row(Key::Program(*keeper), By::Owner, Some(whose)),
        None if closed.owner == OwnerId::UNKNOWN => return None,
        None => row(Key::Owner(closed.owner), By::Owner, Some(whose)),
    };
    let GroupName::Owner { owner: name } = row.group else { return None };
    Some(FormerOwner { name, label: row.label, is_inferred: keeper.is_some() })
}

fn row(key: Key, by: By, whose: Option<&Whose>) -> Row {
    let (mut group, mut label) = match key {
        Key::Group(group) => named(group, by, whose),
        Key::Owner(owner) | Key::Program(owner) => named(Group::Owner(owner), by, whose),
    };
    if let (Key::Program(owner), GroupName::Owner { owner: name }) = (key, &mut group) {
        name.pid = None;
        let who = whose.map(|whose| whose.who(owner)).unwrap_or_default();
        label = who.process.map(|process| format!("{}, one of its processes", process.name)).unwrap_or(label);
    }
    Row { group, label, live: 0, time_wait: 0, inferred: 0, opens_per_second: 0.0, closes_per_second: 0.0 }
}

/// What a group is called, in JSON and where people read it.
pub(crate) fn named(group: Group, by: By, whose: Option<&Whose>) -> (GroupName, String) {
    match group {
        Group::Destination(id) => (
            destination(&id),
            format!("{} → {}", id.local_address, SocketAddr::new(id.remote_address, id.remote_port)),
        ),
        Group::Listener(local_port) => {
            (GroupName::Listener { protocol: "tcp", local_port }, format!("listener on {local_port}"))
        }
        Group::Owner(owner) => {
            let who = whose.map(|whose| whose.who(owner)).unwrap_or_default();
            (GroupName::Owner { owner: owner_name(&who, by) }, owner_label(&who, by))
        }
        Group::Other => (GroupName::Other {}, "other".to_owned()),
    }
}

fn destination(id: &DestinationId) -> GroupName {
    GroupName::Destination {
        protocol: id.protocol.name(),
        local_address: id.local_address,
        remote_address: id.remote_address,
        remote_port: id.remote_port,
    }
}

/// As JSON tells it; what a facet does not tell apart is left out.
fn owner_name(who: &Who<'_>, by: By) -> OwnerName {
    let text = |name: &sockeye_host::owners::Name| name.text().into_owned();
    let process = who.process.filter(|_| by == By::Owner);
    let place = place_of(who).filter(|_| by != By::User);
    OwnerName {
        pid: process.map(|process| process.pid),
        name: who.name().filter(|_| by == By::Owner).map(text),
        uid: who.uid.filter(|_| by != By::Cgroup),
        user: who.user.filter(|_| by != By::Cgroup).map(text),
        cgroup: who.cgroup.filter(|_| by != By::User).map(text),
        unit: place.as_ref().and_then(|place| place.unit.as_ref()).map(text),
        container: place
            .as_ref()
            .and_then(|place| place.container.as_ref())
            .map(|container| text(&container.id)),
        pod: place.and_then(|place| place.pod_uid),
    }
}

/// As a table tells it: one harmless line.
fn owner_label(who: &Who<'_>, by: By) -> String {
    let user = || match (who.user, who.uid) {
        (Some(user), _) => user.to_string(),
        (None, Some(uid)) => format!("uid {uid}"),
        (None, None) => "owner not known".to_owned(),
    };
    let cgroup = || match (who.cgroup, who.cgroup_id) {
        (Some(path), _) => path.to_string(),
        (None, Some(id)) => format!("cgroup {id}"),
        (None, None) => "owner not known".to_owned(),
    };
    match (by, who.process) {
        (By::User, _) => user(),
        (By::Cgroup, _) => cgroup(),
        (_, Some(process)) => {
            let unit = process.place.unit.as_ref().map(|unit| format!("  {unit}")).unwrap_or_default();
            format!("{} ({}) {}{unit}", process.name, process.pid, user())
        }
        (_, None) if who.program.is_some() => {
            let unit = place_of(who)
                .and_then(|place| place.unit)
                .map(|unit| format!("  {unit}"))
                .unwrap_or_default();
            format!("{} (ended){unit}", who.name().map(ToString::to_string).unwrap_or_default())
        }
        (_, None) if who.uid.is_some() => match place_of(who).and_then(|place| place.unit) {
            Some(unit) => format!("a process of {unit}, {}", user()),
            None => format!("a process of {} in {}", user(), cgroup()),
        },
        (_, None) => "owner not known".to_owned(),
    }
}

/// What the path of its cgroup tells: service, container, pod.
fn place_of(who: &Who<'_>) -> Option<Place> {
    who.cgroup.map(|path| Place::of(path.as_bytes()))
}
