//! What is kept of the records of a sweep for the screens that want more than a report: queues of listeners, the picture of
//! the ports, the first sockets of a list. Bounded, whatever the number of sockets.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::IpAddr;
use std::sync::Arc;

use sock_diag::{Protocol, SocketRecord, SocketState};
use sockeye_core::{PortMap, Settings};

use super::filter::{asks_owner, is_held_by};
use super::look::{ListenerRow, Look, SocketList};
use super::wanted::{SocketOrder, SocketsWanted, Wanted};
use crate::follow::Onlooker;
use crate::whose::Who;

/// More sockets than anybody scrolls through.
pub(crate) const MOST_SOCKETS: usize = 1_000;

/// A record by its place in the list: the last one is the greatest.
struct Placed {
    record: SocketRecord,
    order: SocketOrder,
    descending: bool,
}

impl Placed {
    fn compare(&self, other: &Placed) -> Ordering {
        let by_key = compare(self.order, &self.record, &other.record);
        let by_key = if self.descending { by_key.reverse() } else { by_key };
        // The same order at every sweep.
        by_key.then_with(|| self.record.id.cookie.0.cmp(&other.record.id.cookie.0))
    }
}

impl PartialEq for Placed {
    fn eq(&self, other: &Placed) -> bool {
        self.compare(other).is_eq()
    }
}

impl Eq for Placed {}

impl PartialOrd for Placed {
    fn partial_cmp(&self, other: &Placed) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Placed {
    fn cmp(&self, other: &Placed) -> Ordering {
        self.compare(other)
    }
}

fn compare(order: SocketOrder, a: &SocketRecord, b: &SocketRecord) -> Ordering {
    match order {
        SocketOrder::State => (a.protocol.raw(), a.state.raw()).cmp(&(b.protocol.raw(), b.state.raw())),
        SocketOrder::ReceiveQueue => a.rqueue_bytes.cmp(&b.rqueue_bytes),
        SocketOrder::SendQueue => a.wqueue_bytes.cmp(&b.wqueue_bytes),
        SocketOrder::Local => {
            (a.id.local_address, a.id.local_port).cmp(&(b.id.local_address, b.id.local_port))
        }
        SocketOrder::Peer => {
            (a.id.remote_address, a.id.remote_port).cmp(&(b.id.remote_address, b.id.remote_port))
        }
        SocketOrder::Timer => a.timer.expires_ms.cmp(&b.timer.expires_ms),
        SocketOrder::Retransmits => a.timer.retransmits.cmp(&b.timer.retransmits),
        SocketOrder::User => a.uid.cmp(&b.uid),
        SocketOrder::Inode => a.inode.cmp(&b.inode),
    }
}

/// Listening sockets of one port.
#[derive(Clone, Copy, Default)]
struct Queues {
    address: Option<IpAddr>,
    sockets: u32,
    queue: u32,
    backlog: u32,
    fullness: f64,
}

/// What has been gathered of the current sweep.
pub(crate) struct Gathering {
    wanted: Arc<Wanted>,
    listeners: BTreeMap<u16, Queues>,
    ports: Option<PortMap>,
    sockets: Option<SocketsWanted>,
    /// The filter of the sockets is about whose they are, too.
    asks_owner: bool,
    heap: BinaryHeap<Placed>,
    list: SocketList,
    /// What the last whole sweep told.
    last_ports: Option<Arc<PortMap>>,
    last_list: Option<Arc<SocketList>>,
}

impl Gathering {
    pub(crate) fn new(wanted: Arc<Wanted>) -> Gathering {
        Gathering {
            wanted,
            listeners: BTreeMap::new(),
            ports: None,
            sockets: None,
            asks_owner: false,
            heap: BinaryHeap::new(),
            list: SocketList::default(),
            last_ports: None,
            last_list: None,
        }
    }

