//! How long until a change of a given size is known? In closed form, before and during a run.
//!
//! Of the bad events, pi1 = w theta/(w theta + 1 - w) are the canary's when the true ratio is theta, and
//! rho at the edge of the null. Each event is worth g on average, what it adds to ln E with the best
//! alternative of the grid: KL(pi1 || rho), less where no alternative is near, and nothing for a ratio
//! that is within about 7 % of what the null allows. To reach A = ln(1/alpha) + 1 (the 1 is what the grid
//! costs) with probability p takes y/g events with
//!
//! ```text
//! y = ((1.414 z_p + sqrt(2 z_p^2 + 4 A))/2)^2
//! ```
//!
//! No test of level alpha can do with fewer events on average than about ln(1/alpha)/KL (Wald 1945).

use super::rates::Split;
use super::special::normal_quantile;

/// What a run is like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Traffic {
    /// Requests per second of both arms together.
    pub per_second: f64,
    /// The canary's share of them.
    pub canary: f64,
    /// The baseline's ratio of bad ones.
    pub bad: f64,
}

/// What the evidence must reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Goal {
    /// The ratio that the null allows: 1 + delta.
    pub bound: f64,
    /// The height of the boundary, ln(1/alpha) or that of the calibrated one.
    pub height: f64,
}

impl Goal {
    /// The goal of a test at level `alpha` against "at most `bound` times".
    pub fn level(alpha: f64, bound: f64) -> Self {
        Self { bound, height: -libm::log(alpha) }
    }
}

/// What the average over a grid of alternatives costs.
const GRID_COST: f64 = 1.0;

/// The Kullback-Leibler divergence of one yes or no: KL(p || q).
pub fn divergence(p: f64, q: f64) -> f64 {
    let part = |p: f64, q: f64| if p == 0.0 { 0.0 } else { p * libm::log(p / q) };
    part(p, q) + part(1.0 - p, 1.0 - q)
}

/// The divergence of one request of a histogram: how well its bucket tells whose it is. `canary` and
/// `baseline` are bucket shares, `w` the canary's share of requests.
pub fn bucket_divergence(canary: &[f64], baseline: &[f64], w: f64) -> f64 {
    canary
        .iter()
        .zip(baseline)
        .map(|(c, b)| {
            let all = w * c + (1.0 - w) * b;
            if all > 0.0 { all * divergence(w * c / all, w) } else { 0.0 }
        })
        .sum()
}

/// The information that must be gathered to reach `height` with probability `p`.
pub fn information(height: f64, p: f64) -> f64 {
    let z = normal_quantile(p);
    let root =
        0.5 * (std::f64::consts::SQRT_2 * z + libm::sqrt(2.0 * z * z + 4.0 * (height + GRID_COST)));
    root * root
}

impl Traffic {
    fn share_of_events(&self, theta: f64) -> f64 {
        self.canary * theta / (self.canary * theta + 1.0 - self.canary)
    }

    /// Bad events per minute when the true ratio is `theta`.
    fn events_per_minute(&self, theta: f64) -> f64 {
        60.0 * self.per_second * self.bad * (self.canary * theta + 1.0 - self.canary)
    }

    /// Information per minute when the true ratio is `theta` and the null allows `bound`.
    fn information_per_minute(&self, theta: f64, bound: f64) -> f64 {
        let told = divergence(self.share_of_events(theta), self.share_of_events(bound));
        self.events_per_minute(theta) * told
    }

    /// Minutes until `needed` of it is gathered, when each event adds `growth`.
    fn minutes(&self, needed: f64, theta: f64, growth: Option<f64>) -> f64 {
        let growth = growth.filter(|growth| *growth > 0.0);
        growth.map_or(f64::INFINITY, |growth| needed / (self.events_per_minute(theta) * growth))
    }

    /// Minutes until a ratio of `theta` is found with probability `p`; infinite for one that the null
    /// allows or nearly allows, or without traffic.
    pub fn minutes_to_find(&self, theta: f64, goal: Goal, p: f64) -> f64 {
        if theta <= goal.bound {
            return f64::INFINITY;
        }
        let split = Split::new(self.share_of_events(goal.bound));
        let growth = split.map(|split| split.growth(self.share_of_events(theta)));
        self.minutes(information(goal.height, p), theta, growth)
    }

