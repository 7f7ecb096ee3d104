//! Network namespaces that files lead to: mounts of nsfs, and links in `/run/netns`.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::NamespaceName;
use super::processes::inode_of;
use crate::cgroups::unescape;

/// Where iproute2 keeps named namespaces.
const NAMED: &str = "/run/netns";
/// A link may lead to a link; longer chains are loops.
const MOST_LINKS: usize = 8;

/// A file that leads to a network namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Mounted {
    pub(super) inode: u64,
    /// As this host knows it: below the root.
    pub(super) path: PathBuf,
    /// Its name, if that is one of `ip netns`.
    pub(super) name: Option<NamespaceName>,
}

/// All of them; none where nothing can be read.
pub(super) fn read(root: &Path) -> Vec<Mounted> {
    // Mount points may hold any bytes.
    let text = fs::read(root.join("proc/thread-self/mountinfo")).unwrap_or_default();
    let mut all: Vec<Mounted> = parse(&text).collect();
    let links = links(root, &all);
    all.extend(links);
    all
}

/// A path of the host, seen from here.
pub(super) fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

pub(super) fn parse(mountinfo: &[u8]) -> impl Iterator<Item = Mounted> {
    mountinfo.split(|byte| *byte == b'\n').filter_map(|line| {
        // id parent major:minor root mount-point options [optional…] - type source options
        let mut fields = line.split(|byte| *byte == b' ').skip(3);
        let (shown, point) = (fields.next()?, fields.next()?);
        let mut rest = fields.skip_while(|field| *field != b"-").skip(1);
        if rest.next() != Some(b"nsfs") {
            return None;
        }
        let inode = inode_of(Path::new(std::str::from_utf8(shown).ok()?))?;
        let path = PathBuf::from(OsString::from_vec(unescape(point)));
        let name = name(&path);
        Some(Mounted { inode, path, name })
    })
}

fn name(path: &Path) -> Option<NamespaceName> {
    (path.parent() == Some(Path::new(NAMED)))
        .then(|| path.file_name())
        .flatten()
        .map(|name| NamespaceName::Named(name.to_os_string()))
}

/// Names that are links, to a process's namespace or to a mount, as is done for containers.
fn links(root: &Path, mounted: &[Mounted]) -> Vec<Mounted> {
    let Ok(entries) = fs::read_dir(below(root, Path::new(NAMED))) else { return Vec::new() };
    let links = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_symlink()));
    let found = links.filter_map(|entry| {
        let path = Path::new(NAMED).join(entry.file_name());
        let inode = end_of(root, &path, mounted)?;
        let name = name(&path);
        Some(Mounted { inode, path, name })
    });
    found.collect()
}

/// The namespace at the end of a chain of links.
fn end_of(root: &Path, path: &Path, mounted: &[Mounted]) -> Option<u64> {
    let mut at = path.to_path_buf();
    for _ in 0..MOST_LINKS {
        if let Some(mount) = mounted.iter().find(|mount| mount.path == at) {
            return Some(mount.inode);
        }
        let target = fs::read_link(below(root, &at)).ok()?;
        if let Some(inode) = inode_of(&target) {
            return Some(inode);
        }
        // /var/run is where iproute2 was told to look for long.
        let target = match target.strip_prefix("/var/run") {
            Ok(rest) => Path::new("/run").join(rest),
            Err(_) => target,
        };
        at = at.parent()?.join(target);
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &[u8] = b"22 27 0:21 / /proc rw,relatime - proc proc rw\n\
        700 25 0:4 net:[4026532281] /run/netns/web rw shared:400 - nsfs nsfs rw\n\
        701 25 0:4 net:[4026532281] /run/netns/web rw shared:400 master:2 - nsfs nsfs rw\n\
        702 25 0:4 mnt:[4026532299] /run/snapd/ns/lxd.mnt rw - nsfs nsfs rw\n\
        703 25 0:4 net:[4026532388] /run/docker/netns/4f\\0401c rw - nsfs nsfs rw\n\
        704 25 0:4 net:[4026532400] /run/netns/\xff\\033[31m rw - nsfs nsfs rw\n\
        705 25 0:4 net:[x] /run/netns/odd rw - nsfs nsfs rw\n\
        706 25\n";

    #[test]
    fn mounts_of_network_namespaces_are_found() {
        let found: Vec<(u64, String, Option<String>)> = parse(TEXT)
            .map(|m| (m.inode, m.path.to_string_lossy().into_owned(), m.name.map(|name| name.to_string())))
            .collect();
        let web = (4_026_532_281, "/run/netns/web".to_owned(), Some("web".to_owned()));
        assert_eq!(
            found,
            [
                web.clone(),
                web,
                (4_026_532_388, "/run/docker/netns/4f 1c".to_owned(), None),
                (
                    4_026_532_400,
                    "/run/netns/\u{fffd}\u{1b}[31m".to_owned(),
                    Some("\u{fffd}\u{1b}[31m".to_owned())
                ),
            ]
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_passed_over(text in prop::collection::vec(any::<u8>(), 0..200), cut in 0..TEXT.len()) {
            parse(&text).for_each(drop);
            parse(&TEXT[cut..]).for_each(drop);
        }
    }
}
