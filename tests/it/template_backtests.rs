//! `sluice backtest` with each template of analysis-templates/ on the history of a service in a real
//! Prometheus: every metric is replayed, a good release is not rolled back, and a bad one is where the
//! history says what bad is: shares of requests and quantiles.
//!
//! The history is what `tests/data/analysis-templates.yaml` calls good, with few of the errors it calls bad.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use sluice::sim::promql::Labels;

use crate::backtest::{backtest, judge, started};
use crate::prometheus::{Prometheus, Seeded};
use crate::templates::{Case, cases, library, of_pod, series};

/// When the history ends, in seconds.
const END: i64 = 1_748_736_000;
const HOURS: i64 = 2;
/// Before the history, for queries that look back an hour.
const LEAD: i64 = 3_700;
const STEP: i64 = 15;
/// Each pod answers so many hundred requests between two points.
const HUNDREDS: f64 = 3.0;
/// The part of the errors of a bad release that a good one has.
const FEW: f64 = 0.002;
const PODS: [&str; 4] = ["web-5d4b-aaaaa", "web-5d4b-bbbbb", "web-5d4b-ccccc", "web-5d4b-ddddd"];

/// First value and step of each series of a template.
fn written(case: &Case) -> BTreeMap<Labels, (f64, f64)> {
    let errors = |(metric, _): &(&String, &String)| metric.ends_with("error-ratio");
    let bad = case.bad.iter().find(errors).filter(|_| case.requests);
    let good = case.good.lines().map(|line| (line, 1.0));
    let lines = good.chain(bad.into_iter().flat_map(|(_, bad)| bad.lines()).map(|l| (l, FEW)));
    let mut all = BTreeMap::new();
    for (line, weight) in lines {
        for pod in PODS {
            let times = if case.requests { HUNDREDS * weight } else { weight };
            for (labels, first, step) in series(&of_pod(line, "shop", pod, false)) {
                all.entry(labels).or_insert((first, 0.0)).1 += step * times;
            }
        }
    }
    // Each of the pods has written those that name none of them.
    for (labels, (_, step)) in &mut all {
        let names_a_pod = labels.iter().any(|(name, _)| name == "pod" || name == "destination_pod");
        *step /= if names_a_pod { 1.0 } else { PODS.len() as f64 };
    }
    all
}

/// Writes the history of all templates; one whose names another one uses too comes first.
async fn write(real: &Prometheus, cases: &BTreeMap<String, Case>) {
    let mut all: BTreeMap<Labels, (f64, f64)> = BTreeMap::new();
    for (name, case) in cases {
        for (labels, values) in written(case) {
            assert!(case.shared || !values.0.is_nan(), "{name}");
            all.entry(labels).or_insert(values);
        }
    }
    let points: Vec<i64> = (0..=(LEAD + HOURS * 3_600) / STEP).collect();
    let start = END - points.len() as i64 * STEP + STEP;
    for part in points.chunks(60) {
        let of = |(labels, (first, step)): (&Labels, &(f64, f64))| Seeded {
            labels: labels.clone(),
            samples: part
                .iter()
                .map(|at| ((start + at * STEP) * 1_000, first + step * *at as f64))
                .collect(),
        };
        real.write(&all.iter().map(of).collect::<Vec<_>>()).await;
    }
}

/// What a user writes for a template: the stable version's names, and which argument names a version.
fn arguments(declared: &BTreeSet<String>) -> Vec<String> {
    let given = [
        ("namespace", "shop"),
        ("workload", "web"),
        ("container", "web"),
        ("service", "web"),
        ("cluster", ".+_web_80"),
        ("ingress", "web"),
        ("group", "orders"),
        ("queue", "orders"),
    ];
    let given = given.iter().filter(|(name, _)| declared.contains(*name));
    let mut words: Vec<String> =
        given.flat_map(|(name, value)| ["--arg".to_owned(), format!("{name}={value}")]).collect();
    for version in ["hash", "canary"].into_iter().filter(|name| declared.contains(*name)) {
        words.extend(["--canary-arg".to_owned(), version.to_owned()]);
    }
    if declared.contains("seenBy") {
        words.extend(["--pod-label".to_owned(), "destination_pod".to_owned()]);
    }
    words
}

/// Which regressions a template can show: shares and quantiles that are told by pod.
fn regressions(name: &str, case: &Case) -> Vec<&'static str> {
    let by_pod = case.good.contains("$pod") || case.good.contains("\"$name\"");
    let has = |ending: &str| case.bad.keys().any(|metric| metric.ends_with(ending));
    let errors = has("error-ratio") || name == "slo-burn-rate";
    let slow = has("-latency") || has("-duration");
    let both = [("errors=200", errors), ("latency=x50", slow)];
    both.into_iter().filter(|(_, shown)| by_pod && *shown).map(|(word, _)| word).collect()
}

/// The judge's share of rollbacks: of good releases, then of each regression that could be made.
fn shares(name: &str, report: &Value) -> Vec<f64> {
    let judge = judge(report, name);
    let share = |found: &Value| found["rollback"]["share"].as_f64();
    let changed = judge["regressions"].as_array().unwrap().iter();
    let changed = changed.map(|regression| share(&regression["found"]));
    std::iter::once(share(&judge["unchanged"])).chain(changed).flatten().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_template_is_replayed_and_finds_what_history_can_show() {
    let Some(real) = started().await else { return };
    let cases = cases();
    write(&real, &cases).await;
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("analysis-templates");
    let until = jiff::Timestamp::from_second(END).unwrap().to_string();
    let page = std::fs::read_to_string(root.join("../docs/backtest.md")).unwrap();
    let mut wrong = String::new();
    for (name, text) in library() {
        let object: Value = serde_saphyr::from_str(&text).unwrap();
        let args = object["spec"]["args"].as_array().unwrap();
        let declared = args.iter().map(|arg| arg["name"].as_str().unwrap().to_owned()).collect();
        let days = format!("{:.6}", HOURS as f64 / 24.0);
        let mut words: Vec<String> = format!(
            "--prometheus {} --until {until} --days {days} --window 30m --rate 1000 --quiet -o json",
            real.url
        )
        .split_whitespace()
        .map(str::to_owned)
        .collect();
        words.extend(arguments(&declared));
        let shown = regressions(&name, &cases[&name]);
        words.extend(shown.iter().flat_map(|word| ["--inject".to_owned(), (*word).to_owned()]));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let ran = backtest(&root.join(format!("{name}.yaml")), &words);
        if ran.code != 0 {
            wrong += &format!("{name}: {} {}\n", ran.code, ran.complaint);
            continue;
        }
        let report: Value = serde_json::from_str(&ran.said).unwrap();
        let found = shares(&name, &report);
        let expected: Vec<f64> = std::iter::once(0.0).chain(shown.iter().map(|_| 1.0)).collect();
        let words: Vec<&str> = shown.iter().map(|word| word.split_once('=').unwrap().0).collect();
        let cell = if words.is_empty() { "-".to_owned() } else { words.join(" and ") };
        let row = |line: &str| {
            line.starts_with(&format!("| `{name}` |")) && line.ends_with(&format!("| {cell} |"))
        };
        println!("{name}: {found:?} of {} windows", report["windows"]["used"]);
        let left_out = report["notes"].to_string().contains("left out");
        let used = report["windows"]["used"].as_u64().unwrap();
        if found != expected || left_out || used < 2 || !page.lines().any(row) {
            wrong += &format!("{name}: {found:?} {expected:?} {} {cell}\n", report);
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
