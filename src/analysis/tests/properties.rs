//! What holds for every template and every sequence of answers.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde_json::json;

use super::*;

fn absence() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        Just(Sample::Empty.into()),
        Just(Sample::Value(f64::NAN).into()),
        Just(Sample::Series(vec![f64::NAN]).into()),
        Just(Sample::Series(vec![0.0, f64::NAN]).into()),
        Just(down()),
    ]
}

fn any_outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        absence(),
        (0.0..1.0f64).prop_map(one),
        (0.0..1.0f64).prop_map(|v| { Sample::Value(v).into() })
    ]
}

fn conditions() -> impl Strategy<Value = (String, String)> {
    let condition = prop_oneof![
        Just(""),
        Just("result[0] <= 0.5"),
        Just("any(result, # > 0.5)"),
        Just("all(result, # < 0.5)"),
        Just("true"),
        Just("false"),
    ];
    (condition.clone(), condition).prop_map(|(s, f)| (s.to_owned(), f.to_owned()))
}

/// Fields of a metric that has at most `failures` failures, with an optional count.
fn limits() -> impl Strategy<Value = (i32, i32, Option<i32>)> {
    (0..4, 0..4, prop::option::of(8..12))
}

fn play(run: &mut AnalysisRun, outcomes: &[Outcome]) {
    let mut now = START;
    for outcome in outcomes {
        let planned = plan(run, now);
        run.status = Some(planned.status);
        if planned.due.is_empty() {
            match planned.wake {
                Some(wake) => {
                    assert!(wake > now, "a wake in the past spins");
                    now = wake;
                }
                None => return,
            }
            due(run, now);
        }
        answer(run, &[("m", outcome.clone())], now);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        rng_seed: RngSeed::Fixed(20_260_101),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_data_alone_never_passes_never_fails_and_never_ends_a_run(
        outcomes in prop::collection::vec(absence(), 1..40),
        (success, failure) in conditions(),
        (failures, inconclusive, count) in limits(),
    ) {
        let fields = json!({"interval": "30s", "count": count, "failureLimit": failures,
            "inconclusiveLimit": inconclusive, "successCondition": success,
            "failureCondition": failure});
        let mut run = run_of(vec![metric("m", fields)]);
        play(&mut run, &outcomes);
        prop_assert_eq!(phase(&run), AnalysisPhase::Running);
        prop_assert!(message(&run).starts_with("waiting for data: m: "));
        let waits = matches!(verdict(&run), Verdict::Continue { .. });
        prop_assert!(waits);
        run.spec.terminate = true;
        due(&mut run, at(1_000_000));
        prop_assert_eq!(verdict(&run).kind(), crate::api::Verdict::Inconclusive);
    }

    #[test]
    fn a_higher_failure_limit_never_turns_another_verdict_into_fail(
        outcomes in prop::collection::vec(any_outcome(), 1..30),
        (success, failure) in conditions(),
        (failures, inconclusive, count) in limits(),
    ) {
        let verdict_with = |failures: i32| {
            let fields = json!({"interval": "30s", "count": count, "failureLimit": failures,
                "inconclusiveLimit": inconclusive, "successCondition": success,
                "failureCondition": failure});
            let mut run = run_of(vec![metric("m", fields)]);
            play(&mut run, &outcomes);
            verdict(&run).kind()
        };
        let (strict, loose) = (verdict_with(failures), verdict_with(failures + 1));
        let fail = crate::api::Verdict::Fail;
        prop_assert!(loose != fail || strict == fail);
        prop_assert!(strict != crate::api::Verdict::Pass || loose == strict);
    }

    #[test]
    fn a_run_under_way_is_never_stuck_and_planning_twice_changes_nothing(
        outcomes in prop::collection::vec(any_outcome(), 0..20),
        (success, failure) in conditions(),
        (failures, inconclusive, count) in limits(),
        later in 0i64..400,
    ) {
        let fields = json!({"interval": "30s", "count": count, "failureLimit": failures,
            "inconclusiveLimit": inconclusive, "successCondition": success,
            "failureCondition": failure});
        let mut run = run_of(vec![metric("m", fields)]);
        play(&mut run, &outcomes);
        let first = plan(&run, at(later));
        let running = first.status.phase == Some(AnalysisPhase::Running);
        prop_assert_eq!(running, !first.due.is_empty() || first.wake.is_some());
        run.status = Some(first.status.clone());
        prop_assert_eq!(plan(&run, at(later)), first);
    }

    #[test]
    fn no_text_breaks_the_condition_compiler(text in "[ -~]{0,60}", value in any::<f64>()) {
        if let Ok(condition) = super::super::condition::Condition::compile(&text) {
            let _ = condition.holds(&Sample::Value(value));
            let _ = condition.holds(&Sample::Series(vec![value]));
        }
    }
}
