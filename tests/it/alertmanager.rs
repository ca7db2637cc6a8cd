//! Real alerts stop releases: Alertmanager posts to the controller's process, or the process asks Prometheus,
//! and a release on the cluster in the binary pauses or goes back.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use serde_json::{Value, json};
use sluice::apply::Http;
use sluice::clock::{Clock, SystemClock};
use sluice::sim::live::Live;
use tokio::time::{Instant, sleep};

use crate::prometheus::Prometheus;
use crate::stories::ground::{Controller, Ground, Plot};
use crate::world::{Shape, WEB, deployments, empty_cluster, rollouts, seconds};

/// What does not happen in this time never does.
const PATIENCE: Duration = Duration::from_secs(90);

/// What a test cannot do without.
fn skip(reason: &str) {
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{reason}");
    println!("SKIP: {reason}");
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A real Alertmanager that posts to one address, every second again.
struct Alertmanager {
    process: Child,
    url: String,
    client: reqwest::Client,
    _data: tempfile::TempDir,
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _status = self.process.wait();
    }
}

impl Alertmanager {
    async fn start(posts_to: &str, token: &str) -> Option<Self> {
        let data = tempfile::tempdir().unwrap();
        let config = json!({
            "route": {"receiver": "sluice", "group_by": ["alertname"], "group_wait": "0s",
                "group_interval": "1s", "repeat_interval": "1s"},
            "receivers": [{"name": "sluice", "webhook_configs": [{
                "url": posts_to, "send_resolved": false,
                "http_config": {"authorization": {"credentials": token}}}]}],
        });
        let file = data.path().join("alertmanager.yml");
        std::fs::write(&file, config.to_string()).unwrap();
        let port = free_port();
        let binary = std::env::var("ALERTMANAGER");
        let process = Command::new(binary.unwrap_or_else(|_| "prometheus-alertmanager".to_owned()))
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.path={}", data.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            // Else it looks for others on all addresses of the machine.
            .arg("--cluster.listen-address=")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(process) = process else {
            skip("alertmanager cannot be started: set ALERTMANAGER or install the package");
            return None;
        };
        let (url, client) = (format!("http://127.0.0.1:{port}"), reqwest::Client::new());
        let started = Self { process, url, client, _data: data };
        for _ in 0..400 {
            let ready = started.client.get(format!("{}/-/ready", started.url)).send().await;
            if ready.is_ok_and(|answer| answer.status().is_success()) {
                return Some(started);
            }
            sleep(Duration::from_millis(50)).await;
        }
        panic!("Alertmanager did not become ready on {}", started.url);
    }

    /// The alert `name` fires since `since`, or has ended at `until`.
    async fn fire(&self, name: &str, severity: &str, since: Timestamp, until: Option<Timestamp>) {
        let mut alert = json!({
            "labels": {"alertname": name, "severity": severity, "service": "web"},
            "annotations": {"summary": "12% of requests fail"},
            "startsAt": since.to_string(),
        });
        if let Some(until) = until {
            alert["endsAt"] = json!(until.to_string());
        }
        let post = self.client.post(format!("{}/api/v2/alerts", self.url)).json(&json!([alert]));
        assert!(post.send().await.unwrap().status().is_success());
    }

