//! Arbitrary text as the small files that are read besides: ports, counters, services, capabilities.

use sock_diag::Protocol;
use sockeye_host::{Capabilities, Counters, Services, parse_port_list, parse_port_range};

pub(super) fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(range) = parse_port_range(text) {
        let written = format!("{}\t{}\n", range.start(), range.end());
        assert!(*range.start() > 0 && range.start() <= range.end());
        assert_eq!(parse_port_range(&written), Some(range));
    }
    if let Some(list) = parse_port_list(text) {
        assert!(list.iter().all(|ports| ports.start() <= ports.end()));
        let written: Vec<String> =
            list.iter().map(|ports| format!("{}-{}", ports.start(), ports.end())).collect();
        assert_eq!(parse_port_list(&written.join(",")), Some(list));
    }
    let services = Services::parse(text);
    for name in text.split_ascii_whitespace() {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let port = services.port(protocol, name);
            assert!(port.is_none_or(|port| services.name(protocol, port).is_some()), "{name} {port:?}");
        }
    }
    let mut counters = Counters::default();
    counters.parse_titled(text);
    counters.parse_paired(text);
    let again = counters;
    counters.parse_titled(text);
    counters.parse_paired(text);
    assert_eq!(counters, again);
    let _ = Capabilities::parse(text);
}
