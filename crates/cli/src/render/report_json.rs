//! The report as one JSON object, schema `sockeye.report/1`. Names stay; new ones may come.

use std::net::IpAddr;

use serde::Serialize;
use sockeye_core::{DestinationId, Moment, Percentiles};

use super::lifetimes_json::{Told, told};
use super::report_view::{ReportView, timestamp};
use super::snapshot_json::rounded;
use crate::by::{GroupName, OwnerName};
use crate::terminal::write_json;

/// Absent means not known.
#[derive(Serialize)]
struct Report<'a> {
    schema: &'static str,
    begin: String,
    end: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<Host<'a>>,
    netns: Netns<'a>,
    totals: Totals,
    #[serde(skip_serializing_if = "Option::is_none")]
    pool: Option<Pool>,
    destinations: Vec<DestinationRow>,
    destination_count: u64,
    /// Sums of those that could not be told apart.
    destination_rest: RestRow,
    owners: Vec<OwnerRow<'a>>,
    owner_count: u64,
    lifetimes: Lifetimes<'a>,
    bucket_ms: u64,
    buckets: Vec<BucketRow>,
    ports: Ports,
    warnings: Vec<RemarkRow<'a>>,
}

#[derive(Serialize)]
struct Host<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel: Option<&'a str>,
}

#[derive(Serialize)]
struct Netns<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    inode: Option<u64>,
    name: Option<&'a str>,
}

#[derive(Serialize)]
struct Totals {
    ticks: u64,
    recorded_ms: u64,
    opens: u64,
    closes: u64,
    opens_per_second: f64,
    closes_per_second: f64,
    /// Connections told one by one.
    ended: u64,
    ended_by: EndedBy,
    live_max: u64,
    time_wait_max: u64,
    events_lost: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    coverage_ratio_min: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    headroom_min: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    worst: Option<Worst>,
}

#[derive(Serialize)]
struct EndedBy {
    local: u64,
    remote: u64,
    reset: u64,
    unknown: u64,
}

#[derive(Serialize)]
struct Worst {
    #[serde(flatten)]
    name: Name,
    occupancy_ratio: f64,
    at: String,
}

#[derive(Serialize)]
struct Name {
    protocol: &'static str,
    local_address: IpAddr,
    remote_address: IpAddr,
    remote_port: u16,
}

#[derive(Serialize)]
struct Pool {
    first: u16,
    last: u16,
    range: u32,
    reserved: u32,
    held: u32,
    usable: u32,
    /// Whether range or reserved ports were others before.
    changed: bool,
}

#[derive(Serialize)]
struct DestinationRow {
    #[serde(flatten)]
    name: Name,
    in_use_max: u32,
    in_use_max_at: String,
    occupancy_ratio_max: f64,
    headroom_min: u32,
    live_max: u32,
    time_wait_max: u32,
    opens: u64,
    closes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    percentiles_ms: Option<Named>,
}

#[derive(Serialize)]
struct RestRow {
    destinations: u64,
    opens: u64,
    closes: u64,
}

#[derive(Serialize)]
struct OwnerRow<'a> {
    owner: &'a OwnerName,
    ended: u64,
    sent_bytes: u64,
    received_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    percentiles_ms: Option<Named>,
}

#[derive(Serialize)]
struct Lifetimes<'a> {
    #[serde(flatten)]
    total: Told<'a>,
    groups: Vec<GroupRow<'a>>,
    group_count: usize,
    /// All that ended, as [at least, at most, connections] in bins of 3 %; null at most for those begun before. What
    /// `sockeye diff` compares.
    sample_ms: Vec<(u64, Option<u64>, u64)>,
}

#[derive(Serialize)]
struct GroupRow<'a> {
    #[serde(flatten)]
    name: GroupName,
    #[serde(flatten)]
    told: Told<'a>,
}

#[derive(Serialize)]
struct Named {
    p50: u64,
    p90: u64,
    p99: u64,
    p999: u64,
}

