//! What an install consists of, as data: the objects that `charts/sluice` renders with its defaults.
//!
//! Rules of roles, admission policies and definitions are the chart's own files. A test compares the
//! whole with what Helm renders.

use anyhow::{Context, anyhow};
use serde_json::{Map, Value, json};

use crate::api::crds;

/// Kubernetes' own name for the workload that runs the controller, and for most that belongs to it.
pub(crate) const NAME: &str = "sluice";

const CONTROLLER_RULES: &str = include_str!("../../charts/sluice/rbac/controller.yaml");
const LEASE_RULES: &str = include_str!("../../charts/sluice/rbac/lease.yaml");
const ADMIN_RULES: &str = include_str!("../../charts/sluice/rbac/admin.yaml");
const JOBS_RULES: &str = include_str!("../../charts/sluice/rbac/jobs.yaml");
const SECRETS_RULES: &str = include_str!("../../charts/sluice/rbac/secrets.yaml");
const VIEW_RULES: &str = include_str!("../../charts/sluice/rbac/view.yaml");
const POLICIES: [&str; 2] = [
    include_str!("../../charts/sluice/policies/deployment.yaml"),
    include_str!("../../charts/sluice/policies/rollout.yaml"),
];
const LINT: [&str; 2] = [
    include_str!("../../charts/sluice/lint/rollout.yaml"),
    include_str!("../../charts/sluice/lint/template.yaml"),
];

const RBAC: &str = "rbac.authorization.k8s.io";

/// The kinds of an install, in the order in which they are applied: plural, and whether an object lives
/// in a namespace.
const KINDS: [(&str, &str, bool); 14] = [
    ("Namespace", "namespaces", false),
    ("CustomResourceDefinition", "customresourcedefinitions", false),
    ("MutatingAdmissionPolicy", "mutatingadmissionpolicies", false),
    ("MutatingAdmissionPolicyBinding", "mutatingadmissionpolicybindings", false),
    ("ValidatingAdmissionPolicy", "validatingadmissionpolicies", false),
    ("ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", false),
    ("ServiceAccount", "serviceaccounts", true),
    ("ClusterRole", "clusterroles", false),
    ("ClusterRoleBinding", "clusterrolebindings", false),
    ("Role", "roles", true),
    ("RoleBinding", "rolebindings", true),
    ("Service", "services", true),
    ("Deployment", "deployments", true),
    ("Lease", "leases", true),
];

/// The choices of an install.
#[derive(Debug, Clone)]
pub(crate) struct Choices {
    /// Where the controller runs.
    pub namespace: String,
    /// Its image.
    pub image: String,
    /// The Prometheus that a metric without an address asks.
    pub prometheus: Option<String>,
}

/// The namespace of the controller.
pub(crate) fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

/// The policies that hold workloads, and their bindings.
pub(crate) fn policies() -> anyhow::Result<Vec<Value>> {
    documents(&POLICIES)
}

/// The policies that say what `sluice lint` says, and their bindings.
pub(crate) fn lint() -> anyhow::Result<Vec<Value>> {
    documents(&LINT)
}

fn documents(texts: &[&str]) -> anyhow::Result<Vec<Value>> {
    let mut all = Vec::new();
    for text in texts {
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(text).context("reading the shipped policies")?;
        all.extend(documents.into_iter().filter(|document| !document.is_null()));
    }
    Ok(all)
}

/// Account, permissions, Service and Deployment.
pub(crate) fn program(choices: &Choices) -> anyhow::Result<Vec<Value>> {
    let namespace = &choices.namespace;
    let here = || metadata(NAME, Some(namespace), &[]);
    let subjects = json!([{"kind": "ServiceAccount", "name": NAME, "namespace": namespace}]);
    let role_ref = |kind: &str| json!({"apiGroup": RBAC, "kind": kind, "name": NAME});
    let role = |kind: &str, metadata: Value, text: &str| -> anyhow::Result<Value> {
        let rules: Value = serde_saphyr::from_str(text).context("reading the shipped rules")?;
        Ok(json!({
            "apiVersion": format!("{RBAC}/v1"),
            "kind": kind,
            "metadata": metadata,
            "rules": rules,
        }))
    };
    let binding = |kind: &str, of: &str, metadata: Value| {
        json!({
            "apiVersion": format!("{RBAC}/v1"),
            "kind": kind,
            "metadata": metadata,
            "roleRef": role_ref(of),
            "subjects": subjects,
        })
    };
    Ok(vec![
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": here()}),
        role("ClusterRole", metadata(NAME, None, &[]), CONTROLLER_RULES)?,
        role("ClusterRole", metadata("sluice-admin", None, &["admin", "edit"]), ADMIN_RULES)?,
        role("ClusterRole", metadata("sluice-view", None, &["view"]), VIEW_RULES)?,
        role("ClusterRole", metadata("sluice-secrets", None, &[]), SECRETS_RULES)?,
        role("ClusterRole", metadata("sluice-jobs", None, &[]), JOBS_RULES)?,
        binding("ClusterRoleBinding", "ClusterRole", metadata(NAME, None, &[])),
        role("Role", here(), LEASE_RULES)?,
        binding("RoleBinding", "Role", here()),
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": here(),
            "spec": {
                "selector": selector(),
                "ports": [{"name": "http", "port": 8080, "targetPort": "http"}],
            },
        }),
        deployment(choices, here()),
    ])
}

