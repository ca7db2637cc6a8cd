//! CustomResourceDefinitions of the Gateway API, as far as the in-memory cluster needs them: open
//! schemas with the defaults that routing relies on. A cluster for tests against the real ones
//! loads the published bundle instead.

use serde_json::{Value, json};

const GROUP: &str = "gateway.networking.k8s.io";

/// The definitions of GatewayClass, Gateway and HTTPRoute, and of the other kinds of the API that
/// foreign controllers insist on listing.
#[must_use]
pub fn definitions() -> Vec<Value> {
    vec![
        definition("GatewayClass", "gatewayclasses", "v1", "Cluster", open()),
        definition("Gateway", "gateways", "v1", "Namespaced", gateway_spec()),
        definition("HTTPRoute", "httproutes", "v1", "Namespaced", route_spec()),
        definition("GRPCRoute", "grpcroutes", "v1", "Namespaced", open()),
        definition("TLSRoute", "tlsroutes", "v1", "Namespaced", open()),
        definition("ReferenceGrant", "referencegrants", "v1beta1", "Namespaced", open()),
        definition("BackendTLSPolicy", "backendtlspolicies", "v1", "Namespaced", open()),
    ]
}

fn definition(kind: &str, plural: &str, version: &str, scope: &str, spec: Value) -> Value {
    let schema = json!({
        "type": "object",
        "properties": {"spec": spec, "status": open()},
    });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": format!("{plural}.{GROUP}"),
            "annotations": {
                "api-approved.kubernetes.io": "unapproved, reduced for the in-memory cluster",
            },
        },
        "spec": {
            "group": GROUP,
            "scope": scope,
            "names": {
                "kind": kind,
                "listKind": format!("{kind}List"),
                "plural": plural,
                "singular": kind.to_ascii_lowercase(),
            },
            "versions": [{
                "name": version,
                "served": true,
                "storage": true,
                "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": schema},
            }],
        },
    })
}

fn open() -> Value {
    json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

fn open_with(properties: Value) -> Value {
    let mut schema = open();
    schema["properties"] = properties;
    schema
}

fn list_of(items: Value) -> Value {
    json!({"type": "array", "items": items})
}

fn defaulted(value: &str) -> Value {
    json!({"type": "string", "default": value})
}

fn gateway_spec() -> Value {
    let mut from = open_with(json!({"from": defaulted("Same")}));
    from["default"] = json!({"from": "Same"});
    let mut allowed = open_with(json!({"namespaces": from}));
    allowed["default"] = json!({"namespaces": {"from": "Same"}});
    open_with(json!({"listeners": list_of(open_with(json!({"allowedRoutes": allowed})))}))
}

fn route_spec() -> Value {
    let mut path = open_with(json!({"type": defaulted("PathPrefix"), "value": defaulted("/")}));
    path["default"] = json!({"type": "PathPrefix", "value": "/"});
    let named = list_of(open_with(json!({"type": defaulted("Exact")})));
    let mut matches =
        list_of(open_with(json!({"path": path, "headers": named, "queryParams": named})));
    matches["default"] = json!([{"path": {"type": "PathPrefix", "value": "/"}}]);
    let backend = open_with(json!({
        "group": defaulted(""),
        "kind": defaulted("Service"),
        "weight": {"type": "integer", "format": "int32", "default": 1},
    }));
    let parent = open_with(json!({"group": defaulted(GROUP), "kind": defaulted("Gateway")}));
    let rule = open_with(json!({"matches": matches, "backendRefs": list_of(backend)}));
    let mut rules = list_of(rule);
    rules["default"] = json!([{"matches": [{"path": {"type": "PathPrefix", "value": "/"}}]}]);
    open_with(json!({"parentRefs": list_of(parent), "rules": rules}))
}
