//! AnalysisRuns on an API server over HTTP: `sluice analysis` as a person types it, and runs that the
//! controller's process measures and ends.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sluice::api::AnalysisRun;
use sluice::apply::Http;
use sluice::sim::live::Live;
use tokio::time::{Instant, sleep};

use crate::cli::{Said, run};
use crate::stories::ground::{Controller, Ground, Plot};
use crate::world::empty_cluster;

const NAMESPACE: &str = "shop";
/// What does not happen in this time never does.
const PATIENCE: Duration = Duration::from_secs(60);

/// A namespace with nothing in it, and a person.
struct Desk {
    plot: Plot,
    live: Live,
    folder: tempfile::TempDir,
}

impl Desk {
    async fn new() -> Self {
        let live = empty_cluster().await;
        let folder = tempfile::tempdir().unwrap();
        let (ground, _) = Ground::live(&live, folder.path()).await;
        let plot = Plot::new(Arc::new(ground), NAMESPACE).await;
        Self { plot, live, folder }
    }

    async fn expect(&self, line: &str, more: &[&str], code: i32) -> Said {
        let config = self.plot.ground.kubeconfig.to_str().unwrap();
        let all = [more, &["-n", NAMESPACE, "--kubeconfig", config]].concat();
        let said = run(line, &all).await;
        assert_eq!(said.code, code, "{line}: {said:?}");
        said
    }

    async fn send(&self, request: Http) -> Value {
        request.send(&self.plot.ground.user).await.unwrap()
    }

    async fn create(&self, name: &str, metric: Value) {
        let release = json!({"rollout": "web", "id": "e646-2", "scope": "1"});
        let run = json!({
            "apiVersion": "sluice.dev/v1beta1", "kind": "AnalysisRun", "metadata": {"name": name},
            "spec": {"metrics": [metric], "release": release},
        });
        self.send(Http::post(at(""), run)).await;
    }

    /// Waits until a run is so.
    async fn until(&self, name: &str, what: &str, so: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let run = self.send(Http::get(at(name))).await;
            if so(&run["status"]) {
                return run;
            }
            assert!(Instant::now() < end, "{name} is never {what}: {}", run["status"]);
            sleep(Duration::from_millis(50)).await;
        }
    }
}

fn at(name: &str) -> String {
    let tail = if name.is_empty() { String::new() } else { format!("/{name}") };
    format!("/apis/sluice.dev/v1beta1/namespaces/{NAMESPACE}/analysisruns{tail}")
}

/// A metric that a Prometheus is asked for each second.
fn metric(address: &str) -> Value {
    json!({"name": "errors", "interval": "1s", "successCondition": "result[0] <= 0.01",
        "provider": {"prometheus": {"address": address, "query": "vector(0)"}}})
}

