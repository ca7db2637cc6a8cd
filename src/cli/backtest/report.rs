//! What came of a backtest: for programs, and in words and a table for people.

use std::fmt::Write as _;

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use jiff::Timestamp;
use serde::Serialize;

use super::input::{Change, Counted, Input};
use super::replay::{Bench, Row, Who, compared};
use crate::analysis::backtest::kayenta::Looks;
use crate::analysis::backtest::{Share, Summary, Tally};
use crate::analysis::judge::sequential::Kind;
use crate::providers::Server;

/// The layout of the JSON.
const SCHEMA: u32 = 1;

/// Points of a path in the JSON and in the plot.
const POINTS: usize = 121;

/// Everything that was found.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    pub(super) schema: u32,
    /// The template or Canary.
    pub(super) name: String,
    /// Who was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) server: Option<String>,
    pub(super) from: Timestamp,
    pub(super) until: Timestamp,
    pub(super) window_minutes: f64,
    pub(super) step_seconds: f64,
    /// The share of pods that played the canary.
    pub(super) canary: f64,
    /// The fewest and the most pods of a window.
    pub(super) pods: Option<(usize, usize)>,
    pub(super) alpha: f64,
    pub(super) seed: u64,
    pub(super) windows: Windows,
    pub(super) signals: Vec<SignalReport>,
    pub(super) judges: Vec<JudgeReport>,
    /// What it says, in sentences.
    pub(super) summary: Vec<String>,
    /// What could not be replayed, and what to know when reading the numbers.
    pub(super) notes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) evidence: Option<Evidence>,
}

/// Windows of the history.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Windows {
    pub(super) used: usize,
    pub(super) left_out: Vec<LeftOut>,
}

/// Windows that were left out, by a rule that is fixed before any evidence is seen.
#[derive(Debug, Clone, Serialize)]
pub(super) struct LeftOut {
    pub(super) why: String,
    pub(super) windows: usize,
}

/// What was compared.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SignalReport {
    pub(super) name: String,
    pub(super) kind: &'static str,
    /// What was read.
    pub(super) series: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bad: Option<f64>,
}

/// A judge.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct JudgeReport {
    pub(super) name: String,
    pub(super) who: &'static str,
    /// How it decides, in a few words.
    pub(super) about: String,
    /// Good releases.
    pub(super) unchanged: Summary,
    /// Good releases that were shown to be harmless; for judges that can say so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) passed: Option<Summary>,
    /// Good releases of which it could not tell; a person decides there. Of a template's limits: those
    /// that would have waited for data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) inconclusive: Option<Summary>,
    /// Bad releases.
    pub(super) regressions: Vec<Regression>,
}

/// A regression and how a judge found it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Regression {
    pub(super) name: String,
    pub(super) times: f64,
    /// Absent: the judge does not look at what became worse.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) found: Option<Summary>,
}

/// Paths of ln E: of good releases, and of a bad one that was found in half of the time.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Evidence {
    /// ln E at which a release fails.
    pub(super) boundary: f64,
    pub(super) unchanged: Vec<Vec<(f64, f64)>>,
    pub(super) regression: Vec<(f64, f64)>,
    pub(super) regression_name: String,
}

impl Report {
    pub(super) fn of(input: &Input, bench: &Bench<'_>, untaught: Option<String>) -> Self {
        let mut notes = input.notes.clone();
        if bench.podless {
            notes.push(format!(
                "the series have no label {}, so that all traffic plays the canary and nothing can \
                 be compared: name the label of the pods with --pod-label",
                input.pod_label
            ));
        }
        notes.extend(untaught.map(|why| format!("no calibrated row: {why}")));
        let span = &input.span;
        let from = span.until.checked_sub(span.history).unwrap_or(span.until);
        let judges: Vec<JudgeReport> =
            bench.rows.iter().filter_map(|row| judge(input, bench, row)).collect();
        let left_out = bench.left_out.iter();
        let left_out =
            left_out.map(|(why, windows)| LeftOut { why: (*why).to_owned(), windows: *windows });
        Self {
            schema: SCHEMA,
            name: input.name.clone(),
            server: server(input),
            from,
            until: span.until,
            window_minutes: span.window.as_secs_f64() / 60.0,
            step_seconds: span.step.as_secs_f64(),
            canary: input.canary,
            pods: bench.pods,
            alpha: input.alpha,
            seed: input.seed,
            windows: Windows { used: bench.used, left_out: left_out.collect() },
            signals: signals(input, bench),
            summary: sentences(&judges),
            judges,
            notes,
            evidence: evidence(input, bench),
        }
    }