    /// Minutes until an equal canary is proven to be below `margin` times, with probability `p`; infinite
    /// for a margin of nearly nothing.
    pub fn minutes_to_pass(&self, margin: f64, beta: f64, p: f64) -> f64 {
        if margin <= 1.0 {
            return f64::INFINITY;
        }
        // The arms are in each other's place.
        let split = Split::new(1.0 - self.share_of_events(margin));
        let growth = split.map(|split| split.growth(1.0 - self.canary));
        self.minutes(information(-libm::log(beta), p), 1.0, growth)
    }

    /// The smallest ratio that is found within `minutes` with probability `p`; none up to 1,000 times.
    pub fn smallest_ratio(&self, minutes: f64, goal: Goal, p: f64) -> Option<f64> {
        let (mut low, mut high) = (goal.bound, 1_000.0 * goal.bound);
        if self.minutes_to_find(high, goal, p) > minutes {
            return None;
        }
        for _ in 0..60 {
            let middle = libm::sqrt(low * high);
            if self.minutes_to_find(middle, goal, p) > minutes {
                low = middle
            } else {
                high = middle
            }
        }
        Some(high)
    }

    /// The mean number of minutes below which no test of this level can be.
    pub fn least_minutes(&self, theta: f64, goal: Goal) -> f64 {
        goal.height / self.information_per_minute(theta, goal.bound)
    }

