//! The tables as pictures: `TABLE=figures FIGURES=docs` writes them there. The same runs give the same bytes.

use std::fmt::Write as _;
use std::path::Path;

use super::measure::{Measure, play};
use super::tables::{everybody, scenarios};
use super::world::{Effect, Nuisance, Scenario};

const WIDTH: f64 = 860.0;
const LEFT: f64 = 210.0;
const RIGHT: f64 = 700.0;
const TOP: f64 = 64.0;
const ROW: f64 = 24.0;

/// The curves of the power, by the beginning of the rule's name.
const CURVES: [(&str, &str); 8] = [
    ("Flagger", "#9c6644"),
    ("Argo", "#c9a227"),
    ("Kayenta each 5 min", "#b5179e"),
    ("O'Brien-Fleming", "#4361ee"),
    ("Pocock", "#4cc9f0"),
    ("mSPRT", "#7209b7"),
    ("ours, all stable, restarts", "#2d6a4f"),
    ("ours, exact, all stable", "#d00000"),
];

/// Writes all figures.
pub fn table(runs: usize, seed: u64) {
    let Ok(folder) = std::env::var("FIGURES") else {
        println!("SKIP: name the folder for the figures with FIGURES=path");
        return;
    };
    let write = |name: &str, text: String| {
        let path = Path::new(&folder).join(name);
        std::fs::write(&path, text).expect("the folder can be written");
        println!("{}", path.display());
    };
    write("aca-false-alarms.svg", false_alarms(runs, seed));
    write("aca-minutes.svg", minutes(runs, seed));
    write("aca-power.svg", power(runs, seed));
}

fn ours(name: &str) -> bool {
    name.starts_with("ours")
}

fn color(name: &str) -> &'static str {
    if ours(name) { "#2d6a4f" } else { "#6c757d" }
}

fn begin(height: f64, title: &str, about: &str) -> String {
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-label=\"{title}\" font-family=\"system-ui, sans-serif\" font-size=\"12\" fill=\"#222\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    text(&mut out, 16.0, 22.0, "font-weight=\"600\" font-size=\"14\"", title);
    text(&mut out, 16.0, 40.0, "fill=\"#555\"", about);
    out
}

fn text(out: &mut String, x: f64, y: f64, how: &str, text: &str) {
    let _ok = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" {how}>{text}</text>");
}

fn line(out: &mut String, from: (f64, f64), to: (f64, f64), how: &str) {
    let ((x1, y1), (x2, y2)) = (from, to);
    let _ok = writeln!(out, "<path d=\"M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}\" fill=\"none\" {how}/>");
}

/// Vertical lines with their values below.
fn grid(out: &mut String, bottom: f64, ticks: &[f64], x: impl Fn(f64) -> f64, unit: &str) {
    for tick in ticks {
        let at = x(*tick);
        line(out, (at, TOP - 8.0), (at, bottom), "stroke=\"#ddd\"");
        let label = format!("{tick}{unit}");
        text(out, at, bottom + 16.0, "text-anchor=\"middle\" fill=\"#555\"", &label);
    }
}

/// The rows of rules; what stands right of each name is drawn by `mark`.
fn rows(out: &mut String, names: &[&str], mut mark: impl FnMut(&mut String, usize, f64)) {
    for (i, name) in names.iter().enumerate() {
        let y = TOP + ROW * (i as f64 + 0.5);
        let how = format!("text-anchor=\"end\" fill=\"{}\"", color(name));
        text(out, LEFT - 12.0, y + 4.0, &how, name);
        mark(out, i, y);
    }
}

/// From a tenth of a per cent to all, on a logarithmic scale.
fn percent_at(percent: f64) -> f64 {
    LEFT + (RIGHT - LEFT) * (libm::log10(percent.max(0.05) / 0.05) / libm::log10(100.0 / 0.05))
}

fn false_alarms(runs: usize, seed: u64) -> String {
    let calm: Vec<(&str, Scenario)> = scenarios().into_iter().take(8).collect();
    let (names, _) = everybody(&calm[0].1);
    let bottom = TOP + ROW * names.len() as f64;
    let about = format!(
        "{runs} hours in which nothing changes, for each kind of noise. Circles: noise that both arms \
         share, or none; discs: noise of one arm."
    );
    let mut out =
        begin(bottom + 48.0, "Good releases that are rolled back, without a history", &about);
    grid(&mut out, bottom, &[0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0], percent_at, " %");
    let promised = percent_at(1.0);
    line(&mut out, (promised, TOP - 8.0), (promised, bottom), "stroke=\"#d00000\"");
    let end = "text-anchor=\"middle\" fill=\"#555\"";
    text(&mut out, percent_at(0.0), bottom + 32.0, end, "0");
    text(
        &mut out,
        promised,
        bottom + 32.0,
        "text-anchor=\"middle\" fill=\"#d00000\"",
        "what the tests promise",
    );
    let played: Vec<Vec<Measure>> = calm
        .iter()
        .map(|(_, scenario)| play(scenario, runs, seed, &everybody(scenario).1))
        .collect();
    rows(&mut out, &names, |out, rule, y| {
        for (kind, measures) in played.iter().enumerate() {
            let (at, color) = (percent_at(measures[rule].percent()), color(names[rule]));
            let fill = if kind < 5 { "none" } else { color };
            let _ok = writeln!(
                out,
                "<circle cx=\"{at:.1}\" cy=\"{y:.1}\" r=\"4.5\" fill=\"{fill}\" stroke=\"{color}\" \
                 fill-opacity=\"0.7\"/>"
            );
        }
    });
    out.push_str("</svg>\n");
    out
}

