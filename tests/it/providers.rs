//! A template's way through a real Prometheus: from the query to the verdict.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sluice::analysis::{
    ErrorKind, NamedTemplate, Outcome, Query, ReleaseContext, Sample, Source, Verdict, build_run,
    plan, record_all, verdict,
};
use sluice::api::{AnalysisPhase, AnalysisRun};
use sluice::providers::{Catalog, Pool, Server, run_due};
use sluice::spec::AnalysisStanza;

use crate::prometheus::Prometheus;

/// A pool whose default server is a real Prometheus; none where none can be started.
async fn real() -> Option<(Prometheus, Pool)> {
    let Some(real) = Prometheus::start().await else {
        let reason = "prometheus cannot be started: set PROMETHEUS or install the package";
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{reason}");
        println!("SKIP: {reason}");
        return None;
    };
    let default = Some(Server::at(&real.url).unwrap());
    let pool = Pool::new(Catalog { default, ..Catalog::default() }).unwrap();
    Some((real, pool))
}

fn query(text: &str) -> Query {
    Query {
        metric: text.to_owned(),
        namespace: "shop".to_owned(),
        source: Source::default(),
        text: text.to_owned(),
    }
}

#[tokio::test]
async fn a_real_prometheus_is_understood() {
    let Some((_real, pool)) = real().await else { return };
    let expected: BTreeMap<&str, &str> = BTreeMap::from([
        ("scalar(vector(1.5))", "1.5"),
        ("vector(1.5)", "[1.5]"),
        ("vector(0) / 0", "[NaN]"),
        ("vector(1) / 0", "[+Inf]"),
        ("-vector(1) / 0", "[-Inf]"),
        ("no_such_metric", "[]"),
        ("vector(1) > 2", "[]"),
        (r#"vector(0.1) or label_replace(vector(0.2), "a", "b", "", "")"#, "[0.1,0.2]"),
        ("vector(1e-12)", "[0.000000000001]"),
    ]);
    let outcomes = run_due(&pool, expected.keys().map(|text| query(text)).collect()).await;
    for (text, outcome) in outcomes {
        let Outcome::Answer { sample, .. } = outcome else { panic!("{text}: {outcome:?}") };
        assert_eq!(sample.to_string(), expected[text.as_str()], "{text}");
    }
}

#[tokio::test]
async fn a_real_prometheus_refuses_in_its_own_words() {
    let Some((_real, pool)) = real().await else { return };
    let invalid = r#"label_replace(vector(1), "no-label", "x", "", "")"#;
    let due = vec![query("sum("), query(invalid)];
    for ((text, outcome), words) in
        run_due(&pool, due).await.into_iter().zip(["400 Bad Request: bad_data: ", "execution: "])
    {
        let Outcome::Error(error) = outcome else { panic!("{text}: {outcome:?}") };
        assert_eq!(error.kind, ErrorKind::Refused, "{text}: {error}");
        assert!(error.message.contains(words), "{text}: {error}");
    }
}

fn run_asking(query: &str) -> AnalysisRun {
    let spec = serde_json::from_value(json!({
        "args": [{"name": "max", "value": "0.01"}],
        "metrics": [{"name": "errors", "interval": "30s", "count": 3,
            "successCondition": "result[0] <= {{args.max}}",
            "provider": {"prometheus": {"query": query}}}],
    }))
    .unwrap();
    let templates = [NamedTemplate { name: "errors".to_owned(), spec: &spec }];
    let stanza = AnalysisStanza { templates: vec![], args: vec![], timeout: None };
    let context = ReleaseContext { stable: "a", canary: "b", rollout: &Value::Null, release: None };
    build_run("web-1", "shop", None, &templates, &stanza, &context).unwrap()
}

/// Plans, asks and records at `now`, and says when to look again.
async fn tick(run: &mut AnalysisRun, pool: &Pool, now: Timestamp) -> Option<Timestamp> {
    let planned = plan(run, now);
    run.status = Some(planned.status);
    let answers = run_due(pool, planned.due).await;
    run.status = Some(record_all(run, answers, now));
    plan(run, now).wake
}

/// Runs until the end or until `ticks` are over; the time is ours, the answers are Prometheus'.
async fn play(run: &mut AnalysisRun, pool: &Pool, ticks: usize) -> Timestamp {
    let mut now = Timestamp::from_second(1_700_000_000).unwrap();
    for _ in 0..ticks {
        match tick(run, pool, now).await {
            Some(wake) => now = wake,
            None => return now,
        }
    }
    now
}

#[tokio::test]
async fn a_good_answer_passes_a_bad_one_fails_with_its_numbers_and_none_waits() {
    let Some((_real, pool)) = real().await else { return };
    let mut good = run_asking("vector(0.001)");
    play(&mut good, &pool, 10).await;
    assert_eq!(verdict(&good), Verdict::Pass);

    let mut bad = run_asking("vector(0.0731)");
    play(&mut bad, &pool, 10).await;
    let reason = "errors: 0.0731 > 0.01 in 1 of 1 measurements; query vector(0.0731)".to_owned();
    assert_eq!(verdict(&bad), Verdict::Fail { reason });

    for (query, words) in [("vector(0) / 0", "NaN"), ("no_such_metric", "empty result")] {
        let mut none = run_asking(query);
        play(&mut none, &pool, 20).await;
        let Verdict::Continue { reason, .. } = verdict(&none) else { panic!("{query}") };
        assert!(reason.contains(words) && reason.contains("20 in a row"), "{reason}");
    }
}

#[tokio::test]
async fn a_prometheus_that_dies_holds_the_run() {
    let Some((real, pool)) = real().await else { return };
    let mut run = run_asking("vector(0.001)");
    let now = play(&mut run, &pool, 2).await;
    assert_eq!(run.status.as_ref().unwrap().metric_results[0].count, 2);
    let address = real.url.clone();
    drop(real);
    let mut now = now;
    for _ in 0..10 {
        now = tick(&mut run, &pool, now).await.unwrap();
    }
    assert_eq!(run.status.as_ref().unwrap().phase, Some(AnalysisPhase::Running));
    let Verdict::Continue { reason, since } = verdict(&run) else { panic!("not waiting") };
    let words = format!("waiting for data: errors: provider unreachable: {address}: ");
    assert!(reason.starts_with(&words) && reason.contains("10 in a row"), "{reason}");
    assert_eq!(since, Some(now - SignedDuration::from_secs(100)));
    assert_eq!(Sample::Empty.single(), None, "no data has no number");
}
