//! What an analysis looks like to a person: each metric's numbers, how sure they are, how they went.
//!
//! One line for each metric: verdict, both versions, ratio with its interval, evidence against what is
//! enough, and a curve of the evidence from the start until now. Then what is missing. The same as SVG
//! and JSON.

mod svg;

use std::fmt::Write as _;
use std::io::IsTerminal as _;

use anyhow::{Context as _, anyhow, bail};
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use kube::api::{Api, ListParams};
use owo_colors::OwoColorize;

use super::args::{Analysis, Output};
use crate::analysis::run::RESOLVED_QUERY;
use crate::api::analysis_run::{ArmEvidence, Evidence, EvidencePath, QuantileEvidence};
use crate::api::{AnalysisPhase, AnalysisRun, MetricResult, Rollout, Verdict};
use crate::apply::ApplyError;

/// The blocks of a curve, from nothing to enough.
const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// As the Rollout's status says of a run that was ended with its release.
const STOPPED: &str = "Stopped";

/// Characters of a curve.
const CURVE: usize = 20;

/// Shows one AnalysisRun, or all of the namespace. Exit code: 0 passed, 1 failed, 2 cannot tell, 3
/// under way. One that was stopped with its release has nothing against it.
///
/// # Errors
/// The API server refuses, or there is no such run.
pub async fn analysis(args: &Analysis) -> anyhow::Result<u8> {
    let (client, namespace) = args.cluster.connect().await?;
    let api: Api<AnalysisRun> = Api::namespaced(client, &namespace);
    let Some(name) = &args.name else {
        if args.svg.is_some() {
            bail!("--svg draws one AnalysisRun: name it");
        }
        let runs = api.list(&ListParams::default()).await;
        let runs = runs.map_err(|e| ApplyError::from_kube("listing AnalysisRuns", e))?.items;
        super::say(&match args.output {
            Output::Text if runs.is_empty() => format!("no AnalysisRuns in namespace {namespace}"),
            Output::Text => list(runs),
            Output::Json => serde_json::to_string_pretty(&runs)?,
            Output::Yaml => serde_saphyr::to_string(&runs)?,
        });
        return Ok(0);
    };
    let found = api.get_opt(name).await;
    let reading = |e| ApplyError::from_kube(&format!("reading AnalysisRun {name}"), e);
    let found = found.map_err(reading)?;
    let run = found.ok_or_else(|| {
        anyhow!("AnalysisRun {name} not found in namespace {namespace}: kubectl sluice analysis lists them")
    })?;
    if let Some(file) = &args.svg {
        std::fs::write(file, svg::draw(&run))
            .with_context(|| format!("writing {}", file.display()))?;
    }
    super::say(&match args.output {
        Output::Text => page(&run, std::io::stdout().is_terminal()),
        Output::Json => serde_json::to_string_pretty(&run)?,
        Output::Yaml => serde_saphyr::to_string(&run)?,
    });
    Ok(exit_code(&run))
}

fn exit_code(run: &AnalysisRun) -> u8 {
    match run.status.as_ref().and_then(|status| status.verdict).unwrap_or_default() {
        _ if is_stopped(run) => 0,
        Verdict::Pass => 0,
        Verdict::Fail => 1,
        Verdict::Inconclusive => 2,
        Verdict::Continue => 3,
    }
}

/// Ended from outside before it could tell, as a background analysis is by the end of its release:
/// nothing of what it measured spoke against it.
fn is_stopped(run: &AnalysisRun) -> bool {
    let Some(status) = &run.status else { return false };
    let measured = status.metric_results.iter().any(|metric| metric.successful > 0);
    run.spec.terminate && status.verdict == Some(Verdict::Inconclusive) && measured
}

