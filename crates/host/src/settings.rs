//! The sysctls that decide which ports connect() may take, and how long TIME_WAIT keeps them.
//!
//! What they mean for ports is core's business.

use std::ops::RangeInclusive;
use std::path::Path;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::files;

const IPV4_SYSCTLS: &str = "/proc/sys/net/ipv4";

/// Port and TCP sysctls of one network namespace. IPv6, UDP and TCP share `net.ipv4.*`.
///
/// None: this kernel has no such sysctl, or it could not be read; only the second is reported as an error.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Settings {
    /// First and last port of automatic choice, both inclusive; never empty. Since: always.
    pub ip_local_port_range: Option<RangeInclusive<u16>>,
    /// Ports left out of automatic choice, as the kernel writes them: ascending, disjoint. Since: 2.6.35.
    pub ip_local_reserved_ports: Option<Vec<RangeInclusive<u16>>>,
    /// May connect() take over a TIME_WAIT bucket: 0 no, 1 yes, 2 on loopback only (the default). Since: always.
    pub tcp_tw_reuse: Option<u32>,
    /// Age in milliseconds before a TIME_WAIT bucket may be taken over. Since: 6.14; before, about 1 s, fixed.
    pub tcp_tw_reuse_delay_ms: Option<u32>,
    /// Seconds an orphan stays in FIN_WAIT2. It does not set TIME_WAIT's length. Since: always.
    pub tcp_fin_timeout_s: Option<u32>,
    /// TIME_WAIT buckets allowed; closes beyond it leave none. Since: always, per namespace since 4.10.
    pub tcp_max_tw_buckets: Option<u32>,
    /// Whether timestamps are offered; without them no TIME_WAIT bucket is reused. Since: always.
    pub tcp_timestamps: Option<bool>,
    /// Whether bind() to port 0 may share a port between SO_REUSEADDR sockets. Since: 5.7.
    pub ip_autobind_reuse: Option<bool>,
    /// Step of the search for a free port, in ports. Since: 7.1.
    pub ip_local_port_step_width: Option<u32>,
    /// The established hash that every dump of this namespace walks. Since: 6.1.
    pub tcp_ehash_entries: Option<EstablishedHash>,
    /// Buckets that namespaces made from this one get for their own; 0 means they share the first namespace's
    /// hash. Since: 6.1.
    pub tcp_child_ehash_entries: Option<u32>,
}

/// The hash table of connected sockets. A dump visits all its buckets, whichever namespace they serve.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct EstablishedHash {
    /// Buckets.
    pub buckets: u32,
    /// Whether the table belongs to the first namespace and is shared with others.
    pub shared: bool,
}

impl Settings {
    /// Reads the sysctls of the calling thread's network namespace; adds to `unread` what should be there and
    /// could not be read. Needs no privilege.
    pub fn read(unread: &mut Vec<Error>) -> Settings {
        Settings::read_under(Path::new(IPV4_SYSCTLS), unread)
    }

    fn read_under(folder: &Path, unread: &mut Vec<Error>) -> Settings {
        let mut sysctls = Sysctls { folder, unread };
        Settings {
            ip_local_port_range: sysctls.required("ip_local_port_range", TWO_PORTS, parse_port_range),
            ip_local_reserved_ports: sysctls.required("ip_local_reserved_ports", PORT_LIST, parse_port_list),
            tcp_tw_reuse: sysctls.required("tcp_tw_reuse", NUMBER, parse_number),
            tcp_tw_reuse_delay_ms: sysctls.optional("tcp_tw_reuse_delay", NUMBER, parse_number),
            tcp_fin_timeout_s: sysctls.required("tcp_fin_timeout", NUMBER, parse_number),
            tcp_max_tw_buckets: sysctls.required("tcp_max_tw_buckets", NUMBER, parse_number),
            tcp_timestamps: sysctls.required("tcp_timestamps", NUMBER, parse_switch),
            ip_autobind_reuse: sysctls.optional("ip_autobind_reuse", NUMBER, parse_switch),
            ip_local_port_step_width: sysctls.optional("ip_local_port_step_width", NUMBER, parse_number),
            tcp_ehash_entries: sysctls.optional("tcp_ehash_entries", "a number of buckets", parse_hash),
            tcp_child_ehash_entries: sysctls.optional("tcp_child_ehash_entries", NUMBER, parse_number),
        }
    }
}

const NUMBER: &str = "a number";
const TWO_PORTS: &str = "two ports, the first not above the second";
const PORT_LIST: &str = "a list of ports and ranges of ports";

/// A folder of sysctls, and what went wrong in it.
struct Sysctls<'a> {
    folder: &'a Path,
    unread: &'a mut Vec<Error>,
}

impl Sysctls<'_> {
    /// A sysctl that every supported kernel has: when it is missing, `/proc/sys` is masked.
    fn required<T>(&mut self, name: &str, expected: &'static str, parse: fn(&str) -> Option<T>) -> Option<T> {
        self.value(name, expected, parse).map_err(|error| self.unread.push(error)).ok()
    }

    /// A sysctl that only some kernels have: missing is an answer, not an error.
    fn optional<T>(&mut self, name: &str, expected: &'static str, parse: fn(&str) -> Option<T>) -> Option<T> {
        match self.value(name, expected, parse) {
            Ok(value) => Some(value),
            Err(error) => {
                if !error.is_missing() {
                    self.unread.push(error);
                }
                None
            }
        }
    }

    fn value<T>(&self, name: &str, expected: &'static str, parse: fn(&str) -> Option<T>) -> Result<T> {
        let path = self.folder.join(name);
        let text = files::read_sysctl(&path)?;
        parse(&text).ok_or_else(|| Error::malformed(path, expected, &text))
    }
}

