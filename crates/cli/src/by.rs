//! Connections by whatever they are asked for: destination, listener, owner, cgroup, user, namespace, how they got their port.
//!
//! Adds the accounts of one Monitor or several up; how rows are shown is for the renderers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use clap::ValueEnum;
use serde::Serialize;
use sockeye_core::{
    AccountRow, Closed, DestinationId, Direction, Group, Monitor, OwnerId, PortOrigin, Rates,
};
use sockeye_host::FoundNamespace;
use sockeye_host::owners::Place;

use crate::render::netns_json::NetnsRow;
use crate::surroundings::Surroundings;
use crate::terminal::Harmless;
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
    /// The network namespace they are in: one row, but for --all-netns
    Netns,
    /// How their local ports were got: bound by number, bind() with port 0, connect()'s choice, accepted
    PortOrigin,
}

impl By {
    /// What has to be found out beside the connections; None where their ends tell it.
    pub(crate) fn facet(self) -> Option<Facet> {
        match self {
            By::Destination | By::Listener | By::Netns | By::PortOrigin => None,
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
            By::Netns => "netns",
            By::PortOrigin => "port_origin",
        }
    }
}

/// Connections that belong together.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Row {
    pub(crate) group: GroupName,
    /// Safe to show.
    pub(crate) label: String,
    /// Where they are, if that is told of this kind of row.
    pub(crate) netns: Option<Netns>,
    pub(crate) live: u64,
    pub(crate) time_wait: u64,
    /// Of these two, the ones that nobody told of: whose owner was not seen, but go where only this owner's go; whose port is
    /// of the half that was to be expected.
    pub(crate) inferred: u64,
    /// Over the shortest window.
    pub(crate) opens_per_second: f32,
    pub(crate) closes_per_second: f32,
}

/// The namespaces that a row's connections are in.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Netns {
    One {
        /// As JSON names it.
        name: NetnsRow,
        /// Safe to show.
        label: String,
    },
    /// So many of them.
    Several(usize),
}

