//! What the server refuses about Deployments, pod templates and Services.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::super::error::{Fault, FieldError};
use crate::sim::cel::selects;

/// Everything that is wrong with a defaulted built-in object; `old` is what it replaces.
#[must_use]
pub fn validate(group: &str, kind: &str, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    match (group, kind) {
        ("apps", "Deployment") => {
            workload("deployment", new, old, &mut errors);
            deployment(new, &mut errors);
        }
        ("apps", "ReplicaSet") => workload("replica set", new, old, &mut errors),
        ("apps", "StatefulSet") => workload("statefulset", new, old, &mut errors),
        ("apps", "DaemonSet") => workload("daemonset", new, old, &mut errors),
        ("", "Pod") => containers(&new["spec"], "spec", &mut errors),
        ("", "Service") => service(new, &mut errors),
        _ => {}
    }
    errors
}

fn not_negative(spec: &Value, name: &str, errors: &mut Vec<FieldError>) {
    let value = &spec[name];
    if value.as_i64().is_some_and(|number| number < 0) {
        let field = format!("spec.{name}");
        errors.push(FieldError::invalid(&field, value, "must be greater than or equal to 0"));
    }
}

fn workload(what: &str, new: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let spec = &new["spec"];
    for name in ["replicas", "minReadySeconds", "revisionHistoryLimit"] {
        not_negative(spec, name, errors);
    }
    let (selector, metadata) = (&spec["selector"], &spec["template"]["metadata"]);
    let empty = selector.as_object().is_some_and(serde_json::Map::is_empty);
    if selector.is_null() {
        errors.push(FieldError::required("spec.selector"));
    } else if empty {
        let detail = format!("empty selector is invalid for {what}");
        errors.push(FieldError::invalid("spec.selector", selector, detail));
    }
    let selected = selects(selector, &json!({"metadata": metadata})).unwrap_or(false);
    if selector.is_null() || !selected {
        let detail = "`selector` does not match template `labels`";
        let labels = &metadata["labels"];
        errors.push(FieldError::invalid("spec.template.metadata.labels", labels, detail));
    }
    if let Some(old) = old
        && old["spec"]["selector"] != *selector
    {
        errors.push(FieldError::invalid("spec.selector", selector, "field is immutable"));
    }
    let pod = &spec["template"]["spec"];
    containers(pod, "spec.template.spec", errors);
    let restart = &pod["restartPolicy"];
    if !restart.is_null() && restart != "Always" {
        errors.push(FieldError::new(
            Fault::NotSupported,
            "spec.template.spec.restartPolicy",
            Some(restart.clone()),
            "supported values: \"Always\"",
        ));
    }
}

fn containers(pod: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let list = pod["containers"].as_array();
    if list.is_none_or(Vec::is_empty) {
        errors.push(FieldError::required(&format!("{path}.containers")));
    }
    let mut names = BTreeSet::new();
    for (at, container) in list.into_iter().flatten().enumerate() {
        let field = |name: &str| format!("{path}.containers[{at}].{name}");
        match container["name"].as_str() {
            None | Some("") => errors.push(FieldError::required(&field("name"))),
            Some(name) if !names.insert(name) => {
                let value = Some(Value::from(name));
                errors.push(FieldError::new(Fault::Duplicate, &field("name"), value, ""));
            }
            Some(_) => {}
        }
        if container["image"].as_str().is_none_or(str::is_empty) {
            errors.push(FieldError::required(&field("image")));
        }
    }
}

fn deployment(new: &Value, errors: &mut Vec<FieldError>) {
    let spec = &new["spec"];
    let strategy = &spec["strategy"];
    match strategy["type"].as_str().unwrap_or("") {
        "RollingUpdate" => rolling_update(&strategy["rollingUpdate"], errors),
        "Recreate" if !strategy["rollingUpdate"].is_null() => errors.push(FieldError::new(
            Fault::Forbidden,
            "spec.strategy.rollingUpdate",
            None,
            "may not be specified when strategy `type` is 'Recreate'",
        )),
        "Recreate" => {}
        // The server prints its own struct, in the order of its fields.
        other => errors.push(FieldError::new(
            Fault::NotSupported,
            "spec.strategy",
            None,
            format!(
                "{{\"Type\":{other:?},\"RollingUpdate\":null}}: supported values: \"Recreate\", \
                 \"RollingUpdate\""
            ),
        )),
    }
    not_negative(spec, "progressDeadlineSeconds", errors);
    let deadline = &spec["progressDeadlineSeconds"];
    let ready = spec["minReadySeconds"].as_i64().unwrap_or(0);
    if deadline.as_i64().is_some_and(|deadline| deadline <= ready) {
        let detail = "must be greater than minReadySeconds";
        errors.push(FieldError::invalid("spec.progressDeadlineSeconds", deadline, detail));
    }
}

fn rolling_update(rolling: &Value, errors: &mut Vec<FieldError>) {
    let path = "spec.strategy.rollingUpdate";
    let unavailable = amount(&rolling["maxUnavailable"], path, "maxUnavailable", errors);
    let surge = amount(&rolling["maxSurge"], path, "maxSurge", errors);
    let field = format!("{path}.maxUnavailable");
    let value = &rolling["maxUnavailable"];
    if unavailable == Some(0) && surge == Some(0) {
        errors.push(FieldError::invalid(&field, value, "may not be 0 when `maxSurge` is 0"));
    }
    if value.is_string() && unavailable.is_some_and(|percent| percent > 100) {
        errors.push(FieldError::invalid(&field, value, "must not be greater than 100%"));
    }
}

/// A number or a percentage, as a number.
fn amount(value: &Value, path: &str, name: &str, errors: &mut Vec<FieldError>) -> Option<i64> {
    let field = format!("{path}.{name}");
    if let Some(text) = value.as_str() {
        let percent = text.strip_suffix('%').and_then(|digits| digits.parse::<u32>().ok());
        if percent.is_none() {
            let detail = "a valid percent string must be a numeric string followed by an ending \
                          '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";
            errors.push(FieldError::invalid(&field, value, detail));
        }
        return percent.map(i64::from);
    }
    if value.as_i64().is_some_and(|number| number < 0) {
        errors.push(FieldError::invalid(&field, value, "must be greater than or equal to 0"));
    }
    value.as_i64()
}

fn service(new: &Value, errors: &mut Vec<FieldError>) {
    let spec = &new["spec"];
    let ports = spec["ports"].as_array().map(Vec::as_slice).unwrap_or_default();
    let headless = spec["clusterIP"] == "None";
    if ports.is_empty() && !headless && spec["type"] != "ExternalName" {
        errors.push(FieldError::required("spec.ports"));
    }
    for (at, port) in ports.iter().enumerate() {
        if ports.len() > 1 && port["name"].as_str().is_none_or(str::is_empty) {
            errors.push(FieldError::required(&format!("spec.ports[{at}].name")));
        }
        for name in ["port", "targetPort"] {
            let value = &port[name];
            if value.as_i64().is_some_and(|number| !(1..=65535).contains(&number)) {
                let field = format!("spec.ports[{at}].{name}");
                let detail = "must be between 1 and 65535, inclusive";
                errors.push(FieldError::invalid(&field, value, detail));
            }
        }
    }
}