/// The status of a run that compared two versions.
fn compared(phase: &str, verdict: &str) -> Value {
    json!({"status": {
        "phase": phase, "verdict": verdict, "startedAt": "2026-01-05T10:00:00Z",
        "completedAt": "2026-01-05T10:01:15Z", "reason": "errors: 5.8% against 0.665%, 8.72 times",
        "metricResults": [{
            "name": "errors", "phase": phase, "verdict": verdict, "count": 4,
            "evidence": {"ratio": 8.7174, "ratioLow": 4.68, "ratioHigh": 16.2,
                "logE": 12.1, "logBoundary": 4.605,
                "canary": {"pods": 2, "counters": {"bad": 24.0, "total": 414.0}},
                "stable": {"pods": 8, "counters": {"bad": 16.0, "total": 2406.0}}},
            "path": {"from": "2026-01-05T10:00:00Z", "to": "2026-01-05T10:01:15Z", "every": 1,
                "logE": [0, 120, 340, 1210], "logEPass": [-10, -200, -400, -900],
                "logBoundary": [461, 461, 461, 461]},
        }],
    }})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_analysis_is_shown_as_a_table_as_json_and_as_a_picture() {
    let desk = Desk::new().await;
    let said = desk.expect("analysis", &[], 0).await;
    assert_eq!(said.out.trim(), "no AnalysisRuns in namespace shop");
    for (name, phase, verdict, code) in [
        ("bad", "Failed", "Fail", 1),
        ("good", "Successful", "Pass", 0),
        ("unclear", "Inconclusive", "Inconclusive", 2),
        ("open", "Running", "Continue", 3),
    ] {
        desk.create(name, metric("http://127.0.0.1:1")).await;
        desk.send(Http::merge(format!("{}/status", at(name)), compared(phase, verdict))).await;
        let page = desk.expect("analysis", &[name], code).await.out;
        let lines: Vec<&str> = page.lines().collect();
        assert_eq!(lines[0], format!("Analysis   shop/{name}"));
        assert_eq!(lines[1], "Release    e646-2 of web, step 1");
        assert_eq!(lines[2], format!("Verdict    {} after 1m 15s", verdict.to_uppercase()));
        let row = lines.iter().find(|line| line.trim_start().starts_with("errors ")).unwrap();
        for cell in ["24 of 414 (5.8%)", "16 of 2406 (0.665%)", "8.72x (4.68 to 16.2)", "▁▂▆█"]
        {
            assert!(row.contains(cell), "{cell} in {page}");
        }
        let object = desk.send(Http::get(at(name))).await;
        let object: AnalysisRun = serde_json::from_value(object).unwrap();
        let json = desk.expect("analysis -o json", &[name], code).await.out;
        let shown: AnalysisRun = serde_json::from_str(&json).unwrap();
        assert_eq!((shown.spec, shown.status), (object.spec, object.status));
    }
    let table = desk.expect("analysis", &[], 0).await.out;
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let rows: Vec<_> = table.lines().map(words).collect();
    assert_eq!(rows[0], ["NAME", "ROLLOUT", "SCOPE", "VERDICT", "STARTED", "WHY"]);
    assert!(rows.iter().any(|row| row[..4] == ["bad", "web", "1", "Fail"]), "{table}");
    let all = desk.expect("analysis -o json", &[], 0).await.out;
    assert_eq!(serde_json::from_str::<Vec<Value>>(&all).unwrap().len(), 4);

    let picture = desk.folder.path().join("bad.svg");
    let file = picture.to_str().unwrap();
    desk.expect("analysis", &["bad", "--svg", file], 1).await;
    let drawn = std::fs::read_to_string(&picture).unwrap();
    assert!(drawn.starts_with("<svg ") && drawn.contains("bad: FAIL"), "{drawn}");
    assert_eq!(drawn.matches("<polyline").count(), 3, "harm, enough and harmless");
    let said = desk.expect("analysis", &["--svg", file], 4).await;
    assert!(said.complaint.contains("--svg draws one AnalysisRun: name it"), "{said:?}");
    let said = desk.expect("analysis", &["none"], 4).await;
    let words = "AnalysisRun none not found in namespace shop: kubectl sluice analysis lists them";
    assert!(said.complaint.contains(words), "{said:?}");
    assert!(said.out.is_empty(), "{said:?}");
    drop(desk.live);
}

/// A Prometheus that answers every question with 0, or one that answers none.
async fn prometheus(answers: bool) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let zero = json!({"status": "success", "data": {"resultType": "vector",
        "result": [{"metric": {}, "value": [1, "0"]}]}});
    let app = axum::Router::new().fallback(async move || {
        if !answers {
            std::future::pending::<()>().await;
        }
        axum::Json(zero)
    });
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    address
}

/// `spec.terminate` ends a run that would measure for ever, in Argo's words, whatever its server does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_to_end_ends_with_what_it_has_measured() {
    let desk = Desk::new().await;
    let _controller = Controller::start(&desk.plot.ground.account, NAMESPACE, &[]);
    desk.create("endless", metric(&prometheus(true).await)).await;
    desk.create("hangs", metric(&prometheus(false).await)).await;
    let good = |status: &Value| status["metricResults"][0]["successful"].as_i64() >= Some(2);
    desk.until("endless", "measured twice", good).await;
    desk.expect("analysis", &["endless"], 3).await;
    desk.until("hangs", "started", |status| status["phase"] == "Running").await;
    for name in ["endless", "hangs"] {
        desk.send(Http::merge(at(name), json!({"spec": {"terminate": true}}))).await;
    }
    // What has measured nothing is Argo's success, and no pass.
    for (name, code) in [("endless", 0), ("hangs", 2)] {
        let over = |status: &Value| !status["completedAt"].is_null();
        let run = desk.until(name, "over", over).await;
        let status = &run["status"];
        let said = (&status["phase"], &status["message"]);
        assert_eq!(said, (&json!("Successful"), &json!("Run Terminated")), "{name}: {status}");
        desk.expect("analysis", &[name], code).await;
    }
    // Nothing is measured any more.
    let before = desk.send(Http::get(at("endless"))).await;
    sleep(Duration::from_secs(3)).await;
    assert_eq!(desk.send(Http::get(at("endless"))).await["status"], before["status"]);
    let hangs = desk.send(Http::get(at("hangs"))).await;
    assert_eq!(hangs["status"]["metricResults"][0]["successful"], 0, "{hangs}");
}
