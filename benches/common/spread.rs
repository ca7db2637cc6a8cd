//! How measured times are written: the median and where nine of ten lie.

use std::time::Duration;

/// `median 41.2 us (5 % 40.1 us, 95 % 55.0 us, n 5000)`.
pub fn of(spans: &mut [Duration]) -> String {
    spans.sort_unstable();
    let at = |percent: usize| {
        let place = spans.len().saturating_sub(1) * percent / 100;
        spans.get(place).copied().unwrap_or_default()
    };
    let [low, median, high] = [5, 50, 95].map(|p| format!("{:.1?}", at(p)));
    format!("median {median} (5 % {low}, 95 % {high}, n {})", spans.len())
}
