//! One process as the owner of sockets: who it is, from its files below `/proc/<pid>`.
//!
//! Leaves to others: which sockets it has (`table`), and what a cgroup's path means (`place`).

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

use super::name::Name;
use super::place::Place;
use super::users::Users;

/// A process that owns sockets, or did. All names are untrusted.
///
/// Consistency: read when its first socket was found; its name and command line again when its name has changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Owner {
    /// Its number where our `/proc` was mounted; given to another process when it has ended.
    pub pid: u32,
    /// Clock ticks (100 a second) from the boot to its start: with `pid` it is unique.
    #[doc(alias = "starttime")]
    pub start_time: u64,
    /// The kernel's name for it: at most 15 bytes, chosen by the program.
    #[doc(alias = "comm")]
    pub name: Name,
    /// Its arguments, joined by spaces, at most 4,096 bytes of them. Empty: the kernel's own, or it has ended meanwhile.
    #[doc(alias = "cmdline")]
    pub command: Name,
    /// Its effective user. The user of a socket is in the socket's record and may be another.
    pub uid: u32,
    /// That user's name; None when the passwd file has none.
    pub user: Option<Name>,
    /// Path of its cgroup as `/proc/<pid>/cgroup` tells it: of the unified hierarchy, or where that has only its root, of
    /// systemd's. None when it could not be read.
    pub cgroup: Option<Name>,
    /// What that path tells of unit, container and pod.
    pub place: Place,
}

/// Files of a process that tell who it is, as text; empty where one could not be read.
#[derive(Clone, Copy, Default, Debug)]
pub struct ProcessTexts<'a> {
    /// `/proc/<pid>/stat`: name and start time.
    pub stat: &'a [u8],
    /// `/proc/<pid>/status`: the effective user.
    pub status: &'a [u8],
    /// `/proc/<pid>/cgroup`.
    pub cgroup: &'a [u8],
    /// `/proc/<pid>/cmdline`.
    pub cmdline: &'a [u8],
}

/// Room for any `/proc/<pid>/cgroup` or `status`.
const FILE: u64 = 64 * 1024;
const COMMAND: u64 = 4096;

impl Owner {
    /// Reads what there is; what cannot be read is empty. Needs no privilege. Cost: three small files.
    pub(super) fn read(proc: impl AsFd, pid: u32, identity: Identity, users: &Users) -> Owner {
        let read = |file, most| read(&proc, pid, file, most).unwrap_or_default();
        let (status, cgroup, cmdline) =
            (read("status", FILE), read("cgroup", FILE), read("cmdline", COMMAND));
        Owner::new(pid, identity, &status, &cgroup, cmdline, users)
    }

    /// From the texts of a process's files; `folder_uid` is who owns the folder. None where `stat` makes no sense.
    pub fn parse(pid: u32, folder_uid: u32, texts: &ProcessTexts<'_>, users: &Users) -> Option<Owner> {
        let identity = Identity::parse(texts.stat, folder_uid)?;
        Some(Owner::new(pid, identity, texts.status, texts.cgroup, texts.cmdline.to_vec(), users))
    }

    fn new(
        pid: u32,
        identity: Identity,
        status: &[u8],
        cgroup: &[u8],
        cmdline: Vec<u8>,
        users: &Users,
    ) -> Owner {
        let uid = effective_uid(status).unwrap_or(identity.folder_uid);
        let cgroup = cgroup_path(cgroup).map(Name::from);
        Owner {
            pid,
            start_time: identity.start_time,
            name: identity.name,
            command: command_line(cmdline),
            uid,
            user: users.name(uid).cloned(),
            place: cgroup.as_ref().map(|path| Place::of(path.as_bytes())).unwrap_or_default(),
            cgroup,
        }
    }

    /// Takes over a new name, and the command line that came with it: the process has called exec() or renamed itself.
    pub(super) fn rename(&mut self, proc: impl AsFd, name: Name) {
        self.command = command_line(read(proc, self.pid, "cmdline", COMMAND).unwrap_or_default());
        self.name = name;
    }
}

/// What tells a process from others that had its number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Identity {
    pub(super) name: Name,
    pub(super) start_time: u64,
    /// Owner of its folder: its effective user, or root when it may not be looked into.
    pub(super) folder_uid: u32,
}

impl Identity {
    /// # Errors
    /// ENOENT, ESRCH: there is no such process. Others: it hides.
    pub(super) fn read(proc: impl AsFd, pid: u32) -> Result<Identity, Errno> {
        let text = read(&proc, pid, "stat", COMMAND)?;
        Identity::parse(&text, folder_uid(&proc, pid)?).ok_or(Errno::SRCH)
    }

    fn parse(stat: &[u8], folder_uid: u32) -> Option<Identity> {
        let (name, start_time) = parse_stat(stat)?;
        Some(Identity { name: name.into(), start_time, folder_uid })
    }
}

/// Owner of a process's folder. Cost: one system call.
pub(super) fn folder_uid(proc: impl AsFd, pid: u32) -> Result<u32, Errno> {
    let path = rustix::path::DecInt::new(pid);
    rustix::fs::statat(proc, path, rustix::fs::AtFlags::empty()).map(|folder| folder.st_uid)
}

/// At most `most` bytes of a process's file.
pub(super) fn read(proc: impl AsFd, pid: u32, file: &str, most: u64) -> Result<Vec<u8>, Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let opened = openat(proc, format!("{pid}/{file}").as_str(), flags, Mode::empty())?;
    let mut bytes = Vec::with_capacity(512);
    File::from(opened)
        .take(most)
        .read_to_end(&mut bytes)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    Ok(bytes)
}

