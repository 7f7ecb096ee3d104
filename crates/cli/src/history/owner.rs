//! Whose a recorded connection was, as its columns tell it.

use std::sync::Arc;

use sockeye_recording::{Connection, Sum};

use crate::by::OwnerName;

/// None is what is not known. Texts are shared by the rows that have them.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Owner {
    pub(super) pid: Option<u32>,
    pub(super) name: Option<Arc<str>>,
    pub(super) uid: Option<u32>,
    pub(super) user: Option<Arc<str>>,
    pub(super) cgroup: Option<Arc<str>>,
}

/// Of a row that was read.
macro_rules! of {
    ($row:ident) => {
        impl From<&$row> for Owner {
            fn from(row: &$row) -> Owner {
                Owner {
                    pid: row.owner_pid,
                    name: row.owner_name.clone(),
                    uid: row.owner_uid,
                    user: row.owner_user.clone(),
                    cgroup: row.owner_cgroup.clone(),
                }
            }
        }
    };
}

of!(Connection);
of!(Sum);

impl Owner {
    /// As formats show it.
    pub(super) fn told(&self) -> OwnerName {
        let text = |text: &Option<Arc<str>>| text.as_deref().map(str::to_owned);
        OwnerName {
            pid: self.pid,
            name: text(&self.name),
            uid: self.uid,
            user: text(&self.user),
            cgroup: text(&self.cgroup),
            ..OwnerName::default()
        }
    }
}
