//! Histories whose law is known: what is injected is what was asked for, and rules are counted as the
//! tools that they were written for count them.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::inject::{chance_to_turn, moved};
use super::kayenta::{Config, Looks};
use super::limits::{Checks, Ended, flagger, template};
use super::ours::{Played, Said, replay};
use super::signal::comparison;
use super::*;
use crate::analysis::args::Secrets;
use crate::analysis::history::Window;
use crate::analysis::judge::sequential::{Comparison, Kind, PodReading, Reading, Rules, Tick};
use crate::analysis::metric;
use crate::analysis::sample::{Line, Outcome, Sample};
use crate::api::provider::{Prometheus, Provider};
use crate::api::{AnalysisRunSpec, DurationSpec, Metric};

const TICK: SignedDuration = SignedDuration::from_secs(15);

fn at(tick: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_100 + 15 * tick).unwrap()
}

/// An hour: `pods` pods of which the first plays the canary; `of` draws the values of a pod at a tick
/// from those of the tick before.
fn window(pods: usize, mut of: impl FnMut(usize, &[f64]) -> Vec<f64>, bounds: &[f64]) -> Window {
    let names: Vec<String> = (0..pods).map(|pod| format!("web-5d4b-{pod}")).collect();
    let mut values: Vec<Vec<f64>> = vec![Vec::new(); pods];
    let ticks = (0..=240)
        .map(|tick| {
            let mut arms = [Reading::default(), Reading::default()];
            for (pod, name) in names.iter().enumerate() {
                values[pod] = of(pod, &values[pod]);
                let reading = PodReading { created: None, values: values[pod].clone() };
                arms[usize::from(pod > 0)].pods.insert(name.clone(), reading);
            }
            let [mut canary, mut stable] = arms;
            canary.bounds = bounds.to_vec();
            stable.bounds = bounds.to_vec();
            (at(tick), Tick { canary, stable })
        })
        .collect();
    Window { from: at(0), tick: TICK, canary: names[..1].to_vec(), ticks }
}

/// Ten pods with 300 requests a tick, each bad with chance `share`.
fn traffic(seed: u64, share: f64) -> Window {
    let mut draw = Draw::of(seed, &[]);
    let of = |_: usize, last: &[f64]| match last {
        [bad, total] => vec![bad + draw.binomial(300.0, share), total + 300.0],
        _ => vec![1e4 * share, 1e4],
    };
    window(10, of, &[])
}

fn choose(n: u32, k: u32) -> f64 {
    (0..k).map(|i| f64::from(n - i) / f64::from(i + 1)).product()
}

fn law(n: u32, p: f64, k: u32) -> f64 {
    choose(n, k) * p.powi(k as i32) * (1.0 - p).powi((n - k) as i32)
}

/// Bad requests of the canary from first to last tick.
fn bad(window: &Window) -> f64 {
    let of = |at: usize| window.ticks[at].1.canary.pods["web-5d4b-0"].values[0];
    of(window.ticks.len() - 1) - of(0)
}

/// By enumeration of every number of bad requests before and after.
#[test]
fn turning_good_requests_bad_gives_the_law_of_a_version_that_is_so_much_worse() {
    for (n, share, times) in [(8, 0.05, 2.0), (12, 0.01, 5.0), (10, 0.2, 1.5), (6, 0.3, 3.0)] {
        let turned = chance_to_turn(share, times);
        for k in 0..=n {
            let found: f64 = (0..=k).map(|b| law(n, share, b) * law(n - b, turned, k - b)).sum();
            let exact = law(n, times * share, k);
            assert!((found - exact).abs() < 1e-12, "{n} {share} x{times} {k}: {found} {exact}");
        }
    }
    // Copies of the bad ones would have the mean and twice the variance.
    let moment =
        |power: i32| (0..=60).map(|k| law(60, 0.02, k) * f64::from(2 * k).powi(power)).sum();
    let (mean, second): (f64, f64) = (moment(1), moment(2));
    assert!((second - mean * mean) / (60.0 * 0.04 * 0.96) > 1.9);
}

