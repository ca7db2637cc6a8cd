//! A thousand AnalysisRuns with five metrics each, every 15 seconds, against one local server.
//!
//! What is measured is the scheduling delay: from the instant a query is due until the server has it.
//! `POOL_SECONDS` says for how long (default 20), `POOL_RUNS` how many runs.
#![allow(clippy::disallowed_methods, clippy::expect_used, reason = "a bench measures real time")]
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "a bench's figures"
)]

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::post;
use jiff::Timestamp;
use serde_json::json;
use sluice::analysis::{plan, record_all};
use sluice::api::AnalysisRun;
use sluice::clock::{Clock, SystemClock};
use sluice::providers::{Catalog, Pool, Server, run_due};

/// Seconds between two measurements of a metric.
const INTERVAL: u64 = 15;
/// Metrics of a run.
const METRICS: usize = 5;

const ANSWER: &str = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"0.5"]}]}}"#;

/// When each query was due, and how late each came.
#[derive(Clone, Default)]
struct Delays {
    due: Arc<Mutex<HashMap<String, Timestamp>>>,
    late: Arc<Mutex<Vec<Duration>>>,
    asked: Arc<AtomicUsize>,
}

impl Delays {
    fn came(&self, query: &str) {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let now = SystemClock.now();
        let due = self.due.lock().expect("no panic holds it").remove(query);
        if let Some(due) = due {
            let late = Duration::try_from(now.duration_since(due)).unwrap_or_default();
            self.late.lock().expect("no panic holds it").push(late);
        }
    }

    fn report(&self, what: &str, took: Duration) {
        let mut late = self.late.lock().expect("no panic holds it").clone();
        late.sort();
        let at = |share: f64| {
            let index = (late.len() as f64 * share) as usize;
            late.get(index.min(late.len().saturating_sub(1))).copied().unwrap_or_default()
        };
        println!(
            "{what}: {} queries in {:.1} s, {:.0} a second; delay p50 {:.1} ms, p99 {:.1} ms, \
             longest {:.1} ms",
            self.asked.load(Ordering::Relaxed),
            took.as_secs_f64(),
            self.asked.load(Ordering::Relaxed) as f64 / took.as_secs_f64(),
            at(0.5).as_secs_f64() * 1e3,
            at(0.99).as_secs_f64() * 1e3,
            at(1.0).as_secs_f64() * 1e3,
        );
    }
}

async fn serve(delays: Delays, hangs: bool) -> String {
    let handler = move |body: String| async move {
        delays.came(body.strip_prefix("query=").unwrap_or_default());
        if hangs {
            std::future::pending::<()>().await;
        }
        ANSWER
    };
    let router = Router::new().route("/api/v1/query", post(handler));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = format!("http://{}", listener.local_addr().expect("it is bound"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

fn run_of(number: usize, same: bool, address: Option<&str>) -> AnalysisRun {
    let metrics: Vec<_> = (0..METRICS)
        .map(|metric| {
            let query = if same { format!("m{metric}") } else { format!("m{metric}_r{number}") };
            let mut prometheus = json!({"query": query});
            if let Some(address) = address {
                prometheus["address"] = json!(address);
            }
            json!({"name": format!("m{metric}"), "interval": format!("{INTERVAL}s"),
                "successCondition": "result[0] <= 1", "provider": {"prometheus": prometheus}})
        })
        .collect();
    serde_json::from_value(json!({
        "apiVersion": "sluice.dev/v1beta1", "kind": "AnalysisRun",
        "metadata": {"name": format!("run-{number}"), "namespace": "bench"},
        "spec": {"metrics": metrics},
    }))
    .expect("a run")
}

/// Plans, asks and records until `end`, as the controller does.
async fn play(mut run: AnalysisRun, pool: Pool, delays: Delays, first: Timestamp, end: Instant) {
    let mut due = first;
    while Instant::now() < end {
        let wait = Duration::try_from(due.duration_since(SystemClock.now())).unwrap_or_default();
        tokio::time::sleep(wait).await;
        let planned = plan(&run, SystemClock.now());
        run.status = Some(planned.status);
        {
            let mut known = delays.due.lock().expect("no panic holds it");
            known.extend(planned.due.iter().map(|query| (query.text.clone(), due)));
        }
        let answers = run_due(&pool, planned.due).await;
        let now = SystemClock.now();
        run.status = Some(record_all(&run, answers, now));
        let Some(wake) = plan(&run, now).wake else { return };
        due = wake;
    }
}

async fn case(what: &str, runs: usize, seconds: u64, same: bool, hanging: usize) {
    let (delays, lost) = (Delays::default(), Delays::default());
    let mut default = Server::at(&serve(delays.clone(), false).await).expect("an address");
    default.concurrent = 64;
    default.per_second = 2_000;
    let black_hole = serve(lost.clone(), true).await;
    let pool = Pool::new(Catalog { default: Some(default), ..Catalog::default() }).expect("a pool");
    let (begin, start) = (Instant::now(), SystemClock.now());
    let end = begin + Duration::from_secs(seconds);
    let tasks: Vec<_> = (0..runs)
        .map(|number| {
            let hangs = number < hanging;
            let spread = Duration::from_secs(INTERVAL).mul_f64(number as f64 / runs as f64);
            let first = start + jiff::SignedDuration::try_from(spread).expect("a short time");
            let address = hangs.then_some(black_hole.as_str());
            let log = if hangs { lost.clone() } else { delays.clone() };
            tokio::spawn(play(run_of(number, same, address), pool.clone(), log, first, end))
        })
        .collect();
    tokio::time::sleep_until(end.into()).await;
    delays.report(what, begin.elapsed());
    for task in tasks {
        task.abort();
    }
}

fn main() {
    let number = |name: &str, default: u64| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let (seconds, runs) = (number("POOL_SECONDS", 20), number("POOL_RUNS", 1_000) as usize);
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        case("all different", runs, seconds, false, 0).await;
        case("all the same", runs, seconds, true, 0).await;
        case("100 runs ask a server that hangs", runs, seconds, false, 100.min(runs)).await;
    });
}