/// The runs, newest first.
fn list(mut runs: Vec<AnalysisRun>) -> String {
    runs.sort_by(|a, b| b.metadata.creation_timestamp.cmp(&a.metadata.creation_timestamp));
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(["NAME", "ROLLOUT", "SCOPE", "VERDICT", "STARTED", "WHY"]);
    for run in runs {
        let stopped = is_stopped(&run);
        let status = run.status.unwrap_or_default();
        let release = run.spec.release.unwrap_or_default();
        let why = status.reason.or(status.missing).unwrap_or_default();
        let started = status.started_at.map_or_else(|| "-".to_owned(), |at| format!("{:.0}", at.0));
        let verdict = match stopped {
            true => STOPPED.to_owned(),
            false => format!("{:?}", status.verdict.unwrap_or_default()),
        };
        let name = run.metadata.name.unwrap_or_default();
        table.add_row([name, release.rollout, release.scope, verdict, started, shortened(&why)]);
    }
    trimmed(&table)
}

fn trimmed(table: &Table) -> String {
    let text = table.to_string();
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// The beginning of a sentence.
fn shortened(text: &str) -> String {
    const MOST: usize = 80;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or(text)),
        None => text.to_owned(),
    }
}

/// One run in full, in colours where `colours` says so.
#[must_use]
pub fn page(run: &AnalysisRun, colours: bool) -> String {
    let status = run.status.clone().unwrap_or_default();
    let mut out = String::new();
    let mut line = |key: &str, value: String| {
        let _ok = writeln!(out, "{key:<10} {value}");
    };
    let name = run.metadata.name.as_deref().unwrap_or_default();
    let namespace = run.metadata.namespace.as_deref().unwrap_or_default();
    line("Analysis", format!("{namespace}/{name}"));
    if let Some(release) = &run.spec.release {
        let scope = match release.scope.parse::<u32>() {
            Ok(step) => format!("step {step}"),
            Err(_) => release.scope.to_lowercase(),
        };
        line("Release", format!("{} of {}, {scope}", release.id, release.rollout));
    }
    let verdict = status.verdict.unwrap_or_default();
    let after = match (&status.started_at, &status.completed_at) {
        (Some(from), Some(to)) => format!(" after {:#.0}", to.0.duration_since(from.0)),
        (Some(from), None) => format!(", started at {:.0}", from.0),
        (None, _) => String::new(),
    };
    let word = match is_stopped(run) {
        true => STOPPED.to_uppercase(),
        false => painted(verdict, colours),
    };
    line("Verdict", format!("{word}{after}"));
    if let Some(reason) = status.reason.as_ref().filter(|reason| !reason.is_empty()) {
        line("Why", reason.clone());
    }
    let _ok = write!(out, "\n{}", metrics(run, colours));
    out.trim_end().to_owned()
}

/// The metrics of the comparisons of the release that is under way. What cannot be read is left out: the
/// Rollout's own page says what matters.
pub(super) async fn of_release(client: &kube::Client, rollout: &Rollout, colours: bool) -> String {
    let namespace = rollout.metadata.namespace.as_deref().unwrap_or_default();
    let api: Api<AnalysisRun> = Api::namespaced(client.clone(), namespace);
    let status = rollout.status.clone().unwrap_or_default();
    let mut out = String::new();
    for verdict in status.verdicts.iter().filter(|_| status.release.is_some()) {
        let Ok(Some(run)) = api.get_opt(&verdict.run).await else { continue };
        let mut results = run.status.iter().flat_map(|status| &status.metric_results);
        if results.any(|result| result.evidence.is_some()) {
            let _ok = write!(out, "\n\n{}\n{}", verdict.run, metrics(&run, colours));
        }
    }
    out
}

fn painted(verdict: Verdict, colours: bool) -> String {
    let word = format!("{verdict:?}").to_uppercase();
    match verdict {
        _ if !colours => word,
        Verdict::Pass => word.green().to_string(),
        Verdict::Fail => word.red().to_string(),
        Verdict::Inconclusive => word.yellow().to_string(),
        Verdict::Continue => word.cyan().to_string(),
    }
}

