//! Private user and network namespaces: a command or a whole program alone with its own sockets.
//!
//! Running the body of a test in one is body.rs.

use std::ffi::{CStr, CString};
use std::net::Ipv6Addr;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::time::Duration;
use std::{io, mem, ptr};

/// User id inside a namespace made [`without_privilege`](Namespace::without_privilege).
const ORDINARY_USER: u32 = 1000;
/// A network namespace to be made, in a user namespace of its own: `lo` is up, nothing else is there.
///
/// Needs no privilege where unprivileged user namespaces are allowed; root falls back to a network namespace alone.
#[derive(Clone, Debug)]
pub struct Namespace {
    host_root: bool,
    privileged: bool,
    settings: Vec<Setting>,
    addresses: Vec<Ipv6Addr>,
    pub(crate) limit: Duration,
}

/// One value to be written under `/proc/sys` before `lo` comes up.
#[derive(Clone, Debug)]
struct Setting {
    path: CString,
    value: CString,
    /// A kernel without that setting is as good as one that has taken it.
    optional: bool,
}

impl Default for Namespace {
    fn default() -> Namespace {
        Namespace::new()
    }
}

impl Namespace {
    /// A namespace in which the process is root over its own network.
    pub fn new() -> Namespace {
        Namespace {
            host_root: false,
            privileged: true,
            settings: Vec::new(),
            addresses: Vec::new(),
            limit: Duration::from_secs(60),
        }
    }

    /// Without a user namespace: the process keeps root over the host, as SO_RCVBUFFORCE, perf and bpf ask for.
    /// Only root can make this one; for others it counts as a namespace that cannot be made.
    pub fn host_root(mut self) -> Namespace {
        self.host_root = true;
        self
    }

    /// Once set up, the process becomes an ordinary user (uid 1000 inside) with no capability in any set and no way to
    /// gain one. Outside it is still who it was: files of that user, root's too, stay its own.
    pub fn without_privilege(mut self) -> Namespace {
        self.privileged = false;
        self
    }

    /// Writes `value` to the setting `name` (`net.ipv4.ip_local_port_range`) of the new namespace.
    ///
    /// # Panics
    /// When name or value contains a NUL byte.
    pub fn sysctl(self, name: &str, value: &str) -> Namespace {
        self.setting(name, value, false)
    }

    /// The ports that connect() may choose: `40000 40099` for those hundred.
    pub fn port_range(self, range: &str) -> Namespace {
        self.sysctl("net.ipv4.ip_local_port_range", range)
    }

    /// Without IPv6: no address, not even `::1`.
    pub fn no_ipv6(self) -> Namespace {
        self.setting("net.ipv6.conf.all.disable_ipv6", "1", true).setting(
            "net.ipv6.conf.default.disable_ipv6",
            "1",
            true,
        )
    }

    /// Gives `lo` a further IPv6 address (all of 127/8 is there anyway).
    pub fn address(mut self, address: Ipv6Addr) -> Namespace {
        self.addresses.push(address);
        self
    }

    /// How long the body of [`run`](Self::run) may take before it is killed; 60 s unless told.
    pub fn deadline(mut self, limit: Duration) -> Namespace {
        self.limit = limit;
        self
    }

    fn setting(mut self, name: &str, value: &str, optional: bool) -> Namespace {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        let c_string = |text: &str| match CString::new(text) {
            Ok(text) => text,
            Err(_) => panic!("a NUL byte in {text:?}"),
        };
        self.settings.push(Setting { path: c_string(&path), value: c_string(value), optional });
        self
    }

    /// Starts `command` in a new namespace. It is killed when the calling thread ends.
    ///
    /// # Errors
    /// Names the step that failed, or the program that could not be executed.
    pub fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        self.spawn_reporting(command).map_err(Failure::into_io)
    }

    /// Moves the calling process, which must have one thread only, into a new namespace: for programs to call at the
    /// start of main.
    ///
    /// # Errors
    /// Names the step that failed; the process may then be half way and had better end.
    pub fn enter(&self) -> io::Result<()> {
        self.plan().establish().map_err(Failure::into_io)
    }

    /// [`spawn`](Self::spawn), with the failed step as a value.
    pub(crate) fn spawn_reporting(&self, command: &mut Command) -> Result<Child, Failure> {
        let plan = self.plan();
        let establish = move || {
            plan.establish().map_err(Failure::into_raw)?;
            // SAFETY: prctl with integer arguments touches no memory of ours. It comes last because a change of
            // credentials clears the setting.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            Ok(())
        };
        // SAFETY: between fork and exec `establish` makes only system calls, on memory prepared before the fork.
        unsafe { command.pre_exec(establish) };
        command.spawn().map_err(Failure::from_raw)
    }

    fn plan(&self) -> Plan {
        // SAFETY: both only read the credentials of this process.
        let (user, group) = unsafe { (libc::geteuid(), libc::getegid()) };
        let inside = if self.privileged { 0 } else { ORDINARY_USER };
        Plan {
            user_namespace: !self.host_root,
            user_map: format!("{inside} {user} 1"),
            group_map: format!("{inside} {group} 1"),
            settings: self.settings.clone(),
            addresses: self.addresses.clone(),
            drop_privilege: !self.privileged,
        }
    }
}

