//! A stanza, asked once of a local server that notes what it was sent, and judged.

use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::http::Uri;
use serde_json::{Value, json};

use super::*;
use crate::analysis::Outcome;
use crate::analysis::judge::judge;
use crate::analysis::metric::check_metric;
use crate::api::metric_provider::ProviderType;

/// What a server was sent.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) method: String,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl Sent {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("-", |value| value.to_str().unwrap())
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

pub(super) type Log = Arc<Mutex<Vec<Sent>>>;

/// Answers everything with one status and body, and notes what was sent.
pub(super) async fn saying(status: u16, body: &str) -> (Fake, Log) {
    let log = Log::default();
    let (seen, body) = (Arc::clone(&log), body.to_owned());
    let handler = move |method: Method, uri: Uri, headers: HeaderMap, sent: Bytes| async move {
        let sent = String::from_utf8(sent.to_vec()).unwrap();
        seen.lock().unwrap().push(Sent { method: method.to_string(), uri, headers, body: sent });
        (StatusCode::from_u16(status).unwrap(), body)
    };
    (serve(Router::new().fallback(handler)).await, log)
}

/// A metric's stanza, asked once of a pool that knows `providers`, and judged.
pub(super) struct Asked {
    pub(super) phase: AnalysisPhase,
    pub(super) value: String,
    pub(super) message: String,
}

pub(super) async fn measure_with(pool: &Pool, metric: Value) -> (Outcome, Asked) {
    let mut metric = metric;
    metric["name"] = json!("m");
    let metric = serde_json::from_value(metric).unwrap();
    let checked = match check_metric(&metric, "metrics[0]") {
        Ok(checked) => checked,
        Err(error) => {
            let message = error.to_string();
            let error = ProviderError::Misconfigured(message.clone());
            let asked = Asked { phase: AnalysisPhase::Error, value: String::new(), message };
            return (Outcome::Error(error.into()), asked);
        }
    };
    let mut asked = query(&checked.query, checked.source.clone());
    asked.asker.run = "web-1".to_owned();
    asked.asker.uid = "uid-1".to_owned();
    let outcome = pool.measure(&asked).await;
    let judged = judge(&checked, &outcome);
    let value = match &outcome {
        Outcome::Answer { sample, .. } => sample.to_string(),
        _ => String::new(),
    };
    let message = judged.message.unwrap_or_default();
    (outcome, Asked { phase: judged.phase, value, message })
}

pub(super) async fn measure(metric: Value) -> Asked {
    measure_with(&pool(Catalog::default()), metric).await.1
}

pub(super) const J1: &str = r#"{"a":1,"b":true,"c":[1,2,3,4],"d":null}"#;
pub(super) const C1: &str = "result.a > 0 && result.b && all(result.c, {# < 5}) && result.d == nil";

/// A line of a table: its cells between ` | `, `-` for an empty one.
pub(super) fn cells<const N: usize>(line: &str) -> [&str; N] {
    let cells: Vec<&str> = line.split(" | ").map(str::trim).collect();
    let cells: [&str; N] = cells.try_into().unwrap_or_else(|_| panic!("{line}"));
    cells.map(|cell| if cell == "-" { "" } else { cell })
}

pub(super) fn phase_of(name: &str) -> AnalysisPhase {
    serde_json::from_value(json!(name)).unwrap()
}

pub(super) fn provider(type_: ProviderType, address: &str) -> Pool {
    let pool = pool(Catalog::default());
    let spec = serde_json::from_value(json!({"type": type_, "address": address,
        "headers": [{"key": "dd-api-key", "value": "k"}]}));
    let id = ProviderId { namespace: Some("shop".to_owned()), name: "p".to_owned() };
    pool.learn(&id, Some(&spec.unwrap()));
    pool
}