/// The metrics of a run as a table, and below it what each still lacks.
#[must_use]
pub fn metrics(run: &AnalysisRun, colours: bool) -> String {
    let status = run.status.clone().unwrap_or_default();
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header([
        "METRIC",
        "VERDICT",
        "CANARY",
        "STABLE",
        "RATIO (95%)",
        "EVIDENCE",
        "SO FAR",
    ]);
    let mut notes = String::new();
    for result in &status.metric_results {
        let row = Row::of(result);
        let verdict = painted(result.verdict.unwrap_or_default(), false);
        table.add_row([
            result.name.clone(),
            verdict,
            row.canary,
            row.stable,
            row.ratio,
            row.evidence,
            row.curve,
        ]);
        if let Some(note) = note(result) {
            let _ok = writeln!(notes, "{}: {note}", result.name);
        }
    }
    if let Some(calibration) = &status.calibration {
        let _ok = writeln!(notes, "{}", calibration.message);
    }
    let mut text = trimmed(&table);
    if colours {
        // Painted afterwards: a table would count the colours as characters.
        text = text
            .replace(" FAIL ", &format!(" {} ", "FAIL".red()))
            .replace(" PASS ", &format!(" {} ", "PASS".green()));
    }
    if notes.is_empty() { text } else { format!("{text}\n\n{}", notes.trim_end()) }
}

/// What a metric lacks, or why it ended as it did where no number says so.
fn note(result: &MetricResult) -> Option<String> {
    if let Some(missing) = &result.missing {
        let own = format!("{}: ", result.name);
        let text = missing.strip_prefix(&own).unwrap_or(missing);
        return Some(text.to_owned());
    }
    let compared = result.evidence.as_ref().is_some_and(|e| e.score.is_none());
    let last = result.measurements.last()?;
    last.explanation.clone().or_else(|| last.message.clone()).filter(|_| !compared)
}

/// The cells of one metric.
struct Row {
    canary: String,
    stable: String,
    ratio: String,
    evidence: String,
    curve: String,
}

impl Row {
    fn of(result: &MetricResult) -> Self {
        let dash = || "-".to_owned();
        let seconds = in_seconds(result);
        let Some(evidence) = &result.evidence else {
            let last = result.measurements.last();
            let value = last.and_then(|last| last.value.clone()).unwrap_or_else(dash);
            let tally = format!("{} good, {} bad", result.successful, result.failed);
            let (canary, stable, ratio) = (shortened(&value), dash(), dash());
            return Self { canary, stable, ratio, evidence: tally, curve: values(result) };
        };
        if let Some(score) = evidence.score {
            let (canary, stable, ratio) = (dash(), dash(), dash());
            let evidence = format!("score {score}");
            return Self { canary, stable, ratio, evidence, curve: values(result) };
        }
        Self {
            canary: arm(evidence, evidence.canary.as_ref(), seconds, |q| q.canary),
            stable: arm(evidence, evidence.stable.as_ref(), seconds, |q| q.stable),
            ratio: ratio(evidence),
            evidence: weighed(result, evidence),
            curve: result.path.as_ref().map(curve).unwrap_or_default(),
        }
    }
}

/// Whether the series count seconds, which people read as milliseconds.
fn in_seconds(result: &MetricResult) -> bool {
    result.metadata.get(RESOLVED_QUERY).is_some_and(|query| query.contains("_seconds"))
}

/// `24 of 414 (5.8%)`, `p99 402 ms`, `17 in 1200`, `512000`.
fn arm(
    evidence: &Evidence,
    arm: Option<&ArmEvidence>,
    seconds: bool,
    of: impl Fn(&QuantileEvidence) -> f64,
) -> String {
    let dash = || "-".to_owned();
    let Some(arm) = arm else { return dash() };
    if let Some(quantile) = evidence.quantiles.last() {
        return format!("{} {}", quantile.quantile, quantity(of(quantile), seconds));
    }
    let counter = |name: &str| arm.counters.get(name).copied();
    match (counter("bad"), counter("total"), counter("events"), counter("exposure")) {
        (Some(bad), Some(total), ..) if total > 0.0 => {
            format!("{} of {} ({}%)", digits(bad), digits(total), digits(100.0 * bad / total))
        }
        (.., Some(events), Some(exposure)) => format!("{} in {}", digits(events), digits(exposure)),
        _ => arm.gauges.get("mean").map_or_else(dash, |mean| digits(*mean)),
    }
}