    /// The factor on all times when an arm's log rate has noise of its own: deviation `sigma` per minute
    /// with lag-one autocorrelation `r`. 1 + sigma^2 tau lambda with tau = (1 + r)/(1 - r) and lambda the
    /// harmonic mean of the arms' events per minute.
    pub fn design_effect(&self, sigma: f64, r: f64) -> f64 {
        let events = 60.0 * self.per_second * self.bad;
        let (canary, baseline) = (events * self.canary, events * (1.0 - self.canary));
        let harmonic = canary * baseline / (canary + baseline);
        1.0 + sigma * sigma * (1.0 + r) / (1.0 - r) * harmonic
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traffic(per_second: f64, bad: f64) -> Traffic {
        Traffic { per_second, canary: 0.1, bad }
    }

    #[test]
    fn information_is_the_published_one() {
        for (p, y) in [(0.5, 5.6), (0.8, 9.2), (0.9, 11.8), (0.95, 14.4)] {
            let ours = information(100f64.ln(), p);
            assert!((ours - y).abs() < 0.05, "{p}: {ours}");
        }
    }

    /// Canary 10 %, all of the stable traffic as baseline; the simulated figures of an independent
    /// programme.
    #[test]
    fn times_are_within_a_tenth_of_the_simulated_ones() {
        let goal = Goal::level(0.01, 1.0);
        for (theta, bad, half, nine) in [
            (2.0, 0.01, 1.5, 3.0),
            (2.0, 0.001, 13.3, 27.8),
            (1.5, 0.01, 5.0, 10.3),
            (5.0, 0.001, 1.5, 3.0),
        ] {
            for (p, simulated) in [(0.5, half), (0.9, nine)] {
                let minutes = traffic(200.0, bad).minutes_to_find(theta, goal, p);
                // Simulated times are whole ticks of 15 s, read at the end of one.
                assert!(
                    (minutes - simulated).abs() <= 0.1 * simulated.max(1.25),
                    "{theta} {bad} {p}: {minutes}, simulated {simulated}"
                );
            }
        }
        let pass = traffic(200.0, 0.01).minutes_to_pass(1.25, 0.05, 0.5);
        assert!((pass - 14.3).abs() < 0.05 * 14.3, "{pass}");
    }

    /// 2,000 requests a second, of which 1 % are bad: simulated medians, or never.
    #[test]
    fn a_ratio_that_is_hardly_above_the_bound_is_found_late_or_never() {
        for (theta, bound, half) in [(1.1, 1.0, 14.8), (1.2, 1.1, 17.0)] {
            let goal = Goal::level(0.01, bound);
            let minutes = traffic(2_000.0, 0.01).minutes_to_find(theta, goal, 0.5);
            assert!((minutes - half).abs() <= 0.15 * half, "{theta} {bound}: {minutes}");
        }
        for (theta, bound) in [(1.3, 1.25), (1.06, 1.0), (1.1, 1.05)] {
            let goal = Goal::level(0.01, bound);
            let minutes = traffic(2_000.0, 0.01).minutes_to_find(theta, goal, 0.5);
            assert_eq!(minutes, f64::INFINITY, "{theta} {bound}");
        }
        let (traffic, goal) = (traffic(2_000.0, 0.01), Goal::level(0.01, 1.0));
        assert_eq!(traffic.minutes_to_pass(1.06, 0.05, 0.5), f64::INFINITY);
        let smallest = traffic.smallest_ratio(1e6, goal, 0.9).unwrap();
        assert!((1.07..1.08).contains(&smallest), "{smallest}");
    }

    /// The canary's requests against those that one look at two proportions takes (statsmodels).
    #[test]
    fn looking_all_the_time_takes_no_more_than_twice_the_requests_of_one_look() {
        let oracle = crate::stats::recorded::scipy();
        let cases = oracle["power"].as_array().unwrap();
        for case in cases {
            let number = |name: &str| case[name].as_f64().unwrap();
            let canary = 1.0 / (1.0 + number("ratio"));
            let traffic = Traffic { per_second: 1.0, canary, bad: number("p1") };
            let goal = Goal::level(number("alpha"), 1.0);
            let theta = number("p2") / number("p1");
            let minutes = traffic.minutes_to_find(theta, goal, number("power"));
            let times = 60.0 * canary * minutes / number("n_canary");
            assert!((1.0..2.0).contains(&times), "{case}: {times}");
        }
        assert_eq!(cases.len(), 3);
    }

    #[test]
    fn what_is_visible_and_how_long_it_takes_agree() {
        let (traffic, goal) = (traffic(50.0, 0.01), Goal::level(0.01, 1.25));
        let theta = traffic.smallest_ratio(30.0, goal, 0.9).unwrap();
        assert!((traffic.minutes_to_find(theta, goal, 0.9) - 30.0).abs() < 1e-6);
        assert_eq!(traffic.smallest_ratio(1e-6, goal, 0.9), None);
        assert_eq!(traffic.minutes_to_find(1.25, goal, 0.5), f64::INFINITY);
        assert_eq!(traffic.minutes_to_pass(1.0, 0.05, 0.5), f64::INFINITY);
        let none = Traffic { per_second: 0.0, ..traffic };
        assert_eq!(none.minutes_to_find(2.0, goal, 0.5), f64::INFINITY);
    }

    #[test]
    fn the_bound_of_information_is_as_published() {
        let least = traffic(200.0, 0.01).least_minutes(2.0, Goal::level(0.01, 1.0));
        assert!((least - 1.14).abs() < 0.01, "{least}");
    }

    #[test]
    fn noise_of_an_arm_stretches_time() {
        let traffic = traffic(200.0, 0.01);
        assert_eq!(traffic.design_effect(0.0, 0.8), 1.0);
        // 120 events per minute, 12 and 108: 10.8 harmonic; 0.09 * 9 * 10.8.
        assert!((traffic.design_effect(0.3, 0.8) - 9.748).abs() < 1e-9);
    }

    #[test]
    fn a_histogram_of_two_buckets_is_a_rate() {
        let (w, p) = (0.1, 0.01);
        let rate = traffic(1.0, p).information_per_minute(2.0, 1.0) / 60.0;
        let buckets = bucket_divergence(&[1.0 - 2.0 * p, 2.0 * p], &[1.0 - p, p], w);
        // The bucket of the good ones says a little too.
        assert!(buckets > rate * 0.9 && buckets < rate * 1.1, "{buckets} {rate}");
        assert!(bucket_divergence(&[0.5, 0.5], &[0.5, 0.5], w).abs() < 1e-15);
    }
}
