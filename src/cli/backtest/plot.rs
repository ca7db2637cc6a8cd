//! Plots drawn by hand as SVG. Colours are the page's.

use std::fmt::Write as _;

use super::html::escape;
use super::report::{Evidence, JudgeReport, Report, number, percent};

/// Where names end and values begin, and where values end.
const LEFT: f64 = 230.0;
const RIGHT: f64 = 760.0;
const WIDTH: f64 = 860.0;
const ROW: f64 = 38.0;
const TOP: f64 = 12.0;

/// Begins a plot.
fn svg(height: f64, label: &str) -> String {
    let label = escape(label);
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-label=\"{label}\" \
         xmlns=\"http://www.w3.org/2000/svg\">"
    )
}

/// A scale that ends at a round number, with its ticks.
struct Scale {
    most: f64,
    step: f64,
}

impl Scale {
    fn to(largest: f64) -> Self {
        let rough = largest.max(1e-9) / 4.0;
        let power = 10_f64.powf(rough.log10().floor());
        let factor = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().find(|f| f * power >= rough * 0.999);
        let step = factor.unwrap_or(10.0) * power;
        Self { most: (largest / step).ceil().max(1.0) * step, step }
    }

    fn x(&self, value: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * (value / self.most).clamp(0.0, 1.0)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        let step = self.step;
        let count = (self.most / step).round() as u32;
        (0..=count).map(move |at| f64::from(at) * step)
    }

    /// Lines from top to bottom with their values below.
    fn grid(&self, out: &mut String, bottom: f64, text: impl Fn(f64) -> String) {
        for tick in self.ticks() {
            let x = self.x(tick);
            let _ok = write!(
                out,
                "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom:.1}\"/>\
                 <text class=\"soft\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                bottom + 18.0,
                text(tick)
            );
        }
    }
}

fn name(out: &mut String, judge: &JudgeReport, y: f64) {
    let _ok = write!(
        out,
        "<text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
        LEFT - 14.0,
        y + 4.5,
        escape(&shortened(&judge.name))
    );
}

/// A name that fits before the plot.
fn shortened(name: &str) -> String {
    match name.char_indices().nth(30) {
        Some((end, _)) => format!("{}...", name.get(..end).unwrap_or(name)),
        None => name.to_owned(),
    }
}

/// A bar for each judge with its interval.
pub(super) fn rollbacks(report: &Report) -> String {
    let largest = report.judges.iter().map(|judge| judge.unchanged.rollback.high);
    let scale = Scale::to(largest.fold(report.alpha, f64::max).min(1.0));
    let bottom = TOP + ROW * report.judges.len() as f64;
    let mut out = svg(bottom + 30.0, "Share of good releases rolled back by each judge");
    scale.grid(&mut out, bottom, percent);
    for (at, judge) in report.judges.iter().enumerate() {
        let y = TOP + ROW * (at as f64 + 0.5);
        let rollback = &judge.unchanged.rollback;
        let (low, mid, high) =
            (scale.x(rollback.low), scale.x(rollback.share), scale.x(rollback.high));
        name(&mut out, judge, y);
        let _ok = write!(
            out,
            "<g class=\"{}\"><rect class=\"bar\" x=\"{LEFT}\" y=\"{:.1}\" width=\"{:.1}\" \
             height=\"20\" rx=\"3\"/><path class=\"whisker\" d=\"M{low:.1} {y:.1}H{high:.1}M{low:.1} \
             {:.1}V{:.1}M{high:.1} {:.1}V{:.1}\"/><circle cx=\"{mid:.1}\" cy=\"{y:.1}\" r=\"4.5\"/></g>\
             <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            judge.who,
            y - 10.0,
            (mid - LEFT).max(0.0),
            y - 5.0,
            y + 5.0,
            y - 5.0,
            y + 5.0,
            high + 10.0,
            y + 4.5,
            percent(rollback.share),
        );
    }
    out.push_str("</svg>");
    out
}

