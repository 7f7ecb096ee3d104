//! A number for whoever owns sockets: a process, a cgroup, a user, whatever the caller tells apart.

/// Who owns a socket, by the caller's own numbering. Nothing follows from the number here but which sockets belong
/// together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct OwnerId(pub u32);

impl OwnerId {
    /// Nobody has said.
    pub const UNKNOWN: OwnerId = OwnerId(0);
}
