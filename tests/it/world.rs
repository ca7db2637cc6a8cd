//! One workload with its Rollout on a cluster in virtual time, and what must be left of a release:
//! nothing.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sluice::sim::apiserver::{ApiServer, ResourceKey};
use sluice::sim::cluster::{Cluster, Options, USER};
use sluice::sim::kubelet::Behaviours;
use sluice::sim::live::{self, Live};
use sluice::sim::pods;

pub const NAMESPACE: &str = "default";
/// The name of everything.
pub const WEB: &str = "web";

pub fn deployments() -> ResourceKey {
    ResourceKey::new("apps", "v1", "deployments")
}

pub fn services() -> ResourceKey {
    ResourceKey::new("", "v1", "services")
}

pub fn routes() -> ResourceKey {
    ResourceKey::new("gateway.networking.k8s.io", "v1", "httproutes")
}

pub fn rollouts() -> ResourceKey {
    ResourceKey::new("sluice.dev", "v1beta1", "rollouts")
}

pub fn gates() -> ResourceKey {
    ResourceKey::new("sluice.dev", "v1beta1", "gates")
}

pub fn pods() -> ResourceKey {
    ResourceKey::new("", "v1", "pods")
}

pub fn seconds(n: i64) -> SignedDuration {
    SignedDuration::from_secs(n)
}

/// What the user brings.
#[derive(Debug, Clone)]
pub struct Shape {
    pub replicas: i64,
    pub max_surge: Value,
    pub max_unavailable: Value,
    pub routed: bool,
    pub steps: Value,
    pub ready_after: SignedDuration,
}

impl Shape {
    pub fn containers(image: &str) -> Value {
        json!([{"name": "web", "image": image,
            "ports": [{"containerPort": 8080, "name": "http"}]}])
    }

    pub fn deployment(&self, image: &str) -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": WEB, "namespace": NAMESPACE},
            "spec": {
                "replicas": self.replicas,
                "progressDeadlineSeconds": 600,
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {
                    "maxSurge": self.max_surge, "maxUnavailable": self.max_unavailable}},
                "selector": {"matchLabels": {"app": "web"}},
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {"containers": Self::containers(image)},
                },
            },
        })
    }

    pub fn rollout(&self) -> Value {
        let mut canary = json!({"steps": self.steps});
        if self.routed {
            canary["trafficRoutings"] =
                json!([{"service": WEB, "gateway": {"httpRouteName": WEB}}]);
        }
        json!({
            "apiVersion": "sluice.dev/v1beta1", "kind": "Rollout",
            "metadata": {"name": WEB, "namespace": NAMESPACE},
            "spec": {
                "progressDeadlineSeconds": 20,
                "workloadRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": WEB},
                "strategy": {"canary": canary},
            },
        })
    }

    pub fn service() -> Value {
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": WEB, "namespace": NAMESPACE},
            "spec": {"selector": {"app": "web"}, "ports": [
                {"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}]},
        })
    }

    pub fn route() -> Value {
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": {"name": WEB, "namespace": NAMESPACE},
            "spec": {"parentRefs": [{"name": "web"}], "hostnames": ["web.test"],
                "rules": [{"backendRefs": [{"name": WEB, "port": 80}]}]},
        })
    }

    /// A cluster with everything but the Rollout, at rest.
    pub async fn cluster(&self, seed: u64, image: &str) -> Cluster {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut cluster = Cluster::new(Options {
            start,
            seed,
            kubelet: Behaviours::default().ready_after(self.ready_after),
            answers: pods::Behaviours::default(),
            visitors: (Vec::new(), 1.0),
        })
        .unwrap();
        cluster.server.create(USER, self.deployment(image)).unwrap();
        if self.routed {
            cluster.server.create(USER, Self::service()).unwrap();
            cluster.server.create(USER, Self::route()).unwrap();
        }
        cluster.run_for(seconds(10)).await;
        cluster
    }
}

pub fn get(server: &ApiServer, key: &ResourceKey, name: &str) -> Value {
    server.get(key, NAMESPACE, name).map(|object| (*object).clone()).unwrap_or_default()
}

/// A release of this image begins.
pub fn set_image(server: &ApiServer, image: &str) {
    let body = json!({"spec": {"template": {"spec": {"containers": Shape::containers(image)}}}});
    server.patch_merge(USER, &deployments(), NAMESPACE, WEB, body).unwrap();
}

