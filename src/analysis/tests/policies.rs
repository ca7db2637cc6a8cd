//! What each kind of no data and of errors is, said apart.

use AnalysisPhase::{Error, Failed, Inconclusive, Running, Successful};
use serde_json::json;

use super::super::judge::judge;
use super::super::metric as checked;
use super::*;

/// The policies and what a measurement or metric is by each.
const NO_DATA: [(&str, AnalysisPhase); 4] =
    [("Wait", Error), ("Pass", Successful), ("Fail", Failed), ("Inconclusive", Inconclusive)];

fn ended(values: &[f64]) -> Outcome {
    Sample::Stale { newest: START, values: values.to_vec() }.into()
}

fn judged(fields: Value, outcome: &Outcome) -> AnalysisPhase {
    let metric = checked::check_metric(&metric("m", fields), "metrics[0]").unwrap();
    judge(&metric, outcome).phase
}

#[test]
fn what_each_kind_of_no_data_is_can_be_said_apart() {
    let kinds = [
        ("noData", Outcome::from(Sample::Empty)),
        ("onNaN", one(f64::NAN)),
        ("onStale", ended(&[0.5])),
    ];
    for (policy, phase) in NO_DATA {
        for (field, outcome) in &kinds {
            let mut fields = json!({"successCondition": "result[0] < 1"});
            fields["noData"] = json!(policy);
            assert_eq!(judged(fields.clone(), outcome), phase, "{field} by noData {policy}");
            fields["noData"] = json!(if policy == "Fail" { "Pass" } else { "Fail" });
            fields[*field] = json!(policy);
            assert_eq!(judged(fields, outcome), phase, "{field} {policy}");
        }
    }
}

#[test]
fn series_that_have_ended_are_judged_by_their_values_where_that_is_asked_for() {
    for (fields, values, expected) in [
        (
            json!({"noData": "Judge", "successCondition": "len(result) < 10"}),
            [0.1, 0.2],
            Successful,
        ),
        (json!({"onStale": "Judge", "failureCondition": "result[1] > 0.1"}), [0.1, 0.2], Failed),
        (json!({"successCondition": "len(result) < 10"}), [0.1, 0.2], Error),
        // NaN among them is still no data.
        (json!({"onStale": "Judge", "failureCondition": "result[1] > 1"}), [0.1, f64::NAN], Error),
    ] {
        assert_eq!(judged(fields.clone(), &ended(&values)), expected, "{fields}");
    }
    let fields = json!({"onStale": "Judge", "successCondition": "result[0] < 0.1"});
    let mut run = run_of(vec![metric("m", fields)]);
    answer(&mut run, &[("m", ended(&[0.2]))], START);
    assert_eq!(verdict(&run).reason(), "m: 0.2 >= 0.1 in 1 of 1 measurements");
}

fn error(kind: ErrorKind) -> Outcome {
    Outcome::Error(QueryError { kind, message: "x".to_owned(), retry_after: None })
}

/// The phase of a metric after these answers, a minute apart.
fn after(fields: &Value, answers: &[Outcome]) -> AnalysisPhase {
    let mut with = json!({"successCondition": "result[0] < 1", "interval": "60s"});
    with.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let mut run = run_of(vec![metric("m", with)]);
    for (i, outcome) in answers.iter().enumerate() {
        answer(&mut run, &[("m", outcome.clone())], at(i as i64 * 60));
    }
    run.status.unwrap().metric_results[0].phase.unwrap()
}

#[test]
fn what_each_kind_of_error_makes_of_a_metric_can_be_said_apart() {
    use ErrorKind::{RateLimited, Server, Timeout};
    let many = |kind, times| vec![error(kind); times];
    for (field, kind) in
        [("onError", Server), ("onTimeout", Timeout), ("onRateLimited", RateLimited)]
    {
        for (policy, phase) in NO_DATA {
            let phase = if policy == "Wait" { Running } else { phase };
            for fields in [json!({"onError": policy}), json!({field: policy})] {
                assert_eq!(after(&fields, &many(kind, 4)), Running, "{fields} {kind:?}");
                assert_eq!(after(&fields, &many(kind, 5)), phase, "{fields} {kind:?}");
            }
        }
    }
    let apart = json!({"onError": "Fail", "onRateLimited": "Wait"});
    let mixed = |servers: usize| [many(RateLimited, 20), many(Server, servers)].concat();
    assert_eq!(after(&apart, &mixed(4)), Running, "a limited rate fails no release");
    assert_eq!(after(&apart, &mixed(5)), Failed);
    let answered = [many(Server, 4), vec![one(0.0)], many(Server, 4)].concat();
    assert_eq!(after(&apart, &answered), Running, "they are in a row");
    let alike = json!({"consecutiveErrorLimit": 4});
    let both = [many(Timeout, 3), many(Server, 2)].concat();
    assert_eq!(after(&alike, &both), Error, "as Argo: of any kind");
}
