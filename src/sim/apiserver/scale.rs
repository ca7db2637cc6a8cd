//! The scale subresource: `autoscaling/v1` Scale, whatever the kind.

use serde_json::{Map, Value, json};

use super::{
    ApiStatus, Refusable,
    fields::{at, meta, set_at, text},
    kinds::Kind,
};

/// The Scale of an object.
pub fn of(kind: &Kind, object: &Value) -> Refusable<Value> {
    let paths = kind.scale.as_ref().ok_or_else(ApiStatus::no_such_resource)?;
    let mut metadata = Map::new();
    for name in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object["metadata"].get(name) {
            metadata.insert(name.to_owned(), value.clone());
        }
    }
    let count = |path: &[String]| at(object, path).as_i64().unwrap_or_default();
    let mut status = json!({"replicas": count(&paths.status)});
    if let Some(path) = &paths.selector {
        let selector = selector_text(at(object, path));
        if !selector.is_empty() {
            status["selector"] = json!(selector);
        }
    }
    let mut spec = Map::new();
    if count(&paths.spec) != 0 {
        spec.insert("replicas".into(), json!(count(&paths.spec)));
    }
    Ok(json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": metadata, "spec": spec, "status": status,
    }))
}

/// The object with the replicas of a Scale.
pub fn set(kind: &Kind, object: &Value, scale: &Value) -> Refusable<Value> {
    let paths = kind.scale.as_ref().ok_or_else(ApiStatus::no_such_resource)?;
    let replicas = match &scale["spec"]["replicas"] {
        Value::Null => 0,
        given => given.as_i64().filter(|n| *n >= 0).ok_or_else(|| {
            let message = "must be greater than or equal to 0";
            let cause = super::Cause::invalid("spec.replicas", given, message);
            ApiStatus::invalid("Scale", "autoscaling", meta(object, "name"), &[cause])
        })?,
    };
    let mut object = object.clone();
    set_at(&mut object, &paths.spec, json!(replicas));
    Ok(object)
}

/// A label selector in the form of a query: `a=b,c in (d,e)`.
pub fn selector_text(selector: &Value) -> String {
    if let Some(given) = selector.as_str() {
        return given.to_owned();
    }
    let labels = selector["matchLabels"].as_object().into_iter().flatten();
    let mut terms: Vec<String> = labels.map(|(k, v)| format!("{k}={}", text(v))).collect();
    for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
        let key = text(&expression["key"]);
        let values = expression["values"].as_array().into_iter().flatten().map(text);
        let values = values.collect::<Vec<_>>().join(",");
        terms.push(match text(&expression["operator"]) {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        });
    }
    terms.join(",")
}
