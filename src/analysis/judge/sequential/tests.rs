//! Raw series in, answers out: against counting by hand, against the design's figures with fixed
//! seeds, and against what must hold of any run.

mod counting;
mod crowds;
mod exact;
mod noise;
mod release;
mod shared;
mod shares;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::counters::{Counters, Increment};
use super::*;
use crate::api::Verdict;

const TICK: i64 = 15;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn counting() -> Counting {
    Counting {
        started: at(0),
        tick: SignedDuration::from_secs(TICK),
        warm_up: SignedDuration::ZERO,
        weight: None,
    }
}

fn reading(pods: &[(&str, &[f64])]) -> Reading {
    let pod = |(name, values): &(&str, &[f64])| {
        ((*name).to_owned(), PodReading { created: None, values: values.to_vec() })
    };
    Reading { bounds: Vec::new(), pods: pods.iter().map(pod).collect() }
}

fn advance(counters: &mut Counters, seconds: i64, pods: &[(&str, &[f64])]) -> Increment {
    counters.advance(Kind::Ratio, &reading(pods), at(seconds), &counting())
}

#[test]
fn increments_are_differences_and_the_first_value_of_an_old_pod_is_none() {
    let mut counters = Counters::default();
    assert!(advance(&mut counters, 0, &[("a", &[5.0, 100.0])]).parts.is_empty());
    let next = advance(&mut counters, 15, &[("a", &[6.0, 130.0]), ("b", &[50.0, 900.0])]);
    assert_eq!((next.parts, next.pods, next.pod_seconds), (vec![1.0, 30.0], 2, 15.0));
    let both = advance(&mut counters, 30, &[("a", &[6.0, 150.0]), ("b", &[51.0, 910.0])]);
    assert_eq!((both.parts, both.pod_seconds), (vec![1.0, 30.0], 30.0));
}

#[test]
fn a_counter_that_fell_begins_again_at_0_with_all_of_its_process() {
    let mut counters = Counters::default();
    advance(&mut counters, 0, &[("a", &[3.0, 100.0])]);
    let reset = advance(&mut counters, 15, &[("a", &[4.0, 40.0])]);
    assert_eq!(reset.parts, [4.0, 40.0], "3 to 4 is no growth of 1: the process is a new one");
    assert_eq!(reset.quality.resets, 1);
}

#[test]
fn a_missed_scrape_is_bridged_and_counted() {
    let mut counters = Counters::default();
    advance(&mut counters, 0, &[("a", &[0.0, 100.0])]);
    assert!(advance(&mut counters, 15, &[]).parts.is_empty());
    let bridged = advance(&mut counters, 45, &[("a", &[2.0, 160.0])]);
    assert_eq!((bridged.parts, bridged.pod_seconds), (vec![2.0, 60.0], 45.0));
    assert_eq!(bridged.quality.missed, 2);
    assert!((bridged.quality.missing() - 2.0 / 3.0).abs() < 1e-12);
}

#[test]
fn values_that_make_no_sense_are_dropped_and_leave_the_counter_where_it_was() {
    let mut counters = Counters::default();
    advance(&mut counters, 0, &[("a", &[0.0, 100.0])]);
    for wrong in [f64::NAN, f64::INFINITY, -1.0] {
        let dropped = advance(&mut counters, 15, &[("a", &[0.0, wrong])]);
        assert!(dropped.parts.is_empty());
        assert_eq!(dropped.quality.dropped, 1);
    }
    assert_eq!(advance(&mut counters, 30, &[("a", &[1.0, 110.0])]).parts, [1.0, 10.0]);
}

