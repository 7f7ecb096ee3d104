//! The fields of one socket for machines: one table that JSON, JSON lines and CSV loop over.
//!
//! A new attribute is one row here.

use std::net::IpAddr;

use sock_diag::{DiagMsg, SocketMemory, SocketRecord, SocketState, TcpInfo, TimerKind};
use sockeye_host::FoundNamespace;
use sockeye_host::owners::Name;

use crate::holders::Holder;

/// One socket on its way out: the record, and the view it came from for what was asked beyond it.
pub(crate) struct Socket<'a> {
    pub(crate) record: SocketRecord,
    pub(crate) diag: &'a DiagMsg<'a>,
    /// Where it is; None where there is one namespace only.
    pub(crate) netns: Option<&'a FoundNamespace>,
    /// Name of the interface it is bound to; None when it is bound to none, or the name is not known.
    pub(crate) interface: Option<&'a str>,
    /// Path of its cgroup, looked up when the output shows it.
    pub(crate) cgroup: Option<&'a str>,
    /// The processes that hold it, its owner first; looked up when the output shows them.
    pub(crate) holders: &'a [Holder<'a>],
}

/// A field's value.
pub(crate) enum Value<'a> {
    /// Unknown, or does not apply: left out of JSON, empty in CSV.
    Absent,
    Unsigned(u64),
    Flag(bool),
    Word(&'static str),
    Text(String),
    Borrowed(&'a str),
    Address(IpAddr),
}

impl<'a> Value<'a> {
    fn number<N: Into<u64>>(value: Option<N>) -> Value<'a> {
        value.map_or(Value::Absent, |n| Value::Unsigned(n.into()))
    }
}

/// The JSON object a field is nested in. In CSV its name and the field's are joined by `_`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Group {
    /// In none.
    Socket,
    Netns,
    Timer,
    Owner,
    TcpInfo,
    Memory,
}

impl Group {
    /// Empty for a field that is not nested.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Group::Socket => "",
            Group::Netns => "netns",
            Group::Timer => "timer",
            Group::Owner => "owner",
            Group::TcpInfo => "tcp_info",
            Group::Memory => "memory",
        }
    }
}

/// One field: where it belongs, its name, its value.
pub(crate) struct Field {
    pub(crate) group: Group,
    pub(crate) name: &'static str,
    pub(crate) value: for<'a> fn(&Socket<'a>) -> Value<'a>,
}

