//! Names in filters: services, hosts, interfaces, cgroups, users and processes as this host knows them.

use std::collections::BTreeMap;
use std::net::{IpAddr, ToSocketAddrs};
use std::num::NonZeroU32;
use std::path::Path;

use sock_diag::Protocol;
use sock_diag::filter::Names;
use sockeye_host::owners::{OwnerFiles, Owners, Users};
use sockeye_host::{Cgroups, Services};

use crate::surroundings::Surroundings;

/// Looks names up where the sockets come from (interfaces, port range) and on this host (the rest).
pub(crate) struct HostNames<'a> {
    surroundings: &'a Surroundings,
    processes: bool,
}

impl<'a> HostNames<'a> {
    pub(crate) fn new(surroundings: &'a Surroundings) -> HostNames<'a> {
        HostNames { surroundings, processes: true }
    }

    /// For sockets that this host's processes do not hold: those of a capture.
    pub(crate) fn without_processes(self) -> HostNames<'a> {
        HostNames { processes: false, ..self }
    }
}

impl HostNames<'_> {
    /// Those of a capture, where it holds any.
    fn kept_cgroups(&self) -> Option<&BTreeMap<u64, String>> {
        Some(&self.surroundings.cgroups).filter(|kept| !self.processes && !kept.is_empty())
    }
}

fn is_same(known: &str, path: &str) -> bool {
    known.trim_start_matches('/') == path.trim_start_matches('/')
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
        match self.kept_cgroups() {
            Some(kept) => kept.iter().find(|(_, known)| is_same(known, path)).map(|(id, _)| *id),
            None => Cgroups::find().ok().flatten()?.id(Path::new(path)).ok(),
        }
    }

    fn cgroups_below(&self, path: &str) -> Option<Vec<u64>> {
        let Some(kept) = self.kept_cgroups() else {
            return Cgroups::find().ok().flatten()?.ids_below(Path::new(path)).ok();
        };
        let is_below = |known: &str| is_same(known, path) || Path::new(known).starts_with(path);
        Some(kept.iter().filter(|(_, known)| is_below(known)).map(|(id, _)| *id).collect())
    }

    fn user(&self, name: &str) -> Option<u32> {
        Users::read(&OwnerFiles::of_this_host().passwd).uid(name)
    }

    fn sockets_of_pid(&self, pid: u32) -> Option<Vec<u32>> {
        let mut owners = self.processes.then(Owners::of_this_host)?;
        owners.read_process(pid).then(|| owners.sockets_of(pid))
    }

    fn sockets_of_name(&self, name: &str) -> Option<Vec<u32>> {
        self.processes.then(Owners::of_this_host)?.read_named(name.as_bytes())
    }

    fn port_range(&self) -> Option<(u16, u16)> {
        self.surroundings.port_range()
    }
}
