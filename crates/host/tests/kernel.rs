//! Host values against the real kernel, in network namespaces of their own; with or without root.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::num::NonZeroU32;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use sockeye_host::{Capabilities, Capability, Counters, Host, Settings, interface_index};

const INSIDE: &str = "SOCKEYE_HOST_TEST_INSIDE";

/// Runs `body` in a child process with a user and a network namespace of its own, as root in both.
fn in_namespace(test: &str, body: fn()) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    let uid_map = format!("0 {} 1", nix::unistd::Uid::effective());
    let gid_map = format!("0 {} 1", nix::unistd::Gid::effective());
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(INSIDE, "1");
    // SAFETY: between fork and exec the closure only makes system calls on memory allocated before.
    unsafe {
        child.pre_exec(move || {
            unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)?;
            for (path, text) in [
                ("/proc/self/setgroups", "deny"),
                ("/proc/self/uid_map", &uid_map),
                ("/proc/self/gid_map", &gid_map),
            ] {
                fs::File::options().write(true).open(path)?.write_all(text.as_bytes())?;
            }
            Ok(())
        });
    }
    let output = child.output().expect("these tests need user namespaces (kernel.unprivileged_userns_clone)");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{}: {said}", output.status);
}

fn set(name: &str, value: &str) {
    let path = format!("/proc/sys/net/ipv4/{name}");
    fs::File::options().write(true).open(&path).and_then(|mut f| f.write_all(value.as_bytes())).expect(&path);
}

fn read_settings() -> Settings {
    let mut unread = Vec::new();
    let settings = Settings::read(&mut unread);
    assert!(unread.is_empty(), "{unread:?}");
    settings
}

fn read_counters() -> Counters {
    let mut unread = Vec::new();
    let counters = Counters::read(&mut unread);
    assert!(unread.is_empty(), "{unread:?}");
    counters
}

#[test]
fn this_machine_is_read_whole() {
    let host = Host::read();
    assert!(host.unread.is_empty(), "{:?}", host.unread);
    assert!(host.settings.ip_local_port_range.is_some() && host.settings.ip_local_reserved_ports.is_some());
    assert!(host.settings.tcp_tw_reuse.is_some_and(|mode| mode <= 2));
    assert!(host.capabilities.is_some());
}

#[test]
fn settings_are_those_written() {
    in_namespace("settings_are_those_written", || {
        set("ip_local_port_range", "20000 20001");
        set("tcp_tw_reuse", "1");
        set("tcp_fin_timeout", "17");
        set("tcp_timestamps", "0");
        set("tcp_max_tw_buckets", "4711");
        let settings = read_settings();
        assert_eq!(settings.ip_local_port_range, Some(20000..=20001));
        assert_eq!(settings.ip_local_reserved_ports, Some(vec![]));
        assert_eq!(settings.tcp_tw_reuse, Some(1));
        assert_eq!(settings.tcp_fin_timeout_s, Some(17));
        assert_eq!(settings.tcp_timestamps, Some(false));
        assert_eq!(settings.tcp_max_tw_buckets, Some(4711));
        // Where the kernel has these at all, a new namespace shares the first one's hash.
        assert!(settings.tcp_ehash_entries.is_none_or(|hash| hash.shared && hash.buckets.is_power_of_two()));
        assert_eq!(settings.tcp_tw_reuse_delay_ms.is_some(), has_sysctl("tcp_tw_reuse_delay"));
        assert_eq!(settings.ip_local_port_step_width.is_some(), has_sysctl("ip_local_port_step_width"));
        assert_eq!(settings.ip_autobind_reuse.is_some(), has_sysctl("ip_autobind_reuse"));
        assert_eq!(settings.tcp_child_ehash_entries.is_some(), has_sysctl("tcp_child_ehash_entries"));

        set("ip_local_reserved_ports", "0-65535");
        assert_eq!(read_settings().ip_local_reserved_ports, Some(vec![0..=65535]));
        let held = Capabilities::read().unwrap();
        assert!(held.has(Capability::NetAdmin) && held.has(Capability::SysAdmin));
    });
}

fn has_sysctl(name: &str) -> bool {
    fs::exists(format!("/proc/sys/net/ipv4/{name}")).unwrap()
}

#[test]
fn the_longest_reserved_list_is_read_whole() {
    in_namespace("the_longest_reserved_list_is_read_whole", || {
        let ports: Vec<u16> = (1..=65535).step_by(2).collect();
        let words: Vec<String> = ports.iter().map(u16::to_string).collect();
        set("ip_local_reserved_ports", &words.join(","));
        let expected: Vec<_> = ports.iter().map(|port| *port..=*port).collect();
        assert!(read_settings().ip_local_reserved_ports == Some(expected));
        // Why a sysctl is read with one read(): a second one gets nothing, and no error.
        let mut file = fs::File::open("/proc/sys/net/ipv4/ip_local_reserved_ports").unwrap();
        assert_eq!(file.read(&mut [0; 32]).unwrap(), 32);
        assert_eq!(file.read(&mut [0; 32]).unwrap(), 0);
    });
}

#[test]
fn everything_is_of_the_calling_threads_namespace() {
    in_namespace("everything_is_of_the_calling_threads_namespace", || {
        const CONNECTIONS: u64 = 7;
        set("ip_local_port_range", "20000 20999");
        let outside = Host::read();
        assert_eq!(outside.settings.ip_local_port_range, Some(20000..=20999));

        thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            set("ip_local_port_range", "30000 30999");
            raise_loopback().unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let to = listener.local_addr().unwrap();
            let pairs: Vec<_> = (0..CONNECTIONS)
                .map(|_| (TcpStream::connect(to).unwrap(), listener.accept().unwrap()))
                .collect();

            let inside = Host::read();
            assert!(inside.unread.is_empty(), "{:?}", inside.unread);
            assert_eq!(inside.settings.ip_local_port_range, Some(30000..=30999));
            assert_eq!(inside.counters.active_opens, Some(CONNECTIONS));
            assert_eq!(inside.counters.passive_opens, Some(CONNECTIONS));
            assert_eq!(inside.counters.curr_estab, Some(2 * CONNECTIONS));
            assert_eq!(inside.counters.tcp_in_use, Some(2 * CONNECTIONS + 1));
            assert_ne!(inside.identity.net_namespace_inode, outside.identity.net_namespace_inode);
            assert_eq!(interface_index("lo"), Some(NonZeroU32::MIN));

            drop(pairs);
            let deadline = Instant::now() + Duration::from_secs(20);
            while read_counters().time_waits != Some(CONNECTIONS) {
                assert!(Instant::now() < deadline, "no TIME_WAIT: {:?}", read_counters());
                thread::sleep(Duration::from_millis(2));
            }
        })
        .join()
        .unwrap();

        let after = Host::read();
        assert_eq!(after.settings, outside.settings);
        assert_eq!(after.counters.active_opens, Some(0));
        assert_eq!(after.counters.time_waits, Some(0));
        assert_eq!(after.identity, outside.identity);
    });
}

fn raise_loopback() -> io::Result<()> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: an all-zero ifreq is a valid value; its name below is shorter than its array.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    let descriptor = std::os::fd::AsRawFd::as_raw_fd(&socket);
    // SAFETY: the descriptor is open, and the kernel reads an ifreq that outlives the call.
    match unsafe { libc::ioctl(descriptor, libc::SIOCSIFFLAGS as _, &request) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
