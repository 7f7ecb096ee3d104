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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;
    use sock_diag::{Protocol, SocketState, Timer};

    use super::*;

    /// `struct tcp_info` with these fields; all others are 0.
    fn info(backoff: u8, rto_ms: u32, last_data_received_ms: u32, last_ack_received_ms: u32) -> [u8; 280] {
        let mut bytes = [0; 280];
        bytes[4] = backoff;
        bytes[8..12].copy_from_slice(&(rto_ms * 1_000).to_ne_bytes());
        bytes[52..56].copy_from_slice(&last_data_received_ms.to_ne_bytes());
        bytes[56..60].copy_from_slice(&last_ack_received_ms.to_ne_bytes());
        bytes
    }

    fn record(state: SocketState, timer: Timer) -> SocketRecord {
        let end = |port| (Ipv4Addr::LOCALHOST, port).into();
        SocketRecord { timer, ..SocketRecord::bare(Protocol::Tcp, state, end(40_000), end(80)) }
    }

    fn off() -> Timer {
        Timer { kind: TimerKind::Off, expires_ms: 0, retransmits: 0 }
    }

    /// What a socket says `now` after it began to send, of timeouts that begin with `base`, are equal for `equal` times, and
    /// then double. None when the kernel would have given up.
    fn timeouts(base: u64, equal: u8, now: u64) -> Option<(u8, u8, u64, u64)> {
        let mut begun = 0;
        (0..12).find_map(|passed: u8| {
            let doublings = passed.saturating_sub(equal);
            let timeout = (base << doublings).min(LONGEST_TIMEOUT_MS);
            begun += timeout;
            (now < begun).then(|| (passed, doublings, timeout, begun - now))
        })
    }

    proptest! {
        #[test]
        fn a_syn_tells_since_when(equal in 0_u8..7, now in 0_u64..100_000) {
            let Some((passed, doublings, timeout, left)) = timeouts(1_000, equal, now) else { return Ok(()) };
            let timer = Timer { kind: TimerKind::Retransmit, expires_ms: left as u32, retransmits: passed };
            let bytes = info(doublings, timeout as u32, 0, 0);
            let age = Age::of(StuckKind::SynSent, &record(SocketState::SynSent, timer), Some(&TcpInfo::new(&bytes)), None);
            let age = age.unwrap();
            prop_assert!(age.min_ms <= now && now <= age.min_ms + 2 * JIFFY_MS, "{age:?} {now}");
            prop_assert!(age.max_ms.is_none_or(|max_ms| now <= max_ms), "{age:?} {now}");
        }

        #[test]
        fn an_orphan_tells_how_long_it_has_not_been_answered(
            base in 200_u64..3_000, now in 0_u64..400_000, probes in any::<bool>(),
        ) {
            let Some((passed, doublings, timeout, left)) = timeouts(base, 0, now) else { return Ok(()) };
            let (kind, rto, retransmits) = match probes {
                // Answers to probes set their number back, and the timeout stays as it was.
                true => (TimerKind::Probe, base, 0),
                false => (TimerKind::Retransmit, timeout, passed),
            };
            let timer = Timer { kind, expires_ms: left as u32, retransmits };
            let bytes = info(doublings, rto as u32, 0, 0);
            let age = Age::of(StuckKind::Orphan, &record(SocketState::FinWait1, timer), Some(&TcpInfo::new(&bytes)), None);
            let age = age.unwrap();
            prop_assert!(age.min_ms <= now, "{age:?} {now}");
            // Where the longest timeout has not been reached, it is exact but for halves of milliseconds.
            let is_exact = timeout < LONGEST_TIMEOUT_MS;
            prop_assert!(!is_exact || now <= age.min_ms + 2 * JIFFY_MS + 12, "{age:?} {now}");
        }

        #[test]
        fn any_answer_is_read(bytes in proptest::collection::vec(any::<u8>(), 0..300), kind in 0_u8..6, expires_ms: u32, retransmits: u8) {
            let timer = Timer { kind: TimerKind::from_raw(kind), expires_ms, retransmits };
            let info = TcpInfo::new(&bytes);
            for kind in StuckKind::ALL {
                let age = Age::of(kind, &record(SocketState::CloseWait, timer), Some(&info), Some(60_000));
                prop_assert!(age.is_none_or(|age| age.max_ms.is_none_or(|max_ms| max_ms >= age.min_ms)));
            }
        }
    }

    #[test]
    fn a_close_wait_is_as_old_as_the_last_answer_at_least_and_as_the_last_data_at_most() {
        let close_wait = record(SocketState::CloseWait, off());
        let of = |bytes: &[u8]| Age::of(StuckKind::CloseWait, &close_wait, Some(&TcpInfo::new(bytes)), None);
        assert_eq!(of(&info(0, 200, 90_000, 70_000)), Some(Age { min_ms: 69_980, max_ms: Some(90_020) }));
        assert_eq!(of(&info(0, 200, 0, 5)), Some(Age { min_ms: 0, max_ms: Some(20) }));
        assert_eq!(of(&[0; 40]), None, "a tcp_info that is too short");
        assert_eq!(Age::of(StuckKind::CloseWait, &close_wait, None, Some(60_000)), None);
    }

    #[test]
    fn an_orphan_in_fin_wait2_has_its_time_on_its_timer() {
        let of = |kind, expires_ms, fin_timeout_ms| {
            let timer = Timer { kind, expires_ms, retransmits: 0 };
            let orphan = record(SocketState::FinWait2, timer);
            Age::of(StuckKind::OrphanFinWait2, &orphan, None, fin_timeout_ms).map(|age| age.min_ms)
        };
        assert_eq!(of(TimerKind::TimeWait, 15_000, Some(60_000)), Some(45_000));
        assert_eq!(of(TimerKind::TimeWait, 15_000, Some(20_000)), Some(5_000));
        // Two minutes: the first one is the full socket's.
        assert_eq!(of(TimerKind::Keepalive, 50_000, Some(120_000)), Some(10_000));
        assert_eq!(of(TimerKind::TimeWait, 50_000, Some(120_000)), Some(70_000));
        assert_eq!(of(TimerKind::TimeWait, 15_000, None), None);
    }
}
