//! A run over time: what is due, what ends it, what a release reads.

use serde_json::json;

use super::*;
use crate::api::analysis_run::RunRelease;

fn errors() -> Metric {
    let fields = json!({"interval": "60s", "count": 3, "successCondition": "result[0] <= 0.01"});
    metric("errors", fields)
}

#[test]
fn prometheus_may_take_an_hour_and_a_signature_needs_no_region() {
    let plan_of = |fields: Value| {
        let mut prometheus = json!({"query": "sum(x)"});
        for (name, value) in fields.as_object().unwrap() {
            prometheus[name] = value.clone();
        }
        plan(&run_of(vec![metric("m", json!({"provider": {"prometheus": prometheus}}))]), START)
    };
    for (seconds, timeout) in [(0, None), (600, Some(600)), (3_600, Some(3_600))] {
        let due = plan_of(json!({"timeout": seconds})).due;
        assert_eq!(due[0].source.timeout, timeout.map(SignedDuration::from_secs));
    }
    let said = plan_of(json!({"timeout": 3_601})).status.message.unwrap();
    assert!(said.contains("prometheus.timeout: 3601 is not between 1 and 3600"), "{said}");
    let arn = json!({"authentication": {"sigv4": {"roleArn": "arn"}}});
    let planned = plan_of(arn);
    let login = &planned.due[0].source.login;
    assert!(matches!(login, Login::SigV4 { region, .. } if region.is_empty()));
}

#[test]
fn a_metric_is_asked_every_interval_until_its_count_and_then_passes() {
    let mut run = run_of(vec![errors()]);
    for (second, expected) in
        [(0, true), (1, false), (59, false), (60, true), (119, false), (120, true)]
    {
        let asked = due(&mut run, at(second));
        assert_eq!(asked.len(), usize::from(expected), "at {second} s");
        if expected {
            assert_ne!(verdict(&run).kind(), crate::api::Verdict::Pass);
            answer(&mut run, &[("errors", one(0.001))], at(second));
        }
    }
    assert_eq!(phase(&run), AnalysisPhase::Successful);
    assert_eq!(verdict(&run), Verdict::Pass);
    let last = plan(&run, at(900));
    assert_eq!((last.due.len(), last.wake), (0, None));
    assert_eq!(Some(last.status), run.status, "a run that is over does not change");
}

#[test]
fn a_query_carries_the_run_s_namespace_and_the_substituted_text() {
    let mut run = run_of(vec![metric(
        "errors",
        json!({"provider": {"ref": "thanos", "clusterScope": true,
               "prometheus": {"query": "sum(x{hash=\"{{ args.hash }}\"})", "timeout": 5}}}),
    )]);
    run.spec.args = serde_json::from_value(json!([{"name": "hash", "value": "abc"}])).unwrap();
    let due = plan(&run, START).due;
    let expected = Query {
        metric: "errors".to_owned(),
        namespace: "shop".to_owned(),
        source: Source {
            named: Some(NamedProvider { name: "thanos".to_owned(), cluster: true }),
            timeout: Some(SignedDuration::from_secs(5)),
            ..Source::default()
        },
        text: "sum(x{hash=\"abc\"})".to_owned(),
        asker: Asker { run: "web-1".to_owned(), ..Asker::default() },
        labelled: false,
    };
    assert_eq!(due, [expected]);
}

#[test]
fn one_failure_fails_the_run_with_the_numbers_and_argos_message() {
    let mut run = run_of(vec![errors()]);
    due(&mut run, START);
    answer(&mut run, &[("errors", one(0.0731))], START);
    assert_eq!(phase(&run), AnalysisPhase::Failed);
    assert_eq!(
        message(&run),
        "Metric \"errors\" assessed Failed due to failed (1) > failureLimit (0)"
    );
    let reason = "errors: 0.0731 > 0.01 in 1 of 1 measurements".to_owned();
    assert_eq!(verdict(&run), Verdict::Fail { reason });
    assert_eq!(run.status.unwrap().completed_at.unwrap().0, START);
}