#[test]
fn errors_in_a_window_are_as_many_times_as_asked_and_the_stable_arm_is_as_it_was() {
    let calm = traffic(3, 0.01);
    for (times, seed) in [(2.0, 1), (5.0, 2), (0.5, 3)] {
        let found = inject(&calm, Kind::Ratio, times, &mut Draw::of(seed, &[]));
        // 72,000 requests, 720 bad ones: the ratio of two Poisson counts, one of them of ten pods.
        let expected = 720.0 * times;
        let error = 4.0 * (expected + 720.0).sqrt();
        assert!((bad(&found.window) - expected).abs() < error, "x{times}: {}", bad(&found.window));
        let last = found.window.ticks.len() - 1;
        assert_eq!(bad(&found.window) - bad(&calm), found.extra[last].1);
        assert_eq!(found.window.ticks[last].1.stable, calm.ticks[last].1.stable);
        let total = |window: &Window| window.ticks[last].1.canary.pods["web-5d4b-0"].values[1];
        assert_eq!(total(&found.window), total(&calm), "requests stay as many as they were");
        let pairs = found.window.ticks.windows(2).map(|pair| {
            let of = |at: usize| pair[at].1.canary.pods["web-5d4b-0"].values[0];
            of(1) - of(0)
        });
        assert!(pairs.clone().all(|more| more >= 0.0 && more.fract() == 0.0 && more <= 300.0));
    }
    let again = inject(&calm, Kind::Ratio, 2.0, &mut Draw::of(1, &[]));
    let first = inject(&calm, Kind::Ratio, 2.0, &mut Draw::of(1, &[]));
    assert_eq!(again.window, first.window, "the same seed, the same history");
}

#[test]
fn a_reset_stays_one_and_nothing_is_counted_twice() {
    let mut calm = traffic(5, 0.02);
    for (_, tick) in &mut calm.ticks[100..] {
        let pod = tick.canary.pods.get_mut("web-5d4b-0").unwrap();
        pod.values.iter_mut().for_each(|value| *value -= 9_000.0 * *value / 40_000.0);
    }
    let base = calm.ticks[100].1.canary.pods["web-5d4b-0"].values.clone();
    for (_, tick) in &mut calm.ticks[100..] {
        let pod = tick.canary.pods.get_mut("web-5d4b-0").unwrap();
        pod.values.iter_mut().zip(&base).for_each(|(value, base)| *value -= base);
    }
    let found = inject(&calm, Kind::Ratio, 3.0, &mut Draw::of(9, &[]));
    let value = |window: &Window, at: usize| window.ticks[at].1.canary.pods["web-5d4b-0"].values[0];
    assert!(value(&found.window, 99) > value(&calm, 99) && value(&calm, 100) == 0.0);
    assert!(value(&found.window, 100) < 50.0, "what was added before the reset is gone with it");
}

/// Every number of slow requests, by many draws: the mean of each bucket is what interpolation says.
#[test]
fn slower_requests_move_to_the_buckets_that_interpolation_says() {
    let bounds = [0.1, 0.2, 0.4, f64::INFINITY];
    let before = [40.0, 60.0, 90.0, 100.0];
    let mut sums = [0.0; 4];
    let mut draw = Draw::of(4, &[]);
    let runs = 4_000;
    for _ in 0..runs {
        let more = moved(&bounds, &before, 1.25, &mut draw);
        let after: Vec<f64> = before.iter().zip(&more).map(|(b, m)| b + m).collect();
        assert!(after.is_sorted() && after.iter().all(|count| count.fract() == 0.0), "{after:?}");
        assert_eq!(after[3], 100.0, "no request is lost");
        sums.iter_mut().zip(&after).for_each(|(sum, count)| *sum += count / f64::from(runs));
    }
    // 0.1/1.25 = 0.08 is at 4/5 of the first bucket, 0.16 at 3/5 of the second, 0.32 at 3/5 of the third.
    for (found, expected) in sums.iter().zip([32.0, 52.0, 78.0, 100.0]) {
        // The deviation of one draw is at most 2.7.
        assert!((found - expected).abs() < 4.0 * 2.7 / f64::from(runs).sqrt(), "{sums:?}");
    }
    assert_eq!(moved(&bounds, &before, 1.0, &mut draw), [0.0; 4]);
}

