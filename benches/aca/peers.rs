//! The rules of other tools, as their documentation and source state them. Each answers at which tick
//! (counted from 1) it would have rolled back.

use serde_json::{Value, json};
use sluice::analysis::judge::kayenta::{Label, SeriesPair, Switches, judge_metric};
use sluice::stats::rates::Arm;

use super::world::{BOUNDS, BUCKETS, Buckets, PER_MINUTE, TICKS, Tick};

const FIVE: usize = 5 * PER_MINUTE;

fn sum(ticks: &[Tick], of: impl Fn(&Tick) -> Arm) -> Arm {
    ticks.iter().map(of).fold(Arm { bad: 0.0, exposure: 0.0 }, |a, b| Arm {
        bad: a.bad + b.bad,
        exposure: a.exposure + b.exposure,
    })
}

fn ratio(arm: Arm) -> f64 {
    arm.bad / arm.exposure
}

/// Flagger: each minute the canary's success must be at least 99 %; the fifth failed check rolls back. A
/// minute without requests is a failed check. Flagger does not look at the primary.
pub fn flagger(ticks: &[Tick]) -> Option<usize> {
    let mut failed = 0;
    for (minute, part) in ticks.chunks(PER_MINUTE).enumerate() {
        let ratio = ratio(sum(part, |t| t.canary));
        failed += usize::from(ratio.is_nan() || 1.0 - ratio < 0.99);
        if failed == 5 {
            return Some((minute + 1) * PER_MINUTE);
        }
    }
    None
}

/// Argo Rollouts: success of the last five minutes at least 95 %, every five minutes, failureLimit 3: the
/// fourth failure rolls back.
pub fn argo(ticks: &[Tick]) -> Option<usize> {
    let mut failed = 0;
    for (look, part) in ticks.chunks(FIVE).enumerate() {
        failed += usize::from(1.0 - ratio(sum(part, |t| t.canary)) < 0.95);
        if failed == 4 {
            return Some((look + 1) * FIVE);
        }
    }
    None
}

/// A rule as people write it: the canary's errors over five minutes above 1.5 times those of an equal
/// part of the stable version.
pub fn one_and_a_half(ticks: &[Tick]) -> Option<usize> {
    ticks.chunks(FIVE).enumerate().find_map(|(look, part)| {
        let worse = ratio(sum(part, |t| t.canary)) > 1.5 * ratio(sum(part, |t| t.equal));
        worse.then_some((look + 1) * FIVE)
    })
}

/// The two-proportion z of an equal part of the stable version, at each of the given ticks, against the
/// boundary of that look.
fn z_at(ticks: &[Tick], looks: impl Iterator<Item = (usize, f64)>) -> Option<usize> {
    let (mut canary, mut equal) =
        (Arm { bad: 0.0, exposure: 0.0 }, Arm { bad: 0.0, exposure: 0.0 });
    let mut seen = 0;
    for (at, bound) in looks {
        let (more_c, more_e) =
            (sum(&ticks[seen..at], |t| t.canary), sum(&ticks[seen..at], |t| t.equal));
        canary = Arm { bad: canary.bad + more_c.bad, exposure: canary.exposure + more_c.exposure };
        equal = Arm { bad: equal.bad + more_e.bad, exposure: equal.exposure + more_e.exposure };
        seen = at;
        let pooled = (canary.bad + equal.bad) / (canary.exposure + equal.exposure);
        let variance = pooled * (1.0 - pooled) * (1.0 / canary.exposure + 1.0 / equal.exposure);
        if (ratio(canary) - ratio(equal)) / libm::sqrt(variance) >= bound {
            return Some(at);
        }
    }
    None
}

/// A z test at 1 % looked at every 15 seconds.
pub fn peeked(ticks: &[Tick]) -> Option<usize> {
    z_at(ticks, (1..=TICKS).map(|t| (t, 2.326)))
}

/// Group sequential, twelve looks, one-sided 1 %: Pocock's constant boundary.
pub fn pocock(ticks: &[Tick]) -> Option<usize> {
    z_at(ticks, (1..=12).map(|k| (k * FIVE, 2.916)))
}

/// The same with the boundary of O'Brien and Fleming.
pub fn obrien_fleming(ticks: &[Tick]) -> Option<usize> {
    z_at(ticks, (1..=12).map(|k| (k * FIVE, 2.437 / libm::sqrt(k as f64 / 12.0))))
}

