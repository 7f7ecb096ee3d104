//! Which machine, kernel and namespace the numbers come from.

use std::os::linux::fs::MetadataExt;

/// Names of the machine as the calling thread sees it. Needs no privilege.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Identity {
    /// `uname -n`; empty when uname() fails, which it does not.
    #[doc(alias = "nodename")]
    pub host_name: String,
    /// `uname -r`, such as `6.18.44-amd64`; empty when uname() fails.
    #[doc(alias = "release")]
    pub kernel_release: String,
    /// Inode of the calling thread's network namespace, as `lsns` shows it. Unique among living namespaces; the
    /// kernel reuses it. None when `/proc` is not mounted.
    pub net_namespace_inode: Option<u64>,
}

impl Identity {
    /// Reads the names of the calling thread's namespaces.
    pub fn read() -> Identity {
        let names = nix::sys::utsname::uname().ok();
        let namespace = std::fs::metadata("/proc/thread-self/ns/net");
        Identity {
            host_name: names
                .as_ref()
                .map(|u| u.nodename().to_string_lossy().into_owned())
                .unwrap_or_default(),
            kernel_release: names.map(|u| u.release().to_string_lossy().into_owned()).unwrap_or_default(),
            net_namespace_inode: namespace.ok().map(|file| file.st_ino()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_name_and_a_kernel() {
        let identity = Identity::read();
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        assert_eq!(identity.kernel_release, release.trim_end());
        let host_name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        assert_eq!(identity.host_name, host_name.trim_end());
        let link = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let inode = identity.net_namespace_inode.unwrap();
        assert_eq!(link.to_string_lossy(), format!("net:[{inode}]"));
    }
}