/// The text of `ip_local_port_range`: two ports from 1 to 65535, the first not above the second.
/// None for any other text.
pub fn parse_port_range(text: &str) -> Option<RangeInclusive<u16>> {
    let mut words = text.split_ascii_whitespace();
    let (first, last) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    (words.next().is_none() && first != 0 && first <= last).then_some(first..=last)
}

/// The text of `ip_local_reserved_ports`: ports and ranges `a-b` between commas, in the order given; nothing at
/// all is an empty list. None for any other text, so that a cut list is never taken for a whole one.
pub fn parse_port_list(text: &str) -> Option<Vec<RangeInclusive<u16>>> {
    match text.trim() {
        "" => Some(Vec::new()),
        text => text.split(',').map(parse_ports).collect(),
    }
}

fn parse_ports(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (first <= last).then_some(first..=last)
}

fn parse_number<T: FromStr>(text: &str) -> Option<T> {
    text.trim().parse().ok()
}

/// On is any number but 0: `tcp_timestamps` also has 2, on without random offsets.
fn parse_switch(text: &str) -> Option<bool> {
    parse_number::<u32>(text).map(|number| number != 0)
}

/// The kernel writes the size of a shared table as a negative number.
fn parse_hash(text: &str) -> Option<EstablishedHash> {
    let entries = parse_number::<i32>(text)?;
    Some(EstablishedHash { buckets: entries.unsigned_abs(), shared: entries < 0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn port_ranges() {
        assert_eq!(parse_port_range("32768\t60999\n"), Some(32768..=60999));
        assert_eq!(parse_port_range("1 1"), Some(1..=1));
        for text in ["", "\n", "32768", "2 1", "0 5", "1 65536", "-1 5", "1 2 3", "a b"] {
            assert_eq!(parse_port_range(text), None, "{text:?}");
        }
    }

    #[test]
    fn reserved_lists() {
        assert_eq!(parse_port_list(""), Some(vec![]));
        assert_eq!(parse_port_list("\n"), Some(vec![]));
        assert_eq!(parse_port_list("1-3,5\n"), Some(vec![1..=3, 5..=5]));
        assert_eq!(parse_port_list("0-65535"), Some(vec![0..=65535]));
        assert_eq!(parse_port_list("8080"), Some(vec![8080..=8080]));
        for text in ["garbage", "1-", "-3", "3-1", "1,,2", "1,", "65536", "1-2-3", "1;2", "1 2"] {
            assert_eq!(parse_port_list(text), None, "{text:?}");
        }
    }

    #[test]
    fn hashes_are_shared_when_negative() {
        assert_eq!(parse_hash("262144\n"), Some(EstablishedHash { buckets: 262_144, shared: false }));
        assert_eq!(parse_hash("-262144\n"), Some(EstablishedHash { buckets: 262_144, shared: true }));
        assert_eq!(parse_hash("-2147483648"), Some(EstablishedHash { buckets: 1 << 31, shared: true }));
        assert_eq!(parse_hash("many"), None);
    }

    #[test]
    fn switches_are_on_above_zero() {
        assert_eq!(parse_switch("0\n"), Some(false));
        assert_eq!(parse_switch("2\n"), Some(true));
        assert_eq!(parse_switch("on"), None);
    }

    #[test]
    fn a_masked_proc_sys_costs_only_what_it_hides() {
        let folder = std::env::temp_dir().join(format!("sockeye-sysctls-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("ip_local_port_range"), "40000\t40999\n").unwrap();
        std::fs::write(folder.join("tcp_tw_reuse"), "yes\n").unwrap();
        std::fs::write(folder.join("tcp_tw_reuse_delay"), "soon\n").unwrap();
        let mut unread = Vec::new();
        let settings = Settings::read_under(&folder, &mut unread);
        std::fs::remove_dir_all(&folder).unwrap();

        let expected = Settings { ip_local_port_range: Some(40000..=40999), ..Settings::default() };
        assert_eq!(settings, expected);
        // What old kernels lack is no error; what is there and senseless is, whichever kernel has it.
        let messages: Vec<String> = unread.iter().map(|error| error.to_string()).collect();
        assert_eq!(messages.len(), 6, "{messages:?}");
        assert_eq!(unread.iter().filter(|error| error.is_missing()).count(), 4, "{messages:?}");
        let said = |what: &str| messages.iter().any(|message| message.contains(what));
        assert!(said("ip_local_reserved_ports: No such file"), "{messages:?}");
        assert!(said("tcp_tw_reuse: expected a number, found \"yes\""), "{messages:?}");
        assert!(said("tcp_tw_reuse_delay: expected a number, found \"soon\""), "{messages:?}");
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in "\\PC{0,40}|[0-9,\\- \\n\\t]{0,40}") {
            if let Some(range) = parse_port_range(&text) {
                prop_assert!(!range.is_empty());
            }
            if let Some(ranges) = parse_port_list(&text) {
                prop_assert!(ranges.iter().all(|range| !range.is_empty()));
            }
            parse_hash(&text);
        }

        #[test]
        fn what_the_kernel_writes_is_read_back(ports in proptest::collection::vec((any::<u16>(), any::<u16>()), 0..50)) {
            let ranges: Vec<_> = ports.iter().map(|(a, b)| *a.min(b)..=*a.max(b)).collect();
            let words: Vec<_> = ranges
                .iter()
                .map(|r| if r.start() == r.end() { format!("{}", r.start()) } else { format!("{}-{}", r.start(), r.end()) })
                .collect();
            prop_assert_eq!(parse_port_list(&format!("{}\n", words.join(","))), Some(ranges));
        }
    }
}