#[test]
fn a_pod_born_in_the_run_counts_from_0_once_it_is_warm_and_one_that_left_is_forgotten() {
    let counting = Counting { warm_up: SignedDuration::from_secs(60), ..counting() };
    let born = |created: i64, values: &[f64]| {
        let pod = PodReading { created: Some(at(created)), values: values.to_vec() };
        Reading { bounds: Vec::new(), pods: BTreeMap::from([("new".to_owned(), pod)]) }
    };
    let mut counters = Counters::default();
    let cold = counters.advance(Kind::Ratio, &born(10, &[9.0, 20.0]), at(30), &counting);
    assert_eq!((cold.parts.len(), cold.quality.young), (0, 1));
    let half = counters.advance(Kind::Ratio, &born(10, &[10.0, 60.0]), at(75), &counting);
    assert_eq!((half.parts.len(), half.quality.young), (0, 1), "it was cold for a part of it");
    let warm = counters.advance(Kind::Ratio, &born(10, &[11.0, 90.0]), at(90), &counting);
    assert_eq!(warm.parts, [1.0, 30.0], "what it did while cold is not counted");
    let none = Counting { warm_up: SignedDuration::ZERO, ..counting };
    let mut counters = Counters::default();
    assert_eq!(
        counters.advance(Kind::Ratio, &born(10, &[9.0, 20.0]), at(30), &none).parts,
        [9.0, 20.0]
    );
    let back = counters.advance(Kind::Ratio, &born(-999, &[9.0, 30.0]), at(30 + 601), &none);
    assert_eq!(back.parts, [0.0, 10.0], "a gap of ten minutes is still bridged on return");
    advance(&mut counters, 1300, &[]);
    assert!(advance(&mut counters, 1315, &[("new", &[9.0, 90.0])]).parts.is_empty());
}

fn series(labels: &[(&str, &str)], value: f64) -> Series {
    let label = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Series { labels: labels.iter().map(label).collect(), value }
}

#[test]
fn a_pod_without_errors_has_0_of_them_and_one_without_traffic_is_left_out() {
    let bad = vec![series(&[("pod", "a")], 3.0), series(&[("pod", "ghost")], 1.0)];
    let total = vec![series(&[("pod", "a")], 100.0), series(&[("pod", "b")], 50.0)];
    let found = Reading::of_parts(&[bad, total], "pod", &BTreeMap::new()).unwrap();
    assert_eq!(found, reading(&[("a", &[3.0, 100.0]), ("b", &[0.0, 50.0])]));
    let nameless =
        Reading::of_parts(&[vec![series(&[("app", "web")], 1.0)]], "pod", &BTreeMap::new());
    assert_eq!(nameless, Err(ReadingError::NoPod("pod".to_owned())));
}

#[test]
fn buckets_are_brought_onto_the_bounds_that_all_pods_have() {
    let bucket = |pod: &str, le: &str, value| series(&[("pod", pod), ("le", le)], value);
    let found = Reading::of_buckets(
        &[
            bucket("a", "+Inf", 9.0),
            bucket("a", "0.5", 7.0),
            bucket("a", "0.1", 4.0),
            bucket("b", "0.5", 70.0),
            bucket("b", "+Inf", 90.0),
        ],
        "pod",
        &BTreeMap::new(),
    )
    .unwrap();
    assert_eq!(found.bounds, [0.5, f64::INFINITY]);
    assert_eq!(found.pods, reading(&[("a", &[7.0, 9.0]), ("b", &[70.0, 90.0])]).pods);
    let unbounded = Reading::of_buckets(&[series(&[("pod", "a")], 1.0)], "pod", &BTreeMap::new());
    assert_eq!(unbounded, Err(ReadingError::NoBound));
}

fn errors() -> Comparison {
    Comparison {
        name: "errors".to_owned(),
        kind: Kind::Ratio,
        direction: Direction::Increase,
        harmful: Some(1.5),
        critical: false,
        weight: 1.0,
        min_events: 0.0,
        history: Some(History::default()),
    }
}

/// Random numbers with a seed: SplitMix64.
struct Draws(u64);

