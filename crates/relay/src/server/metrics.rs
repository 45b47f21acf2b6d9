//! What is counted, and how Prometheus reads it (text format 0.0.4). Nothing in it names anybody.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use wire::relay::{Answer, Refusal};

use crate::store::Counts;

/// Upper ends of the buckets for durations, in microseconds.
const BUCKETS: [u64; 12] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    5_000_000,
];

/// Requests that are counted apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Put,
    Get,
    Withdraw,
    Settle,
    Remove,
    Deposit,
    Receive,
    Splice,
}

impl Kind {
    const ALL: [Self; 8] = [
        Self::Put,
        Self::Get,
        Self::Withdraw,
        Self::Settle,
        Self::Remove,
        Self::Deposit,
        Self::Receive,
        Self::Splice,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::Withdraw => "withdraw",
            Self::Settle => "settle",
            Self::Remove => "remove",
            Self::Deposit => "deposit",
            Self::Receive => "receive",
            Self::Splice => "splice",
        }
    }
}

const OUTCOMES: [&str; 9] = [
    "done",
    "absent",
    "too_large",
    "malformed",
    "taken",
    "denied",
    "full",
    "limited",
    "unavailable",
];

#[derive(Default)]
struct OfKind {
    outcomes: [AtomicU64; OUTCOMES.len()],
    buckets: [AtomicU64; BUCKETS.len() + 1],
    micros: AtomicU64,
}

/// The counters of one relay.
#[derive(Default)]
pub(crate) struct Metrics {
    kinds: [OfKind; Kind::ALL.len()],
    pub(crate) connections: AtomicU64,
    pub(crate) turned_away: AtomicU64,
    pub(crate) handshakes_failed: AtomicU64,
    pub(crate) delivered: AtomicU64,
    pub(crate) acknowledged: AtomicU64,
    pub(crate) spliced_bytes: AtomicU64,
    pub(crate) swept: AtomicU64,
}

/// What is so now.
pub(crate) struct Now {
    pub(crate) open: usize,
    pub(crate) receiving: usize,
    pub(crate) splice_ends: usize,
    pub(crate) up: bool,
    pub(crate) counts: Option<Counts>,
}

impl Metrics {
    /// Counts a request.
    pub(crate) fn request(&self, kind: Kind, answer: &Answer, took: Duration) {
        let outcome = match answer {
            Answer::Done | Answer::Entry(_) => 0,
            Answer::Absent => 1,
            Answer::Refused(Refusal::TooLarge) => 2,
            Answer::Refused(Refusal::Malformed) => 3,
            Answer::Refused(Refusal::Taken) => 4,
            Answer::Refused(Refusal::Denied) => 5,
            Answer::Refused(Refusal::Full) => 6,
            Answer::Refused(Refusal::Limited { .. }) => 7,
            Answer::Refused(Refusal::Unavailable) => 8,
        };
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS.iter().position(|end| micros <= *end).unwrap_or(BUCKETS.len());
        let Some(of_kind) = self.kinds.get(kind as usize) else { return };
        of_kind.micros.fetch_add(micros, Relaxed);
        for counter in [of_kind.outcomes.get(outcome), of_kind.buckets.get(bucket)] {
            counter.map(|counter| counter.fetch_add(1, Relaxed));
        }
    }

