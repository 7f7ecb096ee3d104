//! What the user has chosen to see: the screen, its order, its filter, the moment. Changed by keys alone.

use std::time::Duration;

use sockeye_core::DestinationId;

use super::filter::Typed;
use super::screens::{destinations, fleet, listeners, owners, sockets};
use super::wanted::{SocketsWanted, Wants};
use crate::by::By;

/// The screens, in the order of their keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Screen {
    #[default]
    Destinations,
    Owners,
    Ports,
    Lifetimes,
    Listeners,
    Sockets,
    /// Of all namespaces at once, a row each; only there when all are followed.
    Namespaces,
}

impl Screen {
    pub(crate) const ALL: [Screen; 7] = [
        Screen::Destinations,
        Screen::Owners,
        Screen::Ports,
        Screen::Lifetimes,
        Screen::Listeners,
        Screen::Sockets,
        Screen::Namespaces,
    ];
    /// Those of one namespace.
    pub(crate) const OF_ONE: usize = Screen::Namespaces.index();

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Screen::Destinations => "Destinations",
            Screen::Owners => "Owners",
            Screen::Ports => "Ports",
            Screen::Lifetimes => "Lifetimes",
            Screen::Listeners => "Listeners",
            Screen::Sockets => "Sockets",
            Screen::Namespaces => "Namespaces",
        }
    }

    pub(crate) const fn index(self) -> usize {
        self as usize
    }

    /// Whether its rows can be filtered.
    pub(crate) const fn has_filter(self) -> bool {
        !matches!(self, Screen::Ports | Screen::Lifetimes | Screen::Namespaces)
    }
}

/// What owners are told apart by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum OwnersBy {
    #[default]
    Process,
    /// Unit, container or cgroup.
    Group,
    User,
    /// Of whatever owner, how their local ports were got.
    PortOrigin,
}

impl OwnersBy {
    pub(crate) const fn next(self) -> OwnersBy {
        match self {
            OwnersBy::Process => OwnersBy::Group,
            OwnersBy::Group => OwnersBy::User,
            OwnersBy::User => OwnersBy::PortOrigin,
            OwnersBy::PortOrigin => OwnersBy::Process,
        }
    }
}

/// How a table is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Table {
    pub(crate) sort: usize,
    pub(crate) descending: bool,
    /// The chosen row, by its place in the order.
    pub(crate) cursor: usize,
    /// The first row that is shown.
    pub(crate) offset: usize,
}

impl Table {
    pub(crate) const fn by(sort: usize, descending: bool) -> Table {
        Table { sort, descending, cursor: 0, offset: 0 }
    }
}

/// Something in front of the screen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Overlay {
    Help { scrolled: usize },
    Notes { scrolled: usize },
    Namespaces { choices: Vec<Choice>, chosen: usize },
}

/// A network namespace that can be followed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Choice {
    pub(crate) label: String,
    /// As `-N` takes it; None: where the command began.
    pub(crate) namespace: Option<String>,
}

/// What is shown.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct View {
    pub(crate) screen: Screen,
    /// Of the destinations, this one alone.
    pub(crate) focus: Option<DestinationId>,
    /// The destination that was chosen, while the cursor has not been moved since.
    pub(crate) pinned: Option<DestinationId>,
    pub(crate) tables: [Table; Screen::ALL.len()],
    pub(crate) filters: [Typed; Screen::ALL.len()],
    pub(crate) owners_by: OwnersBy,
    /// The filter of the screen is being typed; what it was before.
    pub(crate) typing: Option<Typed>,
    pub(crate) overlay: Option<Overlay>,
    /// The number of the look that is shown; None: the newest.
    pub(crate) stands_at: Option<u64>,
    pub(crate) interval: Duration,
    pub(crate) speed: f64,
    /// A recording is gone through; what is shown of it is always its newest look.
    pub(crate) is_recording: bool,
    /// It plays.
    pub(crate) plays: bool,
    /// The time to go to is being typed.
    pub(crate) time: Option<String>,
    /// The namespace that is followed; None: where the command began, or all of them.
    pub(crate) namespace: Option<String>,
    /// All namespaces are followed while none is chosen.
    pub(crate) is_fleet: bool,
    /// Something to say once, in place of the keys.
    pub(crate) message: Option<String>,
}

