//! Any release, met by any workload.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;

fn stage() -> impl Strategy<Value = Stage> {
    prop::sample::select(vec![
        Stage::Stepping,
        Stage::Finalising,
        Stage::RollingBack,
        Stage::LettingGo,
        Stage::Isolated,
        Stage::Suspended,
    ])
}

fn state() -> impl Strategy<Value = StepState> {
    prop::sample::select(vec![
        StepState::BeforeStepUpgrade,
        StepState::StepUpgrade,
        StepState::StepTrafficRouting,
        StepState::StepMetricsAnalysis,
        StepState::StepPaused,
        StepState::StepReady,
        StepState::Completed,
    ])
}

fn verb() -> impl Strategy<Value = Option<RequestVerb>> {
    prop::option::of(prop::sample::select(vec![
        RequestVerb::Approve,
        RequestVerb::PromoteFull,
        RequestVerb::Abort,
        RequestVerb::Retry,
        RequestVerb::Skip,
        RequestVerb::Restart,
        RequestVerb::Pause,
        RequestVerb::Isolate,
    ]))
}

prop_compose! {
    /// A release in any stage, met by a workload that looks in any way.
    fn any_snapshot()(
        (stage, state, verb) in (stage(), state(), verb()),
        (new, old, middle) in (0..12_i32, 0..12_i32, 0..4_i32),
        (n, step) in (0..12_i32, -1..5_i32),
        ready in 0..12_i32,
        version in prop::sample::select(vec!["v1", "v2", "v3"]),
        flags in prop::array::uniform8(any::<bool>()),
    ) -> Snapshot {
        let [paused, knob, disabled, deleting, gone, frozen, user_paused, no_stable] = flags;
        let mut s = released(stage, state, new, old);
        let mut sets = vec![set("v1", old, old), set("v3", middle, middle), set("v2", new, ready.min(new))];
        if no_stable {
            sets.remove(0);
        }
        let mut view = workload(version, sets);
        view.replicas = n;
        view.fields.paused = paused;
        if knob {
            view.fields.min_ready_seconds = Some(crate::workload::NEVER_READY_SECONDS);
        }
        s.workload = (!gone).then_some(view);
        s.rollout.spec.disabled = disabled;
        s.rollout.spec.strategy.paused = frozen;
        if deleting {
            s.rollout.metadata.deletion_timestamp =
                Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(NOW));
        }
        let r = release(&mut s);
        r.step = step;
        r.originals.paused = user_paused;
        if stage == Stage::Suspended {
            r.suspended_template = Some(template("v2").to_string());
        }
        if let Some(verb) = verb {
            ask(&mut s, verb);
        }
        s
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        rng_seed: RngSeed::Fixed(5),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_snapshot_has_one_plan_that_breaks_no_invariant(s in any_snapshot()) {
        let made = plan(&s, NOW);
        let found = check(&s, &made);
        prop_assert!(found.is_empty(), "{:?} {:#?}", found, made);
        let again = plan(&s, NOW);
        prop_assert_eq!(format!("{made:?}"), format!("{again:?}"));
        let text = serde_json::to_string(&made.status).unwrap();
        let back: RolloutStatus = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(back, made.status);
    }
}
