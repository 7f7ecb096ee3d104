//! Closes for people: one line each, in columns that grow with the addresses and never shrink.

use std::fmt::Write as _;
use std::net::SocketAddr;

use sockeye_core::{Closed, ClosedBy, Direction, Lifetime};

use crate::by::FormerOwner;
use crate::terminal::Palette;

/// Columns of the ends: wide enough for IPv4, until something longer comes.
pub(crate) struct Table {
    header: bool,
    ends: [usize; 2],
    /// Columns of a terminal that has no room for everything.
    narrow: Option<usize>,
    palette: Palette,
    /// With a column of owners.
    owners: bool,
}

/// `255.255.255.255:65535`.
const IPV4_WIDTH: usize = 21;
/// Columns that all takes, with IPv4 ends.
const WIDE: usize = 135;
/// Columns that it takes with the bytes, but without what is least asked for.
const WITH_BYTES: usize = 98;

impl Table {
    pub(crate) fn new(header: bool, width: Option<usize>, palette: Palette, owners: bool) -> Table {
        let narrow = width.filter(|width| *width < WIDE);
        Table { header, ends: [IPV4_WIDTH; 2], narrow, palette, owners }
    }

    /// The header line, where one is wanted.
    pub(crate) fn header(&self) -> String {
        if !self.header {
            return String::new();
        }
        let Palette { heading, reset, .. } = self.palette;
        let [local, remote] = self.ends;
        let (time, sent, received) = ("TIME", "SENT", "RECEIVED");
        if let Some(width) = self.narrow {
            let bytes = if width < WITH_BYTES { String::new() } else { format!(" {sent:>9} {received:>9}") };
            return format!(
                "{heading}{time:<8} {:<local$}   {:<remote$} {:>13}{bytes} {}{reset}\n",
                "LOCAL",
                "REMOTE",
                "LIFETIME",
                if self.owners { "BY      OWNER" } else { "BY" }
            );
        }
        format!(
            "{heading}{time:<12}  PROTO  {:<local$}  {:<remote$}  DIRECTION  {:>18}  {sent:>11}  {received:>11}  RETRANS  \
             {}{reset}\n",
            "LOCAL",
            "REMOTE",
            "LIFETIME",
            if self.owners { "CLOSED BY  OWNER" } else { "CLOSED BY" }
        )
    }

    /// The line of a close that happened at `at`.
    pub(crate) fn line(
        &mut self,
        closed: &Closed,
        owner: Option<&FormerOwner>,
        at: jiff::Timestamp,
    ) -> String {
        let ends = [closed.local, closed.remote].map(end);
        for (width, end) in self.ends.iter_mut().zip(&ends) {
            *width = (*width).max(end.len());
        }
        let Palette { dim, reset, .. } = self.palette;
        let ([local, remote], [local_width, remote_width]) = (ends, self.ends);
        let number = |number: Option<u64>| number.map_or_else(|| "—".to_owned(), |number| number.to_string());
        let told = closed.end.unwrap_or_default();
        let mut text = String::new();
        if let Some(width) = self.narrow {
            let arrow = match closed.direction {
                Direction::Outgoing => '→',
                Direction::Incoming => '←',
                Direction::Unknown => '-',
            };
            let _ = write!(
                text,
                "{dim}{}{reset} {local:<local_width$} {arrow} {remote:<remote_width$} {:>13}",
                at.strftime("%H:%M:%S"),
                lifetime(closed.lifetime),
            );
            if width >= WITH_BYTES {
                let _ =
                    write!(text, " {:>9} {:>9}", number(told.sent_bytes), number(closed.received_bytes()));
            }
            text.push(' ');
            self.put_closer(&mut text, closed, owner, 6);
            return text;
        }
        let _ = write!(
            text,
            "{dim}{}{reset}  {:<5}  {local:<local_width$}  {remote:<remote_width$}  {:<9}  {:>18}  {:>11}  {:>11}  {:>7}  ",
            at.strftime("%H:%M:%S%.3f"),
            closed.protocol.name(),
            direction(closed),
            lifetime(closed.lifetime),
            number(told.sent_bytes),
            number(closed.received_bytes()),
            number(told.retransmits.map(u64::from)),
        );
        self.put_closer(&mut text, closed, owner, 9);
        text
    }

    /// Who closed it, and who had it; the former in so many columns, if the latter follows.
    fn put_closer(&self, text: &mut String, closed: &Closed, owner: Option<&FormerOwner>, width: usize) {
        let Palette { warn, reset, .. } = self.palette;
        let closer = match closed.closed_by {
            ClosedBy::Unknown => "—",
            other => other.name(),
        };
        let (before, after) = if closed.closed_by == ClosedBy::Reset { (warn, reset) } else { ("", "") };
        let _ = match self.owners {
            true => {
                let owner = owner.map_or("—", |owner| &owner.label);
                writeln!(text, "{before}{closer:<width$}{after}  {owner}")
            }
            false => writeln!(text, "{before}{closer}{after}"),
        };
    }
}

fn end(end: Option<SocketAddr>) -> String {
    end.map_or_else(|| "?".to_owned(), |end| end.to_string())
}

fn direction(closed: &Closed) -> &'static str {
    match (closed.direction, closed.is_local()) {
        (Direction::Outgoing, Some(true)) => "out local",
        (Direction::Incoming, Some(true)) => "in local",
        (Direction::Unknown, Some(true)) => "local",
        (Direction::Outgoing, _) => "out",
        (Direction::Incoming, _) => "in",
        (Direction::Unknown, _) => "—",
    }
}

/// `1.20 s ±0.50`, or `> 3.00 s` when it began before the watch.
fn lifetime(lifetime: Lifetime) -> String {
    let (Some(middle), Some(doubt)) = (lifetime.middle_ms(), lifetime.uncertainty_ms()) else {
        let (scale, unit, decimals) = unit(lifetime.min_ms);
        return format!("> {:.decimals$} {unit}", lifetime.min_ms as f64 / scale);
    };
    let (scale, unit, decimals) = unit(middle);
    let shown = format!("{:.decimals$}", doubt as f64 / scale);
    let middle = format!("{:.decimals$} {unit}", middle as f64 / scale);
    // Less than the last digit shown is no doubt about it.
    match shown.bytes().any(|digit| (b'1'..=b'9').contains(&digit)) {
        true => format!("{middle} ±{shown}"),
        false => middle,
    }
}

/// Milliseconds in the unit that suits so many, its name and its decimals.
pub(super) fn unit(ms: u64) -> (f64, &'static str, usize) {
    match ms {
        0..1_000 => (1.0, "ms", 0),
        1_000..100_000 => (1_000.0, "s", 2),
        100_000..7_200_000 => (60_000.0, "min", 1),
        _ => (3_600_000.0, "h", 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_say_how_sure_they_are() {
        for (min_ms, max_ms, text) in [
            (700, Some(1_700), "1.20 s ±0.50"),
            (3_000, None, "> 3.00 s"),
            (0, Some(9), "4 ms ±5"),
            (850, Some(850), "850 ms"),
            (60_000, Some(60_008), "60.00 s"),
            (599_000, Some(601_000), "10.0 min"),
            (0, Some(1_000_000), "8.3 min ±8.3"),
            (0, None, "> 0 ms"),
            (8_000_000, None, "> 2.2 h"),
        ] {
            assert_eq!(lifetime(Lifetime { min_ms, max_ms }), text);
        }
    }
}