/// Everything [`Plan::establish`] needs, made before the fork: after it nothing may allocate.
struct Plan {
    user_namespace: bool,
    user_map: String,
    group_map: String,
    settings: Vec<Setting>,
    addresses: Vec<Ipv6Addr>,
    drop_privilege: bool,
}

/// What was being done when making a namespace failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    Execute,
    Unshare,
    MapUser,
    Sysctl,
    Loopback,
    Address,
    DropPrivilege,
}

impl Step {
    const ALL: [(Step, &str); 7] = [
        (Step::Execute, "executing the program"),
        (Step::Unshare, "unshare() of user and network namespaces"),
        (Step::MapUser, "writing uid_map and gid_map"),
        (Step::Sysctl, "writing a sysctl of the new namespace"),
        (Step::Loopback, "bringing lo up"),
        (Step::Address, "adding an address to lo"),
        (Step::DropPrivilege, "dropping capabilities"),
    ];

    /// Whether a host that forbids namespaces fails here.
    pub(crate) fn is_permission(self) -> bool {
        matches!(self, Step::Unshare | Step::MapUser)
    }
}

/// A failed step and its errno.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) step: Step,
    errno: i32,
}

/// Multiplier that carries a step beside an errno through [`Command::spawn`], which passes on one integer.
const STEP_UNIT: i32 = 1 << 16;

impl Failure {
    fn of(step: Step) -> Failure {
        Failure { step, errno: io::Error::last_os_error().raw_os_error().unwrap_or(0) }
    }

    fn into_raw(self) -> io::Error {
        io::Error::from_raw_os_error(self.step as i32 * STEP_UNIT + self.errno)
    }

    fn from_raw(error: io::Error) -> Failure {
        let raw = error.raw_os_error().unwrap_or(0);
        let step = Step::ALL.iter().find(|(step, _)| *step as i32 == raw / STEP_UNIT);
        Failure { step: step.map_or(Step::Execute, |row| row.0), errno: raw % STEP_UNIT }
    }

    pub(crate) fn into_io(self) -> io::Error {
        let step = Step::ALL.iter().find(|row| row.0 == self.step).map_or("", |row| row.1);
        let cause = io::Error::from_raw_os_error(self.errno);
        io::Error::new(cause.kind(), format!("{step}: {cause}"))
    }
}

impl Plan {
    /// Makes the namespaces and sets them up, with system calls alone: it also runs between fork and exec.
    fn establish(&self) -> Result<(), Failure> {
        self.unshare()?;
        for setting in &self.settings {
            write(&setting.path, setting.value.as_bytes(), Step::Sysctl).or_else(|failure| {
                if setting.optional && failure.errno == libc::ENOENT { Ok(()) } else { Err(failure) }
            })?;
        }
        self.bring_loopback_up()?;
        if self.drop_privilege {
            empty_capabilities()?;
        }
        Ok(())
    }

