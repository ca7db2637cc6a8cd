//! Levels of pods that differ for good.

use super::*;

const EVERY: SignedDuration = SignedDuration::from_secs(120);
const LAST: i32 = 15;

fn level() -> Comparison {
    Comparison { name: "memory".to_owned(), kind: Kind::Gauge, ..errors() }
}

/// Pods of which each has a level of its own, a tenth more or less, and chance of two per cent.
struct Levels(Service);

impl Levels {
    fn pods(&mut self, pods: usize) -> Vec<f64> {
        (0..pods).map(|_| 100.0 * (0.1 * self.0.normal()).exp()).collect()
    }

    fn now(&mut self, level: f64) -> f64 {
        level * (1.0 + 0.02 * self.0.normal())
    }

    fn learn(&mut self, windows: usize) -> Learnt {
        let asked = Asked {
            comparison: level(),
            tick: EVERY,
            queries: vec!["level".to_owned()],
            ..asked()
        };
        let canary = vec![(SignedDuration::ZERO, 3)];
        let mut learner =
            Learner::new(vec![asked], Policy { canary, ..policy(windows) }, None, now());
        let mut number = 0;
        while let Some(from) = learner.due().first().map(|question| question.from) {
            number += 1;
            let pods = self.pods(12);
            let line = |(i, level): (usize, f64)| Line {
                labels: BTreeMap::from([("pod".to_owned(), format!("web-5d4b-{number}x{i}"))]),
                points: (0..=LAST).map(|tick| (from + EVERY * tick, self.now(level))).collect(),
            };
            learner.take(vec![pods.into_iter().enumerate().map(line).collect()]);
        }
        learner.finish(now()).unwrap()
    }

    /// Whether a good release of so many pods and ticks fails.
    fn fails(
        &mut self,
        of: &Comparison,
        rules: &Rules,
        (canary, stable): (usize, usize),
        ticks: i32,
    ) -> bool {
        let from = Timestamp::from_second(2_000_000_000).unwrap();
        let arms = [self.pods(canary), self.pods(stable)];
        let counting =
            Counting { started: from, tick: EVERY, warm_up: SignedDuration::ZERO, weight: None };
        let mut state = MetricState::default();
        (0..=ticks).any(|tick| {
            let at = from + EVERY * tick;
            let [canary, stable] = arms.each_ref().map(|levels| {
                let pod = |(i, level): (usize, &f64)| {
                    let values = vec![self.now(*level)];
                    (format!("web-{i}"), PodReading { created: None, values })
                };
                Reading { bounds: Vec::new(), pods: levels.iter().enumerate().map(pod).collect() }
            });
            state.observe(of, &Tick { canary, stable }, at, &counting);
            judge(&[Metric { of, state: &state }], rules, at).verdict == Verdict::Fail
        })
    }
}

/// At 5 % from 120 windows with three canary pods beside nine, seed 600: 3 of 60 are expected, with a
/// deviation of 2 and as much for the windows.
#[test]
fn a_gauge_of_fewer_pods_or_of_a_longer_release_is_failed_no_more_often() {
    let mut levels = Levels(Service::new(Noise::default(), 600));
    let learnt = levels.learn(120);
    let of = level();
    let (terms, _) = terms(&learnt, &[wanted(&of)], 0.05);
    let history = terms.history(&of, false).unwrap();
    let rules = Rules { height: terms.height(None), ..Rules::level(0.05) };
    let mut failed = |history: History, pods: (usize, usize), windows: i32, runs: usize| {
        let of = Comparison { history: Some(history), ..level() };
        (0..runs).filter(|_| levels.fails(&of, &rules, pods, windows * LAST)).count()
    };
    let trusting = History { past: None, ..history };
    let fewer = [(1, 9), (1, 3)]
        .map(|pods| [history, trusting].map(|history| failed(history, pods, 1, 60)));
    let longer = failed(history, (3, 9), 3, 40);
    println!("{fewer:?} of 60 failed with fewer pods, {longer} of 40 that took three windows");
    let [known, trusting] = [0, 1].map(|i| fewer.iter().map(|failed| failed[i]).sum::<usize>());
    assert!(known <= 12 && longer <= 6, "{known} {longer}");
    assert!(trusting > known, "{trusting}: what is tested makes no difference");
}
