//! Questions of a run that are under way. They outlive a reconcile, so that a server that hangs keeps neither
//! the other metrics of its run nor its end waiting.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use jiff::{SignedDuration, Timestamp};

use crate::analysis::{Ask, Outcome, Query};
use crate::clock::Clock;
use crate::providers::{MetricSource, run_due};

/// How long a reconcile waits for an answer at most: as late as this a run hears that it shall end.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long answers that come one after the other are gathered for one write.
const GATHER: Duration = Duration::from_millis(100);

/// The questions of a run.
#[derive(Default)]
pub(super) struct Pending {
    asked: BTreeSet<String>,
    answers: FuturesUnordered<BoxFuture<'static, Answered>>,
}

/// One metric's answers.
pub(super) struct Answered {
    metric: String,
    /// By question, for `analysis::record_all`.
    pub(super) outcomes: Vec<(String, Outcome)>,
    /// Who was asked.
    pub(super) provider: &'static str,
    /// From the question to the answer.
    pub(super) took: SignedDuration,
}

impl Pending {
    /// Asks what is not asked already. The questions of one metric are answered together.
    pub(super) fn ask(
        &mut self,
        source: &Arc<dyn MetricSource>,
        clock: &Arc<dyn Clock>,
        due: Vec<Query>,
    ) {
        let metric_of = |query: &Query| match query.metric.split_once('/') {
            Some((metric, _)) => metric.to_owned(),
            None => query.metric.clone(),
        };
        let mut due = due.into_iter().peekable();
        while let Some(first) = due.next() {
            let (metric, provider) = (metric_of(&first), provider(&first.source.ask));
            let mut questions = vec![first];
            while let Some(next) = due.next_if(|next| metric_of(next) == metric) {
                questions.push(next);
            }
            if !self.asked.insert(metric.clone()) {
                continue;
            }
            let (source, clock) = (Arc::clone(source), Arc::clone(clock));
            self.answers.push(Box::pin(async move {
                let began = clock.now();
                let outcomes = run_due(source.as_ref(), questions).await;
                Answered { metric, outcomes, provider, took: clock.now().duration_since(began) }
            }));
        }
    }

    /// The answers that have come by `until`, or none after a while.
    pub(super) async fn some(&mut self, now: Timestamp, until: Option<Timestamp>) -> Vec<Answered> {
        let mut come = Vec::new();
        self.ready(&mut come);
        if come.is_empty() && !self.answers.is_empty() {
            let due =
                until.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
            let patience = due.map_or(PATIENCE, |due| due.clamp(GATHER, PATIENCE));
            if let Ok(Some(first)) = tokio::time::timeout(patience, self.answers.next()).await {
                come.push(first);
                let all = async {
                    while let Some(next) = self.answers.next().await {
                        come.push(next);
                    }
                };
                let _the_others_come_later = tokio::time::timeout(GATHER, all).await;
            }
        }
        for answered in &come {
            self.asked.remove(&answered.metric);
        }
        come
    }

    /// What needs no waiting: everything, in virtual time.
    fn ready(&mut self, come: &mut Vec<Answered>) {
        while let Some(Some(next)) = self.answers.next().now_or_never() {
            come.push(next);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }
}

fn provider(ask: &Ask) -> &'static str {
    match ask {
        Ask::Prometheus { .. } => "prometheus",
        Ask::Web(_) => "web",
        Ask::Datadog(_) => "datadog",
        Ask::CloudWatch { .. } => "cloudWatch",
        Ask::Job(_) => "job",
        Ask::Object(_) => "object",
        Ask::Plugin { .. } => "plugin",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::Sample;
    use crate::clock::SystemClock;
    use crate::providers::{Answer, ProviderError};

    /// Answers everything at once but `hung`.
    struct Source;

    impl MetricSource for Source {
        fn query<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Answer, ProviderError>> {
            if query.text == "hung" {
                return Box::pin(std::future::pending());
            }
            let answer = Answer { sample: Sample::Value(1.0), warnings: Vec::new() };
            Box::pin(async { Ok(answer) })
        }
    }

    fn query(metric: &str, text: &str) -> Query {
        Query { metric: metric.to_owned(), text: text.to_owned(), ..Query::default() }
    }

    #[tokio::test]
    async fn a_metric_that_hangs_keeps_no_other_waiting_and_is_not_asked_twice() {
        let source: Arc<dyn MetricSource> = Arc::new(Source);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let now = clock.now();
        let mut pending = Pending::default();
        let due = || {
            let half = [query("b", "hung"), query("b/events", "well")];
            [vec![query("a", "well")], half.to_vec(), vec![query("c", "well")]].concat()
        };
        pending.ask(&source, &clock, due());
        let mut come: Vec<_> =
            pending.some(now, None).await.into_iter().map(|answered| answered.metric).collect();
        come.sort();
        assert_eq!(come, ["a", "c"], "the two questions of b are answered together");
        assert!(!pending.is_empty());
        pending.ask(&source, &clock, due());
        assert_eq!(pending.answers.len(), 3, "b is asked already");
        pending.some(now, None).await;
        assert!(pending.some(now, Some(now)).await.is_empty());
    }
}
