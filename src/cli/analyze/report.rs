//! What was asked, what came back and what it means, for people and programs.

use std::fmt::Write as _;

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use jiff::Timestamp;
use owo_colors::OwoColorize;
use serde::Serialize;

use super::input::Input;
use crate::analysis::judge::threshold::explain;
use crate::analysis::metric::{self, CheckedMetric};
use crate::analysis::{Ask, Outcome, Query, Sample, Verdict};
use crate::api::{AnalysisPhase, AnalysisRun, MetricResult};
use crate::providers::Server;

/// The decision on one metric or on all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) enum Decision {
    /// Good.
    Pass,
    /// Bad.
    Fail,
    /// The conditions cannot tell.
    Inconclusive,
    /// The server answered and there was nothing in it.
    NoData,
    /// There is no answer, or the condition does not fit it.
    Error,
}

impl Decision {
    fn word(self) -> &'static str {
        match self {
            Self::Pass => "Pass",
            Self::Fail => "Fail",
            Self::Inconclusive => "Inconclusive",
            Self::NoData => "No data",
            Self::Error => "Error",
        }
    }

    fn coloured(self) -> String {
        match self {
            Self::Pass => self.word().green().to_string(),
            Self::Fail => self.word().red().to_string(),
            Self::Inconclusive | Self::NoData | Self::Error => self.word().yellow().to_string(),
        }
    }
}

/// Everything that was found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Explained {
    /// The template.
    pub(super) template: String,
    /// The instant that was asked for.
    pub(super) at: Timestamp,
    /// What a release would read.
    pub(super) decision: Decision,
    /// Why.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) reason: String,
    /// Each metric.
    pub(super) metrics: Vec<Metric>,
}

/// What was found of one metric.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metric {
    pub(super) name: String,
    pub(super) decision: Decision,
    /// The number that decided with its bound, or what is missing.
    pub(super) reason: String,
    /// The answer as the conditions see it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) result: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) success_condition: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) failure_condition: Option<String>,
    /// False: it is reported only.
    pub(super) decides: bool,
    /// Who was asked.
    pub(super) server: String,
    /// What was asked, arguments filled in.
    pub(super) query: String,
    /// What the server warned of.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) warnings: Vec<String>,
}

impl Explained {
    /// Puts together what was asked and what it came to.
    pub(super) fn of(
        input: &Input,
        run: &AnalysisRun,
        due: &[Query],
        answers: &[(String, Outcome)],
        verdict: &Verdict,
    ) -> Self {
        let checked = metric::check_shape(&run.spec).map(|c| c.metrics).unwrap_or_default();
        let results = run.status.as_ref().map(|status| status.metric_results.as_slice());
        let metrics = checked
            .iter()
            .filter_map(|metric| {
                let result = results?.iter().find(|result| result.name == metric.name)?;
                let query = due.iter().find(|query| query.metric == metric.name)?;
                let (_, outcome) = answers.iter().find(|(name, _)| *name == metric.name)?;
                Some(Metric::of(metric, result, query, outcome))
            })
            .collect();
        let (decision, reason) = match verdict {
            Verdict::Pass => (Decision::Pass, ""),
            Verdict::Fail { reason } => (Decision::Fail, reason.as_str()),
            Verdict::Inconclusive { reason } | Verdict::Continue { reason, since: _ } => {
                (Decision::Inconclusive, reason.as_str())
            }
        };
        let template = input.template.clone();
        Self { template, at: input.at, decision, reason: reason.to_owned(), metrics }
    }

    /// 0 pass, 1 fail, 2 cannot tell.
    pub(super) fn exit_code(&self) -> u8 {
        match self.decision {
            Decision::Pass => 0,
            Decision::Fail => 1,
            Decision::Inconclusive | Decision::NoData | Decision::Error => 2,
        }
    }