    /// Puts what the last sweep told into a look; `swept` when that was this tick's. `owners` says whose sockets are.
    pub(crate) fn fill(
        &mut self,
        look: &mut Look,
        swept: bool,
        owners: impl FnOnce(&[SocketRecord]) -> Vec<Option<Arc<str>>>,
    ) {
        for row in &mut look.listeners {
            let queues = self.listeners.get(&row.port).copied().unwrap_or_default();
            *row = ListenerRow {
                address: queues.address,
                sockets: queues.sockets,
                queue: queues.queue,
                backlog: queues.backlog,
                fullness: queues.fullness,
                ..*row
            };
        }
        if swept {
            self.last_ports = self.ports.take().map(Arc::new);
            self.last_list = self.sockets.take().map(|_| {
                let mut list = std::mem::take(&mut self.list);
                let placed = std::mem::take(&mut self.heap).into_sorted_vec();
                list.records = placed.into_iter().map(|placed| placed.record).collect();
                list.owners = owners(&list.records);
                Arc::new(list)
            });
        }
        look.ports = self.last_ports.clone();
        look.list = self.last_list.clone();
    }

    fn listen(&mut self, record: &SocketRecord) {
        let queues = self.listeners.entry(record.id.local_port).or_default();
        queues.address = match queues.sockets {
            0 => Some(record.id.local_address),
            _ => queues.address.filter(|address| *address == record.id.local_address),
        };
        queues.sockets += 1;
        queues.queue = queues.queue.saturating_add(record.rqueue_bytes);
        queues.backlog = queues.backlog.saturating_add(record.wqueue_bytes);
        queues.fullness =
            queues.fullness.max(f64::from(record.rqueue_bytes) / f64::from(record.wqueue_bytes.max(1)));
    }

    fn place<'a>(&mut self, record: &SocketRecord, whose: &(dyn Fn() -> Who<'a> + 'a)) {
        let Some(wanted) = &self.sockets else { return };
        self.list.read += 1;
        let answer = match &wanted.filter {
            None => Ok(true),
            Some(filter) if !self.asks_owner => filter.matches(record),
            Some(filter) => {
                let who = whose();
                // TIME_WAIT says nothing of whose it is: it keeps the owner it had.
                let owned = SocketRecord {
                    uid: record.uid.or(who.uid),
                    cgroup_id: record.cgroup_id.or(who.cgroup_id),
                    ..*record
                };
                filter.matches_held(&owned, &|holder| is_held_by(&who, holder))
            }
        };
        match answer {
            Ok(true) => self.list.matching += 1,
            Ok(false) => return,
            Err(_) => {
                self.list.unanswerable += 1;
                return;
            }
        }
        let placed = Placed { record: *record, order: wanted.order, descending: wanted.descending };
        if self.heap.len() < MOST_SOCKETS {
            self.heap.push(placed);
        } else if let Some(mut last) = self.heap.peek_mut()
            && placed < *last
        {
            *last = placed;
        }
    }
}

impl Onlooker for Gathering {
    fn begin(&mut self, settings: &Settings) {
        let wants = self.wanted.now();
        self.listeners.clear();
        self.heap.clear();
        self.list = SocketList::default();
        self.ports = wants.ports.then(|| PortMap::new(settings, Protocol::Tcp, None));
        self.sockets = wants.sockets;
        let filter = self.sockets.as_ref().and_then(|sockets| sockets.filter.as_deref());
        self.asks_owner = filter.is_some_and(asks_owner);
    }