pub fn image_of(deployment: &Value) -> String {
    let image = deployment.pointer("/spec/template/spec/containers/0/image");
    image.and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// An object without what no user wrote.
pub fn written(mut object: Value) -> Value {
    let Some(all) = object.as_object_mut() else { return object };
    all.remove("status");
    if let Some(meta) = all.get_mut("metadata").and_then(Value::as_object_mut) {
        for field in ["resourceVersion", "generation", "managedFields"] {
            meta.remove(field);
        }
        if let Some(notes) = meta.get_mut("annotations").and_then(Value::as_object_mut) {
            notes.remove("deployment.kubernetes.io/revision");
            if notes.is_empty() {
                meta.remove("annotations");
            }
        }
    }
    object
}

/// The user's objects as they are.
#[derive(Debug, Clone, PartialEq)]
pub struct Owned {
    pub deployment: Value,
    pub service: Value,
    pub route: Value,
}

impl Owned {
    pub fn of(server: &ApiServer) -> Self {
        Self {
            deployment: written(get(server, &deployments(), WEB)),
            service: written(get(server, &services(), WEB)),
            route: written(get(server, &routes(), WEB)),
        }
    }

    /// The same with another image.
    pub fn with_image(mut self, image: &str) -> Self {
        self.deployment["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
        self
    }

    /// What differs, in words.
    pub fn differs(&self, from: &Self) -> Option<String> {
        let pairs = [
            (&self.deployment, &from.deployment),
            (&self.service, &from.service),
            (&self.route, &from.route),
        ];
        let (is, should) = pairs.into_iter().find(|(is, should)| is != should)?;
        Some(format!("it is {is}\nand should be {should}"))
    }
}

/// What is left of ours after a release, in words.
pub fn left_over(server: &ApiServer) -> Option<String> {
    let extra: Vec<Value> = server
        .list(&services(), Some(NAMESPACE))
        .into_iter()
        .map(|s| s["metadata"]["name"].clone())
        .filter(|name| name != WEB && name != "kubernetes")
        .collect();
    if !extra.is_empty() {
        return Some(format!("Services {extra:?}"));
    }
    for gate in server.list(&gates(), Some(NAMESPACE)) {
        let entry = &gate["spec"]["deployments"][WEB];
        if !entry["release"].is_null() || !entry["originals"].is_null() {
            return Some(format!("the Gate's entry {entry}"));
        }
        if !gate["spec"]["letGo"][WEB].is_null() {
            return Some(format!("the Gate's note {}", gate["spec"]["letGo"]));
        }
    }
    let rollout = get(server, &rollouts(), WEB);
    let finalizers = &rollout["metadata"]["finalizers"];
    if finalizers.as_array().is_some_and(|f| !f.is_empty()) {
        return Some(format!("finalizers {finalizers}"));
    }
    if !rollout["status"]["release"].is_null() {
        return Some("a release in the status".into());
    }
    None
}

/// How many pods run, by image: all that are not on their way out, and the ready ones of them.
pub fn pods_by_image(server: &ApiServer) -> std::collections::BTreeMap<String, (i64, i64)> {
    let mut out = std::collections::BTreeMap::new();
    for pod in server.list(&pods(), Some(NAMESPACE)) {
        if !pod["metadata"]["deletionTimestamp"].is_null() {
            continue;
        }
        let image = pod["spec"]["containers"][0]["image"].as_str().unwrap_or_default();
        let count: &mut (i64, i64) = out.entry(image.to_owned()).or_default();
        count.0 += 1;
        count.1 += i64::from(is_ready(&pod));
    }
    out
}

pub fn is_ready(pod: &Value) -> bool {
    ready_since(pod).is_some()
}

/// Since when a pod is ready; nothing while it is not.
pub fn ready_since(pod: &Value) -> Option<Timestamp> {
    let conditions = pod["status"]["conditions"].as_array();
    let mut all = conditions.into_iter().flatten();
    let ready = all.find(|c| c["type"] == "Ready" && c["status"] == "True")?;
    let since = ready["lastTransitionTime"].as_str().and_then(|at| at.parse().ok());
    Some(since.unwrap_or(Timestamp::UNIX_EPOCH))
}

/// A cluster in memory, served over HTTP, with nothing in it and no controller.
pub(crate) async fn empty_cluster() -> Live {
    let _already = rustls::crypto::ring::default_provider().install_default();
    let options = live::Options {
        seed: 1,
        nodes: 2,
        kubelet: Behaviours::default(),
        answers: pods::Behaviours::default(),
        scrape_every: seconds(60),
    };
    Live::without_controller(options).await.unwrap()
}
