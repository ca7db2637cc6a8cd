//! The library in analysis-templates/: every file is linted, documented, and proved to pass a good
//! release, to fail a bad one by each of its metrics, and to hold when there is no data.
//!
//! The series of `tests/data/analysis-templates.yaml` are in the in-memory Prometheus; the run's own
//! plan asks it in virtual time, as the controller does. Whole releases: `template_releases.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, RwLock};

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};
use sluice::analysis::{
    NamedTemplate, ReleaseContext, Verdict, build_run, plan, record_all, verdict,
};
use sluice::api::{AnalysisRun, AnalysisTemplateSpec};
use sluice::cli::lint::{Linter, Report};
use sluice::clock::{Clock, SimClock};
use sluice::providers::run_due;
use sluice::sim::promql::{Engine, Labels, Tsdb, TsdbSource, parse_exposition};
use sluice::sim::scenario::{Scenario, run as play};
use sluice::spec::{AnalysisStanza, Arg, ArgValue};

const START: &str = "2026-01-01T12:00:00Z";
const MINUTE_MS: i64 = 60_000;
/// Time between two scrapes.
const SCRAPE_MS: i64 = 15_000;
/// The stable version is this old when the analysis starts.
const OLD_MS: i64 = 16 * MINUTE_MS;
/// Data go on this long after the start, which is more than ten measurements take.
const AFTER_MS: i64 = 7 * MINUTE_MS;
/// The new version is this old when the analysis starts.
const YOUNG_MS: i64 = 6 * MINUTE_MS;
/// Bounds of histograms, in seconds and in milliseconds at once.
const BOUNDS: &[&str] = &[
    "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "25", "50",
    "100", "250", "500", "1000", "2500", "5000", "+Inf",
];

/// What a release gives to the arguments that have no default.
pub(crate) const GIVEN: &[(&str, &str)] = &[
    ("namespace", "shop"),
    ("workload", "web"),
    ("hash", "5d4f8c7b9"),
    ("container", "web"),
    ("service", "web-canary"),
    ("cluster", ".+_web-canary_80"),
    ("ingress", "web"),
    ("group", "orders"),
    ("queue", "orders"),
];

/// The series of one template.
#[derive(Deserialize)]
pub(crate) struct Case {
    #[serde(default)]
    pub(crate) shared: bool,
    /// Counters count requests.
    #[serde(default)]
    pub(crate) requests: bool,
    pub(crate) good: String,
    pub(crate) bad: BTreeMap<String, String>,
}