    fn unshare(&self) -> Result<(), Failure> {
        // SAFETY: unshare takes flags only and changes no memory.
        let unshare = |flags| unsafe { libc::unshare(flags) };
        if self.user_namespace && unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET) == 0 {
            // gid_map is writable without privilege only after setgroups is denied.
            write(c"/proc/self/setgroups", b"deny", Step::MapUser)?;
            write(c"/proc/self/gid_map", self.group_map.as_bytes(), Step::MapUser)?;
            return write(c"/proc/self/uid_map", self.user_map.as_bytes(), Step::MapUser);
        }
        let failure = Failure::of(Step::Unshare);
        match unshare(libc::CLONE_NEWNET) {
            0 => Ok(()),
            // Of root's two failures the first is the one to know about, of anyone else's host_root() the second.
            _ if self.user_namespace => Err(failure),
            _ => Err(Failure::of(Step::Unshare)),
        }
    }

    fn bring_loopback_up(&self) -> Result<(), Failure> {
        // SAFETY: an ifreq is plain data; zero is a valid value of it.
        let mut request: libc::ifreq = unsafe { mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(c"lo".to_bytes()) {
            *to = *from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        configure(libc::AF_INET, libc::SIOCSIFFLAGS, ptr::from_mut(&mut request).cast(), Step::Loopback)?;
        for address in &self.addresses {
            /// `struct in6_ifreq`, linux/ipv6.h: address, prefix length, interface.
            #[repr(C)]
            struct AddressRequest([u8; 16], u32, i32);
            // lo has index 1 in every namespace.
            let mut request = AddressRequest(address.octets(), 128, 1);
            let request = ptr::from_mut(&mut request).cast();
            configure(libc::AF_INET6, libc::SIOCSIFADDR, request, Step::Address)?;
            wait_for_address(address)?;
        }
        Ok(())
    }
}

/// One interface ioctl; `request` points to the struct that `operation` takes.
fn configure(family: i32, operation: u64, request: *mut libc::c_void, step: Step) -> Result<(), Failure> {
    // SAFETY: a socket of ours is opened, used for one ioctl whose argument lives through the call, and closed.
    unsafe {
        let socket = libc::socket(family, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        if socket < 0 {
            return Err(Failure::of(step));
        }
        let result = match libc::ioctl(socket, operation as _, request) {
            0 => Ok(()),
            _ => Err(Failure::of(step)),
        };
        libc::close(socket);
        result
    }
}

/// Waits until a new address can be bound: the kernel leaves it tentative until a worker thread has looked at it.
fn wait_for_address(address: &Ipv6Addr) -> Result<(), Failure> {
    const LONGEST_MS: u32 = 10_000;
    // SAFETY: an all-zero sockaddr_in6 is valid; bind and nanosleep read values that live through the calls; the
    // descriptor is ours and closed again.
    unsafe {
        let mut at: libc::sockaddr_in6 = mem::zeroed();
        at.sin6_family = libc::AF_INET6 as libc::sa_family_t;
        at.sin6_addr.s6_addr = address.octets();
        let length = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
        let socket = libc::socket(libc::AF_INET6, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        let mut result = Err(Failure::of(Step::Address));
        for _ in 0..LONGEST_MS {
            if libc::bind(socket, ptr::from_ref(&at).cast(), length) == 0 {
                result = Ok(());
                break;
            }
            result = Err(Failure::of(Step::Address));
            libc::nanosleep(&libc::timespec { tv_sec: 0, tv_nsec: 1_000_000 }, ptr::null_mut());
        }
        libc::close(socket);
        result
    }
}

/// Writes a file of /proc in one piece.
fn write(path: &CStr, value: &[u8], step: Step) -> Result<(), Failure> {
    // SAFETY: path is NUL-terminated, value outlives the call, the descriptor is ours and closed again.
    unsafe {
        let file = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if file < 0 {
            return Err(Failure::of(step));
        }
        let written = libc::write(file, value.as_ptr().cast(), value.len());
        let result = if written == value.len() as isize { Ok(()) } else { Err(Failure::of(step)) };
        libc::close(file);
        result
    }
}

/// Takes every capability from the calling thread, and from all threads and processes it starts from now on, for good.
///
/// For bodies that need privilege to set the scene and none to look at it. The user id stays.
///
/// # Errors
/// CAP_SETPCAP was missing already.
pub fn drop_privilege() -> io::Result<()> {
    empty_capabilities().map_err(Failure::into_io)
}

/// Empties every capability set of this thread; system calls only.
fn empty_capabilities() -> Result<(), Failure> {
    /// `struct __user_cap_header_struct` and two of `struct __user_cap_data_struct`, linux/capability.h.
    #[repr(C)]
    struct Header(u32, i32);
    const VERSION_3: u32 = 0x2008_0522;
    let header = Header(VERSION_3, 0);
    let none = [0_u32; 6];
    // SAFETY: prctl takes integers here; capset reads the two structs, which live through the call.
    unsafe {
        // The bounding set first, as lowering it needs a capability. It ends where the kernel says EINVAL.
        let mut capability = 0;
        while libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) == 0 {
            capability += 1;
        }
        let done = capability > 0
            && libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) == 0
            && libc::syscall(libc::SYS_capset, ptr::from_ref(&header), none.as_ptr()) == 0
            && libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
        if done { Ok(()) } else { Err(Failure::of(Step::DropPrivilege)) }
    }
}
