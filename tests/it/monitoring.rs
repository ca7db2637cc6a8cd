//! Alerts and dashboard for Sluice itself: every metric, label and reason in them is one that the
//! controller exports; the alerts fire when they should, which `promtool` says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

use regex::Regex;
use serde_json::Value;
use sluice::sim::promql::{Engine, Tsdb, parse_exposition};
use sluice::telemetry::{Metrics, Reading, RunName};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// Every expression of the rules and of the dashboard.
fn expressions() -> Vec<String> {
    let rules: Value = serde_saphyr::from_str(&read("charts/sluice/rules/sluice.yaml")).unwrap();
    let groups = rules["groups"].as_array().unwrap().iter();
    let rules = groups.flat_map(|group| group["rules"].as_array().unwrap());
    let mut all: Vec<_> = rules.map(|r| r["expr"].as_str().unwrap().to_owned()).collect();
    assert!(all.len() >= 8, "{} rules", all.len());
    let dashboard = read("charts/sluice/dashboards/sluice.json");
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let shown: Vec<_> = targets.map(|t| t["expr"].as_str().unwrap().to_owned()).collect();
    assert!(shown.len() >= 8, "{} panels", panels.len());
    all.extend(shown);
    let filled = |text: String| text.replace("$__rate_interval", "5m").replace("$__range", "1h");
    all.into_iter().map(filled).collect()
}

/// What the controller exports once each counter has counted: labels by metric.
fn exported() -> BTreeMap<String, BTreeSet<String>> {
    let metrics = Metrics::new().unwrap();
    metrics.reconciles.with_label_values(&["Rollout", "ok"]).inc();
    metrics.events.with_label_values(&["shop", "Promoted"]).inc();
    metrics.stalled.with_label_values(&["shop", "web"]).set(1);
    metrics.violations.with_label_values(&["x"]).inc();
    metrics.writes.with_label_values(&["status"]).inc();
    metrics.alert_polls.with_label_values(&["ok"]).inc();
    metrics.hook_calls.with_label_values(&["shop", "BeforeStep", "ok"]).inc();
    metrics.hook_seconds.with_label_values(&["BeforeStep"]).observe(0.1);
    let analysis = &metrics.analysis;
    analysis.measurements.with_label_values(&["shop", "Successful"]).inc();
    analysis.errors.with_label_values(&["shop", "Timeout"]).inc();
    analysis.seconds.with_label_values(&["prometheus"]).observe(0.1);
    let name = RunName { namespace: "shop".into(), rollout: "web".into(), run: "web-r1".into() };
    let reading = Reading { metric: "errors".into(), phase: "Running".into(), value: Some(0.5) };
    analysis.show(&name, &[reading], false);
    let page = String::from_utf8(metrics.page()).unwrap();
    let samples = parse_exposition(&page).unwrap().into_iter();
    samples
        .map(|sample| {
            let labels = sample.labels.iter().map(|(name, _)| name.to_owned());
            (sample.labels.name().to_owned(), labels.collect())
        })
        .collect()
}

