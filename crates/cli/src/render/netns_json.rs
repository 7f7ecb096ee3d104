//! A network namespace as JSON names it, wherever it does.

use serde::Serialize;
use sockeye_host::{FoundNamespace, NamespaceName};

use crate::surroundings::Surroundings;

/// `{"inode": 4026532281, "name": "web"}`, and what else there is to call it by.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct NetnsRow {
    #[serde(skip_serializing_if = "Option::is_none")]
    inode: Option<u64>,
    /// As `ip netns` has it; null when it has none, so that the key is always there.
    name: Option<String>,
    /// What a line of a table calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    /// Where it is mounted, if that is all there is to name it.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    /// The process it is named after.
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<OwnerRow>,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
struct OwnerRow {
    pid: u32,
    name: String,
}

impl NetnsRow {
    /// The one that was looked at.
    pub(crate) fn of(surroundings: &Surroundings) -> NetnsRow {
        NetnsRow {
            inode: surroundings.netns_inode,
            name: surroundings.netns_name.clone(),
            label: None,
            path: None,
            owner: None,
        }
    }

    /// One of many.
    pub(crate) fn found(found: &FoundNamespace) -> NetnsRow {
        let mut row = NetnsRow {
            inode: Some(found.inode),
            name: found.name.named(),
            label: Some(found.name.to_string()),
            path: None,
            owner: None,
        };
        match &found.name {
            NamespaceName::Mounted(path) => row.path = Some(path.to_string_lossy().into_owned()),
            NamespaceName::Process { pid, comm } => {
                row.owner = Some(OwnerRow { pid: *pid, name: comm.to_string_lossy().into_owned() });
            }
            NamespaceName::Named(_) | NamespaceName::Nameless => {}
        }
        row
    }
}
