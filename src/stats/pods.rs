//! How much pods of one version differ: the noise that no amount of time removes.

use super::rates::Arm;

/// Why a canary cannot show what is asked of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reach {
    /// The ratio is outside the noise of its pods.
    Visible,
    /// So many canary pods would do.
    Needs(u32),
    /// With so few baseline pods no number of canary pods would do.
    Never,
}

/// A change is taken to be more than pod noise from so many deviations on, when the deviation was learnt
/// from so many pods: the 99 % quantile of Student's distribution, 2.33 for many of them, 2.9 for nine.
/// The expansion of Cornish and Fisher, off by 0.03 for five.
fn sure(baseline: u32) -> f64 {
    let (z, n) = (2.326_348, f64::from(baseline.max(2) - 1));
    let [z3, z5, z7] = [3, 5, 7].map(|power| libm::pow(z, f64::from(power)));
    z + (z3 + z) / (4.0 * n)
        + (5.0 * z5 + 16.0 * z3 + 3.0 * z) / (96.0 * n * n)
        + (3.0 * z7 + 19.0 * z5 + 17.0 * z3 - 15.0 * z) / (384.0 * n * n * n)
}

/// A spread of the arms' ratio that may hide without a margin against it: the smallest alternative of the
/// grid is 1.15 times what the null allows, so that a ratio that is a few per cent off gathers little
/// evidence. What could hide is mostly not there, and the more traffic there is, the less can hide.
const TOLERATED: f64 = 0.03;

/// tau: the standard deviation of the logarithm of a pod's rate beyond Poisson noise, by moments.
///
/// With f_i the share of exposure and E all events, E (e_i - f_i E)^2 is linear in tau^2, which is solved
/// for; for a lognormal pod effect the answer is the deviation of its logarithm. None with fewer than five
/// pods with traffic or without events; 0 when there is no more spread than Poisson's.
pub fn deviation(pods: &[Arm]) -> Option<f64> {
    let sane = |pod: &&Arm| pod.exposure > 0.0 && pod.exposure.is_finite() && pod.bad >= 0.0;
    let counted = || pods.iter().filter(sane);
    let exposure: f64 = counted().map(|pod| pod.exposure).sum();
    let events: f64 = counted().map(|pod| pod.bad).sum();
    if counted().count() < 5 || !(events > 0.0 && events.is_finite()) {
        return None;
    }
    // Var e_i = mu_i + tau^2 mu_i^2, and e_i - f_i E = (1 - f_i) e_i - f_i (the others).
    let squares: f64 = counted().map(|pod| f64::powi(pod.exposure / exposure, 2)).sum();
    let (mut spread, mut poisson, mut pods_part) = (0.0, 0.0, 0.0);
    for pod in counted() {
        let f = pod.exposure / exposure;
        let mu = f * events;
        spread += (pod.bad - mu) * (pod.bad - mu);
        poisson += mu * (1.0 - f);
        pods_part += events * events * ((1.0 - f) * (1.0 - f) * f * f + f * f * (squares - f * f));
    }
    let relative = ((spread - poisson) / pods_part).max(0.0);
    Some(libm::sqrt(libm::log1p(relative)))
}

/// The standard deviation of the logarithm of the arms' ratio that comes from pods alone.
pub fn floor(tau: f64, canary: u32, baseline: u32) -> f64 {
    tau * libm::sqrt(1.0 / f64::from(canary) + 1.0 / f64::from(baseline))
}

/// The smallest ratio that stands out of the noise of so many pods: the margin without calibration.
pub fn smallest_ratio(tau: f64, canary: u32, baseline: u32) -> f64 {
    libm::exp(sure(baseline) * floor(tau, canary, baseline))
}

/// The ratio that the null has to allow where a deviation of `tau` may hide in so many pods.
pub fn hidden_margin(tau: f64, canary: u32, baseline: u32) -> f64 {
    libm::exp(sure(baseline) * (floor(tau, canary, baseline) - TOLERATED).max(0.0))
}

