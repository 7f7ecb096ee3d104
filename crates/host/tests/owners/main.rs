//! Owners found in hosts made of folders and links, and on the real one.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fake_host;
mod memory;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::num::NonZeroU32;
use std::os::fd::{AsFd, AsRawFd};
use std::os::linux::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use proptest::prelude::*;
use sock_diag::Cookie;
use sockeye_host::owners::{OwnerFiles, Owners, Work};

use fake_host::FakeHost;

const NO_TIME: Duration = Duration::ZERO;
const AGES: Duration = Duration::from_secs(60);

/// Wants the owner of a socket, whose cookie is its inode.
fn want(owners: &mut Owners, inode: u32, uid: u32, cgroup_id: Option<u64>) {
    owners.want(Cookie(u64::from(inode)), inode, uid, cgroup_id);
}

/// What was answered, by inode.
fn told(owners: &mut Owners) -> Vec<(u32, Option<NonZeroU32>)> {
    owners.answers().into_iter().map(|(cookie, id)| (cookie.0 as u32, id)).collect()
}

/// Works to the end and tells the answers by pid.
fn answers(owners: &mut Owners) -> BTreeMap<u32, Option<u32>> {
    let work = owners.work(AGES);
    assert_eq!(work.left, 0);
    let answers = told(owners);
    let by_inode: BTreeMap<u32, Option<u32>> =
        answers.iter().map(|(inode, id)| (*inode, id.map(|id| owners.owner(id).unwrap().pid))).collect();
    assert_eq!(by_inode.len(), answers.len(), "each is answered once");
    by_inode
}

/// How many steps of no time it takes to the end.
fn steps(owners: &mut Owners) -> usize {
    let mut steps = 1;
    while owners.work(NO_TIME).left > 0 {
        steps += 1;
        assert!(steps < 1_000_000, "no end");
    }
    steps
}

#[test]
fn an_owner_has_all_its_names() {
    let host = FakeHost::new();
    let cgroup = host.process(812, "nginx", 4711, "/system.slice/nginx.service");
    host.open(812, 0, "/dev/null");
    host.socket(812, 6, 90_001);
    let mut owners = host.owners();
    want(&mut owners, 90_001, 33, Some(cgroup));
    assert_eq!(owners.of(90_001), None);
    assert_eq!(answers(&mut owners), [(90_001, Some(812))].into());
    let id = owners.of(90_001).unwrap();
    let owner = owners.owner(id).unwrap();
    assert_eq!((owner.pid, owner.start_time, owner.uid), (812, 4711, 33));
    assert_eq!(owner.name.to_string(), "nginx");
    assert_eq!(owner.command.to_string(), "/usr/sbin/nginx -g daemon off;");
    assert_eq!(owner.user.as_ref().unwrap().to_string(), "www-data");
    assert_eq!(owner.cgroup.as_ref().unwrap().to_string(), "/system.slice/nginx.service");
    assert_eq!(owner.place.unit.as_ref().unwrap().to_string(), "nginx.service");
    assert_eq!(owners.cgroup(cgroup).unwrap().to_string(), "/system.slice/nginx.service");
    assert_eq!(owners.holders(90_001), [(id, 6)]);
    assert!(owners.answers().is_empty(), "an answer is told once");
}

#[test]
fn hostile_names_stay_what_they_are_and_are_shown_harmlessly() {
    let host = FakeHost::new();
    let name = b") \x1b[2J\"\n(\xff'";
    let cgroup = host.process(7, name, 1, "/user.slice/\u{1b}]0;x\u{7}.scope");
    host.socket(7, 3, 1);
    let mut owners = host.owners();
    want(&mut owners, 1, 0, Some(cgroup));
    answers(&mut owners);
    let owner = owners.owner(owners.of(1).unwrap()).unwrap();
    assert_eq!(owner.name.as_bytes(), name);
    let shown = format!("{} {} {}", owner.name, owner.command, owner.cgroup.as_ref().unwrap());
    assert!(!shown.contains(|c: char| c.is_control()), "{shown:?}");
    assert_eq!(owner.name.to_string(), ") \\u{1b}[2J\\\"\\n(\\xff\\'");
    assert_eq!(owner.place.unit.as_ref().unwrap().to_string(), "\\u{1b}]0;x\\u{7}.scope");
}