    fn record<'a>(&mut self, record: &SocketRecord, whose: &(dyn Fn() -> Who<'a> + 'a)) {
        if record.state == SocketState::Listen {
            self.listen(record);
        }
        if let Some(ports) = &mut self.ports {
            ports.observe(record);
        }
        if self.sockets.is_some() {
            self.place(record, whose);
        }
    }

    fn bound(&mut self, port: u16) {
        if let Some(ports) = &mut self.ports {
            ports.observe_bound(port);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sock_diag::filter::{Filter, NoNames};

    use super::super::example;
    use super::super::wanted::Wants;
    use super::*;

    fn gathering(wants: impl FnOnce(&mut Wants)) -> Gathering {
        let wanted = Arc::new(Wanted::new(Duration::from_secs(1)));
        let mut now = wanted.now();
        wants(&mut now);
        wanted.set(now, false);
        let mut gathering = Gathering::new(wanted);
        gathering.begin(&Settings::default());
        gathering
    }

    fn socket(number: u32) -> SocketRecord {
        let local = ([10, 0, 0, 7], 32_768 + (number % 20_000) as u16).into();
        let mut record =
            sock_diag::fake::tcp_record(SocketState::Established, local, ([10, 0, 9, 12], 80).into());
        record.id.cookie = sock_diag::Cookie(u64::from(number));
        record.wqueue_bytes = number.wrapping_mul(2_654_435_761) % 100_000;
        record
    }

    #[test]
    fn the_first_sockets_are_those_of_the_whole_list() {
        let filter = Filter::parse("sport < 40000", &NoNames).unwrap();
        let wanted =
            SocketsWanted { filter: Some(Arc::new(filter)), order: SocketOrder::SendQueue, descending: true };
        let mut gathering = gathering(|wants| wants.sockets = Some(wanted));
        let all: Vec<SocketRecord> = (0..50_000).map(socket).collect();
        all.iter().for_each(|record| gathering.record(record, &Who::default));
        let mut look = example::look();
        gathering.fill(&mut look, true, |_| Vec::new());
        let list = look.list.clone().unwrap();
        let mut expected: Vec<_> = all.iter().filter(|r| r.id.local_port < 40_000).collect();
        assert_eq!((list.read, list.matching, list.unanswerable), (50_000, expected.len() as u64, 0));
        expected.sort_by_key(|r| (std::cmp::Reverse(r.wqueue_bytes), r.id.cookie.0));
        assert!(list.records.iter().eq(expected.into_iter().take(MOST_SOCKETS)));
        gathering.fill(&mut look, true, |_| Vec::new());
        assert!(look.ports.is_none() && look.list.is_none(), "what nobody wants is not gathered");
    }

    #[test]
    fn a_filter_asks_whose_sockets_are_or_were() {
        let names = super::super::filter::NamesAtHand::default();
        let matching = |text: &str| {
            let filter = Some(Arc::new(Filter::parse(text, &names).unwrap()));
            let wanted = SocketsWanted { filter, ..SocketsWanted::default() };
            let mut gathering = gathering(|wants| wants.sockets = Some(wanted));
            let program = sockeye_host::owners::Name::from("ng\u{1b}inx");
            let who = Who { program: Some(&program), uid: Some(33), cgroup_id: Some(7), ..Who::default() };
            for number in 0..10 {
                let mut record = socket(number);
                record.state = SocketState::TimeWait;
                record.timer.kind = sock_diag::TimerKind::TimeWait;
                gathering.record(&record, &|| if number < 4 { who } else { Who::default() });
            }
            let mut look = example::look();
            gathering.fill(&mut look, true, |_| Vec::new());
            look.list.unwrap().matching
        };
        assert_eq!((matching("user = 33"), matching("cgroup id:7"), matching("not user = 33")), (4, 4, 6));
        assert_eq!(
            (matching("comm = 'ng\u{1b}inx'"), matching("comm = nginx"), matching("pid = 812")),
            (4, 0, 0)
        );
    }

    #[test]
    fn queues_of_one_port_add_up() {
        let mut gathering = gathering(|wants| wants.ports = true);
        for (address, waiting) in [([127, 0, 0, 1], 3), ([10, 0, 0, 7], 64)] {
            let mut record =
                sock_diag::fake::tcp_record(SocketState::Listen, (address, 443).into(), ([0; 4], 0).into());
            (record.rqueue_bytes, record.wqueue_bytes) = (waiting, 128);
            gathering.record(&record, &Who::default);
        }
        let mut look = example::look();
        look.listeners = vec![ListenerRow { port: 443, live: 9, ..ListenerRow::default() }];
        gathering.fill(&mut look, true, |_| Vec::new());
        let row = look.listeners[0];
        assert_eq!((row.sockets, row.queue, row.backlog, row.fullness, row.address), (2, 67, 256, 0.5, None));
        assert_eq!(row.live, 9, "what the report told stays");
        assert!(look.ports.is_some() && look.list.is_none());
    }
}
