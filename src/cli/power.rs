//! `sluice power`: how long a step must last, before anybody waits for it.
//!
//! Closed forms (`stats::planner`), checked against simulation there. It speaks of events that are
//! independent; noise of arms and pods is added only as far as it is said.

use std::fmt::Write as _;

use anyhow::bail;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde::Serialize;

use super::args::{Output, Power};
use crate::analysis::compare::SOONEST;
use crate::analysis::judge::sequential::{self, goal};
use crate::stats::planner::Traffic;
use crate::stats::pods;

/// The ratios that are always shown, beside the harmful one.
const RATIOS: [f64; 5] = [1.25, 1.5, 2.0, 5.0, 10.0];

/// The weights that are looked at for a shorter wait.
const WEIGHTS: [f64; 6] = [0.05, 0.1, 0.2, 0.25, 0.35, 0.5];

/// What is known before the step.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Forecast {
    /// Requests per second of both arms.
    pub rps: f64,
    /// The stable version's ratio of bad events.
    pub base: f64,
    /// The canary's share of the requests.
    pub weight: f64,
    /// The chance that a good release is rolled back.
    pub alpha: f64,
    /// The chance that a release at the harmful ratio passes.
    pub beta: f64,
    /// The chance with which an answer is wanted within the time.
    pub power: f64,
    /// How long each ratio takes to be found.
    pub found: Vec<Found>,
    /// Minutes until an equal canary is proven to be below the harmful ratio.
    pub minutes_to_pass: Option<f64>,
    /// What can be seen within the time that was asked about.
    pub within: Option<Within>,
    /// The same harmful ratio at other weights.
    pub weights: Vec<AtWeight>,
    /// What the differences of pods leave visible.
    pub pods: Option<PodNoise>,
    /// The ratio that is not failed, because it may be the service's own noise.
    pub allowed: f64,
    /// The service's noise is known from its history.
    pub calibrated: bool,
}

/// How long a ratio takes to be found.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Found {
    /// Canary's ratio of bad events over the stable one's.
    pub ratio: f64,
    /// The harmful one.
    pub harmful: bool,
    /// Minutes in half of the runs.
    pub half: Option<f64>,
    /// Minutes with the wanted chance.
    pub wanted: Option<f64>,
}

/// What a step of a given length can see.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Within {
    /// Its length.
    pub minutes: f64,
    /// The smallest ratio that is found; none when nothing is.
    pub smallest_ratio: Option<f64>,
}

/// The harmful ratio at another weight.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AtWeight {
    /// The canary's share.
    pub weight: f64,
    /// Minutes with the wanted chance.
    pub minutes: Option<f64>,
}

/// What the differences of pods leave visible.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodNoise {
    /// The smallest ratio that stands out of the pods, however long one waits.
    pub smallest_ratio: f64,
    /// So many canary pods would show the harmful ratio; none: they do, or no number would.
    pub needs: Option<u32>,
    /// Whether the harmful ratio can be seen at all.
    pub visible: bool,
}

