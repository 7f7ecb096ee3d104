//! Paths and ids of cgroups: where the unified hierarchy is mounted, and which folder has which id.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::os::linux::fs::MetadataExt;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::DirEntryExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::files;

const MOUNTINFO: &str = "/proc/thread-self/mountinfo";

/// The mounted cgroup v2 hierarchy. A cgroup's id, as records carry it, is the inode of its folder.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cgroups {
    mount: PathBuf,
}

impl Cgroups {
    /// Finds the hierarchy; None where none is mounted. Needs no privilege.
    ///
    /// # Errors
    /// `/proc` is not mounted: cgroups then have ids and no names.
    pub fn find() -> Result<Option<Cgroups>> {
        let text = files::read(Path::new(MOUNTINFO))?;
        Ok(Cgroups::mounted_in(&text))
    }

    /// From the text of `/proc/<pid>/mountinfo`. Of several mounts the first that shows the root of the hierarchy, else the
    /// first. None when none is mounted; lines that make no sense are passed over.
    pub fn mounted_in(mountinfo: &str) -> Option<Cgroups> {
        mount_point(mountinfo).map(|mount| Cgroups { mount })
    }

    /// The folder it is mounted at.
    pub fn mount(&self) -> &Path {
        &self.mount
    }

    /// Id of the cgroup at `path`, as `/proc/<pid>/cgroup` writes it (`/system.slice/nginx.service`) or as a
    /// folder of the file system.
    ///
    /// # Errors
    /// No such cgroup in this cgroup namespace, or its parent may not be searched.
    pub fn id(&self, path: &Path) -> Result<u64> {
        let folder = self.folder(path);
        match fs::metadata(&folder) {
            Ok(metadata) => Ok(metadata.st_ino()),
            Err(source) => Err(Error::Unreadable { path: folder, source }),
        }
    }

    /// Ids of the cgroup at `path`, told as for [`id`](Self::id), and of all below it, ascending. Cgroups that come, go or may not
    /// be read meanwhile are left out. Cost: a directory walk, about 20 µs a cgroup.
    ///
    /// # Errors
    /// As [`id`](Self::id).
    pub fn ids_below(&self, path: &Path) -> Result<Vec<u64>> {
        let mut ids = vec![self.id(path)?];
        self.walk(&self.folder(path), |_, id| ids.push(id));
        ids.sort_unstable();
        Ok(ids)
    }

    /// Every cgroup's path by its id, the root as `/`. Cgroups that come, go or may not be read meanwhile are
    /// left out. Cost: a directory walk, about 20 µs a cgroup; make it once per screen, not per socket.
    pub fn paths_by_id(&self) -> HashMap<u64, String> {
        let mut paths = HashMap::new();
        if let Ok(metadata) = fs::metadata(&self.mount) {
            paths.insert(metadata.st_ino(), "/".to_owned());
        }
        self.walk(&self.mount, |path, id| {
            if let Ok(below) = path.strip_prefix(&self.mount) {
                paths.insert(id, format!("/{}", below.display()));
            }
        });
        paths
    }

    fn folder(&self, path: &Path) -> PathBuf {
        match path.strip_prefix(&self.mount) {
            Ok(_) => path.to_path_buf(),
            Err(_) => self.mount.join(path.strip_prefix("/").unwrap_or(path)),
        }
    }

    /// Tells all cgroups below a folder, with their ids.
    fn walk(&self, top: &Path, mut tell: impl FnMut(&Path, u64)) {
        let mut folders = vec![top.to_path_buf()];
        while let Some(folder) = folders.pop() {
            let Ok(children) = fs::read_dir(&folder) else { continue };
            for child in children.flatten() {
                // A link is not a directory here, so the walk ends.
                if child.file_type().is_ok_and(|kind| kind.is_dir()) {
                    let path = child.path();
                    tell(&path, child.ino());
                    folders.push(path);
                }
            }
        }
    }
}

fn mount_point(mountinfo: &str) -> Option<PathBuf> {
    let mounts = || {
        mountinfo.lines().filter_map(|line| {
            // id parent major:minor root mount-point options [optional…] - type source options
            let (mount, file_system) = line.split_once(" - ")?;
            let mut fields = mount.split(' ').skip(3);
            let (root, point) = (fields.next()?, fields.next()?);
            (file_system.split(' ').next() == Some("cgroup2")).then_some((root, point))
        })
    };
    let (_, point) = mounts().find(|(root, _)| *root == "/").or_else(|| mounts().next())?;
    Some(PathBuf::from(OsString::from_vec(unescape(point))))
}