const fn field(name: &'static str, value: for<'a> fn(&Socket<'a>) -> Value<'a>) -> Field {
    Field { group: Group::Socket, name, value }
}

const fn timer(name: &'static str, value: for<'a> fn(&Socket<'a>) -> Value<'a>) -> Field {
    Field { group: Group::Timer, name, value }
}

fn if_timer<'a>(socket: &Socket<'a>, value: Value<'a>) -> Value<'a> {
    if socket.record.timer.kind == TimerKind::Off { Value::Absent } else { value }
}

/// Whether the socket has a peer: a listener's zeros are no address.
fn has_remote(record: &SocketRecord) -> bool {
    record.id.remote_port != 0 || !record.id.remote_address.is_unspecified()
}

/// The fields every socket has, in the order of the columns. Groups stand together.
pub(crate) const FIELDS: &[Field] = &[
    field("protocol", |s| Value::Word(s.record.protocol.name())),
    field("family", |s| Value::Word(s.record.family.name())),
    // As the filter and the snapshot call it; the record itself only says "close".
    field("state", |s| match s.record.is_bound_inactive() {
        true => Value::Word(SocketState::BoundInactive.snake_name()),
        false => Value::Word(s.record.state.snake_name()),
    }),
    field("local_address", |s| Value::Address(s.record.id.local_address)),
    field("local_port", |s| Value::Unsigned(s.record.id.local_port.into())),
    field("remote_address", |s| match has_remote(&s.record) {
        true => Value::Address(s.record.id.remote_address),
        false => Value::Absent,
    }),
    field("remote_port", |s| match has_remote(&s.record) {
        true => Value::Unsigned(s.record.id.remote_port.into()),
        false => Value::Absent,
    }),
    field("interface", |s| s.interface.map_or(Value::Absent, Value::Borrowed)),
    field("interface_index", |s| Value::number(s.record.id.interface.map(|i| i.get()))),
    field("v6_only", |s| s.diag.v6_only().map_or(Value::Absent, Value::Flag)),
    field("rqueue_bytes", |s| match s.record.state {
        SocketState::Listen => Value::Absent,
        _ => Value::Unsigned(s.record.rqueue_bytes.into()),
    }),
    field("wqueue_bytes", |s| match s.record.state {
        SocketState::Listen => Value::Absent,
        _ => Value::Unsigned(s.record.wqueue_bytes.into()),
    }),
    field("accept_queue", |s| match s.record.state {
        SocketState::Listen => Value::Unsigned(s.record.rqueue_bytes.into()),
        _ => Value::Absent,
    }),
    field("backlog", |s| match s.record.state {
        SocketState::Listen => Value::Unsigned(s.record.wqueue_bytes.into()),
        _ => Value::Absent,
    }),
    timer("kind", |s| if_timer(s, Value::Word(s.record.timer.kind.name()))),
    timer("expires_ms", |s| if_timer(s, Value::Unsigned(s.record.timer.expires_ms.into()))),
    timer("retransmits", |s| if_timer(s, Value::Unsigned(s.record.timer.retransmits.into()))),
    field("uid", |s| Value::number(s.record.uid)),
    field("inode", |s| Value::number(s.record.inode.map(|i| i.get()))),
    // As text: JSON's numbers lose digits above 2^53.
    field("cookie", |s| Value::Text(s.record.id.cookie.to_string())),
    field("cgroup_id", |s| Value::number(s.record.cgroup_id)),
    field("cgroup", |s| s.cgroup.map_or(Value::Absent, Value::Borrowed)),
    field("mark", |s| Value::number(s.record.mark)),
    field("shutdown", |s| match s.record.shutdown {
        Some(1) => Value::Word("receive"),
        Some(2) => Value::Word("send"),
        Some(3) => Value::Word("both"),
        _ => Value::Absent,
    }),
    // Where it is set, bind() took no port: what the note on binding before connecting asks for.
    field("bind_address_no_port", |s| match s.record.options {
        Some(options) => Value::Flag(options.bind_address_no_port()),
        None => Value::Absent,
    }),
    field("congestion", |s| match s.diag.congestion() {
        Some(name) => Value::Text(String::from_utf8_lossy(name).into_owned()),
        None => Value::Absent,
    }),
    field("upper_layer", |s| match s.diag.upper_layer() {
        Some(name) => Value::Text(String::from_utf8_lossy(name).into_owned()),
        None => Value::Absent,
    }),
];

/// A field of the owner: its name, its value.
type OwnerField = (&'static str, for<'a> fn(&Holder<'a>) -> Value<'a>);

/// The fields of a socket's owner, who is the first of its holders.
const OWNER_FIELDS: &[OwnerField] = &[
    ("pid", |h| Value::Unsigned(h.owner.pid.into())),
    ("name", |h| text(Some(&h.owner.name))),
    ("descriptor", |h| Value::Unsigned(h.descriptor.into())),
    ("uid", |h| Value::Unsigned(h.owner.uid.into())),
    ("user", |h| text(h.owner.user.as_ref())),
    ("cgroup", |h| text(h.owner.cgroup.as_ref())),
    ("unit", |h| text(h.owner.place.unit.as_ref())),
    ("runtime", |h| match h.owner.place.container.as_ref().and_then(|c| c.runtime) {
        Some(runtime) => Value::Word(runtime.name()),
        None => Value::Absent,
    }),
    ("container", |h| text(h.owner.place.container.as_ref().map(|container| &container.id))),
    ("pod_uid", |h| h.owner.place.pod_uid.as_deref().map_or(Value::Absent, Value::Borrowed)),
];

fn text(name: Option<&Name>) -> Value<'_> {
    name.map_or(Value::Absent, |name| match name.text() {
        std::borrow::Cow::Borrowed(text) => Value::Borrowed(text),
        std::borrow::Cow::Owned(text) => Value::Text(text),
    })
}

/// The fields of a socket that is one of many namespaces', before all others.
const NETNS_FIELDS: &[Field] = &[
    netns("inode", |s| Value::number(s.netns.map(|netns| netns.inode))),
    netns("name", |s| s.netns.and_then(|netns| netns.name.named()).map_or(Value::Absent, Value::Text)),
    netns("label", |s| s.netns.map_or(Value::Absent, |netns| Value::Text(netns.name.to_string()))),
];

const fn netns(name: &'static str, value: for<'a> fn(&Socket<'a>) -> Value<'a>) -> Field {
    Field { group: Group::Netns, name, value }
}

/// What was asked for beside [`FIELDS`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Extra {
    pub(crate) owner: bool,
    pub(crate) netns: bool,
    pub(crate) info: bool,
    pub(crate) memory: bool,
}

/// Calls `each` with every field's group, name and value, absent ones included: columns must stay in place.
pub(crate) fn for_each_field<'a, E>(
    socket: &Socket<'a>,
    extra: Extra,
    mut each: impl FnMut(Group, &'static str, Value<'a>) -> Result<(), E>,
) -> Result<(), E> {
    let netns = if extra.netns { NETNS_FIELDS } else { &[] };
    for field in netns.iter().chain(FIELDS) {
        each(field.group, field.name, (field.value)(socket))?;
    }
    if extra.owner {
        for (name, value) in OWNER_FIELDS {
            each(Group::Owner, name, socket.holders.first().map_or(Value::Absent, value))?;
        }
    }
    if extra.info {
        let info = socket.diag.tcp_info();
        for field in TcpInfo::FIELDS {
            each(Group::TcpInfo, field.name, Value::number(info.as_ref().and_then(field.read)))?;
        }
    }
    if extra.memory {
        let memory = socket.diag.memory();
        for field in SocketMemory::FIELDS {
            each(Group::Memory, field.name, Value::number(memory.as_ref().and_then(field.read)))?;
        }
    }
    Ok(())
}

/// The names [`for_each_field`] will tell, in its order.
pub(crate) fn names(extra: Extra) -> impl Iterator<Item = (Group, &'static str)> {
    let owner = if extra.owner { OWNER_FIELDS } else { &[] };
    let info = if extra.info { TcpInfo::FIELDS } else { &[] };
    let memory = if extra.memory { SocketMemory::FIELDS } else { &[] };
    let netns = if extra.netns { NETNS_FIELDS } else { &[] };
    netns
        .iter()
        .chain(FIELDS)
        .map(|field| (field.group, field.name))
        .chain(owner.iter().map(|(name, _)| (Group::Owner, *name)))
        .chain(info.iter().map(|field| (Group::TcpInfo, field.name)))
        .chain(memory.iter().map(|field| (Group::Memory, field.name)))
}