#[test]
fn a_failed_metric_ends_its_siblings_and_the_worst_gives_the_message() {
    let mut run = run_of(vec![
        metric("slow", json!({"interval": "60s"})),
        errors(),
        metric("late", json!({"initialDelay": "10m", "interval": "60s"})),
    ]);
    assert_eq!(due(&mut run, START), ["slow", "errors"]);
    answer(&mut run, &[("errors", one(0.5)), ("slow", one(1.0))], START);
    assert_eq!(phase(&run), AnalysisPhase::Failed);
    let status = run.status.as_ref().unwrap();
    let phases: Vec<_> = status.metric_results.iter().map(|r| r.phase.unwrap()).collect();
    assert_eq!(
        phases,
        [AnalysisPhase::Successful, AnalysisPhase::Failed, AnalysisPhase::Successful]
    );
    assert_eq!(status.metric_results[0].count, 1, "the sibling's answer is kept");
    let summary = status.run_summary.as_ref().unwrap();
    assert_eq!((summary.count, summary.successful, summary.failed), (3, 2, 1));
    assert!(due(&mut run, at(600)).is_empty());
}

#[test]
fn the_first_measurement_waits_for_its_delay_and_the_plan_wakes_then() {
    let mut run = run_of(vec![metric("m", json!({"initialDelay": "20s"}))]);
    let first = plan(&run, START);
    assert_eq!((first.due.len(), first.wake), (0, Some(at(20))));
    run.status = Some(first.status);
    assert!(due(&mut run, at(10)).is_empty());
    assert_eq!(due(&mut run, at(20)), ["m"]);
}

#[test]
fn an_error_is_tried_again_after_ten_seconds_whatever_the_interval() {
    let mut run = run_of(vec![metric("m", json!({"interval": "5m"}))]);
    due(&mut run, START);
    answer(&mut run, &[("m", down())], START);
    let planned = plan(&run, START);
    assert_eq!((planned.due.len(), planned.wake), (0, Some(at(10))));
    assert_eq!(due(&mut run, at(10)), ["m"]);
}

#[test]
fn a_provider_that_asks_for_time_gets_it_within_bounds() {
    for (asked, given) in [(60, 60), (3, 10), (9_000, 300)] {
        let mut run = run_of(vec![metric("m", json!({}))]);
        let limited = Outcome::Error(QueryError {
            kind: ErrorKind::RateLimited,
            message: "429".to_owned(),
            retry_after: Some(SignedDuration::from_secs(asked)),
        });
        answer(&mut run, &[("m", limited)], START);
        assert_eq!(plan(&run, START).wake, Some(at(given)), "asked for {asked} s");
    }
}

#[test]
fn a_dead_provider_holds_the_run_for_hours_says_so_and_lets_it_go_on_afterwards() {
    let mut run = run_of(vec![errors()]);
    let mut now = START;
    let mut pauses = Vec::new();
    while now < at(7_200) {
        assert_eq!(due(&mut run, now), ["errors"]);
        answer(&mut run, &[("errors", down())], now);
        let wake = plan(&run, now).wake.unwrap();
        pauses.push(wake.duration_since(now).as_secs());
        now = wake;
    }
    assert_eq!(pauses[..4], [10, 20, 40, 60], "it backs off up to the interval");
    assert_eq!(phase(&run), AnalysisPhase::Running);
    let reason = "waiting for data: errors: provider unreachable: http://prometheus:9090: \
                  connection refused (122 in a row since 2023-11-14T22:13:20Z)";
    assert_eq!(message(&run), reason);
    assert_eq!(verdict(&run), Verdict::Continue { reason: reason.to_owned(), since: Some(START) });
    assert_eq!(run.status.as_ref().unwrap().metric_results[0].measurements.len(), 10);
    for _ in 0..3 {
        assert_eq!(due(&mut run, now), ["errors"]);
        answer(&mut run, &[("errors", one(0.001))], now);
        now += SignedDuration::from_secs(60);
    }
    assert_eq!(verdict(&run), Verdict::Pass);
    assert_eq!(message(&run), "");
}

