//! A template's way through a real Prometheus: from the query to the verdict.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sluice::analysis::{
    Ask, ErrorKind, NamedProvider, NamedTemplate, Outcome, Query, Range, RangeTime, ReleaseContext,
    Sample, Verdict, build_run, plan, record_all, verdict,
};
use sluice::api::{AnalysisPhase, AnalysisRun};
use sluice::providers::{Catalog, MetricSource, Pool, Server, run_due};
use sluice::spec::AnalysisStanza;

use crate::example::Example;
use crate::prometheus::{Prometheus, SERVERS};

/// Pools whose default server is a real Prometheus, one of version 2 and one of version 3; fewer where
/// they cannot be started.
async fn reals() -> Vec<(Prometheus, Pool)> {
    let mut all = Vec::new();
    for server in SERVERS {
        let Some(real) = Prometheus::of(server).await else { continue };
        let default = Some(Server::at(&real.url).unwrap());
        let pool = Pool::new(Catalog { default, ..Catalog::default() }).unwrap();
        all.push((real, pool));
    }
    all
}

fn query(text: &str) -> Query {
    Query {
        metric: text.to_owned(),
        namespace: "shop".to_owned(),
        text: text.to_owned(),
        ..Query::default()
    }
}

#[tokio::test]
async fn a_real_prometheus_is_understood() {
    for (_real, pool) in reals().await {
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
}

#[tokio::test]
async fn a_real_prometheus_refuses_in_its_own_words() {
    for (_real, pool) in reals().await {
        let invalid = r#"label_replace(vector(1), "a", "x", "", "(")"#;
        let due = vec![query("sum("), query(invalid)];
        for ((text, outcome), words) in run_due(&pool, due)
            .await
            .into_iter()
            .zip(["400 Bad Request: bad_data: ", "execution: "])
        {
            let Outcome::Error(error) = outcome else { panic!("{text}: {outcome:?}") };
            assert_eq!(error.kind, ErrorKind::Refused, "{text}: {error}");
            assert!(error.message.contains(words), "{text}: {error}");
        }
    }
}

#[tokio::test]
async fn a_real_prometheus_answers_ranges_with_every_point_of_every_series() {
    for (_real, pool) in reals().await {
        let time = |text: &str| RangeTime::parse(text).unwrap();
        let range = Range {
            start: time("now() - duration(\"1m\")"),
            end: time("now()"),
            step: SignedDuration::from_secs(20),
        };
        let two = r#"vector(1) or label_replace(vector(2), "a", "b", "", "")"#;
        for (text, sample) in [
            ("scalar(vector(1.5))", "[1.5,1.5,1.5,1.5]"),
            (two, "[1,1,1,1,2,2,2,2]"),
            ("no_such_metric", "[]"),
        ] {
            let ask = Ask::Prometheus { range: Some(range.clone()) };
            let mut asked = query(text);
            asked.source.ask = ask;
            let outcome = run_due(&pool, vec![asked]).await.remove(0).1;
            let Outcome::Answer { sample: found, .. } = outcome else {
                panic!("{text}: {outcome:?}")
            };
            assert_eq!(found.to_string(), sample, "{text}");
        }
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
    let stanza = AnalysisStanza::default();
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
    for (_real, pool) in reals().await {
        let mut good = run_asking("vector(0.001)");
        play(&mut good, &pool, 10).await;
        assert_eq!(verdict(&good), Verdict::Pass);

        let mut bad = run_asking("vector(0.0731)");
        play(&mut bad, &pool, 10).await;
        let reason = "errors: 0.0731 > 0.01 in 1 of 1 measurements".to_owned();
        assert_eq!(verdict(&bad), Verdict::Fail { reason });

        for (query, words) in [("vector(0) / 0", "NaN"), ("no_such_metric", "empty result")] {
            let mut none = run_asking(query);
            play(&mut none, &pool, 20).await;
            let Verdict::Continue { reason, .. } = verdict(&none) else { panic!("{query}") };
            assert!(reason.contains(words) && reason.contains("20 in a row"), "{reason}");
        }
    }
}

#[tokio::test]
async fn a_prometheus_that_dies_holds_the_run() {
    for (real, pool) in reals().await {
        let mut run = run_asking("vector(0.001)");
        let now = play(&mut run, &pool, 2).await;
        assert_eq!(run.status.as_ref().unwrap().metric_results[0].count, 2);
        let address = real.url.clone();
        drop(real);
        // A pool that has no answer of this second: the run's time is ours, the pool's is not.
        let default = Some(Server::at(&address).unwrap());
        let pool = Pool::new(Catalog { default, ..Catalog::default() }).unwrap();
        let first = now;
        let mut now = now;
        for _ in 0..10 {
            now = tick(&mut run, &pool, now).await.unwrap();
        }
        assert_eq!(run.status.as_ref().unwrap().phase, Some(AnalysisPhase::Running));
        let Verdict::Continue { reason, since } = verdict(&run) else { panic!("not waiting") };
        let words = format!("waiting for data: errors: provider unreachable: {address}: ");
        assert!(reason.starts_with(&words) && reason.contains("10 in a row"), "{reason}");
        assert_eq!(since, Some(first));
        assert_eq!(Sample::Empty.single(), None, "no data has no number");
    }
}

/// A VictoriaMetrics of its own, until the test is over.
struct Victoria {
    process: std::process::Child,
    url: String,
    _data: tempfile::TempDir,
}

impl Drop for Victoria {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _status = self.process.wait();
    }
}

async fn victoria() -> Option<Victoria> {
    let binary = std::env::var("VICTORIA_METRICS");
    let binary = binary.unwrap_or_else(|_| "victoria-metrics".to_owned());
    let data = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let started = std::process::Command::new(binary)
        .arg(format!("-storageDataPath={}", data.path().join("data").display()))
        .arg(format!("-httpListenAddr=127.0.0.1:{port}"))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn();
    let Ok(process) = started else {
        let reason = "there is no VictoriaMetrics: set VICTORIA_METRICS or run tests/tools";
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{reason}");
        println!("SKIP: {reason}");
        return None;
    };
    let victoria = Victoria { process, url: format!("http://127.0.0.1:{port}"), _data: data };
    let _ = rustls::crypto::ring::default_provider().install_default();
    for _ in 0..400 {
        let ready = reqwest::get(format!("{}/health", victoria.url)).await;
        if ready.is_ok_and(|answer| answer.status().is_success()) {
            return Some(victoria);
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("VictoriaMetrics did not become ready on {}", victoria.url);
}

#[tokio::test]
async fn a_real_victoriametrics_is_asked_as_prometheus_is() {
    let Some(victoria) = victoria().await else { return };
    let default = Some(Server::at(&victoria.url).unwrap());
    let pool = Pool::new(Catalog { default, ..Catalog::default() }).unwrap();
    for (text, expected) in [
        ("vector(1.5)", "[1.5]"),
        ("no_such_metric", "[]"),
        ("vector(1) > 2", "[]"),
        ("vector(1) / 0", "[+Inf]"),
    ] {
        let outcome = run_due(&pool, vec![query(text)]).await.remove(0).1;
        let Outcome::Answer { sample, .. } = outcome else { panic!("{text}: {outcome:?}") };
        assert_eq!(sample.to_string(), expected, "{text}");
    }
    let outcome = run_due(&pool, vec![query("sum(")]).await.remove(0).1;
    let Outcome::Error(error) = outcome else { panic!("{outcome:?}") };
    assert_eq!(error.kind, ErrorKind::Refused, "{error}");
}

#[tokio::test]
async fn the_example_plugin_gives_values_and_takes_its_time() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let Some(example) = Example::start("metric-plugin", &[]).await else { return };
    let server = Server::at(&example.address).unwrap();
    let namespaced = BTreeMap::from([(("shop".to_owned(), "own".to_owned()), Ok(server))]);
    let pool = Pool::new(Catalog { namespaced, ..Catalog::default() }).unwrap();
    let asking = |plugin: &str, config: Value| {
        let mut asked = query(&config.to_string());
        asked.source.named = Some(NamedProvider { name: "own".to_owned(), cluster: false });
        asked.source.ask = Ask::Plugin { name: plugin.to_owned() };
        asked
    };
    let age = asking("certificate", json!({"path": env!("CARGO_MANIFEST_DIR")}));
    let Outcome::Answer { sample, .. } = pool.measure(&age).await else { panic!("no value") };
    assert!(sample.single().is_some_and(|days| days >= 0.0), "{sample}");

    let mut soak = asking("soak", json!({"seconds": 3600}));
    let Outcome::Running { notes, .. } = pool.measure(&soak).await else { panic!("not running") };
    soak.asker.notes = Some(BTreeMap::from([("begun".to_owned(), "0".to_owned())]));
    let ended = pool.measure(&soak).await;
    assert!(matches!(ended, Outcome::Ended { phase: AnalysisPhase::Successful, .. }), "{ended:?}");
    assert!(notes.contains_key("begun"));

    let Outcome::Error(error) = pool.measure(&asking("certificate", json!({}))).await else {
        panic!("an answer without a path")
    };
    assert!(error.kind == ErrorKind::Refused && error.message.contains("'path'"), "{error}");
}
