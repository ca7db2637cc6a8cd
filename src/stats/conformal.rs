//! Boundaries from the user's own history: how high does the evidence climb when nothing has changed?
//!
//! History is a set of windows of the planned length in which the old version was compared with itself,
//! each as a path of ln E, tick by tick. Half of them give a shape, s(t) = running maximum of max(1, 95 %
//! quantile of max(0, L_t)); the other half a level, c = the ceil((n + 1)(1 - alpha))-th smallest of
//! max_t L_t/s(t). The boundary is max(ln(1/alpha), c s(t)).
//!
//! If those windows and a new run without a change are exchangeable, the new run crosses with a chance of
//! at most alpha, whatever the noise (split conformal prediction, Vovk et al. 2005); where the model
//! holds, Ville's inequality holds too. With n windows no alpha below 1/(n + 1) can be promised.

use serde::{Deserialize, Serialize};

/// There were fewer windows than the promise needs.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error(
    "{windows} windows of history promise a level of {reachable} at best, not {wanted}: give more \
     windows or a larger alpha"
)]
pub struct TooFew {
    /// The windows that give the level.
    pub windows: usize,
    /// The least alpha that so many can promise; 1 is no promise at all.
    pub reachable: f64,
    /// The alpha asked for.
    pub wanted: f64,
}

/// The least alpha that can honestly be promised from `windows` windows that give a level.
pub fn reachable(windows: usize) -> f64 {
    1.0 / (windows as f64 + 1.0)
}

/// The windows needed for a level of `alpha` by [`Boundary::constant`]; [`Boundary::shaped`] needs two
/// times as many.
pub fn windows_needed(alpha: f64) -> usize {
    libm::ceil(1.0 / alpha - 1.0 - 1e-9).max(1.0) as usize
}

/// A boundary over the ticks of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Boundary {
    floor: f64,
    level: f64,
    /// s(t); the last value goes on.
    shape: Vec<f64>,
}

impl Boundary {
    /// The boundary of the model alone: ln(1/alpha) at every tick.
    pub fn model(alpha: f64) -> Self {
        Self { floor: -libm::log(alpha), level: 0.0, shape: Vec::new() }
    }

    /// One height for all ticks, from all windows: the most power late in a run.
    pub fn constant(paths: &[&[f64]], alpha: f64) -> Result<Self, TooFew> {
        Self::with_shape(paths.iter().copied(), alpha, vec![1.0])
    }

    /// A height that follows how evidence grows in history, from every second window, with the level from
    /// the others: quick at the start of a run.
    pub fn shaped(paths: &[&[f64]], alpha: f64) -> Result<Self, TooFew> {
        // Alternating, so that a slow change of the service is in both halves.
        let half: Vec<&[f64]> = paths.iter().copied().step_by(2).collect();
        Self::with_shape(paths.iter().copied().skip(1).step_by(2), alpha, shape(&half))
    }

    fn with_shape<'a>(
        paths: impl Iterator<Item = &'a [f64]>,
        alpha: f64,
        shape: Vec<f64>,
    ) -> Result<Self, TooFew> {
        let mut boundary = Self { floor: -libm::log(alpha), level: 0.0, shape };
        let mut heights: Vec<f64> = paths
            .map(|path| {
                let ratios = path.iter().enumerate().map(|(t, l)| l / boundary.shape_at(t));
                ratios.fold(0.0, f64::max)
            })
            .collect();
        heights.sort_by(f64::total_cmp);
        // A hair below, or 100 * 0.99 would round up to a window that is not there.
        let rank = libm::ceil((heights.len() as f64 + 1.0) * (1.0 - alpha) - 1e-9) as usize;
        match heights.get(rank.max(1) - 1) {
            Some(height) => {
                boundary.level = *height;
                Ok(boundary)
            }
            None => Err(TooFew {
                windows: heights.len(),
                reachable: reachable(heights.len()),
                wanted: alpha,
            }),
        }
    }

    /// What history asks for at a tick, whatever the model does: c times s(t).
    pub fn of_history(&self, tick: usize) -> f64 {
        self.level * self.shape_at(tick)
    }

    fn shape_at(&self, tick: usize) -> f64 {
        self.shape.get(tick).or(self.shape.last()).copied().unwrap_or(1.0)
    }

    /// The height at a tick, counted from 0.
    pub fn at(&self, tick: usize) -> f64 {
        self.floor.max(self.level * self.shape_at(tick))
    }

    /// Whether the evidence has crossed. It must have climbed above history, not just as high.
    pub fn crossed(&self, tick: usize, log_e: f64) -> bool {
        let height = self.at(tick);
        if height > self.floor { log_e > height } else { log_e >= height }
    }

    /// Whether history asks for more than the model does at this tick.
    pub fn is_widened(&self, tick: usize) -> bool {
        self.at(tick) > self.floor
    }
}

