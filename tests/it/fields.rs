//! Every field of the API either works or is refused: nothing a user writes is silently passed
//! over.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use regex::Regex;
use serde_json::{Value, json};
use sluice::api::crds;
use sluice::cli::lint::{Finding, Linter, Severity};

/// Fields that work, with the module whose tests show it. `*` stands for the rest of a path.
const WORKS: &[(&str, &str, &str)] = &[
    ("Rollout", "spec.workloadRef.*", "spec::plan"),
    ("Rollout", "spec.disabled", "rollout::let_go"),
    ("Rollout", "spec.progressDeadlineSeconds", "spec::plan"),
    ("Rollout", "spec.onFailure", "rollout"),
    ("Rollout", "spec.onInconclusive", "rollout"),
    ("Rollout", "spec.onDelete", "rollout::let_go"),
    ("Rollout", "spec.strategy.paused", "rollout"),
    ("Rollout", "spec.strategy.canary.failureThreshold", "spec::plan"),
    ("Rollout", "spec.strategy.canary.rollback.steps", "only Immediate, which is what is done"),
    ("Rollout", "spec.strategy.canary.analysis.templates*", "rollout::analyses"),
    ("Rollout", "spec.strategy.canary.analysis.args*", "rollout::analyses"),
    ("Rollout", "spec.strategy.canary.analysis.timeout", "spec::plan"),
    ("Rollout", "spec.strategy.canary.stepAnalysis.templates*", "spec::plan"),
    ("Rollout", "spec.strategy.canary.stepAnalysis.args*", "spec::plan"),
    ("Rollout", "spec.strategy.canary.stepAnalysis.timeout", "spec::plan"),
    ("Rollout", "spec.strategy.canary.steps[].name", "rollout::status"),
    ("Rollout", "spec.strategy.canary.steps[].replicas", "spec::plan"),
    ("Rollout", "spec.strategy.canary.steps[].traffic", "traffic"),
    ("Rollout", "spec.strategy.canary.steps[].matches*", "traffic::matches"),
    ("Rollout", "spec.strategy.canary.steps[].requestHeaderModifier*", "traffic"),
    ("Rollout", "spec.strategy.canary.steps[].mirror", "traffic"),
    ("Rollout", "spec.strategy.canary.steps[].pause.duration", "spec::plan"),
    ("Rollout", "spec.strategy.canary.steps[].analysis.templates*", "rollout::analyses"),
    ("Rollout", "spec.strategy.canary.steps[].analysis.args*", "rollout::analyses"),
    ("Rollout", "spec.strategy.canary.steps[].analysis.timeout", "spec::plan"),
    ("Rollout", "spec.strategy.canary.steps[].timeout", "spec::plan"),
    ("Rollout", "spec.strategy.canary.trafficRoutings[].service", "spec::plan"),
    ("Rollout", "spec.strategy.canary.trafficRoutings[].gracePeriodSeconds", "spec::plan"),
    ("Rollout", "spec.strategy.canary.trafficRoutings[].gateway.httpRouteName*", "spec::plan"),
    ("Rollout", "spec.strategy.canary.trafficRoutings[].gateway.ruleName", "traffic"),
    ("Template", "spec.args[].name", "analysis::args"),
    ("Template", "spec.args[].value", "analysis::args"),
    ("Template", "spec.dryRun[].metricName", "analysis::metric"),
    ("Template", "spec.measurementRetention[].*", "analysis::metric"),
    ("Template", "spec.templates[].*", "analysis::compose"),
    ("Template", "spec.metrics[].name", "analysis::run"),
    ("Template", "spec.metrics[].interval", "analysis::run"),
    ("Template", "spec.metrics[].initialDelay", "analysis::run"),
    ("Template", "spec.metrics[].count", "analysis::assess"),
    ("Template", "spec.metrics[].successCondition", "analysis::condition"),
    ("Template", "spec.metrics[].failureCondition", "analysis::condition"),
    ("Template", "spec.metrics[].failureLimit", "analysis::assess"),
    ("Template", "spec.metrics[].inconclusiveLimit", "analysis::assess"),
    ("Template", "spec.metrics[].consecutiveErrorLimit", "analysis::assess"),
    ("Template", "spec.metrics[].consecutiveSuccessLimit", "analysis::assess"),
    ("Template", "spec.metrics[].noData", "analysis::assess"),
    ("Template", "spec.metrics[].onError", "analysis::assess"),
    ("Template", "spec.metrics[].provider.ref", "providers::pool"),
    ("Template", "spec.metrics[].provider.clusterScope", "providers::pool"),
    ("Template", "spec.metrics[].provider.prometheus.address", "analysis::source"),
    ("Template", "spec.metrics[].provider.prometheus.query", "analysis::source"),
    ("Template", "spec.metrics[].provider.prometheus.timeout", "analysis::source"),
    ("Template", "spec.metrics[].provider.prometheus.insecure", "analysis::source"),
    ("Template", "spec.metrics[].provider.prometheus.headers[].*", "analysis::source"),
    (
        "Template",
        "spec.metrics[].provider.prometheus.authentication.basicAuth.*",
        "analysis::source",
    ),
    ("AnalysisRun", "spec.terminate", "analysis::run"),
    ("AnalysisRun", "spec.timeout", "analysis::verdict"),
    ("AnalysisRun", "spec.release.*", "analysis::compose"),
    ("MetricProvider", "spec.address", "providers::server"),
    ("MetricProvider", "spec.type", "providers::server"),
    ("MetricProvider", "spec.headers[].*", "providers::server"),
    ("MetricProvider", "spec.timeout", "providers::server"),
    ("MetricProvider", "spec.auth.bearer.*", "providers::server"),
    ("MetricProvider", "spec.auth.basic.*", "providers::server"),
    ("MetricProvider", "spec.tls.insecureSkipVerify", "providers::server"),
    ("MetricProvider", "spec.limits.responseBytes", "providers::server"),
];

