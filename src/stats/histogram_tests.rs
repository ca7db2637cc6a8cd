use super::*;

const BOUNDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// A hundred thousand lognormal requests, median 80 ms and sigma 0.6, in the default buckets.
const HISTORY: [f64; 12] =
    [0.0, 26.0, 2_613.0, 19_044.0, 42_816.0, 32_631.0, 2_741.0, 127.0, 2.0, 0.0, 0.0, 0.0];

/// The expectation of `e` when each request of a tick is the canary's with chance `rho`.
fn expectation(both: &[u32], rho: f64, mut e: impl FnMut(&[f64], &[f64]) -> f64) -> f64 {
    let requests: Vec<usize> =
        both.iter().enumerate().flat_map(|(j, n)| vec![j; *n as usize]).collect();
    (0u32..1 << requests.len())
        .map(|labels| {
            let (mut canary, mut baseline) = (vec![0.0; both.len()], vec![0.0; both.len()]);
            let mut chance = 1.0;
            for (i, j) in requests.iter().enumerate() {
                let is_canary = labels >> i & 1 == 1;
                if is_canary {
                    canary[*j] += 1.0
                } else {
                    baseline[*j] += 1.0
                }
                chance *= if is_canary { rho } else { 1.0 - rho };
            }
            chance * e(&canary, &baseline)
        })
        .sum()
}

#[test]
fn boundaries_have_a_tail_of_use_and_are_at_most_eight() {
    assert_eq!(boundaries(&HISTORY), [4, 5]);
    assert_eq!(boundaries(&[]), Vec::<usize>::new());
    assert_eq!((rare(&[]), rare(&[0.0; 5])), (None, None));
    assert_eq!(
        rare(&[50.0, 50.0, 0.0, 0.0]),
        Some(1),
        "coarse: half above the first, none above the next"
    );
    assert_eq!(rare(&[10.0; 40]), None, "always something above");
    assert_eq!(boundaries(&[0.0; 5]), Vec::<usize>::new());
    let many = boundaries(&[10.0; 40]);
    assert_eq!(many.len(), 8);
    assert!(many.first() == Some(&15) && many.last() == Some(&38), "{many:?}");
}

#[test]
fn weights_rise_with_the_bucket_and_follow_the_shift() {
    let tilts = Tilts::new(&BOUNDS, &HISTORY).unwrap();
    for k in 0..TILTS {
        let column: Vec<f64> = tilts.ln_weight.iter().map(|row| row[k]).collect();
        assert!(column.windows(2).all(|pair| pair[0] <= pair[1]), "{k}: {column:?}");
        assert!(column[4] < 0.0 && column[6] > 0.0, "{k}: {column:?}");
    }
    for (bounds, history) in [
        (&[1.0, 0.5][..], &[1.0, 1.0, 1.0][..]),
        (&[1.0, 2.0], &[1.0, 1.0]),
        (&[0.0, 2.0], &[1.0, 1.0, 1.0]),
        (&[1.0, 2.0], &[1.0, f64::NAN, 1.0]),
        (&[], &[1.0]),
    ] {
        assert_eq!(Tilts::new(bounds, history), None, "{bounds:?} {history:?}");
    }
}

/// With the split known beforehand, as in the derivation.
#[test]
fn a_factor_of_the_tilt_has_expectation_one_when_labels_are_random() {
    let tilts = Tilts::new(&BOUNDS, &HISTORY).unwrap();
    let rho = 0.25;
    for k in 0..TILTS {
        let mean = expectation(&[0, 0, 0, 2, 4, 4, 2, 0, 0, 0, 0, 0], rho, |canary, baseline| {
            let score: f64 = (0..12)
                .map(|j| {
                    canary[j] * tilts.ln_weight[j][k]
                        - (canary[j] + baseline[j]) * (rho * tilts.above_one[j][k]).ln_1p()
                })
                .sum();
            score.exp()
        });
        assert!((mean - 1.0).abs() < 1e-12, "{k}: {mean}");
    }
}

/// The expectation of exp(score) of tilt `k` over labels drawn without replacement, exactly: the mean of
/// the product of the canary's weights is an elementary symmetric polynomial.
fn fixed_totals(tilts: &Tilts, both: &[u32], canary: usize, k: usize) -> f64 {
    let all: u32 = both.iter().sum();
    let mut products = vec![0.0f64; canary + 1];
    products[0] = 1.0;
    for (j, count) in both.iter().enumerate() {
        let weight = tilts.ln_weight[j][k].exp();
        for _ in 0..*count {
            for i in (1..=canary).rev() {
                products[i] += products[i - 1] * weight;
            }
        }
    }
    let choose: f64 =
        (0..canary).map(|i| f64::from(all - i as u32).ln() - (i as f64 + 1.0).ln()).sum();
    // The score when every request is the canary's, less their weights, is what no label changes.
    let mut process = TiltProcess::new(tilts, Restarts::NONE);
    let share = canary as f64 / f64::from(all);
    let of: Vec<f64> = both.iter().map(|n| f64::from(*n) * share).collect();
    let against: Vec<f64> = both.iter().map(|n| f64::from(*n) * (1.0 - share)).collect();
    assert!(process.observe(tilts, &of, &against));
    let weights: f64 = of.iter().zip(&tilts.ln_weight).map(|(n, row)| n * row[k]).sum();
    (products[canary].ln() - choose + process.mixture.scores_mut()[k] - weights).exp()
}