/// Without a tick nothing but lifetimes is known of a bucket.
#[derive(Serialize)]
struct BucketRow {
    begin: String,
    ticks: u64,
    recorded_ms: u64,
    opens: u64,
    closes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    live_max: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_wait_max: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    occupancy_ratio_max: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    headroom_min: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    percentiles_ms: Option<Named>,
}

#[derive(Serialize)]
struct Ports {
    /// By how many connections that ended each port was used, as [port, connections]; those that never were are left out.
    used: Vec<(u16, u32)>,
}

#[derive(Serialize)]
struct RemarkRow<'a> {
    id: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
}

/// The object and a newline. Destinations, owners and groups are all told; buckets and ports as well.
pub(crate) fn render(view: &ReportView<'_>) -> anyhow::Result<String> {
    let (period, totals) = (view.period, view.period.totals());
    let [opens_per_second, closes_per_second] = view.mean_rates().map(|rate| rounded(rate, 2));
    let by = totals.ended_by;
    let report = Report {
        schema: "sockeye.report/1",
        begin: time(period.begin()),
        end: time(period.end()),
        host: view
            .origin
            .host_name
            .as_deref()
            .map(|name| Host { name, kernel: view.origin.kernel_release.as_deref() }),
        netns: Netns { inode: view.origin.netns_inode, name: view.origin.netns_name.as_deref() },
        totals: Totals {
            ticks: totals.ticks,
            recorded_ms: totals.covered_ms,
            opens: totals.opens,
            closes: totals.closes,
            opens_per_second,
            closes_per_second,
            ended: totals.ended,
            ended_by: EndedBy { local: by.local, remote: by.remote, reset: by.reset, unknown: by.unknown },
            live_max: totals.live_max,
            time_wait_max: totals.time_wait_max,
            events_lost: totals.events_lost,
            coverage_ratio_min: totals.coverage_min.map(|ratio| rounded(ratio, 4)),
            headroom_min: totals.headroom_min,
            worst: totals.worst.map(|(id, occupancy, at)| Worst {
                name: name(&id),
                occupancy_ratio: rounded(occupancy, 4),
                at: time(at),
            }),
        },
        pool: period.pool().map(|(pool, changed)| Pool {
            first: pool.range.first,
            last: pool.range.last,
            range: pool.range.count(),
            reserved: pool.reserved,
            held: pool.held,
            usable: pool.usable,
            changed,
        }),
        destinations: view
            .destinations
            .iter()
            .map(|row| DestinationRow {
                name: name(&row.id),
                in_use_max: row.in_use_max,
                in_use_max_at: time(row.in_use_max_at),
                occupancy_ratio_max: rounded(row.occupancy_max, 4),
                headroom_min: row.headroom_min,
                live_max: row.live_max,
                time_wait_max: row.time_wait_max,
                opens: row.opens,
                closes: row.closes,
                percentiles_ms: view.lifetimes_of(&row.id).map(named),
            })
            .collect(),
        destination_count: view.destinations.len() as u64 + view.destination_rest.destinations,
        destination_rest: RestRow {
            destinations: view.destination_rest.destinations,
            opens: view.destination_rest.opens,
            closes: view.destination_rest.closes,
        },
        owners: view
            .owners
            .iter()
            .map(|row| OwnerRow {
                owner: &row.name,
                ended: row.ended,
                sent_bytes: row.bytes[0],
                received_bytes: row.bytes[1],
                percentiles_ms: row.percentiles.map(named),
            })
            .collect(),
        owner_count: view.owners.len() as u64 + view.owner_rest.owners,
        lifetimes: Lifetimes {
            total: told(&view.lifetimes.total),
            groups: view
                .lifetimes
                .groups
                .iter()
                .map(|row| GroupRow { name: group(row.group), told: told(row) })
                .collect(),
            group_count: view.lifetimes.groups.len(),
            sample_ms: period
                .sample()
                .rows()
                .into_iter()
                .map(|(lifetime, count)| (lifetime.min_ms, lifetime.max_ms, count))
                .collect(),
        },
        bucket_ms: period.bucket_ms(),
        buckets: period
            .buckets()
            .iter()
            .zip(&view.percentiles)
            .map(|(bucket, percentiles)| BucketRow {
                begin: time(bucket.begin),
                ticks: bucket.ticks,
                recorded_ms: bucket.covered_ms,
                opens: bucket.opens,
                closes: bucket.closes,
                live_max: bucket.live_max,
                time_wait_max: bucket.time_wait_max,
                occupancy_ratio_max: bucket.occupancy_max.map(|ratio| rounded(ratio, 4)),
                headroom_min: bucket.headroom_min,
                percentiles_ms: percentiles.map(named),
            })
            .collect(),
        ports: Ports {
            used: (0..=u16::MAX)
                .map(|port| (port, period.ports().of(port)))
                .filter(|(_, uses)| *uses > 0)
                .collect(),
        },
        warnings: warnings(view),
    };
    let mut text = Vec::new();
    write_json(&mut text, &report)?;
    text.push(b'\n');
    Ok(String::from_utf8(text)?)
}