#[test]
fn a_level_is_multiplied_and_counts_without_requests_are_too() {
    let level = window(3, |pod, _| vec![100.0 + pod as f64], &[]);
    let found = inject(&level, Kind::Gauge, 1.25, &mut Draw::of(1, &[]));
    let canary = |at: usize| found.window.ticks[at].1.canary.pods["web-5d4b-0"].values[0];
    assert_eq!((canary(0), canary(240)), (125.0, 125.0));
    let mut draw = Draw::of(8, &[]);
    let count =
        window(5, |_, last| vec![last.first().copied().unwrap_or(0.0) + draw.poisson(4.0)], &[]);
    let kind = Kind::Count { per: false };
    let found = inject(&count, kind, 3.0, &mut Draw::of(2, &[]));
    assert!((bad(&found.window) - 2_880.0).abs() < 4.0 * 60.0, "{}", bad(&found.window));
}

/// What a rule reads: its own series, with what was added to the signal.
#[test]
fn a_rule_sees_the_world_that_the_judges_see() {
    let calm = traffic(11, 0.01);
    let found = inject(&calm, Kind::Ratio, 4.0, &mut Draw::of(3, &[]));
    let line = |code: &str, of: fn(&[f64]) -> f64| {
        let labels = [("pod", "web-5d4b-0"), ("code", code)];
        let points = calm.ticks.iter();
        let points = points.map(|(at, tick)| (*at, of(&tick.canary.pods["web-5d4b-0"].values)));
        Line {
            labels: labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            points: points.collect(),
        }
    };
    let (bad_ones, good_ones) = (line("500", |v| v[0]), line("200", |v| v[1] - v[0]));
    let bads = found.feed(std::slice::from_ref(&bad_ones), Feed::Bad, "pod");
    let goods = found.feed(std::slice::from_ref(&good_ones), Feed::Good, "pod");
    for (at, (_, tick)) in found.window.ticks.iter().enumerate() {
        let values = &tick.canary.pods["web-5d4b-0"].values;
        assert_eq!(bads[0].points[at].1, values[0]);
        assert_eq!(goods[0].points[at].1, values[1] - values[0]);
    }
    assert_eq!(found.feed(&[], Feed::Bad, "pod")[0].labels["pod"], "web-5d4b-0");
}

/// A comparison of a template, which writes a warm-up of so many ticks.
fn signal(kind: Kind, alone: bool, warm_up: Option<i32>) -> Signal {
    let signal = Signal::raw(comparison("errors", kind), &["a", "b"], "pod", &mut Vec::new());
    Signal { alone, warm_up: warm_up.map(|ticks| TICK * ticks), ..signal.unwrap() }
}

/// What the judge says of a release that compares these, of which each sees its window.
fn played(signals: &[(Signal, &Window)], learnt: Option<SignedDuration>, rules: &Rules) -> Said {
    let of: Vec<Comparison> = signals.iter().map(|(of, _)| of.comparison.clone()).collect();
    let windows: Vec<Window> = signals.iter().map(|(_, window)| (*window).clone()).collect();
    let signals = signals.iter().map(|(signal, _)| signal);
    replay(&Played::deciding(signals, &of, &windows, learnt), rules)
}

#[test]
fn our_judge_finds_what_is_injected_and_leaves_the_rest_alone() {
    let rules = Rules { ends: Some(at(240)), ..Rules::level(0.01) };
    let said = |window: &Window, warm_up: i32| {
        played(&[(signal(Kind::Ratio, false, Some(warm_up)), window)], None, &rules)
    };
    let calm = traffic(21, 0.01);
    let good = said(&calm, 1);
    let passed = good.passed.unwrap();
    assert_eq!((good.failed, good.inconclusive), (None, None), "a run ends with its first answer");
    assert_eq!(good.path.len() as i64, passed.duration_since(at(0)).as_secs() / 15 + 1);
    let slow = said(&calm, 8);
    assert_eq!((&slow.path[..9], slow.passed > good.passed), (&[0.0; 9][..], true));
    let few = said(&traffic(22, 0.0002), 1);
    assert_eq!((few.passed, few.failed), (None, None));
    assert!(few.inconclusive.is_some_and(|at| at <= self::at(240)), "{few:?}");
    let bad = inject(&calm, Kind::Ratio, 3.0, &mut Draw::of(1, &[])).window;
    let bad = said(&bad, 1);
    let failed = bad.failed.unwrap();
    assert!(failed < at(60), "{failed}");
    assert_eq!(bad.path.len() as i64, failed.duration_since(at(0)).as_secs() / 15 + 1);
}

