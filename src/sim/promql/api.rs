//! The HTTP query API of Prometheus as a plain function, and as an axum router around it.
//!
//! Served: `/api/v1/query`, `/api/v1/query_range`, `/api/v1/series`, `/api/v1/labels`,
//! `/api/v1/label/NAME/values`, `/api/v1/status/buildinfo`, `/-/ready`, `/-/healthy`.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use promql_parser::parser::{self, Expr};
use serde_json::{Value as Json, json};

use super::eval::{Engine, QueryError, Series, Value, millis};
use super::labels::{Labels, NAME};
use super::tsdb::{Point, Tsdb};
use crate::clock::Clock;

/// A store that is written by a scraper and read by queries.
pub type SharedTsdb = Arc<RwLock<Tsdb>>;

/// An answer of the API: the HTTP status and the JSON body.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The HTTP status code.
    pub status: u16,
    /// The body.
    pub body: Json,
}

struct Refusal {
    status: u16,
    kind: &'static str,
    message: String,
}

impl Refusal {
    fn bad_data(message: impl Into<String>) -> Self {
        Self { status: 400, kind: "bad_data", message: message.into() }
    }
}

impl From<QueryError> for Refusal {
    fn from(error: QueryError) -> Self {
        let message = error.to_string();
        match error {
            QueryError::Parse(_) => Self::bad_data(message),
            QueryError::Unsupported(_) | QueryError::Execution(_) => {
                Self { status: 422, kind: "execution", message }
            }
        }
    }
}

/// Answers one request. `parameters` are those of the query string and of a form body together.
#[must_use]
pub fn respond(
    engine: &Engine,
    db: &Tsdb,
    path: &str,
    parameters: &[(String, String)],
    now_ms: i64,
) -> Answer {
    let parameters = Parameters(parameters);
    let data = match path {
        "/api/v1/query" => query(engine, db, parameters, now_ms),
        "/api/v1/query_range" => query_range(engine, db, parameters),
        "/api/v1/series" => series(db, parameters),
        "/api/v1/labels" => labels(db, parameters),
        "/api/v1/status/buildinfo" => Ok(json!({"version": "3.5.0", "revision": "sluice"})),
        _ => match path.strip_prefix("/api/v1/label/").and_then(|p| p.strip_suffix("/values")) {
            Some(label) => label_values(db, parameters, label),
            None => Err(Refusal {
                status: 404,
                kind: "not_found",
                message: format!("no such path: {path}"),
            }),
        },
    };
    match data {
        Ok(data) => Answer { status: 200, body: json!({"status": "success", "data": data}) },
        Err(Refusal { status, kind, message }) => {
            Answer { status, body: json!({"status": "error", "errorType": kind, "error": message}) }
        }
    }
}

#[derive(Clone, Copy)]
struct Parameters<'a>(&'a [(String, String)]);

impl<'a> Parameters<'a> {
    fn get(self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    fn required(self, name: &str) -> Result<&'a str, Refusal> {
        self.get(name)
            .ok_or_else(|| Refusal::bad_data(format!("invalid parameter {name:?}: it is missing")))
    }

    fn time(self, name: &str) -> Result<Option<i64>, Refusal> {
        let Some(text) = self.get(name).filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        if let Ok(seconds) = text.parse::<f64>()
            && seconds.is_finite()
        {
            return Ok(Some((seconds * 1000.0).round() as i64));
        }
        text.parse::<jiff::Timestamp>().map(|t| Some(t.as_millisecond())).map_err(|_| {
            Refusal::bad_data(format!(
                "invalid parameter {name:?}: cannot parse {text:?} to a valid timestamp"
            ))
        })
    }

    fn required_time(self, name: &str) -> Result<i64, Refusal> {
        self.required(name)?;
        self.time(name)?
            .ok_or_else(|| Refusal::bad_data(format!("invalid parameter {name:?}: it is empty")))
    }

    fn step(self) -> Result<i64, Refusal> {
        let text = self.required("step")?;
        let parsed = match text.parse::<f64>() {
            Ok(seconds) if seconds.is_finite() => Some((seconds * 1000.0).round() as i64),
            _ => promql_parser::util::parse_duration(text).ok().map(millis),
        };
        parsed.filter(|step| *step > 0).ok_or_else(|| {
            Refusal::bad_data(format!(
                "invalid parameter \"step\": {text:?} is not a positive duration"
            ))
        })
    }
}

fn query(
    engine: &Engine,
    db: &Tsdb,
    parameters: Parameters<'_>,
    now_ms: i64,
) -> Result<Json, Refusal> {
    let at_ms = parameters.time("time")?.unwrap_or(now_ms);
    let value = engine.instant(db, parameters.required("query")?, at_ms)?;
    Ok(match value {
        Value::Scalar(value) => {
            json!({"resultType": "scalar", "result": pair(Point { at_ms, value })})
        }
        Value::String(text) => {
            json!({"resultType": "string", "result": [seconds(at_ms), text]})
        }
        Value::Vector(samples) => {
            let result: Vec<Json> = samples
                .iter()
                .map(|s| {
                    let point = Point { at_ms, value: s.value };
                    json!({"metric": metric(&s.labels), "value": pair(point)})
                })
                .collect();
            json!({"resultType": "vector", "result": result})
        }
        Value::Matrix(series) => matrix(&series),
    })
}

fn query_range(engine: &Engine, db: &Tsdb, parameters: Parameters<'_>) -> Result<Json, Refusal> {
    let start = parameters.required_time("start")?;
    let end = parameters.required_time("end")?;
    let step = parameters.step()?;
    let series = engine.range(db, parameters.required("query")?, start, end, step)?;
    Ok(matrix(&series))
}

