//! The in-memory Prometheus gives the numbers of a real one: the same seeded samples in both, the
//! same queries asked of both.
//!
//! Two real ones: `$PROMETHEUS`, else `prometheus` on the PATH, and `$PROMETHEUS_35`, which
//! `tests/prometheus/build` makes. The version of each decides the dialect.

mod real;

use std::collections::BTreeMap;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use sluice::clock::{Clock, SystemClock};
use sluice::sim::promql::{Engine, Labels, Tsdb, api, stale_marker};

pub(crate) use real::{NativeSeries, Prometheus, SERVERS, Seeded};

const SEED: u64 = 20_251_121;

/// Queries with an answer, none with ties at the edge of `topk` (their order is not defined). `$r`
/// runs over the range lengths of [`RANGES`].
const QUERIES: &[&str] = &[
    "http_requests_total",
    r#"http_requests_total{code="500"}"#,
    r#"http_requests_total{code!="500"}"#,
    r#"http_requests_total{code=~"5..|404"}"#,
    r#"http_requests_total{code!~"5.*",pod=~"web-[0-2]"}"#,
    r#"{__name__=~"temp.*"}"#,
    r#"http_requests_total{missing=""}"#,
    "http_requests_total offset 7m",
    "temperature offset -2m",
    "nothing_here",
    "rate(http_requests_total[$r])",
    "irate(http_requests_total[$r])",
    "increase(http_requests_total[$r])",
    "delta(temperature[$r])",
    "idelta(temperature[$r])",
    "deriv(temperature[$r])",
    "predict_linear(temperature[$r], 600)",
    "changes(temperature[$r])",
    "resets(http_requests_total[$r])",
    "avg_over_time(temperature[$r])",
    "min_over_time(temperature[$r])",
    "max_over_time(temperature[$r])",
    "sum_over_time(temperature[$r])",
    "count_over_time(temperature[$r])",
    "last_over_time(temperature[$r])",
    "present_over_time(temperature[$r])",
    "stddev_over_time(temperature[$r])",
    "stdvar_over_time(temperature[$r])",
    "quantile_over_time(0.9, temperature[$r])",
    "quantile_over_time(2, temperature[$r])",
    "rate(http_requests_total[$r] offset 3m)",
    "sum(rate(http_requests_total[$r]))",
    "sum by (code) (rate(http_requests_total[$r]))",
    "sum without (pod, method) (rate(http_requests_total[$r]))",
    "avg by (code, method) (rate(http_requests_total[$r]))",
    "count by (pod) (http_requests_total)",
    "count(http_requests_total) by (absent_label)",
    "min by (code) (http_requests_total)",
    "max by (code) (http_requests_total)",
    "stddev by (code) (http_requests_total)",
    "stdvar(temperature)",
    "group by (pod) (http_requests_total)",
    "quantile(0.75, http_requests_total)",
    "quantile by (code) (0.5, http_requests_total)",
    "topk(3, http_requests_total)",
    "bottomk(2, temperature == temperature)",
    "topk by (code) (1, http_requests_total)",
    "topk(0, http_requests_total)",
    r#"count_values("version", build_info)"#,
    "sort(temperature)",
    "sort_desc(http_requests_total)",
    "histogram_quantile(0.99, sum by (le) (rate(http_request_duration_seconds_bucket[$r])))",
    "histogram_quantile(0.5, sum by (le, pod) (rate(http_request_duration_seconds_bucket[$r])))",
    "histogram_quantile(0.9, http_request_duration_seconds_bucket)",
    "histogram_quantile(1, http_request_duration_seconds_bucket)",
    "histogram_quantile(-1, http_request_duration_seconds_bucket)",
    r#"histogram_quantile(0.9, http_request_duration_seconds_bucket{le!="+Inf"})"#,
    r#"sum(rate(http_requests_total{code=~"5.."}[$r])) / sum(rate(http_requests_total[$r]))"#,
    r#"sum by (pod) (rate(http_requests_total{code=~"5.."}[$r]))
       / sum by (pod) (rate(http_requests_total[$r]))"#,
    r#"sum(rate(http_requests_total{code="none"}[$r])) / sum(rate(http_requests_total[$r]))"#,
    r#"sum(rate(http_requests_total{code="none"}[$r])) or vector(0)"#,
    r#"(sum(rate(http_requests_total{code="none"}[$r])) or on() vector(0)) > bool 0.5"#,
    "rate(http_request_duration_seconds_sum[$r]) / rate(http_request_duration_seconds_count[$r])",
    "http_requests_total > 500",
    "http_requests_total > bool 500",
    "500 < http_requests_total",
    "http_requests_total == http_requests_total",
    "temperature != 20",
    "temperature <= bool temperature",
    "2 ^ 3 ^ 2 - 7 % 4 * 1.5",
    "1 / 0 - -1 / 0",
    "-temperature",
    "temperature * 2 + 1",
    "100 - temperature",
    "temperature % 7",
    "-7 % 4",
    "sum by (pod) (temperature atan2 3)",
    "temperature / temperature",
    "1 > bool 2",
    r#"http_requests_total and on (pod) kube_pod_info{node="a"}"#,
    r#"http_requests_total unless on (pod) kube_pod_info{node="a"}"#,
    r#"http_requests_total{code="500"} or http_requests_total{method="POST"}"#,
    "http_requests_total or temperature",
    "http_requests_total * on (pod) group_left (node) kube_pod_info",
    "kube_pod_info * on (pod) group_right (node) http_requests_total",
    "sum by (node) (http_requests_total * on (pod) group_left (node) kube_pod_info)",
    "http_requests_total > on (pod) group_left kube_pod_info",
    r#"http_requests_total{code="500",method="GET"} / ignoring (code)
       http_requests_total{code="200",method="GET"}"#,
    r#"http_requests_total{code="500",method="GET"} <= ignoring (code)
       http_requests_total{code="200",method="GET"}"#,
    r#"http_requests_total{code="500"} / ignoring (code) group_left ()
       sum without (code) (http_requests_total)"#,
    "vector(3) + 4",
    "vector(time())",
    "time() - timestamp(temperature)",
    "timestamp(temperature * 1)",
    r#"scalar(temperature{pod="web-0"})"#,
    "scalar(temperature)",
    r#"temperature + scalar(sum(up))"#,
    "absent(nothing_here)",
    r#"absent(nothing_here{app="shop",code=~"5..",pod="x",pod="y"})"#,
    "absent(temperature)",
    "absent(sum(nothing_here))",
    r#"absent_over_time(nothing_here{app="shop"}[$r])"#,
    "clamp(temperature, 10, 20)",
    "clamp(temperature, 20, 10)",
    "clamp_min(temperature, 15)",
    "clamp_max(temperature, 15)",
    "round(temperature)",
    "round(temperature, 0.25)",
    "abs(temperature - 20)",
    "ceil(temperature)",
    "floor(temperature)",
    "sqrt(temperature)",
    "exp(temperature / 10)",
    "ln(temperature)",
    "log2(temperature)",
    "log10(temperature)",
    "sgn(temperature)",
    r#"label_replace(temperature, "n", "pod $1", "pod", "web-(.*)")"#,
    r#"label_replace(temperature, "pod", "", "pod", "web-0")"#,
    r#"label_replace(temperature, "app", "$1-${2}", "pod", "(w)(eb).*")"#,
    r#"label_join(temperature, "both", "/", "app", "pod", "none")"#,
    "max_over_time(rate(http_requests_total[2m])[10m:1m])",
    "avg_over_time(sum(temperature)[7m:37s] offset 90s)",
    "rate(http_requests_total[5m:20s])",
    "sum_over_time(vector(1)[5m:])",
    "min_over_time((temperature > 15)[6m:30s])",
    "hour(vector(0)) + minute(vector(90))",
    "day_of_week() * 100 + month()",
    "up == 0",
    "sum(up) / count(up)",
    "http_requests_total @ start()",
    "rate(http_requests_total[4m] @ end())",
];