#[test]
fn only_comparisons_that_decide_in_a_release_decide_in_its_backtest() {
    let rules = Rules { ends: Some(at(240)), ..Rules::level(0.01) };
    let calm = traffic(21, 0.01);
    let bad = inject(&calm, Kind::Ratio, 3.0, &mut Draw::of(1, &[])).window;
    let level = window(10, |pod, _| vec![100.0 + pod as f64], &[]);
    let errors = || (signal(Kind::Ratio, false, None), &calm);
    let alone = played(&[errors()], None, &rules);
    assert!(alone.passed.is_some(), "{alone:?}");
    let dry = (signal(Kind::Ratio, true, None), &bad);
    assert_eq!(
        played(&[errors(), dry.clone()], None, &rules),
        alone,
        "a dry run rolls nothing back"
    );
    let blind = (signal(Kind::Gauge, false, None), &level);
    assert_eq!(played(&[errors(), blind], None, &rules), alone, "nobody waits for a blind gauge");
    assert_eq!(played(&[dry], None, &rules), Said::default(), "where nothing decides");
}

#[test]
fn a_learnt_warm_up_counts_unless_the_template_writes_one() {
    let calm = traffic(21, 0.01);
    let quiet = |written: Option<i32>| {
        let learnt = Some(TICK * 10);
        let said =
            played(&[(signal(Kind::Ratio, false, written), &calm)], learnt, &Rules::level(0.01));
        said.path.iter().take_while(|log_e| log_e.abs() < 1e-9).count()
    };
    assert_eq!([quiet(None), quiet(Some(3))], [11, 4]);
}

#[test]
fn kayenta_looks_when_it_is_told_and_ends_the_canary_at_a_doubt() {
    let of = [comparison("errors", Kind::Ratio)];
    let config = Config::of(None, &of).unwrap();
    let calm = traffic(31, 0.01);
    let five = Looks::Each(SignedDuration::from_mins(5));
    assert_eq!(config.replay(std::slice::from_ref(&calm), &of, Looks::Once), None);
    let bad = [inject(&calm, Kind::Ratio, 4.0, &mut Draw::of(1, &[])).window];
    assert_eq!(config.replay(&bad, &of, Looks::Once), Some(at(240)));
    let found = config.replay(&bad, &of, five).unwrap();
    assert!(found <= at(40) && found.duration_since(at(0)).as_secs() % 300 == 0, "{found}");
}

/// A metric asked every minute; the answers by minute.
fn limited(answers: &[f64], edit: impl Fn(&mut Metric)) -> Option<i64> {
    let failed = ended(answers, edit).failed?;
    Some(failed.duration_since(at(0)).as_secs() / 60)
}

fn ended(answers: &[f64], edit: impl Fn(&mut Metric)) -> Ended {
    let mut metric = Metric {
        name: "errors".to_owned(),
        interval: Some(DurationSpec::Text("1m".to_owned())),
        success_condition: Some("result[0] <= 0.05".to_owned()),
        provider: Some(Provider {
            prometheus: Some(Prometheus {
                address: Some("http://prometheus:9090".to_owned()),
                query: Some("sum(x)".to_owned()),
                ..Prometheus::default()
            }),
            ..Provider::default()
        }),
        ..Metric::default()
    };
    edit(&mut metric);
    let spec = AnalysisRunSpec { metrics: vec![metric], ..AnalysisRunSpec::default() };
    let checked = metric::check(&spec, &Secrets::default()).unwrap();
    template(&checked, at(0), at(240), |question| {
        let minute = question.at.duration_since(at(0)).as_secs() as f64 / 60.0;
        match answers.get(minute as usize) {
            Some(value) if value.is_nan() => Outcome::from(Sample::Empty),
            Some(value) => Outcome::from(Sample::Series(vec![*value])),
            None => Outcome::from(Sample::Series(vec![0.0])),
        }
    })
}

