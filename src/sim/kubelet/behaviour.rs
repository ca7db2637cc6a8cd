//! How a container behaves, by its image.

use std::collections::BTreeMap;

use jiff::SignedDuration;

/// What a container does once its pod is on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// It is ready this long after it has started.
    Ready {
        /// The delay; zero means at once.
        after: SignedDuration,
    },
    /// It runs and is never ready.
    NeverReady,
    /// It exits with an error this long after each start, without having been ready.
    Crash {
        /// How long it runs.
        after: SignedDuration,
    },
    /// Its image cannot be pulled.
    PullError,
}

/// The behaviour of every image: by exact image where that is set, else by words in the tag
/// (`never-ready`, `crash`, `pull-error`, `slow`, `slow-3s`), else ready after the default delay.
#[derive(Debug, Clone, Default)]
pub struct Behaviours {
    by_image: BTreeMap<String, Behaviour>,
    ready_after: SignedDuration,
    spread: SignedDuration,
    stop_after: SignedDuration,
}

impl Behaviours {
    /// Containers without a behaviour of their own are ready this long after their start.
    #[must_use]
    pub fn ready_after(mut self, delay: SignedDuration) -> Self {
        self.ready_after = delay;
        self
    }

    /// The same, but some pods take longer, by whole seconds up to `longest`: which ones is decided by
    /// their names.
    #[must_use]
    pub fn ready_between(mut self, shortest: SignedDuration, longest: SignedDuration) -> Self {
        self.ready_after = shortest;
        self.spread = longest.saturating_sub(shortest);
        self
    }

    /// A deleted pod goes on serving for this long, at most its grace period.
    #[must_use]
    pub fn stop_after(mut self, delay: SignedDuration) -> Self {
        self.stop_after = delay;
        self
    }

    /// Fixes the behaviour of one exact image, whatever its tag says.
    pub fn set(&mut self, image: &str, behaviour: Behaviour) {
        self.by_image.insert(image.to_owned(), behaviour);
    }

    /// How long a deleted pod goes on serving.
    pub(super) fn stopping(&self) -> SignedDuration {
        self.stop_after
    }

    /// The behaviour of an image in the pod of this name.
    pub(super) fn in_pod(&self, image: &str, pod: &str) -> Behaviour {
        match self.of(image) {
            Behaviour::Ready { after } if after == self.ready_after => {
                Behaviour::Ready { after: after.saturating_add(share(pod, self.spread)) }
            }
            other => other,
        }
    }

    /// The behaviour of an image.
    #[must_use]
    pub fn of(&self, image: &str) -> Behaviour {
        if let Some(own) = self.by_image.get(image) {
            return *own;
        }
        let last = image.rsplit('/').next().unwrap_or_default();
        let tag = last.split_once(':').map_or("", |(_, tag)| tag);
        if tag.contains("never-ready") {
            Behaviour::NeverReady
        } else if tag.contains("pull-error") {
            Behaviour::PullError
        } else if tag.contains("crash") {
            Behaviour::Crash { after: SignedDuration::from_secs(1) }
        } else if let Some((_, delay)) = tag.split_once("slow") {
            Behaviour::Ready { after: slow_delay(delay) }
        } else {
            Behaviour::Ready { after: self.ready_after }
        }
    }
}

/// Up to `spread`, in whole seconds.
fn share(pod: &str, spread: SignedDuration) -> SignedDuration {
    let sum = pod.bytes().fold(0_i64, |sum, byte| (sum * 31 + i64::from(byte)) % 65_521);
    SignedDuration::from_secs(sum % (spread.as_secs() + 1))
}

/// The delay in `-3s`; three seconds when there is none.
fn slow_delay(written: &str) -> SignedDuration {
    let digits: String =
        written.trim_start_matches('-').chars().take_while(char::is_ascii_digit).collect();
    SignedDuration::from_secs(digits.parse().unwrap_or(3))
}