/// Which version a series is of.
#[derive(Clone, Copy, PartialEq)]
enum Version {
    New,
    Stable,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every template with its text.
pub(crate) fn library() -> BTreeMap<String, String> {
    let files = std::fs::read_dir(root().join("analysis-templates")).unwrap();
    files
        .map(|file| file.unwrap().path())
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect()
}

fn spec(text: &str) -> AnalysisTemplateSpec {
    let object: Value = serde_saphyr::from_str(text).unwrap();
    serde_json::from_value(object["spec"].clone()).unwrap()
}

pub(crate) fn cases() -> BTreeMap<String, Case> {
    let path = root().join("tests/data/analysis-templates.yaml");
    serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn start() -> Timestamp {
    START.parse().unwrap()
}

/// A line of the data with the version's own labels.
fn of_version(line: &str, version: Version) -> String {
    match version {
        Version::New => of_pod(line, "shop", "web-5d4f8c7b9-xk2vq", true),
        Version::Stable => of_pod(line, "shop", "web-79c6d8b4f-p7w5z", false),
    }
}

/// A line of the data with the labels of a pod, which serves behind the canary's Service or the user's.
pub(crate) fn of_pod(line: &str, namespace: &str, pod: &str, is_canary: bool) -> String {
    let (service, alternative) = match is_canary {
        true => ("web-canary", format!("{namespace}-web-canary-80")),
        false => ("web", String::new()),
    };
    line.replace("$pod", &format!("namespace=\"{namespace}\",pod=\"{pod}\""))
        .replace("$namespace", namespace)
        .replace("$name", pod)
        .replace("$service", service)
        .replace("$alternative", &alternative)
}

/// Series with their first value and what each scrape adds.
pub(crate) fn series(line: &str) -> Vec<(Labels, f64, f64)> {
    let labels = |text: &str| parse_exposition(&format!("{text} 0")).unwrap()[0].labels.clone();
    if let Some(histogram) = line.strip_prefix('@') {
        let (rest, count) = histogram.rsplit_once(" x").unwrap();
        let (rest, value) = rest.rsplit_once(' ').unwrap();
        let (count, value): (f64, f64) = (count.parse().unwrap(), value.parse().unwrap());
        let (base, name) = (labels(rest), labels(rest).name().to_owned());
        let part = |suffix: &str, le: &str| {
            let mut part = base.clone();
            part.set("__name__", &format!("{name}_{suffix}"));
            part.set("le", le);
            part
        };
        let buckets = BOUNDS.iter().map(|le| {
            let bound = le.parse().unwrap_or(f64::INFINITY);
            (part("bucket", le), 0.0, if value <= bound { count } else { 0.0 })
        });
        let whole = [(part("count", ""), 0.0, count), (part("sum", ""), 0.0, value * count)];
        return buckets.chain(whole).collect();
    }
    let (text, value) = line.rsplit_once(' ').unwrap();
    let (first, step) = value.split_once('+').unwrap_or((value, "0"));
    let first = if first.is_empty() { "0" } else { first };
    vec![(labels(text), first.parse().unwrap(), step.parse().unwrap())]
}

fn fill(db: &mut Tsdb, lines: &str, version: Version) {
    let middle = start().as_millisecond();
    let from = match version {
        Version::New => middle - YOUNG_MS,
        Version::Stable => middle - OLD_MS,
    };
    for (labels, first, step) in lines.lines().flat_map(|line| series(&of_version(line, version))) {
        let mut value = first;
        for at in (from..middle + AFTER_MS).step_by(usize::try_from(SCRAPE_MS).unwrap()) {
            db.append(&labels, at, value).unwrap();
            value += step;
        }
    }
}

/// What a release gives; what a template does not declare is left aside.
fn given() -> Vec<Arg> {
    let arg = |(name, value): &(&str, &str)| Arg {
        name: (*name).to_owned(),
        value: ArgValue::Text((*value).to_owned()),
    };
    GIVEN.iter().map(arg).collect()
}

fn run(name: &str, spec: &AnalysisTemplateSpec) -> AnalysisRun {
    let stanza = AnalysisStanza { args: given(), ..AnalysisStanza::default() };
    let context = ReleaseContext { stable: "", canary: "", rollout: &Value::Null, release: None };
    let templates = [NamedTemplate { name: name.to_owned(), spec }];
    build_run(name, "shop", None, &templates, &stanza, &context).unwrap()
}

/// The verdict on these series, or what it is after this time.
async fn judged(name: &str, spec: &AnalysisTemplateSpec, db: Tsdb, after_ms: i64) -> Verdict {
    let mut run = run(name, spec);
    let clock = Arc::new(SimClock::at(start()));
    let source = TsdbSource::new(Engine::default(), Arc::new(RwLock::new(db)), clock.clone());
    let end = start() + SignedDuration::from_millis(after_ms);
    loop {
        let now = clock.now();
        let planned = plan(&run, now);
        run.status = Some(planned.status);
        if !planned.due.is_empty() {
            let answers = run_due(&source, planned.due).await;
            run.status = Some(record_all(&run, answers, now));
            continue;
        }
        match planned.wake.filter(|wake| *wake <= end) {
            Some(wake) => clock.advance_to(wake),
            None => return verdict(&run),
        }
    }
}

fn database(case: &Case, new: &str, stable: &str) -> Tsdb {
    let mut db = Tsdb::new(OLD_MS + AFTER_MS);
    fill(&mut db, new, Version::New);
    if !case.shared {
        fill(&mut db, stable, Version::Stable);
    }
    db
}

#[tokio::test]
async fn every_template_passes_a_good_release_and_fails_a_bad_one_by_each_metric() {
    let mut cases = cases();
    let library = library();
    assert!(library.len() >= 15, "{} templates", library.len());
    for (name, text) in &library {
        let case = cases.remove(name).unwrap_or_else(|| {
            panic!("{name} has no data: write them in tests/data/analysis-templates.yaml")
        });
        let spec = spec(text);
        let metrics: BTreeSet<_> = spec.metrics.iter().map(|metric| metric.name.clone()).collect();
        assert_eq!(case.bad.keys().cloned().collect::<BTreeSet<_>>(), metrics, "{name}");
        for (metric, bad) in &case.bad {
            // Each version sees the opposite of the other, so that a query that looks at the wrong
            // one is found.
            let found = judged(name, &spec, database(&case, &case.good, bad), AFTER_MS).await;
            assert_eq!(found, Verdict::Pass, "{name}: a good release, stable bad in {metric}");
            let found = judged(name, &spec, database(&case, bad, &case.good), AFTER_MS).await;
            let by_it = matches!(&found, Verdict::Fail { reason }
                if reason.split("; ").any(|part| part.starts_with(&format!("{metric}: "))));
            assert!(by_it, "{name}: bad in {metric}: {found:?}");
        }
    }
    assert!(cases.is_empty(), "data without a template: {:?}", cases.keys().collect::<Vec<_>>());
}

#[tokio::test]
async fn every_template_holds_without_data() {
    let cases = cases();
    for (name, text) in library() {
        let case = &cases[&name];
        let stable_only = database(case, "", &case.good);
        let found = judged(&name, &spec(&text), stable_only, MINUTE_MS).await;
        let Verdict::Continue { reason, .. } = &found else { panic!("{name}: {found:?}") };
        assert!(reason.contains("waiting for data"), "{name}: {reason}");
    }
}

#[test]
fn templates_can_be_combined_in_one_analysis() {
    let library = library();
    let specs: Vec<_> = library.iter().map(|(name, text)| (name.clone(), spec(text))).collect();
    let templates: Vec<_> =
        specs.iter().map(|(name, spec)| NamedTemplate { name: name.clone(), spec }).collect();
    let stanza = AnalysisStanza { args: given(), ..AnalysisStanza::default() };
    let context = ReleaseContext { stable: "", canary: "", rollout: &Value::Null, release: None };
    let run = build_run("all", "shop", None, &templates, &stanza, &context).unwrap();
    assert!(run.spec.metrics.len() > library.len());
}

/// The manifests of the routed scenarios with an analysis by the library's templates for HTTP, as
/// docs/templates.md writes it.
fn cluster_with_the_library() -> Vec<Value> {
    let text = std::fs::read_to_string(root().join("tests/scenarios/routed.yaml")).unwrap();
    let mut objects: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    objects.retain(|object| object["kind"] != "AnalysisTemplate");
    let library = library();
    let names = ["http-golden-signals", "slo-burn-rate"];
    let templates = names.map(|name| serde_saphyr::from_str::<Value>(&library[name]).unwrap());
    let rollout = objects.iter_mut().find(|object| object["kind"] == "Rollout").unwrap();
    let field = |path: &str| json!({"fieldRef": {"fieldPath": path}});
    rollout["spec"]["strategy"]["canary"]["steps"][0]["analysis"] = json!({
        "templates": names.map(|name| json!({"templateName": name, "clusterScope": true})),
        "args": [
            {"name": "namespace", "valueFrom": field("metadata.namespace")},
            {"name": "workload", "valueFrom": field("spec.workloadRef.name")},
            {"name": "hash", "valueFrom": {"podTemplateHashValue": "Latest"}},
            {"name": "count", "value": "3"},
        ],
    });
    objects.splice(0..0, templates);
    objects
}

#[tokio::test]
async fn the_controller_decides_by_the_library_on_the_in_memory_cluster() {
    let manifests = cluster_with_the_library();
    for (answers, decision) in [
        ("web:v2 errors 0%", "Promoted"),
        ("web:v2 errors 25%", "RolledBack"),
        ("web:v2 latency 900ms", "RolledBack"),
    ] {
        let text = format!(
            "load web.test 50\nanswers {answers}\nat 30s set image web web:v2\nuntil 240s\n\
             expect decision web {decision}\nexpect no failures elsewhere\n"
        );
        let report = play(&Scenario::parse(&text).unwrap(), &manifests, 1).await.unwrap();
        assert!(report.good(), "{answers}: {:?}\n{}", report.unmet, report.transcript);
    }
}

#[test]
fn every_template_is_linted_without_a_finding_and_says_what_it_does() {
    let linter = Linter::default();
    let page = std::fs::read_to_string(root().join("docs/templates.md")).unwrap();
    for (name, text) in library() {
        let mut report = Report::default();
        report.add(&linter, &format!("{name}.yaml"), &text);
        let findings: Vec<_> = report.objects.iter().flat_map(|o| &o.findings).collect();
        assert!(findings.is_empty() && report.objects.len() == 1, "{}", report.to_text());
        assert_eq!(report.objects[0].name, name, "the file's name is the template's");
        let head: String = text.lines().take_while(|line| line.starts_with('#')).collect();
        for part in ["# Measures:", "# Metrics:", "# Selects:", "# Arguments:", "# No data:"] {
            assert!(head.contains(part), "{name}: the head does not say {part}");
        }
        for arg in spec(&text).args {
            let default = match &arg.value {
                Some(value) => format!("- {} (default {value}):", arg.name),
                None => format!("- {} (no default):", arg.name),
            };
            assert!(head.contains(&default), "{name}: the head does not say {default}");
        }
        let row = format!("[`{name}`](../analysis-templates/{name}.yaml)");
        assert!(page.contains(&row), "docs/templates.md has no row {row}");
    }
}