impl Draws {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// By the gaps between events.
    fn poisson(&mut self, mean: f64) -> f64 {
        let (mut count, mut sum) = (0.0, 0.0);
        loop {
            sum -= (1.0 - self.uniform()).ln();
            if sum > mean {
                return count;
            }
            count += 1.0;
        }
    }
}

/// Pods whose counters grow.
struct World {
    draws: Draws,
    canary: Vec<Vec<f64>>,
    stable: Vec<Vec<f64>>,
}

impl World {
    fn new(seed: u64, canary: usize, stable: usize) -> Self {
        // A life before the run, as the stable pods have one.
        let stable = vec![vec![100.0, 10_000.0]; stable];
        Self { draws: Draws(seed), canary: vec![vec![0.0, 0.0]; canary], stable }
    }

    /// One tick: `rps` requests of which the canary gets a tenth, bad at `base` and `base * theta`.
    fn tick(&mut self, rps: f64, base: f64, theta: f64) -> Tick {
        let requests = rps * TICK as f64;
        let arms = [(&mut self.canary, 0.1, base * theta), (&mut self.stable, 0.9, base)];
        for (pods, share, bad) in arms {
            let each = requests * share / pods.len() as f64;
            for pod in pods.iter_mut() {
                // Requests are not the noise that matters: their number is what it is.
                pod[1] += each;
                pod[0] += self.draws.poisson(each * bad);
            }
        }
        self.seen()
    }

    /// The counters as they stand.
    fn seen(&self) -> Tick {
        let arm = |name: &str, pods: &[Vec<f64>]| {
            let pod = |(i, values): (usize, &Vec<f64>)| {
                (format!("{name}-{i}"), PodReading { created: None, values: values.clone() })
            };
            Reading { bounds: Vec::new(), pods: pods.iter().enumerate().map(pod).collect() }
        };
        Tick { canary: arm("canary", &self.canary), stable: arm("stable", &self.stable) }
    }
}

