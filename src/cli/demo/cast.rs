//! Who plays: six apps with one release each, and which new version behaves how.
//!
//! Names and tags say nothing: the seed deals the behaviours to the images, and what is expected
//! follows from the deal.

use jiff::SignedDuration;

use crate::sim::kubelet;
use crate::sim::pods::{self, Behaviour, Latency};

/// How a version behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nature {
    /// 1 error in 1,000, 20 ms.
    Good,
    /// 30 % of its answers are errors.
    Errors,
    /// Half of its answers take longer than 400 ms.
    Slow,
    /// It starts and never gets ready.
    NeverReady,
}

/// How a release is let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A share of the requests at each step.
    Weights,
    /// First those with a header or a cookie, then a share.
    AbTest,
    /// Batches of pods; the Service spreads the requests.
    Batches,
}

/// One app and its release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// The app: Deployment, Service, HTTPRoute and Rollout have this name.
    pub app: &'static str,
    /// How its release is let through.
    pub style: Style,
    /// How its new version behaves.
    pub nature: Nature,
}

/// All apps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cast {
    /// The apps in the order of play.
    pub acts: Vec<Act>,
}

/// The apps, with what each one's new version is when nothing was dealt yet.
const ACTS: [(&str, Style, Nature); 6] = [
    ("shop", Style::Weights, Nature::Good),
    ("cart", Style::Weights, Nature::Errors),
    ("search", Style::Weights, Nature::Slow),
    ("login", Style::Weights, Nature::NeverReady),
    ("offers", Style::AbTest, Nature::Good),
    ("mail", Style::Batches, Nature::Good),
];
/// All orders of six.
const ORDERS: u64 = 720;
/// Has no factor in common with 720: so 720 seeds in a row give 720 different orders.
const STRIDE: u64 = 277;

/// A deleted pod serves this long after it has left the endpoints: requests under way on a busy
/// machine still reach it.
const STOP_AFTER: SignedDuration = SignedDuration::from_secs(4);

/// The tag that runs before the release.
pub const OLD: &str = "v1";
/// The tag that is released.
pub const NEW: &str = "v2";

impl Cast {
    /// The deal of a seed. Seed 1 deals in the order in which the story is best told.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut order = (seed.wrapping_sub(1) % ORDERS) * STRIDE % ORDERS;
        let mut left: Vec<Nature> = ACTS.iter().map(|(_, _, nature)| *nature).collect();
        let mut acts = Vec::new();
        for (app, style, _) in ACTS {
            // The order's digits in the factorial number system: which of those left comes next.
            let below: u64 = (1..left.len() as u64).product();
            let index = usize::try_from(order / below).unwrap_or(0).min(left.len() - 1);
            order %= below;
            acts.push(Act { app, style, nature: left.remove(index) });
        }
        Self { acts }
    }

    /// Two apps' new versions change natures; names and tags stay.
    #[must_use]
    pub fn swapped(mut self, one: usize, other: usize) -> Self {
        let nature = |i: usize| self.acts.get(i).map(|act| act.nature);
        if let (Some(a), Some(b)) = (nature(one), nature(other)) {
            for (i, nature) in [(one, b), (other, a)] {
                if let Some(act) = self.acts.get_mut(i) {
                    act.nature = nature;
                }
            }
        }
        self
    }

    /// How the images start.
    #[must_use]
    pub fn kubelet(&self, ready_after: SignedDuration) -> kubelet::Behaviours {
        let mut all =
            kubelet::Behaviours::default().ready_after(ready_after).stop_after(STOP_AFTER);
        for act in self.acts.iter().filter(|act| act.nature == Nature::NeverReady) {
            all.set(&act.image(NEW), kubelet::Behaviour::NeverReady);
        }
        all
    }

    /// How the images answer.
    #[must_use]
    pub fn answers(&self) -> pods::Behaviours {
        let mut all = pods::Behaviours::default();
        for act in &self.acts {
            all.set(&act.image(OLD), Nature::Good.answers(OLD));
            all.set(&act.image(NEW), act.nature.answers(NEW));
        }
        all
    }
}

impl Nature {
    fn answers(self, version: &str) -> Behaviour {
        let (error_rate, median_seconds) = match self {
            Self::Good | Self::NeverReady => (0.001, 0.02),
            Self::Errors => (0.3, 0.02),
            Self::Slow => (0.001, 0.4),
        };
        let latency = Latency { median_seconds, sigma: 0.4 };
        Behaviour::steady(version, error_rate, latency)
    }

    /// The decision that is right.
    #[must_use]
    pub fn expected(self) -> &'static str {
        match self {
            Self::Good => "Promoted",
            Self::Errors | Self::Slow | Self::NeverReady => "RolledBack",
        }
    }
}

impl Act {
    /// The image with this tag.
    #[must_use]
    pub fn image(&self, tag: &str) -> String {
        format!("{}:{tag}", self.app)
    }

    /// Its virtual host.
    #[must_use]
    pub fn host(&self) -> String {
        format!("{}.demo", self.app)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_first_seed_tells_the_story_and_720_seeds_deal_all_orders() {
        let natures = |seed| Cast::of(seed).acts.iter().map(|a| a.nature).collect::<Vec<_>>();
        assert_eq!(natures(1), ACTS.map(|(_, _, nature)| nature));
        let deals: BTreeSet<String> = (0..720).map(|seed| format!("{:?}", natures(seed))).collect();
        // Three of the six are alike: 720 / 3!.
        assert_eq!(deals.len(), 120);
        assert_eq!(Cast::of(721), Cast::of(1));
    }

    #[test]
    fn a_swap_changes_what_is_expected_and_no_name() {
        let (before, after) = (Cast::of(1), Cast::of(1).swapped(0, 1));
        let expected = |c: &Cast| c.acts.iter().map(|a| a.nature.expected()).collect::<Vec<_>>();
        assert_eq!(expected(&before)[..2], ["Promoted", "RolledBack"]);
        assert_eq!(expected(&after)[..2], ["RolledBack", "Promoted"]);
        for (a, b) in before.acts.iter().zip(&after.acts) {
            assert_eq!((a.app, a.image(NEW), a.style), (b.app, b.image(NEW), b.style));
        }
    }
}
