//! Who connects, as the tracepoint tells it, against connections that the test makes itself and lets go at once.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::Duration;

use sockeye_tests::{Namespace, wait_until};
use sockeye_trace::{Connects, ConnectsError};

/// Listens; where that is not permitted, makes sure that it is said why.
fn listen() -> Option<Connects> {
    match Connects::listen() {
        Ok(connects) => Some(connects),
        Err(error) => {
            let is_root = nix::unistd::Uid::effective().is_root()
                && fs::read_to_string("/proc/self/uid_map").unwrap().contains("4294967295");
            assert!(!is_root, "the host's root may listen: {error}");
            assert!(matches!(error, ConnectsError::Denied(_)), "{error}");
            eprintln!("not the host's root here; tried instead that it is said: {error}");
            None
        }
    }
}

fn own_netns() -> u64 {
    fs::metadata("/proc/self/ns/net").unwrap().ino()
}

fn doors() -> Vec<TcpListener> {
    ["127.0.0.1:0", "[::1]:0"].map(|place| TcpListener::bind(place).unwrap()).into()
}

/// Both ends, as the connecting side sees them.
fn brief(door: &TcpListener) -> (SocketAddr, SocketAddr) {
    let stream = TcpStream::connect(door.local_addr().unwrap()).unwrap();
    let ends = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
    drop((stream, door.accept().unwrap()));
    ends
}

#[test]
fn every_connect_is_known_by_its_process_although_it_is_gone() {
    Namespace::new().host_root().run(|| {
        let Some(connects) = listen() else { return };
        let netns = own_netns();
        for door in doors() {
            let mut made: Vec<_> = (0..500).map(|_| brief(&door)).collect();
            // Another thread is the same process.
            made.extend(std::thread::scope(|scope| {
                scope.spawn(|| (0..20).map(|_| brief(&door)).collect::<Vec<_>>()).join().unwrap()
            }));
            connects.catch_up();
            for (local, remote) in made {
                let who = connects.connector(netns, local, remote).map(|maker| maker.pid);
                // Other tests' loads use the same rings: what is lost is counted.
                assert!(
                    who == Some(std::process::id()) || connects.lost() > 0,
                    "{local} → {remote}: {who:?}"
                );
                // Accepting is not connecting, and other namespaces have the same addresses.
                assert_eq!(connects.connector(netns, remote, local), None);
                assert_eq!(connects.connector(netns + 1, local, remote), None);
            }
        }
    });
}

#[test]
fn processes_that_are_gone_have_left_their_names() {
    Namespace::new().host_root().run(|| {
        let Some(connects) = listen() else { return };
        let door = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = door.local_addr().unwrap().port();
        for _ in 0..20 {
            let mut child = Command::new("bash")
                .args(["-c", &format!("exec 3<>/dev/tcp/127.0.0.1/{port}")])
                .spawn()
                .unwrap();
            let (_, local) = door.accept().unwrap();
            assert!(child.wait().unwrap().success());
            connects.catch_up();
            let maker = connects.connector(own_netns(), local, door.local_addr().unwrap()).unwrap();
            let heard = connects.heard_of(maker).unwrap();
            assert_eq!((maker.pid, heard.name.unwrap()), (child.id(), b"bash".to_vec()));
            assert!(heard.has_ended);
        }
    });
}

#[test]
fn what_was_asked_for_is_forgotten() {
    Namespace::new().host_root().run(|| {
        let Some(connects) = listen() else { return };
        let door = TcpListener::bind("127.0.0.1:0").unwrap();
        let netns = own_netns();
        let (local, remote) = brief(&door);
        connects.catch_up();
        connects.forget_old();
        assert!(
            connects.connector(netns, local, remote).is_some(),
            "there is a sweep in which it may be met"
        );
        connects.forget_old();
        assert_eq!(connects.connector(netns, local, remote), None);
    });
}

#[test]
fn what_never_came_about_leaves_nothing() {
    Namespace::new().host_root().run(|| {
        let Some(connects) = listen() else { return };
        let door = TcpListener::bind("127.0.0.1:0").unwrap();
        let closed = door.local_addr().unwrap();
        drop(door);
        TcpStream::connect(closed).unwrap_err();
        // The next one with the same ends is another's.
        let door = TcpListener::bind(closed).unwrap();
        let (local, remote) = brief(&door);
        connects.catch_up();
        assert_eq!(connects.connector(own_netns(), local, remote).unwrap().pid, std::process::id());
    });
}

#[test]
fn it_needs_privilege_and_says_which() {
    Namespace::new().without_privilege().run(|| {
        let error = Connects::listen().unwrap_err();
        assert!(matches!(error, ConnectsError::Denied(_)), "{error}");
        assert!(error.to_string().contains("CAP_PERFMON"), "{error}");
    });
}

#[test]
fn who_resets_is_known_by_what_is_left() {
    Namespace::new().host_root().run(|| {
        let Some(connects) = listen() else { return };
        let door = TcpListener::bind("127.0.0.1:0").unwrap();
        let (local, remote) = brief(&door);
        connects.catch_up();
        let left = |end: SocketAddr, port| SocketAddr::new(end.ip(), port);
        let nowhere = SocketAddr::from(([0; 4], local.port()));
        assert_eq!(
            connects.connector(own_netns(), nowhere, left(remote, 0)).unwrap().pid,
            std::process::id()
        );
    });
}

#[test]
fn rings_are_drained_before_they_are_full() {
    Namespace::new().host_root().sysctl("net.ipv4.ip_local_port_range", "2000 60000").run(|| {
        let Some(connects) = listen() else { return };
        let (door, netns) = (TcpListener::bind("127.0.0.1:0").unwrap(), own_netns());
        let (local, remote) = brief(&door);
        // Each takes some two hundred bytes; a quarter of half a MiB wakes whoever drains.
        wait_until("a ring to be drained", Duration::from_secs(60), || {
            for _ in 0..100 {
                brief(&door);
            }
            connects.connector(netns, local, remote).is_some()
        });
    });
}
