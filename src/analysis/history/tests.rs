//! Windows of a history whose pods are known: what they hold is compared with what a run would have
//! been told tick by tick.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::analysis::judge::sequential::{
    Comparison, Counting, Direction, History, Kind, MetricState, Reading, Series, Tick,
};
use crate::analysis::sample::Line;

const TICK: SignedDuration = SignedDuration::from_secs(15);
const HOUR: SignedDuration = SignedDuration::from_hours(1);

fn at(tick: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_100 + 15 * tick).unwrap()
}

fn line(labels: &[(&str, &str)], points: impl IntoIterator<Item = (i64, f64)>) -> Line {
    let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Line { labels, points: points.into_iter().map(|(tick, value)| (at(tick), value)).collect() }
}

/// Ten pods of one ReplicaSet; pod `p` gets 100 requests each tick, `p` of them bad.
fn traffic(ticks: std::ops::RangeInclusive<i64>) -> [Vec<Line>; 2] {
    [0, 1].map(|part| {
        (0..10)
            .map(|p| {
                let each = if part == 0 { f64::from(p) } else { 100.0 };
                let pod = format!("web-5d4b-{p}");
                line(&[("pod", &pod)], ticks.clone().map(|t| (t, 1e4 + each * t as f64)))
            })
            .collect()
    })
}

fn ratio() -> Comparison {
    Comparison {
        name: "errors".to_owned(),
        kind: Kind::Ratio,
        direction: Direction::Increase,
        harmful: None,
        critical: false,
        weight: 1.0,
        min_events: 0.0,
        history: Some(History::default()),
    }
}

fn rule(canary: usize, seed: u64) -> Cut {
    Cut::new(HOUR, TICK, canary, seed)
}

fn slice(parts: &[Vec<Line>]) -> Slice {
    Slice::read(Kind::Ratio, parts, "pod").unwrap()
}

/// The answers of single instants, as a run gets them.
fn instants(parts: &[Vec<Line>], now: Timestamp) -> Vec<Vec<Series>> {
    let one = |line: &Line| {
        let value = line.points.iter().find(|(at, _)| *at == now).map(|(_, value)| *value)?;
        Some(Series { labels: line.labels.clone(), value })
    };
    parts.iter().map(|lines| lines.iter().filter_map(one).collect()).collect()
}

#[test]
fn windows_do_not_overlap_and_reach_from_now_to_the_beginning() {
    let until = at(7);
    let found = starts(until, 14 * 24 * HOUR, &rule(3, 1), 200);
    assert_eq!(found.len(), 200);
    assert!(found[0] <= until - HOUR && found[0] > until - HOUR - TICK);
    let oldest = until - 14 * 24 * HOUR;
    assert!(found[199] >= oldest - TICK && found[199] < oldest + HOUR, "{}", found[199]);
    assert!(found.windows(2).all(|pair| pair[0].duration_since(pair[1]) >= HOUR));
    assert!(found.iter().all(|start| start.as_second() % 15 == 0));
    assert_eq!(
        starts(until, 3 * HOUR, &rule(3, 1), 200).len(),
        3,
        "no more than there is room for"
    );
    assert_eq!(starts(until, HOUR / 2, &rule(3, 1), 200), []);
}

#[test]
fn a_range_gives_the_readings_that_single_queries_would_have_given() {
    let mut parts = traffic(0..=20).to_vec();
    // A pod that comes late, one without errors so far, one that misses a scrape, one that only has
    // errors left.
    parts[1][0].points.drain(..5);
    parts[0][0].points.drain(..8);
    parts[1][1].points.remove(7);
    parts[0].remove(2);
    parts[1][3].points.truncate(9);
    let found = slice(&parts);
    let created = BTreeMap::new();
    for tick in 0..=20 {
        let expected = Reading::of_parts(&instants(&parts, at(tick)), "pod", &created).unwrap();
        assert_eq!(found.readings[&at(tick)], expected, "tick {tick}");
    }
}

#[test]
fn buckets_are_those_that_all_pods_have() {
    let bucket = |pod: &str, le: &str, each: f64| {
        line(&[("pod", pod), ("le", le)], (0..=4).map(|t| (t, each * t as f64)))
    };
    let mut lines = vec![
        bucket("web-a-1", "+Inf", 9.0),
        bucket("web-a-1", "0.5", 7.0),
        bucket("web-a-1", "0.1", 4.0),
        bucket("web-a-2", "0.5", 6.0),
        bucket("web-a-2", "+Inf", 8.0),
    ];
    let read = |lines: &[Line]| Slice::read(Kind::Histogram, &[lines.to_vec()], "pod").unwrap();
    let found = read(&lines);
    let expected =
        Reading::of_buckets(&instants(&[lines.clone()], at(3))[0], "pod", &BTreeMap::new());
    assert_eq!(found.readings[&at(3)], expected.unwrap());
    assert_eq!(found.readings[&at(3)].bounds, [0.5, f64::INFINITY]);
    lines[3].points.remove(2);
    let found = read(&lines);
    assert_eq!(found.readings[&at(2)].pods.len(), 1, "half of a histogram is none");
    let unnamed = vec![line(&[("pod", "web-a-1")], [(0, 1.0)])];
    assert!(Slice::read(Kind::Histogram, &[unnamed], "pod").is_err());
}

