//! The judge against a second one, written from the description of Kayenta alone: slow, with nothing in
//! common but the numbers. 2,000 pairs in each run; `KAYENTA_PAIRS=100000` for more.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{CanaryConfig, SeriesPair, Thresholds, judge};

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn one<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len() as u64) as usize]
    }

    /// A series of one of the shapes that services have.
    fn series(&mut self, shape: u64, level: f64, length: u64) -> Vec<f64> {
        (0..length)
            .map(|_| match shape {
                0 => level * (0.5 + self.unit()),
                // Ties.
                1 => level.ceil() + self.below(4) as f64,
                // Mostly nothing.
                2 => {
                    if self.below(4) == 0 {
                        level
                    } else {
                        0.0
                    }
                }
                // A heavy tail.
                3 => level / (0.02 + self.unit()),
                // Missing points.
                4 => {
                    if self.below(3) == 0 {
                        f64::NAN
                    } else {
                        level * (0.9 + 0.2 * self.unit())
                    }
                }
                _ => level,
            })
            .collect()
    }
}

fn number(canary: &Value, path: &str, default: f64) -> f64 {
    canary.pointer(path).and_then(Value::as_f64).unwrap_or(default)
}

/// Average ranks in the pool of `x - mu` and `y`, by counting.
fn ranks(x: &[f64], y: &[f64], mu: f64) -> (Vec<f64>, f64) {
    let pool: Vec<f64> = x.iter().map(|v| v - mu).chain(y.iter().copied()).collect();
    let rank = |v: &f64| {
        let less = pool.iter().filter(|w| *w < v).count() as f64;
        let same = pool.iter().filter(|w| *w == v).count() as f64;
        less + (same + 1.0) / 2.0
    };
    let ties: f64 = pool
        .iter()
        // Each of t tied values adds t^2 - 1, together t^3 - t.
        .map(|v| pool.iter().filter(|w| *w == v).count() as f64)
        .map(|t| t * t - 1.0)
        .sum();
    (pool.iter().take(x.len()).map(rank).collect(), ties)
}

fn w(x: &[f64], y: &[f64], mu: f64) -> Option<f64> {
    let (n, m) = (x.len() as f64, y.len() as f64);
    let (ranks, ties) = ranks(x, y, mu);
    let dz = ranks.iter().sum::<f64>() - n * (n + 1.0) / 2.0 - n * m / 2.0;
    let correction = if dz == 0.0 { 0.0 } else { 0.5 * dz.signum() };
    let all = n + m;
    let sigma = (n * m / 12.0 * (all + 1.0 - ties / (all * (all - 1.0)))).sqrt();
    (sigma > 0.0).then(|| (dz - correction) / sigma)
}

/// Brent's method as R's zeroin has it, with an absolute tolerance of 1e-4.
fn root(f: &dyn Fn(f64) -> Option<f64>, low: f64, high: f64) -> Option<f64> {
    let (mut a, mut b) = (low, high);
    let (mut fa, mut fb) = (f(a)?, f(b)?);
    let (mut c, mut fc) = (a, fa);
    if fa == 0.0 {
        return Some(a);
    }
    if fb == 0.0 {
        return Some(b);
    }
    for _ in 0..1_001 {
        let before = b - a;
        if fc.abs() < fb.abs() {
            (a, b, c) = (b, c, b);
            (fa, fb, fc) = (fb, fc, fb);
        }
        let tolerance = 2.0 * f64::EPSILON * b.abs() + 5e-5;
        let mut step = (c - b) / 2.0;
        if step.abs() <= tolerance || fb == 0.0 {
            return Some(b);
        }
        if before.abs() >= tolerance && fa.abs() > fb.abs() {
            let width = c - b;
            let (mut p, mut q);
            if a == c {
                let t1 = fb / fa;
                p = width * t1;
                q = 1.0 - t1;
            } else {
                q = fa / fc;
                let (t1, t2) = (fb / fc, fb / fa);
                p = t2 * (width * q * (q - t1) - (b - a) * (t1 - 1.0));
                q = (q - 1.0) * (t1 - 1.0) * (t2 - 1.0);
            }
            if p > 0.0 {
                q = -q
            } else {
                p = -p
            }
            if p < 0.75 * width * q - (tolerance * q).abs() / 2.0 && p < (before * q / 2.0).abs() {
                step = p / q;
            }
        }
        if step.abs() < tolerance {
            step = if step > 0.0 { tolerance } else { -tolerance };
        }
        (a, fa) = (b, fb);
        b += step;
        fb = f(b)?;
        if (fb > 0.0) == (fc > 0.0) && fb != 0.0 && fc != 0.0 {
            (c, fc) = (a, fa);
        }
    }
    Some(b)
}

