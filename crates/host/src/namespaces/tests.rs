//! Namespaces of hosts that were made up: what is found of them is what was put there.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;

use proptest::prelude::*;

use super::*;

/// Long enough for any walk here.
const WHOLE: Duration = Duration::from_secs(30);

/// A host's files in a folder that goes with it.
struct World {
    folder: PathBuf,
    processes: BTreeMap<u32, u64>,
    mounts: BTreeMap<String, u64>,
}

impl World {
    fn new(name: &str) -> World {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("sockeye-{name}-{}-{number}", std::process::id()));
        for below in ["proc/thread-self", "run/netns"] {
            fs::create_dir_all(folder.join(below)).unwrap();
        }
        let world = World { folder, processes: BTreeMap::new(), mounts: BTreeMap::new() };
        world.write_mounts();
        world
    }

    fn namespaces(&self) -> Namespaces {
        Namespaces::under(&self.folder)
    }

    fn start(&mut self, pid: u32, comm: &str, inode: u64) {
        self.end(pid);
        let process = self.folder.join(format!("proc/{pid}"));
        fs::create_dir_all(process.join("ns")).unwrap();
        fs::write(process.join("comm"), format!("{comm}\n")).unwrap();
        symlink(format!("net:[{inode}]"), process.join("ns/net")).unwrap();
        self.processes.insert(pid, inode);
    }

    fn end(&mut self, pid: u32) {
        if self.processes.remove(&pid).is_some() {
            fs::remove_dir_all(self.folder.join(format!("proc/{pid}"))).unwrap();
        }
    }

    fn mount(&mut self, path: &str, inode: Option<u64>) {
        match inode {
            Some(inode) => self.mounts.insert(path.to_owned(), inode),
            None => self.mounts.remove(path),
        };
        self.write_mounts();
    }

    fn write_mounts(&self) {
        let lines = self.mounts.iter().enumerate().map(|(id, (path, inode))| {
            format!("{id} 1 0:4 net:[{inode}] {path} rw shared:4 - nsfs nsfs rw\n")
        });
        fs::write(self.folder.join("proc/thread-self/mountinfo"), lines.collect::<String>()).unwrap();
    }

    fn inodes(&self) -> Vec<u64> {
        let mut all: Vec<u64> = self.processes.values().chain(self.mounts.values()).copied().collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn names(namespaces: &Namespaces) -> Vec<(u64, String)> {
    namespaces.iter().map(|found| (found.inode, found.name.to_string())).collect()
}

fn inodes(namespaces: &Namespaces) -> Vec<u64> {
    namespaces.iter().map(|found| found.inode).collect()
}

#[test]
fn processes_mounts_and_links_are_found_and_named() {
    let mut world = World::new("found");
    world.start(1, "systemd", 10);
    world.start(20, "agetty", 10);
    world.start(812, "nginx", 11);
    world.start(900, "sleep", 12);
    world.start(901, "", 13);
    world.mount("/run/netns/web", Some(12));
    world.mount("/run/docker/netns/4f1c", Some(14));
    world.mount("/run/docker/netns/aaaa", Some(11));
    symlink("/proc/901/ns/net", world.folder.join("run/netns/linked")).unwrap();
    symlink("/var/run/docker/netns/4f1c", world.folder.join("run/netns/box")).unwrap();
    symlink("loop", world.folder.join("run/netns/loop")).unwrap();
    symlink("/nowhere", world.folder.join("run/netns/broken")).unwrap();
    fs::write(world.folder.join("run/netns/plain"), "").unwrap();

    let mut namespaces = world.namespaces();
    assert!(namespaces.look(WHOLE));
    let expected = [(10, "pid 1 systemd"), (11, "pid 812 nginx"), (12, "web"), (13, "linked"), (14, "box")];
    assert_eq!(names(&namespaces), expected.map(|(inode, name)| (inode, name.to_owned())));
    let web = namespaces.iter().find(|found| found.inode == 12).unwrap();
    assert_eq!(web.ways, ["run/netns/web", "proc/900/ns/net"].map(|way| world.folder.join(way)));
    assert_eq!((web.name.named().as_deref(), namespaces.processes().seen), (Some("web"), 5));
    // Without its process a mount names it.
    world.end(812);
    namespaces.look(WHOLE);
    assert_eq!(names(&namespaces)[1], (11, "/run/docker/netns/aaaa".to_owned()));
}

#[test]
fn a_namespace_is_gone_with_its_last_process() {
    let mut world = World::new("gone");
    world.start(1, "init", 10);
    for pid in 100..110 {
        world.start(pid, "worker", 20);
    }
    let mut namespaces = world.namespaces();
    namespaces.look(WHOLE);
    // The witnesses go; others are there, and a walk finds them.
    for pid in 100..104 {
        world.end(pid);
    }
    namespaces.look(WHOLE);
    assert_eq!(names(&namespaces)[1], (20, "pid 104 worker".to_owned()));
    for pid in 104..110 {
        world.end(pid);
    }
    // At once there is no way in; that it is gone is certain after a walk that began then.
    namespaces.look(Duration::ZERO);
    assert_eq!((inodes(&namespaces), namespaces.knows(20)), (vec![10], true));
    while namespaces.rounds() < 4 {
        namespaces.look(WHOLE);
    }
    assert!(!namespaces.knows(20));
}

#[test]
fn a_pid_that_another_process_has_now_is_no_witness() {
    let mut world = World::new("reused");
    world.start(5, "old", 10);
    world.start(6, "old", 11);
    let mut namespaces = world.namespaces();
    namespaces.look(WHOLE);
    world.start(5, "new", 12);
    namespaces.look(WHOLE);
    assert_eq!(names(&namespaces), [(11, "pid 6 old".to_owned()), (12, "pid 5 new".to_owned())]);
    // A process that calls itself something else is called that.
    fs::write(world.folder.join("proc/6/comm"), "nginx: \u{1b}[31m\n").unwrap();
    for _ in 0..2 * LOOKS_PER_NAME {
        namespaces.look(WHOLE);
    }
    assert_eq!(names(&namespaces)[0], (11, "pid 6 nginx: \u{1b}[31m".to_owned()));
}

#[test]
fn a_walk_without_time_comes_to_its_end_all_the_same() {
    let mut world = World::new("slow");
    for pid in 1..=200 {
        world.start(pid, "x", u64::from(pid));
    }
    let mut namespaces = world.namespaces();
    let mut looks = 1;
    while !namespaces.look(Duration::ZERO) {
        looks += 1;
    }
    assert!((5..=8).contains(&looks), "{looks} looks of {} processes", processes::LEAST);
    assert_eq!(inodes(&namespaces), (1..=200).collect::<Vec<_>>());
}

#[test]
fn without_proc_there_is_nothing_and_no_failure() {
    let mut namespaces = Namespaces::under("/nonexistent");
    assert!(namespaces.look(WHOLE));
    assert_eq!((inodes(&namespaces), namespaces.processes()), (vec![], Processes::default()));
}

#[derive(Clone, Debug)]
enum Change {
    Start(u32, u64),
    End(u32),
    Mount(u8, Option<u64>),
    Look,
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (1..20u32, 1..8u64).prop_map(|(pid, inode)| Change::Start(pid, inode)),
        (1..20u32).prop_map(Change::End),
        (0..4u8, prop::option::of(1..8u64)).prop_map(|(path, inode)| Change::Mount(path, inode)),
        Just(Change::Look),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever happened before: two whole walks later exactly what is there is known, and a way leads to each.
    #[test]
    fn in_the_end_what_is_known_is_what_is_there(changes in prop::collection::vec(change(), 1..60)) {
        let mut world = World::new("any");
        let mut namespaces = world.namespaces();
        for change in changes {
            match change {
                Change::Start(pid, inode) => world.start(pid, "p", inode),
                Change::End(pid) => world.end(pid),
                Change::Mount(path, inode) => world.mount(&format!("/run/netns/n{path}"), inode),
                Change::Look => { namespaces.look(Duration::ZERO); }
            }
        }
        let rounds = namespaces.rounds();
        while namespaces.rounds() < rounds + 3 {
            namespaces.look(WHOLE);
        }
        prop_assert_eq!(inodes(&namespaces), world.inodes());
        for found in namespaces.iter() {
            prop_assert!(namespaces.knows(found.inode));
            let leads_there = |way: &PathBuf| {
                let below = Path::new("/").join(way.strip_prefix(&world.folder).unwrap());
                let mounted = world.mounts.get(below.to_str().unwrap()).copied();
                let behind = || fs::read_link(way).ok().and_then(|link| processes::inode_of(&link));
                mounted.or_else(behind) == Some(found.inode)
            };
            prop_assert!(found.ways.iter().any(leads_there), "{:?}", found);
        }
    }
}