#[test]
fn a_rule_that_never_has_data_holds_every_release() {
    let nothing = [f64::NAN; 300];
    assert_eq!(ended(&nothing, |_| ()), Ended { failed: None, held: true });
    assert_eq!(ended(&[f64::NAN; 3], |_| ()), Ended::default(), "data came back");
    let passes = |metric: &mut Metric| metric.no_data = Some(crate::api::analysis::NoData::Pass);
    assert_eq!(ended(&nothing, passes), Ended::default(), "it was said what no data is");
}

/// peers/argo.md: failures are counted in all, and the run fails when there are more than the limit.
#[test]
fn a_failure_limit_of_three_needs_a_fourth_failure_in_all() {
    let limit = |limit: i32| {
        move |metric: &mut Metric| metric.failure_limit = Some(IntOrString::Int(limit))
    };
    let worse = [0.1, 0.0, 0.1, 0.0, 0.1, 0.0, 0.0, 0.1];
    assert_eq!(limited(&worse, limit(3)), Some(7));
    assert_eq!(limited(&worse[..7], limit(3)), None);
    assert_eq!(limited(&worse, limit(0)), Some(0));
    let few = |metric: &mut Metric| metric.count = Some(IntOrString::Int(3));
    assert_eq!(limited(&[0.0, 0.0, 0.0, 0.1], few), None, "a run that is over stays over");
}

#[test]
fn no_data_holds_ours_and_the_fifth_error_aborts_argos() {
    let silence = [f64::NAN; 60];
    assert_eq!(limited(&silence, |_| {}), None);
    let argo = |metric: &mut Metric| {
        metric.on_error = Some(crate::api::analysis::OnError::Fail);
        metric.error_retry = Some(DurationSpec::Seconds(15));
    };
    assert_eq!(limited(&silence, argo), Some(1), "four more tries, each after 15 s");
}

/// peers/flagger.md 1.7 and 1.8: a counter that never forgets, one failure a tick, no value is one, and
/// the rollback comes a tick after the last failure.
#[test]
fn flagger_rolls_back_one_tick_after_its_counter_is_full() {
    let minutes = SignedDuration::from_mins(1);
    let checks = Checks {
        interval: minutes,
        threshold: 3,
        ranges: vec![(Some(99.0), None), (None, Some(0.5))],
    };
    let ended = |answers: &dyn Fn(usize, i64) -> Sample| {
        let ended = flagger(&checks, at(0), at(240), |metric, now| {
            answers(metric, now.duration_since(at(0)).as_secs() / 60)
        });
        ended.map(|ended| ended.duration_since(at(0)).as_secs() / 60)
    };
    let good = |metric: usize| Sample::Series(vec![if metric == 0 { 99.5 } else { 0.1 }]);
    let bad_at = |bad: &'static [i64]| {
        move |metric: usize, minute: i64| match bad.contains(&minute) {
            true => Sample::Series(vec![1.0]),
            false => good(metric),
        }
    };
    assert_eq!(ended(&bad_at(&[])), None);
    assert_eq!(ended(&bad_at(&[1, 2, 3])), Some(4), "both metrics bad is one failed check");
    assert_eq!(ended(&bad_at(&[5, 20, 40])), Some(41), "successes do not reset it");
    assert_eq!(ended(&bad_at(&[0, 2, 3])), None, "the first tick only sets the weight");
    assert_eq!(ended(&|_, _| Sample::Empty), Some(4), "no value is a failed check");
    assert_eq!(ended(&bad_at(&[1, 2, 60])), Some(61), "the last check of the analysis counts");
}

#[test]
fn a_tally_has_wilsons_interval_and_the_minutes_of_rollbacks_only() {
    let mut tally = Tally::default();
    for window in 0..100 {
        let found = window < 8;
        tally.count(found.then(|| f64::from(window)), Some(if found { 10.0 } else { 100.0 }));
    }
    let summary = tally.summary();
    assert_eq!((summary.rollback.hits, summary.rollback.of), (8, 100));
    assert!((summary.rollback.low - 0.0411).abs() < 1e-4, "{summary:?}");
    assert!((summary.rollback.high - 0.1500).abs() < 1e-4, "{summary:?}");
    assert_eq!(summary.median_minutes, Some(3.5));
    assert_eq!(summary.excess_bad_requests, Some(92.8));
    let none = Tally::default().summary();
    assert_eq!((none.rollback.low, none.rollback.high, none.median_minutes), (0.0, 1.0, None));
}
