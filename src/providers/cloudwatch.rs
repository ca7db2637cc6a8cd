//! Amazon CloudWatch: GetMetricData over its JSON protocol, signed by ourselves.
//!
//! The result is the list of MetricDataResults, as Argo's: `result[0].Values`. Nothing but empty
//! lists is no data, unless a condition asks for their length.

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::transport::Link;
use super::{Answer, ProviderError};
use crate::analysis::Sample;

/// Pages that are read of one answer.
const PAGES: usize = 10;

/// Asks once; `text` is the queries as JSON.
pub(super) async fn ask(
    link: &Link<'_>,
    text: &str,
    window: SignedDuration,
) -> Result<Answer, ProviderError> {
    let queries: Value = serde_json::from_str(text)
        .map_err(|e| ProviderError::Misconfigured(format!("metricDataQueries: {e}")))?;
    let to = link.clock.now();
    let from = to.checked_sub(window).unwrap_or(to);
    let mut asked = json!({"StartTime": from.as_second(), "EndTime": to.as_second(),
        "MetricDataQueries": queries});
    let (mut results, mut warnings) = (Vec::new(), Vec::new());
    for _ in 0..PAGES {
        let mut page = page(link, &asked).await?;
        for message in page.pointer("/Messages").and_then(Value::as_array).into_iter().flatten() {
            warnings.push(message.to_string());
        }
        if let Some(Value::Array(found)) = page.get_mut("MetricDataResults").map(Value::take) {
            merge(&mut results, found);
        }
        match page.get("NextToken").and_then(Value::as_str) {
            Some(next) => {
                if let Some(fields) = asked.as_object_mut() {
                    fields.insert("NextToken".to_owned(), json!(next));
                }
            }
            None => return Ok(Answer { sample: sample(results), warnings }),
        }
    }
    warnings.push(format!("only the first {PAGES} pages of the answer were read"));
    Ok(Answer { sample: sample(results), warnings })
}

async fn page(link: &Link<'_>, asked: &Value) -> Result<Value, ProviderError> {
    let request = link
        .client
        .post(link.server.address.clone())
        .header("content-type", "application/x-amz-json-1.0")
        .header("x-amz-target", "GraniteServiceVersion20100801.GetMetricData")
        .body(asked.to_string());
    let reply = link.send(request).await?;
    let (kind, said) = words(&reply.body);
    let throttled = kind.contains("Throttl") || kind.contains("LimitExceeded");
    if reply.status.is_client_error() && throttled {
        let at = link.server.shown();
        let message = format!("{at} answered {}: {kind}: {said}", reply.status);
        return Err(ProviderError::RateLimited { message, retry_after: reply.retry_after });
    }
    let body = link.accept(reply, |_| (!kind.is_empty()).then(|| format!("{kind}: {said}")))?;
    serde_json::from_slice(&body).map_err(|e| link.malformed(format!("not JSON: {e}"), &body))
}

/// The kind and the message of AWS' error.
fn words(body: &[u8]) -> (String, String) {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |names: [&str; 2]| {
        let found = names.iter().find_map(|name| value.get(*name)?.as_str());
        found.unwrap_or_default().to_owned()
    };
    let kind = text(["__type", "code"]);
    let kind = kind.rsplit('#').next().unwrap_or_default().to_owned();
    (kind, text(["message", "Message"]))
}

/// Adds a page: the values of a result that goes on come after those that it has.
fn merge(results: &mut Vec<Value>, page: Vec<Value>) {
    for more in page {
        match results.iter_mut().find(|known| known.get("Id") == more.get("Id")) {
            None => results.push(more),
            Some(known) => {
                for list in ["Values", "Timestamps"] {
                    let new = more.get(list).and_then(Value::as_array).cloned();
                    let held = known.get_mut(list).and_then(Value::as_array_mut);
                    if let (Some(held), Some(new)) = (held, new) {
                        held.extend(new);
                    }
                }
            }
        }
    }
}

fn sample(results: Vec<Value>) -> Sample {
    let full = |result: &Value| {
        result.get("Values").and_then(Value::as_array).is_some_and(|values| !values.is_empty())
    };
    match results.iter().any(full) {
        true => Sample::Json(Value::Array(results)),
        false => Sample::Hollow(Value::Array(results)),
    }
}