    /// Whether a judge of the files rolls back more good releases than `most`, beyond doubt.
    pub(super) fn is_worse_than(&self, most: f64) -> bool {
        let own = self.judges.iter().filter(|judge| judge.who != "kayenta");
        own.map(|judge| judge.unchanged.rollback.low).any(|low| low > most)
    }

    pub(super) fn left_out_in_words(&self) -> String {
        let words: Vec<_> = self
            .windows
            .left_out
            .iter()
            .map(|left| format!("{} ({})", left.why, left.windows))
            .collect();
        if words.is_empty() { "the history is empty".to_owned() } else { words.join(", ") }
    }

    /// What was looked at, in a line.
    pub(super) fn about(&self) -> String {
        let Self { windows, window_minutes, canary, .. } = self;
        let pods = self.pods.map(|(low, high)| match low == high {
            true => format!("{} of {low} pods", percent(*canary)),
            false => format!("{} of {low} to {high} pods", percent(*canary)),
        });
        format!(
            "{} windows of {} min from {:.0} to {:.0}; {} play the canary",
            windows.used,
            number(*window_minutes),
            self.from,
            self.until,
            pods.unwrap_or_else(|| percent(*canary)),
        )
    }

    /// The table for people.
    pub(super) fn to_table(&self) -> String {
        let mut out = String::new();
        let mut line = |text: &str| {
            let _ok = writeln!(out, "{text}");
        };
        line(&format!("{}: {}", self.name, self.about()));
        if !self.windows.left_out.is_empty() {
            line(&format!("left out: {}", self.left_out_in_words()));
        }
        for signal in &self.signals {
            line(&signal.to_line());
        }
        line("");
        let mut table = Table::new();
        table.load_style(NOTHING);
        let changes: Vec<String> = self.changes().map(str::to_uppercase).collect();
        let mut head =
            ["JUDGE", "GOOD RELEASES ROLLED BACK", "INCONCLUSIVE"].map(str::to_owned).to_vec();
        head.extend(changes);
        table.set_header(head);
        for judge in &self.judges {
            let open = judge.inconclusive.as_ref().map(|open| percent(open.rollback.share));
            let mut row = vec![judge.name.clone(), share(&judge.unchanged.rollback)];
            row.push(open.unwrap_or_else(|| "-".to_owned()));
            row.extend(judge.regressions.iter().map(|found| found.to_cell()));
            table.add_row(row);
        }
        table.to_string().lines().for_each(|row| line(row.trim_end()));
        line("");
        line(
            "A cell of a regression: found in so many windows; minutes in half of them, in nine tenths.",
        );
        self.summary.iter().for_each(|sentence| line(sentence));
        self.notes.iter().for_each(|note| line(&format!("note: {note}")));
        out.trim_end().to_owned()
    }

    /// The names of the regressions.
    pub(super) fn changes(&self) -> impl Iterator<Item = &str> {
        let first = self.judges.first();
        first.into_iter().flat_map(|judge| judge.regressions.iter().map(|one| one.name.as_str()))
    }
}

impl SignalReport {
    /// `errors: 201 requests/s, 1.02% bad`.
    pub(super) fn to_line(&self) -> String {
        match (self.per_second, self.bad) {
            (Some(rate), Some(bad)) => {
                format!("{}: {} requests/s, {} of them bad", self.name, number(rate), percent(bad))
            }
            _ => format!("{}: {}", self.name, self.kind),
        }
    }
}