/// The 95 % quantile of each tick, never below 1 and never falling.
fn shape(paths: &[&[f64]]) -> Vec<f64> {
    let length = paths.iter().map(|path| path.len()).max().unwrap_or(0);
    let mut highest: f64 = 1.0;
    (0..length)
        .map(|t| {
            let mut here: Vec<f64> =
                paths.iter().filter_map(|path| path.get(t).or(path.last()).copied()).collect();
            here.sort_by(f64::total_cmp);
            let rank = libm::ceil(0.95 * here.len() as f64) as usize;
            highest = highest.max(here.get(rank.max(1) - 1).copied().unwrap_or(0.0));
            highest
        })
        .collect()
}

/// The two boundaries, which share the level: the shaped one is quicker, the constant one sees more late
/// in the run and after a cold start that history knows. With few windows the constant one alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    shaped: Option<Boundary>,
    constant: Boundary,
}

impl Pair {
    /// Both from the same windows, half of the level each.
    pub fn new(paths: &[&[f64]], alpha: f64) -> Result<Self, TooFew> {
        Self::sharing(paths, alpha, 0.5)
    }

    /// What so many windows allow: both with half of the level each, both with two thirds for the shaped
    /// one, which has half of the windows for its height, or the constant one with all of the level.
    /// Only the number of windows decides, so that the promise is kept.
    pub fn of_history(paths: &[&[f64]], alpha: f64) -> Result<Self, TooFew> {
        let alone = || Ok(Self { shaped: None, constant: Boundary::constant(paths, alpha)? });
        let uneven = || Self::sharing(paths, alpha, 2.0 / 3.0);
        Self::new(paths, alpha).or_else(|_| uneven()).or_else(|_| alone())
    }

    fn sharing(paths: &[&[f64]], alpha: f64, shaped: f64) -> Result<Self, TooFew> {
        Ok(Self {
            shaped: Some(Boundary::shaped(paths, alpha * shaped)?),
            constant: Boundary::constant(paths, alpha * (1.0 - shaped))?,
        })
    }

    /// The lower of the two at a tick.
    pub fn at(&self, tick: usize) -> f64 {
        let shaped = self.shaped.as_ref().map_or(f64::INFINITY, |shaped| shaped.at(tick));
        shaped.min(self.constant.at(tick))
    }

    /// Whether the evidence has crossed either.
    pub fn crossed(&self, tick: usize, log_e: f64) -> bool {
        let shaped = self.shaped.as_ref().is_some_and(|shaped| shaped.crossed(tick, log_e));
        shaped || self.constant.crossed(tick, log_e)
    }
}

/// The largest ln E that is stored. Noise that climbs so high without a change can be told from nothing.
pub const HIGHEST: f64 = 1e6;

/// ln E as 16 bits, for storing paths: in steps of 0.02 %, or 0.0002 near 0, rounded up, so that a stored
/// history never lowers a boundary. Below 0 is 0, above [`HIGHEST`] is that.
pub fn pack(log_e: f64) -> u16 {
    let scale = f64::from(u16::MAX) / libm::log1p(HIGHEST);
    let packed = libm::ceil(libm::log1p(log_e.clamp(0.0, HIGHEST)) * scale - 1e-9);
    // One more where a rounding error would have lowered it.
    let packed = packed.clamp(0.0, f64::from(u16::MAX)) as u16;
    if unpack(packed) < log_e { packed.saturating_add(1) } else { packed }
}

