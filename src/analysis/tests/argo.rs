//! The rows of Argo Rollouts' own tests (v1.9, `analysis_test.go`, `evaluate_test.go`,
//! `webmetric_test.go`, `prometheus_test.go`, `datadog_test.go`), transcribed. Where this engine
//! differs on purpose, the row is played with the setting that gives Argo's answer: `noData: Judge`,
//! `errorRetry: 10s`, `consecutiveErrorLimit: 4`.

use AnalysisPhase::{Error, Failed, Inconclusive, Running, Successful};
use serde_json::json;

use super::super::judge::judge;
use super::super::{assess, metric as checked};
use super::*;
use crate::api::{AnalysisRunStatus, Measurement, MetricResult, Time};

/// Argo's own settings on top of `fields`.
fn argo(fields: Value) -> Metric {
    let mut with = json!({"noData": "Judge", "errorRetry": "10s", "consecutiveErrorLimit": 4});
    for (field, value) in fields.as_object().unwrap() {
        with[field] = value.clone();
    }
    metric("m", with)
}

fn phase_of(success: &str, failure: &str, sample: Sample) -> AnalysisPhase {
    let fields = json!({"successCondition": success, "failureCondition": failure});
    let metric = checked::check_metric(&argo(fields), "metrics[0]").unwrap();
    judge(&metric, &sample.into()).phase
}

#[test]
fn prometheus_responses_a_2() {
    let (nan, inf) = (f64::NAN, f64::INFINITY);
    for (sample, success, failure, value, expected) in [
        (Sample::Value(10.0), "result == 10", "result != 10", "10", Successful),
        (Sample::Value(nan), "result >= 0.9", "result < 0.9", "NaN", Inconclusive),
        (Sample::Value(nan), "result >= 0.9 || isNaN(result)", "", "NaN", Successful),
        (Sample::Value(nan), "result >= 0.9", "", "NaN", Failed),
        (Sample::Value(nan), "", "result < 0.9", "NaN", Successful),
        (Sample::Value(inf), "result >= 0.9", "", "+Inf", Successful),
        (Sample::Value(inf), "", "isInf(result)", "+Inf", Failed),
        (
            Sample::Series(vec![10.0, 11.0]),
            "10 in result",
            "len(result) != 2",
            "[10,11]",
            Successful,
        ),
    ] {
        assert_eq!(sample.to_string(), value);
        assert_eq!(phase_of(success, failure, sample), expected, "{value}: {success} {failure}");
    }
}

#[test]
fn an_empty_vector_is_an_error_unless_the_condition_thought_of_it() {
    for (success, expected) in [
        ("result[0] >= 0.95", Error),
        ("len(result) == 0 || result[0] >= 0.95", Successful),
        ("len(result) > 0 && result[0] >= 0.95", Failed),
        ("default(result, 0) < 0.05", Successful),
        ("default(result, 1) < 0.05", Failed),
    ] {
        assert_eq!(phase_of(success, "", Sample::Empty), expected, "{success}");
    }
}

