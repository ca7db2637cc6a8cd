//! Objects with one field set, made of the schema alone.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use regex::Regex;
use serde_json::{Value, json};

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
pub(super) fn with_leaf(kind: &str, root: &JSONSchemaProps, path: &str) -> Value {
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
pub(super) fn leaves(schema: &JSONSchemaProps, path: &str, found: &mut Vec<String>) {
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
