//! One measurement and one metric: Argo's tables.

use AnalysisPhase::{Error, Failed, Inconclusive, Pending, Running, Successful};
use serde_json::{Value, json};

use super::super::judge::judge;
use super::super::{assess, metric as checked};
use super::*;
use crate::api::{Measurement, MetricResult, Time};

/// Counters as the rows write them: failed, successful, inconclusive, errors in a row, successes in
/// a row, count.
#[derive(Default, Clone, Copy)]
struct Seen {
    f: i32,
    s: i32,
    i: i32,
    e: i32,
    cs: i32,
    c: i32,
}

fn assessed(fields: Value, seen: Seen, last: Option<AnalysisPhase>, terminating: bool) -> String {
    let metric = checked::check_metric(&metric("m", fields), "metrics[0]").unwrap();
    let measurement = |phase| Measurement {
        phase: Some(phase),
        finished_at: Some(Time(START)),
        ..Measurement::default()
    };
    let result = MetricResult {
        name: "m".to_owned(),
        measurements: last.map(measurement).into_iter().collect(),
        failed: seen.f,
        successful: seen.s,
        inconclusive: seen.i,
        consecutive_error: seen.e,
        consecutive_success: seen.cs,
        count: seen.c,
        ..MetricResult::default()
    };
    format!("{:?}", assess::metric(&metric, &result, terminating).phase)
}

#[test]
fn a_metric_is_assessed_as_argos_rows_say() {
    let every = |fields: Value| {
        let mut fields = fields;
        fields["interval"] = json!("60s");
        fields
    };
    let limits = json!({"failureLimit": 4, "consecutiveSuccessLimit": 4});
    let counted = json!({"failureLimit": 4, "consecutiveSuccessLimit": 4, "count": 10});
    let off = |c: i32| json!({"failureLimit": -1, "consecutiveSuccessLimit": c});
    let off_of =
        |c: i32, n: i32| json!({"failureLimit": -1, "consecutiveSuccessLimit": c, "count": n});
    let errors = json!({"consecutiveErrorLimit": 4});
    let seen = |f, s, cs, c| Seen { f, s, cs, c, ..Seen::default() };
    let none = Seen::default();
    let i = |i| Seen { i, c: i, ..Seen::default() };
    let e = |e| Seen { e, ..Seen::default() };
    let rows = [
        (1, json!({}), none, None, Pending, Successful),
        (2, json!({}), none, Some(Running), Running, Running),
        (3, every(json!({"failureLimit": 2})), seen(3, 0, 0, 3), Some(Failed), Failed, Failed),
        (4, every(json!({"failureLimit": 3})), seen(3, 0, 0, 3), Some(Failed), Running, Successful),
        (5, every(off(3)), seen(3, 4, 3, 7), Some(Successful), Successful, Successful),
        (6, every(off(5)), seen(3, 4, 3, 7), Some(Successful), Running, Successful),
        (7, every(off_of(5, 7)), seen(3, 4, 3, 7), Some(Successful), Failed, Failed),
        (8, every(off_of(3, 7)), seen(3, 4, 3, 7), Some(Successful), Successful, Successful),
        (9, every(off_of(3, 9)), seen(3, 4, 3, 7), Some(Successful), Successful, Successful),
        (10, every(off_of(5, 9)), seen(3, 4, 3, 7), Some(Successful), Running, Successful),
        (11, every(limits.clone()), seen(3, 4, 3, 7), Some(Successful), Running, Successful),
        (12, every(limits.clone()), seen(5, 9, 0, 9), Some(Failed), Failed, Failed),
        (13, every(limits.clone()), seen(3, 5, 4, 8), Some(Successful), Successful, Successful),
        (14, every(limits), seen(5, 5, 4, 10), Some(Successful), Failed, Failed),
        (15, every(counted.clone()), seen(4, 6, 3, 10), Some(Failed), Inconclusive, Inconclusive),
        (16, every(counted.clone()), seen(5, 5, 3, 10), Some(Failed), Failed, Failed),
        (17, every(counted.clone()), seen(4, 6, 4, 10), Some(Successful), Successful, Successful),
        (18, every(counted.clone()), seen(5, 5, 4, 10), Some(Successful), Failed, Failed),
        (19, every(counted.clone()), seen(3, 5, 3, 8), Some(Successful), Running, Successful),
        (20, every(counted.clone()), seen(5, 3, 3, 8), Some(Successful), Failed, Failed),
        (21, every(counted.clone()), seen(3, 5, 4, 8), Some(Successful), Successful, Successful),
        (22, every(counted), seen(5, 4, 4, 9), Some(Successful), Failed, Failed),
        (
            23,
            every(json!({"inconclusiveLimit": 2})),
            i(3),
            Some(Inconclusive),
            Inconclusive,
            Inconclusive,
        ),
        (24, every(json!({"inconclusiveLimit": 3})), i(3), Some(Inconclusive), Running, Successful),
        (25, every(errors.clone()), e(5), Some(Error), Error, Error),
        (26, every(errors.clone()), e(4), Some(Error), Running, Successful),
        (
            27,
            every(json!({"count": 10})),
            seen(0, 10, 10, 10),
            Some(Successful),
            Successful,
            Successful,
        ),
        (29, json!({}), seen(1, 0, 0, 1), Some(Failed), Failed, Failed),
        (30, json!({}), i(1), Some(Inconclusive), Inconclusive, Inconclusive),
        (31, errors, e(5), Some(Error), Error, Error),
    ];
    for (row, fields, seen, last, now, terminating) in rows {
        assert_eq!(assessed(fields.clone(), seen, last, false), format!("{now:?}"), "row {row}");
        let ended = assessed(fields, seen, last, true);
        assert_eq!(ended, format!("{terminating:?}"), "row {row}, terminating");
    }
}