#[test]
fn a_socket_of_nobody_is_sought_once() {
    let host = FakeHost::new();
    let cgroup = host.process(10, "a", 1, "/a.service");
    host.socket(10, 3, 100);
    let mut owners = host.owners();
    want(&mut owners, 100, 0, Some(cgroup));
    want(&mut owners, 999, 0, Some(cgroup));
    want(&mut owners, 998, 4242, Some(77));
    want(&mut owners, 0, 0, None);
    assert_eq!(answers(&mut owners), [(100, Some(10)), (998, None), (999, None)].into());
    want(&mut owners, 999, 0, Some(cgroup));
    assert_eq!(owners.work(NO_TIME).left, 0, "not sought again");
    // A new one makes the search begin again, and finds what has come.
    host.socket(10, 4, 101);
    want(&mut owners, 101, 0, Some(cgroup));
    assert_eq!(answers(&mut owners), [(101, Some(10))].into());
}

#[test]
fn what_is_known_costs_nothing() {
    let host = FakeHost::new();
    let cgroup = host.process(10, "a", 1, "/a.service");
    for inode in 1..=500 {
        host.socket(10, inode + 2, inode);
    }
    let mut owners = host.owners();
    want(&mut owners, 1, 0, Some(cgroup));
    answers(&mut owners);
    owners.read_everyone();
    assert_eq!(owners.known_sockets(), 500);
    for inode in 2..=500 {
        want(&mut owners, inode, 0, Some(cgroup));
    }
    assert_eq!(owners.answers().len(), 499, "at once");
}

#[test]
fn a_large_process_is_read_in_slices() {
    let host = FakeHost::new();
    let cgroup = host.process(10, "a", 1, "/a.service");
    for inode in 1..=3000 {
        host.socket(10, inode + 2, inode);
    }
    let mut owners = host.owners();
    for inode in 1..=3000 {
        want(&mut owners, inode, 0, Some(cgroup));
    }
    let steps = steps(&mut owners);
    assert!((3000 / 16..400).contains(&steps), "{steps} steps");
    assert_eq!(owners.answers().len(), 3000);
}

#[test]
fn new_sockets_in_old_numbers_cost_what_has_changed() {
    let host = FakeHost::new();
    let cgroup = host.process(10, "a", 1, "/a.service");
    for inode in 1..=5000 {
        host.socket(10, inode + 2, inode);
    }
    let mut owners = host.owners();
    for inode in 1..=5000 {
        want(&mut owners, inode, 0, Some(cgroup));
    }
    answers(&mut owners);
    // Ten are closed, five of their numbers given out again, and three new ones.
    for inode in 100..110 {
        owners.gone(inode);
        host.close(10, inode + 2);
    }
    for (descriptor, inode) in (102..107).chain(5003..5006).zip(6001..) {
        host.socket(10, descriptor, inode);
        want(&mut owners, inode, 0, Some(cgroup));
    }
    let few = steps(&mut owners);
    assert!(few < 12, "{few} steps");
    assert_eq!(answers(&mut owners), (6001..6009).map(|inode| (inode, Some(10))).collect());
    assert_eq!((owners.of(100), owners.of(99).is_some()), (None, true));

    // Nobody told that this one is gone: it takes another look at them all.
    host.socket(10, 2002, 7001);
    want(&mut owners, 7001, 0, Some(cgroup));
    let many = steps(&mut owners);
    assert!(many > 100, "{many} steps");
    assert_eq!(answers(&mut owners), [(7001, Some(10))].into());
    assert_eq!(owners.of(2000), None, "its number is another's now");
}

#[test]
fn sockets_that_nobody_asked_for_are_not_taken_for_living_ones() {
    let host = FakeHost::new();
    let cgroup = host.process(10, "a", 1, "/a.service");
    for inode in 1..=1000 {
        host.socket(10, inode + 2, inode);
    }
    let mut owners = host.owners();
    for inode in 1..=1000 {
        want(&mut owners, inode, 0, Some(cgroup));
    }
    answers(&mut owners);
    // Between two sweeps a socket comes and goes that no sweep sees, and another one takes its number.
    for pair in 0..5 {
        let (unseen, seen) = (5000 + 2 * pair, 5001 + 2 * pair);
        host.socket(10, 1003, unseen);
        host.socket(10, 1004, seen);
        want(&mut owners, seen, 0, Some(cgroup));
        let few = steps(&mut owners);
        assert!(few < 8, "{few} steps");
        assert_eq!(answers(&mut owners), [(seen, Some(10))].into());
        assert!(owners.of(unseen).is_some());
        owners.gone(seen);
        host.close(10, 1003);
        host.close(10, 1004);
    }
}

