//! Errors as sentences: what was tried, what the kernel answered, what to do.

use anyhow::anyhow;
use sock_diag::{Errno, Error, NamespaceError, Protocol};

use crate::terminal::Harmless;

/// Whether the kernel said that it has no such socket table, as opposed to any other failure.
pub(crate) fn is_missing(error: &Error) -> bool {
    matches!(error.refusal(), Some(Errno(libc::ENOENT | libc::EPROTONOSUPPORT)))
}

/// A dump that failed.
pub(crate) fn dump(protocol: Protocol, error: Error) -> anyhow::Error {
    let sockets = format!("cannot read {} sockets", protocol.name().to_uppercase());
    match &error {
        Error::Refused { errno, .. } if is_missing(&error) => {
            // UDP-Lite is part of udp_diag.
            let module = match protocol {
                Protocol::Udp | Protocol::UdpLite => "udp_diag",
                Protocol::Mptcp => "mptcp_diag",
                _ => "tcp_diag",
            };
            anyhow!("{sockets}: the kernel has no {module} ({errno}); try `modprobe {module}`")
        }
        Error::Refused { errno: Errno(libc::EPERM), .. } => {
            anyhow!(
                "{sockets}: not permitted (EPERM); a filter on fwmark needs CAP_NET_ADMIN: run it as root"
            )
        }
        Error::NotCaptured { what } => {
            anyhow!("the capture holds no {what}; capture again with the same options as this call")
        }
        // The text has its cause in it already.
        _ => anyhow!("{sockets}: {error}"),
    }
}

/// A sock_diag socket that could not be had.
pub(crate) fn open(error: Error) -> anyhow::Error {
    match &error {
        Error::System { source, .. }
            if matches!(source.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT)) =>
        {
            anyhow!(
                "cannot open a sock_diag socket ({source}): this kernel or sandbox has no netlink sock_diag (CONFIG_INET_DIAG)"
            )
        }
        Error::System { source, .. } if matches!(source.raw_os_error(), Some(libc::EPERM | libc::EACCES)) => {
            anyhow!("cannot open a sock_diag socket ({source}): a sandbox or security module forbids it here")
        }
        _ => anyhow!("{error}"),
    }
}

/// A namespace that could not be entered.
pub(crate) fn enter(error: Error) -> anyhow::Error {
    match &error {
        Error::System { operation, source } if source.raw_os_error() == Some(libc::EPERM) => {
            anyhow!(
                "{operation} is not permitted: entering another network namespace needs CAP_SYS_ADMIN; run it as root"
            )
        }
        _ => anyhow!("{error}"),
    }
}

/// A namespace that was not found.
pub(crate) fn namespace(error: NamespaceError) -> anyhow::Error {
    // It names paths as they were typed.
    let text = error.to_string();
    let said = Harmless(&text);
    match &error {
        NamespaceError::Unknown { .. } => {
            let names: Vec<String> = std::fs::read_dir("/run/netns")
                .map(|entries| {
                    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
                    names.map(|name| name.escape_debug().to_string()).collect()
                })
                .unwrap_or_default();
            let known = match names.is_empty() {
                true => {
                    "there are no named ones (ip netns list is empty); a path or process id will do as well"
                        .to_owned()
                }
                false => format!("known names: {}; a path or process id will do as well", names.join(", ")),
            };
            anyhow!("{said}; {known}")
        }
        NamespaceError::Unreadable { source, .. } if source.raw_os_error() == Some(libc::EACCES) => {
            anyhow!("{said}; looking into another user's process needs CAP_SYS_PTRACE: run it as root")
        }
        _ => anyhow!("{said}"),
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::PathBuf;

    use super::*;

    fn refused(errno: i32) -> Error {
        Error::Refused { operation: "dumping sockets", errno: Errno(errno), message: None }
    }

    #[test]
    fn a_missing_module_is_told_with_its_name_and_the_cure() {
        for (protocol, text) in [
            (
                Protocol::Udp,
                "cannot read UDP sockets: the kernel has no udp_diag (ENOENT); try `modprobe udp_diag`",
            ),
            (
                Protocol::UdpLite,
                "cannot read UDPLITE sockets: the kernel has no udp_diag (ENOENT); try `modprobe udp_diag`",
            ),
            (
                Protocol::Tcp,
                "cannot read TCP sockets: the kernel has no tcp_diag (ENOENT); try `modprobe tcp_diag`",
            ),
            (
                Protocol::Mptcp,
                "cannot read MPTCP sockets: the kernel has no mptcp_diag (ENOENT); try `modprobe mptcp_diag`",
            ),
        ] {
            assert!(is_missing(&refused(libc::ENOENT)));
            assert_eq!(format!("{:#}", dump(protocol, refused(libc::ENOENT))), text);
        }
        assert!(is_missing(&refused(libc::EPROTONOSUPPORT)));
        assert!(!is_missing(&refused(libc::EPERM)));
        assert!(!is_missing(&Error::Overrun { operation: "dumping sockets" }));
    }

    #[test]
    fn other_failures_of_a_dump_keep_the_kernel_s_word() {
        let text = format!("{:#}", dump(Protocol::Tcp, refused(libc::EPERM)));
        assert!(text.starts_with("cannot read TCP sockets: not permitted (EPERM)"), "{text}");
        assert!(text.contains("CAP_NET_ADMIN"), "{text}");
        let text = format!("{:#}", dump(Protocol::Tcp, refused(libc::EINVAL)));
        assert_eq!(text, "cannot read TCP sockets: dumping sockets: the kernel answered EINVAL");
        let text =
            format!("{:#}", dump(Protocol::Udp, Error::NotCaptured { what: "inet udp sockets".into() }));
        assert!(text.starts_with("the capture holds no inet udp sockets; capture again"), "{text}");
    }

    #[test]
    fn a_socket_that_cannot_be_opened_says_what_is_in_the_way() {
        let system = |errno| Error::System {
            operation: "opening a sock_diag socket",
            source: io::Error::from_raw_os_error(errno),
        };
        for (errno, word) in [
            (libc::EPROTONOSUPPORT, "CONFIG_INET_DIAG"),
            (libc::EAFNOSUPPORT, "CONFIG_INET_DIAG"),
            (libc::EPERM, "sandbox"),
            (libc::EACCES, "sandbox"),
            (libc::EMFILE, "Too many open files"),
        ] {
            let text = format!("{:#}", open(system(errno)));
            assert_eq!(text.matches(word).count(), 1, "{text}");
            let text = format!("{:#}", dump(Protocol::Tcp, system(errno)));
            assert_eq!(text.matches("os error").count(), 1, "{text}");
        }
        assert!(format!("{:#}", enter(system(libc::EPERM))).contains("CAP_SYS_ADMIN"));
        assert_eq!(format!("{:#}", enter(system(libc::EMFILE))).matches("Too many").count(), 1);
    }

    #[test]
    fn a_namespace_out_of_reach_names_the_privilege() {
        let unreadable = |errno| NamespaceError::Unreadable {
            path: PathBuf::from("/proc/1/ns/net\x1b[31m"),
            source: io::Error::from_raw_os_error(errno),
        };
        let text = format!("{:#}", namespace(unreadable(libc::EACCES)));
        assert!(text.contains("CAP_SYS_PTRACE"), "{text}");
        assert!(text.contains("/proc/1/ns/net\\u{1b}[31m"), "{text}");
        let text = format!("{:#}", namespace(unreadable(libc::EMFILE)));
        assert!(text.contains("Too many open files") && !text.contains('\x1b'), "{text}");
    }
}