#[test]
fn seed_and_time_draw_the_canary_and_every_pod_gets_its_turn() {
    let parts = traffic(0..=240);
    let drawn = |seed| {
        let slices = [slice(&parts), slice(&parts)];
        let windows = cut(&slices, at(0), &rule(3, seed)).unwrap();
        assert_eq!(windows[0].canary, windows[1].canary, "one canary for all comparisons");
        windows[0].canary.clone()
    };
    assert_eq!(drawn(7), drawn(7));
    let mut turns: BTreeMap<String, usize> = BTreeMap::new();
    for seed in 0..200 {
        let canary = drawn(seed);
        assert_eq!(canary.iter().collect::<BTreeSet<_>>().len(), 3);
        canary.into_iter().for_each(|pod| *turns.entry(pod).or_default() += 1);
    }
    // 200 draws of 3 of 10: 60 turns each, deviation 6.5.
    assert!(turns.len() == 10 && turns.values().all(|n| (34..=86).contains(n)), "{turns:?}");
}

#[test]
fn a_canary_may_grow_step_by_step() {
    let steps = vec![(SignedDuration::ZERO, 1), (HOUR / 2, 4)];
    let rule = Cut { canary: steps, ..rule(1, 3) };
    let window = cut(&[slice(&traffic(0..=240))], at(0), &rule).unwrap().remove(0);
    let pods = |tick: usize| {
        let (_, Tick { canary, stable }) = &window.ticks[tick];
        assert_eq!(canary.pods.len() + stable.pods.len(), 10);
        canary.pods.keys().cloned().collect::<BTreeSet<_>>()
    };
    let whole: BTreeSet<_> = window.canary.iter().cloned().collect();
    assert_eq!((pods(119).len(), pods(120)), (1, whole.clone()));
    assert!(pods(119).is_subset(&whole));
}

#[test]
fn pods_that_come_and_go_are_stable_ones_and_never_the_canary() {
    let mut parts = traffic(0..=240);
    for lines in &mut parts {
        lines[0].points.drain(..20);
        lines[1].points.truncate(100);
    }
    for seed in 0..50 {
        let window = cut(&[slice(&parts)], at(0), &rule(3, seed)).unwrap().remove(0);
        let visitors = ["web-5d4b-0", "web-5d4b-1"];
        assert!(window.canary.iter().all(|pod| !visitors.contains(&pod.as_str())));
        assert!(window.ticks[200].1.stable.pods.contains_key(visitors[0]));
        assert!(window.ticks[50].1.stable.pods.contains_key(visitors[1]));
    }
}

#[test]
fn windows_that_are_no_release_without_a_change_are_left_out_with_the_reason() {
    let whole = traffic(0..=240);
    let [errors, requests] = whole.clone();
    let why = |parts: &[Vec<Line>], canary| {
        cut(&[slice(parts)], at(0), &rule(canary, 1)).unwrap_err().to_string()
    };
    assert_eq!(why(&traffic(0..=150), 3), "it has series at 151 of 241 ticks");
    assert_eq!(
        why(&whole, 10),
        "10 pods last through it, a canary of 10 and one stable pod need 11"
    );
    let mut released = requests;
    released.push(line(&[("pod", "web-7f9c-0")], [(200, 5.0)]));
    let expected = "a release was going on: there are pods of web-5d4b and of web-7f9c";
    assert_eq!(why(&[errors, released], 3), expected);
    assert!(cut(&[slice(&whole)], at(0), &rule(9, 1)).is_ok());
}

#[test]
fn a_replay_is_what_a_run_would_have_said_resets_and_missed_scrapes_included() {
    let mut parts = traffic(0..=240);
    for lines in &mut parts {
        for (_, value) in &mut lines[4].points[70..] {
            *value -= 1e4;
        }
        lines[5].points.drain(130..134);
        lines.iter_mut().for_each(|line| drop(line.points.drain(100..103)));
    }
    let window = cut(&[slice(&parts)], at(0), &rule(3, 11)).unwrap().remove(0);
    let path = replay(&window, &ratio(), 241);
    let (mut state, mut expected) = (MetricState::default(), 0.0);
    let counting =
        Counting { started: at(0), tick: TICK, warm_up: SignedDuration::ZERO, weight: None };
    for tick in 0..=240 {
        let readings = instants(&parts, at(tick)).into_iter();
        let (canary, stable): (Vec<_>, Vec<_>) = readings
            .map(|part| {
                part.into_iter().partition::<Vec<_>, _>(|one| {
                    window.canary.iter().any(|pod| one.labels["pod"] == *pod)
                })
            })
            .unzip();
        let reading = |parts: &[Vec<Series>]| Reading::of_parts(parts, "pod", &BTreeMap::new());
        let tick_seen =
            Tick { canary: reading(&canary).unwrap(), stable: reading(&stable).unwrap() };
        if !(100..103).contains(&tick) {
            state.observe(&ratio(), &tick_seen, at(tick), &counting);
            expected = state.log_e(&ratio());
        }
        assert_eq!(path[usize::try_from(tick).unwrap()].to_bits(), expected.to_bits(), "{tick}");
    }
    assert!(path.len() == 241 && path.iter().any(|log_e| *log_e != 0.0));
}

#[test]
fn a_canary_that_fails_more_shows_in_its_path() {
    let parts = traffic(0..=240);
    let mut window = cut(&[slice(&parts)], at(0), &rule(3, 11)).unwrap().remove(0);
    let calm = replay(&window, &ratio(), 241);
    for (at, tick) in &mut window.ticks {
        let passed = at.duration_since(window.from).as_secs_f64() / 15.0;
        tick.canary.pods.values_mut().for_each(|pod| pod.values[0] += 10.0 * passed);
    }
    let bad = replay(&window, &ratio(), 241);
    assert!(bad[240] > calm[240] + 100.0, "{} {}", bad[240], calm[240]);
}
