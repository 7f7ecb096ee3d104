//! How long a socket has stood, as far as one look at it tells: from its timers and its `tcp_info`.

use sock_diag::{SocketRecord, TcpInfo, TimerKind};

use super::{MINUTE_MS, StuckKind, is_mini};

/// How long a socket has been in its state, milliseconds, between two bounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Age {
    /// At least so long.
    pub min_ms: u64,
    /// At most so long; None where nothing tells.
    pub max_ms: Option<u64>,
}

/// Times of a `tcp_info` and of timers are in jiffies, 10 ms at the coarsest, and may be read a jiffy apart.
const JIFFY_MS: u64 = 20;
/// TCP_RTO_MAX: timeouts double until here. A lower `tcp_rto_max_ms` (Linux 6.15) makes the true age greater.
const LONGEST_TIMEOUT_MS: u64 = 120_000;
/// More doublings of a millisecond exceed the longest timeout.
const MOST_DOUBLINGS: u8 = 17;

impl Age {
    /// As of one look. `info` as a lookup of the socket had it; `fin_timeout_ms` is `net.ipv4.tcp_fin_timeout`. None where a
    /// look tells nothing, as of a socket that is bound and idle.
    ///
    /// - CLOSE_WAIT: the peer's FIN was the last that came, or an answer came later (`tcpi_last_ack_recv`); no data came after
    ///   it (`tcpi_last_data_recv`).
    /// - SYN_SENT and orphans: the timeouts that the peer let pass, which double, and the part of the current one. An orphan
    ///   may have been closed later than that: the peer was stuck already.
    /// - Orphans in FIN_WAIT2: what the timer has left of its time, unless the program has set one of its own (TCP_LINGER2).
    pub fn of(
        kind: StuckKind,
        record: &SocketRecord,
        info: Option<&TcpInfo<'_>>,
        fin_timeout_ms: Option<u64>,
    ) -> Option<Age> {
        match kind {
            StuckKind::CloseWait => {
                let info = info?;
                let silent = u64::from(info.last_ack_received_ms()?);
                let dry = u64::from(info.last_data_received_ms()?);
                let min_ms = silent.saturating_sub(JIFFY_MS);
                Some(Age { min_ms, max_ms: Some((dry + JIFFY_MS).max(min_ms)) })
            }
            StuckKind::SynSent => {
                let waited = waited_ms(record, info?)?;
                // Beyond, timeouts no longer double.
                let is_known = waited < LONGEST_TIMEOUT_MS;
                let max_ms = is_known.then_some(waited + JIFFY_MS);
                Some(Age { min_ms: waited.saturating_sub(JIFFY_MS), max_ms })
            }
            StuckKind::Orphan => {
                let waited = waited_ms(record, info?)?;
                Some(Age { min_ms: waited.saturating_sub(JIFFY_MS), max_ms: None })
            }
            StuckKind::OrphanFinWait2 => {
                let all = fin_timeout_ms?;
                // What is beyond a minute is waited for by the full socket, the minute itself by the mini one.
                let left = u64::from(record.timer.expires_ms) + if is_mini(record) { 0 } else { MINUTE_MS };
                Some(Age { min_ms: all.saturating_sub(left), max_ms: None })
            }
            StuckKind::BoundIdle => None,
        }
    }
}

/// How long ago that was sent which the peer has not answered since, by the timeouts that have passed. 0 where none has.
fn waited_ms(record: &SocketRecord, info: &TcpInfo<'_>) -> Option<u64> {
    let timeout = u64::from(info.rto_us()?) / 1_000;
    let doublings = info.backoff()?;
    let (base, passed) = match record.timer.kind {
        // The timeout itself has doubled. A SYN is first sent some times at equal distances (`tcp_syn_linear_timeouts`).
        TimerKind::Retransmit => {
            let base = timeout.checked_shr(doublings.into()).unwrap_or(0);
            (base, record.timer.retransmits.max(doublings))
        }
        // Of zero window probes only the waiting doubles; answers to them count as nothing taken.
        TimerKind::Probe => (timeout, doublings),
        _ => return None,
    };
    let waits = |index: u8| {
        // The doublings were the last.
        let doubled = index.saturating_sub(passed - doublings).min(MOST_DOUBLINGS);
        (base << doubled).min(LONGEST_TIMEOUT_MS)
    };
    let before: u64 = (0..passed).map(waits).sum();
    Some(before + waits(passed).saturating_sub(u64::from(record.timer.expires_ms)))
}
