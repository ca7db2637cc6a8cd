//! A Rollout's past is read and kept, and its next release is judged by it: on a cluster in virtual time,
//! with series of before it began.

use std::sync::{Arc, RwLock};

use jiff::{SignedDuration, Timestamp};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use sluice::analysis::calibration::{self, Learner, Learnt, Policy, Question};
use sluice::analysis::{
    Ask, NamedTemplate, Query, Range, RangeTime, ReleaseContext, Sample, Source, build_run,
};
use sluice::api::analysis_run::RunRelease;
use sluice::clock::{Clock, SystemClock};
use sluice::providers::{Catalog, MetricSource, Pool, Server};
use sluice::sim::apiserver::{ApiServer, ResourceKey};
use sluice::sim::cluster::{Cluster, Options, USER};
use sluice::sim::kubelet::Behaviours;
use sluice::sim::load::Visitor;
use sluice::sim::pods;
use sluice::sim::promql::{Engine, Labels, Tsdb, TsdbSource};
use sluice::spec::AnalysisStanza;

use crate::prometheus::{Prometheus, Seeded};
use crate::world::{NAMESPACE, Shape, WEB, get, rollouts, seconds, set_image};

const SEED: u64 = 20_260_101;
const STEP_MS: i64 = 15_000;

fn start() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn config_maps() -> ResourceKey {
    ResourceKey::new("", "v1", "configmaps")
}

fn runs() -> ResourceKey {
    ResourceKey::new("sluice.dev", "v1beta1", "analysisruns")
}

/// Ten pods of so many steps until `end`: 60 requests each in a step, of which one in fifty fails.
fn series(end: Timestamp, steps: i64) -> Vec<Seeded> {
    let mut rng = SmallRng::seed_from_u64(SEED);
    let mut all = Vec::new();
    for pod in 0..10 {
        let pod = format!("web-5d4b-past{pod}");
        let base = [("namespace", NAMESPACE), ("pod", pod.as_str())];
        let labels = ["200", "500"].map(|code| {
            Labels::new("http_requests_total", base.into_iter().chain([("code", code)]))
        });
        let mut lines = labels.map(|labels| Seeded { labels, samples: Vec::new() });
        let mut totals = [0.0; 2];
        for step in 0..steps {
            let failed = (0..60).filter(|_| rng.random_bool(0.02)).count() as f64;
            totals = [totals[0] + 60.0 - failed, totals[1] + failed];
            let at = end.as_millisecond() - (steps - step) * STEP_MS;
            lines.iter_mut().zip(totals).for_each(|(line, total)| line.samples.push((at, total)));
        }
        all.extend(lines);
    }
    all
}

fn stored(all: &[Seeded]) -> Tsdb {
    let mut db = Tsdb::new(24 * 3_600_000);
    for Seeded { labels, samples } in all {
        samples.iter().for_each(|(at, value)| db.append(labels, *at, *value).unwrap());
    }
    db
}

/// The four hours before the cluster began.
fn past() -> Tsdb {
    stored(&series(start(), 960))
}

fn template(calibration: Value) -> Value {
    json!({
        "apiVersion": "sluice.dev/v1beta1", "kind": "AnalysisTemplate",
        "metadata": {"name": "errors", "namespace": NAMESPACE},
        "spec": {
            "risk": "5%",
            "calibration": calibration,
            "metrics": [{"name": "errors", "interval": "15s", "compare": {
                "ratio": {
                    "bad": format!("http_requests_total{{namespace=\"{NAMESPACE}\",code=~\"5..\"}}"),
                    "total": format!("http_requests_total{{namespace=\"{NAMESPACE}\"}}"),
                },
                "harmful": "100%",
            }}],
        },
    })
}

fn short() -> Value {
    json!({"history": "4h", "window": "10m", "schedule": "0 * * * *"})
}

/// What is asked of the past of `web` by the template.
fn learner(now: Timestamp) -> Learner {
    let template = template(short());
    let spec = serde_json::from_value(template["spec"].clone()).unwrap();
    let templates = [NamedTemplate { name: "errors".to_owned(), spec: &spec }];
    let release = RunRelease {
        stable: Some("a".to_owned()),
        canary: Some("b".to_owned()),
        ..RunRelease::default()
    };
    let context =
        ReleaseContext { stable: "a", canary: "b", rollout: &Value::Null, release: Some(&release) };
    let stanza = AnalysisStanza::default();
    let run = build_run("past", NAMESPACE, None, &templates, &stanza, &context).unwrap();
    let policy = Policy {
        history: SignedDuration::from_mins(40),
        windows: 100,
        length: SignedDuration::from_mins(10),
        canary: vec![(SignedDuration::ZERO, 2)],
        exclude: Vec::new(),
        seed: SEED,
    };
    Learner::new(calibration::asked(&run.spec, WEB).unwrap(), policy, None, now)
}

