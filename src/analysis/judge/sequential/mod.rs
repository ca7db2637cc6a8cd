//! The sequential judge: canary against stable from raw per-pod series, with an error bound that holds
//! however often one looks.
//!
//! A tick is one answer of each query. Counters turn raw counters into what
//! happened since the tick before; [`MetricState`] gathers the evidence of one comparison and is kept
//! as a checkpoint in the run's status; [`judge`] combines all comparisons of a run into FAIL, PASS,
//! CONTINUE or INCONCLUSIVE with the reason and what is missing. No clock, no client, no chance: the
//! same ticks give the same answer, so that a state can also be rebuilt from the provider.
//!
//! Refuses: rates and percentiles that a server has computed, gauges without a history of their noise.

mod counters;
mod exact;
mod exposure;
mod jumps;
mod lack;
mod metric;
mod native;
mod outlook;
mod plan;
mod process;
mod verdict;

pub(in crate::analysis) use counters::Grown;
pub use counters::{
    Counters, Counting, Increment, PodReading, Quality, Reading, ReadingError, Series,
};
pub use exposure::ExposureWatch;
pub use lack::{Lack, What};
pub use metric::{CheckpointError, MetricState, Tick};
pub use native::{Layout, NativeArm, NativeError, NativeHistogram};
pub use plan::{Comparison, Direction, History, Kind, Past, PodNoise, goal};
pub(in crate::analysis) use verdict::point;
pub(crate) use verdict::rounded;
pub use verdict::{BETA, Height, Judgement, Metric, Rules, judge};

#[cfg(test)]
mod tests;