/// What [`pack`] made.
pub fn unpack(packed: u16) -> f64 {
    libm::expm1(f64::from(packed) * libm::log1p(HIGHEST) / f64::from(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn views(paths: &[Vec<f64>]) -> Vec<&[f64]> {
        paths.iter().map(Vec::as_slice).collect()
    }

    /// Paths that differ by their height only, in a scrambled order.
    fn ramps(count: usize) -> Vec<Vec<f64>> {
        (0..count)
            .map(|i| {
                let height = ((i * 37) % count + 1) as f64;
                (1..=10).map(|t| height * f64::from(t)).collect()
            })
            .collect()
    }

    #[test]
    fn the_level_is_the_stated_order_statistic() {
        let paths = ramps(99);
        let boundary = Boundary::constant(&views(&paths), 0.01).unwrap();
        assert_eq!(boundary.at(0), 990.0);
        assert!(!boundary.crossed(9, 990.0) && boundary.crossed(9, 990.1));
        let boundary = Boundary::constant(&views(&paths), 0.1).unwrap();
        assert_eq!(boundary.at(0), 900.0);
    }

    /// Every path in turn as the new run, the others as history: exactly the promised share crosses.
    #[test]
    fn exchangeable_runs_cross_as_often_as_promised() {
        let paths = ramps(100);
        let crossed = (0..paths.len())
            .filter(|new| {
                let mut history = paths.clone();
                let run = history.remove(*new);
                let boundary = Boundary::constant(&views(&history), 0.05).unwrap();
                run.iter().enumerate().any(|(t, l)| boundary.crossed(t, *l))
            })
            .count();
        assert_eq!(crossed, 5);
    }

    #[test]
    fn the_shape_lets_a_run_climb_as_history_does() {
        let paths = ramps(398);
        let boundary = Boundary::shaped(&views(&paths), 0.01).unwrap();
        assert!((boundary.at(9) / boundary.at(4) - 2.0).abs() < 0.01);
        let constant = Boundary::constant(&views(&paths), 0.01).unwrap();
        assert!(boundary.at(2) < constant.at(2) && boundary.at(9) > 0.9 * constant.at(9));
        assert_eq!(boundary.at(9), boundary.at(5_000));
        assert!(boundary.is_widened(3));
        let pair = Pair::new(&views(&paths), 0.01).unwrap();
        assert!(pair.at(0) < pair.at(9) && pair.crossed(9, pair.at(9) + 0.1));
    }

    #[test]
    fn too_few_windows_say_what_they_can_promise() {
        let paths = ramps(98);
        let few = Boundary::constant(&views(&paths), 0.01).unwrap_err();
        assert_eq!((few.windows, few.reachable), (98, 1.0 / 99.0));
        assert!(Boundary::constant(&views(&paths), few.reachable).is_ok());
        assert!(Boundary::shaped(&views(&paths), 0.05).is_ok());
        assert_eq!(Boundary::shaped(&[], 0.05).unwrap_err().reachable, 1.0);
        assert_eq!((windows_needed(0.01), windows_needed(0.05)), (99, 19));
    }

    /// The constant boundary alone is the ordinary one; with both, every window in turn as the new run.
    #[test]
    fn the_number_of_windows_decides_how_the_level_is_shared() {
        let made = |count: usize| {
            let paths = ramps(count);
            Pair::of_history(&views(&paths), 0.01)
        };
        assert!(made(98).is_err() && made(99).unwrap().shaped.is_none());
        assert!(made(297).unwrap().shaped.is_none() && made(298 + 1).unwrap().shaped.is_some());
        let both = ramps(398);
        assert_eq!(Pair::of_history(&views(&both), 0.01), Pair::new(&views(&both), 0.01));
        let paths = ramps(300);
        let crossed = (0..paths.len()).filter(|new| {
            let mut history = paths.clone();
            let run = history.remove(*new);
            let pair = Pair::of_history(&views(&history), 0.01).unwrap();
            run.iter().enumerate().any(|(t, l)| pair.crossed(t, *l))
        });
        assert!(crossed.count() <= 3);
    }

    #[test]
    fn calm_history_leaves_the_boundary_of_the_model() {
        let paths = vec![vec![0.0, 0.3, -2.0]; 200];
        let boundary = Boundary::shaped(&views(&paths), 0.01).unwrap();
        assert_eq!(boundary.at(2), Boundary::model(0.01).at(2));
        assert!(boundary.crossed(2, 100f64.ln()) && !boundary.is_widened(2));
    }

    #[test]
    fn stored_paths_are_never_lower_than_they_were() {
        for l in [-3.0, 0.0, 1e-9, 0.001, 4.605, 127.0, 5_000.0, 1e9, f64::NEG_INFINITY] {
            let (back, highest) = (unpack(pack(l)), HIGHEST * (1.0 - 1e-9));
            let near = (l.clamp(0.0, HIGHEST) + 1.0) * 2.2e-4;
            assert!(back >= l.min(highest) && back - l.max(0.0) < near, "{l}: {back}");
        }
        assert!((0..u16::MAX).all(|packed| pack(unpack(packed)).abs_diff(packed) <= 1));
    }
}
