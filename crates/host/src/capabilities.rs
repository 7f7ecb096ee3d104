//! The privileges that change what sockeye can see.

use std::fmt;
use std::path::Path;

use crate::error::{Error, Result};
use crate::files;

const STATUS: &str = "/proc/thread-self/status";

/// A privilege sockeye makes use of when it has it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Capability {
    /// Read `/proc/<pid>/fd` and cgroup folders of others.
    DacReadSearch,
    /// Marks in records, larger receive buffers, SOCK_DESTROY.
    NetAdmin,
    /// Owners: the descriptors of other users' processes.
    SysPtrace,
    /// Entering another network namespace.
    SysAdmin,
}

impl Capability {
    /// The bit in `CapEff`. Source: `include/uapi/linux/capability.h`.
    const fn number(self) -> u32 {
        match self {
            Capability::DacReadSearch => 2,
            Capability::NetAdmin => 12,
            Capability::SysPtrace => 19,
            Capability::SysAdmin => 21,
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Capability::DacReadSearch => "CAP_DAC_READ_SEARCH",
            Capability::NetAdmin => "CAP_NET_ADMIN",
            Capability::SysPtrace => "CAP_SYS_PTRACE",
            Capability::SysAdmin => "CAP_SYS_ADMIN",
        })
    }
}

/// A thread's effective capabilities, as bits.
///
/// They hold inside the thread's own user namespace: the root of a container may have every bit set here and
/// still be nobody to the host's network namespace. Only trying tells.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[doc(alias = "CapEff")]
pub struct Capabilities(pub u64);

impl Capabilities {
    /// Reads those of the calling thread.
    ///
    /// # Errors
    /// `/proc` is not mounted, or hides it; assume nothing and try.
    pub fn read() -> Result<Capabilities> {
        let text = files::read(Path::new(STATUS))?;
        Capabilities::parse(&text).ok_or_else(|| Error::malformed(STATUS, "a line CapEff", &text))
    }

    /// From the text of `/proc/<pid>/status`; None without a sound line `CapEff:`.
    pub fn parse(text: &str) -> Option<Capabilities> {
        let bits = text.lines().find_map(|line| line.strip_prefix("CapEff:"))?.trim();
        u64::from_str_radix(bits, 16).ok().map(Capabilities)
    }

    /// Whether `capability` is among them.
    pub const fn has(self, capability: Capability) -> bool {
        self.0 & (1 << capability.number()) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bits_are_found_in_status() {
        let held =
            Capabilities::parse("Name:\tx\nCapPrm:\tffff\nCapEff:\t0000000000201000\nCapBnd:\t0\n").unwrap();
        assert!(held.has(Capability::NetAdmin) && held.has(Capability::SysAdmin));
        assert!(!held.has(Capability::SysPtrace) && !held.has(Capability::DacReadSearch));
        for text in ["", "CapEff:", "CapEff:\tno\n", "CapPrm:\t0\n"] {
            assert_eq!(Capabilities::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn this_thread_has_some_answer() {
        let held = Capabilities::read().unwrap();
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        assert!(status.contains(&format!("CapEff:\t{:016x}\n", held.0)), "{held:?}\n{status}");
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in "\\PC{0,40}|CapEff:[ \\t]{0,2}[0-9a-fg+]{0,20}") {
            Capabilities::parse(&text);
        }
    }
}
