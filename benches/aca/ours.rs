//! Our rules, on the functions of `stats`. Each answers at which tick (counted from 1) it would have
//! rolled back, or passed.

use sluice::stats::conformal::{Boundary, Pair};
use sluice::stats::gauge::{GaugeProcess, long_run_deviation};
use sluice::stats::histogram::{Exceedance, TiltProcess, Tilts, boundaries};
use sluice::stats::lattice::{Excess, Hybrid, Segment};
use sluice::stats::mixture::Restarts;
use sluice::stats::rates::{Arm, Direction, Equivalence, RateProcess, Split};
use sluice::stats::special::ln_add;

use super::draw::Draw;
use super::world::{BOUNDS, Buckets, PER_MINUTE, Scenario, Slower, TICKS, Tick, run, shares};

/// The chance of rolling back a good release.
pub const ALPHA: f64 = 0.01;

/// Ticks from one copy to the next.
pub const BETWEEN: usize = 5 * PER_MINUTE;

/// A copy for the whole run and one every five minutes.
pub const RESTARTS: Restarts = Restarts { first: 0.5, later: 11, beyond: 0.0 };

/// Which part of the stable version is compared.
#[derive(Clone, Copy)]
pub enum Against {
    /// As much as the canary.
    Equal,
    /// All of it.
    All,
}

impl Against {
    fn of(self, tick: &Tick) -> Arm {
        match self {
            Self::Equal => tick.equal,
            Self::All => tick.stable,
        }
    }
}

/// ln E after each tick.
pub fn path(ticks: &[Tick], against: Against, restarts: Restarts) -> Vec<f64> {
    let mut process = RateProcess::new(restarts);
    ticks
        .iter()
        .enumerate()
        .map(|(t, tick)| {
            if t > 0 && t % BETWEEN == 0 {
                process.restart();
            }
            observe(&mut process, tick.canary, against.of(tick));
            process.log_e()
        })
        .collect()
}

fn observe(process: &mut RateProcess, canary: Arm, baseline: Arm) {
    if let Some(split) = Split::of(canary.exposure, baseline.exposure, 1.0) {
        process.observe(&split, canary.bad, canary.bad + baseline.bad);
    }
}

/// The first tick at which the path reaches the height.
pub fn first(path: &[f64], height: f64) -> Option<usize> {
    path.iter().position(|l| *l >= height).map(|t| t + 1)
}

/// The e-process at 1/alpha.
pub fn ville(ticks: &[Tick], against: Against, restarts: Restarts) -> Option<usize> {
    first(&path(ticks, against, restarts), -libm::log(ALPHA))
}

/// The plan of a scenario without a change: the events of both arms, with room for three deviations.
pub fn plan(scenario: &Scenario, against: Against) -> Option<Hybrid> {
    let segments: Vec<Segment> = scenario
        .canary
        .iter()
        .map(|share| {
            let other = match against {
                Against::Equal => *share,
                Against::All => 1.0 - share,
            };
            let mean = scenario.per_second * 900.0 * scenario.bad * (share + other);
            let events = (mean + 1.5 * libm::sqrt(mean)).ceil() as usize;
            Segment { events, rho: share / (share + other) }
        })
        .collect();
    Hybrid::new(&segments, ALPHA, true)
}

/// The exact boundary of the plan.
pub fn hybrid(ticks: &[Tick], against: Against, plan: &Hybrid) -> Option<usize> {
    let (mut process, mut excess) = (RateProcess::default(), Excess::default());
    ticks
        .iter()
        .position(|tick| {
            let baseline = against.of(tick);
            if let Some(split) = Split::of(tick.canary.exposure, baseline.exposure, 1.0) {
                let total = tick.canary.bad + baseline.bad;
                process.observe(&split, tick.canary.bad, total);
                excess.observe(&split, tick.canary.bad, total);
            }
            plan.crossed(process.log_e(), &excess)
        })
        .map(|t| t + 1)
}

/// Boundaries from a history of `windows` runs without a change.
pub struct Calibrated {
    pub pair: Pair,
    pub shaped: Boundary,
    pub constant: Boundary,
}