/// Lower end, upper end, estimate.
fn interval(x: &[f64], y: &[f64]) -> Option<(f64, f64, f64)> {
    let least = |v: &[f64]| v.iter().copied().fold(f64::INFINITY, f64::min);
    let most = |v: &[f64]| v.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let (low, high) = (least(x) - most(y), most(x) - least(y));
    // The normal quantile of 1% from a table.
    let z = 2.326_347_874_040_841;
    let end = |q: f64| {
        let f = |mu: f64| w(x, y, mu).map(|w| w - q);
        if f(low)? <= 0.0 {
            return Some(low);
        }
        if f(high)? >= 0.0 {
            return Some(high);
        }
        root(&f, low, high)
    };
    let estimate = root(&|mu| w(x, y, mu), low, high)?;
    Some((end(z)?, end(-z)?, estimate))
}

fn percentile(sorted: &[f64], p: f64) -> f64 {
    let at = (sorted.len() - 1) as f64 * p;
    let (i, part) = (at.floor() as usize, at.fract());
    let next = sorted[(i + 1).min(sorted.len() - 1)];
    sorted[i] + part * (next - sorted[i])
}

fn cleaned(values: &[f64], canary: &Value) -> Vec<f64> {
    let replace = canary["nanStrategy"] == "replace";
    let mut kept: Vec<f64> = values
        .iter()
        .filter(|v| replace || !v.is_nan())
        .map(|v| if v.is_nan() { 0.0 } else { *v })
        .collect();
    if canary["outliers"]["strategy"] == "remove" && !kept.is_empty() {
        let factor = number(canary, "/outliers/outlierFactor", 3.0);
        let mut sorted = kept.clone();
        sorted.sort_by(f64::total_cmp);
        let (q1, q3) = (percentile(&sorted, 0.25), percentile(&sorted, 0.75));
        let low = percentile(&sorted, 0.01).min(q1 - factor * (q3 - q1));
        let high = percentile(&sorted, 0.99).max(q3 + factor * (q3 - q1));
        kept.retain(|v| low <= *v && *v <= high);
    }
    kept
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The label and whether it is critical; nothing where Kayenta draws noise.
fn label(pair: &SeriesPair, canary: &Value) -> Option<(&'static str, bool)> {
    let is = |name: &str| canary[name] == true;
    let (y, x) = (cleaned(&pair.control, canary), cleaned(&pair.experiment, canary));
    if x.is_empty() || y.is_empty() {
        return Some(match (canary["nanStrategy"] == "replace", is("mustHaveData")) {
            (true, _) => ("Pass", false),
            (false, true) if !is("critical") => ("NodataFailMetric", false),
            (false, _) => ("Nodata", is("critical")),
        });
    }
    let sorted = |v: &[f64]| {
        let mut v = v.to_vec();
        v.sort_by(f64::total_cmp);
        v
    };
    let (sx, sy) = (sorted(&x), sorted(&y));
    let constant = |v: &[f64]| v[0] == v[v.len() - 1];
    if sx == sy || (constant(&sx) && constant(&sy) && sx[0] == sy[0]) {
        return Some(("Pass", false));
    }
    if constant(&sx) && constant(&sy) {
        return None;
    }
    let Some((low, high, estimate)) = interval(&x, &y) else { return Some(("Error", false)) };
    let (n, m) = (y.len() as f64, x.len() as f64);
    let cles = canary["effectSize"]["measure"] == "cles";
    let effect = match cles {
        true => {
            let (ranks, _) = ranks(&x, &y, 0.0);
            (2.0 * ranks.iter().sum::<f64>() - m * (m + 1.0)) / (2.0 * n * m)
        }
        false if mean(&x) == 0.0 || mean(&y) == 0.0 => f64::NAN,
        false => mean(&x) / mean(&y),
    };
    let none = if cles { 0.5 } else { 1.0 };
    let limit = |name: &str| number(canary, &format!("/effectSize/{name}"), none);
    let least = |name: &str| effect.is_nan() || effect >= limit(name);
    let most = |name: &str| effect.is_nan() || effect <= limit(name);
    let (direction, bound) =
        (canary["direction"].as_str().unwrap_or("either"), 0.25 * estimate.abs());
    if direction != "decrease" && low > bound && least("allowedIncrease") {
        return Some(("High", is("critical") && least("criticalIncrease")));
    }
    if direction != "increase" && high < -bound && most("allowedDecrease") {
        return Some(("Low", is("critical") && most("criticalDecrease")));
    }
    Some(("Pass", false))
}

/// A metric as the score sees it: its group, its label, whether it is critical and muted.
type Judged = (String, &'static str, bool, bool);

fn score(judged: &[Judged], weights: &BTreeMap<String, f64>) -> f64 {
    let heard: Vec<&Judged> = judged.iter().filter(|(.., muted)| !muted).collect();
    let missing = heard.iter().filter(|(_, label, ..)| *label == "Nodata").count();
    let critical = heard.iter().any(|(_, label, critical, _)| *critical && *label != "Pass");
    if critical || 2 * missing >= heard.len() && !heard.is_empty() {
        return 0.0;
    }
    let groups: BTreeSet<&String> = heard.iter().map(|(group, ..)| group).collect();
    let unweighted = groups.iter().filter(|g| !weights.contains_key(**g)).count() as f64;
    let rest = 100.0 - weights.values().sum::<f64>();
    groups
        .iter()
        .map(|group| {
            let labels: Vec<&str> =
                heard.iter().filter(|(g, ..)| g == *group).map(|(_, label, ..)| *label).collect();
            let passed = labels.iter().filter(|l| **l == "Pass").count() as f64;
            let counted = labels.iter().filter(|l| !["Nodata", "Error"].contains(l)).count() as f64;
            let own = if counted == 0.0 { 100.0 } else { 100.0 * passed / counted };
            own * weights.get(*group).copied().unwrap_or(rest / unweighted) / 100.0
        })
        .sum()
}

/// A canary config of a few metrics and their pairs.
fn case(chance: &mut Chance) -> (Value, Vec<SeriesPair>) {
    let (mut metrics, mut pairs) = (Vec::new(), Vec::new());
    for i in 0..=chance.below(4) {
        let canary = json!({
            "direction": chance.one(&["increase", "decrease", "either"]),
            "nanStrategy": chance.one(&["remove", "remove", "replace"]),
            "outliers": {
                "strategy": chance.one(&["keep", "remove"]),
                "outlierFactor": 0.5 + 3.0 * chance.unit(),
            },
            "critical": chance.below(8) == 0,
            "mustHaveData": chance.below(4) == 0,
            "muted": chance.below(8) == 0,
            "effectSize": match chance.below(3) {
                0 => json!({}),
                1 => json!({"allowedIncrease": 1.0 + chance.unit(), "allowedDecrease": chance.unit(),
                            "criticalIncrease": 2.0, "criticalDecrease": 0.5}),
                _ => json!({"measure": "cles", "allowedIncrease": 0.5 + chance.unit() / 2.0,
                            "allowedDecrease": chance.unit() / 2.0, "criticalIncrease": 0.8}),
            },
        });
        let group = chance.one(&["errors", "latency", "saturation"]);
        metrics.push(json!({"name": format!("m{i}"), "groups": [group],
                            "analysisConfigurations": {"canary": canary}}));
        let level = 10_f64.powi(chance.below(9) as i32 - 5);
        let shift = [1.0, 1.0, 1.1, 2.0, 0.5][chance.below(5) as usize];
        let shape = chance.below(6);
        let lengths = (chance.below(40), chance.below(40));
        pairs.push(SeriesPair {
            metric: format!("m{i}"),
            control: chance.series(shape, level, lengths.0),
            experiment: chance.series(shape, level * shift, lengths.1),
            ..SeriesPair::default()
        });
    }
    let weights = match chance.below(3) {
        0 => json!({}),
        1 => json!({"errors": 60, "latency": 40}),
        _ => json!({"errors": 50, "absent": 20}),
    };
    let config = json!({"metrics": metrics, "classifier": {"groupWeights": weights}});
    (config, pairs)
}

#[test]
fn labels_and_scores_are_those_of_an_independent_judge() {
    let wanted = std::env::var("KAYENTA_PAIRS").ok().and_then(|n| n.parse().ok()).unwrap_or(2_000);
    let mut chance = Chance(1);
    let thresholds = Thresholds { pass: 95.0, marginal: 75.0 };
    let (mut compared, mut noisy) = (0, 0);
    let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
    while compared < wanted {
        let (json, pairs) = case(&mut chance);
        let config = CanaryConfig::read(&json).unwrap();
        let report = judge(&config, thresholds, &pairs).unwrap();
        let labels: Option<Vec<Judged>> = pairs
            .iter()
            .enumerate()
            .map(|(i, pair)| {
                let metric = &json["metrics"][i];
                let canary = &metric["analysisConfigurations"]["canary"];
                let (label, critical) = label(pair, canary)?;
                let group = metric["groups"][0].as_str().unwrap().to_owned();
                Some((group, label, critical, canary["muted"] == true))
            })
            .collect();
        let Some(labels) = labels else {
            noisy += 1;
            continue;
        };
        for ((result, pair), (_, label, critical, _)) in
            report.results.iter().zip(&pairs).zip(&labels)
        {
            let found = (format!("{:?}", result.label), result.critical);
            assert_eq!(found, ((*label).to_owned(), *critical), "seed 1, {json:#}: {pair:?}");
            *seen.entry(label).or_default() += 1;
        }
        compared += pairs.len();
        let weights = serde_json::from_value(json["classifier"]["groupWeights"].clone()).unwrap();
        let (ours, theirs) = (report.score.score, score(&labels, &weights));
        assert!((ours - theirs).abs() <= 0.005 + 1e-9, "{ours}, port {theirs}: {json:#}");
    }
    println!("{compared} pairs compared, {noisy} configs with noise left out: {seen:?}");
    let kinds: Vec<&str> = seen.keys().copied().collect();
    for kind in ["High", "Low", "Nodata", "NodataFailMetric", "Pass"] {
        assert!(kinds.contains(&kind), "no {kind} among {wanted} pairs: {seen:?}");
    }
}
