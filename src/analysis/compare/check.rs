//! From the comparison that a template writes to what is asked and judged.

use jiff::SignedDuration;

use super::super::arms::{Arm, Arms, ArmsError, POD_LABEL};
use super::super::judge::sequential::{Comparison, Direction, Kind};
use super::super::kayenta;
use super::super::metric::{CheckedMetric, SpecError, wrong};
use super::super::source::{self, Source};
use super::{PART, TARGET, TICK};
use crate::api::analysis_run::RunRelease;
use crate::api::compare::{ArmLabel, Compare, CountSeries, RatioSeries};
use crate::api::{self, Metric};
use crate::spec;

/// What canary pods do while they are younger than this is not counted, unless the template says
/// otherwise. A tick, and no more, leaves a doubled error rate to be found within two minutes of the
/// pods' birth (1 % of 200 requests a second, 10 % of them for the canary); what takes longer to warm up
/// has to be said, or learnt.
pub(in crate::analysis) const WARM_UP: SignedDuration = SignedDuration::from_secs(15);

/// A comparison ready to be asked and judged.
#[derive(Debug, Clone)]
pub struct CheckedCompare {
    /// For the judge.
    pub comparison: Comparison,
    /// The raw series of each part, as the template writes them.
    pub parts: Vec<String>,
    /// What is asked: the key's end and the query. The canary's parts, then the stable version's.
    pub queries: Vec<(String, String)>,
    /// The label that tells pods apart.
    pub pod_label: String,
    /// The arms have a label of their own, so that series need no pod: each scraped target, or the
    /// version as a whole, then stands for one.
    pub by_version: bool,
    /// Canary pods younger than this are not counted.
    pub warm_up: SignedDuration,
}

impl CheckedCompare {
    /// Whether its series may be native histograms: only those of classic ones are called buckets.
    pub(super) fn may_be_native(&self) -> bool {
        let bucket = |part: &String| part.contains("_bucket");
        self.comparison.kind == Kind::Histogram && !self.parts.iter().any(bucket)
    }
}

/// The queries that a template writes, without arms, and the kind they make.
pub(in crate::analysis) fn written(compare: &Compare) -> Option<(Kind, Vec<&str>)> {
    let Compare {
        ratio,
        count,
        histogram,
        gauge,
        series: _,
        harmful: _,
        warm_up: _,
        arms: _,
        pod_label: _,
        judge: _,
    } = compare;
    match (ratio, count, histogram, gauge) {
        (Some(RatioSeries { bad, total }), None, None, None) => {
            Some((Kind::Ratio, vec![bad, total]))
        }
        (None, Some(CountSeries { events, per: Some(per) }), None, None) => {
            Some((Kind::Count { per: true }, vec![events, per]))
        }
        (None, Some(CountSeries { events, per: None }), None, None) => {
            Some((Kind::Count { per: false }, vec![events]))
        }
        (None, None, Some(buckets), None) => Some((Kind::Histogram, vec![buckets])),
        (None, None, None, Some(gauge)) => Some((Kind::Gauge, vec![gauge])),
        _ => None,
    }
}

/// The queries of a comparison as a template shows them.
pub(crate) fn shown(compare: &Compare) -> String {
    let queries = written(compare).map(|(_, queries)| queries.join(" and "));
    queries.or_else(|| compare.series.clone()).unwrap_or_default()
}

/// Where a comparison asks: its provider without the query, else the controller's default server.
pub(crate) fn source(metric: &Metric, path: &str) -> Result<Source, SpecError> {
    let Some(provider) = &metric.provider else { return Ok(Source::default()) };
    let mut provider = provider.clone();
    let prometheus = provider.prometheus.get_or_insert_default();
    if prometheus.query.is_some() || prometheus.range_query.is_some() {
        let message = "compare has the queries; leave query and rangeQuery out";
        return Err(wrong(format!("{path}.provider.prometheus"), message));
    }
    prometheus.query = Some("vector(1)".to_owned());
    source::read(Some(&provider), path).map(|(source, _)| source)
}

/// A checked metric with its comparison: it ends with the judgement, not by limits.
pub(crate) fn with(
    checked: CheckedMetric,
    metric: &Metric,
    compare: &Compare,
    release: Option<&RunRelease>,
    path: &str,
) -> Result<CheckedMetric, SpecError> {
    if compare.series.is_some() || compare.judge.is_some() {
        return kayenta::of_metric(checked, metric, compare, release, path);
    }
    let compare = check(metric, compare, release, path)?;
    // What cannot be judged is shown and holds nobody up, unless it was said that it must.
    let blind = !compare.comparison.can_decide() && !compare.comparison.critical;
    Ok(CheckedMetric {
        interval: Some(checked.interval.unwrap_or(TICK)),
        advisory: checked.advisory || blind,
        count: None,
        failure_limit: Some(0),
        inconclusive_limit: 0,
        success_limit: Some(1),
        compare: Some(compare),
        ..checked
    })
}

