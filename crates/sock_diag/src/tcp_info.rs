//! A view of `struct tcp_info` of any length: what this kernel does not send is None.

use crate::wire::bit_fields;

/// `struct tcp_info`, include/uapi/linux/tcp.h, as far as the kernel filled it (280 bytes on 6.18, fewer before).
///
/// Times are microseconds unless the name says otherwise. Consistency: per record.
#[derive(Clone, Copy)]
#[doc(alias = "tcp_info")]
pub struct TcpInfo<'b> {
    bytes: &'b [u8],
}

/// One field of [`TcpInfo`], for code that treats them all alike.
pub struct TcpInfoField {
    /// The name of its accessor, unit included.
    pub name: &'static str,
    /// Its value; None where this kernel's struct is too short for it.
    pub read: fn(&TcpInfo<'_>) -> Option<u64>,
}

/// One line per field: name, type, offset, the value that means "none" if there is one, and what it means.
macro_rules! fields {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $offset:literal $(unless $none:expr)?;)*) => {
        impl TcpInfo<'_> {
            $($(#[$doc])* pub fn $name(&self) -> Option<$type> {
                let value = self.bytes.get($offset..)?.first_chunk().map(|b| <$type>::from_ne_bytes(*b));
                $(let value = value.filter(|value| *value != $none);)?
                value
            })*

            /// Every field by its name, in the struct's order: what renderers loop over.
            pub const FIELDS: &'static [TcpInfoField] = &[
                $(TcpInfoField { name: stringify!($name), read: |info| info.$name().map(u64::from) }),*
            ];
        }
        #[cfg(test)]
        const LAYOUT: &[(&str, usize, usize)] = &[$((stringify!($name), $offset, size_of::<$type>())),*];
    };
}

