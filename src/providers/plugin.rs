//! Sluice's own protocol for anything else: one HTTP request for a measurement, in any language.
//!
//! `POST {address}/v1/measure` says what to measure; the answer is a value, an end, or that it takes
//! longer, and then the same question comes again with the notes of the answer. `POST
//! {address}/v1/cancel` ends what takes longer. docs/providers.md has the whole of it.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use serde::Deserialize;
use serde_json::{Value, json};

use super::ProviderError;
use super::transport::Link;
use crate::analysis::{Outcome, Query, Sample};
use crate::api::{AnalysisPhase, DurationSpec};

/// Time to the next question about a measurement that takes longer, when its plugin says none.
const AGAIN: SignedDuration = SignedDuration::from_secs(5);

/// The longest time to it.
const LONGEST: SignedDuration = SignedDuration::from_hours(1);

/// Bytes of the notes of an answer: they stand in the status of the run until the measurement ends.
const NOTES: usize = 4_096;

/// An answer of a plugin: `value` or `phase`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Said {
    value: Option<Value>,
    phase: Option<AnalysisPhase>,
    message: Option<String>,
    resume_after: Option<String>,
    #[serde(default)]
    notes: BTreeMap<String, String>,
    #[serde(default)]
    warnings: Vec<String>,
}

/// Asks once.
pub(super) async fn measure(
    link: &Link<'_>,
    name: &str,
    query: &Query,
) -> Result<Outcome, ProviderError> {
    let body = exchange(link, "/v1/measure", name, query).await?;
    let said: Said = serde_json::from_slice(&body).map_err(|e| link.malformed(e, &body))?;
    let Said { value, phase, message, resume_after, notes, warnings } = said;
    let size: usize = notes.iter().map(|(key, value)| key.len() + value.len()).sum();
    if size > NOTES {
        let why = format!("notes of {size} bytes: write at most {NOTES}, they stand in the status");
        return Err(link.malformed(why, b"..."));
    }
    match (value, phase) {
        (Some(value), None) => Ok(Outcome::Answer { sample: sample(value), warnings }),
        (None, Some(AnalysisPhase::Running | AnalysisPhase::Pending)) => {
            let after = resume_after.map(DurationSpec::Text);
            let after = after.as_ref().and_then(crate::spec::duration).unwrap_or(AGAIN);
            let after = after.clamp(SignedDuration::from_secs(1), LONGEST);
            Ok(Outcome::Running { resume_at: link.clock.now().checked_add(after).ok(), notes })
        }
        (None, Some(phase)) => Ok(Outcome::Ended { phase, message, notes }),
        _ => Err(link.malformed("write value or phase, one of the two", &body)),
    }
}

/// Ends a measurement that takes longer.
pub(super) async fn cancel(
    link: &Link<'_>,
    name: &str,
    query: &Query,
) -> Result<(), ProviderError> {
    exchange(link, "/v1/cancel", name, query).await.map(|_| ())
}

async fn exchange(
    link: &Link<'_>,
    path: &str,
    name: &str,
    query: &Query,
) -> Result<Vec<u8>, ProviderError> {
    let config: Value = serde_json::from_str(&query.text).unwrap_or_default();
    let asked = json!({
        "plugin": name,
        "config": config,
        "metric": query.metric,
        "run": {"namespace": query.namespace, "name": query.asker.run, "uid": query.asker.uid},
        "number": query.asker.number,
        "notes": query.asker.notes.clone().unwrap_or_default(),
    });
    let reply = link.send(link.client.post(link.server.below(path)).json(&asked)).await?;
    link.accept(reply, |body| {
        let value: Value = serde_json::from_slice(body).ok()?;
        value.get("message").and_then(Value::as_str).map(str::to_owned)
    })
}

/// A number and a list of numbers are as Prometheus' own; everything else is JSON.
fn sample(value: Value) -> Sample {
    match &value {
        Value::Null => Sample::Empty,
        Value::Number(number) => {
            number.as_f64().map_or_else(|| Sample::Json(value.clone()), Sample::Value)
        }
        Value::Array(items) => match items.iter().map(Value::as_f64).collect() {
            Some(numbers) => Sample::from_series(numbers),
            None => Sample::Json(value),
        },
        _ => Sample::Json(value),
    }
}
