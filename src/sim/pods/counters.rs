//! What a pod counts, and the metrics page that shows it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use rand::rngs::SmallRng;

use super::behaviour::{Answer, Behaviour, Latency, normal};
use crate::stats::special::normal_cdf;

/// Upper bounds of the duration buckets in seconds: the default ones of the client libraries.
pub const BOUNDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

#[derive(Debug, Clone, Default, PartialEq)]
struct Histogram {
    /// Not cumulative; the last one is everything above the highest bound.
    buckets: [u64; BOUNDS.len() + 1],
    sum: f64,
}

/// The counters of one pod since its start.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PodCounters {
    requests: BTreeMap<(u16, String), u64>,
    durations: BTreeMap<u16, Histogram>,
}

impl PodCounters {
    /// Counts one answered request.
    pub fn record(&mut self, method: &str, answer: Answer) {
        let Answer { code, seconds } = answer;
        match self.requests.get_mut(&(code, method.to_owned())) {
            Some(count) => *count += 1,
            None => {
                self.requests.insert((code, method.to_owned()), 1);
            }
        }
        let histogram = self.durations.entry(code).or_default();
        let index = BOUNDS.partition_point(|bound| *bound < seconds);
        if let Some(bucket) = histogram.buckets.get_mut(index) {
            *bucket += 1;
        }
        histogram.sum += seconds;
    }

    /// Counts what a pod of this behaviour has answered in `behaviour.lived` requests, all GET, warm: the
    /// errors by chance, response times as they are expected.
    pub fn live(&mut self, behaviour: &Behaviour, rng: &mut SmallRng) {
        let (n, p) = (behaviour.lived as f64, behaviour.error_rate);
        let errors = (n * p + (n * p * (1.0 - p)).sqrt() * normal(rng)).round().clamp(0.0, n);
        let Latency { median_seconds, sigma } = behaviour.latency;
        for (code, count) in [(200, n - errors), (500, errors)] {
            if count == 0.0 {
                continue;
            }
            let so_far = self.requests.entry((code, "GET".to_owned())).or_default();
            *so_far += count as u64;
            let histogram = self.durations.entry(code).or_default();
            let (mut below, mut counted) = (0.0, 0);
            for (bucket, bound) in histogram.buckets.iter_mut().zip(BOUNDS) {
                let share = normal_cdf((bound / median_seconds).ln() / sigma.max(1e-9));
                let here = (count * (share - below)) as u64;
                (below, counted) = (share, counted + here);
                *bucket += here;
            }
            if let Some(rest) = histogram.buckets.last_mut() {
                *rest += count as u64 - counted;
            }
            histogram.sum += count * median_seconds * (sigma * sigma / 2.0).exp();
        }
    }

    /// All requests, and those that were answered with 5xx.
    #[must_use]
    pub fn totals(&self) -> (u64, u64) {
        let all = self.requests.values().sum();
        let failed = self.requests.iter().filter(|((code, _), _)| *code >= 500);
        (all, failed.map(|(_, count)| count).sum())
    }

    /// The metrics page in the text exposition format.
    #[must_use]
    pub fn exposition(&self, app: &str, version: &str) -> String {
        let (app, version) = (escape(app), escape(version));
        let mut page = String::from(
            "# HELP http_requests_total Requests by status code.\n\
             # TYPE http_requests_total counter\n",
        );
        for ((code, method), count) in &self.requests {
            let _ = writeln!(
                page,
                "http_requests_total{{app=\"{app}\",code=\"{code}\",method=\"{method}\",\
                 version=\"{version}\"}} {count}"
            );
        }
        page.push_str(
            "# HELP http_request_duration_seconds Response time.\n\
             # TYPE http_request_duration_seconds histogram\n",
        );
        for (code, histogram) in &self.durations {
            let labels = format!("app=\"{app}\",code=\"{code}\"");
            let mut below = 0;
            let bounds = BOUNDS.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
            for (bound, count) in bounds.zip(histogram.buckets) {
                below += count;
                let _ = writeln!(
                    page,
                    "http_request_duration_seconds_bucket{{{labels},le=\"{bound}\"}} {below}"
                );
            }
            let sum = histogram.sum;
            let _ = writeln!(page, "http_request_duration_seconds_sum{{{labels}}} {sum}");
            let _ = writeln!(page, "http_request_duration_seconds_count{{{labels}}} {below}");
        }
        page
    }
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Answers `requests` requests in virtual time; the number that failed.
pub fn advance(
    counters: &mut PodCounters,
    requests: u64,
    behaviour: &Behaviour,
    rng: &mut SmallRng,
) -> u64 {
    let mut failed = 0;
    for _ in 0..requests {
        let answer = behaviour.draw(rng);
        failed += u64::from(answer.code >= 500);
        counters.record("GET", answer);
    }
    failed
}