/// Works it out.
///
/// # Errors
/// A number is outside its range.
pub fn forecast(args: &Power) -> anyhow::Result<Forecast> {
    if !(args.rps > 0.0 && args.rps.is_finite()) {
        bail!("--rps {}: must be above 0 requests per second", args.rps);
    }
    let inside = [("base", args.base), ("weight", args.weight), ("alpha", args.alpha)];
    for (name, value) in inside.into_iter().chain([("beta", args.beta), ("power", args.power)]) {
        if !(value > 0.0 && value < 1.0) {
            bail!("--{name} {value}: must be above 0% and below 100%");
        }
    }
    if !(args.harmful > 0.0 && args.harmful.is_finite()) {
        bail!("--harmful {}: must be a rise above 0%, such as 50%", args.harmful);
    }
    let harmful = 1.0 + args.harmful;
    if harmful * args.base > 1.0 {
        bail!(
            "--harmful {}: x{} of {} bad requests is more than all of them; write a rise of at most {}",
            percent(args.harmful),
            number(harmful),
            percent(args.base),
            percent(libm::floor(1e4 * (1.0 / args.base - 1.0)) / 1e4)
        );
    }
    let traffic = Traffic { per_second: args.rps, canary: args.weight, bad: args.base };
    let pods = pod_noise(args, harmful)?;
    let goal = goal(args.alpha, harmful, noise(args));
    let mut ratios: Vec<f64> = RATIOS.into_iter().filter(|r| (r - harmful).abs() > 1e-9).collect();
    ratios.push(harmful);
    // A rate of bad events above one is nothing that could happen.
    ratios.retain(|ratio| ratio * args.base <= 1.0);
    ratios.sort_by(f64::total_cmp);
    let soonest = SOONEST.as_secs_f64() / 60.0;
    let known = |minutes: f64| Some(minutes.max(soonest)).filter(|m| m.is_finite());
    let find = |t: &Traffic, ratio, p| known(t.minutes_to_find(ratio, goal, p));
    let found = ratios.iter().map(|&ratio| Found {
        ratio,
        harmful: (ratio - harmful).abs() < 1e-9,
        half: find(&traffic, ratio, 0.5),
        wanted: find(&traffic, ratio, args.power),
    });
    let weights = WEIGHTS.into_iter().filter(|w| (w - args.weight).abs() > 1e-9).map(|weight| {
        let there = Traffic { canary: weight, ..traffic };
        AtWeight { weight, minutes: find(&there, harmful, args.power) }
    });
    Ok(Forecast {
        rps: args.rps,
        base: args.base,
        weight: args.weight,
        alpha: args.alpha,
        beta: args.beta,
        power: args.power,
        found: found.collect(),
        minutes_to_pass: known(traffic.minutes_to_pass(harmful, args.beta, args.power)),
        within: args.within.map(|span| {
            let minutes = span.as_secs_f64() / 60.0;
            let ratio = traffic.smallest_ratio(minutes, goal, args.power);
            let can_be = |ratio: &f64| minutes >= soonest && ratio * args.base <= 1.0;
            Within { minutes, smallest_ratio: ratio.filter(can_be) }
        }),
        weights: weights.collect(),
        pods,
        allowed: goal.bound,
        calibrated: args.calibrated,
    })
}

/// What the controller would know of the service's noise without calibration; `None` with one.
fn noise(args: &Power) -> Option<(Option<sequential::PodNoise>, (u32, u32))> {
    let pods = args.canary_pods.zip(args.stable_pods);
    let seen = args.pod_noise.map(sequential::PodNoise::Seen).filter(|_| pods.is_some());
    (!args.calibrated).then_some((seen, pods.unwrap_or((1, 1))))
}

fn pod_noise(args: &Power, harmful: f64) -> anyhow::Result<Option<PodNoise>> {
    let Some(tau) = args.pod_noise else { return Ok(None) };
    let (Some(canary), Some(stable)) = (args.canary_pods, args.stable_pods) else {
        bail!("--pod-noise {tau}: say --canary-pods and --stable-pods too");
    };
    if canary == 0 || stable == 0 || !(tau >= 0.0 && tau.is_finite()) {
        bail!("--pod-noise {tau}: needs at least one pod in each arm and a deviation of 0 or more");
    }
    let reach = pods::reach(harmful, tau, canary, stable);
    Ok(Some(PodNoise {
        smallest_ratio: pods::smallest_ratio(tau, canary, stable),
        needs: match reach {
            pods::Reach::Needs(pods) => Some(pods),
            pods::Reach::Visible | pods::Reach::Never => None,
        },
        visible: reach == pods::Reach::Visible,
    }))
}

/// Prints it.
///
/// # Errors
/// A number is outside its range.
pub fn power(args: &Power) -> anyhow::Result<String> {
    let forecast = forecast(args)?;
    Ok(match args.output {
        Output::Text => text(&forecast),
        Output::Json => serde_json::to_string_pretty(&forecast)?,
        Output::Yaml => serde_saphyr::to_string(&forecast)?,
    })
}

