//! OpenAPI v3 documents: the schemas of built-in kinds come from `k8s-openapi`, those of custom
//! resources from their definitions.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{
    ApiStatus, Refusable,
    kinds::{Kind, Kinds},
    schemas,
};

/// `/openapi/v3`: where the document of each group and version is.
#[must_use]
pub fn index(kinds: &Kinds) -> Value {
    let mut paths = BTreeMap::new();
    for kind in kinds.iter() {
        let path = path_of(&kind.key.group, &kind.key.version);
        // Clients cache a document under its hash, so it changes with what is served.
        let text = format!("{:?}", kind.crd.as_ref().map(|crd| crd["spec"].to_string()));
        let hash: &mut u64 = paths.entry(path).or_insert(0xcbf2_9ce4_8422_2325);
        for byte in kind.key.plural.bytes().chain(text.bytes()) {
            *hash = (*hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    let paths: Map<String, Value> = paths
        .into_iter()
        .map(|(path, hash)| {
            let url = format!("/openapi/v3/{path}?hash={hash:016X}");
            (path, json!({"serverRelativeURL": url}))
        })
        .collect();
    json!({"paths": paths})
}

/// The document of one group and version.
pub fn document(kinds: &Kinds, group: &str, version: &str) -> Refusable<Value> {
    let of: Vec<&Kind> = kinds
        .iter()
        .map(AsRef::as_ref)
        .filter(|kind| kind.key.group == group && kind.key.version == version)
        .collect();
    if of.is_empty() {
        return Err(ApiStatus::no_such_resource());
    }
    let (mut paths, mut components) = (Map::new(), Map::new());
    for kind in of {
        let name = schemas::add(kind, &mut components);
        let identity = identity(kind);
        if let Some(schema) = components.get_mut(&name).and_then(Value::as_object_mut) {
            schema.insert("x-kubernetes-group-version-kind".into(), json!([identity]));
        }
        let reference = json!({"$ref": format!("#/components/schemas/{name}")});
        let base = base_path(kind);
        paths.insert(format!("{base}/{{name}}"), item(&identity, &reference));
        paths.insert(base, collection(&identity, &reference));
    }
    Ok(json!({
        "openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "v1.36.3"},
        "paths": paths, "components": {"schemas": components},
    }))
}

fn identity(kind: &Kind) -> Value {
    json!({"group": kind.key.group, "version": kind.key.version, "kind": kind.kind})
}

fn path_of(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

fn base_path(kind: &Kind) -> String {
    let group = path_of(&kind.key.group, &kind.key.version);
    let scope = if kind.namespaced { "/namespaces/{namespace}" } else { "" };
    format!("/{group}{scope}/{}", kind.key.plural)
}

fn operation(action: &str, identity: &Value, reference: &Value) -> Value {
    let parameters: Vec<Value> = ["dryRun", "fieldManager", "fieldValidation"]
        .iter()
        .map(|name| {
            json!({"name": name, "in": "query",
                           "schema": {"type": "string", "uniqueItems": true}})
        })
        .collect();
    json!({
        "x-kubernetes-action": action, "x-kubernetes-group-version-kind": identity,
        "parameters": parameters,
        "responses": {"200": {"description": "OK",
                              "content": {"application/json": {"schema": reference}}}},
    })
}

fn item(identity: &Value, reference: &Value) -> Value {
    json!({
        "get": operation("get", identity, reference),
        "put": operation("put", identity, reference),
        "patch": operation("patch", identity, reference),
        "delete": operation("delete", identity, reference),
    })
}

fn collection(identity: &Value, reference: &Value) -> Value {
    json!({
        "get": operation("list", identity, reference),
        "post": operation("post", identity, reference),
    })
}
