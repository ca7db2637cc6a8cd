//! Composition, advisory metrics, evidence, Jobs, secrets and the time to live.

use serde_json::json;

use super::super::{
    Ask, DatadogAsk, Observed, Secrets, plan_with, record_all_with, secrets_needed,
};
use super::*;
use crate::api::common::SecretKeyRef;

fn below(name: &str, fields: Value) -> Metric {
    let mut with = json!({"successCondition": "result[0] < 1", "interval": "60s", "count": 2});
    for (field, value) in fields.as_object().unwrap() {
        with[field] = value.clone();
    }
    metric(name, with)
}

/// Plays ticks of one answer per metric, by its place; `None`: no data.
fn play(decide: Value, metrics: Vec<Metric>, ticks: &[&[Option<f64>]]) -> AnalysisRun {
    let mut run = run_of(metrics);
    run.spec.decide = serde_json::from_value(decide).unwrap();
    for (tick, values) in ticks.iter().enumerate() {
        let now = at(tick as i64 * 60);
        let asked = due(&mut run, now);
        let outcomes: Vec<_> =
            run.spec.metrics.iter().map(|m| m.name.clone()).zip(*values).collect();
        let answers: Vec<_> = outcomes
            .iter()
            .filter(|(name, _)| asked.contains(name))
            .map(|(name, value)| (name.as_str(), value.map_or(Sample::Empty.into(), one)))
            .collect();
        answer(&mut run, &answers, now);
    }
    run
}

fn three() -> Vec<Metric> {
    ["a", "b", "c"].map(|name| below(name, json!({}))).to_vec()
}

#[test]
fn k_of_n_metrics_pass_as_soon_as_that_is_certain_and_fail_when_it_cannot_be() {
    let (good, bad) = (Some(0.0), Some(5.0));
    let two = || json!({"atLeast": 2});
    let run = play(two(), three(), &[&[good, bad, good], &[good, None, good]]);
    assert_eq!(verdict(&run), Verdict::Pass);
    assert_eq!(message(&run), "2 good and 1 bad of 3, 2 needed");

    let run = play(two(), three(), &[&[bad, bad, good]]);
    assert_eq!(phase(&run), AnalysisPhase::Failed, "at once");
    let reason = verdict(&run).reason().to_owned();
    assert!(reason.starts_with("0 good and 2 bad of 3, 2 needed: a: 5 >= 1 in 1 of 1"), "{reason}");

    let any = json!({"atLeast": 1});
    let run = play(any, three(), &[&[good, None, None], &[good, None, None]]);
    assert_eq!(verdict(&run), Verdict::Pass, "one is enough, the others never answered");
}

#[test]
fn metrics_without_data_count_neither_as_good_nor_as_failures_of_the_release() {
    let (good, bad) = (Some(0.0), Some(5.0));
    let given_up = json!({"onError": "Inconclusive", "consecutiveErrorLimit": 0});
    let metrics = || {
        let mut metrics = three();
        metrics[1] = below("b", given_up.clone());
        metrics
    };
    // b might have been good: two of three could have been.
    let run = play(json!({"atLeast": 2}), metrics(), &[&[bad, None, good], &[None, None, good]]);
    assert_eq!(phase(&run), AnalysisPhase::Inconclusive);
    assert!(matches!(verdict(&run), Verdict::Inconclusive { .. }), "{:?}", verdict(&run));
    assert_eq!(message(&run), "0 good and 2 bad of 3, 2 needed");
    // Whatever b might have been, it is bad.
    let run = play(json!({"atLeast": 3}), metrics(), &[&[bad, None, good]]);
    assert_eq!(phase(&run), AnalysisPhase::Failed);
}

