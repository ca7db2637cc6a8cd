//! The conformance list of `components.md`'s facts, one file per theme.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{ApiServer, Call, PatchType, ResourceKey, Verb};
use crate::clock::SimClock;

mod crud;
mod edges;
mod ownership;
mod patches;
mod types;

/// A server whose clock stands at a fixed instant.
fn server() -> ApiServer {
    let start = "2026-01-01T00:00:00Z".parse().unwrap();
    ApiServer::new(Arc::new(SimClock::at(start)))
}

/// A Deployment with one container.
fn deployment(name: &str, replicas: u32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": "default", "labels": {"app": name}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "app", "image": "app:1"}]},
            },
        },
    })
}

/// A configuration map with one key.
fn config(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"key": "value"},
           "metadata": {"name": name, "namespace": "default"}})
}

const CONFIG_MAPS: ResourceKey = ResourceKey::of("", "v1", "configmaps");

/// A patch of an object in the namespace `default`.
fn patch(how: PatchType, resource: &ResourceKey, name: &str, body: Value) -> Call {
    Call::new("admin", Verb::Patch(how), resource).namespace("default").name(name).body(body)
}
