//! `sockeye closes`: a line per connection that has ended, as it happens.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};

use anyhow::Context as _;
use sock_diag::filter::Filter;
use sock_diag::{SocketRecord, SocketState};
use sockeye_core::Closed;

use crate::args::{ClosesArgs, StreamFormat};
use crate::by::{FormerOwner, former_owner};
use crate::follow::{Follow, Told};
use crate::names::HostNames;
use crate::render::{closes_csv, closes_json, closes_table};
use crate::terminal::{self, Palette, buffered_stdout, ignore_closed_pipe};
use crate::whose::Facet;

/// Runs the command.
pub(crate) fn run(args: &ClosesArgs) -> anyhow::Result<()> {
    let facet = args.processes.then_some(Facet::Process);
    let mut follow = Follow::open_with_owners(&args.feed, &args.pace.pace(args.interval, None), facet)?;
    let filter = filter(&args.filter.join(" "), &follow)?;
    follow.keep_closed();
    let mut lines = Lines::new(args);
    let mut told = Told::default();
    let mut left = args.count.unwrap_or(u64::MAX);
    let mut out = buffered_stdout();
    let mut text = lines.header();
    let mut put = |text: &mut String| {
        let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        text.clear();
        written
    };
    // The header does not wait for the first close.
    let mut written = put(&mut text);
    while left > 0 && written.is_ok() {
        let Some(batch) = follow.next_closed()? else { break };
        told.tell(follow.notes());
        for closed in &batch {
            if left == 0 || !filter.as_ref().is_none_or(|filter| is_wanted(filter, closed)) {
                continue;
            }
            left -= 1;
            let owner = follow.whose().and_then(|whose| former_owner(closed, whose));
            text.push_str(&lines.line(closed, owner.as_ref(), follow.timestamp(closed.at.latest))?);
        }
        written = put(&mut text);
    }
    // Whoever read and closed the pipe had enough.
    ignore_closed_pipe(written).context("writing to standard output")?;
    follow.finish()
}

/// What a close becomes.
enum Lines {
    Table(closes_table::Table),
    Json,
    Csv { header: bool, processes: bool },
}

impl Lines {
    fn new(args: &ClosesArgs) -> Lines {
        match args.output.format() {
            StreamFormat::Table => Lines::Table(closes_table::Table::new(
                !args.output.no_header,
                terminal::width(),
                Palette::choose(args.color.when),
                args.processes,
            )),
            StreamFormat::Jsonl => Lines::Json,
            StreamFormat::Csv => Lines::Csv { header: !args.output.no_header, processes: args.processes },
        }
    }

    fn header(&self) -> String {
        match self {
            Lines::Table(table) => table.header(),
            Lines::Csv { header: true, processes } => closes_csv::header(*processes),
            Lines::Csv { .. } | Lines::Json => String::new(),
        }
    }

    fn line(
        &mut self,
        closed: &Closed,
        owner: Option<&FormerOwner>,
        at: jiff::Timestamp,
    ) -> anyhow::Result<String> {
        Ok(match self {
            Lines::Table(table) => table.line(closed, owner, at),
            Lines::Json => closes_json::line(closed, owner, at)?,
            Lines::Csv { processes, .. } => closes_csv::line(closed, processes.then_some(owner), at)?,
        })
    }
}

fn filter(text: &str, follow: &Follow) -> anyhow::Result<Option<Filter>> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let filter = Filter::parse(text, &HostNames::new(follow.surroundings()))
        .map_err(|error| anyhow::anyhow!("cannot read the filter\n{}", error.render(text)))?;
    if let Some(term) = filter.beyond_endpoints() {
        anyhow::bail!(
            "cannot filter closes by {term}: of a connection that is gone only its addresses and ports are known; \
             use src, dst, sport and dport"
        );
    }
    Ok(Some(filter))
}

/// Whether the filter lets a close through; one that did not tell its ends (a reset that no sweep had met) is let
/// through by none.
fn is_wanted(filter: &Filter, closed: &Closed) -> bool {
    let Some(local) = closed.local else { return false };
    let none = match local.ip() {
        IpAddr::V4(_) => SocketAddr::from(([0; 4], 0)),
        IpAddr::V6(_) => SocketAddr::from(([0; 16], 0)),
    };
    let remote = closed.remote.unwrap_or(none);
    let mut record = SocketRecord::bare(closed.protocol, SocketState::Close, local, remote);
    record.id.cookie = closed.cookie;
    // Filters with terms that a record may not answer were refused.
    filter.matches(&record).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use sock_diag::filter::NoNames;
    use sock_diag::{Cookie, Protocol};
    use sockeye_core::{ClosedBy, Direction, Evidence, Lifetime, Moment, OwnerId, When};

    use super::*;

    #[test]
    fn a_filter_sees_the_ends_of_a_close() {
        let mut closed = Closed {
            protocol: Protocol::Tcp,
            cookie: Cookie(1),
            local: Some("10.0.0.7:40000".parse().unwrap()),
            remote: Some("10.0.9.12:443".parse().unwrap()),
            owner: OwnerId::UNKNOWN,
            direction: Direction::Outgoing,
            closed_by: ClosedBy::Local,
            at: When::at(Moment(5)),
            lifetime: Lifetime { min_ms: 1, max_ms: Some(1) },
            evidence: Evidence::Event,
            end: None,
        };
        let wanted = |text: &str, closed: &Closed| is_wanted(&Filter::parse(text, &NoNames).unwrap(), closed);
        for text in ["dport = 443", "dst 10.0.9.0/24 and not sport = 443", "src 10.0.0.7:40000"] {
            assert!(wanted(text, &closed), "{text}");
        }
        assert!(!wanted("dport = 80 or src 10.0.9.12", &closed));
        assert_eq!(closed.is_local(), Some(false));
        closed.remote = closed.local;
        assert_eq!(closed.is_local(), Some(true));
        closed.remote = None;
        assert_eq!(closed.is_local(), None);
        assert!(wanted("sport = 40000", &closed) && !wanted("dport = 443", &closed));
        closed.local = None;
        assert!(!wanted("sport >= 0", &closed), "its ends are not known");
    }
}