#[test]
fn web_results_a_1() {
    let j1 = json!({"a": 1, "b": true, "c": [1, 2, 3, 4], "d": null});
    let shown = "{\"a\":1,\"b\":true,\"c\":[1,2,3,4],\"d\":null}";
    let c1 = "result.a > 0 && result.b && all(result.c, {# < 5}) && result.d == nil";
    let over = "result.a >= 2 && result.b && all(result.c, {# < 5}) && result.d == nil";
    let under = "result.a <= 0 && result.b && all(result.c, {# < 5}) && result.d == nil";
    let key = json!({"num": 1.2, "bool": true, "mapfield": {"foo": "bar"}});
    let c17 = "result.num > 1.1 && result.bool && result.mapfield.foo == \"bar\"";
    let shown17 = "{\"bool\":true,\"mapfield\":{\"foo\":\"bar\"},\"num\":1.2}";
    let list = json!([1, 2, 3, 4, 5, 6]);
    let of = Sample::Json;
    let text = |text: &str| Sample::Text(text.to_owned());
    let (ints, floats) = ("asInt(result) > 0", "asFloat(result) > 1.1");
    for (row, sample, success, failure, value, expected) in [
        (1, of(j1.clone()), c1, "", shown, Successful),
        (2, of(j1), over, under, shown, Inconclusive),
        (3, of(json!("1")), ints, "asInt(result) <= 0", "\"1\"", Successful),
        (4, of(json!("0")), ints, "asInt(result) <= 0", "\"0\"", Failed),
        (5, of(json!("1.2")), floats, "asFloat(result) <= 0", "\"1.2\"", Successful),
        (6, of(json!("1.2")), floats, "asFloat(result) < 1.3", "\"1.2\"", Failed),
        (7, of(json!(1)), "result > 0", "result <= 0", "1", Successful),
        (8, of(json!(0)), "result > 0", "result <= 0", "0", Failed),
        (9, of(json!(1.1)), "result > 0", "result <= 0", "1.1", Successful),
        (10, of(json!(-1.1)), "result > 0", "result <= 0", "-1.1", Failed),
        (
            11,
            of(json!("true")),
            "result == \"true\"",
            "result == \"false\"",
            "\"true\"",
            Successful,
        ),
        (12, of(json!("true")), "result == \"true\"", "result == \"true\"", "\"true\"", Failed),
        (13, of(json!(true)), "result == true", "result == false", "true", Successful),
        (14, of(json!(false)), "result == true", "result == false", "false", Failed),
        (15, of(list.clone()), "any(result, {# > 5})", "", "[1,2,3,4,5,6]", Successful),
        (16, of(list), "any(result, {# > 6})", "", "[1,2,3,4,5,6]", Failed),
        (17, of(key.clone()), c17, "", shown17, Successful),
        (18, of(key), c17, c17, shown17, Failed),
        (21, text(""), "true", "", "", Successful),
        (22, text(""), "result == 'fail123'", "", "", Failed),
        (23, text("test: notJson"), "result == 'test: notJson'", "", "test: notJson", Successful),
        (24, text("OK"), "result == 'fail123'", "", "OK", Failed),
        (27, of(json!({})), "true", "", "{}", Successful),
    ] {
        assert_eq!(sample.to_string(), value, "row {row}");
        assert_eq!(phase_of(success, failure, sample), expected, "row {row}");
    }
}

#[test]
fn datadog_results_a_3() {
    let groups = |values: &[f64]| Sample::Series(values.to_vec());
    let low = 0.000_333_288_188_224_653_3;
    for (sample, success, failure, expected) in [
        (Sample::Value(low), "result < 0.001", "result >= 0.001", Successful),
        (Sample::Value(0.006_121), "result < 0.001", "result >= 0.001", Failed),
        (Sample::Value(0.01), "default(result, 0) < 0.05", "", Successful),
        (Sample::Empty, "result < 0.05", "", Error),
        (Sample::Empty, "default(result, 0) < 0.05", "", Successful),
        (Sample::Empty, "default(result, 1) < 0.05", "", Failed),
        (Sample::Value(0.01), "default(result, 1) < 0.05", "", Successful),
        (groups(&[0.01, 0.087, 0.04]), "max(result) < 0.05", "", Failed),
        (groups(&[0.01, 0.02, 0.03]), "all(result, # < 0.05)", "", Successful),
        (groups(&[0.087]), "max(result) < 0.05", "", Failed),
    ] {
        assert_eq!(phase_of(success, failure, sample.clone()), expected, "{sample}: {success}");
    }
}

/// A measurement that ended so many seconds before `START + 1000`.
fn ended(phase: AnalysisPhase, ago: i64) -> Measurement {
    let at = Time(at(1_000 - ago));
    Measurement {
        phase: Some(phase),
        started_at: Some(at.clone()),
        finished_at: Some(at),
        ..Measurement::default()
    }
}