impl<'b> TcpInfo<'b> {
    /// Over the attribute's bytes.
    pub fn new(bytes: &'b [u8]) -> TcpInfo<'b> {
        TcpInfo { bytes }
    }

    /// Window scale factors in use, (sending, receiving); None without window scaling.
    #[doc(alias = "tcpi_snd_wscale")]
    pub fn window_scales(&self) -> Option<(u8, u8)> {
        const WSCALE: u8 = 4;
        let byte = self.bytes.get(6)?;
        let (low, high) = (byte & 0xf, byte >> 4);
        let (send, receive) = if cfg!(target_endian = "big") { (high, low) } else { (low, high) };
        (self.options()? & WSCALE != 0).then_some((send, receive))
    }

    /// Whether TCP timestamps are in use: what reuse of a TIME_WAIT by connect() needs.
    pub fn timestamps(&self) -> Option<bool> {
        self.options().map(|options| options & 1 != 0)
    }

    /// Whether the delivery rate was limited by what the application gave, not by the network. Since: Linux 4.9; false
    /// before.
    #[doc(alias = "tcpi_delivery_rate_app_limited")]
    pub fn delivery_limited_by_application(&self) -> Option<bool> {
        self.bytes.get(7).map(|bits| bit_fields(*bits) & 1 != 0)
    }
}

fields! {
    /// Socket state, `enum tcp_state`: in a destroy event the state before the end is not told, this says 7.
    #[doc(alias = "tcpi_state")]
    state: u8 = 0;
    /// Congestion state: 0 open, 1 disorder, 2 CWR, 3 recovery, 4 loss.
    #[doc(alias = "tcpi_ca_state")]
    congestion_state: u8 = 1;
    /// Unanswered retransmission timeouts in a row.
    #[doc(alias = "tcpi_retransmits")]
    retransmits: u8 = 2;
    /// Unanswered zero window probes.
    #[doc(alias = "tcpi_probes")]
    probes: u8 = 3;
    /// Exponential backoff of the retransmission timer.
    #[doc(alias = "tcpi_backoff")]
    backoff: u8 = 4;
    /// TCPI_OPT_*: 1 timestamps, 2 SACK, 4 window scaling, 8 ECN, 16 ECN seen, 32 data in SYN, 64 µs timestamps, 128 TFO child.
    #[doc(alias = "tcpi_options")]
    options: u8 = 5;
    /// Retransmission timeout.
    #[doc(alias = "tcpi_rto")]
    rto_us: u32 = 8;
    /// Delayed ACK timeout.
    #[doc(alias = "tcpi_ato")]
    ato_us: u32 = 12;
    /// Sending segment size, bytes.
    #[doc(alias = "tcpi_snd_mss")]
    send_mss_bytes: u32 = 16;
    /// Receiving segment size, bytes.
    #[doc(alias = "tcpi_rcv_mss")]
    receive_mss_bytes: u32 = 20;
    /// Segments sent and not acknowledged; for a listener, connections waiting for accept().
    #[doc(alias = "tcpi_unacked")]
    unacked: u32 = 24;
    /// Segments selectively acknowledged; for a listener, its backlog limit.
    #[doc(alias = "tcpi_sacked")]
    sacked: u32 = 28;
    /// Segments thought lost.
    #[doc(alias = "tcpi_lost")]
    lost: u32 = 32;
    /// Segments retransmitted and not yet acknowledged.
    #[doc(alias = "tcpi_retrans")]
    retransmitting: u32 = 36;
    /// Milliseconds since data was last sent.
    #[doc(alias = "tcpi_last_data_sent")]
    last_data_sent_ms: u32 = 44;
    /// Milliseconds since data was last received.
    #[doc(alias = "tcpi_last_data_recv")]
    last_data_received_ms: u32 = 52;
    /// Milliseconds since an ACK was last received.
    #[doc(alias = "tcpi_last_ack_recv")]
    last_ack_received_ms: u32 = 56;
    /// Path MTU, bytes.
    #[doc(alias = "tcpi_pmtu")]
    path_mtu_bytes: u32 = 60;
    /// Receive window clamp, bytes.
    #[doc(alias = "tcpi_rcv_ssthresh")]
    receive_ssthresh_bytes: u32 = 64;
    /// Smoothed round-trip time.
    #[doc(alias = "tcpi_rtt")]
    rtt_us: u32 = 68;
    /// Mean deviation of the round-trip time.
    #[doc(alias = "tcpi_rttvar")]
    rtt_variance_us: u32 = 72;
    /// Slow start threshold, segments; None while none was set.
    #[doc(alias = "tcpi_snd_ssthresh")]
    send_ssthresh: u32 = 76 unless i32::MAX as u32;
    /// Congestion window, segments.
    #[doc(alias = "tcpi_snd_cwnd")]
    congestion_window: u32 = 80;
    /// Advertised segment size, bytes.
    #[doc(alias = "tcpi_advmss")]
    advertised_mss_bytes: u32 = 84;
    /// Reordering distance, segments.
    #[doc(alias = "tcpi_reordering")]
    reordering: u32 = 88;
    /// Receiver's estimate of the round-trip time; 0 while there is none.
    #[doc(alias = "tcpi_rcv_rtt")]
    receive_rtt_us: u32 = 92;
    /// Receive queue space, bytes.
    #[doc(alias = "tcpi_rcv_space")]
    receive_space_bytes: u32 = 96;
    /// Segments retransmitted over the whole life.
    #[doc(alias = "tcpi_total_retrans")]
    total_retransmits: u32 = 100;
    /// Pacing rate; None when not paced. Since: Linux 3.15.
    #[doc(alias = "tcpi_pacing_rate")]
    pacing_bytes_per_second: u64 = 104 unless u64::MAX;
    /// Upper bound of the pacing rate; None when there is none. Since: Linux 3.15.
    #[doc(alias = "tcpi_max_pacing_rate")]
    max_pacing_bytes_per_second: u64 = 112 unless u64::MAX;
    /// Payload bytes acknowledged (the FIN and SYN count one each). Since: Linux 4.1.
    #[doc(alias = "tcpi_bytes_acked")]
    acked_bytes: u64 = 120;
    /// Payload bytes received. Since: Linux 4.1.
    #[doc(alias = "tcpi_bytes_received")]
    received_bytes: u64 = 128;
    /// Segments sent. Since: Linux 4.2.
    #[doc(alias = "tcpi_segs_out")]
    segments_out: u32 = 136;
    /// Segments received. Since: Linux 4.2.
    #[doc(alias = "tcpi_segs_in")]
    segments_in: u32 = 140;
    /// Bytes written and not yet sent. Since: Linux 4.6.
    #[doc(alias = "tcpi_notsent_bytes")]
    unsent_bytes: u32 = 144;
    /// Least round-trip time; None while there is none. Since: Linux 4.6.
    #[doc(alias = "tcpi_min_rtt")]
    min_rtt_us: u32 = 148 unless u32::MAX;
    /// Data segments received. Since: Linux 4.6.
    #[doc(alias = "tcpi_data_segs_in")]
    data_segments_in: u32 = 152;
    /// Data segments sent. Since: Linux 4.6.
    #[doc(alias = "tcpi_data_segs_out")]
    data_segments_out: u32 = 156;
    /// Delivery rate of the last sample. Since: Linux 4.9.
    #[doc(alias = "tcpi_delivery_rate")]
    delivery_bytes_per_second: u64 = 160;
    /// Time busy sending. Since: Linux 4.10.
    #[doc(alias = "tcpi_busy_time")]
    busy_us: u64 = 168;
    /// Time held up by the receive window. Since: Linux 4.10.
    #[doc(alias = "tcpi_rwnd_limited")]
    receive_window_limited_us: u64 = 176;
    /// Time held up by the send buffer. Since: Linux 4.10.
    #[doc(alias = "tcpi_sndbuf_limited")]
    send_buffer_limited_us: u64 = 184;
    /// Segments delivered. Since: Linux 4.18.
    #[doc(alias = "tcpi_delivered")]
    delivered: u32 = 192;
    /// Segments delivered with a congestion mark. Since: Linux 4.18.
    #[doc(alias = "tcpi_delivered_ce")]
    delivered_ce: u32 = 196;
    /// Payload bytes sent, retransmissions included. Since: Linux 4.19.
    #[doc(alias = "tcpi_bytes_sent")]
    sent_bytes: u64 = 200;
    /// Payload bytes retransmitted. Since: Linux 4.19.
    #[doc(alias = "tcpi_bytes_retrans")]
    retransmitted_bytes: u64 = 208;
    /// Duplicate SACKs received. Since: Linux 4.19.
    #[doc(alias = "tcpi_dsack_dups")]
    dsack_dups: u32 = 216;
    /// Reordering events. Since: Linux 4.19.
    #[doc(alias = "tcpi_reord_seen")]
    reorderings: u32 = 220;
    /// Out-of-order segments received. Since: Linux 5.4.
    #[doc(alias = "tcpi_rcv_ooopack")]
    out_of_order_in: u32 = 224;
    /// Peer's window, bytes. Since: Linux 5.4.
    #[doc(alias = "tcpi_snd_wnd")]
    send_window_bytes: u32 = 228;
    /// Own window, bytes. Since: Linux 6.2.
    #[doc(alias = "tcpi_rcv_wnd")]
    receive_window_bytes: u32 = 232;
    /// Path rehashes. Since: Linux 6.2.
    #[doc(alias = "tcpi_rehash")]
    rehashes: u32 = 236;
    /// Retransmission timeouts, all. Since: Linux 6.7.
    #[doc(alias = "tcpi_total_rto")]
    total_timeouts: u16 = 240;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_agree_with_the_c_struct() {
        // libc's struct is the kernel's up to its own vintage.
        use std::mem::offset_of;
        let known = |name: &str| LAYOUT.iter().find(|f| f.0 == name).map(|f| f.1);
        assert_eq!(known("rto_us"), Some(offset_of!(libc::tcp_info, tcpi_rto)));
        assert_eq!(known("rtt_us"), Some(offset_of!(libc::tcp_info, tcpi_rtt)));
        assert_eq!(known("congestion_window"), Some(offset_of!(libc::tcp_info, tcpi_snd_cwnd)));
        assert_eq!(known("total_retransmits"), Some(offset_of!(libc::tcp_info, tcpi_total_retrans)));
        // No two fields share a byte, and each is aligned to its size.
        let mut end = 0;
        for (name, offset, size) in LAYOUT {
            assert!(*offset >= end && offset % size == 0, "{name}");
            end = offset + size;
        }
    }

    #[test]
    fn every_length_is_fine() {
        let bytes: Vec<u8> = (0..=255).chain(0..=255).collect();
        for length in 0..=400 {
            let info = TcpInfo::new(&bytes[..length]);
            assert_eq!(info.rtt_us().is_some(), length >= 72);
            assert_eq!(info.received_bytes().is_some(), length >= 136);
            assert_eq!(info.total_timeouts().is_some(), length >= 242);
            assert_eq!(info.window_scales().is_some(), length >= 7);
        }
    }
}
