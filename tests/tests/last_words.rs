//! What the destroy event of a TCP socket tells of the life that ended: its age, whether it ever was a connection.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::socket::{SockType, setsockopt, sockopt};
use sock_diag::{DestroyEvents, Event, EventGroups, RecvBuffer, SocketRecord};
use sockeye_core::TcpEnd;
use sockeye_tests::{Namespace, wait_until};

/// What a test lets a connection live: long beside the kernel's jiffies and a busy machine's delays.
const WHILE: Duration = Duration::from_millis(300);

struct Scene {
    events: DestroyEvents,
    buffer: RecvBuffer,
    listener: TcpListener,
    told: Vec<(SocketRecord, TcpEnd)>,
}

/// A connection, both ends, and when it was made.
struct Pair {
    client: TcpStream,
    server: TcpStream,
    before: Instant,
    after: Instant,
}

impl Scene {
    fn new() -> Scene {
        Scene {
            events: DestroyEvents::open(EventGroups::TCP, 1 << 20).unwrap(),
            buffer: RecvBuffer::new(),
            listener: TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(),
            told: Vec::new(),
        }
    }

    fn pair(&self) -> Pair {
        let before = Instant::now();
        let client = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        let (server, _) = self.listener.accept().unwrap();
        Pair { client, server, before, after: Instant::now() }
    }

    /// The destroyed socket that `wanted` picks, told before or still to be told; the others stay for later.
    fn end_of(&mut self, wanted: impl Fn(&SocketRecord) -> bool) -> (SocketRecord, TcpEnd) {
        let mut found = None;
        wait_until("a destroy event", Duration::from_secs(10), || {
            found = self.told.iter().position(|(record, _)| wanted(record));
            if found.is_none() {
                self.read();
            }
            found.is_some()
        });
        self.told.remove(found.unwrap())
    }

    fn read(&mut self) {
        let told = &mut self.told;
        let read = self.events.read(Some(Duration::from_millis(50)), &mut self.buffer, |event| {
            let Event::Destroyed(diag) = event else { panic!("an event was lost") };
            told.push((diag.to_record(), TcpEnd::of(&diag.tcp_info().unwrap())));
        });
        read.unwrap();
    }
}

/// `age` of a connection that ended between `pair` and now.
#[track_caller]
fn assert_is_age(age: Option<u64>, before: Instant, after: Instant, end_before: Instant) {
    let age = Duration::from_millis(age.unwrap());
    // Jiffies: 10 ms at the coarsest, at both ends.
    let slack = Duration::from_millis(20);
    let (least, most) = (end_before - after, before.elapsed());
    assert!(age + slack >= least && age <= most + slack, "{age:?} is not within {least:?}–{most:?}");
}

#[test]
fn a_connection_that_sent_in_one_direction_tells_its_exact_age() {
    Namespace::new().run(|| {
        let mut scene = Scene::new();
        for data in [false, true] {
            let Pair { mut client, mut server, before, after } = scene.pair();
            sleep(WHILE);
            if data {
                client.write_all(b"x").unwrap();
                server.read_exact(&mut [0]).unwrap();
                sleep(WHILE);
            }
            let from = client.local_addr().unwrap();
            let end_before = Instant::now();
            drop(client);
            drop(server);
            for is_client in [true, false] {
                let (_, end) = scene.end_of(|record| {
                    let port = if is_client { record.id.local_port } else { record.id.remote_port };
                    port == from.port()
                });
                assert_eq!((end.age_is_exact, end.established), (true, Some(true)), "{end:?}");
                assert_is_age(end.min_age_ms, before, after, end_before);
            }
        }
    });
}

#[test]
fn a_conversation_tells_a_lower_bound_of_its_age() {
    Namespace::new().run(|| {
        let mut scene = Scene::new();
        let Pair { mut client, mut server, before, .. } = scene.pair();
        sleep(WHILE);
        client.write_all(b"x").unwrap();
        server.read_exact(&mut [0]).unwrap();
        server.write_all(b"y").unwrap();
        client.read_exact(&mut [0]).unwrap();
        sleep(WHILE);
        let from = client.local_addr().unwrap();
        drop(client);
        let (_, end) = scene.end_of(|record| record.id.local_port == from.port());
        assert!(!end.age_is_exact);
        let age = Duration::from_millis(end.min_age_ms.unwrap());
        assert!(age + Duration::from_millis(20) >= WHILE && age < before.elapsed() - WHILE / 2, "{age:?}");
    });
}

