//! Reading rules and backendRefs out of a route's JSON.

use std::collections::BTreeMap;

use serde_json::Value;

use super::ServicePair;

/// Which backendRefs of a route are the stable Service and which the canary.
pub(super) struct Arms<'a> {
    pair: &'a ServicePair,
    namespace: Option<&'a str>,
}

impl<'a> Arms<'a> {
    pub(super) fn of(route: &'a Value, pair: &'a ServicePair) -> Self {
        let namespace = route.pointer("/metadata/namespace").and_then(Value::as_str);
        Self { pair, namespace }
    }

    pub(super) fn is_stable(&self, backend: &Value) -> bool {
        self.names(backend, &self.pair.stable)
    }

    pub(super) fn is_canary(&self, backend: &Value) -> bool {
        self.names(backend, &self.pair.canary)
    }

    pub(super) fn has_stable(&self, rule: &Value) -> bool {
        backends(rule).iter().any(|b| self.is_stable(b))
    }

    /// True for a rule that we put in: it sends to the canary and nowhere else.
    pub(super) fn is_ours(&self, rule: &Value) -> bool {
        !backends(rule).is_empty() && backends(rule).iter().all(|b| self.is_canary(b))
    }

    /// True for a rule with anything of ours in it.
    pub(super) fn is_edited(&self, rule: &Value) -> bool {
        backends(rule).iter().any(|b| self.is_canary(b))
            || filters(rule).iter().any(|f| self.is_our_mirror(f))
    }

    /// True for a filter that we put in.
    pub(super) fn is_our_mirror(&self, filter: &Value) -> bool {
        filter.pointer("/requestMirror/backendRef").is_some_and(|b| self.is_canary(b))
    }

    fn names(&self, backend: &Value, service: &str) -> bool {
        let part = |name: &str| backend.get(name).and_then(Value::as_str);
        part("name") == Some(service)
            && part("kind").is_none_or(|k| k == "Service")
            && part("group").is_none_or(str::is_empty)
            && (part("namespace").is_none() || part("namespace") == self.namespace)
    }
}

/// The rules, or none.
pub(super) fn rules(route: &Value) -> &[Value] {
    list(route.pointer("/spec/rules"))
}

/// A rule's backendRefs, or none.
pub(super) fn backends(rule: &Value) -> &[Value] {
    list(rule.get("backendRefs"))
}

/// A rule's or a backendRef's filters, or none.
pub(super) fn filters(rule: &Value) -> &[Value] {
    list(rule.get("filters"))
}

/// The items of a list that may be missing.
pub(super) fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The weight as it is written.
pub(super) fn written_weight(backend: &Value) -> Option<u64> {
    backend.get("weight").and_then(Value::as_u64)
}

/// The weight that counts: 1 when none is written.
pub(super) fn weight(backend: &Value) -> u64 {
    written_weight(backend).unwrap_or(1)
}

/// A name for each backendRef that survives reordering: what it points to, and a count where two
/// point to the same.
pub(super) fn keys(backends: &[Value]) -> Vec<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    backends
        .iter()
        .map(|backend| {
            let part = |name: &str| backend.get(name).and_then(Value::as_str).unwrap_or_default();
            let port = backend.get("port").map(Value::to_string).unwrap_or_default();
            let kind = match part("kind") {
                "Service" => "",
                other => other,
            };
            let place = [part("group"), kind, part("namespace"), part("name")].join("/");
            let key = format!("{place}:{port}");
            let count = seen.entry(key.clone()).and_modify(|n| *n += 1).or_insert(1);
            if *count == 1 { key } else { format!("{key}#{count}") }
        })
        .collect()
}

/// `HTTPRoute shop/web`, for messages.
pub(super) fn title(route: &Value) -> String {
    let part = |path: &str| route.pointer(path).and_then(Value::as_str);
    let kind = part("/kind").unwrap_or("HTTPRoute");
    let name = part("/metadata/name").unwrap_or("(no name)");
    match part("/metadata/namespace") {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}

/// True for a GRPCRoute. Anything else is read as an HTTPRoute.
pub(super) fn is_grpc(route: &Value) -> bool {
    route.get("kind").and_then(Value::as_str) == Some("GRPCRoute")
}

/// Sets a field of an object; anything but an object is left alone.
pub(super) fn set(object: &mut Value, name: &str, value: Value) {
    if let Some(fields) = object.as_object_mut() {
        fields.insert(name.to_owned(), value);
    }
}

/// Removes a field of an object.
pub(super) fn unset(object: &mut Value, name: &str) {
    if let Some(fields) = object.as_object_mut() {
        fields.remove(name);
    }
}
