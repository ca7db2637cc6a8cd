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
fn change(own: &Arc<Value>, mut wanted: Value) -> Option<Arc<Value>> {
    let is_same = ["endpoints", "ports"].iter().all(|field| own[*field] == wanted[*field])
        && object::same(&own["metadata"]["labels"], &wanted["metadata"]["labels"]);
    if is_same {
        return None;
    }
    let mut metadata = own["metadata"].clone();
    object::set(&mut metadata, &["labels"], wanted["metadata"]["labels"].take());
    object::set(&mut wanted, &["metadata"], metadata);
    Some(Arc::new(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(over: Value) -> Arc<Value> {
        let mut service = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": "web", "namespace": "default", "uid": "svc" },
            "spec": {
                "selector": { "app": "web" },
                "ports": [{ "name": "http", "port": 80, "targetPort": "http" }],
            },
        });
        json_patch::merge(&mut service, &over);
        Arc::new(service)
    }

    fn pod(name: &str, port: i64, over: Value) -> Arc<Value> {
        let mut pod = json!({
            "metadata": { "name": name, "namespace": "default", "uid": name },
            "spec": {
                "nodeName": "node-1",
                "containers": [{ "ports": [{ "name": "http", "containerPort": port }] }],
            },
            "status": {
                "phase": "Running",
                "podIP": "10.128.0.1",
                "conditions": [{ "type": "Ready", "status": "True" }],
            },
        });
        json_patch::merge(&mut pod, &over);
        Arc::new(pod)
    }

    fn created(outcome: &Outcome) -> Vec<&Value> {
        let created = outcome.writes.iter().map(|write| match write {
            Write::Create(slice) => slice,
            other => panic!("{other:?}"),
        });
        created.collect()
    }

    #[test]
    fn a_pod_is_ready_serving_or_terminating_as_it_stands() {
        let unready =
            json!({ "status": { "conditions": [{ "type": "Ready", "status": "False" }] } });
        let leaving = json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" } });
        let table = [
            (json!({}), json!({ "ready": true, "serving": true, "terminating": false })),
            (unready, json!({ "ready": false, "serving": false, "terminating": false })),
            (leaving, json!({ "ready": false, "serving": true, "terminating": true })),
        ];
        for (over, conditions) in table {
            let outcome = sync(&service(json!({})), &[pod("a", 8080, over)], &[]);
            let slice = created(&outcome)[0];
            assert_eq!(slice["endpoints"][0]["conditions"], conditions);
            assert_eq!(slice["endpoints"][0]["addresses"], json!(["10.128.0.1"]));
            let ports = json!([{ "name": "http", "port": 8080, "protocol": "TCP" }]);
            assert_eq!(slice["ports"], ports);
            assert_eq!(slice["metadata"]["labels"][SERVICE_NAME], "web");
        }
    }

    #[test]
    fn pods_without_an_address_or_at_their_end_are_no_endpoints() {
        let pods = [
            pod("new", 80, json!({ "status": { "podIP": null } })),
            pod("done", 80, json!({ "status": { "phase": "Succeeded" } })),
        ];
        let outcome = sync(&service(json!({})), &pods, &[]);
        assert_eq!(created(&outcome)[0]["endpoints"], json!([]));
    }

    #[test]
    fn a_port_name_that_means_two_numbers_makes_two_slices() {
        let pods = [pod("a", 8080, json!({})), pod("b", 9090, json!({}))];
        let outcome = sync(&service(json!({})), &pods, &[]);
        let ports: Vec<_> =
            created(&outcome).iter().map(|slice| slice["ports"][0]["port"].clone()).collect();
        assert_eq!(ports, [8080, 9090]);
    }

    #[test]
    fn slices_that_are_right_are_not_written_and_superfluous_ones_go() {
        let pods = [pod("a", 8080, json!({})), pod("b", 9090, json!({}))];
        let outcome = sync(&service(json!({})), &pods, &[]);
        let slices: Vec<Arc<Value>> =
            created(&outcome).into_iter().cloned().map(Arc::new).collect();
        assert_eq!(sync(&service(json!({})), &pods, &slices), Outcome::default());
        let fewer = sync(&service(json!({})), &pods[..1], &slices);
        assert_eq!(fewer.writes, [Write::Delete(Arc::clone(&slices[1]))]);
    }

    #[test]
    fn a_service_that_selects_nothing_is_left_alone() {
        for over in [json!({ "selector": null }), json!({ "type": "ExternalName" })] {
            let service = service(json!({ "spec": over }));
            assert_eq!(sync(&service, &[pod("a", 80, json!({}))], &[]), Outcome::default());
        }
    }
}
