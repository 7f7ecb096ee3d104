//! Arbitrary text as a filter: refused with a place inside the text, or read, written canonically, and read back equal;
//! compiled; and asked of a record.

use std::net::IpAddr;
use std::num::NonZeroU32;

use sock_diag::filter::{Filter, Names};
use sock_diag::{DiagMsg, Protocol};

/// Knows a little of everything.
struct SomeNames;

impl Names for SomeNames {
    fn service(&self, name: &str) -> Option<u16> {
        (name == "ssh").then_some(22)
    }

    fn host(&self, name: &str) -> Vec<IpAddr> {
        let found = (name == "localhost").then(|| ["127.0.0.1".parse(), "::1".parse()]);
        found.into_iter().flatten().flatten().collect()
    }

    fn interface(&self, name: &str) -> Option<NonZeroU32> {
        (name == "lo").then_some(NonZeroU32::MIN)
    }

    fn cgroup(&self, path: &str) -> Option<u64> {
        (path == "/").then_some(1)
    }

    fn cgroups_below(&self, path: &str) -> Option<Vec<u64>> {
        (path == "/").then(|| vec![1, 8, 9])
    }

    fn port_range(&self) -> Option<(u16, u16)> {
        Some((32_768, 60_999))
    }
}

pub(super) fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Filter::parse(text, &SomeNames) {
        Ok(filter) => {
            let canonical = filter.to_string();
            let again = Filter::parse(&canonical, &SomeNames);
            assert_eq!(again.as_ref(), Ok(&filter), "{text:?} became {canonical:?}");
            let _ = filter.compile();
            let record = DiagMsg::parse(&[0; 72], Protocol::Tcp).map(|diag| diag.to_record());
            assert!(record.is_some_and(|record| filter.matches(&record) == filter.matches(&record)));
        }
        Err(error) => {
            assert!(text.get(error.span.clone()).is_some(), "{:?} of {text:?}", error.span);
            assert!(!error.message.contains(char::is_control));
            assert!(error.render(text).lines().any(|line| line.trim_start().starts_with('^')));
        }
    }
}