impl Regression {
    fn to_cell(&self) -> String {
        let Some(found) = &self.found else { return "not looked at".to_owned() };
        let share = percent(found.rollback.share);
        match (found.median_minutes, found.p90_minutes) {
            (Some(half), Some(most)) => format!("{share}; {}, {} min", number(half), number(most)),
            _ => share,
        }
    }
}

/// Who was asked, without user and password.
fn server(input: &Input) -> Option<String> {
    let named = input.source.named.as_ref().map(|named| format!("MetricProvider {}", named.name));
    let address = input.source.address.as_deref();
    let shown = address.and_then(|address| Server::at(address).ok()).map(|server| server.shown());
    named.or(shown)
}

fn signals(input: &Input, bench: &Bench<'_>) -> Vec<SignalReport> {
    let signal = |(at, signal): (usize, &crate::analysis::backtest::Signal)| {
        let series = signal.parts.iter().filter_map(|part| input.asked.get(*part));
        let volume = bench.volume(at).filter(|_| signal.comparison.kind == Kind::Ratio);
        SignalReport {
            name: signal.comparison.name.clone(),
            kind: match signal.comparison.kind {
                Kind::Ratio => "ratio",
                Kind::Count { .. } => "count",
                Kind::Histogram => "histogram",
                Kind::Gauge => "gauge",
            },
            series: series.map(|asked| asked.selector.clone()).collect(),
            per_second: volume.map(|(rate, _)| rate),
            bad: volume.map(|(_, bad)| bad),
        }
    };
    compared(input).map(signal).collect()
}

/// A judge that was asked at least once.
fn judge(input: &Input, bench: &Bench<'_>, row: &Row) -> Option<JudgeReport> {
    let unchanged = row.unchanged.summary();
    if unchanged.rollback.of == 0 && bench.used > 0 {
        return None;
    }
    let alpha = percent(input.alpha);
    let (name, who, about) = match &row.who {
        Who::Ours => (
            "Sluice".to_owned(),
            "sluice",
            format!("sequential, at most {alpha} by the model, every step"),
        ),
        Who::Calibrated => {
            let taught = bench.taught.as_ref()?;
            let about = format!(
                "at most {} by a boundary from {} windows of the first half, tested on the second",
                percent(taught.level),
                taught.windows
            );
            ("Sluice, calibrated".to_owned(), "sluice-calibrated", about)
        }
        Who::Kayenta(looks) => {
            let (name, about) = match looks {
                Looks::Once => ("Kayenta, once", "one look at the end"),
                Looks::Each(_) => ("Kayenta, every 5 min", "a look every five minutes"),
            };
            (name.to_owned(), "kayenta", format!("{about}, points of a minute"))
        }
        Who::Limits(at) => {
            let limits = input.limits.get(*at)?;
            let (who, about) = match &limits.counted {
                Counted::Template(checked) => {
                    let names: Vec<_> = checked.metrics.iter().map(|m| m.name.as_str()).collect();
                    ("template", format!("your limits: {}", names.join(", ")))
                }
                Counted::Flagger(checks) => {
                    ("flagger", format!("your checks: {} failed ones", checks.threshold))
                }
            };
            (limits.name.clone(), who, about)
        }
    };
    let regression = |(change, tally): (&Change, &Option<Tally>)| Regression {
        name: change.name.clone(),
        times: change.times,
        found: tally.as_ref().filter(|_| !bench.podless).map(Tally::summary),
    };
    Some(JudgeReport {
        name,
        who,
        about,
        unchanged,
        passed: row.passed.as_ref().map(Tally::summary),
        inconclusive: row.inconclusive.as_ref().map(Tally::summary),
        regressions: input.changes.iter().zip(&row.changed).map(regression).collect(),
    })
}

