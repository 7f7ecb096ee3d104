//! Network namespaces with names, made and unmade as a container runtime does, with sockets in them.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use sockeye_tests::Namespace;

const NAMED: &str = "/run/netns";

/// From here on the calling thread and what it starts see a `/run` of their own, with no named namespace.
pub(crate) fn own_names() {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let none = None::<&Path>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), none).unwrap();
    fs::create_dir(NAMED).unwrap();
}

/// A named namespace; it ends with this value.
pub(crate) struct Cabin {
    path: PathBuf,
    pub(crate) inode: u64,
    listener: TcpListener,
    open: Vec<TcpStream>,
}

impl Cabin {
    /// With a listener and so many connections to it, both ends of each.
    pub(crate) fn new(name: impl AsRef<OsStr>, connections: usize) -> Cabin {
        let path = Path::new(NAMED).join(name.as_ref());
        // A thread of its own: it moves, and ends there.
        let make = || {
            Namespace::new().host_root().enter().unwrap();
            File::create(&path).unwrap();
            let none = None::<&Path>;
            mount(Some("/proc/thread-self/ns/net"), &path, none, MsFlags::MS_BIND, none).unwrap();
            let link = fs::read_link("/proc/thread-self/ns/net").unwrap();
            let listener = TcpListener::bind("127.0.0.1:8080").unwrap();
            let open = (0..connections).flat_map(|_| {
                let client = TcpStream::connect("127.0.0.1:8080").unwrap();
                [client, listener.accept().unwrap().0]
            });
            let open = open.collect();
            let digits: String = link.to_string_lossy().chars().filter(char::is_ascii_digit).collect();
            (digits.parse().unwrap(), listener, open)
        };
        let (inode, listener, open) = thread::scope(|scope| scope.spawn(make).join().unwrap());
        Cabin { path, inode, listener, open }
    }

    /// A connection to its listener, closed by both ends at once.
    pub(crate) fn connect_once(&self) {
        let client = thread::scope(|scope| {
            let there = || {
                nix::sched::setns(File::open(&self.path).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
                TcpStream::connect("127.0.0.1:8080").unwrap()
            };
            scope.spawn(there).join().unwrap()
        });
        drop((client, self.listener.accept().unwrap()));
    }

    /// TCP sockets that are alive.
    pub(crate) fn live(&self) -> u64 {
        self.open.len() as u64
    }
}

impl Drop for Cabin {
    fn drop(&mut self) {
        let gone = umount2(&self.path, MntFlags::MNT_DETACH).is_ok() && fs::remove_file(&self.path).is_ok();
        assert!(gone || thread::panicking(), "{} stays", self.path.display());
    }
}
