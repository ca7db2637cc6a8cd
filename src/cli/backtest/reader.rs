//! Reads one window at a time: range queries of raw counters per pod, a few points at once, evenly.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{anyhow, bail};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, sleep_until};

use super::input::Input;
use crate::analysis::{Ask, Asker, Line, Query, Range, RangeTime, Sample, Source};
use crate::providers::{MetricSource, Pool, ProviderError};

/// Prometheus answers at most 11,000 points of a series.
const POINTS: i64 = 10_000;

/// What did not work is asked again after so many seconds.
const AGAIN: [u64; 4] = [1, 3, 10, 30];

/// Reads from one server.
pub(super) struct Reader<'a> {
    input: &'a Input,
    pool: &'a Pool,
    /// When the next query may be asked.
    next: Mutex<Instant>,
    /// The server has answered once, so that an address that is wrong is not tried again.
    answered: AtomicBool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(input: &'a Input, pool: &'a Pool, now: Instant) -> Self {
        Self { input, pool, next: Mutex::new(now), answered: AtomicBool::new(false) }
    }

    /// All raw series of the window that starts at `from`, with what goes before it; by their place in
    /// `input.asked`.
    ///
    /// # Errors
    /// The server refuses, or does not answer.
    pub(super) async fn window(&self, from: Timestamp) -> anyhow::Result<Vec<Vec<Line>>> {
        let span = &self.input.span;
        let begin = from.checked_sub(span.lead)?;
        let until = from.checked_add(span.window)?;
        let mut read = Vec::with_capacity(self.input.asked.len());
        for asked in &self.input.asked {
            read.push(self.series(&asked.query(&self.input.pod_label), begin, until).await?);
        }
        Ok(read)
    }

    /// The series of a query from `begin` to `until`.
    ///
    /// # Errors
    /// The server refuses, or does not answer.
    pub(super) async fn series(
        &self,
        text: &str,
        begin: Timestamp,
        until: Timestamp,
    ) -> anyhow::Result<Vec<Line>> {
        let step = self.input.span.step;
        let most = step.checked_mul(i32::try_from(POINTS)?).unwrap_or(SignedDuration::MAX);
        let mut lines: Vec<Line> = Vec::new();
        let mut start = begin;
        while start <= until {
            let end = start.saturating_add(most).unwrap_or(until).min(until);
            append(&mut lines, self.range(text, start, end).await?);
            start = end.checked_add(step)?;
        }
        Ok(lines)
    }

    async fn range(
        &self,
        text: &str,
        start: Timestamp,
        end: Timestamp,
    ) -> anyhow::Result<Vec<Line>> {
        let (start, end) = (RangeTime::fixed(start), RangeTime::fixed(end));
        let ask = Ask::Prometheus { range: Some(Range { start, end, step: self.input.span.step }) };
        let query = Query {
            metric: "history".to_owned(),
            namespace: self.input.namespace.clone(),
            source: Source { ask, ..self.input.source.clone() },
            text: text.to_owned(),
            asker: Asker { run: "backtest".to_owned(), uid: String::new(), number: 0, notes: None },
            labelled: true,
        };
        let mut tries = AGAIN.iter();
        loop {
            self.turn().await;
            let error = match self.pool.query(&query).await {
                Ok(answer) => {
                    self.answered.store(true, Ordering::Relaxed);
                    return lines(answer.sample);
                }
                Err(error) => error,
            };
            let passing = match &error {
                ProviderError::Unreachable(_) => self.answered.load(Ordering::Relaxed),
                ProviderError::Timeout(_)
                | ProviderError::RateLimited { .. }
                | ProviderError::Server(_) => true,
                ProviderError::Refused(_)
                | ProviderError::Malformed(_)
                | ProviderError::Misconfigured(_) => false,
            };
            match tries.next().filter(|_| passing) {
                Some(seconds) => sleep(Duration::from_secs(*seconds)).await,
                None => return Err(anyhow!("{error}: asked for {text}")),
            }
        }
    }

    /// Waits for this query's turn.
    async fn turn(&self) {
        let mut next = self.next.lock().await;
        sleep_until(*next).await;
        *next = next.checked_add(Duration::from_secs(1) / self.input.rate).unwrap_or(*next);
    }
}

fn lines(sample: Sample) -> anyhow::Result<Vec<Line>> {
    match sample {
        Sample::Lines(lines) => Ok(lines),
        Sample::Empty => Ok(Vec::new()),
        other => bail!("the server answered a range query with {other}"),
    }
}

/// Adds the points of a later part to the same series.
fn append(lines: &mut Vec<Line>, more: Vec<Line>) {
    for one in more {
        match lines.iter_mut().find(|line| line.labels == one.labels) {
            Some(line) => line.points.extend(one.points),
            None => lines.push(one),
        }
    }
}
