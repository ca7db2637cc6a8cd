//! The same requests to the real API server and to the in-memory one: the answers must be the same,
//! but for identities, versions and times.

use std::sync::Arc;

use http::Request;
use http_body_util::BodyExt;
use kube::{Client, client::Body};
use serde_json::{Value, json};
use sluice::{clock::SystemClock, sim::plugins};

use super::harness::{Who, shared};

const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const PATCH: &str = "application/json-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

/// One request: method, path, content type, body.
type Step = (&'static str, String, &'static str, Value);

async fn answer(client: &Client, step: &Step) -> (u16, Value) {
    let (method, path, media, body) = step;
    let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let request = Request::builder().method(*method).uri(path).header("content-type", *media);
    let request = request.header("user-agent", "tester/1").body(Body::from(bytes)).unwrap();
    let answer = client.send(request).await.unwrap();
    let status = answer.status().as_u16();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

/// Takes out what differs between any two servers.
fn normal(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for name in [
                "uid",
                "resourceVersion",
                "creationTimestamp",
                "time",
                ".",
                "clusterIP",
                "clusterIPs",
                "lastTransitionTime",
                "selfLink",
            ] {
                fields.remove(name);
            }
            if let Some(at) = fields.get_mut("deletionTimestamp") {
                *at = json!("some time");
            }
            if let Some(entries) = fields.get_mut("managedFields").and_then(Value::as_array_mut) {
                entries.retain(|entry| entry["manager"] != "kube-controller-manager");
                entries.sort_by_key(|entry| {
                    format!("{} {} {}", entry["manager"], entry["operation"], entry["subresource"])
                });
            }
            if let Some(causes) = fields.get_mut("causes").and_then(Value::as_array_mut) {
                // Typed validation reports some twice, and conflicts come in the order of a Go map.
                causes.sort_by_key(|cause| format!("{} {}", cause["message"], cause["field"]));
                causes.dedup();
            }
            if let Some(message) =
                fields.get("message").cloned().unwrap_or_default().as_str().map(str::to_owned)
            {
                // One of the two ways in which the real server words a lost race tells its storage.
                let storage = message.find("StorageError").zip(message.find("Precondition failed"));
                if let Some((from, to)) = storage {
                    let short = format!("{}{}", &message[..from], &message[to..]);
                    fields.insert("message".to_owned(), json!(short));
                }
            }
            if let Some(text) = fields.get("message").and_then(Value::as_str)
                && let Some(at) = text.find("strict decoding error")
                && text.contains("Invalid value")
            {
                // Between them is the whole object, as text.
                let short = text.get(at..).unwrap_or_default().to_owned();
                fields.insert("message".to_owned(), json!(short));
            }
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(normal);
        }
        Value::Array(items) => items.iter_mut().for_each(normal),
        Value::String(text) => {
            let words = text.split_inclusive(|c: char| !c.is_ascii_hexdigit() && c != '-');
            *text = words
                .map(|word| {
                    let bare = word.trim_end_matches(|c: char| !c.is_ascii_hexdigit());
                    let is_uid = bare.len() == 36 && bare.matches('-').count() == 4;
                    if is_uid { word.replace(bare, "UID") } else { word.to_owned() }
                })
                .collect();
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

const CORE: &str = "/api/v1/namespaces/conform";
const APPS: &str = "/apis/apps/v1/namespaces/conform";
const THINGS: &str = "/apis/conform.sluice.dev/v1/namespaces/conform/things";

fn deployment(name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "replicas": 0, "paused": true,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [
                    {"name": "app", "image": "app:1", "env": [{"name": "A", "value": "1"}]},
                    {"name": "side", "image": "side:1"}]},
            },
        },
    })
}

fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.conform.sluice.dev"},
        "spec": {
            "group": "conform.sluice.dev", "scope": "Namespaced",
            "names": {"plural": "things", "singular": "thing", "kind": "Thing",
                      "listKind": "ThingList"},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "subresources": {
                    "status": {},
                    "scale": {"specReplicasPath": ".spec.replicas",
                              "statusReplicasPath": ".status.replicas"},
                },
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "properties": {
                        "replicas": {"type": "integer", "default": 2},
                        "parts": {
                            "type": "array", "x-kubernetes-list-type": "map",
                            "x-kubernetes-list-map-keys": ["name"],
                            "items": {"type": "object", "required": ["name"], "properties": {
                                "name": {"type": "string"}, "size": {"type": "integer"}}},
                        },
                        "plain": {"type": "array", "items": {"type": "string"}},
                        "tags": {"type": "array", "x-kubernetes-list-type": "set",
                                 "items": {"type": "string"}},
                    }},
                    "status": {"type": "object", "properties": {
                        "replicas": {"type": "integer"}, "phase": {"type": "string"}}},
                }}},
            }],
        },
    })
}

fn thing(spec: Value) -> Value {
    json!({"apiVersion": "conform.sluice.dev/v1", "kind": "Thing", "metadata": {"name": "t"},
           "spec": spec})
}

fn path(base: &str, rest: &str) -> String {
    format!("{base}{rest}")
}

/// Plain objects: creation, identity, preconditions, deletion.
fn objects() -> Vec<Step> {
    let maps = |rest: &str| path(CORE, &format!("/configmaps{rest}"));
    let map = |name: &str| json!({"metadata": {"name": name}, "data": {"k": "v"}});
    let named = |name: &str| {
        let service = json!({"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}});
        ("POST", path(CORE, "/services?dryRun=All"), JSON, service)
    };
    vec![
        named(&"s".repeat(64)),
        named(&"S".repeat(64)),
        named("a.b"),
        named("-s"),
        ("POST", maps(""), JSON, map("a")),
        ("POST", maps(""), JSON, map("a")),
        ("POST", maps(""), JSON, json!({})),
        ("POST", maps(""), JSON, json!({"metadata": {"name": "b", "resourceVersion": "5"}})),
        ("POST", maps(""), JSON, json!({"metadata": {"name": "b", "namespace": "other"}})),
        ("POST", "/api/v1/namespaces/nowhere/configmaps".into(), JSON, map("b")),
        ("POST", maps("?fieldValidation=Strict"), JSON, json!({"metadata": {"name": "b"}, "x": 1})),
        ("POST", maps("?dryRun=All"), JSON, map("b")),
        ("GET", maps("/b"), JSON, Value::Null),
        ("PUT", maps("/a"), JSON, map("other")),
        ("PUT", maps("/zzz"), JSON, map("zzz")),
        ("PUT", maps("/a"), JSON, json!({"metadata": {"name": "a", "uid": "x"}})),
        ("PUT", maps("/a"), JSON, json!({"metadata": {"name": "a", "resourceVersion": "1"}})),
        ("PATCH", maps("/a"), MERGE, json!({"metadata": {"uid": "x"}})),
        (
            "PATCH",
            maps("/a"),
            MERGE,
            json!({"metadata": {"resourceVersion": "1"}, "data": {"k": "2"}}),
        ),
        ("PATCH", maps("/a"), MERGE, json!({"data": {"k": null, "l": "3"}})),
        ("PATCH", maps("/a"), PATCH, json!([{"op": "test", "path": "/data/l", "value": "4"}])),
        ("PATCH", maps("/a"), PATCH, json!([{"op": "remove", "path": "/data/none"}])),
        ("PATCH", maps("/a"), PATCH, json!([{"op": "add", "path": "/data/m", "value": "5"}])),
        ("PATCH", maps("/a"), STRATEGIC, json!({"metadata": {"finalizers": ["conform/hold"]}})),
        (
            "PATCH",
            maps("/a"),
            STRATEGIC,
            json!({"metadata": {"finalizers": ["conform/0", "conform/hold"]}}),
        ),
        (
            "PATCH",
            maps("/a"),
            STRATEGIC,
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["conform/0"]}}),
        ),
        ("PATCH", maps("/a"), "application/unknown", json!({})),
        ("DELETE", maps("/a"), JSON, json!({"preconditions": {"uid": "x"}})),
        ("DELETE", maps("/a?dryRun=All"), JSON, Value::Null),
        ("DELETE", maps("/a"), JSON, Value::Null),
        (
            "PATCH",
            maps("/a"),
            MERGE,
            json!({"metadata": {"finalizers": ["conform/hold", "conform/two"]}}),
        ),
        ("PATCH", maps("/a"), MERGE, json!({"metadata": {"finalizers": null}})),
        ("GET", maps("/a"), JSON, Value::Null),
        ("DELETE", maps("/a"), JSON, Value::Null),
        ("GET", maps("?labelSelector=none"), JSON, Value::Null),
        ("GET", maps("?fieldSelector=spec.x%3D1"), JSON, Value::Null),
        ("GET", path(CORE, "/nothings"), JSON, Value::Null),
        ("GET", path(APPS, "/deployments/none/nothing"), JSON, Value::Null),
    ]
}

