//! Reads one end of a socket: hosts, networks and ports, with or without a family.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::error::quoted;
use super::expr::{Expr, Ports, Prefix, Side, Test, longest_prefix};
use super::names::Names;
use super::token::Comparison;
use super::value::{NotANumber, Read, Value, is_number, number, split_at};
use crate::record::Family;

/// `[FAMILY:]ADDRESS[/BITS][:PORTS]`, with the number of addresses it stands for.
pub(super) fn host(value: Value<'_>, side: Side, names: &dyn Names) -> Read<(Expr, usize)> {
    let (family, rest) = family(&value)?;
    let parts = split_host(&rest)?;
    let ports = match &parts.ports {
        Some(ports) => port_range(ports, names)?,
        None => Ports::ALL,
    };
    let endpoint = |prefix| Expr::Test(Test::Endpoint { side, prefix, ports });
    match prefixes(&parts, family, names)? {
        Prefixes::Any if family.is_some() && ports == Ports::ALL => Ok((of_family(family, None), 1)),
        Prefixes::Any => Ok((of_family(family, Some(endpoint(None))), 1)),
        Prefixes::Some(list) => {
            let count = list.len();
            let expr = Expr::any(list.into_iter().map(|prefix| endpoint(Some(prefix))).collect());
            // IPv6 networks hold no other sockets anyway; IPv4 ones hold v4-mapped ones.
            Ok((of_family(family.filter(|family| *family != Family::Inet6), Some(expr)), count))
        }
    }
}

enum Prefixes {
    Any,
    /// At least one.
    Some(Vec<Prefix>),
}

/// The parts of a host value; what is not there is None.
struct HostParts<'t> {
    address: Value<'t>,
    bracketed: bool,
    bits: Option<Value<'t>>,
    ports: Option<Value<'t>>,
}

fn split_host<'t>(value: &Value<'t>) -> Read<HostParts<'t>> {
    let text = value.text;
    if let Some(inside) = text.strip_prefix('[') {
        let Some((inside, after)) = inside.split_once(']') else {
            return Err(value.wrong("this `[` is never closed"));
        };
        // ss wants the prefix length inside the brackets, people write it behind them.
        let (address, inner_bits) = split_at(inside, '/');
        let (bits, ports) = match after.chars().next() {
            None => (inner_bits, None),
            Some(':') => (inner_bits, Some(&after[1..])),
            Some('/') if inner_bits.is_none() => {
                let (bits, ports) = split_at(&after[1..], ':');
                (Some(bits), ports)
            }
            Some(_) => return Err(value.part(after).wrong("expected `:PORT` or `/BITS` after `]`")),
        };
        return Ok(HostParts {
            address: value.part(address),
            bracketed: true,
            bits: bits.map(|bits| value.part(bits)),
            ports: ports.map(|ports| value.part(ports)),
        });
    }
    let (address, bits, ports) = if let (address, Some(after)) = split_at(text, '/') {
        let (bits, ports) = split_at(after, ':');
        (address, Some(bits), ports)
    } else if text.parse::<Ipv6Addr>().is_ok() {
        if let Some((head, tail)) = text.rsplit_once(':')
            && head.parse::<Ipv6Addr>().is_ok()
            && port_number(tail).is_ok()
        {
            let message = format!("{} may end in a port or not", quoted(text));
            return Err(value.wrong(message).help(format!("write `[{head}]:{tail}` or `[{text}]`")));
        }
        (text, None, None)
    } else {
        match text.rsplit_once(':') {
            Some((address, _)) if address.contains(':') => {
                let error = value.part(address).wrong(format!("{} is not an address", quoted(address)));
                return Err(error.help("an IPv6 address with a port goes in brackets: `[::1]:80`"));
            }
            Some((address, ports)) => (address, None, Some(ports)),
            None => (text, None, None),
        }
    };
    Ok(HostParts {
        address: value.part(address),
        bracketed: false,
        bits: bits.map(|bits| value.part(bits)),
        ports: ports.map(|ports| value.part(ports)),
    })
}

fn prefixes(parts: &HostParts<'_>, family: Option<Family>, names: &dyn Names) -> Read<Prefixes> {
    let address = &parts.address;
    let is_any = ["", "*", "any", "all", "default"].iter().any(|any| any.eq_ignore_ascii_case(address.text));
    let literal = literal_address(parts)?;
    let list = match literal {
        Some(literal) => {
            let bits = match &parts.bits {
                Some(bits) => prefix_length(bits, longest_prefix(literal))?,
                None => longest_prefix(literal),
            };
            vec![Prefix::new(literal, bits)]
        }
        None => {
            if let Some(bits) = &parts.bits {
                return Err(bits.wrong("a prefix length needs an address before it"));
            }
            if is_any && !parts.bracketed {
                return Ok(Prefixes::Any);
            }
            let list: Vec<Prefix> = names.host(address.text).into_iter().map(Prefix::host).collect();
            if list.is_empty() {
                return Err(address.wrong(format!("no host is known as {}", quoted(address.text))));
            }
            list
        }
    };
    let fitting: Vec<Prefix> = list
        .into_iter()
        .filter(|prefix| match family {
            Some(Family::Inet6) => prefix.address.is_ipv6(),
            Some(_) => prefix.address.is_ipv4(),
            None => true,
        })
        .collect();
    if fitting.is_empty() {
        let name = family.map_or("this", |family| family.name());
        return Err(address.wrong(format!("{} is no {name} address", quoted(address.text))));
    }
    Ok(Prefixes::Some(fitting))
}

