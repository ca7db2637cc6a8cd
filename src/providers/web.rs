//! Any HTTP server: the answer, or a part of its JSON, is the result.
//!
//! As Argo: a body that is no JSON is a text, of several matches of the path the first counts. With
//! a MetricProvider the address must lie below the provider's.

use std::collections::BTreeMap;

use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, Url};
use serde_json::Value;

use super::jsonpath::JsonPath;
use super::transport::{Link, shorten};
use super::{Answer, ProviderError, Server};
use crate::analysis::{Sample, WebAsk};

/// The server that is asked: the address itself, or a provider that it lies below.
pub(super) fn server(url: &str, named: Option<Server>) -> Result<Server, ProviderError> {
    let mut asked = Server::at(url)?;
    let Some(named) = named else { return Ok(asked) };
    let inside = |own: &Url, asked: &Url| {
        let prefix = own.path().trim_end_matches('/');
        let rest = asked.path().strip_prefix(prefix);
        own.origin() == asked.origin() && rest.is_some_and(|r| r.is_empty() || r.starts_with('/'))
    };
    if !inside(&named.address, &asked.address) {
        return Err(ProviderError::Misconfigured(format!(
            "the url {} is not below the provider's address {}: its credentials stay there",
            asked.shown(),
            named.shown()
        )));
    }
    // What the template writes before the host is not the provider's.
    let _ = asked.address.set_username(named.address.username());
    let _ = asked.address.set_password(named.address.password());
    Ok(Server { address: asked.address, ..named })
}

/// Asks once.
pub(super) async fn ask(link: &Link<'_>, ask: &WebAsk) -> Result<Answer, ProviderError> {
    let WebAsk { method, body, json, json_path } = ask;
    let path = JsonPath::parse(json_path)
        .map_err(|why| ProviderError::Misconfigured(format!("jsonPath {json_path:?}: {why}")))?;
    let method = Method::from_bytes(method.as_bytes()).unwrap_or(Method::GET);
    let mut request = link.client.request(method, link.server.address.clone());
    if *json {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    if let Some(body) = body {
        request = request.body(body.clone());
    }
    let reply = link.send(request).await?;
    let status = reply.status.as_u16();
    let body = link.accept(reply, |body| {
        Some(format!("received non 2xx response code: {status}: {}", shorten(body)))
    })?;
    let sample = read(&body, &path).map_err(|why| link.malformed(why, &body))?;
    Ok(Answer { sample, warnings: Vec::new() })
}

fn read(body: &[u8], path: &JsonPath) -> Result<Sample, &'static str> {
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        return Ok(Sample::Text(String::from_utf8_lossy(body).into_owned()));
    };
    let found = path.find(&value).ok_or("Could not find JSONPath in body")?;
    Ok(Sample::Json(sorted(found)))
}

/// With the keys in order, as Argo shows a result.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields: BTreeMap<_, _> =
                fields.iter().map(|(k, v)| (k.clone(), sorted(v))).collect();
            Value::Object(fields.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        other => other.clone(),
    }
}