/// What every pod of the controller carries.
pub(crate) fn selector() -> Value {
    json!({"app.kubernetes.io/name": NAME, "app.kubernetes.io/component": "controller"})
}

fn metadata(name: &str, namespace: Option<&str>, aggregate: &[&str]) -> Value {
    let mut labels = selector();
    if let Some(labels) = labels.as_object_mut() {
        labels.insert("app.kubernetes.io/version".into(), json!(env!("CARGO_PKG_VERSION")));
        for role in aggregate {
            labels.insert(format!("{RBAC}/aggregate-to-{role}"), json!("true"));
        }
    }
    let mut out = Map::from_iter([("name".to_owned(), json!(name)), ("labels".to_owned(), labels)]);
    if let Some(namespace) = namespace {
        out.insert("namespace".into(), json!(namespace));
    }
    Value::Object(out)
}

fn deployment(choices: &Choices, metadata: Value) -> Value {
    let mut args = vec![
        "controller".to_owned(),
        "--log-json".to_owned(),
        format!("--lease-namespace={}", choices.namespace),
    ];
    args.extend(choices.prometheus.iter().map(|address| format!("--prometheus={address}")));
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": selector()},
            "template": {
                "metadata": {"labels": selector()},
                "spec": {
                    "serviceAccountName": NAME,
                    "securityContext": {
                        "runAsNonRoot": true,
                        "runAsUser": 65532,
                        "runAsGroup": 65532,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [{
                        "name": "controller",
                        "image": choices.image,
                        "imagePullPolicy": "IfNotPresent",
                        "args": args,
                        "ports": [{"name": "http", "containerPort": 8080}],
                        "livenessProbe": {
                            "httpGet": {"path": "/healthz", "port": "http"},
                            "periodSeconds": 10,
                        },
                        "readinessProbe": {
                            "httpGet": {"path": "/readyz", "port": "http"},
                            "periodSeconds": 5,
                        },
                        "resources": {
                            "requests": {"cpu": "50m", "memory": "64Mi"},
                            "limits": {"memory": "256Mi"},
                        },
                        "securityContext": {
                            "allowPrivilegeEscalation": false,
                            "capabilities": {"drop": ["ALL"]},
                            "readOnlyRootFilesystem": true,
                        },
                    }],
                },
            },
        },
    })
}

/// The controller's Lease, which the controller itself makes.
pub(crate) fn lease(namespace: &str) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": NAME, "namespace": namespace},
    })
}

/// Kind and name, for a line that people read.
pub(crate) fn title(object: &Value) -> String {
    let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or("?");
    format!("{} {}", text("/kind"), text("/metadata/name"))
}

/// Where the API server has an object.
pub(crate) fn path(object: &Value) -> anyhow::Result<String> {
    let text = |at: &str| {
        let found = object.pointer(at).and_then(Value::as_str);
        found.ok_or_else(|| anyhow!("{}: {at} is missing", title(object)))
    };
    let (version, kind, name) = (text("/apiVersion")?, text("/kind")?, text("/metadata/name")?);
    let (_, plural, namespaced) = KINDS
        .iter()
        .find(|(known, _, _)| *known == kind)
        .ok_or_else(|| anyhow!("{kind} is no kind of an install"))?;
    let root = if version.contains('/') { "/apis" } else { "/api" };
    Ok(if *namespaced {
        let namespace = text("/metadata/namespace")?;
        format!("{root}/{version}/namespaces/{namespace}/{plural}/{name}")
    } else {
        format!("{root}/{version}/{plural}/{name}")
    })
}

/// Everything, in the order in which it is applied.
pub(crate) fn everything(choices: &Choices) -> anyhow::Result<Vec<Value>> {
    let mut all = vec![namespace(&choices.namespace)];
    all.extend_from_slice(crds::shipped());
    all.extend(policies()?);
    all.extend(lint()?);
    all.extend(program(choices)?);
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_object_has_a_place_of_its_own_on_the_server() {
        let choices = Choices { namespace: "here".into(), image: "i:1".into(), prometheus: None };
        let all = everything(&choices).unwrap();
        let mut paths: Vec<String> = all.iter().map(|object| path(object).unwrap()).collect();
        assert!(paths.contains(&"/api/v1/namespaces/here/services/sluice".to_owned()));
        let crd = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/gates.sluice.dev";
        assert!(paths.contains(&crd.to_owned()), "{paths:?}");
        let count = paths.len();
        paths.sort();
        paths.dedup();
        assert_eq!(paths.len(), count);
    }

    #[test]
    fn a_kind_that_is_not_ours_has_no_path() {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}});
        assert_eq!(path(&pod).unwrap_err().to_string(), "Pod is no kind of an install");
    }

    #[test]
    fn a_prometheus_becomes_an_argument_of_the_controller() {
        let prometheus = Some("http://p:9090".to_owned());
        let choices = Choices { namespace: "n".into(), image: "i:1".into(), prometheus };
        let all = program(&choices).unwrap();
        let deployment = all.last().unwrap();
        let args = &deployment["spec"]["template"]["spec"]["containers"][0]["args"];
        assert_eq!(
            args,
            &json!([
                "controller",
                "--log-json",
                "--lease-namespace=n",
                "--prometheus=http://p:9090"
            ])
        );
    }
}
