//! ACA-Bench with few runs and a fixed seed: what `docs/benchmark.md` says still holds. `RUNS=n` asks for
//! more of them.

#[path = "../../benches/aca/draw.rs"]
mod draw;
#[path = "../../benches/aca/exact.rs"]
#[allow(dead_code, reason = "the bench prints all of it")]
mod exact;
#[path = "../../benches/aca/figures.rs"]
#[allow(dead_code, reason = "the bench draws them")]
mod figures;
#[path = "../../benches/aca/measure.rs"]
mod measure;
#[path = "../../benches/aca/ours.rs"]
mod ours;
#[path = "../../benches/aca/peers.rs"]
mod peers;
mod recorded;
#[path = "../../benches/aca/shipped.rs"]
#[allow(dead_code, reason = "the bench prints all of it")]
mod shipped;
#[path = "../../benches/aca/tables.rs"]
#[allow(dead_code, reason = "the bench prints all of it")]
mod tables;
#[path = "../../benches/aca/targets.rs"]
#[allow(dead_code, reason = "the bench prints all of it")]
mod targets;
#[path = "../../benches/aca/world.rs"]
mod world;

use measure::play;
use targets::Answer;
use world::{Effect, Nuisance, Scenario};

const SEED: u64 = 20_250_601;

fn runs(usual: usize) -> usize {
    std::env::var("RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// In 200 runs each; a rate of one per cent is refuted when the whole interval lies above it.
#[test]
fn without_noise_of_an_arm_a_good_release_is_rolled_back_in_at_most_one_of_a_hundred() {
    for (name, scenario) in tables::scenarios().into_iter().take(5) {
        let (names, rules): (Vec<_>, Vec<_>) = tables::rules(&scenario).into_iter().unzip();
        for (rule, measure) in names.iter().zip(play(&scenario, runs(200), SEED, &rules)) {
            assert!(measure.interval().0 <= 1.0, "{name}, {rule}: {}", measure.cell());
        }
    }
}

#[test]
fn a_history_keeps_the_promise_where_the_model_cannot() {
    let scenario = Scenario::new(200.0, 0.01, Effect::None, Nuisance::Arms(0.8, 0.3));
    let effects = [Effect::None, Effect::Times(3.0)];
    let measures = tables::play_calibrated(&scenario, &effects, 3, runs(300), SEED);
    let [model, .., both] = &measures[0];
    assert!(model.percent() > 25.0, "the noise is too weak to show anything: {}", model.cell());
    assert!(both.interval().0 <= 1.0, "{}", both.cell());
    assert!(measures[1][3].percent() > 95.0, "{}", measures[1][3].cell());
}

/// What the few runs of the test show to be met; of the others they show only that they may be.
const MET: [&str; 5] = [
    "x2 at 1 %, 200 rps",
    "x1.5 at 0.1 %, all stable, exact",
    "x5 at 0.1 %",
    "x2 at 1 % from minute 30",
    "other units",
];

/// The seed makes this exact: it fails only when a rule has changed.
#[test]
fn no_target_is_refuted_and_those_that_few_runs_can_show_are_met() {
    let mut missed = Vec::new();
    for (name, target) in targets::ALL {
        // Those that play more scenarios or histories than one do it with fewer runs.
        let usual = match name {
            _ if name.contains("calibrated") => 80,
            _ if name.contains("planner") || name.contains("distance") => 100,
            _ if name.contains("latency") || name.contains("requests x4") => 60,
            _ => 300,
        };
        let targets::Line { wanted, measured, answer } = target(runs(usual), SEED);
        println!("{name}: wanted {wanted}, measured {measured}: {answer}");
        let enough = if MET.contains(&name) { Answer::Met } else { Answer::NotRefuted };
        if answer > enough {
            missed.push(format!("{name}: wanted {wanted}, measured {measured}"));
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}

/// From tables of the sign test, and by summing the binomial for nine of ten.
#[test]
fn the_interval_of_a_median_has_the_ranks_of_the_sign_test() {
    for (of, low, high) in [(5, 0, 6), (6, 1, 6), (10, 2, 9), (25, 8, 18), (100, 40, 61)] {
        assert_eq!(measure::ranks(of, 0.5), (low, high), "{of}");
    }
    assert_eq!(measure::ranks(100, 0.9), (84, 96));
}

/// What the comparison rests on: the peers' rules do what their documentation says.
#[test]
fn the_rules_of_the_peers_do_as_they_are_known_to() {
    let rate = |scenario: &Scenario, rule: usize| {
        let rules: Vec<_> = measure::peers().into_iter().map(|(_, rule)| rule).collect();
        play(scenario, runs(60), SEED, &rules[rule..=rule]).remove(0).percent()
    };
    let same = Scenario::new(200.0, 0.01, Effect::None, Nuisance::None);
    assert_eq!(rate(&same, 0), 100.0, "Flagger at the edge of its threshold");
    assert_eq!(rate(&same, 1), 0.0, "Argo far below its threshold");
    assert!(rate(&same, 4) < 10.0, "Kayenta on independent points");
    let double = Scenario { effect: Effect::Times(2.0), ..same };
    assert_eq!([rate(&double, 4), rate(&double, 6)], [100.0; 2], "Kayenta and Pocock");
}

/// The rule of the controller without any history but the lives of the stable pods.
#[test]
fn the_rule_as_shipped_is_as_quick_as_promised_and_no_more_often_wrong() {
    let double = Scenario::new(200.0, 0.01, Effect::Times(2.0), Nuisance::None);
    let found = shipped::uncalibrated(&shipped::Row::new("x2", double), runs(200), SEED);
    assert!(found.quantile(0.5) <= 2.0, "{}, from the birth of the pods", found.cell());
    for row in shipped::rows().into_iter().take(8) {
        let wrong = shipped::uncalibrated(&row, runs(60), SEED);
        assert!(wrong.interval().0 <= 1.0, "{}: {}", row.name, wrong.cell());
    }
}