#[test]
fn a_glance_sees_what_was_opened_just_now() {
    let host = FakeHost::new();
    let proxy = host.process(10, "proxy", 1, "/proxy.service");
    let other = host.process(11, "other", 1, "/other.service");
    for (pid, first) in [(10, 100), (11, 200)] {
        for number in 0..3 {
            host.open(pid, number, "/dev/null");
        }
        for number in 0..50 {
            host.socket(pid, 3 + number, first + number);
        }
    }
    let mut owners = host.owners();
    assert_eq!(owners.glance(999, 33, Some(proxy)), None, "nobody is known yet");
    for number in 0..50 {
        want(&mut owners, 100 + number, 33, Some(proxy));
        want(&mut owners, 200 + number, 34, Some(other));
    }
    answers(&mut owners);
    let pid = |owners: &Owners, id: Option<_>| id.map(|id| owners.owner(id).unwrap().pid);

    for inode in 1000..1100 {
        host.socket(10, 53, inode);
        let seen = owners.glance(inode, 33, Some(proxy));
        assert_eq!(pid(&owners, seen), Some(10));
        owners.gone(inode);
        owners.work(NO_TIME);
    }
    host.close(10, 53);
    // One that is sought is found by a glance for another one.
    host.socket(10, 54, 2000);
    want(&mut owners, 2000, 33, Some(proxy));
    host.socket(10, 55, 2001);
    let seen = owners.glance(2001, 33, Some(proxy));
    assert_eq!(pid(&owners, seen), Some(10));
    let seen = owners.glance(2000, 33, Some(proxy));
    assert_eq!(pid(&owners, seen), Some(10));
    assert_eq!(owners.answers().len(), 1, "the one that was wanted");
    assert_eq!(owners.work(NO_TIME).left, 0);

    // Far from the lowest numbers nothing is seen, nor in processes of another cgroup and user.
    host.socket(10, 90, 2002);
    host.socket(11, 53, 2003);
    assert_eq!(owners.glance(2002, 33, Some(proxy)), None);
    assert_eq!(owners.glance(2003, 35, Some(77)), None);
    assert_eq!(pid(&owners, owners.of(2003)), None);
    want(&mut owners, 2002, 33, Some(proxy));
    want(&mut owners, 2003, 34, Some(other));
    assert_eq!(answers(&mut owners), [(2002, Some(10)), (2003, Some(11))].into());
}

#[test]
fn a_wish_does_not_wait_behind_a_hopeless_one() {
    let host = FakeHost::new();
    let mut cgroup = 0;
    for pid in 10..60 {
        cgroup = host.process(pid, "big", 1, "/big.service");
        for descriptor in 0..100 {
            host.socket(pid, descriptor, pid * 1000 + descriptor);
        }
    }
    let quiet = host.process(100, "quiet", 1, "/quiet.service");
    host.socket(100, 6, 100_001);
    let mut owners = host.owners();
    want(&mut owners, 10_000, 0, Some(cgroup));
    want(&mut owners, 100_001, 7, Some(quiet));
    answers(&mut owners);
    want(&mut owners, 1, host.uid(), Some(cgroup));
    for _ in 0..100 {
        assert_eq!(owners.work(NO_TIME).left, 1, "the search for nobody takes long");
    }
    host.socket(100, 7, 100_002);
    want(&mut owners, 100_002, 7, Some(quiet));
    let mut steps = 0;
    while owners.of(100_002).is_none() {
        owners.work(NO_TIME);
        steps += 1;
        assert!(steps < 30, "{steps}");
    }
    assert_eq!(owners.work(NO_TIME).left, 1);
    // And who stops wishing for it stops its cost.
    owners.gone(1);
    assert_eq!(owners.work(NO_TIME).left, 0);
    assert!(!told(&mut owners).iter().any(|(inode, _)| *inode == 1));
}

