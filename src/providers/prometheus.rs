//! Prometheus' HTTP API, and whatever speaks it (Thanos, Mimir, VictoriaMetrics, Amazon's): one
//! instant or range query.
//!
//! Results as Argo's: a scalar is a number, a vector a list of numbers in the order of the answer,
//! a matrix all its points in one list. A native histogram keeps its buckets in a labelled answer, for a
//! comparison; elsewhere it is refused, as are strings.

use std::collections::BTreeMap;

use jiff::Timestamp;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::transport::{Link, shorten};
use super::{Answer, ProviderError};
use crate::analysis::{Line, Query, Range, Sample};

/// Steps after which the newest point of a range counts as stale.
const STALE_STEPS: i32 = 5;

/// Asks one query: at the server's own time, or over `range` as it is now.
pub(super) async fn ask(
    link: &Link<'_>,
    query: &Query,
    range: Option<&Range>,
) -> Result<Answer, ProviderError> {
    let now = link.clock.now();
    let mut form = vec![("query", query.text.clone())];
    let mut path = "/api/v1/query";
    if let Some(Range { start, end, step }) = range {
        path = "/api/v1/query_range";
        form.push(("start", seconds(start.at(now))));
        form.push(("end", seconds(end.at(now))));
        form.push(("step", step.as_secs_f64().to_string()));
    }
    let url = link.server.below(path);
    let accept = |request: reqwest::RequestBuilder| request.header("accept", "application/json");
    let post = link.client.request(Method::POST, url.clone()).form(&form);
    let mut reply = link.send(accept(post)).await?;
    if matches!(reply.status, StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED) {
        let get = link.client.request(Method::GET, url).query(&form);
        reply = link.send(accept(get)).await?;
    }
    let body = link.accept(reply, |body| match serde_json::from_slice::<Envelope>(body) {
        Ok(Envelope { error_type: Some(kind), error: Some(error), .. }) => {
            Some(format!("{kind}: {}", shorten(error.as_bytes())))
        }
        _ => None,
    })?;
    let (mut answer, newest) =
        parse(&body, query.labelled).map_err(|why| link.malformed(why, &body))?;
    if let (Some(Range { start: _, end, step }), Some(newest)) = (range, newest) {
        let age = end.at(now).as_millisecond() as f64 / 1e3 - newest;
        if age > step.as_secs_f64() * f64::from(STALE_STEPS)
            && let Sample::Series(values) = answer.sample
        {
            let newest = Timestamp::from_millisecond((newest * 1e3) as i64).unwrap_or(now);
            answer.sample = Sample::Stale { newest, values };
        }
    }
    Ok(answer)
}

fn seconds(at: Timestamp) -> String {
    format!("{}.{:03}", at.as_millisecond().div_euclid(1000), at.as_millisecond().rem_euclid(1000))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    #[serde(default)]
    status: String,
    data: Option<Data>,
    error_type: Option<String>,
    error: Option<String>,
    #[serde(default)]
    warnings: Vec<String>,
    #[serde(default)]
    infos: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    result_type: String,
    result: Value,
}

#[derive(Deserialize)]
struct Series {
    #[serde(default)]
    metric: BTreeMap<String, String>,
    value: Option<Point>,
    #[serde(default)]
    values: Vec<Point>,
    histogram: Option<(f64, Value)>,
    histograms: Option<Value>,
}

/// A time and a number as text.
type Point = (f64, String);

/// Reads a successful answer; and the time of the newest point of a range.
fn parse(body: &[u8], labelled: bool) -> Result<(Answer, Option<f64>), String> {
    let envelope: Envelope = serde_json::from_slice(body).map_err(|e| format!("not JSON: {e}"))?;
    let Envelope { status, data, error_type: _, error: _, mut warnings, infos } = envelope;
    warnings.extend(infos);
    let data = data.filter(|_| status == "success").ok_or("no data in a successful answer")?;
    let shape = |e: serde_json::Error| format!("{} of an unknown form: {e}", data.result_type);
    let mut newest = None;
    let sample = match data.result_type.as_str() {
        "scalar" => {
            let point: Point = serde_json::from_value(data.result).map_err(shape)?;
            Sample::Value(number(&point)?)
        }
        "vector" | "matrix" => {
            let series: Vec<Series> = serde_json::from_value(data.result).map_err(shape)?;
            let mut values = Vec::with_capacity(series.len());
            if labelled && data.result_type == "matrix" {
                return Ok((Answer { sample: lines(&series)?, warnings }, None));
            }
            if labelled {
                let sample = Sample::Json(Value::Array(series.iter().filter_map(row).collect()));
                return Ok((Answer { sample, warnings }, None));
            }
            for Series { metric, value, values: points, histogram, histograms } in &series {
                if histogram.is_some() || histograms.is_some() {
                    let name = metric.get("__name__").map_or("", String::as_str);
                    return Err(format!(
                        "{name:?} is a native histogram, which is no number: use \
                         histogram_quantile() or histogram_avg(), or write it under \
                         compare.histogram"
                    ));
                }
                for point in value.iter().chain(points) {
                    values.push(number(point)?);
                }
                newest = points.iter().map(|point| point.0).chain(newest).reduce(f64::max);
            }
            Sample::from_series(values)
        }
        other => return Err(format!("Prometheus metric type not supported: {other:?}")),
    };
    Ok((Answer { sample, warnings }, newest))
}

/// A vector's series that keeps its labels: with its value, or its native histogram as it came.
fn row(Series { metric: labels, value, histogram, .. }: &Series) -> Option<Value> {
    match (value, histogram) {
        (Some((_, value)), _) => Some(json!({ "labels": labels, "value": value })),
        (None, Some((_, histogram))) => Some(json!({ "labels": labels, "histogram": histogram })),
        (None, None) => None,
    }
}

/// A matrix that keeps its labels.
fn lines(series: &[Series]) -> Result<Sample, String> {
    let mut lines = Vec::with_capacity(series.len());
    if series.iter().any(|one| one.histograms.is_some()) {
        let remedy = "name the classic buckets, which end in _bucket";
        return Err(format!("native histograms are not read over a range: {remedy}"));
    }
    for one in series.iter().filter(|one| !one.values.is_empty()) {
        let point = |point: &Point| {
            let at = Timestamp::from_millisecond(libm::round(point.0 * 1e3) as i64);
            Ok((at.map_err(|_| format!("{} is no time", point.0))?, number(point)?))
        };
        let points = one.values.iter().map(point).collect::<Result<_, String>>()?;
        lines.push(Line { labels: one.metric.clone(), points });
    }
    Ok(if lines.is_empty() { Sample::Empty } else { Sample::Lines(lines) })
}

fn number((_, text): &Point) -> Result<f64, String> {
    text.parse().map_err(|_| format!("{text:?} is not a number"))
}
