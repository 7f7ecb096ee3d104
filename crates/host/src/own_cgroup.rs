//! A cgroup made for a command, so that whatever its processes open can be told from everything else. Where cgroups are
//! mounted is cgroups.rs's.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::cgroups::Cgroups;

/// Lists the processes of a cgroup, and takes them in.
const PROCS: &str = "cgroup.procs";

/// A child of this process's own cgroup in the unified hierarchy. It is removed when this is dropped; processes that are left
/// in it are moved to its parent, where they would have been without it. Those in cgroups made in it stay, and keep it.
#[derive(Debug)]
pub struct OwnCgroup {
    cgroups: Cgroups,
    folder: PathBuf,
    path: String,
    id: u64,
    procs: File,
}

impl OwnCgroup {
    /// Makes it, by this name.
    ///
    /// # Errors
    /// NotFound: no unified hierarchy is mounted, or not our part of it. PermissionDenied, ReadOnlyFilesystem: it is not for
    /// us to change. ResourceBusy: one of this name has processes. Unsupported: its parent takes threads only.
    ///
    /// # Privileges
    /// Whatever its parent's folder asks for: root, mostly, or a user that it is delegated to.
    pub fn make(name: &str) -> io::Result<OwnCgroup> {
        let cgroups = Cgroups::find()
            .map_err(io::Error::other)?
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let told = fs::read_to_string("/proc/self/cgroup")?;
        let own = own_path(&told).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let path = format!("{}/{name}", own.trim_end_matches('/'));
        // Who moves from here to there must be allowed to change what is above both.
        File::options().write(true).open(cgroups.mount().join(own.trim_start_matches('/')).join(PROCS))?;
        let folder = cgroups.mount().join(path.trim_start_matches('/'));
        match fs::create_dir(&folder) {
            // Left by another with our number, which could not remove it.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                fs::remove_dir(&folder)?;
                fs::create_dir(&folder)?;
            }
            made => made?,
        }
        let opened = || {
            let id = fs::metadata(&folder)?.st_ino();
            match fs::read_to_string(folder.join("cgroup.type"))?.trim_end() {
                "domain" => Ok((id, File::options().write(true).open(folder.join(PROCS))?)),
                _ => Err(io::Error::from(io::ErrorKind::Unsupported)),
            }
        };
        match opened() {
            Ok((id, procs)) => Ok(OwnCgroup { cgroups, folder, path, id, procs }),
            Err(error) => {
                let _ = fs::remove_dir(&folder);
                Err(error)
            }
        }
    }

    /// Its path, as `/proc/<pid>/cgroup` tells it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whoever writes `0` here is in it, and so are the children it has later.
    pub fn door(&self) -> BorrowedFd<'_> {
        self.procs.as_fd()
    }

    /// Its id, and those of the cgroups that were made in it and are there now. Cost: a directory walk.
    pub fn ids(&self) -> Vec<u64> {
        self.cgroups.ids_below(&self.folder).unwrap_or_else(|_| vec![self.id])
    }

    /// Those of all other cgroups that are there now. Cost: a walk over all cgroups, about 20 µs each.
    pub fn other_ids(&self) -> Vec<u64> {
        let own = self.ids();
        let all = self.cgroups.paths_by_id().into_keys();
        all.filter(|id| !own.contains(id)).collect()
    }
}

impl Drop for OwnCgroup {
    fn drop(&mut self) {
        let parent = self.folder.parent().map(|parent| parent.join(PROCS));
        let parent = parent.and_then(|procs| File::options().write(true).open(procs).ok());
        let left = fs::read_to_string(self.folder.join(PROCS)).unwrap_or_default();
        for (mut parent, pid) in parent.iter().flat_map(|parent| left.lines().map(move |pid| (parent, pid))) {
            // Who is gone meanwhile needs no moving.
            let _ = parent.write_all(pid.as_bytes());
        }
        // Others may have been made in it.
        remove(&self.folder, MOST_DEPTH);
    }
}

/// As deep as systemd and containers go, with room.
const MOST_DEPTH: usize = 16;

fn remove(folder: &Path, depth: usize) {
    for child in fs::read_dir(folder).into_iter().flatten().flatten() {
        if depth > 0 && child.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&child.path(), depth - 1);
        }
    }
    let _ = fs::remove_dir(folder);
}

/// The cgroup of the unified hierarchy in `/proc/<pid>/cgroup`; None when that is not in ours.
fn own_path(text: &str) -> Option<&str> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    (path.starts_with('/') && !path.split('/').any(|part| part == "..")).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where this process may not make one, the kernel's answer is told; that is an answer, too.
    #[test]
    fn it_is_gone_when_it_is_dropped() {
        let name = format!("sockeye-test-{}", std::process::id());
        let made = match OwnCgroup::make(&name) {
            Ok(made) => made,
            Err(error) => {
                let answers = [
                    io::ErrorKind::NotFound,
                    io::ErrorKind::PermissionDenied,
                    io::ErrorKind::ReadOnlyFilesystem,
                ];
                return assert!(answers.contains(&error.kind()), "{error}");
            }
        };
        let folder = made.folder.clone();
        fs::create_dir(folder.join("inner")).unwrap();
        assert_eq!((made.ids().len(), made.path().ends_with(&name)), (2, true));
        assert!(!made.other_ids().contains(&made.id) && !made.other_ids().is_empty());
        let mut left = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        fs::write(folder.join(PROCS), left.id().to_string()).unwrap();
        let cgroup_of = |pid| fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        assert!(cgroup_of(left.id()).contains(&name));
        assert_eq!(OwnCgroup::make(&name).unwrap_err().kind(), io::ErrorKind::ResourceBusy);
        drop(made);
        assert!(!folder.exists() && !cgroup_of(left.id()).contains(&name));
        drop(left.stdin.take());
        left.wait().unwrap();
    }

    #[test]
    fn the_path_is_that_of_the_unified_hierarchy() {
        assert_eq!(own_path("9:name=systemd:/a\n0::/user.slice/b c\n"), Some("/user.slice/b c"));
        assert_eq!(own_path("0::/\n"), Some("/"));
        for other in ["", "9:cpu:/a\n", "0::/../outside\n", "0::\n"] {
            assert_eq!(own_path(other), None, "{other:?}");
        }
    }
}
