//! Folders whose names are numbers, `/proc` and `/proc/<pid>/fd`, read a few kilobytes at a time.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, RawDir, openat, readlinkat_raw};
use rustix::io::Errno;
use rustix::path::{Arg, DecInt};

/// About 170 names: a third of a millisecond of the kernel's time at most.
const BUFFER: usize = 4096;

/// An open folder, and how far it was listed.
#[derive(Debug)]
pub(super) struct Numbered {
    folder: OwnedFd,
}

impl Numbered {
    /// # Errors
    /// ENOENT and ESRCH: there is none (any more). EACCES, EPERM: it is not for us.
    pub(super) fn open(at: impl AsFd, path: impl Arg) -> Result<Numbered, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(at, path, flags, Mode::empty()).map(|folder| Numbered { folder })
    }

    /// Appends the numbers that follow; false at the end. Other names are passed over.
    pub(super) fn list(&mut self, numbers: &mut Vec<u32>) -> Result<bool, Errno> {
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut names = RawDir::new(&self.folder, &mut buffer);
        loop {
            let Some(name) = names.next() else { return Ok(false) };
            if let Some(number) = name?.file_name().to_str().ok().and_then(|name| name.parse().ok()) {
                numbers.push(number);
            }
            if names.is_buffer_empty() {
                return Ok(true);
            }
        }
    }

    /// What a descriptor is open for. Only for a folder of descriptors.
    ///
    /// # Errors
    /// EACCES, EPERM: the process may not be looked into. Others: it is gone.
    pub(super) fn descriptor(&self, number: u32) -> Result<Target, Errno> {
        // "socket:[4294967295]" has 19 bytes; what is longer is none.
        let mut buffer = [0; 24];
        match readlinkat_raw(&self.folder, DecInt::new(number), &mut buffer[..]) {
            Ok(length) => Ok(socket(&buffer[..length]).map_or(Target::Other, Target::Socket)),
            Err(Errno::NOENT) => Ok(Target::Closed),
            Err(error) => Err(error),
        }
    }
}

/// What a descriptor is open for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Target {
    /// A socket's inode, which is never 0.
    Socket(u32),
    /// Anything else.
    Other,
    /// Nothing.
    Closed,
}

/// The inode in `socket:[N]`.
fn socket(link: &[u8]) -> Option<u32> {
    let digits = link.strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
    let sound = digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| sound)?.parse().ok().filter(|inode| *inode != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::net::UdpSocket;
    use std::os::fd::AsRawFd;
    use std::os::linux::fs::MetadataExt;

    #[test]
    fn links_of_sockets() {
        assert_eq!(socket(b"socket:[812]"), Some(812));
        assert_eq!(socket(b"socket:[4294967295]"), Some(u32::MAX));
        for other in [
            "",
            "socket:[",
            "socket:[]",
            "socket:[0]",
            "socket:[+1]",
            "socket:[4294967296]",
            "pipe:[3]",
            "/tmp/socket:[3]",
            "socket:[3] (deleted)",
        ] {
            assert_eq!(socket(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn our_own_descriptors() {
        let sockets: Vec<UdpSocket> = (0..300).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        let mut folder = Numbered::open(rustix::fs::CWD, "/proc/self/fd").unwrap();
        let mut listed = Vec::new();
        let mut buffers = 1;
        while folder.list(&mut listed).unwrap() {
            buffers += 1;
        }
        assert!(buffers > 1, "300 names do not fit into one buffer");
        let once: BTreeSet<u32> = listed.iter().copied().collect();
        for socket in &sockets {
            let number = socket.as_raw_fd() as u32;
            assert!(once.contains(&number));
            let link = std::fs::metadata(format!("/proc/self/fd/{number}")).unwrap();
            assert_eq!(folder.descriptor(number), Ok(Target::Socket(link.st_ino() as u32)));
        }
        assert_eq!(folder.descriptor(folder.folder.as_raw_fd() as u32), Ok(Target::Other));
        assert_eq!(folder.descriptor(1_000_000), Ok(Target::Closed));
    }

    proptest! {
        #[test]
        fn an_inode_is_read_back(inode in 1u32.., junk in proptest::collection::vec(any::<u8>(), 0..24)) {
            prop_assert_eq!(socket(format!("socket:[{inode}]").as_bytes()), Some(inode));
            socket(&junk);
        }
    }
}