fn warnings<'a>(view: &'a ReportView<'_>) -> Vec<RemarkRow<'a>> {
    let told = view.remarks.iter().map(|remark| RemarkRow {
        id: &remark.id,
        message: &remark.message,
        first: Some(time(remark.first)),
        last: Some(time(remark.last)),
        count: Some(remark.count),
    });
    let notes = view.notes.iter().map(|note| RemarkRow {
        id: note.id,
        message: &note.message,
        first: None,
        last: None,
        count: None,
    });
    told.chain(notes).collect()
}

fn time(at: Moment) -> String {
    format!("{:.3}", timestamp(at))
}

fn name(id: &DestinationId) -> Name {
    Name {
        protocol: id.protocol.name(),
        local_address: id.local_address,
        remote_address: id.remote_address,
        remote_port: id.remote_port,
    }
}

/// Periods group by ends only.
fn group(group: Option<sockeye_core::Group>) -> GroupName {
    crate::by::named(group.unwrap_or(sockeye_core::Group::Other), crate::by::By::Destination, None).0
}

fn named(percentiles: Percentiles) -> Named {
    let [p50, p90, p99, p999] = percentiles.each().map(|bounded| bounded.ms);
    Named { p50, p90, p99, p999 }
}

#[cfg(test)]
mod tests {
    use super::super::report_view::{ReportView, example};
    use super::*;

    #[test]
    fn the_object_is_as_documented() {
        let (period, origin, notes) = (example::period_of(3), example::origin(), example::notes());
        let text = render(&ReportView::new(&period, &origin, &notes, 1, example::owner)).unwrap();
        let mut object: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(text.starts_with("{\"schema\":\"sockeye.report/1\""));
        let used = object["ports"]["used"].as_array().unwrap();
        let sum: u64 = used.iter().map(|row| row[1].as_u64().unwrap()).sum();
        assert_eq!(sum + 3_050, object["totals"]["ended"].as_u64().unwrap(), "all but those that came in");
        // What there is much of is cut for the picture.
        object["ports"]["used"] = used.iter().take(2).cloned().collect();
        object["destinations"] = object["destinations"].as_array().unwrap().iter().take(2).cloned().collect();
        let sample = object["lifetimes"]["sample_ms"].as_array().unwrap();
        assert_eq!(
            sample.iter().map(|row| row[2].as_u64().unwrap()).sum::<u64>(),
            object["totals"]["ended"].as_u64().unwrap()
        );
        object["lifetimes"]["sample_ms"] = sample.iter().take(2).cloned().collect();
        let groups = object["lifetimes"]["groups"].as_array().unwrap();
        object["lifetimes"]["groups"] = groups.iter().take(1).cloned().collect();
        insta::assert_snapshot!("report_json", serde_json::to_string_pretty(&object).unwrap());
    }
}
