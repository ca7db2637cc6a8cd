//! Native histograms of a real Prometheus: what it stores and answers is what a comparison judges.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sluice::analysis::{
    NamedTemplate, ReleaseContext, Verdict, build_run, plan, record_all, verdict,
};
use sluice::api::AnalysisRun;
use sluice::api::analysis_run::RunRelease;
use sluice::clock::{Clock, SystemClock};
use sluice::providers::{Catalog, Pool, Server, run_due};
use sluice::sim::promql::Labels;
use sluice::spec::AnalysisStanza;

use crate::prometheus::{NativeSeries, Prometheus, SERVERS};

const METRIC: &str = "http_request_duration_seconds";

/// A pod's histogram after so many ticks of a hundred requests, all but `slow` of which take about
/// 0.42 to 0.5 s and those 1.7 to 2 s. The canary's resolution is finer.
fn histogram(pod: &str, at: Timestamp, ticks: u64, (requests, slow): (u64, u64)) -> NativeSeries {
    let schema = if pod.contains("7f9c") { 3 } else { 2 };
    let per_doubling = 1 << schema;
    NativeSeries {
        labels: Labels::new(METRIC, [("pod", pod)]),
        at: at.as_millisecond(),
        schema,
        sum: 0.5 * (requests * ticks) as f64,
        zero: ticks,
        // The bucket with index i ends at 2^(i/2^schema).
        buckets: vec![(-per_doubling, (requests - slow) * ticks), (per_doubling, slow * ticks)],
    }
}

fn comparing() -> AnalysisRun {
    let spec = serde_json::from_value(json!({"metrics": [
        {"name": "latency", "compare": {"histogram": METRIC, "harmful": "50%"}},
    ]}))
    .unwrap();
    let templates = [NamedTemplate { name: "latency".to_owned(), spec: &spec }];
    let stanza = AnalysisStanza::default();
    let release = RunRelease {
        rollout: "web".to_owned(),
        id: "r1".to_owned(),
        scope: "1".to_owned(),
        stable: Some("5d4b".to_owned()),
        canary: Some("7f9c".to_owned()),
        ..RunRelease::default()
    };
    let context = ReleaseContext {
        stable: "5d4b",
        canary: "7f9c",
        rollout: &Value::Null,
        release: Some(&release),
    };
    build_run("web-1", "shop", None, &templates, &stanza, &context).unwrap()
}

/// The verdict on a canary of which so many of a hundred requests are slow, where five of a hundred are.
async fn judged(real: &Prometheus, slow: u64) -> (Verdict, AnalysisRun) {
    let default = Some(Server::at(&real.url).unwrap());
    let pool = Pool::new(Catalog { default, ..Catalog::default() }).unwrap();
    let mut run = comparing();
    let start = SystemClock.now();
    // The runs' clock is ours: a tick is fifteen of its seconds and some milliseconds of the server's.
    for tick in 0..240 {
        let written = SystemClock.now();
        real.write_native(&[
            histogram("web-7f9c-a", written, tick + 1, (100, slow)),
            histogram("web-5d4b-a", written, tick + 1, (900, 45)),
        ])
        .await;
        let now = start + SignedDuration::from_secs(15 * tick as i64);
        let planned = plan(&run, now);
        run.status = Some(planned.status);
        let answers = run_due(&pool, planned.due).await;
        run.status = Some(record_all(&run, answers, now));
        if !matches!(verdict(&run), Verdict::Continue { .. }) {
            break;
        }
    }
    (verdict(&run), run)
}

#[tokio::test]
async fn native_histograms_of_a_real_prometheus_are_judged_by_their_buckets() {
    for server in SERVERS {
        let Some(real) = Prometheus::of(server).await else { continue };
        let (slower, run) = judged(&real, 20).await;
        assert!(matches!(slower, Verdict::Fail { .. }), "{slower:?}");
        let evidence = run.status.unwrap().metric_results[0].evidence.clone().unwrap();
        // 20 of 101 against 45 of 901: each tick has one request in the bucket of zero.
        assert!((evidence.ratio.unwrap() - 4.0).abs() < 0.1, "{evidence:?}");
        let half = &evidence.quantiles[0];
        assert!(half.canary > 0.4 && half.canary <= 0.5 && half.stable <= 0.5, "{half:?}");

        let Some(real) = Prometheus::of(server).await else { continue };
        let (equal, run) = judged(&real, 5).await;
        assert!(matches!(equal, Verdict::Pass), "{equal:?} {:?}", run.status);
    }
}
