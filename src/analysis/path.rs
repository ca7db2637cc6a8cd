//! How the evidence of a comparison went: few points, evenly spaced, for a plot.

use jiff::Timestamp;

use crate::api::Time;
use crate::api::analysis_run::{Evidence, EvidencePath};

/// Points that are kept: as many as an hour has ticks of 15 s.
const POINTS: usize = 240;

/// Nats beyond which a plot says nothing more.
const FAR: f64 = 100.0;

/// Takes the evidence after tick number `tick` (from 1) into the path. When it is full every second
/// point goes, and from then on every second tick is left out.
pub(crate) fn extend(
    path: &mut Option<EvidencePath>,
    evidence: &Evidence,
    tick: i32,
    now: Timestamp,
) {
    let path = path.get_or_insert_with(|| EvidencePath {
        from: Some(Time(now)),
        every: 1,
        ..EvidencePath::default()
    });
    if (tick - 1) % path.every.max(1) != 0 {
        return;
    }
    path.to = Some(Time(now));
    path.log_e.push(hundredths(evidence.log_e));
    path.log_e_pass.push(hundredths(evidence.log_e_pass));
    path.log_boundary.push(hundredths(evidence.log_boundary));
    if path.log_e.len() > POINTS {
        for list in [&mut path.log_e, &mut path.log_e_pass, &mut path.log_boundary] {
            let mut index = 0;
            list.retain(|_| {
                index += 1;
                index % 2 == 1
            });
        }
        path.every = path.every.saturating_mul(2);
    }
}

/// ln E in hundredths; what is far off is cut.
fn hundredths(log: Option<f64>) -> i32 {
    let log = log.unwrap_or(-FAR);
    if log.is_nan() { 0 } else { libm::round(log.clamp(-FAR, FAR) * 100.0) as i32 }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn a_path_has_at_most_240_evenly_spaced_points_and_keeps_the_first() {
        let start: Timestamp = "2026-01-05T10:00:00Z".parse().unwrap();
        let mut path = None;
        for tick in 1..=2_000 {
            let log_e = Some(f64::from(tick) / 100.0);
            let evidence = Evidence { log_e, log_boundary: Some(4.605), ..Evidence::default() };
            let now = start + SignedDuration::from_secs(15 * (i64::from(tick) - 1));
            extend(&mut path, &evidence, tick, now);
            let path = path.as_ref().unwrap();
            assert!(path.log_e.len() <= POINTS && path.log_e.len() == path.log_boundary.len());
        }
        let path = path.unwrap();
        assert_eq!((path.every, path.from.as_ref().unwrap().0), (16, start));
        let expected: Vec<i32> = (0..125).map(|i| i * 16 + 1).collect();
        assert_eq!(path.log_e, expected, "each 16th tick");
        assert_eq!(path.log_boundary[0], 461);
        assert_eq!(path.log_e_pass[0], -10_000, "not known is far below");
        let points = i64::try_from(path.log_e.len()).unwrap();
        let span = path.to.unwrap().0.duration_since(path.from.unwrap().0);
        assert_eq!(span.as_secs(), (points - 1) * 240);
    }
}