    /// A table, the queries below it, and a last line that decides.
    pub(super) fn to_text(&self, colours: bool) -> String {
        let mut table = Table::new();
        table.load_style(NOTHING);
        table.set_header(["DECISION", "METRIC", "RESULT", "CONDITION", "REASON"]);
        for metric in &self.metrics {
            let note = if metric.decides { "" } else { " (does not decide)" };
            table.add_row([
                metric.decision.word().to_owned(),
                format!("{}{note}", metric.name),
                metric.result.clone().unwrap_or_else(|| "-".to_owned()),
                metric.conditions(),
                metric.reason.clone(),
            ]);
        }
        let mut out = String::new();
        let word = |decision: Decision| match colours {
            true => decision.coloured(),
            false => decision.word().to_owned(),
        };
        let rows = table.to_string();
        let mut decisions = self.metrics.iter().map(|metric| metric.decision);
        for line in rows.lines().map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end()) {
            let own = decisions.clone().next().filter(|d| line.starts_with(d.word()));
            let rest = own.and_then(|d| line.strip_prefix(d.word()));
            let _ok = match (own, rest) {
                (Some(decision), Some(rest)) => {
                    decisions.next();
                    writeln!(out, "{}{rest}", word(decision))
                }
                _ => writeln!(out, "{line}"),
            };
        }
        let _ok = writeln!(out, "\nAsked as of {:.0}", self.at);
        for metric in &self.metrics {
            let Metric { name, server, query, warnings, .. } = metric;
            let query = query.lines().map(str::trim).collect::<Vec<_>>().join("\n    ");
            let _ok = writeln!(out, "  {name} at {server}:\n    {query}");
            for warning in warnings {
                let _ok = writeln!(out, "    warning: {warning}");
            }
        }
        // A query in the reason may have several lines; this is one.
        let reason = self.reason.split_whitespace().collect::<Vec<_>>().join(" ");
        let reason = if reason.is_empty() { reason } else { format!(": {reason}") };
        let _ok = write!(out, "\n{} {}{reason}", self.template, word(self.decision));
        out
    }
}

impl Metric {
    fn of(metric: &CheckedMetric, result: &MetricResult, query: &Query, outcome: &Outcome) -> Self {
        let measured = result.measurements.last();
        let phase = measured.and_then(|m| m.phase).unwrap_or_default();
        let message = measured.and_then(|m| m.message.clone());
        let (sample, warnings) = match outcome {
            Outcome::Answer { sample, warnings } => (Some(sample), warnings.clone()),
            Outcome::Error(_) | Outcome::Running { .. } | Outcome::Ended { .. } => {
                (None, Vec::new())
            }
        };
        let told = sample.map(|sample| explain(metric, sample));
        let text = |condition: &Option<crate::analysis::condition::Condition>| {
            condition.as_ref().map(|condition| condition.text().to_owned())
        };
        Self {
            name: metric.name.clone(),
            decision: decision(phase, sample),
            reason: message.or(told).unwrap_or_default(),
            result: sample.map(Sample::to_string),
            success_condition: text(&metric.success),
            failure_condition: text(&metric.failure),
            decides: !metric.dry_run && !metric.advisory,
            server: server(query),
            query: metric.shown.clone(),
            warnings,
        }
    }

    /// `result[0] <= 0.01; not result[0] > 1`.
    fn conditions(&self) -> String {
        let failure = self.failure_condition.as_ref().map(|text| format!("not ({text})"));
        let parts: Vec<_> = self.success_condition.iter().cloned().chain(failure).collect();
        if parts.is_empty() { "-".to_owned() } else { parts.join("; ") }
    }
}

fn decision(phase: AnalysisPhase, sample: Option<&Sample>) -> Decision {
    match phase {
        AnalysisPhase::Successful => Decision::Pass,
        AnalysisPhase::Failed => Decision::Fail,
        AnalysisPhase::Inconclusive => Decision::Inconclusive,
        AnalysisPhase::Pending | AnalysisPhase::Running | AnalysisPhase::Error => {
            match sample.and_then(Sample::absence) {
                Some(_) => Decision::NoData,
                None => Decision::Error,
            }
        }
    }
}

/// Who is asked, without credentials.
fn server(query: &Query) -> String {
    match (&query.source.named, &query.source.address) {
        (Some(named), _) if named.cluster => format!("ClusterMetricProvider {}", named.name),
        (Some(named), _) => format!("MetricProvider {}", named.name),
        (None, Some(address)) => {
            Server::at(address).map(|server| server.shown()).unwrap_or_else(|_| address.clone())
        }
        (None, None) => match query.source.ask {
            Ask::Prometheus { .. } => "no server: write --provider-address URL".to_owned(),
            _ => "its own service".to_owned(),
        },
    }
}
