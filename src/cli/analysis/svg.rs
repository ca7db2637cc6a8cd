//! The evidence of a run as a picture: one panel for each comparison, time to the right, evidence up.

use std::fmt::Write as _;

use super::{Row, Verdict};
use crate::api::analysis_run::EvidencePath;
use crate::api::{AnalysisRun, MetricResult};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 48.0;
const BOTTOM: f64 = 28.0;

/// ln(1/5%): where a metric is shown to be harmless.
const HARMLESS: f64 = 2.995_732_273_553_991;

/// The whole picture.
pub(super) fn draw(run: &AnalysisRun) -> String {
    let status = run.status.clone().unwrap_or_default();
    let drawn: Vec<(&MetricResult, &EvidencePath)> = status
        .metric_results
        .iter()
        .filter_map(|result| Some((result, result.path.as_ref()?)))
        .filter(|(_, path)| !path.log_e.is_empty())
        .collect();
    let head = 34.0;
    let height = head + HEIGHT * drawn.len().max(1) as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"12\" fill=\"#222\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    let name = run.metadata.name.as_deref().unwrap_or_default();
    let verdict = format!("{:?}", status.verdict.unwrap_or_default()).to_uppercase();
    text(&mut out, 16.0, 22.0, "font-weight=\"600\"", &format!("{name}: {verdict}"));
    if drawn.is_empty() {
        text(&mut out, 16.0, 60.0, "", "no comparison has evidence yet");
    }
    for (i, (result, path)) in drawn.into_iter().enumerate() {
        panel(&mut out, head + HEIGHT * i as f64, result, path);
    }
    out.push_str("</svg>\n");
    out
}

fn panel(out: &mut String, y: f64, result: &MetricResult, path: &EvidencePath) {
    let row = Row::of(result);
    let color = match result.verdict.unwrap_or_default() {
        Verdict::Fail => "#c0392b",
        Verdict::Pass => "#1e8449",
        Verdict::Continue | Verdict::Inconclusive => "#7d6608",
    };
    let title = format!("{}: {} against {}, {}", result.name, row.canary, row.stable, row.ratio);
    text(out, 16.0, y + 16.0, &format!("fill=\"{color}\" font-weight=\"600\""), &title);
    let enough: Vec<f64> = path.log_boundary.iter().map(nats).collect();
    let harm: Vec<f64> = path.log_e.iter().map(nats).collect();
    let harmless: Vec<f64> = path.log_e_pass.iter().map(nats).collect();
    let highest = [&enough, &harm].into_iter().flatten().copied().fold(HARMLESS, f64::max) * 1.1;
    let (top, bottom) = (y + TOP, y + HEIGHT - BOTTOM);
    let at = |value: f64| bottom - (value.clamp(0.0, highest) / highest) * (bottom - top);
    let _ok = writeln!(
        out,
        "<rect x=\"{LEFT}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"none\" \
         stroke=\"#bbb\"/>",
        WIDTH - LEFT - RIGHT,
        bottom - top
    );
    line(out, &harmless, &at, "#1e8449", "stroke-opacity=\"0.7\"");
    line(out, &enough, &at, "#c0392b", "stroke-dasharray=\"5 4\"");
    line(out, &harm, &at, "#c0392b", "stroke-width=\"2\"");
    let legend =
        "red: evidence of harm, fails at the dashed line; green: evidence that it is harmless";
    text(out, LEFT, y + 36.0, "fill=\"#666\" font-size=\"11\"", legend);
    for (label, value) in [("e^0", 0.0), ("enough", *enough.last().unwrap_or(&0.0))] {
        text(out, 8.0, at(value) + 4.0, "fill=\"#666\" font-size=\"11\"", label);
    }
    let time = |at: &Option<crate::api::Time>| {
        at.as_ref().map(|at| format!("{:.0}", at.0)).unwrap_or_default()
    };
    let below = y + HEIGHT - 10.0;
    text(out, LEFT, below, "fill=\"#666\" font-size=\"11\"", &time(&path.from));
    let end = "fill=\"#666\" font-size=\"11\" text-anchor=\"end\"";
    text(out, WIDTH - RIGHT, below, end, &time(&path.to));
}

fn nats(hundredths: &i32) -> f64 {
    f64::from(*hundredths) / 100.0
}

fn line(out: &mut String, values: &[f64], at: &dyn Fn(f64) -> f64, color: &str, style: &str) {
    let last = values.len().saturating_sub(1).max(1) as f64;
    let point = |(i, value): (usize, &f64)| {
        let x = LEFT + (WIDTH - LEFT - RIGHT) * i as f64 / last;
        format!("{x:.1},{:.1}", at(*value))
    };
    let points: Vec<String> = values.iter().enumerate().map(point).collect();
    let _ok = writeln!(
        out,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" {style}/>",
        points.join(" ")
    );
}

fn text(out: &mut String, x: f64, y: f64, style: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let _ok = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" {style}>{words}</text>");
}
