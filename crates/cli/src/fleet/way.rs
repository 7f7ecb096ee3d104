//! The way into a namespace that was found: by the first file that still leads there.

use sock_diag::{Namespace, NamespaceError};
use sockeye_host::FoundNamespace;

use crate::explain;

/// Why a namespace could not be entered.
#[derive(Debug)]
pub(crate) enum Barred {
    /// None of the files leads there any more.
    Gone,
    /// It may not be: that takes CAP_SYS_ADMIN over it, and CAP_SYS_PTRACE to follow a process of another user.
    Forbidden,
    /// Anything else.
    Failed(anyhow::Error),
}

/// Moves the calling thread there, for good.
pub(super) fn enter(found: &FoundNamespace) -> Result<(), Barred> {
    let mut barred = Barred::Gone;
    for way in &found.ways {
        match Namespace::from_path(way) {
            Ok(namespace) if namespace.inode() == found.inode => {
                return namespace.enter().map_err(|error| match &error {
                    sock_diag::Error::System { source, .. } if is_forbidden(source) => Barred::Forbidden,
                    _ => Barred::Failed(explain::enter(error)),
                });
            }
            // Another process has the number now, another namespace the mount.
            Ok(_) | Err(NamespaceError::Unknown { .. } | NamespaceError::NotANamespace { .. }) => {}
            Err(NamespaceError::Unreadable { source, .. }) if is_forbidden(&source) => {
                barred = Barred::Forbidden;
            }
            Err(error) => barred = Barred::Failed(explain::namespace(error)),
        }
    }
    Err(barred)
}

fn is_forbidden(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES))
}
