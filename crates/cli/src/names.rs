//! Names in filters: services, hosts, interfaces and cgroups as this host knows them.

use std::net::{IpAddr, ToSocketAddrs};
use std::num::NonZeroU32;
use std::path::Path;

use sock_diag::Protocol;
use sock_diag::filter::Names;
use sockeye_host::{Cgroups, Services};

use crate::surroundings::Surroundings;

/// Looks names up where the sockets come from (interfaces, port range) and on this host (the rest).
pub(crate) struct HostNames<'a> {
    surroundings: &'a Surroundings,
}

impl<'a> HostNames<'a> {
    pub(crate) fn new(surroundings: &'a Surroundings) -> HostNames<'a> {
        HostNames { surroundings }
    }
}

impl Names for HostNames<'_> {
    fn service(&self, name: &str) -> Option<u16> {
        let services = Services::of_system();
        services.port(Protocol::Tcp, name).or_else(|| services.port(Protocol::Udp, name))
    }

    fn host(&self, name: &str) -> Vec<IpAddr> {
        (name, 0).to_socket_addrs().map(|found| found.map(|a| a.ip()).collect()).unwrap_or_default()
    }

    fn interface(&self, name: &str) -> Option<NonZeroU32> {
        let found = self.surroundings.interfaces.iter().find(|(_, known)| known.as_str() == name);
        found.and_then(|(index, _)| NonZeroU32::new(*index))
    }

    fn cgroup(&self, path: &str) -> Option<u64> {
        Cgroups::find().ok().flatten()?.id(Path::new(path)).ok()
    }

    fn port_range(&self) -> Option<(u16, u16)> {
        self.surroundings.port_range()
    }
}