const RANGES: &[&str] = &["45s", "5m", "20m"];

/// Queries that both refuse, with the same HTTP status and kind of error.
const REFUSED: &[&str] = &[
    "sum(",
    "rate(http_requests_total)",
    "unknown_function(up)",
    "1 > 2",
    "up{",
    r#"{app=~".*"}"#,
    "http_requests_total * on (pod) http_requests_total",
    "http_requests_total * on (pod) kube_pod_info",
    "kube_pod_info * on (app) group_left up",
    r#"label_replace(up, "pod", "same", "pod", ".*")"#,
    r#"label_replace(up, "", "x", "pod", ".*")"#,
    r#"rate({__name__=~"http_requests_total|http_twin_total"}[5m])"#,
];

/// Scrapes about every 10 s over `span_ms` until `end_ms`, some of them missed.
fn scrapes(rng: &mut SmallRng, end_ms: i64, span_ms: i64) -> Vec<i64> {
    let phase = rng.random_range(0..10_000);
    (0..span_ms / 10_000)
        .filter_map(|i| {
            let at = end_ms - span_ms + i * 10_000 + phase + rng.random_range(-40..40);
            (rng.random_range(0..100) > 2).then_some(at)
        })
        .collect()
}

fn seeded(end_ms: i64) -> Vec<Seeded> {
    let mut rng = SmallRng::seed_from_u64(SEED);
    let mut all = Vec::new();
    for pod in 0..5 {
        let pod_name = format!("web-{pod}");
        // Pods 3 and 4 start late; pod 4 goes away (marked) and pod 2 is lost (unmarked).
        let span_ms = if pod >= 3 { 1_100_000 } else { 2_900_000 };
        let mut at = scrapes(&mut rng, end_ms, span_ms);
        let cut = at.len() - if pod == 2 { 60 } else { 0 };
        at.truncate(cut);
        let gone = (pod == 4).then(|| at.len() - 40);
        let base = [("app", "shop"), ("pod", pod_name.as_str())];
        for (code, method, per_scrape) in
            [("200", "GET", 90), ("200", "POST", 20), ("404", "GET", 3), ("500", "GET", 2)]
        {
            let pairs = base.into_iter().chain([("code", code), ("method", method)]);
            let mut value = 0.0;
            let samples = at.iter().map(|at| {
                let restart = rng.random_range(0..80) == 0;
                value =
                    if restart { 0.0 } else { value + f64::from(rng.random_range(0..per_scrape)) };
                (*at, value)
            });
            all.push(Seeded {
                labels: Labels::new("http_requests_total", pairs),
                samples: samples.collect(),
            });
        }
        all.extend(histogram(&mut rng, &at, &base));
        let noise = at.iter().enumerate().map(|(i, at)| {
            let value = if i % 97 == 50 { f64::NAN } else { rng.random_range(-5.0..30.0) };
            (*at, value)
        });
        let noise = noise.collect();
        all.push(Seeded { labels: Labels::new("temperature", base), samples: noise });
        let up = at.iter().map(|at| (*at, f64::from(u8::from(rng.random_range(0..9) > 0))));
        all.push(Seeded { labels: Labels::new("up", base), samples: up.collect() });
        let node = base.into_iter().chain([("node", if pod % 2 == 0 { "a" } else { "b" })]);
        let ones = at.iter().map(|at| (*at, 1.0)).collect();
        all.push(Seeded { labels: Labels::new("kube_pod_info", node), samples: ones });
        let release = at.iter().map(|at| (*at, f64::from(1 + pod / 3) * 0.5)).collect();
        all.push(Seeded { labels: Labels::new("build_info", base), samples: release });
        if let Some(gone) = gone {
            for series in all.iter_mut().filter(|s| s.labels.get("pod") == "web-4") {
                series.samples.truncate(gone + 1);
                series.samples[gone].1 = stale_marker();
            }
        }
    }
    let twins: Vec<Seeded> = all
        .iter()
        .filter(|s| s.labels.name() == "http_requests_total")
        .map(|s| {
            let mut labels = s.labels.clone();
            labels.set("__name__", "http_twin_total");
            Seeded { labels, samples: s.samples.clone() }
        })
        .collect();
    all.extend(twins);
    all
}