#[test]
fn a_socket_that_is_held_after_its_end_is_told_when_it_is_let_go() {
    Namespace::new().run(|| {
        let mut scene = Scene::new();
        let Pair { client, server, before, after } = scene.pair();
        let from = client.local_addr().unwrap();
        client.shutdown(Shutdown::Both).unwrap();
        server.shutdown(Shutdown::Both).unwrap();
        sleep(WHILE);
        let end_before = Instant::now();
        drop(client);
        let (record, end) = scene.end_of(|record| record.id.local_port == from.port());
        assert_eq!(record.id.remote_port, scene.listener.local_addr().unwrap().port(), "its ends are told");
        assert_is_age(end.min_age_ms, before, after, end_before);
    });
}

#[test]
fn a_refused_attempt_is_told_apart_from_a_socket_that_never_tried() {
    Namespace::new().run(|| {
        let mut scene = Scene::new();
        let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        scene.end_of(|record| record.id.local_port == nobody.port());
        TcpStream::connect(nobody).unwrap_err();
        // connect() that fails disconnects: the port it had and the address it tried remain, the rest is forgotten.
        let (refused, end) = scene.end_of(|_| true);
        assert_ne!(refused.id.local_port, 0);
        assert_eq!(SocketAddr::new(refused.id.remote_address, 0), SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        assert!(refused.id.local_address.is_unspecified() && refused.id.remote_port == 0, "{refused:?}");
        assert_eq!((end.segments_out, end.established), (Some(0), Some(false)));

        let idle = nix::sys::socket::socket(
            nix::sys::socket::AddressFamily::Inet,
            SockType::Stream,
            nix::sys::socket::SockFlag::SOCK_CLOEXEC,
            None,
        )
        .unwrap();
        setsockopt(&idle, sockopt::ReuseAddr, &true).unwrap();
        drop(idle);
        let (idle, end) = scene.end_of(|_| true);
        assert!(idle.id.remote_address.is_unspecified() && idle.id.local_port == 0, "{idle:?}");
        assert_eq!((end.segments_out, end.established), (Some(0), Some(false)));
    });
}

#[test]
fn a_reset_from_here_leaves_when_data_was_last_sent() {
    Namespace::new().run(|| {
        let mut scene = Scene::new();
        let Pair { mut client, server, before, after } = scene.pair();
        sleep(WHILE);
        let (from, sent) = (client.local_addr().unwrap(), Instant::now());
        client.write_all(b"x").unwrap();
        sleep(WHILE);
        setsockopt(&client, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 }).unwrap();
        drop(client);
        let (record, end) = scene.end_of(|record| record.id.local_port == from.port());
        assert!(record.id.local_address.is_unspecified() && record.id.remote_port == 0, "{record:?}");
        assert!(record.id.remote_address.is_loopback(), "where it went is left: {record:?}");
        assert_eq!((end.is_reset, end.established, end.age_is_exact), (true, Some(true), false), "{end:?}");
        assert_is_age(end.min_age_ms, sent, sent + WHILE / 2, sent + WHILE);
        // Whom it was done to keeps all of it.
        drop(server);
        let (record, end) = scene.end_of(|record| record.id.remote_port == from.port());
        assert_eq!((record.id.remote_address, end.is_reset), (from.ip(), false));
        assert!(before <= after && end.received_bytes == Some(1), "{end:?}");
    });
}

#[test]
fn what_is_in_time_wait_was_last_heard_when_that_began() {
    Namespace::new().run(|| {
        let mut scene = Scene::new();
        let Pair { client, server, .. } = scene.pair();
        let from = client.local_addr().unwrap();
        sleep(WHILE);
        let before = Instant::now();
        client.shutdown(Shutdown::Both).unwrap();
        server.shutdown(Shutdown::Both).unwrap();
        let after = Instant::now();
        sleep(WHILE);
        let end_before = Instant::now();
        drop(client);
        let (_, end) = scene.end_of(|record| record.id.local_port == from.port());
        assert_is_age(end.heard_ms, before, after, end_before);
    });
}
