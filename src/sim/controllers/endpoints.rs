//! What the EndpointSlice controller decides for one Service.
//!
//! One slice for all pods whose ports come out equal, so one slice for nearly every Service; IPv4
//! only. A Service without a selector, or an `ExternalName`, is left alone. Addresses are not
//! checked: a pod on a loopback address is as good as any here.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::object::{self, Outcome, Write, at, int, items, text};
use super::replicaset::is_ready;

/// The label that names the Service of a slice.
pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";

/// Decides the slices of a Service. `pods` are those that its selector matches, `slices` those
/// that are there now.
pub fn sync(service: &Arc<Value>, pods: &[Arc<Value>], slices: &[Arc<Value>]) -> Outcome {
    let mut out = Outcome::default();
    if !selects_pods(service) || object::is_deleting(service) {
        return out;
    }
    let mut groups: BTreeMap<String, (Value, Vec<Value>)> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| has_address(pod)) {
        let ports = ports(service, pod);
        let group = groups.entry(ports.to_string()).or_insert_with(|| (ports, Vec::new()));
        group.1.push(endpoint(service, pod));
    }
    if groups.is_empty() {
        groups.insert(String::new(), (json!([]), Vec::new()));
    }
    let mut kept = Vec::new();
    for (index, (key, (ports, endpoints))) in groups.into_iter().enumerate() {
        let salt = if index == 0 { "" } else { key.as_str() };
        let slice = slice(service, salt, ports, endpoints);
        let name = object::name(&slice).to_owned();
        match slices.iter().find(|own| object::name(own) == name) {
            None => out.writes.push(Write::Create(slice)),
            Some(own) => out.writes.extend(change(own, slice).map(Write::Update)),
        }
        kept.push(name);
    }
    let gone = slices.iter().filter(|own| !kept.iter().any(|name| name == object::name(own)));
    out.writes.extend(gone.cloned().map(Write::Delete));
    out
}

/// Whether the Service has endpoints of its own making.
pub(crate) fn selects_pods(service: &Value) -> bool {
    let selector = at(service, &["spec", "selector"]).and_then(Value::as_object);
    selector.is_some_and(|selector| !selector.is_empty())
        && text(service, &["spec", "type"]) != "ExternalName"
}

fn has_address(pod: &Value) -> bool {
    !matches!(text(pod, &["status", "phase"]), "Succeeded" | "Failed")
        && !text(pod, &["status", "podIP"]).is_empty()
}

fn endpoint(service: &Value, pod: &Value) -> Value {
    let is_serving = is_ready(pod);
    let is_terminating = object::is_deleting(pod);
    let is_published = object::flag(service, &["spec", "publishNotReadyAddresses"]);
    json!({
        "addresses": [text(pod, &["status", "podIP"])],
        "conditions": {
            "ready": is_published || (is_serving && !is_terminating),
            "serving": is_serving,
            "terminating": is_terminating,
        },
        "nodeName": text(pod, &["spec", "nodeName"]),
        "targetRef": {
            "kind": "Pod",
            "namespace": object::namespace(pod),
            "name": object::name(pod),
            "uid": object::uid(pod),
        },
    })
}

fn ports(service: &Value, pod: &Value) -> Value {
    let all = items(service, &["spec", "ports"]).iter().filter_map(|port| {
        let protocol = at(port, &["protocol"]).and_then(Value::as_str).unwrap_or("TCP");
        let number = match at(port, &["targetPort"]) {
            Some(Value::String(name)) => named_port(pod, name, protocol)?,
            Some(target) => target.as_i64()?,
            None => int(port, &["port"])?,
        };
        let name = text(port, &["name"]);
        let mut found = json!({ "name": name, "port": number, "protocol": protocol });
        if let Some(own) = at(port, &["appProtocol"]) {
            object::set(&mut found, &["appProtocol"], own.clone());
        }
        Some(found)
    });
    all.collect()
}

fn named_port(pod: &Value, name: &str, protocol: &str) -> Option<i64> {
    let containers = items(pod, &["spec", "containers"]).iter();
    let mut ports = containers.flat_map(|container| items(container, &["ports"]));
    let found = ports.find(|port| {
        let own = at(port, &["protocol"]).and_then(Value::as_str).unwrap_or("TCP");
        text(port, &["name"]) == name && own == protocol
    })?;
    int(found, &["containerPort"])
}

fn slice(service: &Value, salt: &str, ports: Value, endpoints: Vec<Value>) -> Value {
    let name = object::name(service);
    let number = object::fnv(&[object::uid(service).as_bytes(), salt.as_bytes()]);
    let mut labels = at(service, &["metadata", "labels"]).cloned().unwrap_or_default();
    object::set(&mut labels, &[SERVICE_NAME], name.into());
    object::set(&mut labels, &[MANAGED_BY], "endpointslice-controller.k8s.io".into());
    if text(service, &["spec", "clusterIP"]) == "None" {
        object::set(&mut labels, &["service.kubernetes.io/headless"], "".into());
    }
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{name}-{}", object::suffix(number)),
            "generateName": format!("{name}-"),
            "namespace": object::namespace(service),
            "labels": labels,
            "ownerReferences": [object::controlled_by(service)],
        },
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": ports,
    })
}

/// The slice as it must become, if it differs.
fn change(own: &Arc<Value>, wanted: Value) -> Option<Arc<Value>> {
    let fields = ["endpoints", "ports"];
    let is_same = fields.iter().all(|field| object::same(&own[*field], &wanted[*field]))
        && object::same(&own["metadata"]["labels"], &wanted["metadata"]["labels"]);
    if is_same {
        return None;
    }
    let mut changed = (**own).clone();
    for field in fields {
        changed[field] = wanted[field].clone();
    }
    object::set(&mut changed, &["metadata", "labels"], wanted["metadata"]["labels"].clone());
    Some(Arc::new(changed))
}