#[test]
fn inconclusive_measurements_outweigh_a_count_that_is_reached() {
    let seen = Seen { s: 5, i: 5, c: 10, ..Seen::default() };
    let fields = json!({"interval": "60s", "count": 10});
    assert_eq!(assessed(fields, seen, Some(Successful), false), "Inconclusive", "row 28");
}

#[test]
fn without_a_limit_of_its_own_a_metric_waits_however_many_errors_there_are() {
    let many = Seen { e: 1_000, ..Seen::default() };
    assert_eq!(assessed(json!({"interval": "60s"}), many, Some(Error), false), "Running");
    let policy = json!({"interval": "60s", "onError": "Inconclusive"});
    assert_eq!(assessed(policy, many, Some(Error), false), "Inconclusive");
}

#[test]
fn inside_a_metric_errors_outweigh_inconclusive_and_that_failures() {
    let all = Seen { f: 1, i: 1, e: 1, c: 2, ..Seen::default() };
    let limits = json!({"consecutiveErrorLimit": 0});
    assert_eq!(assessed(limits, all, Some(Error), false), "Error");
    assert_eq!(assessed(json!({}), Seen { e: 0, ..all }, Some(Failed), false), "Inconclusive");
}

fn judged(success: &str, failure: &str, outcome: &Outcome) -> (AnalysisPhase, String) {
    let fields = json!({"successCondition": success, "failureCondition": failure});
    let metric = checked::check_metric(&metric("m", fields), "metrics[0]").unwrap();
    let judged = judge(&metric, outcome);
    (judged.phase, judged.message.unwrap_or_default())
}

#[test]
fn a_measurement_follows_the_truth_table_and_failure_wins() {
    for (success, failure, expected) in [
        ("true", "false", Successful),
        ("true", "true", Failed),
        ("false", "false", Inconclusive),
        ("", "false", Successful),
        ("", "true", Failed),
        ("false", "", Failed),
        ("true", "", Successful),
        ("", "", Successful),
        ("invalidVariable", "", Error),
        ("", "1", Error),
    ] {
        let (phase, _) = judged(success, failure, &one(1.0));
        assert_eq!(phase, expected, "success {success:?}, failure {failure:?}");
    }
}

#[test]
fn prometheus_answers_are_judged_as_argos_rows_say() {
    let value = |v: f64| Outcome::from(Sample::Value(v));
    let (inf, nan) = (value(f64::INFINITY), value(f64::NAN));
    let pair = Outcome::from(Sample::Series(vec![10.0, 11.0]));
    for (outcome, success, failure, expected) in [
        (value(10.0), "result == 10", "result != 10", Successful),
        (nan, "result >= 0.9 || isNaN(result)", "", Successful),
        (inf.clone(), "result >= 0.9", "", Successful),
        (inf, "", "isInf(result)", Failed),
        (pair, "10 in result", "len(result) != 2", Successful),
    ] {
        assert_eq!(judged(success, failure, &outcome).0, expected, "{success} {failure}");
    }
}

