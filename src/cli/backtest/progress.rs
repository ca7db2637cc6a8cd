//! How far it is, for a person at a terminal: one line that is written over, and taken away at the end.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use tokio::time::Instant;

/// Between two lines.
const EVERY: Duration = Duration::from_millis(200);

/// A line on standard error.
pub(super) struct Progress {
    shown: bool,
    began: Instant,
    last: Option<Instant>,
}

impl Progress {
    /// Hidden without a terminal.
    pub(super) fn new(quiet: bool, now: Instant) -> Self {
        let shown = !quiet && std::io::stderr().is_terminal();
        Self { shown, began: now, last: None }
    }

    /// The next part begins.
    pub(super) fn again(&mut self, now: Instant) {
        self.began = now;
    }

    /// `done` windows of `all` are done.
    pub(super) fn at(&mut self, what: &str, done: usize, all: usize, now: Instant) {
        let soon = self.last.is_some_and(|last| now.duration_since(last) < EVERY);
        if !self.shown || soon {
            return;
        }
        self.last = Some(now);
        let line = line(what, done, all, now.duration_since(self.began));
        let _broken = write!(std::io::stderr(), "\r\u{1b}[K{line}");
        let _broken = std::io::stderr().flush();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            let _broken = write!(std::io::stderr(), "\r\u{1b}[K");
        }
    }
}

/// `replaying [#####.....] 120 of 336 windows, 1m 3s left`.
fn line(what: &str, done: usize, all: usize, passed: Duration) -> String {
    let share = if all == 0 { 1.0 } else { done as f64 / all as f64 };
    let filled = (share * 20.0).floor() as usize;
    let bar = format!("{}{}", "#".repeat(filled), ".".repeat(20_usize.saturating_sub(filled)));
    let left = match share {
        share if share > 0.0 => {
            let seconds = passed.as_secs_f64() * (1.0 - share) / share;
            let left = Duration::from_secs(seconds.ceil().min(1e9) as u64);
            format!(", {} left", humantime::format_duration(left))
        }
        _ => String::new(),
    };
    format!("{what} [{bar}] {done} of {all} windows{left}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_far_and_how_long() {
        assert_eq!(
            line("replaying", 0, 336, Duration::ZERO),
            "replaying [....................] 0 of 336 windows"
        );
        let half = line("learning", 168, 336, Duration::from_secs(63));
        assert_eq!(half, "learning [##########..........] 168 of 336 windows, 1m 3s left");
    }
}
