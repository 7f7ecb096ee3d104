//! The rows of a recording: the tables, and what each column means.
//!
//! These declarations are the schema of the Parquet files and of the journal's frames at once. A new column goes to the end
//! of its table, is nullable, and raises [`FORMAT`](crate::layout::FORMAT), as frames tell columns by their place.

use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::words::{ClosedBy, Direction, Evidence, Protocol, SumKind};

/// Declares a table: its row, and how each of its columns is written and read. What it generates holds no decisions.
macro_rules! table {
    (
        $(#[$about:meta])*
        $name:ident in $table:literal, from $from:ident to $to:ident {
            $($(#[$what:meta])* $column:ident: $cell:ty,)*
        }
    ) => {
        $(#[$about])*
        #[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
        pub struct $name {
            $($(#[$what])* pub $column: $cell,)*
        }

        #[cfg(feature = "files")]
        const _: () = {
            use parquet::basic::Encoding;
            use parquet::errors::{ParquetError, Result};
            use parquet::file::reader::RowGroupReader;
            use parquet::file::writer::SerializedRowGroupWriter;
            use parquet::schema::types::TypePtr;

            use crate::column::{Column, Source, field};
            use crate::table::{Columns, Row, Sources, next_column};

            #[derive(Default)]
            pub(crate) struct TableColumns {
                $($column: Column<$cell>,)*
            }

            impl Columns<$name> for TableColumns {
                fn push(&mut self, row: &$name) {
                    $(self.$column.push(&row.$column);)*
                }

                fn write(&mut self, group: &mut SerializedRowGroupWriter<'_, std::fs::File>) -> Result<()> {
                    $(self.$column.write(next_column(group)?)?;)*
                    Ok(())
                }
            }

            pub(crate) struct TableSources {
                $($column: Source<$cell>,)*
            }

            impl Sources<$name> for TableSources {
                fn open(group: &dyn RowGroupReader, is_wanted: impl Fn(&str) -> bool) -> Result<TableSources> {
                    Ok(TableSources {
                        $($column: {
                            let name = stringify!($column);
                            Source::open(group, name, is_wanted(name))?
                        },)*
                    })
                }

                fn fill(&mut self, rows: usize) -> Result<()> {
                    $(self.$column.fill(rows)?;)*
                    Ok(())
                }

                fn next(&mut self) -> Option<$name> {
                    Some($name { $($column: self.$column.next()?,)* })
                }
            }

            impl Row for $name {
                const TABLE: &'static str = $table;
                const SPAN: [&'static str; 2] = [stringify!($from), stringify!($to)];
                type Columns = TableColumns;
                type Sources = TableSources;

                fn at(&self) -> Time {
                    Time(self.$from.0.midpoint(self.$to.0))
                }

                fn span(&self) -> [Time; 2] {
                    [self.$from, self.$to]
                }

                fn fields() -> Result<Vec<(TypePtr, Option<Encoding>)>, ParquetError> {
                    Ok(vec![$(field::<$cell>(stringify!($column))?,)*])
                }
            }
        };
    };
}

/// Milliseconds since 1970, UTC. In Parquet a TIMESTAMP. A file that tells one after the year 9999 is damaged: no clock of a
/// host shows it, and whoever reckons with times need not expect it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "u64")]
pub struct Time(pub u64);

/// The last millisecond of the year 9999.
const MOST_MS: u64 = 253_402_300_799_999;

impl TryFrom<u64> for Time {
    type Error = &'static str;

    fn try_from(ms: u64) -> Result<Time, &'static str> {
        if ms <= MOST_MS { Ok(Time(ms)) } else { Err("it is after the year 9999") }
    }
}

/// What one tick brought. A row belongs to the table of its kind.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each is described where its rows are")]
pub struct Rows {
    pub ticks: Vec<Tick>,
    pub connections: Vec<Connection>,
    pub destinations: Vec<Destination>,
    pub settings: Vec<Setting>,
    pub warnings: Vec<Warning>,
}

impl Rows {
    /// How many in all.
    pub fn len(&self) -> usize {
        self.ticks.len()
            + self.connections.len()
            + self.destinations.len()
            + self.settings.len()
            + self.warnings.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets them, and keeps their memory for the next.
    pub fn clear(&mut self) {
        self.ticks.clear();
        self.connections.clear();
        self.destinations.clear();
        self.settings.clear();
        self.warnings.clear();
    }
}

table! {
    /// What a tick told of the namespace as a whole.
    Tick in "ticks", from time to time {
        /// When the tick ended.
        time: Time,
        /// Inode of the network namespace.
        netns: u64,
        /// Length of the interval that it ends, milliseconds.
        interval_ms: u64,
        /// TCP connections opened within it.
        opens: u64,
        /// TCP connections closed within it.
        closes: u64,
        /// TCP connections alive at its end.
        live: u64,
        /// TCP sockets in TIME_WAIT at the last sweep.
        time_wait: u32,
        /// TCP sockets by state at the last sweep.
        established: u32,
        /// As above.
        syn_sent: u32,
        /// As above.
        syn_recv: u32,
        /// As above.
        fin_wait_1: u32,
        /// As above.
        fin_wait_2: u32,
        /// As above.
        close_wait: u32,
        /// As above.
        last_ack: u32,
        /// As above.
        closing: u32,
        /// As above.
        listen: u32,
        /// First port of `net.ipv4.ip_local_port_range`.
        pool_first: u16,
        /// Its last port.
        pool_last: u16,
        /// Ports of the range that are reserved.
        pool_reserved: u32,
        /// Ports held by listeners and bound sockets.
        pool_held: u32,
        /// Ports that are left for each destination.
        pool_usable: u32,
        /// The destination closest to running out of ports; null where there is none.
        worst_local_address: Option<IpAddr>,
        /// As above.
        worst_remote_address: Option<IpAddr>,
        /// As above.
        worst_remote_port: Option<u16>,
        /// How full it was, 0–1.
        worst_occupancy_ratio: Option<f64>,
        /// The least number of connects that certainly succeed towards any destination; null without one.
        headroom_min: Option<u32>,
        /// When the first destination runs out if nothing changes, seconds; null where none does.
        exhausted_in_seconds: Option<f64>,
        /// Connections seen of those that the kernel counted since the recorder began, 0–1.
        coverage_ratio: Option<f64>,
        /// Destroy events lost within the interval.
        events_lost: u64,
        /// Sockets that the tick's sweep read; null when it was left out.
        sockets: Option<u64>,
        /// How long that sweep took, milliseconds.
        sweep_ms: Option<f64>,
    }
}

table! {
    /// A connection (or UDP socket) that has ended.
    Connection in "connections", from closed_earliest to closed_latest {
        /// It ended not before.
        closed_earliest: Time,
        /// It ended not after.
        closed_latest: Time,
        /// It was opened not before; null where only the recorder's start bounds it.
        opened_earliest: Option<Time>,
        /// It was opened not after.
        opened_latest: Time,
        /// It lived at least so long, milliseconds.
        lifetime_min_ms: u64,
        /// At most so long; null where nothing bounds it.
        lifetime_max_ms: Option<u64>,
        /// Inode of the network namespace.
        netns: u64,
        /// Its protocol.
        protocol: Protocol,
        /// Who began it.
        direction: Direction,
        /// Its own address; null where nobody told.
        local_address: Option<IpAddr>,
        /// Its own port.
        local_port: Option<u16>,
        /// The other end's address.
        remote_address: Option<IpAddr>,
        /// The other end's port.
        remote_port: Option<u16>,
        /// Who ended it first.
        closed_by: ClosedBy,
        /// By what the end became known.
        evidence: Evidence,
        /// Process that had it; null where it is not known.
        owner_pid: Option<u32>,
        /// That process' name.
        owner_name: Option<Arc<str>>,
        /// Its user, as a number.
        owner_uid: Option<u32>,
        /// Its user's name.
        owner_user: Option<Arc<str>>,
        /// Its control group.
        owner_cgroup: Option<Arc<str>>,
        /// True where the owner was not seen with it but follows from the listener or the destination.
        owner_inferred: bool,
        /// Payload bytes that the other side acknowledged.
        sent_bytes: Option<u64>,
        /// Payload bytes received.
        received_bytes: Option<u64>,
        /// Segments sent again.
        retransmits: Option<u32>,
        /// Segments with payload sent: at least as many as requests (or answers) that do not share one.
        data_segments_out: Option<u32>,
        /// Segments with payload received.
        data_segments_in: Option<u32>,
        /// The kernel's number of the socket.
        cookie: u64,
    }
}

table! {
    /// The ports of a destination at a tick. Written when something changed: it holds until the next row of the same
    /// destination. One that is gone has a last row with nothing in use.
    Destination in "destinations", from time to time {
        /// When the tick ended.
        time: Time,
        /// Inode of the network namespace.
        netns: u64,
        /// Its protocol.
        protocol: Protocol,
        /// Where its sockets connect from.
        local_address: IpAddr,
        /// Where they connect to.
        remote_address: IpAddr,
        /// The port they connect to.
        remote_port: u16,
        /// Ports in use, TIME_WAIT included.
        in_use: u32,
        /// Sockets not in TIME_WAIT.
        live: u32,
        /// Sockets in TIME_WAIT.
        time_wait: u32,
        /// How full it is, 0–1.
        occupancy_ratio: f64,
        /// So many more connects certainly succeed.
        headroom_min: u32,
        /// So many at the most.
        headroom_max: u32,
        /// Connections opened since the row before.
        opens: u64,
        /// Connections closed since the row before.
        closes: u64,
    }
}

table! {
    /// A setting of the host or the namespace, when recording begins and when it changes.
    Setting in "settings", from time to time {
        /// Since when it is known to hold.
        time: Time,
        /// Inode of the network namespace.
        netns: u64,
        /// Its name: `host_name`, `kernel_release`, `net.ipv4.tcp_tw_reuse`, …
        key: Arc<str>,
        /// Its value, as the kernel writes it; null when it cannot be read any more.
        value: Option<Arc<str>>,
    }
}

table! {
    /// A warning, when it is first told and every minute while it holds.
    Warning in "warnings", from time to time {
        /// When the tick ended that told it.
        time: Time,
        /// Inode of the network namespace.
        netns: u64,
        /// Its name, as in JSON.
        id: Arc<str>,
        /// What it said.
        message: Arc<str>,
    }
}

table! {
    /// Connections of one segment that are alike, added up when the segment is complete, if that makes far fewer rows: each
    /// connection is counted once by time, once by end, once by owner, and once by port if it is outgoing. What they are not
    /// told apart by is null. Never in a journal.
    Sum in "sums", from earliest to latest {
        /// They ended not before: by time the beginning of a stretch of [`Sum::STRETCH_MS`], else the segment's first bound.
        earliest: Time,
        /// Nor after.
        latest: Time,
        /// By what they are added up.
        kind: SumKind,
        /// Inode of the network namespace.
        netns: u64,
        /// By end.
        protocol: Option<Protocol>,
        /// By end.
        direction: Option<Direction>,
        /// By end.
        local_address: Option<IpAddr>,
        /// By end the listener's, by port their own.
        local_port: Option<u16>,
        /// By end, of outgoing ones.
        remote_address: Option<IpAddr>,
        /// By end, of outgoing ones.
        remote_port: Option<u16>,
        /// By owner.
        closed_by: Option<ClosedBy>,
        /// By owner.
        owner_pid: Option<u32>,
        /// By owner.
        owner_name: Option<Arc<str>>,
        /// By owner.
        owner_uid: Option<u32>,
        /// By owner.
        owner_user: Option<Arc<str>>,
        /// By owner.
        owner_cgroup: Option<Arc<str>>,
        /// They lived at least so long, milliseconds: 0.8 % less than the shortest of them, at the most. 0 by port.
        lifetime_min_ms: u64,
        /// At most so long: 0.8 % more than the longest, at the most. Null where nothing bounds it, and by port.
        lifetime_max_ms: Option<u64>,
        /// How many.
        connections: u64,
        /// By owner: payload bytes that the other sides acknowledged, of those that tell both; null where none does.
        sent_bytes: Option<u64>,
        /// By owner: payload bytes received, of the same.
        received_bytes: Option<u64>,
    }
}

#[cfg(test)]
pub(crate) mod example {
    //! Rows of a small host.

    use super::*;

    /// The time of tick `number`.
    pub(crate) const fn time(number: u64) -> Time {
        Time(1_795_375_800_000 + number * 1_000)
    }

    pub(crate) fn tick(number: u64) -> Tick {
        Tick {
            time: time(number),
            netns: 4_026_531_840,
            interval_ms: 1_000,
            opens: number,
            closes: 2,
            live: 1_000,
            time_wait: 20,
            established: 990,
            syn_sent: 0,
            syn_recv: 0,
            fin_wait_1: 0,
            fin_wait_2: 0,
            close_wait: 3,
            last_ack: 0,
            closing: 0,
            listen: 5,
            pool_first: 32_768,
            pool_last: 60_999,
            pool_reserved: 12,
            pool_held: 31,
            pool_usable: 28_189,
            worst_local_address: Some([10, 0, 0, 7].into()),
            worst_remote_address: Some([10, 0, 9, 12].into()),
            worst_remote_port: Some(8_080),
            worst_occupancy_ratio: Some(0.25),
            headroom_min: Some(21_000),
            exhausted_in_seconds: None,
            coverage_ratio: Some(1.0),
            events_lost: 0,
            sockets: Some(1_025),
            sweep_ms: Some(1.5),
        }
    }

    pub(crate) fn connection(tick: u64, number: u64) -> Connection {
        let at = time(tick);
        Connection {
            closed_earliest: Time(at.0 - 400),
            closed_latest: at,
            opened_earliest: number.is_multiple_of(3).then_some(Time(at.0 - 9_000)),
            opened_latest: Time(at.0 - 5_000),
            lifetime_min_ms: 4_600,
            lifetime_max_ms: number.is_multiple_of(3).then_some(9_000),
            netns: 4_026_531_840,
            protocol: Protocol::Tcp,
            direction: Direction::Outgoing,
            local_address: Some([10, 0, 0, 7].into()),
            local_port: Some(32_768 + (number % 20_000) as u16),
            remote_address: (!number.is_multiple_of(5)).then(|| [10, 0, 9, (number % 7) as u8].into()),
            remote_port: Some(8_080),
            closed_by: if number.is_multiple_of(2) { ClosedBy::Local } else { ClosedBy::Unknown },
            evidence: Evidence::Event,
            owner_pid: Some(812),
            owner_name: Some("nginx \u{1b}[31m".into()),
            owner_uid: (!number.is_multiple_of(4)).then_some(33),
            owner_user: Some("www-data".into()),
            owner_cgroup: (!number.is_multiple_of(3)).then(|| "/system.slice/nginx.service".into()),
            owner_inferred: number.is_multiple_of(2),
            sent_bytes: Some(number),
            received_bytes: (!number.is_multiple_of(6)).then_some(u64::MAX - number),
            retransmits: Some(0),
            data_segments_out: Some(3),
            data_segments_in: None,
            cookie: tick << 32 | number,
        }
    }

    pub(crate) fn destination(number: u64, host: u8) -> Destination {
        Destination {
            time: time(number),
            netns: 4_026_531_840,
            protocol: Protocol::Tcp,
            local_address: [10, 0, 0, 7].into(),
            remote_address: [10, 0, 9, host].into(),
            remote_port: 8_080,
            in_use: 70,
            live: 50,
            time_wait: 20,
            occupancy_ratio: 0.0025,
            headroom_min: 21_000,
            headroom_max: 21_001,
            opens: 3,
            closes: 2,
        }
    }

    /// Of one tick, with two connections that ended.
    pub(crate) fn rows(number: u64) -> Rows {
        Rows {
            ticks: vec![tick(number)],
            connections: vec![connection(number, 1), connection(number, 2)],
            destinations: vec![destination(number, 12)],
            settings: vec![Setting {
                time: time(number),
                netns: 4_026_531_840,
                key: "net.ipv4.tcp_tw_reuse".into(),
                value: number.is_multiple_of(2).then(|| "2".into()),
            }],
            warnings: vec![Warning {
                time: time(number),
                netns: 4_026_531_840,
                id: "parity_cliff".into(),
                message: "half is used".into(),
            }],
        }
    }
}