#[test]
fn processes_come_and_go_and_numbers_are_given_out_again() {
    let host = FakeHost::new();
    let cgroup = host.process(10, "first", 100, "/a.service");
    host.socket(10, 3, 1);
    let mut owners = host.owners();
    want(&mut owners, 1, 0, Some(cgroup));
    answers(&mut owners);
    let first = owners.of(1).unwrap();

    host.end(10);
    fs::write(host.root.path().join("cgroup/a.service/cgroup.procs"), "").unwrap();
    host.process(10, "second", 200, "/a.service");
    host.socket(10, 3, 2);
    want(&mut owners, 2, 0, Some(cgroup));
    assert_eq!(answers(&mut owners), [(2, Some(10))].into());
    let second = owners.of(2).unwrap();
    assert_ne!(first, second, "another process of the same number");
    assert_eq!(owners.of(1), None, "its process is gone");
    assert_eq!(owners.owner(first).unwrap().name.to_string(), "first", "and still known");

    owners.forget(|id| id == first);
    assert!(owners.owner(first).is_some());
    owners.forget(|_| false);
    assert!(owners.owner(first).is_none());
    assert!(owners.owner(second).is_some(), "it lives");

    // Gone without anybody after it: the next search finds that out.
    host.end(10);
    let other = host.process(11, "third", 300, "/b.service");
    host.socket(11, 3, 3);
    want(&mut owners, 3, 0, Some(other));
    want(&mut owners, 4, 0, None);
    assert_eq!(answers(&mut owners), [(3, Some(11)), (4, None)].into());
    assert_eq!(owners.of(2), None);
}

#[test]
fn a_process_that_calls_itself_something_else() {
    let host = FakeHost::new();
    let cgroup = host.process(10, "sh", 100, "/a.service");
    host.socket(10, 3, 1);
    let mut owners = host.owners();
    want(&mut owners, 1, 0, Some(cgroup));
    answers(&mut owners);
    let id = owners.of(1).unwrap();
    host.process(10, "nginx", 100, "/a.service");
    host.socket(10, 4, 2);
    want(&mut owners, 2, 0, Some(cgroup));
    answers(&mut owners);
    assert_eq!(owners.of(2), Some(id));
    let owner = owners.owner(id).unwrap();
    assert_eq!(
        (owner.name.to_string(), owner.command.to_string()),
        ("nginx".into(), "/usr/sbin/nginx -g daemon off;".into())
    );
}

#[test]
fn of_several_holders_the_first_to_begin_owns() {
    let host = FakeHost::new();
    // systemd opens the listener; the master, with a higher pid than its worker, has it from there.
    host.process(1, "systemd", 1, "/init.scope");
    host.process(20, "worker", 900, "/nginx.service");
    let cgroup = host.process(30, "master", 800, "/nginx.service");
    host.process(40, "systemd", 700, "/user.slice/user-1000.slice/user@1000.service/init.scope");
    for (pid, descriptor) in [(1, 50), (20, 6), (30, 6), (30, 9), (40, 5)] {
        host.socket(pid, descriptor, 555);
    }
    host.socket(1, 51, 556);
    let mut owners = host.owners();
    owners.read_everyone();
    let pid = |id| owners.owner(id).unwrap().pid;
    assert_eq!(owners.of(555).map(pid), Some(30));
    let holders: Vec<_> = owners.holders(555).into_iter().map(|(id, fd)| (pid(id), fd)).collect();
    assert_eq!(holders, [(1, 50), (20, 6), (30, 6), (30, 9), (40, 5)]);
    assert_eq!(owners.of(556).map(pid), Some(1), "alone it owns");

    // When the master has ended the worker owns it.
    host.end(30);
    want(&mut owners, 9, host.uid(), Some(cgroup));
    answers(&mut owners);
    assert_eq!(owners.of(555).map(|id| owners.owner(id).unwrap().pid), Some(20));
}