    /// The page that Prometheus reads.
    pub(crate) fn page(&self, now: &Now) -> String {
        let mut page = String::with_capacity(8 << 10);
        let mut family = |name: &str, kind: &str, help: &str, lines: &[(String, u64)]| {
            // Writing to a string does not fail.
            let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, value) in lines {
                let _ = writeln!(page, "{name}{labels} {value}");
            }
        };
        let one = |value: u64| [(String::new(), value)];
        let mut requests = Vec::new();
        for (kind, of_kind) in Kind::ALL.iter().zip(&self.kinds) {
            for (outcome, count) in OUTCOMES.iter().zip(&of_kind.outcomes) {
                let labels = format!("{{kind=\"{}\",outcome=\"{outcome}\"}}", kind.name());
                requests.push((labels, count.load(Relaxed)));
            }
        }
        family("kin_relay_requests_total", "counter", "Requests by kind and outcome.", &requests);
        for (name, help, counter) in [
            ("connections_total", "Connections that were let in.", &self.connections),
            ("turned_away_total", "Connections that a limit kept out.", &self.turned_away),
            ("handshakes_failed_total", "TLS handshakes that failed.", &self.handshakes_failed),
            ("delivered_total", "Envelopes sent to their owners.", &self.delivered),
            ("acknowledged_total", "Envelopes that owners acknowledged.", &self.acknowledged),
            ("spliced_bytes_total", "Bytes copied between spliced ends.", &self.spliced_bytes),
            ("swept_total", "Entries, envelopes and mailboxes whose time was over.", &self.swept),
        ] {
            family(&format!("kin_relay_{name}"), "counter", help, &one(counter.load(Relaxed)));
        }
        let wide = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        for (name, help, value) in [
            ("connections", "Open connections.", wide(now.open)),
            ("receiving", "Mailboxes that are received now.", wide(now.receiving)),
            ("splice_ends", "Ends of splices, waiting or joined.", wide(now.splice_ends)),
            ("up", "1 if the store answers and can be written.", u64::from(now.up)),
        ] {
            family(&format!("kin_relay_{name}"), "gauge", help, &one(value));
        }
        if let Some(counts) = now.counts {
            for (name, help, value) in [
                ("entries", "Entries at the rendezvous.", counts.entries),
                ("mailboxes", "Mailboxes.", counts.mailboxes),
                ("envelopes", "Envelopes that wait.", counts.envelopes),
                ("envelope_bytes", "Bytes of the envelopes that wait.", counts.bytes),
            ] {
                family(&format!("kin_relay_{name}"), "gauge", help, &one(value));
            }
        }
        let mut durations = Vec::new();
        for (kind, of_kind) in Kind::ALL.iter().zip(&self.kinds) {
            let kind = kind.name();
            let mut below = 0;
            for (at, count) in of_kind.buckets.iter().enumerate() {
                below += count.load(Relaxed);
                let end = match BUCKETS.get(at) {
                    Some(micros) => seconds(*micros),
                    None => "+Inf".to_owned(),
                };
                durations.push((format!("_bucket{{kind=\"{kind}\",le=\"{end}\"}}"), below));
            }
            durations.push((format!("_count{{kind=\"{kind}\"}}"), below));
        }
        family(
            "kin_relay_request_seconds",
            "histogram",
            "Time from a request's last byte to its answer.",
            &durations,
        );
        for (kind, of_kind) in Kind::ALL.iter().zip(&self.kinds) {
            let sum = seconds(of_kind.micros.load(Relaxed));
            let _ =
                writeln!(page, "kin_relay_request_seconds_sum{{kind=\"{}\"}} {sum}", kind.name());
        }
        page
    }
}

/// Microseconds as seconds in decimals.
fn seconds(micros: u64) -> String {
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_what_was_counted_and_its_buckets_add_up() {
        let metrics = Metrics::default();
        metrics.request(Kind::Get, &Answer::Absent, Duration::from_micros(700));
        metrics.request(Kind::Get, &Answer::Done, Duration::from_secs(9));
        let counts = Some(Counts::default());
        let now = Now { open: 3, receiving: 2, splice_ends: 0, up: true, counts };
        let page = metrics.page(&now);
        for line in [
            "kin_relay_requests_total{kind=\"get\",outcome=\"absent\"} 1",
            "kin_relay_request_seconds_bucket{kind=\"get\",le=\"0.000500\"} 0",
            "kin_relay_request_seconds_bucket{kind=\"get\",le=\"0.001000\"} 1",
            "kin_relay_request_seconds_bucket{kind=\"get\",le=\"5.000000\"} 1",
            "kin_relay_request_seconds_bucket{kind=\"get\",le=\"+Inf\"} 2",
            "kin_relay_request_seconds_count{kind=\"get\"} 2",
            "kin_relay_request_seconds_sum{kind=\"get\"} 9.000700",
            "kin_relay_connections 3",
            "kin_relay_up 1",
        ] {
            assert!(page.lines().any(|it| it == line), "{line} is missing in\n{page}");
        }
    }
}