/// Minutes to the rollback of one regression, for each judge.
pub(super) fn detections(report: &Report, change: usize) -> String {
    let found =
        |judge: &JudgeReport| judge.regressions.get(change).and_then(|one| one.found.clone());
    let slowest = report.judges.iter().filter_map(|judge| found(judge)?.p90_minutes);
    let scale = Scale::to(slowest.fold(1.0, f64::max));
    let bottom = TOP + ROW * report.judges.len() as f64;
    let mut out = svg(bottom + 30.0, "Minutes to the rollback of a regression by each judge");
    scale.grid(&mut out, bottom, |minutes| format!("{} min", number(minutes)));
    for (at, judge) in report.judges.iter().enumerate() {
        let y = TOP + ROW * (at as f64 + 0.5);
        name(&mut out, judge, y);
        let Some(summary) = found(judge) else {
            text(&mut out, LEFT + 8.0, y, "does not look at it");
            continue;
        };
        let (Some(half), Some(most)) = (summary.median_minutes, summary.p90_minutes) else {
            text(&mut out, LEFT + 8.0, y, "never found");
            continue;
        };
        let (x_half, x_most) = (scale.x(half), scale.x(most));
        let share = summary.rollback.share;
        let told = if share < 0.995 {
            format!("{} min, found in {}", number(half), percent(share))
        } else {
            format!("{} min", number(half))
        };
        let _ok = write!(
            out,
            "<g class=\"{}\"><path class=\"whisker\" d=\"M{LEFT} {y:.1}H{x_most:.1}M{x_most:.1} \
             {:.1}V{:.1}\" stroke-opacity=\".55\"/><circle cx=\"{x_half:.1}\" cy=\"{y:.1}\" r=\"6\" \
             fill-opacity=\"{:.2}\"/></g>",
            judge.who,
            y - 5.0,
            y + 5.0,
            0.15 + 0.85 * share,
        );
        // Beside the line where there is room, else above its end.
        match x_most + 10.0 + 7.0 * told.len() as f64 {
            end if end < WIDTH => plain(&mut out, x_most + 10.0, y + 4.5, "start", &told),
            _ => plain(&mut out, x_most, y - 8.0, "end", &told),
        }
    }
    out.push_str("</svg>");
    out
}

fn text(out: &mut String, x: f64, y: f64, text: &str) {
    let _ok = write!(out, "<text class=\"soft\" x=\"{x:.1}\" y=\"{:.1}\">{text}</text>", y + 4.5);
}

fn plain(out: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let text = escape(text);
    let _ok = write!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>");
}

/// Paths of ln E against the boundary.
pub(super) fn evidence(evidence: &Evidence) -> String {
    const HEIGHT: f64 = 330.0;
    const START: f64 = 56.0;
    const END: f64 = 836.0;
    let Evidence { boundary, unchanged, regression, regression_name } = evidence;
    let minutes = unchanged.iter().chain([regression]).filter_map(|path| path.last());
    let minutes = Scale::to(minutes.map(|(minute, _)| *minute).fold(1.0, f64::max));
    // What lies far below the boundary says nothing; what has crossed it is over.
    let (low, high) = (-boundary * 0.8, boundary * 1.6);
    let x = |minute: f64| START + (END - START) * (minute / minutes.most);
    let y = |log_e: f64| TOP + HEIGHT * (high - log_e.clamp(low, high)) / (high - low);
    let path = |points: &[(f64, f64)]| {
        let mut d = String::new();
        for (at, (minute, log_e)) in points.iter().enumerate() {
            let letter = if at == 0 { 'M' } else { 'L' };
            let _ok = write!(d, "{letter}{:.1} {:.1}", x(*minute), y(*log_e));
        }
        d
    };
    let bottom = TOP + HEIGHT;
    let mut out = svg(bottom + 44.0, "Evidence against the canary over time");
    for tick in minutes.ticks() {
        let x = x(tick);
        let _ok = write!(
            out,
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom:.1}\"/>"
        );
        plain(&mut out, x, bottom + 18.0, "middle", &number(tick));
    }
    for level in [low, 0.0, *boundary] {
        plain(&mut out, START - 8.0, y(level) + 4.5, "end", &number((level * 10.0).round() / 10.0));
    }
    let zero = y(0.0);
    let _ok = write!(
        out,
        "<line class=\"axis\" x1=\"{START}\" x2=\"{END}\" y1=\"{zero:.1}\" y2=\"{zero:.1}\"/>"
    );
    for one in unchanged {
        let _ok = write!(out, "<path class=\"thin\" d=\"{}\"/>", path(one));
    }
    let _ok = write!(out, "<path class=\"thick\" d=\"{}\"/>", path(regression));
    let edge = y(*boundary);
    let _ok = write!(
        out,
        "<line class=\"limit\" x1=\"{START}\" x2=\"{END}\" y1=\"{edge:.1}\" y2=\"{edge:.1}\"/>"
    );
    plain(&mut out, END, edge - 8.0, "end", "rolled back from here on");
    plain(&mut out, (START + END) / 2.0, bottom + 38.0, "middle", "minutes");
    // Beside the steep part of the path, away from the line.
    let last = regression.last().map_or(START, |(minute, _)| x(*minute));
    plain(&mut out, last + 10.0, y(boundary / 2.0), "start", regression_name);
    out.push_str("</svg>");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_end_at_round_numbers() {
        for (largest, most, ticks) in
            [(0.032, 0.04, 5), (0.23, 0.3, 4), (1.0, 1.0, 5), (47.0, 60.0, 4), (7.0, 8.0, 5)]
        {
            let scale = Scale::to(largest);
            assert!((scale.most - most).abs() < 1e-9, "{largest}: {}", scale.most);
            assert_eq!(scale.ticks().count(), ticks, "{largest}");
        }
    }
}