/// `8.72x (4.68 to 16.2)`.
fn ratio(evidence: &Evidence) -> String {
    let Some(ratio) = evidence.ratio else { return "-".to_owned() };
    let interval = match (evidence.ratio_low, evidence.ratio_high) {
        (Some(low), Some(high)) => format!(" ({} to {})", digits(low), digits(high)),
        (Some(low), None) => format!(" ({} or more)", digits(low)),
        _ => String::new(),
    };
    format!("{}x{interval}", digits(ratio))
}

/// `harm e^12.1, enough e^4.6` or, where the canary looks harmless, how far that is shown.
fn weighed(result: &MetricResult, evidence: &Evidence) -> String {
    let (log_e, enough) = (evidence.log_e.unwrap_or(0.0), evidence.log_boundary.unwrap_or(0.0));
    let harmless = evidence.log_e_pass.filter(|pass| {
        result.verdict == Some(Verdict::Pass) || (*pass > log_e && result.phase != FAILED)
    });
    match harmless {
        Some(pass) => format!("harmless e^{pass:.1} of {HARMLESS}"),
        None => format!("harm e^{log_e:.1} of e^{enough:.1}"),
    }
}

const FAILED: Option<AnalysisPhase> = Some(AnalysisPhase::Failed);

/// ln(1/5%): where a metric is shown to be harmless.
const HARMLESS: &str = "e^3.0";

/// Three digits.
fn digits(value: f64) -> String {
    if !value.is_finite() || value == 0.0 {
        return crate::analysis::sample::number(value);
    }
    let magnitude = value.abs().log10().floor();
    if magnitude >= 3.0 {
        return format!("{value:.0}");
    }
    let decimals = (2.0 - magnitude).clamp(0.0, 12.0) as usize;
    let text = format!("{value:.decimals$}");
    if text.contains('.') {
        return text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    text
}

/// A number of a histogram: seconds below ten as milliseconds.
fn quantity(value: f64, seconds: bool) -> String {
    match seconds {
        false => digits(value),
        true if value < 10.0 => format!("{} ms", digits(value * 1e3)),
        true => format!("{} s", digits(value)),
    }
}

/// The evidence from the start until now; a full block is enough to fail.
fn curve(path: &EvidencePath) -> String {
    let shares: Vec<f64> = path
        .log_e
        .iter()
        .zip(&path.log_boundary)
        .map(|(log_e, enough)| f64::from(*log_e) / f64::from((*enough).max(1)))
        .collect();
    blocks(&shares)
}

/// The newest values of a metric that has no path; a full block is the largest.
fn values(result: &MetricResult) -> String {
    let numbers: Vec<f64> = result
        .measurements
        .iter()
        .filter_map(|m| m.value.as_deref()?.trim_matches(['[', ']']).parse::<f64>().ok())
        .filter(|value| value.is_finite())
        .collect();
    let most = numbers.iter().copied().fold(0.0, f64::max);
    if most <= 0.0 {
        return String::new();
    }
    blocks(&numbers.iter().map(|value| value / most).collect::<Vec<_>>())
}

fn blocks(shares: &[f64]) -> String {
    let width = shares.len().min(CURVE);
    (0..width)
        .filter_map(|i| {
            // The highest of the points that share a character, so that no peak is lost.
            let (from, to) = (i * shares.len() / width, (i + 1) * shares.len() / width);
            let share = shares.get(from..to)?.iter().copied().fold(0.0, f64::max).clamp(0.0, 1.0);
            let last = BLOCKS.len() - 1;
            BLOCKS.get((share * last as f64) as usize).copied()
        })
        .collect()
}

#[cfg(test)]
mod tests;