fn minutes(runs: usize, seed: u64) -> String {
    let scenario = Scenario::new(200.0, 0.01, Effect::Times(2.0), Nuisance::None);
    let (names, rules) = everybody(&scenario);
    let bottom = TOP + ROW * names.len() as f64;
    let about = format!(
        "Errors double, from 1 % to 2 %, 200 requests a second, 10 % canary. Median and nine of ten of \
         {runs} releases."
    );
    let mut out = begin(bottom + 30.0, "Minutes until a bad release is rolled back", &about);
    let x = |minutes: f64| LEFT + (RIGHT - LEFT) * libm::sqrt(minutes / 60.0);
    grid(&mut out, bottom, &[0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 60.0], x, "");
    let measures = play(&scenario, runs, seed, &rules);
    rows(&mut out, &names, |out, rule, y| {
        let (measure, color) = (&measures[rule], color(names[rule]));
        let (half, most) = (measure.quantile(0.5), measure.quantile(0.9));
        if half.is_infinite() {
            let share = format!("found in {:.0} % of them", measure.percent());
            return text(out, LEFT + 6.0, y + 4.0, "fill=\"#555\"", &share);
        }
        let end = x(most.min(60.0));
        let how = format!("stroke=\"{color}\" stroke-width=\"2\" stroke-opacity=\"0.5\"");
        line(out, (x(half), y), (end, y), &how);
        let _ok =
            writeln!(out, "<circle cx=\"{:.1}\" cy=\"{y:.1}\" r=\"5\" fill=\"{color}\"/>", x(half));
        text(out, end + 10.0, y + 4.0, "", &format!("{half}, {most}"));
    });
    out.push_str("</svg>\n");
    out
}

fn power(runs: usize, seed: u64) -> String {
    let (bottom, left, right) = (TOP + 300.0, 60.0, 600.0);
    let about = format!(
        "Base rate 0.1 %, 200 requests a second, 10 % canary, {runs} releases for each point; those \
         at x1 are good."
    );
    let mut out = begin(bottom + 44.0, "Releases that are rolled back within an hour", &about);
    let ratios: Vec<f64> = (0..=8).map(|i| 1.0 + 0.25 * f64::from(i)).collect();
    let x = |ratio: f64| left + (right - left) * (ratio - 1.0) / 2.0;
    let y = |percent: f64| bottom - 300.0 * percent / 100.0;
    for percent in [0.0, 25.0, 50.0, 75.0, 100.0] {
        line(&mut out, (left, y(percent)), (right, y(percent)), "stroke=\"#ddd\"");
        let label = format!("{percent} %");
        text(&mut out, left - 8.0, y(percent) + 4.0, "text-anchor=\"end\" fill=\"#555\"", &label);
    }
    let played: Vec<Vec<Measure>> = ratios
        .iter()
        .map(|ratio| {
            let scenario = Scenario::new(200.0, 0.001, Effect::Times(*ratio), Nuisance::None);
            let (names, rules) = everybody(&scenario);
            let all = play(&scenario, runs, seed, &rules);
            let curve =
                |(begins, _): &(&str, &str)| names.iter().position(|n| n.starts_with(begins));
            let wanted: Vec<usize> = CURVES.iter().filter_map(curve).collect();
            let mut all: Vec<Option<Measure>> = all.into_iter().map(Some).collect();
            wanted.into_iter().filter_map(|at| all[at].take()).collect()
        })
        .collect();
    for ratio in &ratios {
        let label = format!("x{ratio}");
        text(&mut out, x(*ratio), bottom + 18.0, "text-anchor=\"middle\" fill=\"#555\"", &label);
    }
    text(
        &mut out,
        330.0,
        bottom + 36.0,
        "text-anchor=\"middle\" fill=\"#555\"",
        "errors of the new version",
    );
    for (i, (name, color)) in CURVES.iter().enumerate() {
        let points: Vec<String> = ratios
            .iter()
            .zip(&played)
            .map(|(ratio, all)| format!("{:.1} {:.1}", x(*ratio), y(all[i].percent())))
            .collect();
        let _ok = writeln!(
            out,
            "<path d=\"M{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>",
            points.join("L")
        );
        let at = TOP + 12.0 + 20.0 * i as f64;
        line(
            &mut out,
            (620.0, at - 4.0),
            (644.0, at - 4.0),
            &format!("stroke=\"{color}\" stroke-width=\"2\""),
        );
        text(&mut out, 652.0, at, "", name);
    }
    out.push_str("</svg>\n");
    out
}