#[test]
fn a_fixed_error_retry_is_what_argo_does() {
    let fields = json!({"interval": "60s", "errorRetry": "10s"});
    let mut run = run_of(vec![metric("m", fields)]);
    for tick in 0..20 {
        assert_eq!(due(&mut run, at(tick * 10)), ["m"]);
        answer(&mut run, &[("m", down())], at(tick * 10));
    }
    let refused = run_of(vec![metric("m", json!({"errorRetry": "0s"}))]);
    let said = plan(&refused, START).status.message.unwrap();
    assert!(said.contains("errorRetry must be 1s or more"), "{said}");
}

#[test]
fn a_limit_on_errors_ends_the_run_and_the_release_still_cannot_tell() {
    let mut run = run_of(vec![metric("m", json!({"consecutiveErrorLimit": 1}))]);
    for second in [0, 10] {
        due(&mut run, at(second));
        answer(&mut run, &[("m", Sample::Empty.into())], at(second));
    }
    assert_eq!(phase(&run), AnalysisPhase::Error);
    let reason = "Metric \"m\" assessed Error due to consecutiveErrors (2) > consecutiveErrorLimit \
                  (1): \"Error Message: no data: the query returned an empty result\"";
    assert_eq!(verdict(&run), Verdict::Inconclusive { reason: reason.to_owned() });
}

#[test]
fn a_metric_whose_errors_are_ignored_does_not_decide_but_alone_it_is_no_pass() {
    let ignored = || metric("extra", json!({"onError": "Pass", "consecutiveErrorLimit": 0}));
    let mut run = run_of(vec![ignored(), errors()]);
    answer(&mut run, &[("extra", down()), ("errors", one(0.0))], START);
    assert_eq!(phase(&run), AnalysisPhase::Running);
    for second in [60, 120] {
        assert_eq!(due(&mut run, at(second)), ["errors"]);
        answer(&mut run, &[("errors", one(0.0))], at(second));
    }
    assert_eq!(verdict(&run), Verdict::Pass);

    let mut alone = run_of(vec![ignored()]);
    answer(&mut alone, &[("extra", down())], START);
    let reason = "no metric had any data".to_owned();
    assert_eq!(verdict(&alone), Verdict::Inconclusive { reason });
}

#[test]
fn an_endless_metric_runs_until_it_is_ended_and_then_passes_if_nothing_failed() {
    let mut run = run_of(vec![metric("m", json!({"interval": "60s"}))]);
    for minute in 0..100 {
        assert_eq!(due(&mut run, at(minute * 60)), ["m"]);
        answer(&mut run, &[("m", one(1.0))], at(minute * 60));
    }
    assert_eq!(phase(&run), AnalysisPhase::Running);
    run.spec.terminate = true;
    assert!(due(&mut run, at(6_000)).is_empty());
    assert_eq!((phase(&run), message(&run)), (AnalysisPhase::Successful, "Run Terminated"));
    assert_eq!(verdict(&run), Verdict::Pass);
}

/// Argo's phase, but no pass: Argo lets the release go on.
#[test]
fn a_run_that_is_ended_without_data_is_inconclusive_for_the_release() {
    let endless = || metric("m", json!({"interval": "60s"}));
    let end = |metric: Metric, answers: &[(&str, Outcome)]| {
        let mut run = run_of(vec![metric]);
        due(&mut run, START);
        if !answers.is_empty() {
            answer(&mut run, answers, START);
        }
        run.spec.terminate = true;
        due(&mut run, at(1));
        assert_eq!(phase(&run), AnalysisPhase::Successful);
        verdict(&run).reason().to_owned()
    };
    assert_eq!(end(endless(), &[]), "m: ended before its first measurement");
    assert!(end(endless(), &[("m", down())]).starts_with("m: ended while it had no data: "));
    assert_eq!(end(errors(), &[("errors", one(0.0))]), "errors: ended after 1 of 3 measurements");
}

