//! How the containers of an image answer requests.

use std::collections::BTreeMap;

use rand::Rng;
use rand::rngs::SmallRng;

/// A log-normal distribution of response times.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Latency {
    /// Half of the requests are faster, in seconds.
    pub median_seconds: f64,
    /// The standard deviation of the logarithm; 0 makes every answer take the median.
    pub sigma: f64,
}

/// How one version answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Behaviour {
    /// What it calls itself in its answers.
    pub version: String,
    /// The share of requests that are answered with 500, from 0 to 1.
    pub error_rate: f64,
    /// How long an answer takes.
    pub latency: Latency,
    /// A pod that has just started fails more often.
    pub cold: Option<Cold>,
    /// Pods of one version differ: the standard deviation of the logarithm of their error rate.
    pub spread: f64,
    /// So many requests each pod has answered before it is looked at.
    pub lived: u64,
}

/// How a pod begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cold {
    /// It fails so many times as often.
    pub times: f64,
    /// For so many seconds.
    pub seconds: f64,
}

/// One drawn answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Answer {
    /// 200 or 500.
    pub code: u16,
    /// The response time.
    pub seconds: f64,
}

/// No answer takes longer than this: the tail of the distribution is cut here.
const SECONDS_MAX: f64 = 30.0;

impl Behaviour {
    /// A version whose pods are all alike from their first second on.
    #[must_use]
    pub fn steady(version: &str, error_rate: f64, latency: Latency) -> Self {
        let version = version.to_owned();
        Self { version, error_rate, latency, cold: None, spread: 0.0, lived: 0 }
    }

    /// The behaviour of one of its pods.
    #[must_use]
    pub fn of_a_pod(&self, rng: &mut SmallRng) -> Self {
        let mut own = self.clone();
        if self.spread > 0.0 {
            own.error_rate = (self.error_rate * (self.spread * normal(rng)).exp()).min(1.0);
        }
        own
    }

    /// The behaviour of a pod that is so many seconds old.
    #[must_use]
    pub fn at_age(&self, seconds: f64) -> Self {
        let mut aged = self.clone();
        if let Some(cold) = self.cold.filter(|cold| seconds < cold.seconds) {
            aged.error_rate = (self.error_rate * cold.times).min(1.0);
        }
        aged
    }

    /// Draws the answer to one request.
    #[must_use]
    pub fn draw(&self, rng: &mut SmallRng) -> Answer {
        let failed = rng.random::<f64>() < self.error_rate;
        let Latency { median_seconds, sigma } = self.latency;
        let seconds = (median_seconds * (sigma * normal(rng)).exp()).clamp(0.0, SECONDS_MAX);
        Answer { code: if failed { 500 } else { 200 }, seconds }
    }
}

/// A standard normal number.
pub(super) fn normal(rng: &mut SmallRng) -> f64 {
    // Box-Muller; 1 - u keeps the logarithm's argument above 0.
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}

/// The behaviour of every image: by exact image where that is set, else the usual one with what the
/// tag says (`errors-20` is 20 % of 500s, `latency-300ms` a median of 300 ms).
#[derive(Debug, Clone)]
pub struct Behaviours {
    by_image: BTreeMap<String, Behaviour>,
    usual: Behaviour,
}

impl Default for Behaviours {
    /// 1 error in 1,000, a median of 20 ms with a modest tail.
    fn default() -> Self {
        let latency = Latency { median_seconds: 0.02, sigma: 0.5 };
        let usual = Behaviour::steady("", 0.001, latency);
        Self { by_image: BTreeMap::new(), usual }
    }
}

impl Behaviours {
    /// Fixes the behaviour of one exact image, whatever its tag says.
    pub fn set(&mut self, image: &str, behaviour: Behaviour) {
        self.by_image.insert(image.to_owned(), behaviour);
    }

    /// Fixes what images without words of their own do; their version is their tag.
    pub fn set_usual(&mut self, error_rate: f64, latency: Latency) {
        self.usual = Behaviour::steady("", error_rate, latency);
    }

    /// The behaviour of an image.
    #[must_use]
    pub fn of(&self, image: &str) -> Behaviour {
        if let Some(own) = self.by_image.get(image) {
            return own.clone();
        }
        let last = image.rsplit('/').next().unwrap_or_default();
        let tag = last.split_once(':').map_or("latest", |(_, tag)| tag);
        let mut behaviour = Behaviour { version: tag.to_owned(), ..self.usual.clone() };
        if let Some(percent) = number_after(tag, "errors-") {
            behaviour.error_rate = (percent / 100.0).clamp(0.0, 1.0);
        }
        if let Some(millis) = number_after(tag, "latency-") {
            behaviour.latency.median_seconds = millis / 1000.0;
        }
        behaviour
    }
}

fn number_after(tag: &str, word: &str) -> Option<f64> {
    let (_, rest) = tag.split_once(word)?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}