#[test]
fn rules_and_dashboard_name_only_what_the_controller_exports() {
    let exported = exported();
    let selector = Regex::new(r"(sluice_[a-z_]+)(?:\{([^}]*)\})?").unwrap();
    let matcher = Regex::new(r#"([a-z_]+)\s*(?:=~|!~|!=|=)\s*""#).unwrap();
    let grouping = Regex::new(r"by \(([a-z_, ]+)\)").unwrap();
    let all_labels: BTreeSet<_> = exported.values().flatten().cloned().collect();
    let mut named = BTreeSet::new();
    for text in expressions() {
        for found in selector.captures_iter(&text) {
            let name = &found[1];
            let labels = exported.get(name);
            let labels = labels.unwrap_or_else(|| panic!("{name} is not exported: {text}"));
            for label in matcher.captures_iter(found.get(2).map_or("", |m| m.as_str())) {
                assert!(labels.contains(&label[1]), "{name} has no label {}: {text}", &label[1]);
            }
            named.insert(name.to_owned());
        }
        for group in grouping.captures_iter(&text) {
            for label in group[1].split(", ") {
                assert!(all_labels.contains(label), "no metric has a label {label}: {text}");
            }
        }
        let engine = Engine::default();
        let parsed = engine.instant(&Tsdb::new(0), &text, 0);
        assert!(parsed.is_ok(), "{text}: {parsed:?}");
    }
    assert!(named.len() >= 6, "{named:?}");
}

#[test]
fn every_metric_that_is_exported_is_on_the_operations_page_with_its_labels() {
    let page = read("docs/operations.md");
    for (name, labels) in exported() {
        let parts = ["_bucket", "_sum", "_count"];
        let name = parts.iter().find_map(|part| name.strip_suffix(part)).unwrap_or(&name);
        let row = page.lines().find(|line| {
            line.strip_prefix(&format!("| `{name}"))
                .is_some_and(|tail| tail.starts_with(['`', '{']))
        });
        let row = row.unwrap_or_else(|| panic!("{name} is not on the page"));
        let own = |label: &str| label == "le" || label == "__name__";
        let named = |label: &String| row.contains(label.as_str()) || own(label);
        assert!(labels.iter().all(named), "{labels:?}: {row}");
    }
}

#[test]
fn every_reason_is_one_that_the_operations_page_lists() {
    let page = read("docs/operations.md");
    let reasons = Regex::new(r#"reason=~?"([A-Za-z|]+)""#).unwrap();
    let mut found = 0;
    for text in expressions() {
        for reason in reasons
            .captures_iter(&text)
            .flat_map(|m| m[1].split('|').map(str::to_owned).collect::<Vec<_>>())
        {
            assert!(page.contains(&format!("`{reason}`")), "{reason} is no event: {text}");
            found += 1;
        }
    }
    assert!(found >= 6, "{found}");
}

/// The Events that code emits, by the calls that emit them.
#[test]
fn every_event_of_a_rollout_is_on_the_operations_page() {
    let page = read("docs/operations.md");
    let emitted = Regex::new(r#"\.(?:event|warn)\(\s*"([A-Za-z]+)""#).unwrap();
    let mut found = BTreeSet::new();
    for file in std::fs::read_dir(root().join("src/rollout")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "rs") {
            let text = std::fs::read_to_string(path).unwrap();
            found.extend(emitted.captures_iter(&text).map(|m| m[1].to_owned()));
        }
    }
    assert!(found.len() > 30, "{found:?}");
    let missing: Vec<_> = found.iter().filter(|r| !page.contains(&format!("`{r}`"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn promtool_accepts_the_rules_and_they_fire_when_they_should() {
    for arguments in [
        ["check", "rules", "charts/sluice/rules/sluice.yaml"],
        ["test", "rules", "tests/data/rules-test.yaml"],
    ] {
        let promtool = std::env::var("PROMTOOL").unwrap_or_else(|_| "promtool".to_owned());
        let Ok(output) = Command::new(promtool).args(arguments).current_dir(root()).output() else {
            let reason = "promtool cannot be started: set PROMTOOL or run tests/tools";
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{reason}");
            println!("SKIP: {reason}");
            return;
        };
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let said = said + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
    }
}

#[test]
fn the_chart_wraps_the_same_files_and_only_when_asked() {
    let helm = std::env::var("HELM").unwrap_or_else(|_| "helm".to_owned());
    let render = |more: &[&str]| {
        let output = Command::new(&helm)
            .args(["template", "sluice", "charts/sluice"])
            .args(more)
            .current_dir(root())
            .output();
        output.ok().map(|output| String::from_utf8(output.stdout).unwrap())
    };
    let Some(plain) = render(&[]) else {
        let reason = "helm cannot be started: set HELM or put it on PATH";
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{reason}");
        println!("SKIP: {reason}");
        return;
    };
    assert!(!plain.contains("PrometheusRule") && !plain.contains("sluice-dashboard"));
    let asked = render(&[
        "--set",
        "prometheusRule.enabled=true,prometheusRule.labels.release=p,dashboard.enabled=true",
    ]);
    let objects: Vec<Value> = serde_saphyr::from_multiple(&asked.unwrap()).unwrap();
    let of = |kind: &str, name: &str| {
        let found = objects.iter().find(|o| o["kind"] == kind && o["metadata"]["name"] == name);
        found.unwrap_or_else(|| panic!("no {kind} {name}")).clone()
    };
    let rule = of("PrometheusRule", "sluice");
    let file: Value = serde_saphyr::from_str(&read("charts/sluice/rules/sluice.yaml")).unwrap();
    assert_eq!(rule["spec"], file);
    assert_eq!(rule["metadata"]["labels"]["release"], "p");
    let map = of("ConfigMap", "sluice-dashboard");
    assert_eq!(map["metadata"]["labels"]["grafana_dashboard"], "1");
    let shown: Value = serde_json::from_str(map["data"]["sluice.json"].as_str().unwrap()).unwrap();
    let file: Value = serde_json::from_str(&read("charts/sluice/dashboards/sluice.json")).unwrap();
    assert_eq!(shown, file);
}