/// A Deployment: defaults, scale, status, strategic merge, ownership.
fn deployments() -> Vec<Step> {
    let at = |rest: &str| path(APPS, &format!("/deployments{rest}"));
    let images = json!({"spec": {"template": {"spec": {"containers": [
        {"name": "side", "image": "side:2"}, {"name": "new", "image": "new:1"}]}}}});
    let env = json!({"spec": {"template": {"spec": {
        "$setElementOrder/containers": [{"name": "new"}, {"name": "app"}],
        "containers": [{"name": "side", "$patch": "delete"},
            {"name": "app", "env": [{"name": "B", "value": "2"}],
             "ports": [{"containerPort": 80}]}],
    }}}});
    let applied = |spec: Value| {
        let metadata = json!({"name": "d"});
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec})
    };
    let side = json!({"template": {"spec": {"containers": [
        {"name": "z", "image": "z:1", "ports": [{"containerPort": 81}]}]}}});
    vec![
        ("POST", at("?fieldManager=maker"), JSON, deployment("d")),
        ("PATCH", at("/d?fieldManager=p1"), STRATEGIC, images),
        ("PATCH", at("/d?fieldManager=p2"), STRATEGIC, env),
        ("PATCH", at("/d/scale?fieldManager=p3"), MERGE, json!({"spec": {"replicas": -1}})),
        ("PATCH", at("/d/scale?fieldManager=p3"), MERGE, json!({"metadata": {"uid": "x"}})),
        (
            "PATCH",
            at("/d?fieldManager=p4"),
            MERGE,
            json!({"spec": {"replicas": 0, "minReadySeconds": 3}}),
        ),
        ("PATCH", at("/d?fieldManager=s1"), APPLY, applied(json!({"minReadySeconds": 4}))),
        ("PATCH", at("/d"), APPLY, applied(json!({"minReadySeconds": 4}))),
        ("PATCH", at("/d?fieldManager=s1"), APPLY, applied(side)),
        (
            "PATCH",
            at("/d?fieldManager=s2&force=true"),
            APPLY,
            applied(json!({"minReadySeconds": 5})),
        ),
        ("PATCH", at("/d?fieldManager=s1"), APPLY, applied(json!({}))),
        ("PATCH", at("/d?fieldManager=s2"), APPLY, applied(json!({}))),
        (
            "PATCH",
            at("/d?fieldManager=p5"),
            STRATEGIC,
            json!({"spec": {"strategy":
            {"$retainKeys": ["type"], "type": "Recreate"}}}),
        ),
        ("DELETE", at("/d"), JSON, json!({"propagationPolicy": "Background"})),
    ]
}