/// A run whose metric has this result; it started so many seconds ago.
fn under_way(fields: Value, result: MetricResult, started: i64) -> AnalysisRun {
    let mut run = run_of(vec![argo(fields)]);
    run.status = Some(AnalysisRunStatus {
        phase: Some(Running),
        started_at: Some(Time(at(1_000 - started))),
        metric_results: vec![MetricResult { name: "m".to_owned(), ..result }],
        ..AnalysisRunStatus::default()
    });
    run
}

fn measured(measurement: Measurement) -> MetricResult {
    let error = measurement.phase == Some(Error);
    MetricResult {
        successful: i32::from(!error),
        count: i32::from(!error),
        error: i32::from(error),
        consecutive_error: i32::from(error),
        measurements: vec![measurement],
        ..MetricResult::default()
    }
}

/// `generateMetricTasks`: how many questions are due, and `calculateNextReconcileTime`: in how many
/// seconds the run is looked at again.
#[test]
fn scheduling_and_requeue() {
    let every = json!({"interval": "60s"});
    let resume = |ago: i64| Measurement {
        finished_at: None,
        resume_at: Some(Time(at(1_000 - ago))),
        ..ended(Running, 0)
    };
    let open = Measurement { finished_at: None, ..ended(Running, 0) };
    let ok = |ago| measured(ended(Successful, ago));
    let failed = |ago| measured(ended(Error, ago));
    let none = MetricResult::default;
    let none = none();
    for (what, run, tasks, again) in [
        ("50 s ago", under_way(every.clone(), ok(50), 100), 0, Some(10)),
        ("61 s ago", under_way(every.clone(), ok(61), 100), 1, None),
        ("30 s ago", under_way(every.clone(), ok(30), 100), 0, Some(30)),
        ("not measured", under_way(every.clone(), none.clone(), 0), 1, None),
        ("count reached", under_way(json!({}), ok(900), 900), 0, None),
        ("count 0, not measured", under_way(json!({"count": 0}), none.clone(), 0), 1, None),
        ("in flight", under_way(every.clone(), measured(open), 100), 1, None),
        ("delay, 10 s", under_way(json!({"initialDelay": "20s"}), none.clone(), 10), 0, Some(10)),
        ("delay, 20 s", under_way(json!({"initialDelay": "20s"}), none.clone(), 20), 1, None),
        ("delay 40 s", under_way(json!({"initialDelay": "40s"}), none, 30), 0, Some(10)),
        ("resume in 10 s", under_way(every.clone(), measured(resume(-10)), 100), 0, Some(10)),
        ("resume 10 s ago", under_way(every.clone(), measured(resume(10)), 100), 1, None),
        ("error 120 s ago", under_way(json!({}), failed(120), 200), 1, None),
        ("error, 5m", under_way(json!({"interval": "5m"}), failed(120), 200), 1, None),
        ("error now, 5m", under_way(json!({"interval": "5m"}), failed(0), 200), 0, Some(10)),
    ] {
        let planned = plan(&run, at(1_000));
        assert_eq!(planned.due.len(), tasks, "{what}");
        let wake = planned.wake.map(|wake| wake.duration_since(at(1_000)).as_secs());
        assert_eq!(wake, again, "{what}");
    }
    let mut two = run_of(vec![argo(json!({})), metric("n", json!({}))]);
    assert_eq!(due(&mut two, START).len(), 2, "two metrics without results");
    let never = plan(&run_of(vec![argo(json!({"initialDelay": "20s-typo"}))]), START);
    assert_eq!((never.due.len(), never.status.phase), (0, Some(Error)), "refused, not stuck");
}