#[test]
fn with_totals_as_they_are_the_expectation_is_at_most_one_whatever_the_history() {
    let tilts = Tilts::new(&BOUNDS, &HISTORY).unwrap();
    let mut most: f64 = 0.0;
    for both in [
        [0, 0, 4, 29, 66, 49, 4, 0, 0, 0, 0, 0],
        [0, 0, 0, 10, 32, 90, 20, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 76, 0, 76, 0, 0, 0, 0, 0],
        [0, 0, 82, 0, 10, 20, 40, 0, 0, 0, 0, 0],
        [0, 0, 142, 0, 0, 0, 10, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 150, 0, 0, 2, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 270, 30, 0, 0, 0, 0, 0],
    ] {
        for canary in [1, 15, 40, 75] {
            for k in 0..TILTS {
                let mean = fixed_totals(&tilts, &both, canary, k);
                assert!(mean <= 1.0, "{both:?} {canary} {k}: {mean}");
                most = most.max(mean);
            }
        }
    }
    assert!(most > 0.98, "{most}");
}

#[test]
fn small_ticks_are_gathered() {
    let tilts = Tilts::new(&BOUNDS, &HISTORY).unwrap();
    let (mut apart, mut together) =
        (TiltProcess::new(&tilts, Restarts::NONE), TiltProcess::new(&tilts, Restarts::NONE));
    let canary = [0.0, 0.0, 0.0, 5.0, 20.0, 20.0, 5.0, 0.0, 0.0, 0.0, 0.0, 0.0];
    for _ in 0..2 {
        let before = apart.mixture.clone();
        assert!(apart.observe(&tilts, &canary, &[3.0; 12]));
        assert_eq!(apart.mixture, before);
        assert!(apart.observe(&tilts, &canary, &[7.0; 12]));
        assert!(together.observe(&tilts, &canary.map(|n| 2.0 * n), &[10.0; 12]));
    }
    assert_eq!(apart, together);
}

#[test]
fn the_average_of_identical_boundaries_is_one_of_them() {
    let (canary, baseline) = ([90.0, 9.0, 1.0], [930.0, 65.0, 5.0]);
    let mut one = Exceedance::new(&[0], &[1.0], Restarts::NONE);
    let mut three = Exceedance::new(&[0, 0, 0], &[1.0; 3], Restarts::NONE);
    assert!(one.observe(&canary, &baseline) && three.observe(&canary, &baseline));
    assert!((one.log_e() - three.log_e()).abs() < 1e-12);
    let mut rate = RateProcess::default();
    rate.observe(&Split::of(100.0, 1_000.0, 1.0).unwrap(), 10.0, 80.0);
    assert!((one.log_e() - rate.log_e()).abs() < 1e-12);
}

#[test]
fn slower_requests_are_seen_and_faster_ones_are_no_harm() {
    let tilts = Tilts::new(&BOUNDS, &HISTORY).unwrap();
    let baseline: Vec<f64> = HISTORY.iter().map(|count| count * 0.18).collect();
    let slower = [0.0, 0.0, 36.0, 315.0, 825.0, 742.0, 79.0, 3.0, 0.0, 0.0, 0.0, 0.0];
    let faster = [0.0, 1.0, 80.0, 450.0, 870.0, 560.0, 37.0, 2.0, 0.0, 0.0, 0.0, 0.0];
    let run = |canary: &[f64]| {
        let mut tilt = TiltProcess::new(&tilts, Restarts::NONE);
        let mut above = Exceedance::new(&boundaries(&HISTORY), &[1.0; 2], Restarts::NONE);
        assert!(tilt.observe(&tilts, canary, &baseline) && above.observe(canary, &baseline));
        (tilt.log_e(), above.log_e())
    };
    let (tilt, above) = run(&slower);
    assert!(tilt > libm::log(100.0) && above > 2.0, "{tilt} {above}");
    let (tilt, above) = run(&faster);
    assert!(tilt < 0.0 && above < 0.0, "{tilt} {above}");
}

#[test]
fn ticks_without_sense_change_nothing() {
    let tilts = Tilts::new(&BOUNDS, &HISTORY).unwrap();
    let mut tilt = TiltProcess::new(&tilts, Restarts::equal(3));
    let mut above = Exceedance::new(&[4], &[1.0], Restarts::equal(3));
    let fresh = (tilt.clone(), above.clone());
    let (good, empty) = ([5.0; 12], [0.0; 12]);
    let mut broken = good;
    broken[3] = f64::NAN;
    for (a, b) in [(&empty, &empty), (&broken, &good), (&good, &broken)] {
        assert!(!tilt.observe(&tilts, a, b) && !above.observe(a, b));
    }
    assert!(!above.observe(&good, &empty) && !above.observe(&empty, &good));
    assert!(!tilt.observe(&tilts, &good[..11], &good[..11]) && !above.observe(&good, &good[..11]));
    assert_eq!((tilt, above), fresh);
}

#[test]
fn not_slower_must_hold_at_every_boundary() {
    let baseline = [9_000.0, 900.0, 100.0];
    let mut both = NotSlower::new(&[0, 1], 1.5);
    assert!(both.observe(&[9_000.0, 900.0, 100.0], &baseline));
    assert!(both.log_e() > 2.0, "{}", both.log_e());
    let mut tail = NotSlower::new(&[0, 1], 1.5);
    assert!(tail.observe(&[9_000.0, 840.0, 160.0], &baseline));
    assert!(tail.log_e() < 0.5, "{}", tail.log_e());
    assert_eq!(NotSlower::new(&[], 1.5).log_e(), f64::NEG_INFINITY);
}
