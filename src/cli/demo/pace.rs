//! How fast the demo goes.

use std::time::Duration;

use jiff::SignedDuration;

/// Spans, rates and counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// Releases that are played at the same time.
    pub at_once: usize,
    /// Requests per second to each app under release.
    pub requests: f64,
    /// Requests to one app that are under way at most. The slow version has 16 of them in mind at the
    /// usual rate; a request takes four open files, all in this process, and 1,024 are usual.
    pub under_way: usize,
    /// The window of a query, in seconds; scrapes come each second.
    pub window: u32,
    /// From the start of an analysis to its first measurement, in seconds: the window is full then.
    pub initial_delay: u32,
    /// Between two measurements, in seconds.
    pub interval: u32,
    /// Measurements of a step.
    pub count: u32,
    /// Requests per second of the new pods that a measurement needs: 5 in 5 s are 25 requests, of
    /// which a healthy version (1 error in 1,000) fails 3 (above the limit of 10 %) twice in a
    /// million windows, and two such windows make a failure.
    pub min_rate: u32,
    /// `progressDeadlineSeconds`.
    pub deadline: u32,
    /// How long a container takes to get ready.
    pub ready_after: SignedDuration,
    /// From the first request to the new version.
    pub warm_up: Duration,
    /// How often the API is read and the screen drawn.
    pub look: Duration,
    /// Without a decision after this long, a release is undecided.
    pub give_up: Duration,
}

impl Pace {
    /// Two minutes in all, to be watched.
    pub const USUAL: Self = Self {
        at_once: 2,
        requests: 150.0,
        under_way: 64,
        window: 6,
        initial_delay: 5,
        interval: 2,
        count: 4,
        min_rate: 8,
        deadline: 15,
        ready_after: SignedDuration::from_millis(1_500),
        warm_up: Duration::from_secs(3),
        look: Duration::from_millis(250),
        give_up: Duration::from_secs(90),
    };
    /// All at once, to be read.
    pub const FAST: Self = Self {
        at_once: 6,
        requests: 45.0,
        under_way: 24,
        window: 5,
        initial_delay: 3,
        interval: 1,
        count: 3,
        min_rate: 5,
        deadline: 12,
        ready_after: SignedDuration::ZERO,
        warm_up: Duration::from_secs(1),
        look: Duration::from_millis(500),
        // A machine that is busy with other tests is slow, not wrong.
        give_up: Duration::from_secs(240),
    };
}
