//! The filter `cgroup` against control groups that the test makes itself: run by the kernel, and beside a capture by the program.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed step of a test is a failed test")]

mod recorded;

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::linux::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sockeye_tests::Namespace;

use recorded::run;

/// A listener and both ends of so many connections to it: so many sockets more than twice.
fn sockets(connections: usize) -> (TcpListener, Vec<TcpStream>) {
    let door = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = door.local_addr().unwrap();
    let pairs = (0..connections).flat_map(|_| [TcpStream::connect(at).unwrap(), door.accept().unwrap().0]);
    let pairs = pairs.collect();
    (door, pairs)
}

/// Where the hierarchy is mounted, and our own group in it.
fn own() -> Option<(PathBuf, String)> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "))?.split(' ').nth(4)?.to_owned();
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap();
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    Some((mount.into(), path.trim_end_matches('/').to_owned()))
}

/// A group below ours with one inside, empty again and gone with this value.
struct Groups {
    home: PathBuf,
    outer: PathBuf,
    inner: PathBuf,
}

impl Groups {
    fn new(home: &Path) -> std::io::Result<Groups> {
        let outer = home.join(format!("sockeye-test-{}", std::process::id()));
        let inner = outer.join("inner");
        fs::create_dir(&outer)?;
        let groups = Groups { home: home.to_owned(), outer, inner };
        fs::create_dir(&groups.inner)?;
        groups.enter(&groups.inner)?;
        groups.enter(home)?;
        Ok(groups)
    }

    fn enter(&self, group: &Path) -> std::io::Result<()> {
        fs::write(group.join("cgroup.procs"), std::process::id().to_string())
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        let _ = self.enter(&self.home);
        let _ = fs::remove_dir(&self.inner);
        let _ = fs::remove_dir(&self.outer);
    }
}

/// How many sockets a filter lets through: by the kernel's word, and by the program's (what is captured is not filtered before).
fn count(filter: &str) -> [usize; 2] {
    let directory = tempfile::TempDir::new().unwrap();
    let capture = directory.path().join("all.sockeye");
    ["".to_owned(), format!("--capture {}", capture.display())].map(|option| {
        let said = run(&format!("sockets -Htan {option} {filter}"));
        assert_eq!(said.code, 0, "{filter}: {}", said.stderr);
        said.stdout.lines().count()
    })
}

#[test]
fn a_path_is_its_own_sockets_and_with_a_star_those_below() {
    Namespace::new().run(|| {
        let Some((mount, path)) = own() else {
            eprintln!("no cgroup2 is mounted here; tried instead that this is said");
            return assert!(run("sockets cgroup = /").stderr.contains("no cgroup is known as `/`"));
        };
        let home = mount.join(path.trim_start_matches('/'));
        let at_home = sockets(1);
        let id = fs::metadata(&home).unwrap().st_ino();
        assert_eq!(count(&format!("cgroup = {id}")), [3, 3]);
        assert_eq!(count(&format!("cgroup = id:{id}")), [3, 3]);
        assert_eq!(count(&format!("cgroup = {path}/")), [3, 3]);
        assert_eq!(count("cgroup = /*"), [3, 3]);
        assert_eq!(count("cgroup != /*"), [0, 0]);

        let groups = match Groups::new(&home) {
            Ok(groups) => groups,
            Err(error) => {
                let is_root = fs::metadata("/proc/self").unwrap().st_uid() == 0;
                assert!(!is_root || error.raw_os_error() == Some(libc::EROFS), "{error}");
                return eprintln!("no groups may be made here ({error}); tried with its own alone");
            }
        };
        groups.enter(&groups.outer).unwrap();
        let outer = sockets(3);
        groups.enter(&groups.inner).unwrap();
        let inner = sockets(2);
        groups.enter(&home).unwrap();
        let name = format!("{path}/sockeye-test-{}", std::process::id());
        for (filter, found) in [
            (format!("cgroup = {name}"), 7),
            (format!("cgroup = {name}/*"), 12),
            (format!("cgroup {name}/inner"), 5),
            (format!("cgroup = {name}/inner/*"), 5),
            (format!("cgroup != {name}/*"), 3),
            (format!("cgroup != {name}"), 8),
            (format!("cgroup = {name}/* state listening"), 2),
            (format!("cgroup = {path}/*"), 15),
            // The program joins in where a state stands below `or`.
            (format!("( state listening or cgroup = {name}/inner )"), 7),
        ] {
            assert_eq!(count(&filter), [found, found], "{filter}");
        }
        let missing = run(&format!("sockets cgroup = {name}/none/*"));
        assert_eq!(missing.code, 2);
        assert!(missing.stderr.contains("no cgroup is known as"), "{}", missing.stderr);
        drop((at_home, outer, inner));
    });
}