fn matrix(series: &[Series]) -> Json {
    let result: Vec<Json> = series
        .iter()
        .map(|s| {
            let values: Vec<Json> = s.points.iter().copied().map(pair).collect();
            json!({"metric": metric(&s.labels), "values": values})
        })
        .collect();
    json!({"resultType": "matrix", "result": result})
}

fn series(db: &Tsdb, parameters: Parameters<'_>) -> Result<Json, Refusal> {
    if parameters.get("match[]").is_none() {
        return Err(Refusal::bad_data("no match[] parameter provided"));
    }
    Ok(matched(db, parameters)?.into_iter().map(metric).collect())
}

fn labels(db: &Tsdb, parameters: Parameters<'_>) -> Result<Json, Refusal> {
    let matched = matched(db, parameters)?;
    let names: BTreeSet<&str> = matched.iter().flat_map(|l| l.iter().map(|(k, _)| k)).collect();
    Ok(json!(names))
}

fn label_values(db: &Tsdb, parameters: Parameters<'_>, label: &str) -> Result<Json, Refusal> {
    let matched = matched(db, parameters)?;
    let values: BTreeSet<&str> =
        matched.iter().map(|l| l.get(label)).filter(|v| !v.is_empty()).collect();
    Ok(json!(values))
}

/// The series that any `match[]` selects; all without one.
fn matched<'a>(db: &'a Tsdb, parameters: Parameters<'_>) -> Result<BTreeSet<&'a Labels>, Refusal> {
    let mut selectors = Vec::new();
    for (_, text) in parameters.0.iter().filter(|(name, _)| name == "match[]") {
        match parser::parse(text) {
            Ok(Expr::VectorSelector(selector)) => selectors.push(selector),
            Ok(_) => {
                return Err(Refusal::bad_data(format!(
                    "invalid parameter \"match[]\": {text} is not a series selector"
                )));
            }
            Err(problem) => {
                return Err(Refusal::bad_data(format!("invalid parameter \"match[]\": {problem}")));
            }
        }
    }
    let from = parameters.time("start")?.unwrap_or(i64::MIN);
    let to = parameters.time("end")?.unwrap_or(i64::MAX);
    let selected = db.iter().filter(|(labels, points)| {
        let in_time = points.iter().any(|p| (from..=to).contains(&p.at_ms));
        in_time
            && (selectors.is_empty()
                || selectors.iter().any(|s| {
                    s.name.as_deref().is_none_or(|n| n == labels.get(NAME))
                        && s.matchers.matchers.iter().all(|m| m.is_match(labels.get(&m.name)))
                }))
    });
    Ok(selected.map(|(labels, _)| labels).collect())
}

fn metric(labels: &Labels) -> Json {
    labels.iter().map(|(k, v)| (k.to_owned(), Json::from(v))).collect()
}

fn pair(point: Point) -> Json {
    json!([seconds(point.at_ms), number(point.value)])
}

/// Seconds without a fraction where there is none, as Prometheus prints them.
fn seconds(at_ms: i64) -> Json {
    if at_ms % 1000 == 0 { json!(at_ms / 1000) } else { json!(at_ms as f64 / 1000.0) }
}

/// A sample value as text: the shortest digits that read back the same.
pub(super) fn number(value: f64) -> String {
    if value == f64::INFINITY {
        "+Inf".to_owned()
    } else if value == f64::NEG_INFINITY {
        "-Inf".to_owned()
    } else {
        value.to_string()
    }
}

/// What the router needs.
#[derive(Clone)]
struct Shared {
    engine: Engine,
    db: SharedTsdb,
    clock: Arc<dyn Clock>,
}

/// The API as an axum router over a shared store.
pub fn router(engine: Engine, db: SharedTsdb, clock: Arc<dyn Clock>) -> Router {
    Router::new().fallback(serve).with_state(Shared { engine, db, clock })
}

async fn serve(State(shared): State<Shared>, method: Method, uri: Uri, body: Bytes) -> Response {
    let text = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    match uri.path() {
        "/-/ready" => return (text, "Prometheus Server is Ready.\n").into_response(),
        "/-/healthy" => return (text, "Prometheus Server is Healthy.\n").into_response(),
        _ => {}
    }
    if method != Method::GET && method != Method::POST {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let mut parameters = form(uri.query().unwrap_or_default().as_bytes());
    if method == Method::POST {
        parameters.extend(form(&body));
    }
    let now_ms = shared.clock.now().as_millisecond();
    let answer = {
        let db = shared.db.read().unwrap_or_else(PoisonError::into_inner);
        respond(&shared.engine, &db, uri.path(), &parameters, now_ms)
    };
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, axum::Json(answer.body)).into_response()
}

/// Decodes `a=b&c=d` with percent escapes and `+`.
pub(crate) fn form(bytes: &[u8]) -> Vec<(String, String)> {
    bytes
        .split(|b| *b == b'&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let mut halves = pair.splitn(2, |b| *b == b'=');
            let mut half = || unescape(halves.next().unwrap_or_default());
            (half(), half())
        })
        .collect()
}

fn unescape(bytes: &[u8]) -> String {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'+', _) => decoded.push(b' '),
            (b'%', [high, low, after @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    decoded.push(high * 16 + low);
                    rest = after;
                }
                _ => decoded.push(b'%'),
            },
            _ => decoded.push(*first),
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|d| u8::try_from(d).ok())
}