/// Run-level cases: the phases of the metrics before the pass, the phase and message after it.
#[test]
fn run_level() {
    let two = |first: MetricResult, second: MetricResult| {
        let fields = json!({"interval": "60s", "failureLimit": 0});
        let mut run = run_of(vec![argo(fields.clone()), metric("n", fields)]);
        run.status = Some(AnalysisRunStatus {
            phase: Some(Running),
            started_at: Some(Time(START)),
            metric_results: vec![
                MetricResult { name: "m".to_owned(), ..first },
                MetricResult { name: "n".to_owned(), ..second },
            ],
            ..AnalysisRunStatus::default()
        });
        run
    };
    let good = || MetricResult { phase: Some(Successful), ..measured(ended(Successful, 0)) };
    let running = || MetricResult { phase: Some(Running), ..measured(ended(Successful, 0)) };
    let failed = |message: &str| MetricResult {
        failed: 1,
        count: 1,
        measurements: vec![Measurement {
            message: Some(message.to_owned()).filter(|m| !m.is_empty()),
            ..ended(Failed, 0)
        }],
        ..MetricResult::default()
    };
    let preset = || MetricResult { phase: Some(Failed), ..measured(ended(Failed, 0)) };
    let in_flight = || MetricResult {
        measurements: vec![Measurement { finished_at: None, ..ended(Running, 0) }],
        ..MetricResult::default()
    };
    let due_to = "due to failed (1) > failureLimit (0)";
    for (what, run, phase_is, message_is) in [
        ("one runs", two(good(), running()), Running, String::new()),
        ("preset", two(good(), preset()), Failed, "Metric \"n\" assessed Failed".to_owned()),
        ("in flight", two(in_flight(), failed("")), Running, String::new()),
        (
            "two failures",
            two(failed(""), failed("")),
            Failed,
            format!("Metric \"m\" assessed Failed {due_to}"),
        ),
        (
            "with a message",
            two(failed("provider error"), failed("")),
            Failed,
            format!("Metric \"m\" assessed Failed {due_to}: \"Error Message: provider error\""),
        ),
    ] {
        let status = plan(&run, START).status;
        assert_eq!(status.phase, Some(phase_is), "{what}");
        assert_eq!(status.message.unwrap_or_default(), message_is, "{what}");
    }
}

#[test]
fn dry_runs_and_termination() {
    let mut dry = run_of(vec![argo(json!({"failureCondition": "true"}))]);
    dry.spec.dry_run = serde_json::from_value(json!([{"metricName": ".*"}])).unwrap();
    answer(&mut dry, &[("m", one(1.0))], START);
    assert_eq!(phase(&dry), Successful, "only dry-run metrics");
    let wet = metric("n", json!({"successCondition": "false", "failureCondition": "false"}));
    dry = run_of(vec![argo(json!({"failureCondition": "true"})), wet]);
    dry.spec.dry_run = serde_json::from_value(json!([{"metricName": "m"}])).unwrap();
    answer(&mut dry, &[("m", one(1.0)), ("n", one(1.0))], START);
    assert_eq!(phase(&dry), Inconclusive, "a failed dry run and an inconclusive metric");
    for dry in [false, true] {
        let mut run = run_of(vec![argo(json!({}))]);
        if dry {
            run.spec.dry_run = serde_json::from_value(json!([{"metricName": "m"}])).unwrap();
        }
        run.spec.terminate = true;
        due(&mut run, START);
        assert_eq!((phase(&run), message(&run)), (Successful, "Run Terminated"));
        let summary = run.status.unwrap().dry_run_summary;
        assert_eq!(summary.map(|s| s.count), dry.then_some(1));
    }
}

#[test]
fn the_sixteen_pairs_of_is_worse() {
    let order = [Successful, Inconclusive, Error, Failed];
    for (i, a) in order.into_iter().enumerate() {
        for (j, b) in order.into_iter().enumerate() {
            assert_eq!(assess::gravity(a) > assess::gravity(b), i > j, "{a:?} {b:?}");
        }
    }
}
