//! The file that describes the tracepoint, from tracefs: where it is mounted, or from a mount of our own that nobody else
//! sees.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

use crate::layout::Layout;

const MOUNTS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
const FORMAT: &str = "events/sock/inet_sock_set_state/format";
const EXIT: &str = "events/sched/sched_process_exit/id";
/// Room for any such file.
const ROOM: u64 = 64 * 1024;

/// How the tracepoint tells what it tells.
///
/// # Errors
/// EPERM, EACCES: tracefs is not mounted or not for us. ENOENT, ENODEV: there is no such tracepoint, or no tracefs.
/// InvalidData: the file is not understood.
pub(crate) fn layout() -> io::Result<Layout> {
    let text = read(FORMAT)?;
    Layout::parse(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "its format is another"))
}

/// The number of the tracepoint that a task is told at which begins to end.
///
/// # Errors
/// As [`layout`].
pub(crate) fn exit() -> io::Result<u64> {
    let text = read(EXIT)?;
    text.trim().parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "its id is no number"))
}

fn read(file: &str) -> io::Result<String> {
    let mounted = MOUNTS
        .iter()
        .find_map(|mount| text_of(openat(CWD, Path::new(mount).join(file), RDONLY, Mode::empty())).ok());
    match mounted {
        Some(text) => Ok(text),
        None => text_of(openat(own_mount()?, file, RDONLY, Mode::empty())),
    }
}

const RDONLY: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC);

/// Attached to no place: it is gone when its descriptor is.
fn own_mount() -> io::Result<OwnedFd> {
    let tracefs = fsopen("tracefs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&tracefs)?;
    Ok(fsmount(&tracefs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY)?)
}

fn text_of(opened: Result<OwnedFd, rustix::io::Errno>) -> io::Result<String> {
    let mut text = String::new();
    File::from(opened?).take(ROOM).read_to_string(&mut text)?;
    Ok(text)
}