#[test]
fn a_score_weighs_the_metrics_and_rounds_up() {
    let weighted = || {
        let weights = [("a", 3), ("b", 1), ("c", 1)];
        weights.map(|(name, weight)| below(name, json!({"weight": weight, "count": 1}))).to_vec()
    };
    let (good, bad) = (Some(0.0), Some(5.0));
    for (score, values, expected) in [
        ("60%", [good, bad, bad], "Pass"),
        ("61%", [good, bad, bad], "Fail"),
        ("61%", [good, good, bad], "Pass"),
        ("50%", [bad, good, good], "Fail"),
    ] {
        let run = play(json!({"score": score}), weighted(), &[&values]);
        assert_eq!(format!("{:?}", verdict(&run).kind()), expected, "{score} {values:?}");
    }
}

#[test]
fn a_critical_metric_has_to_be_good_whatever_the_rule_says() {
    let metrics = || {
        let mut metrics = three();
        metrics[2].critical = true;
        metrics
    };
    let (good, bad) = (Some(0.0), Some(5.0));
    let any = || json!({"atLeast": 1});
    let run = play(any(), metrics(), &[&[good, good, bad]]);
    assert_eq!(phase(&run), AnalysisPhase::Failed);
    assert_eq!(message(&run), "Metric \"c\" assessed Failed due to failed (1) > failureLimit (0)");
    let run = play(any(), metrics(), &[&[good, good, None], &[good, good, None]]);
    assert_eq!(phase(&run), AnalysisPhase::Running, "enough are good, the critical one is open");
    let run = play(any(), metrics(), &[&[bad, good, good], &[None, None, good]]);
    assert_eq!(verdict(&run), Verdict::Pass);
}

#[test]
fn an_advisory_metric_is_measured_and_neither_decides_nor_is_waited_for() {
    let metrics = |advice: Value| vec![below("a", json!({})), below("b", advice)];
    let advisory = || json!({"advisory": true});
    let run =
        play(json!(null), metrics(advisory()), &[&[Some(0.0), Some(9.0)], &[Some(0.0), None]]);
    assert_eq!(verdict(&run), Verdict::Pass);
    let result = &run.status.as_ref().unwrap().metric_results[1];
    assert_eq!(result.phase, Some(AnalysisPhase::Failed), "it says what it found");
    let endless = json!({"advisory": true, "count": 0});
    let run = play(json!(null), metrics(endless), &[&[Some(0.0), None], &[Some(0.0), None]]);
    assert_eq!(verdict(&run), Verdict::Pass);
}