/// Name and start time in the text of `/proc/<pid>/stat`: `pid (name) state ppid …`, the start time as 22nd field. The
/// name is as the program chose it, with brackets, spaces and newlines.
fn parse_stat(text: &[u8]) -> Option<(&[u8], u64)> {
    let open = text.iter().position(|byte| *byte == b'(')?;
    let close = text.iter().rposition(|byte| *byte == b')')?;
    let name = text.get(open + 1..close)?;
    let start_time =
        text[close + 1..].split(u8::is_ascii_whitespace).filter(|field| !field.is_empty()).nth(19)?;
    Some((name, std::str::from_utf8(start_time).ok()?.parse().ok()?))
}

/// The second number of the line `Uid:` of `/proc/<pid>/status`.
fn effective_uid(status: &[u8]) -> Option<u32> {
    let line = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"Uid:"))?;
    std::str::from_utf8(line).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Of lines `id:controllers:path` the path of the unified hierarchy (`0::`); where there is none, or only its root because
/// another hierarchy is in use beside it, systemd's own, else the first that is no root.
fn cgroup_path(text: &[u8]) -> Option<&[u8]> {
    let lines = || {
        text.split(|byte| *byte == b'\n').filter_map(|line| {
            let mut fields = line.splitn(3, |byte| *byte == b':');
            let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
            path.starts_with(b"/").then_some((controllers, path))
        })
    };
    let unified = lines().find(|(controllers, _)| controllers.is_empty()).map(|(_, path)| path);
    let below_root = || lines().filter(|(_, path)| *path != b"/");
    let systemd = || below_root().find(|(controllers, _)| *controllers == b"name=systemd");
    unified
        .filter(|path| *path != b"/")
        .or_else(|| systemd().or_else(|| below_root().next()).map(|(_, path)| path))
        .or(unified)
        .or_else(|| lines().next().map(|(_, path)| path))
}

/// Arguments end with a zero byte each; a program that writes its title over them leaves several.
fn command_line(mut bytes: Vec<u8>) -> Name {
    while bytes.last().is_some_and(|byte| matches!(byte, 0 | b' ')) {
        bytes.pop();
    }
    bytes.iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = b' ');
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn stat_with_any_name() {
        let after =
            "S 1 812 812 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 48211 55000 900 18446744073709551615\n";
        for name in ["nginx", "", "a b", "x) S 1 (y", ") R 9 9 9", "two\nlines", "\x1b[31m"] {
            let text = format!("812 ({name}) {after}");
            assert_eq!(parse_stat(text.as_bytes()), Some((name.as_bytes(), 48_211)), "{name:?}");
        }
        for text in [
            "",
            "812",
            "812 (nginx",
            "812 (nginx) S 1 2",
            ")(",
            "812 (x) S 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 nine",
        ] {
            assert_eq!(parse_stat(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn the_effective_user() {
        assert_eq!(effective_uid(b"Name:\tx\nUid:\t0\t33\t0\t33\nGid:\t1\t2\n"), Some(33));
        assert_eq!(effective_uid(b"Name:\tx\nUid:\t0\n"), None);
        assert_eq!(effective_uid(b""), None);
    }

    #[test]
    fn the_cgroup_that_tells_most() {
        let path = |text: &'static str| cgroup_path(text.as_bytes()).map(|p| std::str::from_utf8(p).unwrap());
        assert_eq!(path("0::/system.slice/a.service\n"), Some("/system.slice/a.service"));
        assert_eq!(path("0::/\n"), Some("/"));
        let hybrid = "5:memory:/x\n1:name=systemd:/system.slice/a.service\n0::/\n";
        assert_eq!(path(hybrid), Some("/system.slice/a.service"));
        assert_eq!(path("5:memory:/docker/x\n1:name=systemd:/\n0::/\n"), Some("/docker/x"));
        assert_eq!(path("5:memory:/a:b/c\n"), Some("/a:b/c"));
        assert_eq!(path("5:memory:/\n4:cpu:/\n"), Some("/"));
        assert_eq!(path("nonsense\n5:memory\n5:memory:relative\n"), None);
    }

    #[test]
    fn command_lines() {
        let line = |bytes: &[u8]| command_line(bytes.to_vec()).text().into_owned();
        assert_eq!(line(b"curl\0-s\0a b\0"), "curl -s a b");
        assert_eq!(line(b"nginx: worker process\0\0\0\0"), "nginx: worker process");
        assert_eq!(line(b""), "");
    }

    #[test]
    fn this_process_knows_itself() {
        let proc = File::open("/proc").unwrap();
        let pid = std::process::id();
        let identity = Identity::read(&proc, pid).unwrap();
        let owner = Owner::read(&proc, pid, identity.clone(), &Users::parse(b""));
        let comm = std::fs::read("/proc/self/comm").unwrap();
        assert_eq!(owner.name.as_bytes(), comm.trim_ascii_end());
        assert_eq!(owner.uid, nix::unistd::Uid::effective().as_raw());
        let own = std::env::args().next().unwrap();
        assert!(owner.command.text().starts_with(&own), "{:?} {own}", owner.command);
        assert!(owner.cgroup.is_some());
        assert_eq!(Identity::read(&proc, pid), Ok(identity));
        // Above every possible process: PID_MAX_LIMIT is 4,194,304.
        assert_eq!(Identity::read(&proc, 4_194_305), Err(Errno::NOENT));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..120), text in "(5:[a-z=,]{0,6}:/?[a-z/]{0,6}\\n|Uid:[\\t0-9]{0,9}\\n|1 \\(\\)( [0-9]{1,3}){0,30}){0,4}") {
            for bytes in [&bytes[..], text.as_bytes()] {
                parse_stat(bytes);
                effective_uid(bytes);
                cgroup_path(bytes);
                command_line(bytes.to_vec());
            }
        }
    }
}
