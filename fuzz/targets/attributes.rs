//! Every accessor of a record over arbitrary bytes.

use sock_diag::{DiagMsg, Protocol, StateSet};

pub(super) fn run(bytes: &[u8]) {
    for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Mptcp] {
        let Some(diag) = DiagMsg::parse(bytes, protocol) else {
            assert!(bytes.len() < 72);
            continue;
        };
        let record = diag.to_record();
        assert_eq!(record, diag.to_record());
        assert_eq!(record.family, diag.family());
        let _ = (record.is_mini(), record.is_bound_inactive(), record.is_in(StateSet::ALL));
        let _ = format!("{record:?} {} {}", record.state, record.protocol);

        let attributes_bytes: usize = diag.attributes().map(|a| 4 + a.payload.len()).sum();
        assert!(attributes_bytes <= bytes.len() - 72, "attributes do not overlap");
        for attribute in diag.attributes() {
            assert!(diag.attribute(attribute.kind).is_some());
        }
        let _ = (diag.memory(), diag.v6_only());
        for name in [diag.congestion(), diag.upper_layer()].into_iter().flatten() {
            assert!(!name.contains(&0));
        }
        if let Some(info) = diag.tcp_info() {
            let length = diag.attribute(sock_diag::attribute::INFO).map_or(0, <[u8]>::len);
            assert_eq!(info.state().is_some(), length >= 1);
            assert_eq!(info.rtt_us().is_some(), length >= 72);
            assert_eq!(info.received_bytes().is_some(), length >= 136);
            assert_eq!(info.total_timeouts().is_some(), length >= 242);
            let _ = (info.window_scales(), info.timestamps());
        }
    }
}