impl View {
    pub(crate) fn new(interval: Duration) -> View {
        let mut tables = [Table::default(); Screen::ALL.len()];
        tables[Screen::Destinations.index()] = destinations::FIRST_ORDER;
        tables[Screen::Owners.index()] = owners::FIRST_ORDER;
        tables[Screen::Listeners.index()] = listeners::FIRST_ORDER;
        tables[Screen::Sockets.index()] = sockets::FIRST_ORDER;
        tables[Screen::Lifetimes.index()] = Table::by(1, true);
        tables[Screen::Namespaces.index()] = fleet::FIRST_ORDER;
        View {
            screen: Screen::default(),
            focus: None,
            pinned: None,
            tables,
            filters: Default::default(),
            owners_by: OwnersBy::default(),
            typing: None,
            overlay: None,
            stands_at: None,
            interval,
            speed: 1.0,
            is_recording: false,
            plays: false,
            time: None,
            namespace: None,
            is_fleet: false,
            message: None,
        }
    }

    /// Begins with what `--by` names.
    pub(crate) fn begin_by(&mut self, by: By) {
        (self.screen, self.owners_by) = match by {
            By::Destination => (Screen::Destinations, OwnersBy::Process),
            By::Listener => (Screen::Listeners, OwnersBy::Process),
            By::Owner => (Screen::Owners, OwnersBy::Process),
            By::Cgroup => (Screen::Owners, OwnersBy::Group),
            By::User => (Screen::Owners, OwnersBy::User),
            // It has one namespace, told in the first line.
            By::Netns => (Screen::Destinations, OwnersBy::Process),
            By::PortOrigin => (Screen::Owners, OwnersBy::PortOrigin),
        };
    }

    /// Begins with all namespaces.
    pub(crate) fn begin_with_all(&mut self) {
        (self.is_fleet, self.screen) = (true, Screen::Namespaces);
    }

    /// A recording is gone through. Of owners it tells what ended.
    pub(crate) fn begin_with_recording(&mut self) {
        self.is_recording = true;
        self.tables[Screen::Owners.index()] = owners::ORDER_RECORDED;
    }

    /// Another namespace is looked at, its newest tick.
    pub(crate) fn follow(&mut self, namespace: Option<String>) {
        self.namespace = namespace;
        (self.focus, self.pinned, self.stands_at) = (None, None, None);
        let shows_all = self.is_fleet && self.namespace.is_none();
        match (shows_all, self.screen) {
            (true, _) => self.screen = Screen::Namespaces,
            (false, Screen::Namespaces) => self.screen = Screen::Destinations,
            (false, _) => {}
        }
    }

    /// The screens there are, beside this one.
    pub(crate) fn screens(&self) -> &'static [Screen] {
        match (self.is_fleet, self.screen) {
            (true, Screen::Namespaces) => &Screen::ALL[Screen::OF_ONE..],
            (true, _) => &Screen::ALL,
            (false, _) => &Screen::ALL[..Screen::OF_ONE],
        }
    }

    /// Whether the rows of the screen can be filtered: a recording has neither listeners nor sockets.
    pub(crate) fn has_filter(&self) -> bool {
        self.screen.has_filter()
            && !(self.is_recording && matches!(self.screen, Screen::Listeners | Screen::Sockets))
    }

    pub(crate) fn table(&self) -> &Table {
        &self.tables[self.screen.index()]
    }

    pub(crate) fn table_mut(&mut self) -> &mut Table {
        &mut self.tables[self.screen.index()]
    }

    pub(crate) fn filter(&self) -> &Typed {
        &self.filters[self.screen.index()]
    }

    pub(crate) fn filter_mut(&mut self) -> &mut Typed {
        &mut self.filters[self.screen.index()]
    }

    /// What has to be gathered for it.
    pub(crate) fn wants(&self) -> Wants {
        let table = self.table();
        Wants {
            interval: self.interval,
            speed: self.speed,
            paused: if self.is_recording { !self.plays } else { self.stands_at.is_some() },
            owners: self.is_recording && self.screen == Screen::Owners,
            ports: self.screen == Screen::Ports,
            lifetimes: self.screen == Screen::Lifetimes || self.focus.is_some(),
            users: self.screen == Screen::Destinations,
            sockets: (self.screen == Screen::Sockets).then(|| SocketsWanted {
                filter: self.filter().good.clone(),
                order: sockets::order_of(table.sort),
                descending: table.descending,
            }),
            focus: self.focus,
            namespace: self.namespace.clone(),
            ends: false,
        }
    }
}
