//! `provider.job` on the real Job controller: a Job's end is the measurement, the Job belongs to the run, and
//! a run that is ended takes it along.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sluice::apply::Http;
use sluice::sim::kubelet::Behaviours;
use tokio::time::{Instant, sleep};

use super::harness::{ControlPlane, Who, shared};
use crate::stories::ground::{Controller, Ground, Plot};
use crate::world::{Shape, WEB, deployments, rollouts, seconds};

const NAMESPACE: &str = "job-metric";
/// Nobody lets the controller make Jobs here.
const UNBOUND: &str = "job-unbound";
/// What does not happen in this time never does.
const PATIENCE: Duration = Duration::from_secs(90);

/// A metric that is a Job.
fn smoke() -> Value {
    json!({"name": "smoke", "provider": {"job": {"spec": {
        "backoffLimit": 0,
        "template": {"spec": {"restartPolicy": "Never",
            "containers": [{"name": "smoke", "image": "smoke:1"}]}}}}}})
}

struct Scene(kube::Client, &'static str);

impl Scene {
    async fn new(plane: &ControlPlane, namespace: &'static str) -> Self {
        let scene = Self(plane.client(Who::Admin), namespace);
        let named =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        scene.create("/api/v1/namespaces", named).await;
        scene
    }

    /// The path of a collection.
    fn at(&self, version: &str, plural: &str) -> String {
        let root = if version.contains('/') { "/apis" } else { "/api" };
        format!("{root}/{version}/namespaces/{}/{plural}", self.1)
    }

    async fn create(&self, collection: &str, object: Value) -> Value {
        Http::post(collection.to_owned(), object).send(&self.0).await.unwrap()
    }

    async fn list(&self, path: &str) -> Vec<Value> {
        let mut list = Http::get(path.to_owned()).send(&self.0).await.unwrap();
        serde_json::from_value(list["items"].take()).unwrap()
    }

    /// Waits for an object of a list.
    async fn find(&self, path: &str, what: &str, so: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let all = self.list(path).await;
            if let Some(found) = all.iter().find(|object| so(object)) {
                return found.clone();
            }
            assert!(Instant::now() < end, "{what}: never in {all:?}");
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// A run that waits for a Job.
    async fn run(&self, name: &str) -> String {
        let run = json!({
            "apiVersion": "sluice.dev/v1beta1", "kind": "AnalysisRun", "metadata": {"name": name},
            "spec": {"metrics": [smoke()]},
        });
        let made = self.create(&self.at("sluice.dev/v1beta1", "analysisruns"), run).await;
        made["metadata"]["uid"].as_str().unwrap().to_owned()
    }

    /// The Job of a run.
    async fn job(&self, uid: &str) -> Value {
        let of_run = |job: &Value| job["metadata"]["ownerReferences"][0]["uid"] == uid;
        self.find(&self.at("batch/v1", "jobs"), "a Job of the run", of_run).await
    }

    /// What a kubelet would say of the Job's pod.
    async fn pod_ends(&self, job: &Value, phase: &str) {
        let name = &job["metadata"]["name"];
        let of_job =
            |pod: &Value| pod["metadata"]["labels"]["batch.kubernetes.io/job-name"] == *name;
        let pod = self.find(&self.at("v1", "pods"), "a pod of the Job", of_job).await;
        let name = pod["metadata"]["name"].as_str().unwrap();
        let path = format!("{}/{name}/status", self.at("v1", "pods"));
        let body = json!({"status": {"phase": phase}});
        Http::merge(path, body).send(&self.0).await.unwrap();
    }

    /// The Rollout's status once a release waits for its step's Job.
    async fn release_waits(&self, mut plot: Plot) -> Value {
        plot.kubelets(Behaviours::default());
        let analysis = json!({"templates": [{"templateName": "smoke"}]});
        let shape = Shape {
            replicas: 2,
            max_surge: json!(1),
            max_unavailable: json!(0),
            routed: false,
            steps: json!([{"replicas": "50%", "analysis": analysis}, {"replicas": "100%"}]),
            ready_after: seconds(0),
        };
        let template = json!({"apiVersion": "sluice.dev/v1beta1", "kind": "AnalysisTemplate",
            "metadata": {"name": "smoke"}, "spec": {"metrics": [smoke()]}});
        let ours = "sluice.dev/v1beta1";
        self.create(&self.at(ours, "analysistemplates"), template).await;
        for (at, mut object) in [
            (plot.path(&deployments(), ""), shape.deployment("web:v1")),
            (plot.path(&rollouts(), ""), shape.rollout()),
        ] {
            object["metadata"]["namespace"] = json!(self.1);
            self.create(&at, object).await;
        }
        let all = self.at(ours, "rollouts");
        self.find(&all, "at rest", |web| web["status"]["phase"] == "Healthy").await;
        let containers = Shape::containers("web:v2");
        let body = json!({"spec": {"template": {"spec": {"containers": containers}}}});
        let path = plot.path(&deployments(), WEB);
        Http::merge(path, body).send(&self.0).await.unwrap();
        let waits = |web: &Value| {
            web["status"]["waitingFor"].as_str().is_some_and(|text| text.contains("provider.job"))
        };
        self.find(&all, "waiting for its Job", waits).await["status"].clone()
    }

    async fn ended(&self, name: &str) -> Value {
        let over = |run: &Value| {
            run["metadata"]["name"] == name && !run["status"]["completedAt"].is_null()
        };
        self.find(&self.at("sluice.dev/v1beta1", "analysisruns"), "the end of the run", over).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_jobs_end_is_the_measurement_and_the_run_takes_it_along() {
    let Some(plane) = shared() else { return };
    let scene = Scene::new(plane, NAMESPACE).await;
    let _controller = Controller::start(&plane.kubeconfig(Who::Sluice), NAMESPACE, &[]);
    let good = scene.run("good").await;
    let job = scene.job(&good).await;
    let owner = &job["metadata"]["ownerReferences"][0];
    assert_eq!((&owner["kind"], &owner["name"]), (&json!("AnalysisRun"), &json!("good")));
    scene.pod_ends(&job, "Succeeded").await;
    assert_eq!(scene.ended("good").await["status"]["phase"], "Successful");

    let bad = scene.run("bad").await;
    scene.pod_ends(&scene.job(&bad).await, "Failed").await;
    let status = scene.ended("bad").await["status"].clone();
    assert_eq!(status["phase"], "Failed", "{status}");
    let said = status["metricResults"][0]["message"].as_str().unwrap();
    assert!(said.starts_with("BackoffLimitExceeded: "), "{said}");

    let lost = scene.run("lost").await;
    let job = scene.job(&lost).await;
    let name = job["metadata"]["name"].as_str().unwrap();
    let path = format!("{}/{name}", scene.at("batch/v1", "jobs"));
    Http::delete(path, json!({"propagationPolicy": "Background"})).send(&scene.0).await.unwrap();
    let status = scene.ended("lost").await["status"].clone();
    assert_eq!(status["phase"], "Inconclusive", "{status}");
    let said = status["metricResults"][0]["message"].as_str().unwrap();
    assert!(said.ends_with("is gone: it is not run again"), "{said}");

    let endless = scene.run("endless").await;
    scene.job(&endless).await;
    let path = format!("{}/endless", scene.at("sluice.dev/v1beta1", "analysisruns"));
    Http::merge(path, json!({"spec": {"terminate": true}})).send(&scene.0).await.unwrap();
    scene.ended("endless").await;
    let end = Instant::now() + PATIENCE;
    while !scene.list(&scene.at("batch/v1", "jobs")).await.iter().all(|job| {
        job["metadata"]["ownerReferences"][0]["uid"] != *endless
            || !job["metadata"]["deletionTimestamp"].is_null()
    }) {
        assert!(Instant::now() < end, "the Job of a run that was ended stays");
        sleep(Duration::from_millis(100)).await;
    }
}

/// The chart's rules for the controller, in these files.
fn rules(file: &str) -> Value {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("charts/sluice/rbac").join(file)).unwrap();
    serde_saphyr::from_str(&text).unwrap()
}

/// A kubeconfig of an account that has the controller's own role and no other.
async fn limited(plane: &ControlPlane, scene: &Scene) -> tempfile::NamedTempFile {
    let rbac = "rbac.authorization.k8s.io";
    let at = |plural: &str| format!("/apis/{rbac}/v1/{plural}");
    for (name, file) in [("it-limited", "controller.yaml"), ("it-limited-jobs", "jobs.yaml")] {
        let role = json!({"apiVersion": format!("{rbac}/v1"), "kind": "ClusterRole",
            "metadata": {"name": name}, "rules": rules(file)});
        scene.create(&at("clusterroles"), role).await;
    }
    scene.create(&at("clusterrolebindings"), binding("ClusterRoleBinding", "it-limited")).await;
    let text = std::fs::read_to_string(plane.kubeconfig(Who::Admin)).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    config["users"][0]["user"]["as"] = json!("limited");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, config.to_string()).unwrap();
    file
}

/// Lets the account have a role.
fn binding(kind: &str, role: &str) -> Value {
    let rbac = "rbac.authorization.k8s.io";
    json!({"apiVersion": format!("{rbac}/v1"), "kind": kind, "metadata": {"name": role},
        "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "User", "name": "limited", "apiGroup": rbac}]})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_role_binding_a_jobs_metric_waits_says_what_to_bind_and_goes_on_once_it_is() {
    let Some(plane) = shared() else { return };
    let plot = Plot::new(Arc::new(Ground::real(plane).await), UNBOUND).await;
    let scene = Scene(plane.client(Who::Admin), UNBOUND);
    let config = limited(plane, &scene).await;
    let _controller = Controller::start(config.path(), UNBOUND, &[]);
    let uid = scene.run("smoke").await;
    let remedy = "bind the ClusterRole sluice-jobs to the controller's service account there, by a \
                  RoleBinding";
    let told = |event: &Value| {
        event["reason"] == "MetricUnusable" && event["regarding"]["name"] == "smoke"
    };
    let events = scene.at("events.k8s.io/v1", "events");
    let event = scene.find(&events, "the Event", told).await;
    let note = event["note"].as_str().unwrap();
    for words in ["Metric 'smoke'", "provider.job: Jobs in namespace \"job-unbound\"", remedy] {
        assert!(note.contains(words), "{note}");
    }
    let runs = scene.at("sluice.dev/v1beta1", "analysisruns");
    let says = |run: &Value| {
        let missing = run["status"]["missing"].as_str().unwrap_or_default();
        missing.contains("smoke: ") && missing.contains(remedy)
    };
    let run = scene.find(&runs, "what is missing", says).await;
    assert_eq!(run["status"]["phase"], "Running", "a permission is no failure: {run}");
    let status = scene.release_waits(plot).await;
    let waits = status["waitingFor"].as_str().unwrap();
    for words in ["step 1: the analysis web-", "smoke: ", "\"job-unbound\"", remedy] {
        assert!(waits.contains(words), "{waits}");
    }
    assert_eq!(status["release"]["step"], 0, "it holds: {status}");

    let at = scene.at("rbac.authorization.k8s.io/v1", "rolebindings");
    scene.create(&at, binding("RoleBinding", "it-limited-jobs")).await;
    scene.pod_ends(&scene.job(&uid).await, "Succeeded").await;
    assert_eq!(scene.ended("smoke").await["status"]["phase"], "Successful");
    let all = scene.list(&events).await;
    assert_eq!(all.iter().filter(|event| told(event)).count(), 1, "told once: {all:?}");
}
