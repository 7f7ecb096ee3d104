//! What an output needs beside sockets: time, host, namespace, settings, counters. A capture keeps it as JSON.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use sock_diag::Namespace;
use sockeye_core::{Moment, PortRange, PortSet, TwReuse};
use sockeye_host::{Capability, Host, Interfaces};

/// Version of the JSON form: raised when a reader of today could misunderstand it.
const VERSION: u32 = 1;

/// The surroundings of one sweep. Part of the capture format: rename nothing, add optional fields only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Surroundings {
    version: u32,
    pub(crate) taken_at: jiff::Timestamp,
    /// From opening the socket to the last record.
    pub(crate) sweep_duration_ms: f64,
    pub(crate) host_name: String,
    pub(crate) kernel_release: String,
    pub(crate) netns_inode: Option<u64>,
    pub(crate) netns_name: Option<String>,
    /// Whether the sweep was made with CAP_NET_ADMIN, which shows marks. None when not known.
    pub(crate) net_admin: Option<bool>,
    pub(crate) settings: Settings,
    pub(crate) counters: Counters,
    /// Names of interfaces by their index.
    pub(crate) interfaces: BTreeMap<u32, String>,
    /// Paths of cgroups by their id: those of the sockets that the capturing call listed, if it listed cgroups.
    #[serde(default)]
    pub(crate) cgroups: BTreeMap<u64, String>,
    /// Cookie and port of the connected sockets that bound their port by number, which no record tells. None when the sweep
    /// did not ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) bound_by_number: Option<Vec<(u64, u16)>>,
    /// Cookies of connections that only their events told of, and whether a TIME_WAIT was found in their place: who closed
    /// first. Those of one step of a watch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) left_time_wait: Vec<(u64, bool)>,
    /// Cookies of sockets that may be stuck, and how long they have been in their state: at least, and at most where that is
    /// known, milliseconds. A sample, told by a lookup of each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) stuck_ages: Vec<(u64, u64, Option<u64>)>,
    /// Why something above is missing.
    pub(crate) unread: Vec<String>,
    /// Where this sweep stands in a watch; None for a single look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) step: Option<Step>,
}

/// A step of a watch: what was read between two times. Milliseconds of a clock that does not go back.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Step {
    pub(crate) kind: StepKind,
    /// When its dumps began; of a step without dumps, its end.
    pub(crate) began_ms: u64,
    /// When all was read.
    pub(crate) ended_ms: u64,
    /// Whether destroy events were heard.
    pub(crate) events: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StepKind {
    /// One of the readings that make the first sweep.
    Baseline,
    /// A tick with a sweep.
    Sweep,
    /// A tick without.
    Tick,
    /// What came after the last tick.
    Rest,
}

/// Sysctls by the kernel's names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) ip_local_port_range: Option<RangeInclusive<u16>>,
    pub(crate) ip_local_reserved_ports: Option<Vec<RangeInclusive<u16>>>,
    pub(crate) tcp_tw_reuse: Option<u32>,
    pub(crate) tcp_tw_reuse_delay_ms: Option<u32>,
    pub(crate) tcp_fin_timeout_s: Option<u32>,
    pub(crate) tcp_max_tw_buckets: Option<u32>,
    pub(crate) tcp_timestamps: Option<bool>,
}

impl Settings {
    fn of(settings: sockeye_host::Settings) -> Settings {
        Settings {
            ip_local_port_range: settings.ip_local_port_range,
            ip_local_reserved_ports: settings.ip_local_reserved_ports,
            tcp_tw_reuse: settings.tcp_tw_reuse,
            tcp_tw_reuse_delay_ms: settings.tcp_tw_reuse_delay_ms,
            tcp_fin_timeout_s: settings.tcp_fin_timeout_s,
            tcp_max_tw_buckets: settings.tcp_max_tw_buckets,
            tcp_timestamps: settings.tcp_timestamps,
        }
    }
}

/// Protocol counters that qualify a report.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Counters {
    pub(crate) active_opens: Option<u64>,
    pub(crate) passive_opens: Option<u64>,
    pub(crate) time_wait_overflow: Option<u64>,
    /// TCP sockets, TIME_WAIT included, a moment before the sweep.
    #[serde(default)]
    pub(crate) tcp_sockets: Option<u64>,
}

impl Counters {
    fn of(counters: &sockeye_host::Counters) -> Counters {
        Counters {
            active_opens: counters.active_opens,
            passive_opens: counters.passive_opens,
            time_wait_overflow: counters.time_wait_overflow,
            tcp_sockets: counters
                .tcp_in_use
                .map(|v4| v4 + counters.tcp6_in_use.unwrap_or(0) + counters.time_waits.unwrap_or(0)),
        }
    }
}

