//! Connections by whatever they are asked for: destination, listener, owner, cgroup, user, how they got their port.
//!
//! Adds the Monitor's accounts up; how rows are shown is for the renderers.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use clap::ValueEnum;
use serde::Serialize;
use sockeye_core::{AccountRow, DestinationId, Group, Monitor, OwnerId};

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
    let may_be = |one, process| whose.is_some_and(|whose| whose.may_be(one, process));
    let sole = sole_owners(&accounts, may_be);
    for account in &accounts {
        let is_outgoing = matches!(account.group, Group::Destination(_));
        let is_incoming = matches!(account.group, Group::Listener(_));
        let (key, inferred) = match by {
            By::Destination if !is_outgoing => continue,
            By::Listener if !is_incoming => continue,
            By::Destination | By::Listener => (Key::Group(account.group), false),
            // What nobody saw alive goes to whom else than the only one who goes there.
            By::Owner | By::Cgroup | By::User => match (account.owner, sole.get(&account.group)) {
                (owner, Some(Some(sole))) if owner == OwnerId::UNKNOWN || may_be(owner, *sole) => {
                    (Key::Owner(*sole), true)
                }
                (owner, _) => (Key::Owner(owner), false),
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
}

/// For each destination and listener the owner of all its connections whose owner is known; None where there are several.
/// `may_be`: whether somebody who is half known can be somebody who is known.
fn sole_owners(
    accounts: &[AccountRow],
    may_be: impl Fn(OwnerId, OwnerId) -> bool,
) -> BTreeMap<Group, Option<OwnerId>> {
    let mut owners: BTreeMap<Group, Vec<OwnerId>> = BTreeMap::new();
    let known =
        accounts.iter().filter(|account| account.owner != OwnerId::UNKNOWN && account.group != Group::Other);
    known.for_each(|account| owners.entry(account.group).or_default().push(account.owner));
    let sole = |owners: Vec<OwnerId>| {
        let is_somebody_else = |one: &&OwnerId| !owners.iter().any(|other| may_be(**one, *other));
        let mut different = owners.iter().filter(is_somebody_else);
        different.next().copied().filter(|_| different.next().is_none())
    };
    owners.into_iter().map(|(group, owners)| (group, sole(owners))).collect()
}

fn row(key: Key, by: By, whose: Option<&Whose>) -> Row {
    let group = match key {
        Key::Group(group) => group,
        Key::Owner(owner) => Group::Owner(owner),
    };
    let (group, label) = named(group, by, whose);
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
    let place = process.map(|process| &process.place);
    OwnerName {
        pid: process.map(|process| process.pid),
        name: process.map(|process| text(&process.name)),
        uid: who.uid.filter(|_| by != By::Cgroup),
        user: who.user.filter(|_| by != By::Cgroup).map(text),
        cgroup: who.cgroup.filter(|_| by != By::User).map(text),
        unit: place.and_then(|place| place.unit.as_ref()).map(text),
        container: place.and_then(|place| place.container.as_ref()).map(|container| text(&container.id)),
        pod: place.and_then(|place| place.pod_uid.clone()),
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
            let place = process.place.unit.as_ref().map(|unit| format!("  {unit}")).unwrap_or_default();
            format!("{} ({}) {}{place}", process.name, process.pid, user())
        }
        (_, None) if who.uid.is_some() => format!("a process of {} in {}", user(), cgroup()),
        (_, None) => "owner not known".to_owned(),
    }
}