fn base(kind: &str) -> Value {
    let metric = json!({
        "name": "errors",
        "successCondition": "result[0] < 1",
        "provider": {"prometheus": {"address": "http://p:9090", "query": "sum(up)"}},
    });
    let spec = match kind {
        "Rollout" => json!({
            "workloadRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "strategy": {"canary": {
                "trafficRoutings": [{"service": "web", "gateway": {"httpRouteName": "web"}}],
                "steps": [{"traffic": "10%"}],
            }},
        }),
        "MetricProvider" | "ClusterMetricProvider" => json!({"address": "http://p:9090"}),
        _ => json!({"metrics": [metric]}),
    };
    let metadata = json!({"name": "web", "namespace": "shop"});
    json!({"apiVersion": "sluice.dev/v1beta1", "kind": kind, "metadata": metadata, "spec": spec})
}

/// What must go so that a field below the prefix is the only one of its choice.
const INSTEAD_OF: &[(&str, &str, &str)] = &[
    ("spec.strategy.blueGreen", "/spec/strategy", "canary"),
    (
        "spec.strategy.canary.trafficRoutings[].ingress",
        "/spec/strategy/canary/trafficRoutings/0",
        "gateway",
    ),
    (
        "spec.strategy.canary.trafficRoutings[].customNetworkRefs",
        "/spec/strategy/canary/trafficRoutings/0",
        "gateway",
    ),
    ("spec.strategy.canary.ramp", "/spec/strategy/canary", "steps"),
    ("spec.metrics[].provider.ref", "/spec/metrics/0/provider/prometheus", "address"),
    ("spec.metrics[].provider.clusterScope", "/spec/metrics/0/provider/prometheus", "address"),
    ("spec.metrics[].provider.prometheus", "", ""),
    ("spec.metrics[].provider.", "/spec/metrics/0/provider", "prometheus"),
    ("spec.metrics[].compare", "/spec/metrics/0", "successCondition"),
];

/// `base` with the leaf at `path` set to `sample`.
fn with_leaf(kind: &str, root: &JSONSchemaProps, path: &str) -> Value {
    let mut object = base(kind);
    if let Some((_, pointer, field)) = INSTEAD_OF.iter().find(|i| path.starts_with(i.0))
        && let Some(parent) = object.pointer_mut(pointer).and_then(Value::as_object_mut)
    {
        parent.remove(*field);
    }
    let steps: Vec<&str> = path.split('.').collect();
    set(&mut object, root, &steps);
    object
}

fn set(object: &mut Value, schema: &JSONSchemaProps, path: &[&str]) {
    let Some((first, rest)) = path.split_first() else {
        if object.is_null() {
            *object = sample(schema);
        }
        return;
    };
    fill(object, schema);
    let (name, kind) = match first.strip_suffix("[]") {
        Some(name) => (name, "list"),
        None => first.strip_suffix("{}").map_or((*first, "field"), |name| (name, "map")),
    };
    let property = &schema.properties.as_ref().unwrap()[name];
    let field = object.as_object_mut().unwrap().entry(name).or_insert(Value::Null);
    match kind {
        "list" => {
            if field.is_null() {
                *field = json!([null]);
            }
            set(&mut field[0], items(property), rest);
        }
        "map" => *field = json!({"k": sample(values(property))}),
        _ => set(field, property, rest),
    }
}

/// Makes `object` hold what its schema requires.
fn fill(object: &mut Value, schema: &JSONSchemaProps) {
    if object.is_null() {
        *object = json!({});
    }
    for name in schema.required.iter().flatten() {
        let property = &schema.properties.as_ref().unwrap()[name];
        let fields = object.as_object_mut().unwrap();
        fields.entry(name.clone()).or_insert_with(|| sample(property));
    }
}

