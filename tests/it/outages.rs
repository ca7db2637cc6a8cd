//! A real Prometheus that is dead, slow, lying or flapping in the middle of a release: the controller's
//! process neither promotes nor rolls back by itself, says why, and goes on when the server is well again.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use sluice::apply::Http;
use sluice::sim::apiserver::{ApiServer, ResourceKey};
use sluice::sim::kubelet::Behaviours;
use sluice::sim::live::{Live, Options};
use sluice::sim::pods;
use tokio::time::{Instant, sleep};

use crate::prometheus::{Prometheus, SERVERS};
use crate::stories::ground::{Controller, Ground, Plot};
use crate::world::{Shape, WEB, deployments, rollouts, seconds};

/// What does not happen in this time never does.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a server is ill: several times the interval of every metric.
const ILL: Duration = Duration::from_secs(8);
/// Good measurements that a step needs.
const COUNT: i64 = 10;

/// A vector of these series.
macro_rules! vector {
    ($series:literal) => {
        concat!(r#"{"status":"success","data":{"resultType":"vector","result":["#, $series, "]}}")
    };
}

/// What the lying server says, and in which words the release waits meanwhile.
const LIES: &[(&str, &str)] = &[
    (vector!(r#"{"metric":{},"value":[1]}"#), "unknown form"),
    (r#"{"status":"success","data":{"resultType":"vec"#, "not JSON"),
    ("<html><body>Please log in</body></html>", "not JSON"),
    ("", "not JSON"),
    (r#"{"status":"success"}"#, "no data"),
    (vector!(""), "empty result"),
    (vector!(r#"{"metric":{},"value":[1,"NaN"]}"#), "NaN"),
    (vector!(r#"{"metric":{},"value":[1,"high"]}"#), "not a number"),
    (r#"{"status":"success","data":{"resultType":"string","result":[1,"0.01"]}}"#, "not supported"),
    (r#"{"status":"error","errorType":"internal","error":"the disk is full"}"#, "no data"),
];

/// In front of a real Prometheus, and says what it is told to.
struct Liar {
    url: String,
    says: Arc<Mutex<Option<&'static str>>>,
}

impl Liar {
    async fn start(real: &str) -> Self {
        let says = Arc::<Mutex<Option<&'static str>>>::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = (says.clone(), real.to_owned(), reqwest::Client::new());
        let app = axum::Router::new().fallback(answer).with_state(state);
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, says }
    }

    fn say(&self, what: Option<&'static str>) {
        *self.says.lock().unwrap() = what;
    }
}

type Said = (Arc<Mutex<Option<&'static str>>>, String, reqwest::Client);

async fn answer(
    State((says, real, client)): State<Said>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let said = *says.lock().unwrap();
    if let Some(said) = said {
        return (StatusCode::OK, said).into_response();
    }
    let kind = headers[header::CONTENT_TYPE].clone();
    let post = client.post(format!("{real}{uri}")).header(header::CONTENT_TYPE, kind).body(body);
    post.send().await.unwrap().bytes().await.unwrap().into_response()
}

/// Where the releases are played.
struct World {
    ground: Arc<Ground>,
    server: ApiServer,
    /// A server that stays well.
    well: String,
}

/// A release of two pods whose step asks a server, and whose background does too.
struct Scene {
    plot: Plot,
    server: ApiServer,
}

impl Scene {
    /// The release is at its first step, and measures.
    async fn new(world: &World, namespace: &str, address: &str) -> Self {
        let step = json!({"templates": [{"templateName": "step"}]});
        let steps = json!([{"replicas": "50%", "analysis": step}, {"replicas": "100%"}]);
        let scene = Self::begin(world, namespace, address, steps).await;
        scene.until("measuring", || scene.measured("errors", "count") > 0).await;
        scene
    }

    /// The new version is applied.
    async fn begin(world: &World, namespace: &str, address: &str, steps: Value) -> Self {
        let (ground, well) = (world.ground.clone(), world.well.as_str());
        let mut plot = Plot::new(ground, namespace).await;
        let account = plot.ground.account.clone();
        plot.controller = Some(Controller::start(&account, namespace, &[]));
        let scene = Self { plot, server: world.server.clone() };
        let metric = |name: &str, address: &str, count: Option<i64>| {
            let mut metric = json!({"name": name, "interval": "1s", "errorRetry": "1s",
                "successCondition": "result[0] < 0.05", "failureCondition": "result[0] > 0.5",
                "provider": {"prometheus": {"address": address, "query": "vector(0.01)"}}});
            if let Some(count) = count {
                metric["count"] = json!(count);
            }
            metric
        };
        let watched = json!({"metrics": [metric("watched", address, None)]});
        let step =
            [metric("errors", address, Some(COUNT)), metric("other", well, Some(10 * COUNT))];
        let mut step = json!({"metrics": step});
        step["metrics"][1]["consecutiveSuccessLimit"] = json!(COUNT);
        let templates = ResourceKey::new("sluice.dev", "v1beta1", "analysistemplates");
        for (name, spec) in [("watched", watched), ("step", step)] {
            let template = json!({"apiVersion": "sluice.dev/v1beta1", "kind": "AnalysisTemplate",
                "metadata": {"name": name}, "spec": spec});
            scene.create(&templates, template).await;
        }
        let shape = Shape {
            replicas: 2,
            max_surge: json!(1),
            max_unavailable: json!(0),
            routed: false,
            steps,
            ready_after: seconds(0),
        };
        let mut rollout = shape.rollout();
        let canary = &mut rollout["spec"]["strategy"]["canary"];
        canary["analysis"] = json!({"templates": [{"templateName": "watched"}]});
        scene.create(&deployments(), shape.deployment("web:v1")).await;
        scene.create(&rollouts(), rollout).await;
        scene.until("at rest", || scene.status()["phase"] == "Healthy").await;
        let containers = Shape::containers("web:v2");
        let body = json!({"spec": {"template": {"spec": {"containers": containers}}}});
        let path = scene.plot.path(&deployments(), WEB);
        Http::merge(path, body).send(&scene.plot.ground.user).await.unwrap();
        let begun =
            |status: Value| !status["release"].is_null() || !status["lastRelease"].is_null();
        scene.until("under way", || begun(scene.status())).await;
        scene
    }

    async fn create(&self, key: &ResourceKey, mut object: Value) {
        object["metadata"]["namespace"] = json!(self.plot.namespace);
        Http::post(self.plot.path(key, ""), object).send(&self.plot.ground.user).await.unwrap();
    }

    fn status(&self) -> Value {
        self.plot.ground.book.get(&self.plot.namespace, "rollouts", WEB)["status"].clone()
    }

    /// A number of a metric, whichever run has it.
    fn measured(&self, metric: &str, what: &str) -> i64 {
        let key = ResourceKey::new("sluice.dev", "v1beta1", "analysisruns");
        let runs = self.server.list(&key, Some(&self.plot.namespace));
        let results = runs.iter().flat_map(|run| run["status"]["metricResults"].as_array());
        let mut found = results.flatten().filter(|result| result["name"] == metric);
        found.next().and_then(|result| result[what].as_i64()).unwrap_or(0)
    }

    async fn until(&self, what: &str, so: impl Fn() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !so() {
            let status = self.status();
            assert!(Instant::now() < end, "{}: never {what}: {status}", self.plot.namespace);
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Nothing is decided.
    fn holds(&self) {
        let status = self.status();
        let namespace = &self.plot.namespace;
        assert_eq!(status["lastRelease"], Value::Null, "{namespace}: {status}");
        let release = &status["release"];
        assert_eq!(release["stage"], "Stepping", "{namespace}: {status}");
        assert_eq!(release["step"], 0, "{namespace}: {status}");
    }

    /// For so long nothing is decided.
    async fn holds_for(&self, span: Duration) {
        let end = Instant::now() + span;
        while Instant::now() < end {
            self.holds();
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// The Rollout says what it waits for.
    async fn says(&self, words: &str) {
        let said = || {
            self.holds();
            self.status()["waitingFor"].as_str().is_some_and(|text| text.contains(words))
        };
        self.until(words, said).await;
    }

    async fn is_promoted(&self) {
        self.until("over", || !self.status()["lastRelease"].is_null()).await;
        let last = &self.status()["lastRelease"];
        assert_eq!(last["decision"], "Promoted", "{}: {last}", self.plot.namespace);
    }
}

async fn dead(world: &World, mut real: Prometheus) {
    let scene = Scene::new(world, "dead", &real.url).await;
    real.kill();
    scene.says("provider unreachable").await;
    scene.holds_for(ILL).await;
    real.again().await;
    scene.is_promoted().await;
    assert!(scene.measured("errors", "count") >= COUNT);
    assert!(scene.measured("errors", "error") > 2);
}

/// A stopped process takes connections and answers nothing.
async fn slow(world: &World, real: Prometheus) {
    let scene = Scene::new(world, "slow", &real.url).await;
    real.signal("STOP");
    let before = scene.measured("errors", "count");
    scene.until("another server answers", || scene.measured("other", "count") >= COUNT).await;
    scene.holds_for(ILL).await;
    let while_it_hung = scene.measured("errors", "count") - before;
    assert!(while_it_hung <= 1, "{while_it_hung} answers of a server that gives none");
    real.signal("CONT");
    scene.is_promoted().await;
    assert!(scene.measured("errors", "count") >= COUNT);
    slow_from_the_start(world, real).await;
}

/// Nothing is waited for but the first answer of what watches beside the steps.
async fn slow_from_the_start(world: &World, real: Prometheus) {
    real.signal("STOP");
    let step = |replicas: &str| json!({"replicas": replicas, "pause": {"duration": 0}});
    let steps = json!([step("50%"), step("100%")]);
    let scene = Scene::begin(world, "slow-from-the-start", &real.url, steps).await;
    scene.says("the background analysis").await;
    scene.holds_for(ILL).await;
    assert_eq!(scene.measured("watched", "count"), 0);
    real.signal("CONT");
    scene.is_promoted().await;
    assert!(scene.measured("watched", "count") > 0);
}

async fn flapping(world: &World, mut real: Prometheus) {
    let scene = Scene::new(world, "flapping", &real.url).await;
    for _ in 0..3 {
        real.kill();
        scene.until("an error", || scene.measured("errors", "consecutiveError") > 0).await;
        scene.holds();
        real.again().await;
        let well = || scene.measured("errors", "consecutiveError") == 0;
        scene.until("an answer", well).await;
    }
    scene.is_promoted().await;
    assert!(scene.measured("errors", "count") >= COUNT);
    assert!(scene.measured("errors", "error") >= 3);
}

async fn lying(world: &World, real: Prometheus) {
    let liar = Liar::start(&real.url).await;
    let scene = Scene::new(world, "lying", &liar.url).await;
    for (lie, words) in LIES {
        liar.say(Some(lie));
        scene.says(words).await;
    }
    scene.holds_for(ILL / 4).await;
    liar.say(None);
    scene.is_promoted().await;
    assert!(scene.measured("errors", "count") >= COUNT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_prometheus_that_is_dead_slow_lying_or_flapping_decides_nothing() {
    let _already = rustls::crypto::ring::default_provider().install_default();
    let mut reals = Vec::new();
    // Two of each version, so that each has died once and lied or come late once.
    for server in SERVERS.iter().chain(&SERVERS) {
        let Some(real) = Prometheus::of(server).await else { return };
        reals.push(real);
    }
    let live = Live::without_controller(Options {
        seed: 1,
        nodes: 2,
        kubelet: Behaviours::default(),
        answers: pods::Behaviours::default(),
        scrape_every: seconds(60),
    })
    .await
    .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (ground, _) = Ground::live(&live, folder.path()).await;
    let world = World {
        ground: Arc::new(ground),
        server: live.server().clone(),
        well: format!("http://{}", live.prometheus()),
    };
    let [first, second, third, fourth] = <[Prometheus; 4]>::try_from(reals).ok().unwrap();
    tokio::join!(
        dead(&world, first),
        slow(&world, second),
        flapping(&world, third),
        lying(&world, fourth),
    );
}