impl Surroundings {
    /// Reads those of the calling thread's network namespace, which `namespace` names.
    pub(crate) fn read(namespace: Option<&Namespace>) -> Surroundings {
        let Host { identity, settings, counters, capabilities, unread } = Host::read();
        Surroundings {
            version: VERSION,
            taken_at: jiff::Timestamp::now(),
            sweep_duration_ms: 0.0,
            host_name: identity.host_name,
            kernel_release: identity.kernel_release,
            netns_inode: namespace.map(Namespace::inode).or(identity.net_namespace_inode),
            netns_name: namespace.and_then(Namespace::name).map(str::to_owned),
            net_admin: capabilities.map(|held| held.has(Capability::NetAdmin)),
            settings: Settings::of(settings),
            counters: Counters::of(&counters),
            interfaces: Interfaces::read()
                .iter()
                .map(|(index, name)| (index.get(), name.to_owned()))
                .collect(),
            cgroups: BTreeMap::new(),
            bound_by_number: None,
            left_time_wait: Vec::new(),
            stuck_ages: Vec::new(),
            unread: unread.iter().map(ToString::to_string).collect(),
            step: None,
        }
    }

    /// Reads the counters again, and with `all` the settings too: those of the calling thread's network namespace.
    /// Returns all counters, of which few are kept.
    pub(crate) fn reread(&mut self, all: bool) -> sockeye_host::Counters {
        let mut unread = Vec::new();
        let counters = sockeye_host::Counters::read(&mut unread);
        self.counters = Counters::of(&counters);
        if all {
            self.settings = Settings::of(sockeye_host::Settings::read(&mut unread));
            self.unread = unread.iter().map(ToString::to_string).collect();
        }
        counters
    }

    /// Reads what [`to_json`](Self::to_json) wrote.
    pub(crate) fn from_json(json: &[u8]) -> anyhow::Result<Surroundings> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let what = "what the capture says of its host cannot be read";
        let Version { version } = serde_json::from_slice(json).context(what)?;
        anyhow::ensure!(
            version == VERSION,
            "the capture describes its host in version {version}; this sockeye reads {VERSION}"
        );
        serde_json::from_slice(json).context(what)
    }

    /// The form a capture keeps.
    pub(crate) fn to_json(&self) -> anyhow::Result<Vec<u8>> {
        Ok(serde_json::to_vec(self)?)
    }

    /// As core takes them.
    pub(crate) fn core_settings(&self) -> sockeye_core::Settings {
        let settings = &self.settings;
        let range = settings.ip_local_port_range.as_ref();
        sockeye_core::Settings {
            port_range: range.map(|range| PortRange { first: *range.start(), last: *range.end() }),
            reserved_ports: settings
                .ip_local_reserved_ports
                .as_ref()
                .map(|ranges| PortSet::from_ranges(ranges.iter().cloned())),
            tw_reuse: settings.tcp_tw_reuse.map_or(TwReuse::Unknown, TwReuse::from_raw),
            tw_reuse_delay_ms: settings.tcp_tw_reuse_delay_ms,
            timestamps: settings.tcp_timestamps,
            max_tw_buckets: settings.tcp_max_tw_buckets,
        }
    }

    /// As core takes them.
    pub(crate) fn core_counters(&self) -> sockeye_core::Counters {
        let Counters { active_opens, passive_opens, time_wait_overflow, .. } = self.counters;
        sockeye_core::Counters { active_opens, passive_opens, time_wait_overflow }
    }

    /// When what this was captured with began and ended, by a clock that does not go back. Single looks that were put
    /// together tell it by the wall clock.
    pub(crate) fn moments(&self) -> (Moment, Moment) {
        match self.step {
            Some(step) => (Moment(step.began_ms), Moment(step.ended_ms)),
            None => {
                let ended = Moment(u64::try_from(self.taken_at.as_millisecond()).unwrap_or(0));
                (ended.minus_ms(self.sweep_duration_ms as u64), ended)
            }
        }
    }

    /// Whether destroy events were heard when this was captured.
    pub(crate) fn hears_events(&self) -> bool {
        self.step.is_some_and(|step| step.events)
    }

    /// First and last ephemeral port; None when they could not be read.
    pub(crate) fn port_range(&self) -> Option<(u16, u16)> {
        self.settings.ip_local_port_range.as_ref().map(|range| (*range.start(), *range.end()))
    }
}
