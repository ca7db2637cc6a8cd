//! Prometheus' HTTP API, and whatever speaks it (Thanos, Mimir, VictoriaMetrics): one instant
//! query.
//!
//! Results as Argo's: a scalar is a number, a vector a list of numbers in the order of the answer,
//! a matrix all its points in one list. Refused: native histograms and strings.

use std::error::Error as _;
use std::time::Duration;

use jiff::SignedDuration;
use reqwest::header::{ACCEPT, RETRY_AFTER};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;
use serde_json::Value;

use super::{Answer, Auth, ProviderError, Server};
use crate::analysis::Sample;

/// Characters of a server's words that a message repeats.
const SHOWN: usize = 300;

/// Asks one instant query at the server's own time.
pub(super) async fn ask(
    client: &Client,
    server: &Server,
    query: &str,
) -> Result<Answer, ProviderError> {
    let url = endpoint(server)?;
    let form = [("query", query)];
    let mut response = send(client.request(Method::POST, url.clone()).form(&form), server).await?;
    if matches!(response.status(), StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED) {
        response = send(client.request(Method::GET, url).query(&form), server).await?;
    }
    let status = response.status();
    let retry_after = retry_after(&response);
    let location = response.headers().get("location").and_then(|v| v.to_str().ok());
    if status.is_redirection() {
        return Err(ProviderError::Refused(format!(
            "{} redirects to {}: write that address",
            server.shown(),
            location.unwrap_or("nowhere")
        )));
    }
    let body = read(response, server).await?;
    let at = server.shown();
    if status.is_success() {
        return parse(&body)
            .map_err(|e| ProviderError::Malformed(format!("{at}: {e}: {}", shorten(&body))));
    }
    let said = match serde_json::from_slice::<Envelope>(&body) {
        Ok(Envelope { error_type: Some(kind), error: Some(error), .. }) => {
            format!("{kind}: {}", shorten(error.as_bytes()))
        }
        _ => shorten(&body),
    };
    let message = format!("{at} answered {status}: {said}");
    Err(match status {
        StatusCode::TOO_MANY_REQUESTS => ProviderError::RateLimited { message, retry_after },
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            ProviderError::Refused(format!("{message}: check the credentials"))
        }
        status if status.is_server_error() => ProviderError::Server(message),
        _ => ProviderError::Refused(message),
    })
}

fn endpoint(server: &Server) -> Result<Url, ProviderError> {
    let mut url = server.address.clone();
    let prefix = url.path().trim_end_matches('/').to_owned();
    url.set_path(&format!("{prefix}/api/v1/query"));
    Ok(url)
}

async fn send(request: RequestBuilder, server: &Server) -> Result<Response, ProviderError> {
    let timeout = Duration::try_from(server.timeout).unwrap_or_default();
    let mut request = request.timeout(timeout).header(ACCEPT, "application/json");
    for (name, value) in &server.headers {
        request = request.header(name, value);
    }
    let request = match &server.auth {
        Auth::None => request,
        Auth::Basic(user, password) => request.basic_auth(user, Some(password)),
        Auth::Bearer(token) => request.bearer_auth(token),
    };
    request.send().await.map_err(|error| of_transport(error, server))
}

async fn read(mut response: Response, server: &Server) -> Result<Vec<u8>, ProviderError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| of_transport(e, server))? {
        if body.len() + chunk.len() > server.max_bytes {
            return Err(ProviderError::Malformed(format!(
                "{}: the answer has more than {} bytes: aggregate the query",
                server.shown(),
                server.max_bytes
            )));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn of_transport(error: reqwest::Error, server: &Server) -> ProviderError {
    let at = server.shown();
    if error.is_timeout() {
        let seconds = server.timeout.as_secs_f64();
        return ProviderError::Timeout(format!("{at} did not answer within {seconds} s"));
    }
    if error.is_builder() {
        return ProviderError::Misconfigured(format!("{at}: {}", causes(error)));
    }
    ProviderError::Unreachable(format!("{at}: {}", causes(error)))
}

/// The error and its causes, without the address, which may hold credentials.
fn causes(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

/// `Retry-After` in seconds; a date is left aside, because its clock is not ours.
fn retry_after(response: &Response) -> Option<SignedDuration> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse::<u32>().ok().map(|seconds| SignedDuration::from_secs(i64::from(seconds)))
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
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    result_type: String,
    result: Value,
}

#[derive(Deserialize)]
struct Series {
    value: Option<Point>,
    #[serde(default)]
    values: Vec<Point>,
    histogram: Option<Value>,
}

/// A time and a number as text.
type Point = (f64, String);

/// Reads a successful answer.
fn parse(body: &[u8]) -> Result<Answer, String> {
    let envelope: Envelope = serde_json::from_slice(body).map_err(|e| format!("not JSON: {e}"))?;
    let Envelope { status, data, error_type: _, error: _, warnings } = envelope;
    let data = data.filter(|_| status == "success").ok_or("no data in a successful answer")?;
    let number =
        |(_, text): &Point| text.parse::<f64>().map_err(|_| format!("{text:?} is not a number"));
    let shape = |e: serde_json::Error| format!("{} of an unknown form: {e}", data.result_type);
    let sample = match data.result_type.as_str() {
        "scalar" => {
            let point: Point = serde_json::from_value(data.result).map_err(shape)?;
            Sample::Value(number(&point)?)
        }
        "vector" | "matrix" => {
            let series: Vec<Series> = serde_json::from_value(data.result).map_err(shape)?;
            let mut values = Vec::with_capacity(series.len());
            for Series { value, values: points, histogram } in &series {
                if histogram.is_some() {
                    return Err(
                        "native histograms are not supported: use histogram_quantile() or \
                                histogram_avg()"
                            .to_owned(),
                    );
                }
                for point in value.iter().chain(points) {
                    values.push(number(point)?);
                }
            }
            Sample::from_series(values)
        }
        other => return Err(format!("Prometheus metric type not supported: {other:?}")),
    };
    Ok(Answer { sample, warnings })
}

fn shorten(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None if text.is_empty() => "an empty body".to_owned(),
        None => text.to_owned(),
    }
}