#[test]
fn who_may_not_be_looked_into_is_counted() {
    let host = FakeHost::new();
    let cgroup = host.process(10, "mine", 1, "/a.service");
    host.process(11, "theirs", 1, "/a.service");
    host.socket(10, 3, 1);
    host.socket(11, 3, 2);
    let folder = host.proc(11).join("fd");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o000)).unwrap();
    // Of this thread only: without the privileges of root, where the test runs with them.
    let nobody = nix::unistd::Uid::from_raw(65_534);
    let before = nix::unistd::setfsuid(nobody);
    fs::metadata(&folder).unwrap();
    let mut owners = host.owners();
    want(&mut owners, 1, 0, Some(cgroup));
    want(&mut owners, 2, 0, Some(cgroup));
    let work = owners.work(AGES);
    let told =
        told(&mut owners).into_iter().map(|(inode, id)| (inode, id.is_some())).collect::<BTreeSet<_>>();
    nix::unistd::setfsuid(before);
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(work, Work { left: 0, denied: 1 });
    assert_eq!(told, [(1, true), (2, false)].into());
    // With the privilege it is found, and nobody is counted any more.
    host.socket(11, 4, 3);
    want(&mut owners, 3, 0, Some(cgroup));
    assert_eq!(owners.work(AGES), Work { left: 0, denied: 0 });
    assert!(owners.of(3).is_some() && owners.of(2).is_some());
}

#[test]
fn without_proc_nobody_owns_anything() {
    let mut owners = Owners::within(&OwnerFiles {
        proc: "/nonexistent".into(),
        cgroups: None,
        passwd: "/nonexistent".into(),
    });
    want(&mut owners, 1, 0, Some(1));
    assert_eq!(answers(&mut owners), [(1, None)].into());
    assert_eq!(owners.read_everyone(), Work::default());
    assert!(!owners.read_process(1));
}

fn inode(socket: &impl AsFd) -> u32 {
    let link = fs::metadata(format!("/proc/self/fd/{}", socket.as_fd().as_raw_fd())).unwrap();
    link.st_ino() as u32
}

#[test]
fn this_host_knows_our_own_sockets() {
    let uid = nix::unistd::Uid::effective().as_raw();
    let sockets: Vec<UdpSocket> = (0..200).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    let mut owners = Owners::of_this_host();
    for socket in &sockets {
        want(&mut owners, inode(socket), uid, None);
    }
    let found = answers(&mut owners);
    assert_eq!(found.len(), 200);
    assert!(found.values().all(|pid| *pid == Some(std::process::id())), "{found:?}");
    let owner = owners.owner(owners.of(inode(&sockets[0])).unwrap()).unwrap();
    let start: u64 = {
        let stat = fs::read_to_string("/proc/self/stat").unwrap();
        stat.rsplit(')').next().unwrap().split_ascii_whitespace().nth(19).unwrap().parse().unwrap()
    };
    assert_eq!(owner.start_time, start);

    // Closed and opened again, the same numbers have other inodes.
    let gone: Vec<u32> = sockets.iter().map(inode).collect();
    drop(sockets);
    gone.iter().for_each(|inode| owners.gone(*inode));
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    want(&mut owners, inode(&socket), uid, None);
    assert_eq!(answers(&mut owners), [(inode(&socket), Some(std::process::id()))].into());
}

#[test]
fn a_child_that_inherits_a_socket_holds_it_too() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let copy = copy_of(&listener);
    let mut child = Command::new("sleep").arg("600").stdin(Stdio::from(copy)).spawn().unwrap();
    let uid = nix::unistd::Uid::effective().as_raw();
    let mut owners = Owners::of_this_host();
    let deadline = std::time::Instant::now() + AGES;
    // Until the child has come as far as exec().
    let (pids, names) = loop {
        owners.read_process(std::process::id());
        owners.read_process(child.id());
        let holders = owners.holders(inode(&listener));
        let of: Vec<_> = holders.iter().map(|(id, fd)| (owners.owner(*id).unwrap(), *fd)).collect();
        let pids: BTreeSet<u32> = of.iter().map(|(owner, _)| owner.pid).collect();
        let names: BTreeSet<String> = of.iter().map(|(owner, _)| owner.name.to_string()).collect();
        if names.contains("sleep") || std::time::Instant::now() > deadline {
            break (pids, names);
        }
    };
    want(&mut owners, inode(&listener), uid, None);
    let owner = answers(&mut owners);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(pids, [std::process::id(), child.id()].into(), "{names:?}");
    assert_eq!(owner, [(inode(&listener), Some(std::process::id()))].into(), "the parent began first");
}

