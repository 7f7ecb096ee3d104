//! Renderers: each turns values into bytes of one format, and owns that format.

pub(crate) mod closes_csv;
pub(crate) mod closes_json;
pub(crate) mod closes_table;
pub(crate) mod diff_json;
pub(crate) mod diff_saved;
pub(crate) mod diff_table;
pub(crate) mod exhaustion;
pub(crate) mod group_json;
pub(crate) mod group_table;
pub(crate) mod headroom_json;
pub(crate) mod headroom_screen;
pub(crate) mod lifetimes_hlog;
pub(crate) mod lifetimes_json;
pub(crate) mod lifetimes_table;
pub(crate) mod namespaces_json;
pub(crate) mod namespaces_screen;
pub(crate) mod netns_json;
mod paragraph;
pub(crate) mod ports_json;
pub(crate) mod ports_screen;
mod remark_json;
#[cfg_attr(not(test), allow(dead_code, reason = "the command that reads recordings is on its way"))]
mod report_chart;
#[cfg_attr(not(test), allow(dead_code, reason = "the command that reads recordings is on its way"))]
pub(crate) mod report_html;
#[cfg_attr(not(test), allow(dead_code, reason = "the command that reads recordings is on its way"))]
pub(crate) mod report_json;
#[cfg_attr(not(test), allow(dead_code, reason = "the command that reads recordings is on its way"))]
mod report_lifetimes_html;
#[cfg_attr(not(test), allow(dead_code, reason = "the command that reads recordings is on its way"))]
mod report_ports_html;
#[cfg_attr(not(test), allow(dead_code, reason = "the command that reads recordings is on its way"))]
pub(crate) mod report_screen;
#[cfg_attr(not(test), allow(dead_code, reason = "the command that reads recordings is on its way"))]
pub(crate) mod report_view;
pub(crate) mod run_json;
pub(crate) mod run_junit;
pub(crate) mod run_markdown;
pub(crate) mod run_table;
pub(crate) mod snapshot_json;
pub(crate) mod snapshot_screen;
pub(crate) mod socket_fields;
pub(crate) mod socket_formats;
pub(crate) mod socket_table;
pub(crate) mod watch_csv;
pub(crate) mod watch_fleet;
pub(crate) mod watch_json;
pub(crate) mod watch_table;