    /// One of its own counters, over all that it posts to by HTTP.
    async fn counter(&self, name: &str) -> f64 {
        let page = self.client.get(format!("{}/metrics", self.url)).send().await.unwrap();
        let page = page.text().await.unwrap();
        let lines = page.lines().filter(|line| line.starts_with(&format!("{name}{{")));
        let webhook = lines.filter(|line| line.contains("integration=\"webhook\""));
        webhook.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    /// Waits until a counter has grown by this much.
    async fn grows(&self, name: &str, by: f64) {
        let before = self.counter(name).await;
        let end = Instant::now() + PATIENCE;
        while self.counter(name).await < before + by {
            assert!(Instant::now() < end, "{name} does not grow by {by}");
            sleep(Duration::from_millis(100)).await;
        }
    }
}

/// A release of two pods in a namespace of its own, with a controller that listens.
struct Scene {
    plot: Plot,
    port: u16,
    // After the plot, whose watches would not end without a server.
    _live: Live,
    _folder: tempfile::TempDir,
}

impl Scene {
    /// A release has begun.
    async fn new(namespace: &str, canary: Value, alerts: Value, more: &[&str]) -> Self {
        let live = empty_cluster().await;
        let folder = tempfile::tempdir().unwrap();
        let (ground, _) = Ground::live(&live, folder.path()).await;
        let mut plot = Plot::new(Arc::new(ground), namespace).await;
        let port = free_port();
        let at = format!("127.0.0.1:{port}");
        let own = ["--alerts-secret", "alerts", "--lease-namespace", namespace];
        let all: Vec<&str> = own.iter().chain(more).copied().collect();
        let account = plot.ground.account.clone();
        plot.controller = Some(Controller::listening(&at, &account, namespace, &all));
        let shape = Shape {
            replicas: 2,
            max_surge: json!(1),
            max_unavailable: json!(0),
            routed: false,
            steps: json!([]),
            ready_after: seconds(0),
        };
        let scene = Self { plot, port, _live: live, _folder: folder };
        let mut rollout = shape.rollout();
        rollout["spec"]["strategy"]["canary"] = canary;
        rollout["spec"]["alerts"] = alerts;
        scene.create(&deployments(), shape.deployment("web:v1")).await;
        scene.create(&rollouts(), rollout).await;
        scene.until("at rest", |status| status["phase"] == "Healthy").await;
        let body = json!({"spec": {"template": {
            "spec": {"containers": Shape::containers("web:v2")}}}});
        scene.merge(&scene.plot.path(&deployments(), WEB), body).await;
        scene
    }

    async fn create(&self, key: &sluice::sim::apiserver::ResourceKey, mut object: Value) {
        object["metadata"]["namespace"] = json!(self.plot.namespace);
        Http::post(self.plot.path(key, ""), object).send(&self.plot.ground.user).await.unwrap();
    }

    async fn merge(&self, path: &str, body: Value) {
        Http::merge(path.to_owned(), body).send(&self.plot.ground.user).await.unwrap();
    }

    async fn approve(&self) {
        self.ask("Approve").await;
    }

    async fn ask(&self, verb: &str) {
        let path = format!("{}/status", self.plot.path(&rollouts(), WEB));
        let request = json!({"verb": verb, "by": "ann"});
        self.merge(&path, json!({"status": {"request": request}})).await;
    }

