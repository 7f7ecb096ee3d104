//! Names and indices of network interfaces.

use std::collections::HashMap;
use std::num::NonZeroU32;

/// The interfaces of one network namespace at one time.
///
/// An index means nothing in another namespace: read this where the sockets were read, then take it along.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Interfaces {
    names: HashMap<NonZeroU32, String>,
}

impl Interfaces {
    /// Reads those of the calling thread's network namespace; none when the kernel refuses. Needs no privilege.
    pub fn read() -> Interfaces {
        let Ok(list) = nix::net::if_::if_nameindex() else { return Interfaces::default() };
        list.iter()
            .filter_map(|i| Some((NonZeroU32::new(i.index())?, i.name().to_string_lossy().into_owned())))
            .collect()
    }

    /// Name of the interface with this index; None when there was none.
    pub fn name(&self, index: NonZeroU32) -> Option<&str> {
        self.names.get(&index).map(String::as_str)
    }

    /// Every index and its name, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (NonZeroU32, &str)> {
        self.names.iter().map(|(index, name)| (*index, name.as_str()))
    }
}

impl FromIterator<(NonZeroU32, String)> for Interfaces {
    fn from_iter<I: IntoIterator<Item = (NonZeroU32, String)>>(interfaces: I) -> Interfaces {
        Interfaces { names: interfaces.into_iter().collect() }
    }
}

/// Index of the interface with this name or alternative name in the calling thread's network namespace; None
/// when there is none.
pub fn interface_index(name: &str) -> Option<NonZeroU32> {
    nix::net::if_::if_nametoindex(name).ok().and_then(NonZeroU32::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_named_both_ways() {
        let interfaces = Interfaces::read();
        let index = interface_index("lo").unwrap();
        assert_eq!(interfaces.name(index), Some("lo"));
        for (index, name) in &interfaces.names {
            let read = std::fs::read_to_string(format!("/sys/class/net/{name}/ifindex")).unwrap();
            assert_eq!(read.trim(), index.to_string(), "{name}");
        }
    }

    #[test]
    fn what_is_not_there_has_no_name() {
        assert_eq!(Interfaces::read().name(NonZeroU32::MAX), None);
        assert_eq!(interface_index("no-such-interface-0"), None);
        assert_eq!(interface_index(""), None);
        assert_eq!(interface_index("nul\0inside"), None);
    }
}
