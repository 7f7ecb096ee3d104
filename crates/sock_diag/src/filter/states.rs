//! Reads sets of socket states: ss's words for one state and for several.

use super::error::{FilterError, quoted};
use super::value::{Read, Value, closest};
use crate::state::{SocketState, StateSet};

/// What ss makes of a request socket, which the kernel numbers NEW_SYN_RECV inside and calls SYN_RECV outside.
const SYN_RECV: StateSet = StateSet::of(&[SocketState::SynRecv, SocketState::NewSynRecv]);
const BUCKET: StateSet = SYN_RECV.union(StateSet::of(&[SocketState::TimeWait]));
const CONNECTED: StateSet =
    StateSet::ALL.minus(StateSet::of(&[SocketState::Listen, SocketState::Close, SocketState::BoundInactive]));

/// Words that stand for several states, as ss defines them. Bound-inactive, which its `connected` does not
/// know, is not connected.
const STATE_MACROS: &[(&str, StateSet)] = &[
    ("all", StateSet::ALL),
    ("connected", CONNECTED),
    ("synchronized", CONNECTED.minus(StateSet::of(&[SocketState::SynSent]))),
    ("bucket", BUCKET),
    ("big", StateSet::ALL.minus(BUCKET)),
    ("syn-rcv", SYN_RECV),
];

const STATE_WORDS: &[&str] = &[
    "established",
    "syn-sent",
    "syn-recv",
    "fin-wait-1",
    "fin-wait-2",
    "time-wait",
    "unconnected",
    "closed",
    "close-wait",
    "last-ack",
    "listening",
    "closing",
    "bound-inactive",
    "all",
    "connected",
    "synchronized",
    "bucket",
    "big",
];

/// States by name, one or several with commas between.
pub(super) fn read(value: Value<'_>) -> Read<StateSet> {
    let mut set = StateSet::EMPTY;
    for word in value.text.split(',') {
        let word = value.part(word);
        set = set.union(set_of(word.text).ok_or_else(|| unknown_state(&word))?);
    }
    Ok(set)
}

/// The states one word stands for. NEW_SYN_RECV is in it exactly when SYN_RECV is.
pub(super) fn set_of(word: &str) -> Option<StateSet> {
    if let Some((_, set)) = STATE_MACROS.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)) {
        return Some(*set);
    }
    match SocketState::from_name(word)? {
        SocketState::SynRecv => Some(SYN_RECV),
        // The kernel's own; ss refuses it too.
        SocketState::NewSynRecv => None,
        state => Some(StateSet::of(&[state])),
    }
}

fn unknown_state(word: &Value<'_>) -> FilterError {
    if word.text.is_empty() {
        return word.wrong("expected a state beside the comma").help("no space after commas");
    }
    let error = word.wrong(format!("{} is not a socket state", quoted(word.text)));
    match closest(word.text, STATE_WORDS) {
        Some(state) => error.help(format!("did you mean `{state}`?")),
        None => error.help(format!("there are {}", STATE_WORDS.join(", "))),
    }
}