/// Checks a comparison against the release whose arms it compares; without one it asks nothing.
///
/// # Errors
/// When it is none, or when nothing tells the arms apart.
fn check(
    metric: &Metric,
    compare: &Compare,
    release: Option<&RunRelease>,
    path: &str,
) -> Result<CheckedCompare, SpecError> {
    let path = format!("{path}.compare");
    let Some((kind, parts)) = written(compare) else {
        let message = "must have exactly one of ratio, count, histogram, gauge and series";
        return Err(wrong(path, message));
    };
    let warm_up = match &compare.warm_up {
        None => WARM_UP,
        Some(text) => spec::duration(text).filter(|span| !span.is_negative()).ok_or_else(|| {
            let path = format!("{path}.warmUp");
            wrong(path, "is no span of time: write for example 2m, or 0s for none")
        })?,
    };
    let harmful = compare.harmful.as_deref().map(|text| percent(text, &path)).transpose()?;
    let comparison = Comparison {
        name: metric.name.clone(),
        kind,
        direction: match metric.direction.unwrap_or_default() {
            api::compare::Direction::Increase => Direction::Increase,
            api::compare::Direction::Decrease => Direction::Decrease,
            api::compare::Direction::Either => Direction::Either,
        },
        harmful: harmful.map(|share| 1.0 + share),
        critical: metric.critical,
        weight: f64::from(metric.weight.unwrap_or(1)),
        min_events: metric.min_events.unwrap_or(0) as f64,
        history: None,
    };
    let pod_label = compare.pod_label.clone().unwrap_or_else(|| POD_LABEL.to_owned());
    let by_version = compare.arms.is_some();
    let refused = |error: ArmsError| wrong(path.clone(), error.to_string());
    let arms = arms(compare.arms.as_ref(), compare.pod_label.as_deref(), release);
    let arms = arms.map_err(refused)?;
    let mut queries = queries(&arms, kind, &parts, &pod_label, by_version).map_err(refused)?;
    if release.is_none() {
        queries.clear();
    }
    let parts = parts.into_iter().map(str::to_owned).collect();
    Ok(CheckedCompare { comparison, parts, queries, pod_label, by_version, warm_up })
}

/// A release as it might be, for checks without one.
fn nobody() -> RunRelease {
    RunRelease {
        canary: Some("canary".to_owned()),
        stable: Some("stable".to_owned()),
        ..RunRelease::default()
    }
}

/// What tells the arms apart: the label that the template names, else the revision in the names of
/// the pods. Without a release it is only asked whether something could.
pub(crate) fn arms(
    label: Option<&ArmLabel>,
    pod_label: Option<&str>,
    release: Option<&RunRelease>,
) -> Result<Arms, ArmsError> {
    let nobody = nobody();
    let RunRelease { canary, stable, .. } = release.unwrap_or(&nobody);
    let canary = canary.as_deref().unwrap_or_default();
    let stable = stable.as_deref().unwrap_or_default();
    match label {
        Some(of) if release.is_some() => Arms::by_label(&of.label, &of.canary, &of.stable),
        // Arguments may not have their values yet.
        Some(of) => Arms::by_label(&of.label, canary, stable),
        None => Arms::by_hashes(pod_label.unwrap_or(POD_LABEL), canary, stable),
    }
}

fn queries(
    arms: &Arms,
    kind: Kind,
    parts: &[&str],
    pod_label: &str,
    by_version: bool,
) -> Result<Vec<(String, String)>, ArmsError> {
    let mut keep = vec![pod_label];
    if by_version {
        keep.push(TARGET);
    }
    if kind == Kind::Histogram {
        keep.push("le");
    }
    let mut queries = Vec::new();
    for (name, arm) in [("canary", Arm::Canary), ("stable", Arm::Stable)] {
        for (part, query) in parts.iter().enumerate() {
            queries.push((format!("{name}{PART}{part}"), arms.select_raw(query, arm, &keep)?));
        }
    }
    Ok(queries)
}

/// `50%` as 0.5.
fn percent(text: &str, path: &str) -> Result<f64, SpecError> {
    let number = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
    number.filter(|number| *number > 0.0 && number.is_finite()).map(|n| n / 100.0).ok_or_else(
        || {
            let path = format!("{path}.harmful");
            wrong(path, format!("{text:?} is no change: write for example 50%"))
        },
    )
}