fn text(f: &Forecast) -> String {
    let mut out = String::new();
    let mut say = |line: String| {
        let _ok = writeln!(out, "{line}");
    };
    say(format!(
        "{} requests/s, {} of them bad, {} to the canary; alpha {} (good releases rolled back)",
        number(f.rps),
        percent(f.base),
        percent(f.weight),
        percent(f.alpha)
    ));
    say(match (f.calibrated, f.allowed > 1.0) {
        (true, _) => {
            "Calibrated: the boundary is that of the model where the history is calm".into()
        }
        (false, true) => format!(
            "Uncalibrated: up to x{} may be the service's own noise and is not failed",
            number(f.allowed)
        ),
        (false, false) => "Uncalibrated, and pods that do not differ".into(),
    });
    let mut table = Table::new();
    table.load_style(NOTHING);
    let wanted = percent(f.power);
    table.set_header(vec![
        "BAD EVENTS".into(),
        "FOUND IN HALF OF ALL RUNS".into(),
        format!("IN {wanted}"),
    ]);
    for found in &f.found {
        let mark = if found.harmful { " (harmful)" } else { "" };
        table.add_row(vec![
            format!("x{}{mark}", number(found.ratio)),
            minutes(found.half),
            minutes(found.wanted),
        ]);
    }
    say(String::new());
    table.to_string().lines().for_each(|line| say(line.trim_end().to_owned()));
    say(String::new());
    let harmful = f.found.iter().find(|found| found.harmful).map_or(f64::NAN, |found| found.ratio);
    say(format!(
        "PASS: an equal canary is proven to be below x{} in {} with chance {wanted}",
        number(harmful),
        minutes(f.minutes_to_pass)
    ));
    if let Some(within) = &f.within {
        let span = minutes(Some(within.minutes));
        say(match within.smallest_ratio {
            Some(ratio) => {
                format!("In {span} a rise to x{} is found with chance {wanted}", number(ratio))
            }
            None => format!("In {span} nothing is found: wait longer, or give it more weight"),
        });
    }
    let other: Vec<String> = f
        .weights
        .iter()
        .map(|at| format!("{} {}", percent(at.weight), minutes(at.minutes)))
        .collect();
    say(format!("x{} at other weights: {}", number(harmful), other.join(", ")));
    f.pods.iter().for_each(|pods| say(of_pods(pods)));
    out.trim_end().to_owned()
}

fn of_pods(pods: &PodNoise) -> String {
    let hidden =
        format!("Pods: their differences hide what is below x{}", number(pods.smallest_ratio));
    match (pods.visible, pods.needs) {
        (true, _) => format!("{hidden}, however long one waits"),
        (false, Some(needs)) => format!("{hidden}: no wait helps, {needs} canary pods would"),
        (false, None) => format!("{hidden}: more stable pods are needed as well"),
    }
}

fn minutes(minutes: Option<f64>) -> String {
    match minutes {
        None => "never".into(),
        Some(m) if m < 1.0 => format!("{:.0} s", (m * 60.0).ceil()),
        Some(m) if m < 10.0 => format!("{m:.1} min"),
        Some(m) if m < 600.0 => format!("{m:.0} min"),
        Some(m) => format!("{:.0} h", m / 60.0),
    }
}

fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn percent(share: f64) -> String {
    let text = format!("{:.4}", share * 100.0);
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

/// Reads a share: `1%` or `0.01`.
///
/// # Errors
/// It is neither.
pub fn share(text: &str) -> Result<f64, String> {
    let (digits, by) = text.strip_suffix('%').map_or((text, 1.0), |digits| (digits, 100.0));
    match digits.trim().parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value / by),
        _ => Err(format!("{text:?} is no share: write 1% or 0.01")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> Power {
        Power {
            rps: 200.0,
            base: 0.01,
            weight: 0.1,
            harmful: 1.0,
            alpha: 0.01,
            beta: 0.05,
            power: 0.9,
            within: None,
            pod_noise: None,
            calibrated: false,
            canary_pods: None,
            stable_pods: None,
            output: Output::Text,
        }
    }

    /// The minutes of the rule as it is shipped, from the benchmark's tables: x2 at 1 %, 200 requests a
    /// second, 10 % to the canary; read at the end of a tick of 15 seconds.
    #[test]
    fn the_forecast_is_that_of_the_rule_that_decides() {
        let of = |args: &Power| {
            let forecast = forecast(args).unwrap();
            let double = forecast.found.iter().find(|f| f.harmful).cloned().unwrap();
            (double.half.unwrap(), double.wanted.unwrap())
        };
        let close = |(half, nine): (f64, f64), (median, p90): (f64, f64)| {
            assert!((half / (median - 0.125) - 1.0).abs() < 0.1, "{half} against {median}");
            assert!((nine / (p90 - 0.125) - 1.0).abs() < 0.1, "{nine} against {p90}");
        };
        close(of(&Power { calibrated: true, ..args() }), CALIBRATED);
        close(of(&args()), UNCALIBRATED);
        let quiet =
            Power { pod_noise: Some(0.0), canary_pods: Some(1), stable_pods: Some(9), ..args() };
        assert_eq!(of(&quiet), of(&Power { calibrated: true, ..args() }));
    }

    const CALIBRATED: (f64, f64) = (1.5, 3.25);
    const UNCALIBRATED: (f64, f64) = (3.25, 6.25);

    #[test]
    fn what_cannot_be_seen_says_what_to_change() {
        let few = Power {
            rps: 2.0,
            base: 0.001,
            within: Some(std::time::Duration::from_secs(600)),
            pod_noise: Some(0.5),
            canary_pods: Some(1),
            stable_pods: Some(20),
            ..args()
        };
        let text = power(&few).unwrap();
        assert!(text.contains("at other weights: 5% "), "{text}");
        assert!(text.contains("canary pods would"), "{text}");
        let forecast = forecast(&few).unwrap();
        assert!(forecast.within.unwrap().smallest_ratio.unwrap() > 2.0, "two requests a second");
    }

    #[test]
    fn numbers_outside_their_range_are_refused_by_name() {
        for (wrong, named) in [
            (Power { rps: 0.0, ..args() }, "--rps"),
            (Power { base: 0.0, ..args() }, "--base"),
            (Power { weight: 1.0, ..args() }, "--weight"),
            (Power { harmful: 0.0, ..args() }, "--harmful"),
            (Power { pod_noise: Some(0.1), ..args() }, "--canary-pods"),
        ] {
            let text = power(&wrong).unwrap_err().to_string();
            assert!(text.contains(named), "{text}");
        }
        assert_eq!((share("1%"), share("0.25")), (Ok(0.01), Ok(0.25)));
        assert!(share("often").is_err());
    }

    #[test]
    fn a_harmful_rise_to_more_than_every_request_is_refused_with_one_that_can_be() {
        let text = power(&Power { base: 0.6, ..args() }).unwrap_err().to_string();
        assert_eq!(
            text,
            "--harmful 100%: x2 of 60% bad requests is more than all of them; write a rise of at most 66.66%"
        );
        let most = power(&Power { base: 0.6, harmful: 0.6666, ..args() }).unwrap();
        assert!(most.contains("(harmful)") && !most.contains("NaN"), "{most}");
    }

    /// A canary pod has to be warm, and a tick has to pass.
    #[test]
    fn nothing_is_known_sooner_than_the_first_tick_of_a_warm_canary() {
        let within = Some(std::time::Duration::from_secs(20));
        let forecast = forecast(&Power { rps: 1e6, within, ..args() }).unwrap();
        let times = forecast.found.iter().flat_map(|f| [f.half, f.wanted]);
        let times = times.chain(forecast.weights.iter().map(|at| at.minutes));
        let times = times.chain([forecast.minutes_to_pass]).flatten();
        assert!(times.clone().count() > 10 && times.fold(f64::INFINITY, f64::min) == 0.5);
        assert_eq!(forecast.within.unwrap().smallest_ratio, None, "20 seconds show nothing");
    }

    #[test]
    fn a_ratio_that_would_mean_more_than_every_request_is_left_out() {
        let forecast = forecast(&Power { base: 0.3, ..args() }).unwrap();
        assert!(forecast.found.iter().all(|f| f.ratio <= 2.0), "{:?}", forecast.found);
    }
}