/// What a row is about, as JSON tells it.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum GroupName {
    Destination { protocol: &'static str, local_address: IpAddr, remote_address: IpAddr, remote_port: u16 },
    Listener { protocol: &'static str, local_port: u16 },
    Owner { owner: OwnerName },
    Netns { netns: NetnsRow },
    PortOrigin { port_origin: &'static str },
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

/// What is known of the connections of one namespace.
pub(crate) struct Books<'a> {
    /// As JSON names it.
    netns: NetnsRow,
    /// Safe to show.
    label: String,
    monitor: &'a Monitor,
}

impl<'a> Books<'a> {
    /// Of the one that is looked at.
    pub(crate) fn of(surroundings: &Surroundings, monitor: &'a Monitor) -> Books<'a> {
        let label = match (&surroundings.netns_name, surroundings.netns_inode) {
            (Some(name), _) => Harmless(name).to_string(),
            (None, Some(inode)) => format!("netns {inode}"),
            (None, None) => "this one".to_owned(),
        };
        Books { netns: NetnsRow::of(surroundings), label, monitor }
    }

    /// Of one of all.
    pub(crate) fn of_found(found: &FoundNamespace, monitor: &'a Monitor) -> Books<'a> {
        let label = Harmless(&found.name.to_string()).to_string();
        Books { netns: NetnsRow::found(found), label, monitor }
    }

    /// The namespace as a row's subject.
    pub(crate) fn named(&self) -> (GroupName, String) {
        (GroupName::Netns { netns: self.netns.clone() }, self.label.clone())
    }
}

/// The rows of one namespace, most sockets first. `whose` is needed for what the ends do not tell.
pub(crate) fn rows(by: By, books: &Books<'_>, whose: Option<&Whose>) -> Vec<Row> {
    let mut rows = rows_of_all(by, std::slice::from_ref(books), whose);
    rows.iter_mut().for_each(|row| row.netns = None);
    rows
}

/// The rows of several namespaces: an owner's, cgroup's, user's connections are added up, wherever they are; a destination or
/// listener of one namespace is another one in the next, with ports of its own.
pub(crate) fn rows_of_all(by: By, books: &[Books<'_>], whose: Option<&Whose>) -> Vec<Row> {
    let mut rows: BTreeMap<Key, Sum> = BTreeMap::new();
    let mut programs = Vec::new();
    for (place, books) in books.iter().enumerate() {
        let mut add = |key, inferred, counts| rows.entry(key).or_default().add(place, inferred, counts);
        if by == By::PortOrigin {
            for row in books.monitor.origins() {
                let (way, inferred) = Way::of(row.origin);
                add(Key::Port(way), inferred, (row.live, row.time_wait, row.rates));
            }
            continue;
        }
        let accounts = books.monitor.accounts();
        let guess = match by.facet() {
            Some(_) => Guess::from(&accounts, whose, &mut programs),
            None => Guess::none(),
        };
        for account in &accounts {
            let is_outgoing = matches!(account.group, Group::Destination(_));
            let is_incoming = matches!(account.group, Group::Listener(_));
            let (key, inferred) = match by {
                By::Destination if !is_outgoing => continue,
                By::Listener if !is_incoming => continue,
                By::Destination | By::Listener => (Key::Group(account.group, place), false),
                By::Netns | By::PortOrigin => (Key::Netns(place), false),
                By::Owner | By::Cgroup | By::User => match guess.of(account) {
                    Some(Likely::Owner(owner)) => (Key::Owner(owner), true),
                    Some(Likely::Program(owner)) => (Key::Program(owner), true),
                    None => (Key::Owner(account.owner), false),
                },
            };
            add(key, inferred, (account.live, account.time_wait, account.rates));
        }
        // An idle namespace is one, too.
        if by == By::Netns {
            add(Key::Netns(place), false, (0, 0, Rates::default()));
        }
    }
    // Owners who had something within the longest window, and nothing of what is shown; a namespace is there without.
    let tells = |row: &Row| {
        let has_some = row.live + row.time_wait > 0;
        has_some || row.opens_per_second > 0.0 || row.closes_per_second > 0.0 || by == By::Netns
    };
    let rows = rows.into_iter().map(|(key, sum)| sum.row(key, by, books, whose));
    let mut rows: Vec<Row> = rows.filter(tells).collect();
    // Stable: equals stay in the order of their names.
    rows.sort_by_key(|row| std::cmp::Reverse(row.live + row.time_wait));
    rows
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    /// In the namespace with this place among all.
    Group(Group, usize),
    Netns(usize),
    Owner(OwnerId),
    /// One of the processes of this one's program.
    Program(OwnerId),
    Port(Way),
}

/// What becomes a row.
#[derive(Default)]
struct Sum {
    places: BTreeSet<usize>,
    live: u64,
    time_wait: u64,
    inferred: u64,
    opens_per_second: f32,
    closes_per_second: f32,
}

impl Sum {
    fn add(&mut self, place: usize, inferred: bool, (live, time_wait, rates): (u64, u64, Rates)) {
        self.places.insert(place);
        self.live += live;
        self.time_wait += time_wait;
        self.inferred += if inferred { live + time_wait } else { 0 };
        self.opens_per_second += rates.opens[0];
        self.closes_per_second += rates.closes[0];
    }

    fn row(self, key: Key, by: By, books: &[Books<'_>], whose: Option<&Whose>) -> Row {
        let netns = match (self.places.first(), self.places.len()) {
            (Some(place), 1) => {
                Some(Netns::One { name: books[*place].netns.clone(), label: books[*place].label.clone() })
            }
            (_, several) => Some(Netns::Several(several)),
        };
        let (group, label) = match key {
            Key::Group(group, _) => named(group, by, whose),
            Key::Netns(place) => books[place].named(),
            Key::Owner(owner) => named(Group::Owner(owner), by, whose),
            Key::Program(owner) => one_of_program(owner, by, whose),
            Key::Port(way) => way.named(),
        };
        // It tells itself.
        let netns = netns.filter(|_| by != By::Netns);
        let Sum { live, time_wait, inferred, opens_per_second, closes_per_second, .. } = self;
        Row { group, label, netns, live, time_wait, inferred, opens_per_second, closes_per_second }
    }
}

/// How connections came by their ports, as rows tell it: what is certain and what is likely together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Connect,
    BindAny,
    BindNumber,
    Accepted,
    Unknown,
}

impl Way {
    /// And whether that is inferred.
    fn of(origin: PortOrigin) -> (Way, bool) {
        match origin {
            PortOrigin::Chosen => (Way::Connect, false),
            PortOrigin::Preferred => (Way::Connect, true),
            PortOrigin::OtherHalf => (Way::BindAny, true),
            PortOrigin::Bound => (Way::BindNumber, false),
            PortOrigin::Accepted => (Way::Accepted, false),
            PortOrigin::Unknown => (Way::Unknown, false),
        }
    }

    /// The word of JSON.
    fn name(self) -> &'static str {
        match self {
            Way::Connect => "connect",
            Way::BindAny => "bind_any",
            Way::BindNumber => "bind_number",
            Way::Accepted => "accepted",
            Way::Unknown => "unknown",
        }
    }

    /// As JSON and people call it.
    fn named(self) -> (GroupName, String) {
        (GroupName::PortOrigin { port_origin: self.name() }, self.label().to_owned())
    }

    fn label(self) -> &'static str {
        match self {
            Way::Connect => "chosen by connect()",
            Way::BindAny => "bind() with port 0",
            Way::BindNumber => "bound by number",
            Way::Accepted => "accepted: the listener's port",
            Way::Unknown => "not known",
        }
    }
}

/// Whose connections are that nobody saw alive, as far as it can be told from others: what goes where only one process goes
/// is that process's, and what came in is of those who listen there.
struct Guess<'a> {
    whose: Option<&'a Whose>,
    likely: BTreeMap<Group, Likely>,
}

#[derive(Clone, Copy)]
enum Likely {
    Owner(OwnerId),
    /// One of the processes of this one's program.
    Program(OwnerId),
}

impl<'a> Guess<'a> {
    fn none() -> Guess<'a> {
        Guess { whose: None, likely: BTreeMap::new() }
    }

    /// `programs`: one for each program, by which all of it is called, in every namespace.
    fn from(accounts: &[AccountRow], whose: Option<&'a Whose>, programs: &mut Vec<OwnerId>) -> Guess<'a> {
        let mut guess = Guess { whose, likely: BTreeMap::new() };
        let mut owners: BTreeMap<Group, Vec<OwnerId>> = BTreeMap::new();
        for account in accounts.iter().filter(|account| account.group != Group::Other) {
            let known = (account.owner != OwnerId::UNKNOWN).then_some(account.owner);
            owners.entry(account.group).or_default().extend(known);
        }
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
                Some(Likely::Program(one)) => {
                    let program = programs.iter().copied().find(|program| is_same(program, one));
                    programs.extend(program.is_none().then_some(one));
                    Some(Likely::Program(program.unwrap_or(one)))
                }
                key => key,
            };
            guess.likely.extend(key.map(|key| (group, key)));
        }
        guess
    }

    /// Of those who have connections of a group, the only one or only program that can have the others.
    fn who_connects(&self, owners: &[OwnerId]) -> Option<Likely> {
        let is_somebody_else = |one: &OwnerId| !owners.iter().any(|other| self.may_be(*one, *other));
        let different: Vec<OwnerId> = owners.iter().copied().filter(is_somebody_else).collect();
        let is_same = |one, other| self.whose.is_some_and(|whose| whose.is_same_program(one, other));
        match different[..] {
            [owner] => Some(Likely::Owner(owner)),
            [first, ref others @ ..] => {
                others.iter().all(|other| is_same(first, *other)).then_some(Likely::Program(first))
            }
            [] => None,
        }
    }

    /// The same where it is known who listens: they, and processes of the same program.
    fn who_accepts(&self, owners: &[OwnerId], keepers: &[OwnerId], whose: &Whose) -> Option<Likely> {
        let accepting: Vec<OwnerId> = owners.iter().copied().filter(|one| whose.is_process(*one)).collect();
        let first = accepting.first().or(keepers.first()).copied()?;
        let mut all = accepting.iter().chain(keepers);
        match all.all(|other| whose.are_akin(first, *other)) {
            // Nobody else was ever seen to accept.
            true if accepting == keepers => Some(Likely::Owner(first)),
            true => Some(Likely::Program(first)),
            false => None,
        }
    }

    fn of(&self, account: &AccountRow) -> Option<Likely> {
        let key = self.likely.get(&account.group).copied()?;
        let (Likely::Owner(likely) | Likely::Program(likely)) = key;
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
        Some(keeper) => one_of_program(*keeper, By::Owner, Some(whose)),
        None if closed.owner == OwnerId::UNKNOWN => return None,
        None => named(Group::Owner(closed.owner), By::Owner, Some(whose)),
    };
    let (GroupName::Owner { owner: name }, label) = row else { return None };
    Some(FormerOwner { name, label, is_inferred: keeper.is_some() })
}

/// One of the processes of this one's program.
fn one_of_program(owner: OwnerId, by: By, whose: Option<&Whose>) -> (GroupName, String) {
    let (mut group, mut label) = named(Group::Owner(owner), by, whose);
    if let GroupName::Owner { owner: name } = &mut group {
        name.pid = None;
        let who = whose.map(|whose| whose.who(owner)).unwrap_or_default();
        label = who.process.map(|process| format!("{}, one of its processes", process.name)).unwrap_or(label);
    }
    (group, label)
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
        Group::PortOrigin(origin) => {
            let (way, inferred) = Way::of(origin);
            let label = if inferred {
                format!("{}, by its half of the range", way.label())
            } else {
                way.label().to_owned()
            };
            (GroupName::PortOrigin { port_origin: way.name() }, label)
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
