//! Paths of cgroups by their ids, found a folder at a time, and the processes in them.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::linux::fs::MetadataExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirEntryExt;
use std::path::{Path, PathBuf};

use super::name::Name;

/// The unified hierarchy as far as it is known. Ids are never given out twice while the machine is up, so a path that was
/// found stays right for sockets of a cgroup that is gone.
#[derive(Default, Debug)]
pub(super) struct CgroupPaths {
    mount: Option<PathBuf>,
    paths: HashMap<u64, Name>,
    /// Sought in vain: gone, or outside this cgroup namespace.
    nowhere: HashSet<u64>,
    /// Folders yet to be listed by the walk that is going on.
    walk: Option<Vec<PathBuf>>,
}

/// Cgroups remembered: when there are more, those that are gone are forgotten.
const MOST: usize = 65_536;

impl CgroupPaths {
    /// Of the hierarchy mounted there; None: there is none, and no id has a path.
    pub(super) fn below(mount: Option<PathBuf>) -> CgroupPaths {
        CgroupPaths { mount, ..CgroupPaths::default() }
    }

    pub(super) fn path(&self, id: u64) -> Option<&Name> {
        self.paths.get(&id)
    }

    /// Takes one step towards knowing all of `ids`; false when there is no more to learn of them. Cost of a step: one
    /// folder, about 20 µs and as much for each in it.
    pub(super) fn seek(&mut self, ids: impl Iterator<Item = u64>) -> bool {
        let Some(mount) = self.mount.clone() else { return false };
        let unknown: Vec<u64> =
            ids.filter(|id| !self.paths.contains_key(id) && !self.nowhere.contains(id)).collect();
        if unknown.is_empty() {
            self.walk = None;
            return false;
        }
        let folders = self.walk.get_or_insert_with(|| {
            if self.paths.len() > MOST {
                self.paths.clear();
            }
            if let Ok(root) = fs::metadata(&mount) {
                self.paths.insert(root.st_ino(), "/".into());
            }
            vec![mount.clone()]
        });
        match folders.pop() {
            Some(folder) => list(&mount, &folder, folders, &mut self.paths),
            None => {
                self.walk = None;
                if self.nowhere.len() > MOST {
                    self.nowhere.clear();
                }
                self.nowhere.extend(unknown);
            }
        }
        true
    }

    /// Processes in a cgroup, not in those below it. None where that says nothing: the path is not known, or it is the
    /// root, in which a host without use for the hierarchy leaves everybody. Cost: one file.
    pub(super) fn members(&self, id: u64) -> Option<Vec<u32>> {
        let path = self.paths.get(&id).filter(|path| path.as_bytes() != b"/")?;
        let below = Path::new(std::ffi::OsStr::from_bytes(&path.as_bytes()[1..]));
        let text = fs::read_to_string(self.mount.as_ref()?.join(below).join("cgroup.procs")).ok()?;
        // A process of an outer namespace is told as 0.
        Some(text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid != 0).collect())
    }
}

fn list(mount: &Path, folder: &Path, folders: &mut Vec<PathBuf>, paths: &mut HashMap<u64, Name>) {
    let Ok(children) = fs::read_dir(folder) else { return };
    for child in children.flatten() {
        // A link is not a directory here, so the walk ends.
        if child.file_type().is_ok_and(|kind| kind.is_dir()) {
            let path = child.path();
            if let Ok(below) = path.strip_prefix(mount) {
                let mut name = b"/".to_vec();
                name.extend_from_slice(below.as_os_str().as_bytes());
                paths.insert(child.ino(), name.into());
            }
            folders.push(path);
        }
    }
}
