//! History: what a watch tells as rows of a recording, and rows as a period to report on.

mod owner;
pub(crate) mod past;
pub(crate) mod reading;
pub(crate) mod writing;

use std::env;
use std::path::PathBuf;

/// Where a recording is that nobody has named: of root, the host's; of others, their own.
pub(crate) fn default_directory() -> PathBuf {
    if nix::unistd::geteuid().is_root() {
        return PathBuf::from("/var/lib/sockeye");
    }
    let named = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = named("XDG_STATE_HOME").or_else(|| named("HOME").map(|home| home.join(".local/state")));
    state.map_or_else(|| PathBuf::from("sockeye-recording"), |state| state.join("sockeye"))
}
