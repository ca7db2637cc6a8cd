//! Defaults of pods and pod templates.

use serde_json::{Map, Value, json};

use super::defaults::{objects, set};

/// A pod: the template's defaults, and what the server's admission adds to a pod alone.
pub(super) fn default_pod(spec: &mut Map<String, Value>) {
    default_spec(spec);
    set(spec, "enableServiceLinks", true);
    set(spec, "priority", 0);
    set(spec, "preemptionPolicy", "PreemptLowerPriority");
    for list in ["containers", "initContainers"] {
        for container in objects(spec, list) {
            requests_from_limits(container);
        }
    }
    let Some(list) = spec.entry("tolerations").or_insert_with(|| json!([])).as_array_mut() else {
        return;
    };
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let covered = |toleration: &Value| {
            let is = |field: &str, wanted: &str| toleration.get(field).is_none_or(|v| v == wanted);
            is("key", key) && is("effect", "NoExecute")
        };
        if !list.iter().any(covered) {
            list.push(json!({"key": key, "operator": "Exists", "effect": "NoExecute",
                "tolerationSeconds": 300}));
        }
    }
}

fn requests_from_limits(container: &mut Map<String, Value>) {
    let Some(resources) = container.get_mut("resources").and_then(Value::as_object_mut) else {
        return;
    };
    let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() else { return };
    if let Some(requests) = resources.entry("requests").or_insert_with(|| json!({})).as_object_mut()
    {
        for (name, limit) in limits {
            set(requests, &name, limit);
        }
    }
}

/// The spec of a pod template.
pub(super) fn default_spec(spec: &mut Map<String, Value>) {
    set(spec, "restartPolicy", "Always");
    set(spec, "dnsPolicy", "ClusterFirst");
    set(spec, "schedulerName", "default-scheduler");
    set(spec, "securityContext", json!({}));
    set(spec, "terminationGracePeriodSeconds", 30);
    // The old name of the field follows the new one, and the other way round.
    for (from, to) in
        [("serviceAccountName", "serviceAccount"), ("serviceAccount", "serviceAccountName")]
    {
        if let Some(account) = spec.get(from).cloned() {
            set(spec, to, account);
        }
    }
    let host_network = spec.get("hostNetwork").and_then(Value::as_bool).unwrap_or(false);
    for list in ["initContainers", "containers"] {
        for container in objects(spec, list) {
            default_container(container, host_network);
        }
    }
    for volume in objects(spec, "volumes") {
        default_volume(volume);
    }
}

fn default_container(container: &mut Map<String, Value>, host_network: bool) {
    set(container, "resources", json!({}));
    set(container, "terminationMessagePath", "/dev/termination-log");
    set(container, "terminationMessagePolicy", "File");
    let image = container.get("image").and_then(Value::as_str).unwrap_or("");
    let policy = if is_latest(image) { "Always" } else { "IfNotPresent" };
    set(container, "imagePullPolicy", policy);
    for port in objects(container, "ports") {
        set(port, "protocol", "TCP");
        if let (true, Some(number)) = (host_network, port.get("containerPort").cloned()) {
            set(port, "hostPort", number);
        }
    }
    for variable in objects(container, "env") {
        let source = variable.get_mut("valueFrom").and_then(Value::as_object_mut);
        if let Some(reference) = source.and_then(|source| source.get_mut("fieldRef")) {
            default_field_ref(reference);
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get_mut(probe).and_then(Value::as_object_mut) {
            set(probe, "timeoutSeconds", 1);
            set(probe, "periodSeconds", 10);
            set(probe, "successThreshold", 1);
            set(probe, "failureThreshold", 3);
            default_http_get(probe);
            if let Some(grpc) = probe.get_mut("grpc").and_then(Value::as_object_mut) {
                set(grpc, "service", "");
            }
        }
    }
    let Some(lifecycle) = container.get_mut("lifecycle").and_then(Value::as_object_mut) else {
        return;
    };
    for hook in ["postStart", "preStop"] {
        if let Some(hook) = lifecycle.get_mut(hook).and_then(Value::as_object_mut) {
            default_http_get(hook);
        }
    }
}

fn default_http_get(action: &mut Map<String, Value>) {
    if let Some(get) = action.get_mut("httpGet").and_then(Value::as_object_mut) {
        set(get, "path", "/");
        set(get, "scheme", "HTTP");
    }
}

fn default_field_ref(reference: &mut Value) {
    if let Some(reference) = reference.as_object_mut() {
        set(reference, "apiVersion", "v1");
    }
}

/// Whether an image has no digest and the tag `latest` or none. A colon before the last slash is
/// the registry's port.
fn is_latest(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let name = image.rsplit('/').next().unwrap_or(image);
    name.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

fn default_volume(volume: &mut Map<String, Value>) {
    const SOURCES: [&str; 4] = ["configMap", "secret", "downwardAPI", "projected"];
    for source in SOURCES {
        let Some(source) = volume.get_mut(source).and_then(Value::as_object_mut) else { continue };
        // 0644.
        set(source, "defaultMode", 420);
        for item in objects(source, "items") {
            if let Some(reference) = item.get_mut("fieldRef") {
                default_field_ref(reference);
            }
        }
        for projected in objects(source, "sources") {
            let token = projected.get_mut("serviceAccountToken").and_then(Value::as_object_mut);
            if let Some(token) = token {
                set(token, "expirationSeconds", 3600);
            }
            let fields = projected.get_mut("downwardAPI").and_then(Value::as_object_mut);
            if let Some(fields) = fields {
                for item in objects(fields, "items") {
                    if let Some(reference) = item.get_mut("fieldRef") {
                        default_field_ref(reference);
                    }
                }
            }
        }
    }
    if let Some(path) = volume.get_mut("hostPath").and_then(Value::as_object_mut) {
        set(path, "type", "");
    }
}
