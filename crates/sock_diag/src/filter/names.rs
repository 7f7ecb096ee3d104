//! What a filter's words may stand for that only the host knows. Looking it up is the implementor's business.

use std::net::IpAddr;
use std::num::NonZeroU32;

/// Resolves the names in a filter text. Numbers and address literals never come here.
///
/// Every method answers None (or an empty list) for what it does not know, as all do that are not implemented; the parser
/// makes an error of that, pointing at the word.
pub trait Names {
    /// The port of a service such as `ssh`, as in `/etc/services`.
    fn service(&self, _name: &str) -> Option<u16> {
        None
    }

    /// The addresses of a host name; all of them are matched.
    fn host(&self, _name: &str) -> Vec<IpAddr> {
        Vec::new()
    }

    /// The index of a network interface, in the network namespace the filter is for.
    fn interface(&self, _name: &str) -> Option<NonZeroU32> {
        None
    }

    /// The id of a cgroup v2: the inode of the directory `path` names, relative to the mount of cgroup2.
    fn cgroup(&self, _path: &str) -> Option<u64> {
        None
    }

    /// The ids of the cgroup at `path` and of all below it. None: there is none at that path.
    fn cgroups_below(&self, _path: &str) -> Option<Vec<u64>> {
        None
    }

    /// The number of a user.
    fn user(&self, _name: &str) -> Option<u32> {
        None
    }

    /// The inodes of the sockets that a process has open now. None: there is no such process, or processes are not known.
    fn sockets_of_pid(&self, _pid: u32) -> Option<Vec<u32>> {
        None
    }

    /// The inodes of the sockets that processes of this name have open now; the kernel keeps the first 15 bytes of a name.
    /// None: nobody is called so, or processes are not known.
    fn sockets_of_name(&self, _name: &str) -> Option<Vec<u32>> {
        None
    }

    /// First and last port of `net.ipv4.ip_local_port_range`: what `autobound` means besides the kernel's flag.
    fn port_range(&self) -> Option<(u16, u16)> {
        None
    }
}

/// Knows no name at all: filters may hold literals only, and no `autobound`.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoNames;

impl Names for NoNames {}

/// Knows the range of ephemeral ports alone: filters may hold literals and `autobound`.
#[derive(Clone, Copy, Debug)]
pub struct PortRangeOnly {
    /// First port of `net.ipv4.ip_local_port_range`.
    pub first: u16,
    /// Its last port.
    pub last: u16,
}

impl Names for PortRangeOnly {
    fn port_range(&self) -> Option<(u16, u16)> {
        Some((self.first, self.last))
    }
}