/// Draws a history and calibrates on it.
pub fn calibrate(
    scenario: &Scenario,
    restarts: Restarts,
    windows: usize,
    draw: &mut Draw,
) -> Calibrated {
    let scenario = scenario.unchanged();
    let paths: Vec<Vec<f64>> =
        (0..windows).map(|_| path(&run(&scenario, draw), Against::All, restarts)).collect();
    let views: Vec<&[f64]> = paths.iter().map(Vec::as_slice).collect();
    let enough = "there are enough windows for one per cent";
    Calibrated {
        pair: Pair::new(&views, ALPHA).expect(enough),
        shaped: Boundary::shaped(&views, ALPHA).expect(enough),
        constant: Boundary::constant(&views, ALPHA).expect(enough),
    }
}

/// The first tick at which the path crosses.
pub fn crosses(path: &[f64], crossed: impl Fn(usize, f64) -> bool) -> Option<usize> {
    path.iter().enumerate().position(|(t, l)| crossed(t, *l)).map(|t| t + 1)
}

/// The tick at which the canary is proven to be below `margin` times, at 5 %, unless it was rolled back
/// before; a failure at the same tick wins.
pub fn pass(ticks: &[Tick], margin: f64) -> Option<usize> {
    let fail = ville(ticks, Against::All, Restarts::NONE).unwrap_or(TICKS + 1);
    let mut proof = Equivalence::new(margin);
    let at = ticks.iter().position(|tick| {
        proof.observe(tick.canary, tick.stable);
        proof.log_e() >= -libm::log(0.05)
    });
    at.map(|t| t + 1).filter(|t| *t < fail)
}

/// What the latency tests know of the service before the run: an hour of its histogram.
pub struct Latency {
    tilts: Tilts,
    boundaries: Vec<usize>,
}

impl Latency {
    pub fn new(per_second: f64) -> Self {
        let hour = shares(Slower { part: 0.0, times: 1.0 })
            .map(|share| (share * per_second * 3_600.0).round());
        Self {
            tilts: Tilts::new(&BOUNDS, &hour).expect("the default bounds rise"),
            boundaries: boundaries(&hour),
        }
    }

    /// ln E of exceedance, of the tilts and of both after each tick.
    pub fn paths(&self, ticks: &[Buckets], against: Against) -> [Vec<f64>; 3] {
        let mut above = Exceedance::new(&self.boundaries, &[1.0; 8], Restarts::NONE);
        let mut tilt = TiltProcess::new(&self.tilts, Restarts::NONE);
        let mut paths = [const { Vec::new() }; 3];
        for tick in ticks {
            let baseline = match against {
                Against::Equal => &tick[1],
                Against::All => &tick[2],
            };
            above.observe(&tick[0], baseline);
            tilt.observe(&self.tilts, &tick[0], baseline);
            let (a, b) = (above.log_e(), tilt.log_e());
            for (path, log_e) in paths.iter_mut().zip([a, b, ln_add(a, b) - std::f64::consts::LN_2])
            {
                path.push(log_e);
            }
        }
        paths
    }
}

/// ln E of a gauge after each minute, with the deviation of history.
pub fn gauge_path(series: &[[f64; 2]], deviation: f64) -> Vec<f64> {
    let Some(mut process) = GaugeProcess::new(Direction::Increase, deviation, 0.0, Restarts::NONE)
    else {
        return Vec::new();
    };
    let mut step = |[canary, baseline]: &[f64; 2]| {
        process.observe(libm::log(canary / baseline));
        process.log_e()
    };
    series.iter().map(&mut step).collect()
}

/// The deviation of a history of minutes, in batches of so many: 30 for the model's boundary, which must
/// know of autocorrelation; 1 for a calibrated one, which learns of it.
pub fn gauge_deviation(history: &[[f64; 2]], batch: usize) -> f64 {
    let differences: Vec<f64> =
        history.iter().map(|[canary, baseline]| libm::log(canary / baseline)).collect();
    long_run_deviation(&differences, batch).unwrap_or(f64::NAN)
}
