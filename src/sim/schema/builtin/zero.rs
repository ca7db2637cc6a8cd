//! Zero values that a built-in kind does not keep.
//!
//! The server reads a built-in object into a Go struct and writes it out again. A field without a
//! pointer that is marked `omitempty` loses its zero value on the way: `paused: false` and
//! `minReadySeconds: 0` are gone, and `has(object.spec.paused)` is false in a policy. `replicas: 0`
//! has a pointer and stays.

use serde_json::{Map, Value};

/// Fields whose false is not kept.
const BOOLEANS: [&str; 11] = [
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "paused",
    "publishNotReadyAddresses",
    "readOnly",
    "stdin",
    "stdinOnce",
    "tty",
    "unschedulable",
    "setHostnameAsFQDN",
];

/// Fields whose 0 is not kept.
const NUMBERS: [&str; 9] = [
    "failureThreshold",
    "healthCheckNodePort",
    "hostPort",
    "initialDelaySeconds",
    "minReadySeconds",
    "nodePort",
    "periodSeconds",
    "successThreshold",
    "timeoutSeconds",
];

/// Fields whose empty text is not kept.
const TEXTS: [&str; 14] = [
    "clusterIP",
    "externalName",
    "hostname",
    "image",
    "imagePullPolicy",
    "nodeName",
    "path",
    "protocol",
    "restartPolicy",
    "schedulerName",
    "serviceAccountName",
    "sessionAffinity",
    "subdomain",
    "value",
];

/// Lists and maps that are not kept empty.
const COLLECTIONS: [&str; 17] = [
    "annotations",
    "args",
    "command",
    "env",
    "envFrom",
    "finalizers",
    "imagePullSecrets",
    "initContainers",
    "labels",
    "matchExpressions",
    "matchLabels",
    "nodeSelector",
    "ownerReferences",
    "ports",
    "tolerations",
    "volumeMounts",
    "volumes",
];

/// Maps whose keys are the user's own.
const FREE: [&str; 7] =
    ["annotations", "labels", "limits", "matchLabels", "nodeSelector", "requests", "selector"];

/// Counts of a Deployment's status that are not kept when 0; a ReplicaSet's `replicas` is.
const STATUS: [&str; 7] = [
    "availableReplicas",
    "collisionCount",
    "observedGeneration",
    "readyReplicas",
    "replicas",
    "unavailableReplicas",
    "updatedReplicas",
];

pub(super) fn drop_zeros(group: &str, kind: &str, object: &mut Value) {
    for part in ["metadata", "spec"] {
        if let Some(map) = object.get_mut(part).and_then(Value::as_object_mut) {
            drop_in(map);
        }
    }
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
        status.retain(|_, value| !value.is_null());
        if group == "apps" {
            let kept = if kind == "Deployment" { "" } else { "replicas" };
            status.retain(|name, value| {
                *value != 0 || name == kept || !STATUS.contains(&name.as_str())
            });
        }
    }
}

fn drop_in(map: &mut Map<String, Value>) {
    map.retain(|name, value| !is_dropped(name, value));
    for (name, value) in map.iter_mut() {
        // Written by the server itself, and most of an object.
        if name == "managedFields" {
            continue;
        }
        // A Service's selector is a map of the user's; a Deployment's has matchLabels inside.
        let free = FREE.contains(&name.as_str())
            && !(name == "selector" && value.get("matchLabels").is_some_and(Value::is_object));
        match value {
            Value::Object(inner) if !free => drop_in(inner),
            Value::Array(list) => {
                list.iter_mut().filter_map(Value::as_object_mut).for_each(drop_in);
            }
            _ => {}
        }
    }
}

fn is_dropped(name: &str, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(false) => BOOLEANS.contains(&name),
        Value::Number(number) => number.as_i64() == Some(0) && NUMBERS.contains(&name),
        Value::String(text) => text.is_empty() && TEXTS.contains(&name),
        Value::Array(list) => list.is_empty() && COLLECTIONS.contains(&name),
        Value::Object(map) => map.is_empty() && COLLECTIONS.contains(&name),
        Value::Bool(true) => false,
    }
}