/// All that is due, asked of `source`.
async fn learn(mut learner: Learner, source: &dyn MetricSource, now: Timestamp) -> Learnt {
    loop {
        let query = |question: &Question<'_>| {
            let Question { from, until, step, .. } = *question;
            let (start, end) = (RangeTime::fixed(from), RangeTime::fixed(until));
            let ask = Ask::Prometheus { range: Some(Range { start, end, step }) };
            let (text, source) = (question.text.to_owned(), question.source.clone());
            Query { text, source: Source { ask, ..source }, labelled: true, ..Query::default() }
        };
        let queries: Vec<Query> = learner.due().iter().map(query).collect();
        if queries.is_empty() {
            return learner.finish(now).unwrap();
        }
        let mut answers = Vec::new();
        for query in &queries {
            let Sample::Lines(lines) = source.query(query).await.unwrap().sample else { panic!() };
            answers.push(lines);
        }
        learner.take(answers);
    }
}

#[tokio::test]
async fn a_real_prometheus_teaches_the_same_as_the_one_in_memory() {
    let Some(real) = Prometheus::start().await else {
        let reason = "prometheus cannot be started: set PROMETHEUS or install the package";
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{reason}");
        println!("SKIP: {reason}");
        return;
    };
    let now = Timestamp::from_second(SystemClock.now().as_second()).unwrap();
    let all = series(now, 180);
    real.write(&all).await;
    let default = Some(Server::at(&real.url).unwrap());
    let pool = Pool::new(Catalog { default, ..Catalog::default() }).unwrap();
    let db = Arc::new(RwLock::new(stored(&all)));
    let memory = TsdbSource::new(Engine::default(), db, Arc::new(SystemClock));
    let learnt = learn(learner(now), &pool, now).await;
    assert_eq!(learnt.windows.len(), 4, "{learnt}");
    assert_eq!(learnt, learn(learner(now), &memory, now).await);
}

/// A cluster whose Rollout compares on its first step.
fn cluster(db: Option<Tsdb>, calibration: Value, traffic: bool) -> Cluster {
    let mut answers = pods::Behaviours::default();
    answers.set_usual(0.02, pods::Latency { median_seconds: 0.02, sigma: 0.5 });
    let mut cluster = Cluster::new(Options {
        start: start(),
        seed: SEED,
        kubelet: Behaviours::default(),
        answers,
        visitors: (traffic.then(|| Visitor::plain("web.test")).into_iter().collect(), 200.0),
    })
    .unwrap();
    db.into_iter().for_each(|db| cluster.begin_with(db));
    let shape = Shape {
        replicas: 10,
        max_surge: json!("25%"),
        max_unavailable: json!("25%"),
        routed: true,
        steps: json!([
            {"replicas": "20%", "traffic": "20%", "analysis": {"templates": [{"templateName": "errors"}]}},
            {"replicas": "100%", "traffic": "100%"},
        ]),
        ready_after: SignedDuration::from_secs(1),
    };
    let server = &cluster.server;
    for object in [
        shape.deployment("web:v1"),
        Shape::service(),
        Shape::route(),
        template(calibration),
        shape.rollout(),
    ] {
        server.create(USER, object).unwrap();
    }
    cluster
}

fn condition(server: &ApiServer) -> Value {
    let rollout = get(server, &rollouts(), WEB);
    let all = rollout["status"]["conditions"].as_array().cloned().unwrap_or_default();
    all.into_iter().find(|c| c["type"] == "Calibrated").unwrap_or_default()
}

fn said(server: &ApiServer) -> String {
    condition(server)["message"].as_str().unwrap_or_default().to_owned()
}

/// The step's run of the only release.
fn run(server: &ApiServer) -> Value {
    let run = server.list(&runs(), Some(NAMESPACE)).into_iter().next();
    run.map(|run| (*run).clone()).unwrap_or_default()
}

async fn released(cluster: &mut Cluster) -> Value {
    set_image(&cluster.server, "web:v2");
    let over = |server: &ApiServer| !run(server)["status"]["completedAt"].is_null();
    assert!(cluster.run_while(seconds(1_200), over).await, "{}", run(&cluster.server));
    run(&cluster.server)
}

