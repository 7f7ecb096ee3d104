//! What a look tells of how long a socket has stood: the truth is between its bounds, in every state that it may be stuck in.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

mod look;

use std::cell::RefCell;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, connect, getsockname, listen, setsockopt, socket,
    sockopt,
};
use sock_diag::{DumpRequest, Extensions, Kernel, Protocol, RecvBuffer, SocketRecord, dump, inspect};
use sockeye_core::{Age, Counters, StuckKind, Sweep};
use sockeye_tests::{Namespace, Zoo, ZooSpec, wait_until};

/// The kernel's jiffies, and what it takes from one line of a test to the next.
const SLACK_MS: u64 = 250;

struct Eye {
    kernel: Kernel,
    buffer: RecvBuffer,
}

impl Eye {
    fn open() -> Eye {
        Eye { kernel: Kernel::open().unwrap(), buffer: RecvBuffer::new() }
    }

    fn all(&mut self) -> Vec<SocketRecord> {
        let mut all = Vec::new();
        dump(&mut self.kernel, &DumpRequest::all(Protocol::Tcp), &mut self.buffer, |diag| {
            all.push(diag.to_record());
            ControlFlow::Continue(())
        })
        .unwrap();
        all
    }

    /// The sockets of a kind, with the ages that a lookup of each tells.
    fn ages(&mut self, kind: StuckKind) -> Vec<Age> {
        let mut records = self.all();
        records.retain(|record| StuckKind::of(record) == Some(kind));
        let ages = records.iter().map(|record| {
            let (kernel, buffer) = (&mut self.kernel, &mut self.buffer);
            let told = inspect(kernel, record.family, &record.id, Extensions::INFO, buffer, |diag| {
                Age::of(kind, &diag.to_record(), diag.tcp_info().as_ref(), Some(60_000))
            });
            told.unwrap().flatten().unwrap()
        });
        ages.collect()
    }

    /// The one socket of a kind, when it is there.
    fn wait_for(&mut self, kind: StuckKind) {
        wait_until("the socket in its state", Duration::from_secs(20), || {
            self.all().iter().any(|record| StuckKind::of(record) == Some(kind))
        });
    }
}

/// Nothing is waited for: it is time itself that is told, and so has to go by.
fn let_pass(time: Duration) {
    thread::sleep(time);
}

/// Holds bounds against a time that began between two moments.
fn holds(age: Age, (before, after): (Instant, Instant)) {
    let (least, most) = (after.elapsed().as_millis() as u64, before.elapsed().as_millis() as u64);
    assert!(age.min_ms <= most, "{age:?}, but it is {least} to {most} ms");
    assert!(
        age.max_ms.is_none_or(|max_ms| max_ms + SLACK_MS >= least),
        "{age:?}, but it is {least} to {most} ms"
    );
}

fn pair() -> (TcpListener, TcpStream, TcpStream) {
    let door = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(door.local_addr().unwrap()).unwrap();
    let (server, _) = door.accept().unwrap();
    (door, client, server)
}

#[test]
fn close_wait() {
    Namespace::new().run(|| {
        let mut eye = Eye::open();
        let (door, mut client, mut server) = pair();
        assert_eq!(eye.ages(StuckKind::CloseWait), []);
        let_pass(Duration::from_millis(400));
        server.write_all(b"last words").unwrap();
        client.read_exact(&mut [0; 10]).unwrap();
        let_pass(Duration::from_millis(600));
        let before = Instant::now();
        server.shutdown(Shutdown::Write).unwrap();
        let begun = (before, Instant::now());
        eye.wait_for(StuckKind::CloseWait);
        for _ in 0..5 {
            let_pass(Duration::from_millis(300));
            let [age] = eye.ages(StuckKind::CloseWait)[..] else { panic!("one socket") };
            holds(age, begun);
            // The silence began with the FIN, the drought with the last words.
            let truth = begun.0.elapsed().as_millis() as u64;
            assert!(age.min_ms + SLACK_MS >= truth, "{age:?} of {truth}");
            assert!(age.max_ms.unwrap() >= truth + 400, "{age:?} of {truth}");
        }
        // Who still sends is answered, and is not stuck.
        client.write_all(b"more").unwrap();
        server.read_exact(&mut [0; 4]).unwrap();
        let_pass(Duration::from_millis(100));
        let [age] = eye.ages(StuckKind::CloseWait)[..] else { panic!("one socket") };
        assert!(age.min_ms <= 1_000, "{age:?}");
        drop((door, client, server));
    });
}

/// A socket that does not wait, connected to nobody yet.
fn quiet() -> OwnedFd {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    socket(AddressFamily::Inet, SockType::Stream, flags, None).unwrap()
}