/// The first answer within so many ticks and its minute.
fn run(of: &Comparison, seed: u64, ticks: i64, theta: f64) -> (Verdict, f64) {
    let (mut world, mut state) = (World::new(seed, 3, 27), MetricState::default());
    let rules = Rules::level(0.01);
    for tick in 0..ticks {
        let now = at(tick * TICK);
        state.observe(of, &world.tick(200.0, 0.01, theta), now, &counting());
        let judgement = judge(&[Metric { of, state: &state }], &rules, now);
        if judgement.verdict != Verdict::Continue {
            return (judgement.verdict, (tick * TICK) as f64 / 60.0);
        }
    }
    (Verdict::Continue, f64::INFINITY)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[test]
fn twice_the_errors_are_found_within_two_and_a_half_minutes() {
    let runs: Vec<_> = (0..60).map(|seed| run(&errors(), seed, 240, 2.0)).collect();
    let failed = runs.iter().filter(|(verdict, _)| *verdict == Verdict::Fail).count();
    assert_eq!(failed, 60);
    let minutes = median(runs.into_iter().map(|(_, minutes)| minutes).collect());
    assert!(minutes <= 2.5, "{minutes}");
}

#[test]
fn an_equal_canary_passes_in_minutes_and_is_hardly_ever_failed() {
    let runs: Vec<_> = (0..100).map(|seed| run(&errors(), 1_000 + seed, 240, 1.0)).collect();
    let failed = runs.iter().filter(|(verdict, _)| *verdict == Verdict::Fail).count();
    assert!(failed <= 2, "{failed} of 100 at a level of 1%");
    let minutes = median(runs.into_iter().map(|(_, minutes)| minutes).collect());
    assert!((2.0..=5.0).contains(&minutes), "{minutes}, the design says 3.8");
}

#[test]
fn at_exactly_the_harmful_ratio_a_pass_is_rare() {
    let of = Comparison { history: None, ..errors() };
    let runs: Vec<_> = (0..100).map(|seed| run(&of, 2_000 + seed, 80, 1.5)).collect();
    let passed = runs.iter().filter(|(verdict, _)| *verdict == Verdict::Pass).count();
    assert!(passed <= 10, "{passed} of 100 at a level of 5%");
}

#[test]
fn a_failure_names_the_metric_and_the_numbers() {
    let (mut world, mut bad, mut good) =
        (World::new(7, 3, 27), MetricState::default(), MetricState::default());
    let mut other = World::new(8, 3, 27);
    let quiet = Comparison { name: "timeouts".to_owned(), ..errors() };
    let mut last = None;
    for tick in 0..40 {
        let now = at(tick * TICK);
        bad.observe(&errors(), &world.tick(200.0, 0.01, 3.0), now, &counting());
        good.observe(&quiet, &other.tick(200.0, 0.01, 1.0), now, &counting());
        let of = errors();
        let metrics = [Metric { of: &quiet, state: &good }, Metric { of: &of, state: &bad }];
        let judgement = judge(&metrics, &Rules::level(0.01), now);
        let turned = judge(&[metrics[1], metrics[0]], &Rules::level(0.01), now);
        assert_eq!(judgement.verdict, turned.verdict, "the order of metrics decides nothing");
        if judgement.verdict == Verdict::Fail {
            last = Some(judgement);
            break;
        }
    }
    let judgement = last.unwrap();
    assert_eq!(judgement.culprits, ["errors"]);
    assert!(judgement.log_e >= judgement.log_boundary);
    assert!(judgement.reason.starts_with("errors: "), "{}", judgement.reason);
    assert!(judgement.reason.contains(" times, 95% interval "), "{}", judgement.reason);
    let evidence = bad.evidence(&errors(), judgement.log_boundary);
    let canary = evidence.canary.unwrap();
    assert_eq!(canary.pods, Some(3));
    assert!(canary.counters["total"] > 0.0);
    assert!(evidence.ratio_low.unwrap() > 1.0);
}

#[test]
fn a_checkpoint_goes_on_bit_for_bit_and_an_answer_given_twice_counts_once() {
    let (mut world, mut kept, mut restored) =
        (World::new(5, 2, 8), MetricState::default(), MetricState::default());
    for tick in 0..50 {
        let answer = world.tick(50.0, 0.02, 1.3);
        kept.observe(&errors(), &answer, at(tick * TICK), &counting());
        restored.observe(&errors(), &answer, at(tick * TICK), &counting());
        restored.observe(&errors(), &answer, at(tick * TICK), &counting());
        restored = MetricState::restore(&restored.checkpoint().unwrap()).unwrap();
        assert_eq!(kept, restored);
    }
    assert!(kept.checkpoint().unwrap().len() < 12_000, "{}", kept.checkpoint().unwrap().len());
    let newer = kept.checkpoint().unwrap().replacen("\"schema\":1", "\"schema\":9", 1);
    assert_eq!(MetricState::restore(&newer), Err(CheckpointError::Newer(9)));
    assert!(matches!(MetricState::restore("{"), Err(CheckpointError::Unreadable(_))));
}

/// What is missing after so many ticks of these answers.
fn lacking(of: &Comparison, rules: &Rules, answers: &[Tick]) -> Judgement {
    let mut state = MetricState::default();
    let mut now = at(0);
    for (tick, answer) in answers.iter().enumerate() {
        now = at(tick as i64 * TICK);
        state.observe(of, answer, now, &counting());
    }
    judge(&[Metric { of, state: &state }], rules, now)
}

#[test]
fn without_series_or_traffic_it_waits_and_says_for_what() {
    let rules = Rules::level(0.01);
    let silent =
        vec![Tick { canary: Reading::default(), stable: reading(&[("s", &[0.0, 9.0])]) }; 5];
    let judgement = lacking(&errors(), &rules, &silent);
    assert_eq!(judgement.verdict, Verdict::Continue);
    assert!(judgement.reason.contains("no series of the canary pods"), "{}", judgement.reason);
    let grows = |i: f64| reading(&[("s", &[i, i * 100.0])]);
    let idle: Vec<_> = (0..8)
        .map(|i| Tick { canary: reading(&[("c", &[0.0, 5.0])]), stable: grows(f64::from(i)) })
        .collect();
    let judgement = lacking(&errors(), &rules, &idle);
    assert!(judgement.reason.contains("the canary pods get no traffic"), "{}", judgement.reason);
    let late = Rules { ends: Some(at(60)), ..rules };
    let judgement = lacking(&errors(), &late, &idle);
    assert_eq!(judgement.verdict, Verdict::Inconclusive);
    assert!(judgement.reason.starts_with("time is up: "), "{}", judgement.reason);
}

#[test]
fn with_little_traffic_it_says_how_many_minutes_and_which_weight() {
    let mut world = World::new(11, 3, 27);
    let answers: Vec<_> = (0..20).map(|_| world.tick(200.0, 0.001, 1.0)).collect();
    let rules = Rules { ends: Some(at(60 * 60)), ..Rules::level(0.01) };
    let judgement = lacking(&errors(), &rules, &answers);
    assert_eq!(judgement.verdict, Verdict::Continue);
    let minutes = judgement.minutes().unwrap();
    assert!((60..=140).contains(&minutes), "{minutes}: nine of ten within 97 by the formula");
    let weight = judgement.lacks[0].weight.unwrap();
    assert!((11.0..=50.0).contains(&weight), "{weight}");
}

#[test]
fn pods_that_differ_more_than_the_harm_are_told_and_never_passed() {
    let of = Comparison { history: None, ..errors() };
    let life = |i: u32| [f64::from(i % 9 * 40), 10_000.0];
    let at_tick = |tick: u32| {
        let grown = |i: u32| life(i).map(|value| value * (1.0 + 0.2 * f64::from(tick)));
        let stable: BTreeMap<String, PodReading> = (0..27)
            .map(|i| (format!("s{i}"), PodReading { created: None, values: grown(i).to_vec() }))
            .collect();
        let canary = reading(&[("c", &grown(4))]);
        Tick { canary, stable: Reading { bounds: Vec::new(), pods: stable } }
    };
    let answers: Vec<_> = (0..80).map(at_tick).collect();
    let judgement = lacking(&of, &Rules::level(0.01), &answers);
    assert_eq!(judgement.verdict, Verdict::Inconclusive);
    let What::Pods { have, need } = judgement.lacks[0].what.clone() else {
        panic!("{:?}", judgement.lacks)
    };
    assert_eq!(have, 1);
    assert!(need.is_none_or(|need| need > 1));
    assert!(judgement.reason.starts_with("more time does not help: "), "{}", judgement.reason);
}

/// Cumulative buckets of lognormal latencies (median 80 ms, sigma 0.6), slower by `factor`.
fn latencies(draws: &mut Draws, into: &mut [f64], requests: u32, factor: f64) {
    for _ in 0..requests {
        let radius = (-2.0 * (1.0 - draws.uniform()).ln()).sqrt();
        let normal = radius * (std::f64::consts::TAU * draws.uniform()).cos();
        let seconds = 0.08 * factor * (0.6 * normal).exp();
        for (count, bound) in into.iter_mut().zip(BOUNDS) {
            *count += f64::from(seconds <= bound);
        }
    }
}

const BOUNDS: [f64; 12] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, f64::INFINITY];