#[tokio::test]
async fn a_release_is_judged_by_what_was_learnt_of_the_past() {
    let calibration = json!({"history": "4h", "window": "10m"});
    let mut cluster = cluster(Some(past()), calibration, true);
    cluster.run_for(seconds(60)).await;
    let kept = get(&cluster.server, &config_maps(), "web-calibration");
    let owner = &kept["metadata"]["ownerReferences"][0];
    assert_eq!((owner["kind"].as_str(), owner["name"].as_str()), (Some("Rollout"), Some(WEB)));
    let text = kept["data"]["calibration.json"].as_str().unwrap();
    assert!(text.contains("\"schema\":1"), "{text}");
    assert!(kept.to_string().len() < 20_000, "{}", kept.to_string().len());
    let found = condition(&cluster.server);
    assert_eq!(
        (found["status"].as_str(), found["reason"].as_str()),
        (Some("True"), Some("Learnt"))
    );
    assert!(
        said(&cluster.server).starts_with("24 windows of 10 min and 10 pods until 2026-01-01T00:0")
    );
    let run = released(&mut cluster).await;
    let message = run["status"]["calibration"]["message"].as_str().unwrap();
    let expected = "calibrated to alpha 5% on 24 windows of 10 min and 10 pods, so few that their \
                    differences are allowed for besides; too few pods were born in them to know \
                    their warm-up";
    assert_eq!(message, expected);
    assert_eq!(run["status"]["phase"], "Successful");
    let result = &run["status"]["metricResults"][0];
    let last = result["measurements"].as_array().unwrap().last().unwrap();
    assert!(last["explanation"].as_str().unwrap().ends_with(expected), "{last}");
}

#[tokio::test]
async fn what_was_learnt_outlives_the_controller_and_is_learnt_anew_by_the_schedule() {
    let calibration = json!({"history": "4h", "window": "10m", "schedule": "0 * * * *"});
    let mut cluster = cluster(Some(past()), calibration, false);
    cluster.run_for(seconds(60)).await;
    let version = |cluster: &Cluster| {
        let kept = get(&cluster.server, &config_maps(), "web-calibration");
        kept["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned()
    };
    let first = version(&cluster);
    assert!(!first.is_empty());
    cluster.kill_controller();
    cluster.start_controller();
    cluster.run_for(seconds(60)).await;
    assert_eq!(version(&cluster), first, "it was read, not learnt again");
    assert_eq!(condition(&cluster.server)["status"], "True");
    cluster.run_until(start() + SignedDuration::from_mins(62)).await;
    assert_ne!(version(&cluster), first, "at one o'clock it is learnt again");
}

#[tokio::test]
async fn without_a_past_the_condition_and_the_run_say_why_and_the_release_goes_on() {
    let mut cluster = cluster(None, short(), true);
    cluster.run_for(seconds(60)).await;
    let found = condition(&cluster.server);
    assert_eq!(
        (found["status"].as_str(), found["reason"].as_str()),
        (Some("False"), Some("Unusable"))
    );
    let why = said(&cluster.server);
    let expected = "none of 24 windows can be used: 24 because, as of one of them, it has series at 0 of \
                    41 ticks";
    assert_eq!(why, expected);
    let run = released(&mut cluster).await;
    let message = run["status"]["calibration"]["message"].as_str().unwrap();
    assert!(
        message.starts_with("not calibrated: nothing was learnt at 2026-01-01T00:00:"),
        "{message}"
    );
    assert!(message.ends_with(expected), "{message}");
    assert_eq!(run["status"]["phase"], "Successful");
}

#[tokio::test]
async fn a_calibration_that_is_taken_out_is_forgotten() {
    let mut cluster = cluster(Some(past()), short(), true);
    cluster.run_for(seconds(60)).await;
    assert_eq!(condition(&cluster.server)["status"], "True");
    let templates = ResourceKey::new("sluice.dev", "v1beta1", "analysistemplates");
    let body = json!({"spec": {"calibration": null}});
    cluster.server.patch_merge(USER, &templates, NAMESPACE, "errors", body).unwrap();
    cluster.run_for(seconds(5)).await;
    assert_eq!(condition(&cluster.server), Value::Null);
    let run = released(&mut cluster).await;
    let message = "not calibrated: the template has no calibration";
    assert_eq!(run["status"]["calibration"], json!({"message": message}));
    let measurements = run["status"]["metricResults"][0]["measurements"].as_array().unwrap();
    let explanation = measurements.last().unwrap()["explanation"].as_str().unwrap();
    assert!(explanation.ends_with(message), "{explanation}");
}
