//! The canary Service, and pinning a Service to one revision.

use serde_json::{Map, Value, json};

use super::ServiceError;
use super::refs::{list, set, unset};

/// What belongs to the stable Service alone: addresses and ports that no two Services can share,
/// and the ways in from outside, which would send the canary traffic past the route.
const NOT_COPIED: [&str; 11] = [
    "clusterIPs",
    "externalIPs",
    "externalName",
    "externalTrafficPolicy",
    "healthCheckNodePort",
    "loadBalancerIP",
    "loadBalancerClass",
    "loadBalancerSourceRanges",
    "allocateLoadBalancerNodePorts",
    "type",
    "clusterIP",
];

/// Annotations that speak about the stable object or claim a DNS name for it.
const FOREIGN_ANNOTATIONS: [&str; 3] =
    ["kubectl.kubernetes.io/", "external-dns.alpha.kubernetes.io/", "argocd.argoproj.io/"];

/// The Service for the pods of one revision: a copy of the stable one, inside the cluster only,
/// with the revision in its selector, owned by the Rollout.
///
/// Differs from Kruise's: a headless Service stays headless, IP families stay, and nothing of a
/// load balancer is copied.
#[must_use]
pub fn canary_service(
    stable: &Value,
    name: &str,
    (label, hash): (&str, &str),
    owner: &Value,
) -> Value {
    let part = |path: &str| stable.pointer(path).cloned();
    let mut spec = part("/spec").unwrap_or_else(|| json!({}));
    let headless = spec.get("clusterIP").is_some_and(|ip| ip == "None");
    for field in NOT_COPIED {
        unset(&mut spec, field);
    }
    if headless {
        set(&mut spec, "clusterIP", json!("None"));
    }
    if let Some(ports) = spec.get_mut("ports").and_then(Value::as_array_mut) {
        ports.iter_mut().for_each(|port| unset(port, "nodePort"));
    }
    let mut annotations = match part("/metadata/annotations") {
        Some(Value::Object(all)) => all,
        _ => Map::new(),
    };
    annotations.retain(|key, _| !FOREIGN_ANNOTATIONS.iter().any(|f| key.starts_with(f)));
    let mut metadata = json!({"name": name, "ownerReferences": [owner_reference(owner)]});
    if let Some(namespace) = part("/metadata/namespace") {
        set(&mut metadata, "namespace", namespace);
    }
    if let Some(labels) = part("/metadata/labels") {
        set(&mut metadata, "labels", labels);
    }
    if !annotations.is_empty() {
        set(&mut metadata, "annotations", Value::Object(annotations));
    }
    let service =
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec});
    pin(&service, (label, hash))
}

/// The Service with this revision in its selector.
#[must_use]
pub fn pin(service: &Value, (label, hash): (&str, &str)) -> Value {
    let mut out = service.clone();
    if let Some(selector) = out.pointer_mut("/spec/selector") {
        set(selector, label, json!(hash));
    }
    out
}

/// The Service without a revision in its selector.
#[must_use]
pub fn unpin(service: &Value, label: &str) -> Value {
    let mut out = service.clone();
    if let Some(selector) = out.pointer_mut("/spec/selector") {
        unset(selector, label);
    }
    out
}

/// The revision that a Service is pinned to.
#[must_use]
pub fn pinned_to<'a>(service: &'a Value, label: &str) -> Option<&'a str> {
    service.pointer("/spec/selector")?.get(label)?.as_str()
}

/// Whether the user's Service can be used, asked before anything is pinned.
///
/// # Errors
/// It selects no pods, or has the revision label in its selector already.
pub fn check_service(service: &Value, label: &str) -> Result<(), ServiceError> {
    let name = name_of(service);
    let text = |path: &str| service.pointer(path).and_then(Value::as_str);
    if text("/spec/type") == Some("ExternalName") {
        return Err(ServiceError::ExternalName { service: name });
    }
    let selector = service.pointer("/spec/selector").and_then(Value::as_object);
    if selector.is_none_or(Map::is_empty) {
        return Err(ServiceError::NoSelector { service: name });
    }
    if pinned_to(service, label).is_some() {
        return Err(ServiceError::AlreadyPinned { service: name, label: label.to_owned() });
    }
    Ok(())
}

/// Whether a Service of the canary's name is the one that we made for this Rollout.
///
/// # Errors
/// Somebody else's has the name.
pub fn check_canary_service(existing: &Value, owner: &Value) -> Result<(), ServiceError> {
    let uid = owner.pointer("/metadata/uid");
    let owners = list(existing.pointer("/metadata/ownerReferences"));
    if uid.is_some() && owners.iter().any(|o| o.get("uid") == uid) {
        return Ok(());
    }
    let owner = format!("Rollout {}", name_of(owner));
    Err(ServiceError::NameTaken { service: name_of(existing), owner })
}

fn owner_reference(owner: &Value) -> Value {
    let part = |path: &str| owner.pointer(path).cloned().unwrap_or_default();
    json!({
        "apiVersion": part("/apiVersion"),
        "kind": part("/kind"),
        "name": part("/metadata/name"),
        "uid": part("/metadata/uid"),
        "controller": true,
        "blockOwnerDeletion": true,
    })
}

fn name_of(object: &Value) -> String {
    let text = |path: &str| object.pointer(path).and_then(Value::as_str);
    let name = text("/metadata/name").unwrap_or("(no name)");
    match text("/metadata/namespace") {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    }
}