fn latency_run(history: Option<History>, factor: f64, seed: u64, ticks: i64) -> (Verdict, i64) {
    let of = Comparison {
        name: "latency".to_owned(),
        kind: Kind::Histogram,
        harmful: Some(1.25),
        history,
        ..errors()
    };
    let mut draws = Draws(seed);
    let (mut canary, mut stable) = (vec![0.0; 12], vec![0.0; 12]);
    latencies(&mut draws, &mut stable, 2_000, 1.0);
    let mut state = MetricState::default();
    for tick in 0..ticks {
        latencies(&mut draws, &mut canary, 75, factor);
        latencies(&mut draws, &mut stable, 675, 1.0);
        let arm = |name: &str, values: &[f64]| Reading {
            bounds: BOUNDS.to_vec(),
            ..reading(&[(name, values)])
        };
        let answer = Tick { canary: arm("c", &canary), stable: arm("s", &stable) };
        state.observe(&of, &answer, at(tick * TICK), &counting());
        let metrics = [Metric { of: &of, state: &state }];
        let judgement = judge(&metrics, &Rules::level(0.01), at(tick * TICK));
        if judgement.verdict == Verdict::Fail {
            assert!(judgement.reason.starts_with("latency: "), "{}", judgement.reason);
            return (Verdict::Fail, tick);
        }
    }
    let restored = MetricState::restore(&state.checkpoint().unwrap()).unwrap();
    assert_eq!(restored, state);
    (Verdict::Continue, ticks)
}