/// The kernel writes space, tab, newline and backslash as a backslash and three octal digits.
pub(crate) fn unescape(text: impl AsRef<[u8]>) -> Vec<u8> {
    let mut rest = text.as_ref();
    let mut bytes = Vec::with_capacity(rest.len());
    while let [first, tail @ ..] = rest {
        match tail {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..] if *first == b'\\' => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_mount_is_found() {
        let find = |text: &str| mount_point(text).map(|point| point.display().to_string());
        let proc = "22 27 0:21 / /proc rw,relatime - proc proc rw\n";
        let v1 = "31 28 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
        let bound = "40 27 0:38 /user.slice /mnt/cg\\040two rw shared:9 master:1 - cgroup2 cgroup2 rw\n";
        let unified = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:7 - cgroup2 cgroup2 rw\n";
        assert_eq!(find(&[proc, v1].concat()), None);
        assert_eq!(find(&[proc, v1, bound, unified].concat()).as_deref(), Some("/sys/fs/cgroup/unified"));
        assert_eq!(find(&[proc, bound].concat()).as_deref(), Some("/mnt/cg two"));
        assert_eq!(find("41 31 - cgroup2 cgroup2 rw\n"), None);
    }

    #[test]
    fn escapes() {
        assert_eq!(unescape("a\\040b\\134c"), b"a b\\c");
        assert_eq!(unescape("\\04\\999\\"), b"\\04\\999\\");
        assert_eq!(unescape("\\377\\400"), b"\xff\\400");
    }

    #[test]
    fn folders_have_the_ids_of_their_inodes() {
        let mount = std::env::temp_dir().join(format!("sockeye-cgroups-{}", std::process::id()));
        let nginx = mount.join("system.slice/nginx.service");
        fs::create_dir_all(&nginx).unwrap();
        fs::write(nginx.join("cgroup.procs"), "").unwrap();
        std::os::unix::fs::symlink("..", nginx.join("loop")).unwrap();
        let cgroups = Cgroups { mount: mount.clone() };
        let paths = cgroups.paths_by_id();
        let inode = fs::metadata(&nginx).unwrap().st_ino();
        let ids =
            ["system.slice/nginx.service", "/system.slice/nginx.service"].map(|p| cgroups.id(Path::new(p)));
        let by_folder = cgroups.id(&nginx);
        let none = cgroups.id(Path::new("/system.slice/apache.service"));
        let below =
            ["/", "/system.slice", "system.slice/nginx.service"].map(|p| cgroups.ids_below(Path::new(p)));
        let slice = fs::metadata(mount.join("system.slice")).unwrap().st_ino();
        let none_below = cgroups.ids_below(Path::new("/user.slice"));
        fs::remove_dir_all(&mount).unwrap();

        assert_eq!(paths.get(&inode).map(String::as_str), Some("/system.slice/nginx.service"));
        let mut all: Vec<_> = paths.into_values().collect();
        all.sort();
        assert_eq!(all, ["/", "/system.slice", "/system.slice/nginx.service"]);
        assert_eq!(ids.map(Result::unwrap), [inode, inode]);
        assert_eq!(by_folder.unwrap(), inode);
        let below = below.map(Result::unwrap);
        assert_eq!(below.each_ref().map(Vec::len), [3, 2, 1]);
        assert_eq!((below[1].contains(&slice), &below[2]), (true, &vec![inode]));
        assert!(none_below.is_err());
        assert!(none.unwrap_err().is_missing());
    }

    #[test]
    fn this_kernel_agrees_with_itself() {
        // A machine without a unified hierarchy says so with None, which is an answer, too.
        let mounted = fs::read_to_string("/proc/self/mountinfo").unwrap().contains(" - cgroup2 ");
        let found = Cgroups::find().unwrap();
        assert_eq!(found.is_some(), mounted);
        if let Some(cgroups) = found {
            let root = cgroups.id(Path::new("/")).unwrap();
            assert_eq!(cgroups.paths_by_id().get(&root).map(String::as_str), Some("/"));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_passed_over(text in "\\PC{0,80}|([0-9a-z/\\\\ \\n-]{0,40} - cgroup2[ a-z\\n]{0,9}){0,4}") {
            mount_point(&text);
            unescape(&text);
        }
    }
}