fn copy_of(socket: &impl AsFd) -> std::os::fd::OwnedFd {
    socket.as_fd().try_clone_to_owned().unwrap()
}

#[derive(Clone, Debug)]
enum Change {
    Open(u32, u32),
    Close(u32),
    Quiet(u32),
    Fork(u32, u32),
    End(u32),
    Work,
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        6 => (2u32..6, 0u32..40).prop_map(|(pid, fd)| Change::Open(pid, fd)),
        3 => any::<u32>().prop_map(Change::Close),
        1 => any::<u32>().prop_map(Change::Quiet),
        2 => (any::<u32>(), 2u32..6).prop_map(|(which, pid)| Change::Fork(which, pid)),
        1 => (2u32..6).prop_map(Change::End),
        3 => Just(Change::Work),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Processes open, close, share and end as they like; who is told of every new socket always finds its holder.
    #[test]
    fn every_living_socket_that_is_wanted_is_found(changes in proptest::collection::vec(change(), 1..60)) {
        let host = FakeHost::new();
        let mut owners = host.owners();
        let mut held: BTreeMap<(u32, u32), u32> = BTreeMap::new();
        let mut cgroups: BTreeMap<u32, u64> = BTreeMap::new();
        let mut wanted: BTreeSet<u32> = BTreeSet::new();
        let (mut latest, mut clock) = (0, 0);
        for change in changes.into_iter().chain([Change::Work]) {
            match change {
                Change::Open(pid, descriptor) => {
                    clock += 1;
                    let cgroup = *cgroups.entry(pid).or_insert_with(|| {
                        host.process(pid, "p", clock, if pid % 2 == 0 { "/a.service" } else { "/" })
                    });
                    if let Some(inode) = held.get(&(pid, descriptor)).copied() {
                        held.remove(&(pid, descriptor));
                        if !held.values().any(|other| *other == inode) {
                            owners.gone(inode);
                            wanted.remove(&inode);
                        }
                    }
                    latest += 1;
                    host.socket(pid, descriptor, latest);
                    held.insert((pid, descriptor), latest);
                    want(&mut owners, latest, host.uid(), Some(cgroup));
                    wanted.insert(latest);
                }
                Change::Close(which) | Change::Quiet(which) => {
                    let Some((&(pid, descriptor), &inode)) = held.iter().nth(which as usize % held.len().max(1)) else { continue };
                    host.close(pid, descriptor);
                    held.remove(&(pid, descriptor));
                    if !held.values().any(|other| *other == inode) {
                        // Now and then nobody tells, as with a socket that lingers after its close.
                        if matches!(change, Change::Close(_)) {
                            owners.gone(inode);
                        }
                        wanted.remove(&inode);
                    }
                }
                Change::Fork(which, pid) => {
                    let Some((&(_, descriptor), &inode)) = held.iter().nth(which as usize % held.len().max(1)) else { continue };
                    if cgroups.contains_key(&pid) && !held.contains_key(&(pid, descriptor)) {
                        host.socket(pid, descriptor, inode);
                        held.insert((pid, descriptor), inode);
                    }
                }
                Change::End(pid) => {
                    if cgroups.remove(&pid).is_some() {
                        host.end(pid);
                        held.retain(|(holder, _), _| *holder != pid);
                        wanted.retain(|inode| held.values().any(|other| other == inode));
                    }
                }
                Change::Work => {
                    prop_assert_eq!(owners.work(AGES).left, 0);
                    for (inode, id) in told(&mut owners) {
                        let told = id.and_then(|id| owners.owner(id)).map(|owner| owner.pid);
                        if wanted.remove(&inode) {
                            let holders: BTreeSet<u32> =
                                held.iter().filter(|(_, other)| **other == inode).map(|((pid, _), _)| *pid).collect();
                            prop_assert!(told.is_some_and(|pid| holders.contains(&pid)), "{} {:?} {:?}", inode, told, holders);
                        } else {
                            prop_assert!(!held.values().any(|other| *other == inode) || told.is_some());
                        }
                    }
                    prop_assert!(wanted.is_empty(), "not answered: {:?}", wanted);
                }
            }
        }
    }
}