#[test]
fn a_run_that_takes_too_long_is_inconclusive_and_the_plan_wakes_for_it() {
    let mut run = run_of(vec![metric("m", json!({"interval": "60s"}))]);
    run.spec.timeout = Some(crate::api::DurationSpec::Text("90s".to_owned()));
    due(&mut run, START);
    answer(&mut run, &[("m", one(1.0))], START);
    due(&mut run, at(60));
    answer(&mut run, &[("m", Sample::Empty.into())], at(85));
    assert_eq!(plan(&run, at(85)).wake, Some(at(90)));
    assert!(due(&mut run, at(90)).is_empty());
    assert_eq!(phase(&run), AnalysisPhase::Inconclusive);
    let reason = "not finished within 1m 30s: waiting for data: m: no data: the query returned an \
                  empty result (1 in a row since 2023-11-14T22:14:45Z)";
    assert_eq!(verdict(&run), Verdict::Inconclusive { reason: reason.to_owned() });
}

/// A dry run that is not over ends with the metrics that decide, where it might go on for ever, and in the
/// background, where the next round watches on.
#[test]
fn a_dry_run_without_an_end_is_not_waited_for_and_in_the_background_none_is() {
    let trial = |count: i32| metric("trial", json!({"interval": "60s", "count": count}));
    let play = |metrics: Vec<Metric>, background: bool| {
        let mut run = run_of(metrics);
        run.spec.dry_run = serde_json::from_value(json!([{"metricName": "trial"}])).unwrap();
        let scope = if background { "Background" } else { "1" }.to_owned();
        run.spec.release = Some(RunRelease { scope, ..RunRelease::default() });
        for second in [0, 60, 120] {
            let asked = due(&mut run, at(second));
            let answers: Vec<_> = asked.iter().map(|name| (name.as_str(), one(0.0))).collect();
            answer(&mut run, &answers, at(second));
        }
        phase(&run)
    };
    let both = |count| vec![trial(count), errors()];
    assert_eq!(play(both(9), false), AnalysisPhase::Running, "it has an end");
    assert_eq!(play(both(9), true), AnalysisPhase::Successful);
    assert_eq!(play(both(0), false), AnalysisPhase::Successful);
    assert_eq!(
        play(vec![trial(0)], false),
        AnalysisPhase::Running,
        "as Argo: nothing else ends it"
    );
}

#[test]
fn a_dry_run_metric_never_decides_but_is_waited_for() {
    let mut run = run_of(vec![metric("trial", json!({})), errors()]);
    run.spec.dry_run = serde_json::from_value(json!([{"metricName": "tri"}])).unwrap();
    due(&mut run, START);
    answer(&mut run, &[("trial", Sample::Empty.into()), ("errors", one(0.0))], START);
    for second in [60, 120] {
        due(&mut run, at(second));
        answer(&mut run, &[("errors", one(0.0))], at(second));
    }
    assert_eq!(phase(&run), AnalysisPhase::Running, "the dry run has no data yet");
    due(&mut run, at(130));
    answer(&mut run, &[("trial", one(1.0))], at(130));
    assert_eq!(verdict(&run), Verdict::Pass);
    let dry = run.status.unwrap().dry_run_summary.unwrap();
    assert_eq!((dry.count, dry.successful), (1, 1));
}