/// Differs from Argo, where these are Failed, Inconclusive, Successful and Error.
#[test]
fn nan_and_an_empty_result_are_no_data_and_are_not_compared() {
    let nan = Outcome::from(Sample::Value(f64::NAN));
    let some_nan = Outcome::from(Sample::Series(vec![1.0, f64::NAN]));
    let empty = Outcome::from(Sample::Empty);
    for (outcome, words) in [(nan, "NaN"), (some_nan, "NaN"), (empty, "empty result")] {
        for (success, failure) in [
            ("result >= 0.9", ""),
            ("result >= 0.9", "result < 0.9"),
            ("", "result < 0.9"),
            ("all(result, # < 1)", ""),
            ("", ""),
        ] {
            let (phase, message) = judged(success, failure, &outcome);
            assert_eq!(phase, Error, "{success} {failure} {outcome:?}");
            assert!(message.starts_with("no data: ") && message.contains(words), "{message}");
        }
    }
}

#[test]
fn the_policy_for_no_data_says_what_it_is() {
    for (policy, expected) in
        [("Inconclusive", Inconclusive), ("Pass", Successful), ("Fail", Failed)]
    {
        let fields = json!({"successCondition": "result[0] > 1", "noData": policy});
        let metric = checked::check_metric(&metric("m", fields), "metrics[0]").unwrap();
        assert_eq!(judge(&metric, &Sample::Empty.into()).phase, expected);
        assert_eq!(judge(&metric, &down()).phase, Error, "a dead provider is not `no data`");
    }
}

#[test]
fn an_evaluation_error_names_the_condition_and_its_cause() {
    let (phase, message) = judged("result > 1", "", &one(1.0));
    assert_eq!(phase, Error);
    assert!(
        message.starts_with("could not evaluate successCondition \"result > 1\": "),
        "{message}"
    );
    let (_, message) = judged("len(result) > 0 || result[0] > 1", "", &Sample::Empty.into());
    assert!(message.ends_with("no data returned from the metric provider"), "{message}");
}

#[test]
fn limits_are_checked_with_argos_messages() {
    for (fields, words) in [
        (
            json!({"count": 1, "failureLimit": 2}),
            "metrics[0]: count (1) must be >= failureLimit + consecutiveSuccessLimit (2 + 0) if \
             both >= 0",
        ),
        (
            json!({"count": 1, "inconclusiveLimit": 2}),
            "metrics[0]: count must be >= inconclusiveLimit",
        ),
        (json!({"count": 2}), "metrics[0]: interval must be specified when count > 1"),
        (json!({"interval": "60s-typo"}), "invalid interval string"),
        (json!({"initialDelay": "60s-typo"}), "invalid startDelay string"),
        (json!({"failureLimit": -2}), "failureLimit must be >= 0, or -1 to be disabled"),
        (json!({"inconclusiveLimit": -1}), "inconclusiveLimit must be >= 0"),
        (json!({"consecutiveErrorLimit": -1}), "consecutiveErrorLimit must be >= 0"),
        (json!({"consecutiveSuccessLimit": -1}), "consecutiveSuccessLimit must be >= 0"),
        (
            json!({"failureLimit": -1}),
            "failureLimit and consecutiveSuccessLimit cannot both be disabled",
        ),
        (json!({"provider": null}), "no provider specified"),
        (
            json!({"provider": {"prometheus": {"query": "x"}, "web": {"url": "http://x"}}}),
            "multiple providers specified: prometheus, web",
        ),
        (
            json!({"provider": {"newRelic": {"query": "x"}}}),
            "provider.newRelic is not supported yet",
        ),
        (json!({"failureLimit": "abc"}), "metrics[0].failureLimit: \"abc\" is not a whole number"),
        (
            json!({"provider": null, "compare": {"gauge": "x", "judge": {"kayenta": {}}}}),
            "metrics[0].compare: series is for judge",
        ),
        (json!({"successCondition": "result >"}), "metrics[0].successCondition: \"result >\""),
    ] {
        let refused = checked::check_metric(&metric("m", fields.clone()), "metrics[0]");
        let refused = refused.unwrap_err();
        let text = refused.to_string();
        assert!(text.starts_with("Analysis spec invalid: ") && text.contains(words), "{text}");
    }
}