#[test]
fn a_slower_canary_is_found_from_its_buckets_and_an_equal_one_is_not_failed() {
    for history in [Some(History::default()), None] {
        let (verdict, tick) = latency_run(history, 1.5, 3, 60);
        assert_eq!(verdict, Verdict::Fail);
        assert!(tick <= 16, "tick {tick}");
        assert_eq!(latency_run(history, 1.0, 4, 60).0, Verdict::Continue);
    }
}

#[test]
fn a_gauge_needs_history_and_then_finds_growth() {
    let of = Comparison {
        name: "memory".to_owned(),
        kind: Kind::Gauge,
        harmful: Some(1.2),
        history: None,
        ..errors()
    };
    let level = |level: f64, i: u32| 1e9 * level * (1.0 + 0.01 * f64::from(i * 7 % 5));
    let answers = |growth: f64| -> Vec<Tick> {
        let tick = |i| Tick {
            canary: reading(&[("c", &[level(growth, i)])]),
            stable: reading(&[("s", &[level(1.0, i + 3)])]),
        };
        (0..60).map(tick).collect()
    };
    let rules = Rules::level(0.01);
    let judgement = lacking(&of, &rules, &answers(1.3));
    assert_eq!(judgement.verdict, Verdict::Inconclusive);
    assert!(judgement.reason.contains("a gauge needs history"), "{}", judgement.reason);
    let known =
        Comparison { history: Some(History { deviation: Some(0.2), ..History::default() }), ..of };
    assert_eq!(lacking(&known, &rules, &answers(1.3)).verdict, Verdict::Fail);
    assert_eq!(lacking(&known, &rules, &answers(1.0)).verdict, Verdict::Pass);
}

#[test]
fn fewer_is_worse_where_the_template_says_so_and_few_events_say_nothing() {
    let of = Comparison { direction: Direction::Decrease, ..errors() };
    assert_eq!(run(&of, 21, 240, 0.4).0, Verdict::Fail);
    assert_eq!(run(&errors(), 21, 240, 0.4).0, Verdict::Pass);
    let shy = Comparison { min_events: 1e9, ..errors() };
    let mut world = World::new(3, 3, 27);
    let answers: Vec<_> = (0..20).map(|_| world.tick(200.0, 0.01, 9.0)).collect();
    let judgement = lacking(&shy, &Rules::level(0.01), &answers);
    assert_eq!(judgement.verdict, Verdict::Continue);
    assert!(judgement.reason.contains(" of 1000000000 events"), "{}", judgement.reason);
}

