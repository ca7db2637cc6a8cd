//! Measuring for a long time needs no more memory than measuring for a short one: the status of a run, and
//! the process as a whole.

use std::process::Command;

use axum::Router;
use axum::routing::post;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sluice::analysis::{NamedTemplate, ReleaseContext, build_run, plan, record_all};
use sluice::api::AnalysisRun;
use sluice::providers::{Catalog, Pool, Server, run_due};
use sluice::spec::AnalysisStanza;

/// Runs x metrics x ticks: 100,000 measurements.
const RUNS: usize = 10;
const METRICS: usize = 10;
const TICKS: usize = 1_000;
/// A run lives so long and is followed by one that asks something else; the first one stays.
const LIFE: usize = 100;

#[test]
fn memory_does_not_grow_over_a_hundred_thousand_measurements() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "bounded::a_hundred_thousand_measurements", "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{said}");
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("1 passed"), "{said}");
}

fn run(number: usize, life: usize) -> AnalysisRun {
    let metric = |i: usize| {
        json!({"name": format!("m{i}"), "interval": "10s", "failureLimit": -1,
            "consecutiveSuccessLimit": 1_000_000,
            "successCondition": "result[0] >= 0",
            "provider": {"prometheus": {"query": format!("vector({number}{life}{i})")}}})
    };
    let metrics: Vec<Value> = (0..METRICS).map(metric).collect();
    let spec = serde_json::from_value(json!({"metrics": metrics})).unwrap();
    let templates = [NamedTemplate { name: "t".to_owned(), spec: &spec }];
    let context = ReleaseContext { stable: "a", canary: "b", rollout: &Value::Null, release: None };
    let name = format!("web-{number}-{life}");
    build_run(&name, "shop", None, &templates, &AnalysisStanza::default(), &context).unwrap()
}

/// Kilobytes of memory that this process holds.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn size(run: &AnalysisRun) -> usize {
    serde_json::to_string(&run.status).unwrap().len()
}

#[tokio::test]
#[ignore = "the test above runs it in a process of its own, whose memory nobody else uses"]
async fn a_hundred_thousand_measurements() {
    let _already = rustls::crypto::ring::default_provider().install_default();
    let answer = r#"{"status":"success","data":{"resultType":"vector","result":[
        {"metric":{},"value":[1,"0.01"]}]}}"#;
    let app = Router::new().route("/api/v1/query", post(move || async move { answer }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut server = Server::at(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    (server.concurrent, server.per_second) = (64, 1_000_000);
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let pool = Pool::new(Catalog { default: Some(server), ..Catalog::default() }).unwrap();

    let mut runs: Vec<AnalysisRun> = (0..RUNS).map(|number| run(number, 0)).collect();
    let mut now = Timestamp::from_second(1_700_000_000).unwrap();
    let (mut measured, mut early) = (0, (0, 0));
    for tick in 1..=TICKS {
        for (number, one) in runs.iter_mut().enumerate() {
            if number > 0 && tick % LIFE == 0 {
                *one = run(number, tick / LIFE);
            }
            let planned = plan(one, now);
            one.status = Some(planned.status);
            measured += planned.due.len();
            let answers = run_due(&pool, planned.due).await;
            one.status = Some(record_all(one, answers, now));
        }
        now += SignedDuration::from_secs(10);
        if tick == TICKS / 10 {
            early = (resident(), size(&runs[0]));
        }
    }
    assert_eq!(measured, RUNS * METRICS * TICKS);
    let late = (resident(), size(&runs[0]));
    println!("{measured} measurements: {early:?} kB and bytes of status, then {late:?}");
    // Counters gain digits: two a metric.
    assert!(late.1 <= early.1 + 8 * METRICS, "{early:?} {late:?}");
    // What the allocator keeps varies by some megabytes.
    assert!(late.0 <= early.0 + 16_000, "{early:?} {late:?}");
}