#[test]
fn syn_sent() {
    Namespace::new().run(|| {
        let mut eye = Eye::open();
        // A listener with a full queue drops what comes.
        let door = quiet();
        listen(&door, Backlog::new(0).unwrap()).unwrap();
        let place = getsockname::<SockaddrIn>(door.as_raw_fd()).unwrap();
        let place =
            SockaddrIn::from(std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, place.port()));
        let before = Instant::now();
        let clients: Vec<OwnedFd> = (0..3)
            .map(|_| {
                let client = quiet();
                assert_eq!(connect(client.as_raw_fd(), &place), Err(Errno::EINPROGRESS));
                client
            })
            .collect();
        let begun = (before, Instant::now());
        // Equal timeouts first, then doubled ones: within 8 s there are both.
        while begun.0.elapsed() < Duration::from_secs(8) {
            let ages = eye.ages(StuckKind::SynSent);
            assert!(!ages.is_empty());
            for age in ages {
                holds(age, begun);
                let truth = begun.0.elapsed().as_millis() as u64;
                assert!(age.min_ms + SLACK_MS >= truth, "{age:?} of {truth}");
            }
            let_pass(Duration::from_millis(250));
        }
        drop((door, clients));
    });
}

#[test]
fn orphans() {
    Namespace::new().run(|| {
        let mut eye = Eye::open();
        let (door, mut client, server) = pair();
        setsockopt(&server, sockopt::RcvBuf, &4_096).unwrap();
        client.set_nonblocking(true).unwrap();
        let before = Instant::now();
        loop {
            match client.write(&[0; 65_536]) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        drop(client);
        let begun = (before, Instant::now());
        eye.wait_for(StuckKind::Orphan);
        let mut last = 0;
        while last < 3_000 {
            let [age] = eye.ages(StuckKind::Orphan)[..] else { panic!("one socket") };
            holds(age, begun);
            last = age.min_ms;
            assert!(begun.0.elapsed() < Duration::from_secs(30), "its age does not grow: {age:?}");
            let_pass(Duration::from_millis(200));
        }
        // The peer goes, and so does the orphan.
        drop((door, server));
        wait_until("its end", Duration::from_secs(20), || eye.ages(StuckKind::Orphan).is_empty());
    });
}

#[test]
fn orphans_in_fin_wait2() {
    Namespace::new().run(|| {
        let mut eye = Eye::open();
        let (door, client, server) = pair();
        // Shut down first, it is still somebody's.
        server.shutdown(Shutdown::Write).unwrap();
        wait_until("FIN_WAIT2", Duration::from_secs(20), || {
            eye.all().iter().any(|record| record.state == sock_diag::SocketState::FinWait2)
        });
        assert_eq!(eye.ages(StuckKind::OrphanFinWait2), []);
        let before = Instant::now();
        drop(server);
        let begun = (before, Instant::now());
        eye.wait_for(StuckKind::OrphanFinWait2);
        for _ in 0..5 {
            let_pass(Duration::from_millis(300));
            // A mini socket has no tcp_info; its record tells.
            let record =
                eye.all().into_iter().find(|one| StuckKind::of(one) == Some(StuckKind::OrphanFinWait2));
            let age = Age::of(StuckKind::OrphanFinWait2, &record.unwrap(), None, Some(60_000)).unwrap();
            let truth = begun.0.elapsed().as_millis() as u64;
            assert!(age.min_ms <= truth + SLACK_MS && age.min_ms + SLACK_MS >= truth, "{age:?} of {truth}");
        }
        drop((door, client));
    });
}

#[test]
fn nothing_in_a_zoo_is_older_than_the_zoo() {
    Namespace::new().run(|| {
        let before = Instant::now();
        let zoo = Zoo::open(&ZooSpec::default()).unwrap();
        let mut eye = Eye::open();
        let mut sweep = Sweep::new(&look::settings());
        eye.all().iter().for_each(|record| sweep.observe(record));
        let report = sweep.finish(&Counters::default());
        for kind in
            [StuckKind::CloseWait, StuckKind::SynSent, StuckKind::OrphanFinWait2, StuckKind::BoundIdle]
        {
            assert!(report.stuck.of(kind).sockets > 0, "a zoo has {kind:?}");
        }
        let (kernel, buffer) = (RefCell::new(&mut eye.kernel), RefCell::new(&mut eye.buffer));
        let found = report.stuck_by(|kind, record| {
            let (kernel, buffer) = (&mut *kernel.borrow_mut(), &mut *buffer.borrow_mut());
            let told = inspect(*kernel, record.family, &record.id, Extensions::INFO, buffer, |diag| {
                Age::of(kind, &diag.to_record(), diag.tcp_info().as_ref(), Some(60_000))
            });
            let age = told.unwrap().flatten().or_else(|| Age::of(kind, record, None, Some(60_000)));
            let most = before.elapsed().as_millis() as u64;
            assert!(age.is_none_or(|age| age.min_ms <= most + SLACK_MS), "{kind:?} {age:?} after {most} ms");
            age
        });
        // On a machine that took seconds for it, there is something to tell.
        let is_long = |kind: StuckKind| before.elapsed().as_millis() as u64 > kind.long_ms();
        assert!(found.iter().all(|found| is_long(found.stuck.kind)), "{found:?}");
        drop(zoo);
    });
}

#[test]
fn what_is_well_is_of_no_kind() {
    Namespace::new().run(|| {
        let mut eye = Eye::open();
        let pairs: Vec<_> = (0..10).map(|_| pair()).collect();
        let all = eye.all();
        assert_eq!(all.len(), 30);
        assert!(all.iter().all(|record| StuckKind::of(record).is_none()), "listeners and connections");
        drop(pairs);
    });
}