/// A custom resource: status, scale, lists of every kind, ownership.
fn things() -> Vec<Step> {
    let at = |rest: &str| path(THINGS, rest);
    let parts = |names: &[&str]| {
        let parts: Vec<Value> = names.iter().map(|name| json!({"name": name, "size": 1})).collect();
        thing(json!({"parts": parts}))
    };
    vec![
        ("POST", at("?fieldManager=maker"), JSON, {
            let mut made = thing(json!({"parts": [{"name": "a"}, {"name": "x"}, {"name": "b"}],
                                        "plain": ["1"], "tags": ["one"]}));
            made["status"] = json!({"phase": "Ignored"});
            made
        }),
        ("PUT", at("/t"), JSON, thing(json!({}))),
        (
            "PATCH",
            at("/t/status?fieldManager=st"),
            MERGE,
            json!({"metadata": {"labels": {"a": "b"}}, "spec": {"replicas": 9},
                   "status": {"phase": "Fine", "replicas": 1}}),
        ),
        ("GET", at("/t/scale"), JSON, Value::Null),
        ("PATCH", at("/t/scale?fieldManager=sc"), MERGE, json!({"spec": {"replicas": 7}})),
        ("PATCH", at("/t?fieldManager=m"), STRATEGIC, json!({"spec": {"plain": ["2"]}})),
        (
            "PATCH",
            at("/t?fieldManager=m&fieldValidation=Strict"),
            MERGE,
            json!({"spec": {"un": 1}}),
        ),
        ("PATCH", at("/t?fieldManager=m"), MERGE, json!({"spec": {"plain": ["2"], "replicas": 7}})),
        ("PATCH", at("/t?fieldManager=s1"), APPLY, parts(&["a", "n", "b"])),
        ("PATCH", at("/t?fieldManager=s2"), APPLY, thing(json!({"tags": ["two"], "plain": ["2"]}))),
        (
            "PATCH",
            at("/t?fieldManager=s3"),
            APPLY,
            thing(json!({"plain": ["3"], "replicas": 8, "parts": [{"name": "n", "size": 2}]})),
        ),
        ("PATCH", at("/t?fieldManager=s3&force=true"), APPLY, thing(json!({"plain": ["3"]}))),
        ("PATCH", at("/t?fieldManager=s1"), APPLY, parts(&["b", "a"])),
        ("PATCH", at("/t?fieldManager=s2"), APPLY, thing(json!({}))),
        (
            "PATCH",
            at("/t?fieldManager=m"),
            PATCH,
            json!([{"op": "replace", "path": "/metadata/managedFields", "value": [{}]}]),
        ),
        ("PATCH", at("/t?fieldManager=m"), MERGE, json!({"spec": {"replicas": 3}})),
        ("PATCH", at("/t?fieldManager=s1"), APPLY, thing(json!({"replicas": 4}))),
        ("PATCH", at("/t?fieldManager=s1"), APPLY, thing(json!({"replicas": 3}))),
        ("DELETE", at("/t"), JSON, Value::Null),
        ("PATCH", at("/late?fieldManager=s1"), APPLY, {
            let mut late = thing(json!({"replicas": 1}));
            late["metadata"] = json!({"name": "late", "uid": "x"});
            late
        }),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn both_servers_answer_alike() {
    let Some(plane) = shared() else { return };
    let real = plane.client(Who::Admin);
    let ours = plugins::api_server(Arc::new(SystemClock)).client("admin");
    let namespace = json!({"metadata": {"name": "conform"}});
    for client in [&real, &ours] {
        let namespace = ("POST", "/api/v1/namespaces".to_owned(), JSON, namespace.clone());
        assert_eq!(answer(client, &namespace).await.0, 201);
        let crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions".to_owned();
        assert_eq!(answer(client, &("POST", crds, JSON, definition())).await.0, 201);
        // The real server serves a definition a moment after it took it.
        while answer(client, &("GET", THINGS.to_owned(), JSON, Value::Null)).await.0 != 200 {
            tokio::task::yield_now().await;
        }
    }
    let mut differences = Vec::new();
    for step in objects().into_iter().chain(deployments()).chain(things()) {
        let mut theirs = answer(&real, &step).await;
        let mut mine = answer(&ours, &step).await;
        for (_, value) in [&mut theirs, &mut mine] {
            normal(value);
            if value["kind"] == "Deployment" {
                // The real one has a controller behind it, which counts.
                value["status"] = json!("of the controller");
                value["metadata"]["annotations"] = json!("of the controller");
            }
        }
        if theirs != mine {
            let (method, path, media, body) = step;
            differences.push(format!(
                "{method} {path} {media} {body}\n  real: {} {}\n  ours: {} {}",
                theirs.0, theirs.1, mine.0, mine.1
            ));
        }
    }
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
}
