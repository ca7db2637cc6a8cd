//! Datadog, version 1 (the last point of the first series) and version 2 (scalars, with formulas and
//! groups).
//!
//! Messages as Argo's. A null is no value; nothing but nulls is no data, and nil for a condition.

use serde::Deserialize;
use serde_json::{Value, json};

use super::transport::{Link, shorten};
use super::{Answer, ProviderError};
use crate::analysis::{DatadogAsk, Sample};

/// An answer without a value.
const NOTHING: Sample = Sample::Hollow(Value::Null);

/// Asks once.
pub(super) async fn ask(link: &Link<'_>, ask: &DatadogAsk) -> Result<Answer, ProviderError> {
    let to = link.clock.now();
    let from = to.checked_sub(ask.interval).unwrap_or(to);
    let request = if ask.v2 {
        let url = link.server.below("/api/v2/query/scalar");
        link.client.post(url).json(&body(ask, from.as_millisecond(), to.as_millisecond()))
    } else {
        let query = ask.queries.values().next().map_or("", String::as_str);
        let window = [("from", from.as_second()), ("to", to.as_second())];
        link.client
            .get(link.server.below("/api/v1/query"))
            .query(&window)
            .query(&[("query", query)])
    };
    let reply = link.send(request.header("accept", "application/json")).await?;
    let status = reply.status.as_u16();
    let body = link.accept(reply, |body| {
        let kind = if matches!(status, 401 | 403) { "authentication error" } else { "non 2xx" };
        Some(format!("received {kind} response code: {status} {}", shorten(body)))
    })?;
    let value: Value = serde_json::from_slice(&body)
        .map_err(|e| link.malformed(format!("Could not parse JSON body: {e}"), &body))?;
    let sample = if ask.v2 { v2(&value) } else { v1(&value) };
    let sample = sample.map_err(|wrong| match wrong {
        Wrong::Shape(why) => link.malformed(why, &body),
        Wrong::Query(said) => {
            let at = link.server.shown();
            ProviderError::Refused(format!("{at}: There were errors in your query: {said}"))
        }
    })?;
    Ok(Answer { sample, warnings: Vec::new() })
}

/// Why an answer gives no values.
#[derive(Debug)]
enum Wrong {
    /// Not what is documented.
    Shape(String),
    /// Datadog's own words.
    Query(String),
}

fn body(ask: &DatadogAsk, from: i64, to: i64) -> Value {
    let DatadogAsk { queries, formula, aggregator, .. } = ask;
    let queries: Vec<Value> = queries
        .iter()
        .map(|(name, query)| {
            json!({"data_source": "metrics", "name": name, "query": query, "aggregator": aggregator})
        })
        .collect();
    let mut attributes = json!({"from": from, "to": to, "queries": queries});
    if let (Some(formula), Some(fields)) = (formula, attributes.as_object_mut()) {
        fields.insert("formulas".to_owned(), json!([{"formula": formula}]));
    }
    json!({"data": {"type": "scalar_request", "attributes": attributes}})
}

#[derive(Deserialize)]
struct V1 {
    #[serde(default)]
    status: String,
    error: Option<String>,
    #[serde(default)]
    series: Vec<V1Series>,
}

#[derive(Deserialize)]
struct V1Series {
    pointlist: Vec<(Option<f64>, Option<f64>)>,
}

fn v1(value: &Value) -> Result<Sample, Wrong> {
    let shape = |e: serde_json::Error| Wrong::Shape(format!("Could not parse JSON body: {e}"));
    let V1 { status, error, series } = V1::deserialize(value).map_err(shape)?;
    if let Some(error) = error.filter(|error| !error.is_empty() || status == "error") {
        return Err(Wrong::Query(error));
    }
    let points = series.first().map(|series| series.pointlist.as_slice()).unwrap_or_default();
    let last = points.iter().rev().find_map(|(_, value)| *value);
    Ok(last.map_or(NOTHING, Sample::Value))
}

fn v2(value: &Value) -> Result<Sample, Wrong> {
    for at in ["/data/errors", "/errors"] {
        match value.pointer(at) {
            Some(Value::String(said)) if !said.is_empty() => {
                return Err(Wrong::Query(said.clone()));
            }
            Some(said @ Value::Array(all)) if !all.is_empty() => {
                return Err(Wrong::Query(said.to_string()));
            }
            _ => {}
        }
    }
    let shape = |what: String| Wrong::Shape(what);
    let columns = value.pointer("/data/attributes/columns").and_then(Value::as_array);
    let columns =
        columns.ok_or_else(|| shape("Could not parse JSON body: no columns".to_owned()))?;
    let of =
        |kind: &str| columns.iter().find(|c| c.get("type").and_then(Value::as_str) == Some(kind));
    let values = |column: &Value| column.get("values").and_then(Value::as_array).cloned();
    let Some(numbers) = of("number") else { return Ok(NOTHING) };
    let name = numbers.get("name").and_then(Value::as_str).unwrap_or_default();
    let mut found = Vec::new();
    for value in values(numbers).unwrap_or_default() {
        match value {
            Value::Null => {}
            other => found.push(other.as_f64().ok_or_else(|| {
                let other = other.to_string();
                shape(format!("could not parse numeric value {other:?} in column {name:?}"))
            })?),
        }
    }
    let Some(groups) = of("group") else {
        return Ok(found.first().copied().map_or(NOTHING, Sample::Value));
    };
    let labels = values(groups).unwrap_or_default();
    let text = |label: &Value| label.as_array().is_some_and(|all| all.iter().all(Value::is_string));
    if let Some(at) = labels.iter().position(|label| !text(label)) {
        return Err(shape(format!("could not parse group label at index {at}")));
    }
    Ok(Sample::from_series(found))
}