#[test]
fn a_rule_that_no_run_could_meet_is_refused() {
    for (decide, words) in [
        (json!({"atLeast": 4}), "decide.atLeast: 4 is not from 1 to 3"),
        (json!({"score": "0%"}), "decide.score: \"0%\" is no share"),
        (json!({"score": "50%", "atLeast": 1}), "must have at most one of atLeast and score"),
    ] {
        let mut run = run_of(three());
        run.spec.decide = serde_json::from_value(decide).unwrap();
        let said = plan(&run, START).status.message.unwrap();
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn too_few_events_are_waited_for_and_enough_are_named() {
    let query = "sum(rate(bad[2m])) / sum(rate(all[2m]))";
    let fields = json!({"minEvents": 100, "interval": "60s", "count": 1,
        "successCondition": "result[0] < 0.1",
        "provider": {"prometheus": {"query": query}}});
    let mut run = run_of(vec![metric("m", fields)]);
    let asked = plan(&run, START).due;
    let texts: Vec<_> = asked.iter().map(|q| (q.metric.as_str(), q.text.as_str())).collect();
    assert_eq!(texts, [("m", query), ("m/events", "sum(sum(increase(all[2m])))")]);

    answer(&mut run, &[("m", one(0.5)), ("m/events", one(7.0))], START);
    assert_eq!(phase(&run), AnalysisPhase::Running);
    assert!(message(&run).contains("m: no data: not enough events: 7 of 100"), "{}", message(&run));
    answer(&mut run, &[("m", one(0.5)), ("m/events", down())], at(10));
    assert!(message(&run).contains("events: provider unreachable"), "{}", message(&run));
    answer(&mut run, &[("m", one(0.5)), ("m/events", one(120.0))], at(30));
    assert_eq!(phase(&run), AnalysisPhase::Failed);
    let said = verdict(&run).reason().to_owned();
    assert!(said.starts_with("m: 0.5 >= 0.1 of 120 events in 1 of 1 measurements"), "{said}");

    let plain = metric("m", json!({"minEvents": 5}));
    let said = plan(&run_of(vec![plain]), START).status.message.unwrap();
    assert!(said.contains("metrics[0].minEvents: the query is no quotient"), "{said}");
}

#[test]
fn events_are_counted_by_their_own_query_at_one_instant_and_over_all_series() {
    let range = json!({"query": "a / sum(rate(all[2m]))",
        "rangeQuery": {"start": "now() - duration(\"5m\")", "end": "now()", "step": "15s"}});
    let datadog = json!({"apiVersion": "v2", "queries": {"a": "sum:x{*}", "b": "sum:y{*}"},
        "formula": "a / b", "aggregator": "avg"});
    for (provider, events, counted) in [
        (json!({"prometheus": range}), Value::Null, Ask::Prometheus { range: None }),
        (
            json!({"ref": "p", "datadog": datadog}),
            json!("sum:y{*}.as_count()"),
            Ask::Datadog(DatadogAsk {
                v2: true,
                interval: SignedDuration::from_mins(5),
                queries: [("query".to_owned(), "sum:y{*}.as_count()".to_owned())].into(),
                aggregator: "sum".to_owned(),
                ..DatadogAsk::default()
            }),
        ),
    ] {
        let fields = json!({"minEvents": 100, "events": events, "provider": provider,
            "successCondition": "all(result, # < 1)"});
        let mut run = run_of(vec![metric("m", fields)]);
        let asked = plan(&run, START).due;
        assert_eq!((asked.len(), &asked[1].source.ask), (2, &counted));
        assert_ne!(asked[0].source.ask, counted);
        let many: Outcome = Sample::Series(vec![60.0, f64::NAN, 45.0]).into();
        answer(&mut run, &[("m", one(0.5)), ("m/events", many)], START);
        assert_eq!(verdict(&run), Verdict::Pass);
    }
}

#[test]
fn a_provider_that_counts_no_events_is_refused_where_they_are_asked_for() {
    for provider in [
        json!({"cloudWatch": {"metricDataQueries": [{"id": "a"}]}}),
        json!({"job": {"spec": {"template": {"spec": {}}}}}),
        json!({"object": {"apiVersion": "v1", "kind": "Pod", "name": "x", "condition": "Ready"}}),
        json!({"ref": "p", "plugin": {"x": {}}}),
    ] {
        let fields = json!({"minEvents": 5, "events": "sum(x)", "provider": provider});
        let said = plan(&run_of(vec![metric("m", fields)]), START).status.message.unwrap();
        assert!(said.contains("metrics[0].minEvents: this provider counts no events"), "{said}");
    }
}

#[test]
fn a_measurement_that_takes_longer_is_asked_again_and_counts_once() {
    let mut run = run_of(vec![metric("job", json!({}))]);
    run.metadata.uid = Some("u1".to_owned());
    let first = plan(&run, START).due.remove(0);
    assert_eq!((first.asker.uid.as_str(), first.asker.number, first.asker.notes), ("u1", 0, None));
    let notes = std::collections::BTreeMap::from([("job".to_owned(), "u1.job.1".to_owned())]);
    let running = Outcome::Running { resume_at: Some(at(15)), notes: notes.clone() };
    answer(&mut run, &[("job", running.clone())], START);
    assert_eq!(phase(&run), AnalysisPhase::Running);
    assert_eq!(plan(&run, at(1)).wake, Some(at(15)));
    let again = plan(&run, at(15)).due.remove(0);
    assert_eq!(again.asker.notes, Some(notes.clone()));

    let mut ended = run.clone();
    ended.spec.terminate = true;
    let cancel = plan(&ended, at(16));
    assert_eq!((cancel.due.len(), cancel.cancel.len()), (0, 1));
    let ended_by_us = |phase, message: &str| Outcome::Ended {
        phase,
        message: Some(message.to_owned()),
        notes: Default::default(),
    };
    answer(
        &mut ended,
        &[("job", ended_by_us(AnalysisPhase::Inconclusive, "Metric Terminated"))],
        at(16),
    );
    assert_eq!(phase(&ended), AnalysisPhase::Inconclusive);

    answer(
        &mut run,
        &[("job", ended_by_us(AnalysisPhase::Failed, "BackoffLimitExceeded"))],
        at(15),
    );
    let result = &run.status.as_ref().unwrap().metric_results[0];
    assert_eq!((result.count, result.failed, result.measurements.len()), (1, 1, 1));
    let measurement = &result.measurements[0];
    assert_eq!(measurement.metadata, notes);
    assert_eq!(measurement.started_at.as_ref().unwrap().0, START);
    let said = verdict(&run).reason().to_owned();
    assert!(said.starts_with("job: BackoffLimitExceeded in 1 of 1"), "{said}");
}

fn one_plugin(fields: serde_json::Value) -> AnalysisRun {
    let mut run = run_of(vec![metric("m", fields)]);
    run.spec.metrics[0].provider =
        serde_json::from_value(json!({"ref": "own", "plugin": {"p": {}}})).ok();
    run
}

#[test]
fn a_measurement_under_way_that_is_not_seen_for_a_while_is_asked_about_again_not_begun_again() {
    let mut run = one_plugin(json!({"consecutiveErrorLimit": 2}));
    let notes = std::collections::BTreeMap::from([("id".to_owned(), "7".to_owned())]);
    let running = |second| Outcome::Running { resume_at: Some(at(second)), notes: notes.clone() };
    answer(&mut run, &[("m", running(5))], START);
    for (now, seen) in [(5, down()), (15, down()), (35, running(40)), (40, down()), (50, down())] {
        assert_eq!(plan(&run, at(now - 1)).due, [], "{now}");
        let asker = plan(&run, at(now)).due.remove(0).asker;
        assert_eq!((asker.number, asker.notes), (0, Some(notes.clone())), "{now}");
        answer(&mut run, &[("m", seen)], at(now));
        assert_eq!(phase(&run), AnalysisPhase::Running, "{now}");
        let said = "waiting for data: m: provider unreachable";
        assert_eq!(message(&run).starts_with(said), now != 35, "{}", message(&run));
    }
    let mut seen = run.clone();
    let ended =
        Outcome::Ended { phase: AnalysisPhase::Successful, message: None, notes: notes.clone() };
    answer(&mut seen, &[("m", ended)], at(70));
    let result = &seen.status.as_ref().unwrap().metric_results[0];
    assert_eq!((result.count, result.error, result.consecutive_error), (1, 0, 0));
    assert_eq!(result.measurements[0].message, None);

    answer(&mut run, &[("m", down())], at(70));
    assert_eq!(phase(&run), AnalysisPhase::Error, "the limit of errors holds here too");
}

#[test]
fn a_measurement_of_which_nobody_knows_whether_it_was_begun_keeps_its_number() {
    let mut run = one_plugin(json!({}));
    assert_eq!(due(&mut run, START), ["m"]);
    answer(&mut run, &[("m", down())], START);
    let asker = plan(&run, at(10)).due.remove(0).asker;
    assert_eq!((asker.number, asker.notes), (0, Some(Default::default())));

    let refused = Outcome::Error(QueryError {
        kind: ErrorKind::Refused,
        message: "404".to_owned(),
        retry_after: None,
    });
    answer(&mut run, &[("m", refused)], at(10));
    assert_eq!(plan(&run, at(60)).due.remove(0).asker.number, 1, "the plugin said no");
}

fn secretive() -> AnalysisRun {
    let fields = json!({"successCondition": "result[0] < {{args.most}}", "provider": {"prometheus": {
        "query": "sum(x{k=\"{{args.token}}\"})",
        "headers": [{"key": "Authorization", "value": "Bearer {{args.token}}"}]}}});
    let mut run = run_of(vec![metric("m", fields)]);
    let from = |key: &str| json!({"secretKeyRef": {"name": "s", "key": key}});
    run.spec.args = serde_json::from_value(json!([
        {"name": "token", "valueFrom": from("token")}, {"name": "most", "valueFrom": from("most")}
    ]))
    .unwrap();
    run
}

fn secrets(values: &[(&str, &str)]) -> Secrets {
    let mut secrets = Secrets::default();
    for (key, value) in values {
        let at = SecretKeyRef { name: "s".to_owned(), key: (*key).to_owned() };
        secrets.insert(&at, (*value).to_owned());
    }
    secrets
}

#[test]
fn a_secret_reaches_the_provider_and_the_condition_and_is_never_written_down() {
    let mut run = secretive();
    assert_eq!(secrets_needed(&run).len(), 2);
    let known = secrets(&[("token", "hunter2"), ("most", "0.5")]);
    let due = plan_with(&run, &known, START).due;
    assert_eq!(due[0].text, "sum(x{k=\"hunter2\"})");
    assert_eq!(due[0].source.headers[0].1, "Bearer hunter2");
    let refused = Outcome::Error(QueryError {
        kind: ErrorKind::Refused,
        message: "401 for Bearer hunter2".to_owned(),
        retry_after: None,
    });
    for (outcome, now) in [(refused, START), (one(0.75), at(10))] {
        run.status = Some(record_all_with(
            &run,
            &known,
            &Observed::default(),
            vec![("m".to_owned(), outcome)],
            now,
        ));
        let written = serde_json::to_string(&run).unwrap();
        assert!(!written.contains("hunter2") && written.contains("*****"), "{written}");
    }
    assert_eq!(phase(&run), AnalysisPhase::Failed);
}

#[test]
fn a_secret_is_masked_in_every_form_in_which_a_message_may_show_it() {
    let value = "top\"secret\\ <value>";
    let known = secrets(&[("token", value), ("most", "top")]);
    for text in [
        format!("401 for {value}!"),
        format!("spec invalid: {value:?}: expected"),
        format!("body {}", json!({"token": value})),
        "http://x/top%22secret%5C%20%3Cvalue%3E/y".to_owned(),
        "http://x/y?k=top%22secret%5c+%3cvalue%3e".to_owned(),
        // A server's words are cut where they are long.
        "said: top\"secret\\ <va...".to_owned(),
    ] {
        let masked = known.mask(text.clone());
        assert!(masked.contains("*****") && !masked.contains("secret"), "{text}: {masked}");
    }
    assert_eq!(known.mask("stop at 5% of 1+1...".to_owned()), "s***** at 5% of 1+1...");
}

#[test]
fn a_secret_that_is_missing_is_waited_for_until_the_timeout() {
    let mut run = secretive();
    run.spec.timeout = Some(crate::api::DurationSpec::Seconds(60));
    let half = secrets(&[("token", "hunter2")]);
    let planned = plan_with(&run, &half, START);
    assert_eq!((planned.due.len(), planned.wake), (0, Some(at(10))));
    let said = planned.status.message.clone().unwrap();
    assert!(said.contains("argument \"most\": key \"most\" of Secret \"s\" is missing"), "{said}");
    run.status = Some(planned.status);
    assert!(matches!(verdict(&run), Verdict::Continue { .. }));
    let late = plan_with(&run, &half, at(60)).status;
    assert_eq!(late.phase, Some(AnalysisPhase::Inconclusive));
}

/// Argo's ten pairs: (phase, completion, success, failure) and whether it is deleted after 86,401 s;
/// after 86,400 s it never is.
/// The Job was made, the write of the status met `terminate` and was refused: nobody knows of the Job.
#[test]
fn a_run_that_ends_takes_a_job_along_whose_begin_was_not_written() {
    let job = json!({"provider": {"job": {"spec": {"template": {"spec": {}}}}}});
    let mut run = run_of(vec![metric("job", job)]);
    run.metadata.uid = Some("u1".to_owned());
    let begun = plan(&run, START);
    assert_eq!((begun.due.len(), begun.sweep.len()), (1, 0));
    run.spec.terminate = true;
    let ended = plan(&run, at(1));
    assert_eq!((ended.due.len(), ended.cancel.len()), (0, 0));
    assert_eq!(ended.sweep.iter().map(|query| query.asker.number).collect::<Vec<_>>(), [0]);
    run.status = Some(ended.status);
    assert_eq!(phase(&run), AnalysisPhase::Successful);
    assert_eq!(plan(&run, at(2)).sweep, [], "once");
}

#[test]
fn a_run_that_ends_by_its_timeout_or_its_other_metrics_ends_what_is_under_way() {
    let notes = std::collections::BTreeMap::from([("id".to_owned(), "7".to_owned())]);
    let running = Outcome::Running { resume_at: Some(at(15)), notes: notes.clone() };
    let mut late = one_plugin(json!({}));
    late.spec.timeout = Some(crate::api::DurationSpec::Seconds(60));
    answer(&mut late, &[("m", running.clone())], START);
    assert_eq!(plan(&late, at(59)).sweep, []);
    let ended = plan(&late, at(60));
    assert_eq!(ended.status.phase, Some(AnalysisPhase::Inconclusive));
    assert_eq!(ended.sweep.len(), 1);
    assert_eq!(ended.sweep[0].asker.notes.as_ref(), Some(&notes));

    let mut advised = one_plugin(json!({"advisory": true}));
    advised.spec.metrics.push(below("a", json!({"count": 1})));
    answer(&mut advised, &[("m", running)], START);
    assert_eq!(left_under_way(&advised, &Secrets::default()), [], "it goes on");
    answer(&mut advised, &[("a", one(0.0))], START);
    assert_eq!(phase(&advised), AnalysisPhase::Successful);
    let left = left_under_way(&advised, &Secrets::default());
    assert_eq!(left.iter().map(|query| &query.asker.notes).collect::<Vec<_>>(), [&Some(notes)]);
}

#[test]
fn a_run_that_is_over_is_deleted_after_its_time_to_live() {
    use AnalysisPhase::{Error, Failed, Inconclusive, Running, Successful};
    let day = Some(86_400);
    let long = Some(864_000);
    for (phase, completion, success, failure, deleted) in [
        (Successful, day, None, None, true),
        (Failed, day, None, None, true),
        (Error, day, None, None, true),
        (Inconclusive, day, None, None, true),
        (Successful, None, day, None, true),
        (Failed, None, None, day, true),
        (Failed, None, day, None, false),
        (Successful, None, None, day, false),
        (Successful, long, day, None, true),
        (Failed, long, None, day, true),
        (Failed, day, long, None, true),
        (Successful, day, None, long, true),
        (Successful, None, None, None, false),
        (Running, day, None, None, false),
    ] {
        let mut run = run_of(vec![metric("m", json!({"interval": "60s"}))]);
        run.spec.ttl_strategy = Some(crate::api::analysis_run::TtlStrategy {
            seconds_after_completion: completion,
            seconds_after_failure: failure,
            seconds_after_success: success,
        });
        let over = phase != Running;
        run.status = Some(crate::api::AnalysisRunStatus {
            phase: Some(phase),
            completed_at: over.then_some(crate::api::Time(START)),
            ..Default::default()
        });
        let row = format!("{phase:?} {completion:?} {success:?} {failure:?}");
        assert!(!plan(&run, at(86_400)).delete, "{row}");
        assert_eq!(plan(&run, at(86_401)).delete, deleted, "{row}");
        if deleted {
            assert_eq!(plan(&run, at(5)).wake, Some(at(86_401)), "{row}");
        }
    }
}
