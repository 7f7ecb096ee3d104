//! Names of ports: `/etc/services`.
//!
//! Read directly, not through the C library's name service: a name for a port is worth no network request.

use std::collections::HashMap;
use std::path::Path;
use std::sync::OnceLock;

use sock_diag::Protocol;

use crate::files;

const SERVICES: &str = "/etc/services";

/// Names of TCP and UDP ports. Where a port or a name stands twice, the first line counts, as in getservbyport().
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Services {
    names: HashMap<(Protocol, u16), String>,
    ports: HashMap<String, Vec<(Protocol, u16)>>,
}

impl Services {
    /// This system's names, read at the first call and kept; none when there is no readable `/etc/services`.
    pub fn of_system() -> &'static Services {
        static SYSTEM: OnceLock<Services> = OnceLock::new();
        SYSTEM.get_or_init(|| {
            files::read(Path::new(SERVICES)).map(|text| Services::parse(&text)).unwrap_or_default()
        })
    }

    /// From text in the form `name port/protocol alias…  # comment`; other lines are passed over. Never fails.
    pub fn parse(text: &str) -> Services {
        let mut services = Services::default();
        for line in text.lines() {
            let code = line.split('#').next().unwrap_or_default();
            let mut words = code.split_ascii_whitespace();
            let (Some(name), Some((port, protocol))) =
                (words.next(), words.next().and_then(|word| word.split_once('/')))
            else {
                continue;
            };
            let (Ok(port), Some(protocol)) = (port.parse::<u16>(), transport(protocol)) else { continue };
            services.names.entry((protocol, port)).or_insert_with(|| name.to_owned());
            for name in std::iter::once(name).chain(words) {
                let ports = services.ports.entry(name.to_owned()).or_default();
                if !ports.iter().any(|(known, _)| *known == protocol) {
                    ports.push((protocol, port));
                }
            }
        }
        services
    }

    /// Name of `port`; None when it has none. MPTCP has TCP's names, UDP-Lite has UDP's.
    pub fn name(&self, protocol: Protocol, port: u16) -> Option<&str> {
        self.names.get(&(carrier(protocol), port)).map(String::as_str)
    }

    /// Port that goes by `name` or has it as an alias, case-sensitive; None when there is none.
    pub fn port(&self, protocol: Protocol, name: &str) -> Option<u16> {
        let protocol = carrier(protocol);
        self.ports.get(name)?.iter().find(|(known, _)| *known == protocol).map(|(_, port)| *port)
    }
}

fn transport(name: &str) -> Option<Protocol> {
    match name {
        "tcp" => Some(Protocol::Tcp),
        "udp" => Some(Protocol::Udp),
        _ => None,
    }
}

/// The protocol under whose name the port is registered.
fn carrier(protocol: Protocol) -> Protocol {
    match protocol {
        Protocol::Mptcp => Protocol::Tcp,
        Protocol::UdpLite => Protocol::Udp,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_and_aliases() {
        let services = Services::parse(
            "# comment\nhttp\t80/tcp\twww www-http # WorldWideWeb\nhttp 80/udp\nother 80/tcp\nhttp 81/tcp\n\
             syslog 514/udp\nshell 514/tcp cmd\nm2ua 2904/sctp\nbroken\nbroken 1\nbroken x/tcp\nbroken 70000/tcp\n",
        );
        assert_eq!(services.name(Protocol::Tcp, 80), Some("http"));
        assert_eq!(services.name(Protocol::Mptcp, 80), Some("http"));
        assert_eq!(services.name(Protocol::Udp, 514), Some("syslog"));
        assert_eq!(services.name(Protocol::UdpLite, 514), Some("syslog"));
        assert_eq!(services.name(Protocol::Tcp, 514), Some("shell"));
        assert_eq!(services.name(Protocol::Tcp, 81), Some("http"));
        assert_eq!(services.name(Protocol::Tcp, 1), None);
        assert_eq!(services.port(Protocol::Tcp, "www-http"), Some(80));
        assert_eq!(services.port(Protocol::Tcp, "http"), Some(80));
        assert_eq!(services.port(Protocol::Tcp, "other"), Some(80));
        assert_eq!(services.port(Protocol::Udp, "shell"), None);
        assert_eq!(services.port(Protocol::Tcp, "WWW"), None);
        assert_eq!(services.port(Protocol::Tcp, "broken"), None);
        assert_eq!(services.name(Protocol::Unknown(132), 2904), None);
    }

    proptest! {
        #[test]
        fn every_name_leads_back(text in "\\PC{0,60}|(([a-c]{1,2} [0-9]{1,5}/(tcp|udp|sctp)( [a-c]){0,2}(#|\\n)){0,30})") {
            let services = Services::parse(&text);
            for ((protocol, _), name) in &services.names {
                // An earlier line may have given the name to another port.
                let port = services.port(*protocol, name);
                prop_assert!(port.is_some_and(|port| services.name(*protocol, port).is_some()), "{name} {port:?}");
            }
        }
    }
}
