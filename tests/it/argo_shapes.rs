//! Templates in the shapes of those in Argo's documentation, as they stand there but for what they measure:
//! each is read, accepted by the schema and by lint, becomes a run and asks. Those of vendors that are
//! not built yet are refused with the reason.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use serde_json::{Value, json};
use sluice::analysis::{
    AnalysisError, NamedTemplate, ReleaseContext, Secrets, build_run, flatten, plan_with,
};
use sluice::api::{AnalysisPhase, AnalysisRun, AnalysisTemplateSpec};
use sluice::cli::lint::{Linter, Severity};
use sluice::spec::{AnalysisStanza, Arg, ArgValue, TemplateRef};

/// Vendors that are not built yet, and how many of the templates ask them.
const REFUSED: [(&str, usize); 6] = [
    ("graphite", 1),
    ("influxdb", 1),
    ("kayenta", 2),
    ("newRelic", 1),
    ("skywalking", 1),
    ("wavefront", 1),
];

fn objects() -> Vec<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/argo-shapes");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.collect();
    files.sort();
    let read = |file: std::path::PathBuf| {
        let text = std::fs::read_to_string(file).unwrap();
        serde_saphyr::from_multiple::<Value>(&text).unwrap()
    };
    files.into_iter().flat_map(read).collect()
}

/// The vendor that is asked and not built yet.
fn refused(object: &Value) -> Option<&'static str> {
    let providers = |vendor: &str| {
        let metrics = object["spec"]["metrics"].as_array().into_iter().flatten();
        metrics.filter(|metric| !metric["provider"][vendor].is_null()).count()
    };
    REFUSED.iter().map(|(vendor, _)| *vendor).find(|vendor| providers(vendor) > 0)
}

fn key(object: &Value) -> (String, bool) {
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    (name, object["kind"] == "ClusterAnalysisTemplate")
}

#[test]
fn there_are_as_many_as_in_argos_documentation() {
    let objects = objects();
    let of = |kind: &str| objects.iter().filter(|o| o["kind"] == kind).count();
    assert_eq!(of("AnalysisTemplate"), 29);
    assert_eq!(of("ClusterAnalysisTemplate"), 1);
    assert_eq!(of("AnalysisRun"), 2);
    for (vendor, count) in REFUSED {
        assert_eq!(
            objects.iter().filter(|o| refused(o) == Some(vendor)).count(),
            count,
            "{vendor}"
        );
    }
}

#[test]
fn lint_accepts_each_as_argo_wrote_it_and_refuses_a_vendor_with_the_reason() {
    let linter = Linter::default();
    for object in objects() {
        let name = &object["metadata"]["name"];
        let findings = linter.lint(&object).unwrap();
        let note = "apiVersion: is Argo's, and works here as sluice.dev/v1beta1";
        assert_eq!(findings[0].sentence(), note, "{name}");
        let errors = findings.iter().filter(|finding| finding.severity == Severity::Error);
        let errors: Vec<_> = errors.map(|finding| finding.sentence()).collect();
        let expected: Vec<_> = refused(&object)
            .map(|vendor| {
                format!(
                    "spec.metrics[0].provider.{vendor}: not supported yet; ask it through a plugin \
                     or by web, or export its metrics to Prometheus"
                )
            })
            .into_iter()
            .collect();
        assert_eq!(errors, expected, "{name}");
    }
}

/// The run of a template, every argument filled in that has no value of its own.
fn run_of(
    object: &Value,
    all: &BTreeMap<(String, bool), AnalysisTemplateSpec>,
) -> Result<AnalysisRun, AnalysisError> {
    if object["kind"] == "AnalysisRun" {
        let mut run = object.clone();
        run["apiVersion"] = json!("sluice.dev/v1beta1");
        run["metadata"]["namespace"] = json!("shop");
        return Ok(serde_json::from_value(run).unwrap());
    }
    let (name, cluster) = key(object);
    let lookup = |at: &TemplateRef| all.get(&(at.name.clone(), at.cluster));
    let templates: Vec<NamedTemplate> = flatten(&[TemplateRef { name, cluster }], lookup).unwrap();
    let declared = templates.iter().flat_map(|template| &template.spec.args);
    let open = declared.filter(|arg| arg.value.is_none() && arg.value_from.is_none());
    let mut args: Vec<_> = open
        .map(|arg| Arg { name: arg.name.clone(), value: ArgValue::Text("x".to_owned()) })
        .collect();
    args.dedup_by_key(|arg| arg.name.clone());
    let stanza = AnalysisStanza { args, ..AnalysisStanza::default() };
    let rollout = json!({"metadata": {"name": "web"}});
    let context = ReleaseContext { stable: "a", canary: "b", rollout: &rollout, release: None };
    build_run("web-1", "shop", None, &templates, &stanza, &context)
}

#[test]
fn each_becomes_a_run_that_asks_or_says_which_vendor_is_missing() {
    let objects = objects();
    let all = objects.iter().filter(|object| object["kind"] != "AnalysisRun");
    let spec = |o: &Value| serde_json::from_value::<AnalysisTemplateSpec>(o["spec"].clone());
    let all: BTreeMap<_, _> = all.map(|object| (key(object), spec(object).unwrap())).collect();
    let now = Timestamp::from_second(1_700_000_000).unwrap();
    for object in &objects {
        let name = &object["metadata"]["name"];
        if let Some(vendor) = refused(object) {
            let said = run_of(object, &all).unwrap_err().to_string();
            let reason = format!(
                "metrics[0].provider.{vendor} is not supported yet: ask it through a plugin or by \
                 web, or export its metrics to Prometheus"
            );
            assert!(said.contains(&reason), "{name}: {said}");
            continue;
        }
        let run = run_of(object, &all).unwrap();
        let mut secrets = Secrets::default();
        for at in sluice::analysis::secrets_needed(&run) {
            secrets.insert(&at, "s3cret".to_owned());
        }
        let planned = plan_with(&run, &secrets, now);
        assert_eq!(planned.status.phase, Some(AnalysisPhase::Running), "{name}: {planned:?}");
        let late = run.spec.metrics.iter().filter(|metric| metric.initial_delay.is_some()).count();
        assert_eq!(planned.due.len(), run.spec.metrics.len() - late, "{name}");
        assert!(planned.due.iter().all(|query| !query.text.contains("{{")), "{name}: {planned:?}");
    }
}