#[test]
fn a_share_that_is_not_the_planned_one_is_told() {
    let mut watch = ExposureWatch::default();
    for _ in 0..20 {
        watch.observe(Some(0.1), 300.0, 2_700.0);
    }
    assert_eq!(watch.complaint(), None);
    for _ in 0..20 {
        watch.observe(Some(0.2), 300.0, 2_700.0);
    }
    let complaint = watch.complaint().unwrap();
    assert!(complaint.contains("gets 10% of the requests where 20% were asked for"), "{complaint}");
    for _ in 0..20 {
        watch.observe(Some(0.3), 900.0, 2_100.0);
    }
    assert_eq!(watch.complaint(), None, "this step gets what was asked for");
    let mut all = ExposureWatch::default();
    all.observe(Some(1.0), 500.0, 0.0);
    assert_eq!(all.complaint(), None);
}

/// Ticks of one pod in each arm: bad and all requests of the canary and of the stable version.
type Flow = (u16, u16, u16, u16);

fn flows(ticks: &[Flow], extra: f64) -> MetricState {
    judged_flows(ticks, extra).0
}

/// The state after these ticks, and when the canary failed.
fn judged_flows(flows: &[Flow], extra: f64) -> (MetricState, Option<usize>) {
    let (of, mut failed) = (errors(), None);
    let (mut state, mut canary, mut stable) = (MetricState::default(), [0.0, 0.0], [10.0, 1_000.0]);
    for (tick, (bad, all, stable_bad, stable_all)) in flows.iter().enumerate() {
        canary[0] += f64::from(*bad) + extra;
        canary[1] += f64::from(*all);
        stable[0] += f64::from(*stable_bad);
        stable[1] += f64::from(*stable_all);
        let answer =
            Tick { canary: reading(&[("c", &canary)]), stable: reading(&[("s", &stable)]) };
        let now = at(tick as i64 * TICK);
        state.observe(&of, &answer, now, &counting());
        let judged = judge(&[Metric { of: &of, state: &state }], &Rules::level(0.05), now);
        failed = failed.or_else(|| (judged.verdict == Verdict::Fail).then_some(tick));
    }
    (state, failed)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        rng_seed: RngSeed::Fixed(3),
        ..ProptestConfig::default()
    })]

    #[test]
    fn more_errors_of_the_canary_are_never_less_evidence_while_the_share_of_both_does_not_jump(
        ticks in prop::collection::vec((20_u16..24, 300_u16..340, 20_u16..24, 300_u16..340), 2..40),
    ) {
        let ((few, late), (many, early)) = (judged_flows(&ticks, 0.0), judged_flows(&ticks, 1.0));
        prop_assert!(late.is_none_or(|late| early.is_some_and(|early| early <= late)));
        prop_assert!(many.log_e(&errors()) >= few.log_e(&errors()) - 1e-9);
        prop_assert!(many.log_e_pass(&errors()) <= few.log_e_pass(&errors()) + 1e-9);
    }

    #[test]
    fn ticks_without_traffic_or_sense_change_nothing(
        ticks in prop::collection::vec((0_u16..50, 50_u16..500, 0_u16..50, 50_u16..500), 2..20),
        wrong in prop::sample::select(vec![f64::NAN, f64::INFINITY, -1.0]),
    ) {
        let plain = flows(&ticks, 0.0);
        let mut disturbed = plain.clone();
        let end = ticks.len() as i64 * TICK;
        let nothing = Tick::default();
        let broken = Tick {
            canary: reading(&[("c", &[wrong, 5.0])]),
            stable: reading(&[("s", &[1.0, wrong])]),
        };
        disturbed.observe(&errors(), &nothing, at(end), &counting());
        disturbed.observe(&errors(), &broken, at(end + TICK), &counting());
        let same = |a: f64, b: f64| (a - b).abs() < 1e-12;
        prop_assert!(same(disturbed.log_e(&errors()), plain.log_e(&errors())));
        prop_assert!(same(disturbed.log_e_pass(&errors()), plain.log_e_pass(&errors())));
    }
}