#[test]
fn a_run_that_cannot_be_read_ends_as_error_with_the_path() {
    let mut run = run_of(vec![metric("m", json!({"successCondition": "result[0] >"}))]);
    assert!(due(&mut run, START).is_empty());
    assert_eq!(phase(&run), AnalysisPhase::Error);
    let said = "Analysis spec invalid: metrics[0].successCondition: \"result[0] >\"";
    assert!(message(&run).starts_with(said), "{}", message(&run));
    assert_eq!(verdict(&run).kind(), crate::api::Verdict::Inconclusive);

    let mut run = run_of(vec![metric("m", json!({"successCondition": "result > 1"}))]);
    due(&mut run, START);
    let said = "Analysis spec invalid: metrics[0].successCondition: \"result > 1\": invalid \
                operation: > (mismatched types []float64 and int)";
    assert_eq!(message(&run), said, "sum(x) is a list");

    let mut run = run_of(vec![metric("m", json!({"successCondition": "{{args.x}}"}))]);
    due(&mut run, START);
    let said = "Unable to resolve metric arguments: metrics[0] \"m\": failed to resolve {{args.x}}";
    assert!(message(&run).starts_with(said), "{}", message(&run));
}

#[test]
fn the_status_keeps_value_query_warnings_and_as_many_measurements_as_wanted() {
    let mut run = run_of(vec![metric("m", json!({"interval": "10s"}))]);
    let retention = json!([{"metricName": "m", "limit": 2}]);
    run.spec.measurement_retention = serde_json::from_value(retention).unwrap();
    for tick in 0..3 {
        due(&mut run, at(tick * 10));
        let sample = Sample::Series(vec![10.0, 11.0]);
        let warned = Outcome::Answer { sample, warnings: vec!["partial".to_owned()] };
        answer(&mut run, &[("m", warned)], at(tick * 10));
    }
    let result = &run.status.unwrap().metric_results[0];
    assert_eq!((result.count, result.measurements.len()), (3, 2));
    assert_eq!(result.metadata.get(super::super::run::RESOLVED_QUERY).unwrap(), "sum(x)");
    let last = result.measurements.last().unwrap();
    assert_eq!(last.value.as_deref(), Some("[10,11]"));
    assert_eq!(last.metadata.get("warnings").unwrap(), "partial");
    assert_eq!(last.finished_at.as_ref().unwrap().0, at(20));
}

#[test]
fn the_status_stays_small_over_thousands_of_measurements_and_long_answers() {
    let long = "e".repeat(5_000);
    let names: Vec<String> = (0..64).map(|i| format!("m{i}")).collect();
    let every = json!({"interval": "1s", "failureLimit": -1, "consecutiveSuccessLimit": 1_000_000,
        "successCondition": "result[0] > 1"});
    let mut run = run_of(names.iter().map(|name| metric(name, every.clone())).collect());
    run.spec.measurement_retention =
        serde_json::from_value(json!([{"metricName": ".*", "limit": 1000}])).unwrap();
    let failed = |i: usize| {
        Outcome::Error(QueryError {
            kind: ErrorKind::Server,
            message: format!("{i}: {long}"),
            retry_after: None,
        })
    };
    let mut sizes = Vec::new();
    for tick in 0..30 {
        let answers: Vec<_> = names.iter().map(|name| (name.clone(), failed(tick))).collect();
        run.status = Some(record_all(&run, answers, at(tick as i64 * 600)));
        sizes.push(serde_json::to_string(&run.status).unwrap().len());
    }
    assert!(sizes[29] < 1_400_000, "{}", sizes[29]);
    assert!(sizes[29] < sizes[15] + 10_000, "it does not grow: {sizes:?}");

    let mut run = run_of(vec![metric("m", every)]);
    for tick in 0..5_000 {
        run.status = Some(record(&run, "m", one(f64::from(tick % 3)), at(i64::from(tick))));
    }
    let status = run.status.unwrap();
    let result = &status.metric_results[0];
    assert_eq!((result.count, result.measurements.len()), (5_000, 10));
    assert!(serde_json::to_string(&status).unwrap().len() < 8_000);
}
