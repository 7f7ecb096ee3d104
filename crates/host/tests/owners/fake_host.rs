//! A host made of folders and links.

use std::fs;
use std::os::linux::fs::MetadataExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use sockeye_host::owners::{OwnerFiles, Owners};

/// A host in a folder of its own.
pub(crate) struct FakeHost {
    pub(crate) root: tempfile::TempDir,
}

impl FakeHost {
    pub(crate) fn new() -> FakeHost {
        let root = tempfile::tempdir().unwrap();
        // For a user without privilege as well.
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir_all(root.path().join("proc/self")).unwrap();
        fs::create_dir(root.path().join("cgroup")).unwrap();
        fs::write(root.path().join("cgroup/cgroup.procs"), "").unwrap();
        fs::write(root.path().join("passwd"), "root:x:0:0::/:\nwww-data:x:33:33::/:\n").unwrap();
        FakeHost { root }
    }

    pub(crate) fn owners(&self) -> Owners {
        Owners::within(&OwnerFiles {
            proc: self.root.path().join("proc"),
            cgroups: Some(self.root.path().join("cgroup")),
            passwd: self.root.path().join("passwd"),
        })
    }

    pub(crate) fn proc(&self, pid: u32) -> PathBuf {
        self.root.path().join(format!("proc/{pid}"))
    }

    /// A process without descriptors, in a cgroup whose id is returned.
    pub(crate) fn process(&self, pid: u32, name: impl AsRef<[u8]>, start_time: u64, cgroup: &str) -> u64 {
        let folder = self.root.path().join("cgroup").join(cgroup.trim_start_matches('/'));
        fs::create_dir_all(&folder).unwrap();
        let members = folder.join("cgroup.procs");
        let so_far = fs::read_to_string(&members).unwrap_or_default();
        fs::write(&members, format!("{so_far}{pid}\n")).unwrap();

        let proc = self.proc(pid);
        fs::create_dir_all(proc.join("fd")).unwrap();
        let mut stat = format!("{pid} (").into_bytes();
        stat.extend_from_slice(name.as_ref());
        stat.extend_from_slice(
            format!(") S 1 1 1 0 -1 1 2 3 4 5 6 7 8 9 20 0 1 0 {start_time} 1 2 3\n").as_bytes(),
        );
        fs::write(proc.join("stat"), stat).unwrap();
        fs::write(proc.join("status"), "Name:\tx\nUid:\t0\t33\t0\t0\n").unwrap();
        fs::write(
            proc.join("cmdline"),
            [b"/usr/sbin/".as_slice(), name.as_ref(), b"\0-g\0daemon off;\0"].concat(),
        )
        .unwrap();
        fs::write(proc.join("cgroup"), format!("0::{cgroup}\n")).unwrap();
        fs::metadata(&folder).unwrap().st_ino()
    }

    pub(crate) fn open(&self, pid: u32, descriptor: u32, target: &str) {
        let link = self.proc(pid).join(format!("fd/{descriptor}"));
        let _ = fs::remove_file(&link);
        symlink(target, link).unwrap();
    }

    pub(crate) fn socket(&self, pid: u32, descriptor: u32, inode: u32) {
        self.open(pid, descriptor, &format!("socket:[{inode}]"));
    }

    pub(crate) fn close(&self, pid: u32, descriptor: u32) {
        fs::remove_file(self.proc(pid).join(format!("fd/{descriptor}"))).unwrap();
    }

    pub(crate) fn end(&self, pid: u32) {
        fs::remove_dir_all(self.proc(pid)).unwrap();
    }

    pub(crate) fn uid(&self) -> u32 {
        fs::metadata(self.root.path()).unwrap().st_uid()
    }
}