    /// The token that callers must show.
    async fn secret(&self, token: &str) {
        let secrets = sluice::sim::apiserver::ResourceKey::new("", "v1", "secrets");
        let data = json!({"token": ByteString(token.as_bytes().to_vec())});
        let path = self.plot.path(&secrets, "alerts");
        let user = &self.plot.ground.user;
        if Http::get(path.clone()).send(user).await.is_ok() {
            return self.merge(&path, json!({"data": data})).await;
        }
        let secret = json!({"apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "alerts"}, "data": data});
        self.create(&secrets, secret).await;
    }

    fn status(&self) -> Value {
        self.plot.ground.book.get(&self.plot.namespace, "rollouts", WEB)["status"].clone()
    }

    async fn until(&self, what: &str, so: impl Fn(&Value) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !so(&self.status()) {
            assert!(Instant::now() < end, "never {what}: {}", self.status());
            sleep(Duration::from_millis(50)).await;
        }
    }

    fn address(&self) -> String {
        format!("http://127.0.0.1:{}/alerts", self.port)
    }
}

const PAGE: &str = "the alert HighErrors (severity=page): 12% of requests fail";

fn held(status: &Value) -> bool {
    status["release"]["held"] == format!("paused by {PAGE}")
}

fn rules() -> Value {
    json!([
        {"matchLabels": {"service": "web", "severity": "page"}, "action": "Pause"},
        {"matchLabels": {"service": "web", "severity": "sick"}, "action": "Isolate"},
        {"matchLabels": {"service": "web", "severity": "critical"}},
    ])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_alertmanager_pauses_and_isolates_a_release_once_an_alert_and_rolls_it_back() {
    let canary = json!({"steps": [{"replicas": "50%", "pause": {}}, {"replicas": "100%"}]});
    let scene = Scene::new("alerted", canary, rules(), &[]).await;
    let Some(alertmanager) = Alertmanager::start(&scene.address(), "the-token").await else {
        return;
    };
    let waits = |status: &Value| status["release"]["state"] == "StepPaused";
    scene.until("at step 1", waits).await;
    let first = SystemClock.now();
    alertmanager.fire("HighErrors", "page", first, None).await;
    // Without the Secret it is 503, with another token 401: nothing is stopped, and it comes again.
    let refused = "alertmanager_notification_requests_failed_total";
    alertmanager.grows(refused, 1.0).await;
    scene.secret("another").await;
    alertmanager.grows(refused, 1.0).await;
    assert_eq!(scene.status()["release"]["held"], Value::Null);
    scene.secret("the-token\n").await;
    scene.until("paused", held).await;

    scene.approve().await;
    scene.until("resumed", |status| status["release"]["held"].is_null()).await;
    alertmanager.grows("alertmanager_notifications_total", 3.0).await;
    assert_eq!(scene.status()["release"]["held"], Value::Null, "the same alert is no new one");

    let ended = SystemClock.now();
    alertmanager.fire("HighErrors", "page", first, Some(ended)).await;
    sleep(Duration::from_secs(2)).await;
    let again = ended + SignedDuration::from_secs(1);
    alertmanager.fire("HighErrors", "page", again, None).await;
    scene.until("paused by its next time", held).await;

    alertmanager.fire("Sick", "sick", SystemClock.now(), None).await;
    scene.until("isolated", |status| status["release"]["stage"] == "Isolated").await;
    let cause = "isolated by the alert Sick (severity=sick): 12% of requests fail";
    assert_eq!(scene.status()["release"]["cause"], cause);
    scene.ask("Retry").await;
    scene.until("at step 1 again", waits).await;
    alertmanager.grows("alertmanager_notifications_total", 3.0).await;
    assert_eq!(scene.status()["release"]["stage"], "Stepping", "the same alert is no new one");

    alertmanager.fire("AllDown", "critical", SystemClock.now(), None).await;
    scene.until("over", |status| !status["lastRelease"].is_null()).await;
    let last = &scene.status()["lastRelease"];
    let cause = "aborted by the alert AllDown (severity=critical): 12% of requests fail";
    assert_eq!((&last["decision"], &last["reason"]), (&json!("RolledBack"), &json!(cause)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_page_during_the_watch_after_the_last_step_holds_it_and_rolls_it_back() {
    let canary = json!({"steps": [{"replicas": "100%"}], "bake": {"duration": "1h"}});
    let scene = Scene::new("baked", canary, rules(), &[]).await;
    scene.secret("the-token").await;
    let Some(alertmanager) = Alertmanager::start(&scene.address(), "the-token").await else {
        return;
    };
    scene.until("watched", |status| !status["release"]["bakingSince"].is_null()).await;
    alertmanager.fire("HighErrors", "page", SystemClock.now(), None).await;
    scene.until("paused", held).await;
    assert_eq!(scene.status()["release"]["stage"], "Finalising");
    alertmanager.fire("AllDown", "critical", SystemClock.now(), None).await;
    scene.until("over", |status| !status["lastRelease"].is_null()).await;
    assert_eq!(scene.status()["lastRelease"]["decision"], "RolledBack");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_real_prometheus_lists_as_firing_stops_a_release_without_an_alertmanager() {
    let rules_file = json!({"groups": [{"name": "web", "interval": "1s", "rules": [{
        "alert": "HighErrors", "expr": "vector(1)",
        "labels": {"service": "web", "severity": "page"},
        "annotations": {"summary": "12% of requests fail"}}]}]});
    let Some(real) = Prometheus::with_rules(&rules_file.to_string()).await else {
        return skip("prometheus cannot be started: set PROMETHEUS or install the package");
    };
    let canary = json!({"steps": [{"replicas": "50%", "pause": {}}, {"replicas": "100%"}]});
    let more = ["--prometheus", &real.url, "--poll-alerts"];
    let scene = Scene::new("polled", canary, rules(), &more).await;
    scene.until("paused", held).await;
    scene.approve().await;
    scene.until("resumed", |status| status["release"]["held"].is_null()).await;
    // It is asked every 15 s.
    sleep(Duration::from_secs(17)).await;
    assert_eq!(scene.status()["release"]["held"], Value::Null, "the same alert is no new one");
}
