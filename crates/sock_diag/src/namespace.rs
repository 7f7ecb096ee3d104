//! Network namespaces: found by name, path or process, and worked in without moving the calling thread.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns};

use crate::error::{Error, Result};

/// An open network namespace. It lives at least as long as this value.
#[derive(Debug)]
pub struct Namespace {
    file: File,
    inode: u64,
    name: Option<String>,
}

/// Why a namespace could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NamespaceError {
    /// Nothing has this name: not a file in /run/netns, not a process, not a path.
    #[error("no network namespace {text:?}: tried {}", tried.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(" and "))]
    Unknown {
        /// What was asked for.
        text: String,
        /// Where it was looked for.
        tried: Vec<PathBuf>,
    },
    /// The file is there and cannot be opened; another user's process needs CAP_SYS_PTRACE.
    #[error("cannot open network namespace {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What opening it answered.
        source: io::Error,
    },
    /// The file is no network namespace.
    #[error("{} is not a network namespace", path.display())]
    NotANamespace {
        /// The file.
        path: PathBuf,
    },
}

/// Where iproute2 keeps named namespaces.
const NAMED: &str = "/run/netns";

/// `NS_GET_NSTYPE` of include/uapi/linux/nsfs.h: `_IO(0xb7, 0x3)`.
const NS_GET_NSTYPE: libc::c_ulong = 0xb703;

impl Namespace {
    /// The namespace someone typed: a path (with a slash), a name as `ip netns` knows it, or a process id.
    ///
    /// # Errors
    /// [`NamespaceError`]. Privileges: reading /proc/PID/ns of another user needs CAP_SYS_PTRACE.
    pub fn find(text: &str) -> Result<Namespace, NamespaceError> {
        if text.contains('/') {
            return Namespace::from_path(Path::new(text));
        }
        let named = Path::new(NAMED).join(text);
        let is_name = !text.is_empty() && text != "." && text != "..";
        if is_name && named.exists() {
            let mut namespace = Namespace::from_path(&named)?;
            namespace.name = Some(text.to_owned());
            return Ok(namespace);
        }
        let mut tried = vec![named];
        if let Ok(pid) = text.parse::<u32>() {
            match Namespace::from_pid(pid) {
                Err(NamespaceError::Unknown { tried: more, .. }) => tried.extend(more),
                result => return result,
            }
        }
        Err(NamespaceError::Unknown { text: text.to_owned(), tried })
    }

    /// The namespace a process is in.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    pub fn from_pid(pid: u32) -> Result<Namespace, NamespaceError> {
        Namespace::from_path(Path::new(&format!("/proc/{pid}/ns/net")))
    }

    /// The namespace behind a file: a bind mount, or /proc/PID/ns/net.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    pub fn from_path(path: &Path) -> Result<Namespace, NamespaceError> {
        // Without O_NONBLOCK, opening a FIFO would wait for its writer.
        let opened = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path);
        let file = opened.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => {
                NamespaceError::Unknown { text: path.display().to_string(), tried: vec![path.to_owned()] }
            }
            _ => NamespaceError::Unreadable { path: path.to_owned(), source },
        })?;
        // SAFETY: NS_GET_NSTYPE takes no argument and only answers with a number; the descriptor is open.
        let kind = unsafe { libc::ioctl(std::os::fd::AsRawFd::as_raw_fd(&file), NS_GET_NSTYPE) };
        if kind != libc::CLONE_NEWNET {
            return Err(NamespaceError::NotANamespace { path: path.to_owned() });
        }
        let inode = file
            .metadata()
            .map_err(|source| NamespaceError::Unreadable { path: path.to_owned(), source })?
            .ino();
        Ok(Namespace { file, inode, name: None })
    }

    /// The calling thread's namespace.
    ///
    /// # Errors
    /// As [`find`](Self::find), when /proc is not there.
    pub fn current() -> Result<Namespace, NamespaceError> {
        Namespace::from_path(Path::new("/proc/thread-self/ns/net"))
    }

    /// Inode of the namespace's file, as `ls -l /proc/PID/ns/net` shows it. May be reused after the namespace ends.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// The name it was found by in /run/netns; None when it was found otherwise.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Moves the calling thread into the namespace, for good: for threads that were started to work in it and do nothing
    /// else. All others take [`run`](Self::run).
    ///
    /// # Errors
    /// [`Error::System`] when it may not enter (CAP_SYS_ADMIN over the namespace); the thread has not moved then.
    pub fn enter(&self) -> Result<()> {
        setns(self.file.as_fd(), CloneFlags::CLONE_NEWNET).map_err(|errno| Error::System {
            operation: "entering the network namespace",
            source: errno.into(),
        })
    }

    /// Runs `work` in the namespace, on a thread of its own that ends with it: the calling thread never moves, even
    /// if `work` panics. Sockets opened by `work` stay in the namespace.
    ///
    /// # Errors
    /// [`Error::System`] when the thread cannot be made or may not enter (CAP_SYS_ADMIN over the namespace).
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let worker = std::thread::Builder::new()
                .name("netns".to_owned())
                .spawn_scoped(scope, || {
                    self.enter()?;
                    Ok(work())
                })
                .map_err(|source| Error::System { operation: "starting a thread", source })?;
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => f.write_str(name),
            None => write!(f, "net:[{}]", self.inode),
        }
    }
}