/// A value that the schema takes.
fn sample(schema: &JSONSchemaProps) -> Value {
    if let Some(values) = &schema.enum_ {
        return values[0].0.clone();
    }
    let candidates = [
        "web",
        "10%",
        "5m",
        "GET",
        "Deployment",
        "apps/v1",
        "http://web",
        "0 9 * * 1",
        "Latest",
        "2",
    ];
    match schema.type_.as_deref() {
        Some("boolean") => json!(true),
        Some("integer" | "number") => json!(schema.minimum.unwrap_or(1.0).max(1.0) as i64),
        Some("array") => json!([sample(items(schema))]),
        Some("object") => {
            let mut object = json!({});
            fill(&mut object, schema);
            object
        }
        _ => {
            let pattern = Regex::new(schema.pattern.as_deref().unwrap_or("")).unwrap();
            json!(candidates.iter().find(|c| pattern.is_match(c)).unwrap_or(&"web"))
        }
    }
}

fn items(schema: &JSONSchemaProps) -> &JSONSchemaProps {
    match &schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => items,
        _ => panic!("a list without items"),
    }
}

fn values(schema: &JSONSchemaProps) -> &JSONSchemaProps {
    match &schema.additional_properties {
        Some(JSONSchemaPropsOrBool::Schema(values)) => values,
        _ => panic!("a map without values"),
    }
}

/// The paths of everything a user can set below `schema`: `a.b[].c`, `a.labels{}`.
fn leaves(schema: &JSONSchemaProps, path: &str, found: &mut Vec<String>) {
    if let Some(properties) = &schema.properties {
        for (name, property) in properties {
            leaves(property, &format!("{path}.{name}"), found);
        }
    } else if schema.items.is_some() {
        let item = items(schema);
        let deeper = item.properties.is_some();
        if deeper {
            leaves(item, &format!("{path}[]"), found);
        } else {
            found.push(path.to_owned());
        }
    } else if matches!(schema.additional_properties, Some(JSONSchemaPropsOrBool::Schema(_))) {
        found.push(format!("{path}{{}}"));
    } else {
        found.push(path.to_owned());
    }
}

fn works(kind: &str, leaf: &str) -> bool {
    let group = kind.trim_start_matches("Cluster");
    let shared = matches!(group, "AnalysisTemplate" | "AnalysisRun");
    WORKS.iter().filter(|(of, _, _)| *of == group || (shared && *of == "Template")).any(
        |(_, path, _)| match path.strip_suffix('*') {
            Some(prefix) => leaf.starts_with(prefix),
            None => leaf == *path,
        },
    )
}

/// The findings at `leaf`, at what holds it, or at a part of it.
fn at<'a>(findings: &'a [Finding], leaf: &str) -> Vec<&'a Finding> {
    let index = Regex::new(r"\[\d+\]").unwrap();
    let leaf = leaf.trim_end_matches("{}");
    let touches = |path: &str| {
        let path = index.replace_all(path, "[]");
        let path = path.trim_end_matches("[]");
        let inside = |a: &str, b: &str| {
            a.strip_prefix(b).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        inside(leaf, path) || inside(path, leaf)
    };
    findings.iter().filter(|f| touches(&f.path)).collect()
}

#[test]
fn every_field_works_or_is_refused_with_a_reason() {
    let linter = Linter::default();
    let mut wrong = BTreeMap::new();
    let mut count = 0;
    for crd in crds::all() {
        let kind = crd.spec.names.kind.clone();
        // The Gate is written by the controller alone.
        if kind == "Gate" {
            continue;
        }
        let schema = crd.spec.versions[0].schema.clone().unwrap().open_api_v3_schema.unwrap();
        let mut paths = Vec::new();
        leaves(&schema.properties.as_ref().unwrap()["spec"], "spec", &mut paths);
        count += paths.len();
        for leaf in paths {
            let object = with_leaf(&kind, &schema, &leaf);
            let findings = linter.lint(&object).unwrap();
            let refused = at(&findings, &leaf).iter().any(|f| {
                let text = format!("{} {}", f.message, f.remedy.as_deref().unwrap_or_default());
                f.severity == Severity::Error && text.contains("not supported yet")
            });
            if works(&kind, &leaf) == refused {
                let should =
                    if refused { "is refused but listed as working" } else { "is ignored" };
                wrong.insert(format!("{kind} {leaf}"), format!("{should}: {object} {findings:#?}"));
            }
        }
    }
    assert!(count > 500, "the walk found {count} fields");
    let listed: Vec<_> = wrong.keys().collect();
    assert!(wrong.is_empty(), "{listed:#?}\n{:#?}", wrong.values().next());
}

#[test]
fn what_is_listed_as_working_exists() {
    let mut all = Vec::new();
    for crd in crds::all() {
        let schema = crd.spec.versions[0].schema.clone().unwrap().open_api_v3_schema.unwrap();
        let mut paths = Vec::new();
        leaves(&schema.properties.as_ref().unwrap()["spec"], "spec", &mut paths);
        all.extend(paths);
    }
    for (_, path, _) in WORKS {
        let found = match path.strip_suffix('*') {
            Some(prefix) => all.iter().any(|leaf| leaf.starts_with(prefix)),
            None => all.iter().any(|leaf| leaf == path),
        };
        assert!(found, "{path} is no field");
    }
}
