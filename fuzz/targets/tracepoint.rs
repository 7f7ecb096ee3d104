//! Arbitrary bytes as what a perf ring holds: up to the first zero byte how the tracepoint is described, then a record's kind and
//! the record.

use sockeye_trace::{Layout, What, decode};

const USUAL: &str = include_str!("../corpus/tracepoint/format");

pub(super) fn run(bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let described = Layout::parse(&String::from_utf8_lossy(&bytes[..end]));
    let layout = described.or_else(|| Layout::parse(USUAL)).expect("the usual one is understood");
    let Some((kind, record)) = bytes.get(end + 1..).and_then(<[u8]>::split_first) else { return };
    let Some(told) = decode(u32::from(*kind), record, &layout) else { return };
    if let What::Connected { local, remote, .. } = told.what {
        for end in [local, remote] {
            assert_eq!(end.ip(), end.ip().to_canonical(), "of IPv4 both kinds of sockets tell the same");
        }
    }
    // What is behind a whole record does not change it, but for those that end with their time.
    if kind == &9 {
        assert_eq!(decode(9, &[record, &[0; 8]].concat(), &layout).map(|more| more.at), Some(told.at));
    }
}
