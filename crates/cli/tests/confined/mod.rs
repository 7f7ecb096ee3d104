//! A process from which something was taken before its program starts: mounts, namespaces, netlink, descriptors.
//!
//! All of this runs between fork and exec: system calls alone, on memory that was there before.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::ffi::CStr;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;

fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Runs `change` in the new process before the program starts there.
fn before_exec(command: &mut Command, change: impl FnMut() -> io::Result<()> + Send + Sync + 'static) {
    // SAFETY: every caller is in this file, and passes a change that makes system calls on memory of before the fork.
    unsafe { command.pre_exec(change) };
}

/// Mounts made from here on are seen by this process alone.
fn own_mounts() -> io::Result<()> {
    // SAFETY: unshare takes flags.
    check(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
    mount(c"none", c"/", c"", libc::MS_REC | libc::MS_PRIVATE)
}

fn mount(what: &CStr, place: &CStr, kind: &CStr, flags: libc::c_ulong) -> io::Result<()> {
    // SAFETY: the three texts live through the call; no data is passed.
    check(unsafe { libc::mount(what.as_ptr(), place.as_ptr(), kind.as_ptr(), flags, ptr::null()) })
}

/// Nothing can be seen under `place`. Needs CAP_SYS_ADMIN, as the next two do.
pub(crate) fn mask(command: &mut Command, place: &'static CStr) {
    before_exec(command, move || {
        own_mounts()?;
        mount(c"tmpfs", place, c"tmpfs", 0)
    });
}

/// The program starts in a new network namespace.
pub(crate) fn elsewhere(command: &mut Command) {
    // SAFETY: unshare takes flags.
    before_exec(command, || check(unsafe { libc::unshare(libc::CLONE_NEWNET) }));
}

/// The program finds the network namespace behind `source` by the name `web`, the only one there is.
pub(crate) fn name_web(command: &mut Command, source: &CStr) {
    let source = source.to_owned();
    before_exec(command, move || {
        own_mounts()?;
        mount(c"tmpfs", c"/run", c"tmpfs", 0)?;
        // SAFETY: mkdir and open take a path that lives through the call; the descriptor is ours and closed again.
        unsafe {
            check(libc::mkdir(c"/run/netns".as_ptr(), 0o755))?;
            let file = libc::open(c"/run/netns/web".as_ptr(), libc::O_CREAT | libc::O_RDONLY, 0o644);
            check(file)?;
            libc::close(file);
        }
        mount(&source, c"/run/netns/web", c"", libc::MS_BIND)
    });
}

/// socket(AF_NETLINK, …) fails with `errno`, as in a sandbox. Needs no privilege.
pub(crate) fn forbid_netlink(command: &mut Command, errno: i32) {
    forbid(command, libc::SYS_socket, 0, libc::AF_NETLINK, errno);
}

/// No netlink socket can join a multicast group: setsockopt(…, SOL_NETLINK, …) fails with `errno`.
pub(crate) fn forbid_memberships(command: &mut Command, errno: i32) {
    forbid(command, libc::SYS_setsockopt, 1, libc::SOL_NETLINK, errno);
}

/// A system call fails with `errno` when the argument at this place has this value.
fn forbid(command: &mut Command, call: libc::c_long, place: u32, value: i32, errno: i32) {
    before_exec(command, move || {
        let statement =
            |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
        let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
        let jump_if_equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
        // struct seccomp_data: the call's number at 0, arguments of 8 bytes from 16 on, low half first on little endian.
        let argument = 16 + 8 * place + if cfg!(target_endian = "little") { 0 } else { 4 };
        let mut program = [
            statement(load, 0, 0, 0),
            statement(jump_if_equal, 0, 3, call as u32),
            statement(load, 0, 0, argument),
            statement(jump_if_equal, 0, 1, value as u32),
            statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
            statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
        ];
        let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
        // SAFETY: prctl takes integers, and the program by a pointer that lives through the call.
        unsafe {
            check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
            check(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program))
        }
    });
}

/// The program may have so many descriptors beside the standard streams.
pub(crate) fn leave_descriptors(command: &mut Command, left: u64) {
    let limit = libc::rlimit { rlim_cur: 3 + left, rlim_max: 3 + left };
    // SAFETY: close_range takes integers, setrlimit reads the limit given. What the test itself was started with goes
    // when the program starts.
    before_exec(command, move || unsafe {
        check(libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) as i32)?;
        check(libc::setrlimit(libc::RLIMIT_NOFILE, &limit))
    });
}