/// The mixture SPRT of Johari et al. for the difference of two proportions, every 15 seconds from ten bad
/// requests on, one-sided at 1 % (so at 1/0.02); the scale of its prior is the pooled ratio.
pub fn msprt(ticks: &[Tick]) -> Option<usize> {
    let (mut canary, mut equal) =
        (Arm { bad: 0.0, exposure: 0.0 }, Arm { bad: 0.0, exposure: 0.0 });
    for (t, tick) in ticks.iter().enumerate() {
        for (arm, more) in [(&mut canary, tick.canary), (&mut equal, tick.equal)] {
            arm.bad += more.bad;
            arm.exposure += more.exposure;
        }
        let pooled = (canary.bad + equal.bad) / (canary.exposure + equal.exposure);
        let difference = ratio(canary) - ratio(equal);
        if canary.bad + equal.bad < 10.0 || difference <= 0.0 {
            continue;
        }
        let v = pooled * (1.0 - pooled) * (1.0 / canary.exposure + 1.0 / equal.exposure);
        let tau = pooled * pooled;
        let log =
            0.5 * libm::log(v / (v + tau)) + tau * difference * difference / (2.0 * v * (v + tau));
        if log >= libm::log(50.0) {
            return Some(t + 1);
        }
    }
    None
}

/// Kayenta's judge on two series, "High" is bad: our port, which is compared with the original's suites.
pub fn kayenta_high(direction: &str, control: &[f64], experiment: &[f64]) -> bool {
    let config: Value = json!({"direction": direction});
    let pair = SeriesPair {
        metric: "m".to_owned(),
        control: control.to_vec(),
        experiment: experiment.to_vec(),
        ..SeriesPair::default()
    };
    let (report, _) = judge_metric(Some(&config), &pair, Switches::default());
    matches!(report.label, Label::High | Label::Low)
}

/// Kayenta on two series of minutes, at each of the given minutes with all points so far.
pub fn kayenta_at(series: &[[f64; 2]], looks: &[usize], direction: &str) -> Option<usize> {
    let (experiment, control): (Vec<f64>, Vec<f64>) = series.iter().map(|p| (p[0], p[1])).unzip();
    looks
        .iter()
        .copied()
        .find(|at| kayenta_high(direction, &control[..*at], &experiment[..*at]))
        .map(|at| at * PER_MINUTE)
}

/// The error ratios of each minute: canary and an equal part of the stable version.
pub fn minutes(ticks: &[Tick]) -> Vec<[f64; 2]> {
    let of = |part: &[Tick]| [ratio(sum(part, |t| t.canary)), ratio(sum(part, |t| t.equal))];
    ticks.chunks(PER_MINUTE).map(of).collect()
}

/// One look after an hour, and one every five minutes.
pub const ONCE: [usize; 1] = [60];
pub const EACH_FIVE: [usize; 12] = [5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60];

/// `histogram_quantile` of bucket counts.
fn quantile(buckets: &[f64; BUCKETS], q: f64) -> f64 {
    let total: f64 = buckets.iter().sum();
    let (rank, mut below) = (q * total, 0.0);
    for (j, count) in buckets.iter().enumerate() {
        if below + count >= rank {
            let Some(high) = BOUNDS.get(j) else { return BOUNDS[BUCKETS - 2] };
            let low = if j == 0 { 0.0 } else { BOUNDS[j - 1] };
            return low + (high - low) * (rank - below) / count;
        }
        below += count;
    }
    f64::NAN
}

/// The p99 of each `every` ticks: canary and an equal part of the stable version.
pub fn p99(ticks: &[Buckets], every: usize) -> Vec<[f64; 2]> {
    ticks
        .chunks(every)
        .map(|part| {
            [0, 1].map(|arm: usize| {
                let summed = std::array::from_fn(|j| part.iter().map(|t| t[arm][j]).sum());
                quantile(&summed, 0.99)
            })
        })
        .collect()
}

/// Flagger: the canary's p99 of each minute at most 500 ms; the fifth failed check rolls back.
pub fn flagger_p99(ticks: &[Buckets]) -> Option<usize> {
    let mut failed = 0;
    p99(ticks, PER_MINUTE).iter().enumerate().find_map(|(minute, [canary, _])| {
        failed += usize::from(canary.is_nan() || *canary > 0.5);
        (failed == 5).then_some((minute + 1) * PER_MINUTE)
    })
}

/// A rule as people write it: p99 over five minutes above 1.2 times that of the stable version.
pub fn p99_rule(ticks: &[Buckets]) -> Option<usize> {
    p99(ticks, FIVE).iter().position(|[c, b]| *c > 1.2 * b).map(|look| (look + 1) * FIVE)
}