fn histogram(rng: &mut SmallRng, at: &[i64], base: &[(&str, &str)]) -> Vec<Seeded> {
    let bounds = ["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "+Inf"];
    let mut buckets = vec![0.0; bounds.len()];
    let mut sum = 0.0;
    let mut rows: Vec<Vec<(i64, f64)>> = vec![Vec::new(); bounds.len() + 2];
    for at in at {
        for _ in 0..rng.random_range(0..12) {
            let seconds = 0.02 * (-rng.random_range(0.001_f64..1.0).ln()).powi(2);
            sum += seconds;
            for (i, bound) in bounds.iter().enumerate() {
                let bound = bound.parse().unwrap_or(f64::INFINITY);
                buckets[i] += f64::from(u8::from(seconds <= bound));
            }
        }
        let total = buckets[bounds.len() - 1];
        for (row, value) in rows.iter_mut().zip(buckets.iter().chain([&total, &sum])) {
            row.push((*at, *value));
        }
    }
    let name = "http_request_duration_seconds";
    let pairs = base.iter().copied();
    let labels = bounds
        .iter()
        .map(|le| Labels::new(&format!("{name}_bucket"), pairs.clone().chain([("le", *le)])))
        .chain([
            Labels::new(&format!("{name}_count"), pairs.clone()),
            Labels::new(&format!("{name}_sum"), pairs.clone()),
        ]);
    labels.zip(rows).map(|(labels, samples)| Seeded { labels, samples }).collect()
}

/// The samples of an answer by series; where the query sorts, the order counts too.
fn comparable(data: &Value, ordered: bool) -> BTreeMap<String, Vec<(f64, f64)>> {
    let pair = |p: &Value| (p[0].as_f64().unwrap(), number(p[1].as_str().unwrap()));
    if data["resultType"] == "scalar" {
        return BTreeMap::from([("scalar".to_owned(), vec![pair(&data["result"])])]);
    }
    let series = data["result"].as_array().unwrap().iter().enumerate();
    series
        .map(|(i, series)| {
            let metric: BTreeMap<String, Value> =
                serde_json::from_value(series["metric"].clone()).unwrap();
            let key = if ordered { format!("{i:03} {metric:?}") } else { format!("{metric:?}") };
            let points = match series.get("values") {
                Some(values) => values.as_array().unwrap().iter().map(pair).collect(),
                None => vec![pair(&series["value"])],
            };
            (key, points)
        })
        .collect()
}

fn number(text: &str) -> f64 {
    match text {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        other => other.parse().unwrap(),
    }
}

fn same(a: f64, b: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
}

/// What differs between the two answers, in words; nothing if they agree.
fn difference(ours: &Value, theirs: &Value, ordered: bool) -> Option<String> {
    if ours["resultType"] != theirs["resultType"] {
        return Some(format!("type {} instead of {}", ours["resultType"], theirs["resultType"]));
    }
    let (ours, theirs) = (comparable(ours, ordered), comparable(theirs, ordered));
    if !ours.keys().eq(theirs.keys()) {
        return Some(format!("series {:#?}\ninstead of {:#?}", ours.keys(), theirs.keys()));
    }
    for ((series, ours), theirs) in ours.iter().zip(theirs.values()) {
        let close = |(a, b): (&(f64, f64), &(f64, f64))| a.0 == b.0 && same(a.1, b.1);
        if ours.len() != theirs.len() || !ours.iter().zip(theirs).all(close) {
            return Some(format!("{series}: {ours:?}\ninstead of {theirs:?}"));
        }
    }
    None
}

/// Parameters of a request.
type Form = Vec<(String, String)>;

fn form(pairs: &[(&str, String)]) -> Form {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect()
}

fn seconds(ms: i64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

fn queries() -> Vec<String> {
    let each = QUERIES.iter().flat_map(|q| {
        let ranges = if q.contains("$r") { RANGES } else { &RANGES[..1] };
        ranges.iter().map(|r| q.replace("$r", r))
    });
    each.collect()
}

/// The requests for one query: path, whether the order of the answer counts, parameters.
fn requests(query: &str, end_ms: i64, on_sample: i64) -> Vec<(&'static str, bool, Form)> {
    let ordered = ["sort", "topk(", "bottomk("].iter().any(|p| query.starts_with(p));
    // Before the data, on a sample, amid resets, after web-4 left, past the end.
    let instants =
        [end_ms - 3_000_000, on_sample, end_ms - 777_123, end_ms - 100_001, end_ms + 150_000];
    let instant = |at| form(&[("query", query.to_owned()), ("time", seconds(at))]);
    let range = [
        ("query", query.to_owned()),
        ("start", seconds(end_ms - 1_500_000)),
        ("end", seconds(end_ms + 60_000)),
        ("step", "61".to_owned()),
    ];
    let instants = instants.into_iter().map(|at| ("/api/v1/query", ordered, instant(at)));
    instants.chain([("/api/v1/query_range", false, form(&range))]).collect()
}

#[tokio::test]
async fn every_query_gives_the_numbers_of_a_real_prometheus() {
    for server in SERVERS {
        if let Some(real) = Prometheus::of(server).await {
            gives_its_numbers(real).await;
        }
    }
}

async fn gives_its_numbers(real: Prometheus) {
    let engine = Engine { dialect: real.dialect().await, ..Engine::default() };
    let end_ms = SystemClock.now().as_millisecond() - 200_000;
    let all = seeded(end_ms);
    let mut db = Tsdb::new(7_200_000);
    for series in &all {
        for (at, value) in &series.samples {
            db.append(&series.labels, *at, *value).unwrap();
        }
    }
    real.write(&all).await;

    let on_sample = all[0].samples[100].0;
    let mut failures = Vec::new();
    let mut compared = 0;
    let queries = queries();
    for query in &queries {
        for (path, ordered, parameters) in requests(query, end_ms, on_sample) {
            let ours = api::respond(&engine, &db, path, &parameters, end_ms);
            let (status, theirs) = real.ask(path, &parameters).await;
            let found = if (ours.status, status) == (200, 200) {
                difference(&ours.body["data"], &theirs["data"], ordered)
            } else {
                Some(format!("{} {}\ninstead of {status} {theirs}", ours.status, ours.body))
            };
            compared += 1;
            if let Some(found) = found {
                failures.push(format!("{path} {parameters:?}\n{found}"));
            }
        }
    }
    for query in REFUSED {
        let parameters = form(&[("query", (*query).to_owned()), ("time", seconds(on_sample))]);
        let ours = api::respond(&engine, &db, "/api/v1/query", &parameters, end_ms);
        let (status, theirs) = real.ask("/api/v1/query", &parameters).await;
        let kinds = (&ours.body["errorType"], &theirs["errorType"]);
        if ours.status != status || kinds.0 != kinds.1 || ours.body["errorType"] == json!(null) {
            failures.push(format!(
                "{query}: {} {}\ninstead of {status} {theirs}",
                ours.status, ours.body
            ));
        }
    }
    println!("{} queries, {compared} answers compared", queries.len());
    let shown: Vec<String> =
        failures.iter().take(10).map(|f| f.chars().take(1_500).collect()).collect();
    assert!(failures.is_empty(), "{} differ:\n{}", failures.len(), shown.join("\n\n"));
}
