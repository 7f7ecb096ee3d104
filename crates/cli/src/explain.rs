//! Errors as sentences: what was tried, what the kernel answered, what to do.

use anyhow::anyhow;
use sock_diag::{Errno, Error, NamespaceError, Protocol};

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
        _ => anyhow::Error::new(error).context(sockets),
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
        Error::System { operation, source } if source.raw_os_error() == Some(libc::EPERM) => {
            anyhow!(
                "{operation} is not permitted: entering another network namespace needs CAP_SYS_ADMIN; run it as root"
            )
        }
        _ => anyhow::Error::new(error),
    }
}

/// A namespace that was not found.
pub(crate) fn namespace(error: NamespaceError) -> anyhow::Error {
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
            anyhow!("{error}; {known}")
        }
        NamespaceError::Unreadable { source, .. } if source.raw_os_error() == Some(libc::EACCES) => {
            anyhow!("{error}; looking into another user's process needs CAP_SYS_PTRACE: run it as root")
        }
        _ => anyhow::Error::new(error),
    }
}