/// The address if it is written as one; None for a name.
fn literal_address(parts: &HostParts<'_>) -> Read<Option<IpAddr>> {
    let address = &parts.address;
    let text = address.text;
    if let Ok(v6) = text.parse::<Ipv6Addr>() {
        return Ok(Some(v6.into()));
    }
    if parts.bracketed || text.contains(':') {
        let error = address.wrong(format!("{} is not an IPv6 address", quoted(text)));
        return Err(if text.contains('%') {
            error.help("leave the zone out, and add `dev INTERFACE` for sockets bound to one")
        } else {
            error
        });
    }
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Ok(None);
    }
    if let Ok(v4) = text.parse::<Ipv4Addr>() {
        return Ok(Some(v4.into()));
    }
    // `10/8` and `193.233.7/24`, as ss and people write networks.
    if parts.bits.is_some() && text.split('.').count() <= 4 {
        let mut octets = [0; 4];
        let fits = text
            .split('.')
            .zip(&mut octets)
            .all(|(part, octet)| part.parse().map(|number| *octet = number).is_ok());
        if fits {
            return Ok(Some(Ipv4Addr::from(octets).into()));
        }
    }
    Err(address.wrong(format!("{} is not an IPv4 address", quoted(text))).help("write all four numbers"))
}

fn prefix_length(bits: &Value<'_>, most: u8) -> Read<u8> {
    match bits.text.parse::<u8>() {
        Ok(length) if length <= most && !bits.text.starts_with('+') => Ok(length),
        _ => Err(bits.wrong(format!("{} is not a prefix length from 0 to {most}", quoted(bits.text)))),
    }
}

/// Takes `inet:` or `inet6:` off a value.
fn family<'t>(value: &Value<'t>) -> Read<(Option<Family>, Value<'t>)> {
    let Some((word, rest)) = value.text.split_once(':') else {
        return Ok((None, value.clone()));
    };
    let family = match word.to_ascii_lowercase().as_str() {
        "inet" => Family::Inet,
        "inet6" => Family::Inet6,
        "unix" | "link" | "netlink" | "vsock" | "tipc" | "xdp" => {
            let error = value.part(word).wrong(format!("{word} sockets are not watched here"));
            return Err(error.help("the families are `inet` and `inet6`"));
        }
        _ => return Ok((None, value.clone())),
    };
    Ok((Some(family), value.part(rest)))
}

/// `expr` for sockets of `family` alone.
fn of_family(family: Option<Family>, expr: Option<Expr>) -> Expr {
    Expr::all(family.map(|family| Expr::Test(Test::Family(family))).into_iter().chain(expr).collect())
}

/// What a comparison with `[FAMILY:][:]PORT`, or with a range of them, says.
pub(super) fn port(value: Value<'_>, side: Side, comparison: Comparison, names: &dyn Names) -> Read<Expr> {
    let (family, rest) = family(&value)?;
    let rest = rest.part(rest.text.strip_prefix(':').unwrap_or(rest.text));
    let ports = port_range(&rest, names)?;
    let is_equality = matches!(comparison, Comparison::Equal | Comparison::NotEqual);
    if ports.first != ports.last && !is_equality {
        return Err(rest.wrong("a range can only be compared with `=` and `!=`"));
    }
    let within =
        |first, last| Expr::Test(Test::Endpoint { side, prefix: None, ports: Ports { first, last } });
    let none = || within(0, u16::MAX).negate();
    let Ports { first, last } = ports;
    let expr = match comparison {
        Comparison::Equal => within(first, last),
        Comparison::NotEqual => within(first, last).negate(),
        Comparison::Less => first.checked_sub(1).map_or_else(none, |below| within(0, below)),
        Comparison::LessOrEqual => within(0, first),
        Comparison::Greater => first.checked_add(1).map_or_else(none, |above| within(above, u16::MAX)),
        Comparison::GreaterOrEqual => within(first, u16::MAX),
    };
    Ok(of_family(family, Some(expr)))
}

/// `PORT`, `FIRST-LAST`, or `*` (or nothing) for all.
fn port_range(value: &Value<'_>, names: &dyn Names) -> Read<Ports> {
    if matches!(value.text, "*" | "") {
        return Ok(Ports::ALL);
    }
    if let Some((first, last)) = value.text.split_once('-')
        && is_number(first)
        && is_number(last)
    {
        let range =
            Ports { first: one_port(&value.part(first), names)?, last: one_port(&value.part(last), names)? };
        if range.first > range.last {
            let error = value.wrong(format!("the range {} ends before it begins", quoted(value.text)));
            return Err(error.help(format!("write `{}-{}`", range.last, range.first)));
        }
        return Ok(range);
    }
    let port = one_port(value, names)?;
    Ok(Ports { first: port, last: port })
}

fn one_port(value: &Value<'_>, names: &dyn Names) -> Read<u16> {
    if is_number(value.text) || value.text.starts_with('-') {
        return port_number(value.text).map_err(|what| match what {
            NotANumber::Octal => value
                .wrong(format!("{} may be octal or decimal", quoted(value.text)))
                .help("leave the zeros in front out"),
            NotANumber::Other => {
                value.wrong(format!("{} is not a port: they go from 0 to 65535", quoted(value.text)))
            }
        });
    }
    names.service(value.text).ok_or_else(|| {
        value
            .wrong(format!("no service is known as {}", quoted(value.text)))
            .help("write the port as a number")
    })
}

fn port_number(text: &str) -> Result<u16, NotANumber> {
    number(text).and_then(|number| u16::try_from(number).map_err(|_| NotANumber::Other))
}