/// What to remember: each rule of the files beside ours, or ours beside Kayenta.
fn sentences(judges: &[JudgeReport]) -> Vec<String> {
    let is_own = |judge: &&JudgeReport| ["template", "flagger"].contains(&judge.who);
    let own: Vec<_> = judges.iter().filter(is_own).collect();
    let ours = judges.iter().rfind(|judge| judge.who.starts_with("sluice"));
    let kayenta = judges.iter().rfind(|judge| judge.who == "kayenta");
    let Some(ours) = ours else {
        return own.iter().map(|judge| format!("{}.", rolled_back(judge))).collect();
    };
    let beside = if own.is_empty() { kayenta.into_iter().collect() } else { own };
    let sentence = |other: &JudgeReport| {
        let ours_share = share(&ours.unchanged.rollback);
        let mut text = format!("{}; {} {ours_share}", rolled_back(other), ours.name);
        let first = |judge: &JudgeReport| {
            judge
                .regressions
                .iter()
                .find_map(|one| Some((one.name.clone(), one.found.as_ref()?.median_minutes?)))
        };
        if let Some((change, minutes)) = first(ours) {
            let _ok = write!(text, ", and finds {change} in {} min", number(minutes));
            match first(other) {
                Some((theirs, minutes)) if theirs == change => {
                    let _ok = write!(text, " ({} in {} min)", other.name, number(minutes));
                }
                Some(_) | None => {}
            }
        }
        text + "."
    };
    beside.into_iter().map(sentence).collect()
}

/// `Your rule errors would have rolled back 23% [18, 28] of 336 releases that changed nothing`.
fn rolled_back(judge: &JudgeReport) -> String {
    let whose = if judge.who == "kayenta" { "" } else { "Your rule " };
    let rollback = &judge.unchanged.rollback;
    let held = judge.inconclusive.as_ref().filter(|_| judge.who == "template");
    let held = held.map(|held| &held.rollback).filter(|held| held.hits > 0);
    let held = held.map(|held| format!(", and held {} of them: there was no data", held.hits));
    format!(
        "{whose}{} would have rolled back {} of {} releases that changed nothing{}",
        judge.name,
        share(rollback),
        rollback.of,
        held.unwrap_or_default()
    )
}

fn evidence(input: &Input, bench: &Bench<'_>) -> Option<Evidence> {
    let minutes = input.span.step.as_secs_f64() / 60.0;
    let points = |path: &[f64]| -> Vec<(f64, f64)> {
        let every = path.len().div_ceil(POINTS).max(1);
        let last = path.len().saturating_sub(1);
        let kept = path.iter().enumerate().filter(|(at, _)| at % every == 0 || *at == last);
        kept.map(|(at, log_e)| (at as f64 * minutes, rounded(*log_e))).collect()
    };
    let change = input.changes.first()?;
    let mut changed: Vec<_> = bench.drawn.changed.iter().collect();
    changed.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (_, path) = changed.get(changed.len() / 2)?;
    Some(Evidence {
        boundary: rounded(bench.boundary()),
        unchanged: bench.drawn.unchanged.iter().map(|path| points(path)).collect(),
        regression: points(path),
        regression_name: change.name.clone(),
    })
}

fn rounded(value: f64) -> f64 {
    (value.clamp(-1e6, 1e6) * 1e3).round() / 1e3
}

/// `0.8% [0.3, 1.9]`.
pub(super) fn share(share: &Share) -> String {
    let bare = |value: f64| number(100.0 * value);
    format!("{}% [{}, {}]", bare(share.share), bare(share.low), bare(share.high))
}

/// A share with two digits.
pub(super) fn percent(value: f64) -> String {
    format!("{}%", number(100.0 * value))
}

/// Two digits behind the point below 1, one below 100, none above.
pub(super) fn number(value: f64) -> String {
    let digits = match value.abs() {
        small if small < 1.0 => 2,
        middle if middle < 100.0 => 1,
        _ => 0,
    };
    let text = format!("{value:.digits$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_short_as_they_are_known() {
        for (value, text) in
            [(0.0, "0"), (0.034, "0.03"), (0.8, "0.8"), (3.26, "3.3"), (23.0, "23"), (201.4, "201")]
        {
            assert_eq!(number(value), text);
        }
        assert_eq!(share(&Share::of(1, 130)), "0.77% [0.14, 4.2]");
    }
}