/// The largest tau that lives with so many events leave possible when they show none: twice the standard
/// error of tau squared, sqrt(2/(k - 1)) over the mean number of events of a pod.
pub fn hidden(pods: usize, events: f64) -> f64 {
    let count = pods as f64;
    libm::sqrt(2.0 * libm::sqrt(2.0 / (count - 1.0)) * count / events)
}

/// Whether so many canary pods can show the ratio `theta` (above 1), and if not, how many could.
pub fn reach(theta: f64, tau: f64, canary: u32, baseline: u32) -> Reach {
    if smallest_ratio(tau, canary, baseline) < theta {
        return Reach::Visible;
    }
    // sure tau sqrt(1/k + 1/baseline) < ln theta, solved for k.
    let room = f64::powi(libm::log(theta) / (sure(baseline) * tau), 2) - 1.0 / f64::from(baseline);
    let pods = libm::floor(1.0 / room) + 1.0;
    if room > 0.0 && pods < f64::from(u32::MAX) { Reach::Needs(pods as u32) } else { Reach::Never }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pods at the octiles of a lognormal distribution, with events far above Poisson noise.
    fn spread(tau: f64) -> Vec<Arm> {
        (0..400)
            .map(|i| {
                let z = crate::stats::special::normal_quantile((f64::from(i) + 0.5) / 400.0);
                Arm { bad: 1e6 * (tau * z).exp(), exposure: 1e8 }
            })
            .collect()
    }

    #[test]
    fn the_spread_of_pods_is_found() {
        for tau in [0.05, 0.2, 0.5] {
            let found = deviation(&spread(tau)).unwrap();
            assert!((found / tau - 1.0).abs() < 0.03, "{tau}: {found}");
        }
    }

    #[test]
    fn equal_pods_and_pods_within_poisson_noise_have_none() {
        assert_eq!(deviation(&[Arm { bad: 10.0, exposure: 1_000.0 }; 6]), Some(0.0));
        let uneven: Vec<Arm> = (1..9)
            .map(|i| Arm { bad: 10.0 * f64::from(i), exposure: 1_000.0 * f64::from(i) })
            .collect();
        assert_eq!(deviation(&uneven), Some(0.0));
        assert_eq!(deviation(&[Arm { bad: 10.0, exposure: 1_000.0 }; 4]), None);
        assert_eq!(deviation(&[Arm { bad: 0.0, exposure: 1_000.0 }; 9]), None);
    }

    /// Student's table, 99 %.
    #[test]
    fn few_pods_leave_more_room_for_chance() {
        for (pods, quantile) in [(5, 3.747), (9, 2.896), (27, 2.479), (10_000, 2.327)] {
            assert!((sure(pods) - quantile).abs() < 0.03, "{pods}: {}", sure(pods));
        }
    }

    #[test]
    fn equal_pods_need_no_margin_once_they_have_lived_long_enough_to_tell() {
        let margin_after = |events: f64| hidden_margin(hidden(9, events), 1, 9);
        assert!(margin_after(300.0) > 1.25, "{}", margin_after(300.0));
        assert!(margin_after(2_000.0) < 1.2 && margin_after(2_000.0) > 1.0);
        assert_eq!(margin_after(20_000.0), 1.0);
    }

    #[test]
    fn what_a_canary_can_show_grows_with_its_pods() {
        assert_eq!(reach(2.0, 0.2, 3, 27), Reach::Visible);
        let Reach::Needs(pods) = reach(1.25, 0.2, 3, 27) else { panic!("3 pods are too few") };
        assert_eq!(reach(1.25, 0.2, pods, 27), Reach::Visible);
        assert_ne!(reach(1.25, 0.2, pods - 1, 27), Reach::Visible);
        assert_eq!(reach(1.05, 0.2, 3, 27), Reach::Never);
        assert_eq!(reach(1.05, 0.0, 1, 1), Reach::Visible);
    }
}
