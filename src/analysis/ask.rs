//! The questions of the providers other than Prometheus: their stanzas, checked, with Argo's
//! messages.
//!
//! A stanza whose schema is the vendor's is read strictly: a field that nobody knows is a mistake.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::metric::{SpecError, wrong};
use super::source::{
    Ask, MAX_TIMEOUT, NamedProvider, Source, read_headers, read_login, read_timeout,
};
use crate::api::DurationSpec;
use crate::api::common::Opaque;
use crate::api::provider::{Job, ObjectStatus, Web};
use crate::api::rollout::PodMetadata;

/// The window of Datadog and CloudWatch when nothing is said, as Argo.
const WINDOW: SignedDuration = SignedDuration::from_mins(5);

/// How long a web server and Datadog may take when nothing is said, as Argo.
const TIMEOUT: SignedDuration = SignedDuration::from_secs(10);

/// A request to a web server. The query's text is its address.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct WebAsk {
    /// `GET`, `POST` or `PUT`.
    pub method: String,
    /// The body.
    pub body: Option<String>,
    /// The body is JSON.
    pub json: bool,
    /// Where in the answer the result is; empty: all of it.
    pub json_path: String,
}

/// A question to Datadog. The query's text is the formula, or the one query.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct DatadogAsk {
    /// Version 2 of its API.
    pub v2: bool,
    /// The window.
    pub interval: SignedDuration,
    /// Queries by name.
    pub queries: BTreeMap<String, String>,
    /// The formula.
    pub formula: Option<String>,
    /// How a window becomes a number.
    pub aggregator: String,
    /// A Secret of the run's namespace with `api-key`, `app-key` and `address`.
    pub secret: Option<String>,
}

/// A Job. The query's text is its spec.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct JobAsk {
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
}

/// The state of an object. The query's text says which, in words.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectAsk {
    /// Group and version.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Plural, where it is not the kind's usual one.
    pub plural: Option<String>,
    /// Name, in the run's namespace.
    pub name: String,
    /// The condition that decides.
    pub condition: Option<String>,
    /// The status that it must have.
    pub status: String,
    /// Else where the result is.
    pub json_path: String,
}

fn opaque<T: DeserializeOwned>(stanza: &Opaque, path: &str) -> Result<T, SpecError> {
    serde_json::from_value(stanza.0.clone()).map_err(|e| wrong(path.to_owned(), e.to_string()))
}

fn window(text: &str, path: &str) -> Result<SignedDuration, SpecError> {
    if text.is_empty() {
        return Ok(WINDOW);
    }
    crate::spec::duration(&DurationSpec::Text(text.to_owned()))
        .filter(|window| window.is_positive())
        .ok_or_else(|| wrong(format!("{path}.interval"), format!("{text:?}: write 5m")))
}

/// A web stanza: whom it asks, and the address as text.
pub(super) fn web(web: &Web, named: bool, path: &str) -> Result<(Source, String), SpecError> {
    let Web {
        method,
        url,
        headers,
        body,
        json_body,
        timeout_seconds,
        json_path,
        insecure,
        authentication,
    } = web;
    let method = method.clone().filter(|m| !m.is_empty()).unwrap_or_else(|| "GET".to_owned());
    if !["GET", "POST", "PUT"].contains(&method.as_str()) {
        return Err(wrong(format!("{path}.method"), format!("{method:?}: write GET, POST or PUT")));
    }
    if body.is_some() && json_body.is_some() {
        let message = "use either Body or JSONBody; both cannot exists for WebMetric payload";
        return Err(wrong(path.to_owned(), message));
    }
    if method == "GET" && (body.is_some() || json_body.is_some()) {
        let message = "Body/JSONBody can only be used with POST or PUT WebMetric Method types";
        return Err(wrong(path.to_owned(), message));
    }
    let url = url.trim();
    if !url.starts_with("http://") && !url.starts_with("https://") {
        let message = format!("unsupported protocol scheme: {url:?}: write http:// or https://");
        return Err(wrong(format!("{path}.url"), message));
    }
    // 0 is Argo's word for nothing said. What a MetricProvider says is not overruled by a default.
    let seconds = timeout_seconds.filter(|seconds| *seconds != 0);
    let timeout = read_timeout(seconds, MAX_TIMEOUT, &format!("{path}.timeoutSeconds"))?;
    let source = Source {
        address: (!named).then(|| url.to_owned()),
        headers: read_headers(headers),
        login: read_login(authentication.as_ref(), &format!("{path}.authentication"))?,
        insecure: *insecure,
        timeout: timeout.or((!named).then_some(TIMEOUT)),
        ask: Ask::Web(WebAsk {
            method,
            json: json_body.is_some(),
            body: json_body.as_ref().map(|json| json.0.to_string()).or_else(|| body.clone()),
            json_path: json_path.clone().unwrap_or_default(),
        }),
        ..Source::default()
    };
    Ok((source, url.to_owned()))
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct DatadogStanza {
    interval: String,
    query: String,
    queries: BTreeMap<String, String>,
    formula: String,
    api_version: String,
    aggregator: String,
    secret_ref: SecretStanza,
    request_timeout: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct SecretStanza {
    name: String,
    namespaced: bool,
}

/// Datadog's words for how a window becomes one number.
const AGGREGATORS: [&str; 9] =
    ["avg", "min", "max", "sum", "last", "percentile", "mean", "l2norm", "area"];

fn request_timeout(text: Option<String>, path: &str) -> Result<Option<SignedDuration>, SpecError> {
    let timeout = text.map(DurationSpec::Text);
    let timeout = timeout.as_ref().and_then(crate::spec::duration).filter(|t| t.is_positive());
    match timeout {
        Some(timeout) if timeout > SignedDuration::from_secs(MAX_TIMEOUT) => {
            let message = format!("is above {MAX_TIMEOUT} seconds: write less");
            Err(wrong(format!("{path}.requestTimeout"), message))
        }
        timeout => Ok(timeout),
    }
}

/// A Datadog stanza. Without `ref` and `secretRef` it asks the ClusterMetricProvider `datadog`,
/// which is where Argo's Secret of that name in the controller's namespace belongs.
pub(super) fn datadog(
    stanza: &Opaque,
    named: bool,
    path: &str,
) -> Result<(Source, String), SpecError> {
    let stanza: DatadogStanza = opaque(stanza, path)?;
    let refuse = |message: &str| Err(wrong(path.to_owned(), message));
    let v2 = match stanza.api_version.to_lowercase().as_str() {
        "" | "v1" => false,
        "v2" => true,
        other => return refuse(&format!("unsupported apiVersion {other:?}: write v1 or v2")),
    };
    let queries = !stanza.queries.is_empty();
    if stanza.query.is_empty() && !queries {
        return refuse("Must have either a query or queries: write query");
    }
    if !stanza.query.is_empty() && queries {
        return refuse("Cannot have both a query and queries: leave out one of the two");
    }
    if !v2 && (queries || !stanza.formula.is_empty() || !stanza.aggregator.is_empty()) {
        return refuse("queries, formula and aggregator need apiVersion: v2");
    }
    if stanza.queries.len() > 1 && stanza.formula.is_empty() {
        return refuse("When multiple queries are specified you must include a formula");
    }
    if !stanza.formula.is_empty() && !queries {
        return refuse("Formula are only valid when queries are set");
    }
    let aggregator = match stanza.aggregator.as_str() {
        "" => "last",
        known if AGGREGATORS.contains(&known) => known,
        other => {
            let known = AGGREGATORS.join(", ");
            return refuse(&format!("aggregator {other:?}: write one of {known}"));
        }
    };
    let SecretStanza { name, namespaced } = stanza.secret_ref;
    if named && !name.is_empty() {
        return refuse("credentials come from ref: leave out secretRef");
    }
    let timeout = request_timeout(stanza.request_timeout, path)?;
    let secret = Some(name.clone()).filter(|name| namespaced && !name.is_empty());
    let shared = if name.is_empty() { "datadog".to_owned() } else { name };
    let cluster = Some(NamedProvider { name: shared, cluster: true });
    let text = match (stanza.formula.is_empty(), stanza.query.is_empty()) {
        (false, _) => stanza.formula.clone(),
        (true, false) => stanza.query.clone(),
        (true, true) => stanza.queries.values().next().cloned().unwrap_or_default(),
    };
    let named_queries = match queries {
        true => stanza.queries,
        false => BTreeMap::from([("query".to_owned(), stanza.query)]),
    };
    // Nothing but the stanza says how it is asked.
    let alone = !named && secret.is_some();
    let source = Source {
        named: if named || secret.is_some() { None } else { cluster },
        timeout: timeout.or(alone.then_some(TIMEOUT)),
        ask: Ask::Datadog(DatadogAsk {
            v2,
            interval: window(&stanza.interval, path)?,
            queries: named_queries,
            formula: Some(stanza.formula).filter(|formula| !formula.is_empty()),
            aggregator: aggregator.to_owned(),
            secret,
        }),
        ..Source::default()
    };
    Ok((source, text))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CloudWatchStanza {
    #[serde(default)]
    interval: String,
    metric_data_queries: Vec<Value>,
}

/// A CloudWatch stanza. The text is the queries as JSON, in the API's own spelling.
pub(super) fn cloud_watch(stanza: &Opaque, path: &str) -> Result<(Source, String), SpecError> {
    let CloudWatchStanza { interval, metric_data_queries } = opaque(stanza, path)?;
    if metric_data_queries.is_empty() {
        let message = "a query is needed: write {id, expression} or {id, metricStat}";
        return Err(wrong(format!("{path}.metricDataQueries"), message));
    }
    let queries: Vec<Value> = metric_data_queries.into_iter().map(capital).collect();
    let window = window(&interval, path)?;
    let source = Source { ask: Ask::CloudWatch { window }, ..Source::default() };
    Ok((source, Value::Array(queries).to_string()))
}

/// Every key with a capital letter, and numbers that were written as text as numbers.
fn capital(value: Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.into_iter().map(capital).collect()),
        Value::Object(fields) => {
            let field = |(name, field): (String, Value)| {
                let field = match (name.as_str(), field.as_str().map(str::parse::<i64>)) {
                    ("period", Some(Ok(number))) => Value::from(number),
                    _ => capital(field),
                };
                let mut letters = name.chars();
                let first = letters.next().map(|c| c.to_ascii_uppercase());
                (first.into_iter().chain(letters).collect::<String>(), field)
            };
            Value::Object(fields.into_iter().map(field).collect())
        }
        other => other,
    }
}

/// A Job stanza. The text is its spec as JSON.
pub(super) fn job(job: &Job, path: &str) -> Result<(Source, String), SpecError> {
    let Job { metadata, spec } = job;
    if spec.0.pointer("/template/spec").is_none() {
        let message = "a Job needs template.spec, with containers and restartPolicy: Never";
        return Err(wrong(format!("{path}.spec"), message));
    }
    let PodMetadata { labels, annotations } = metadata.clone().unwrap_or_default();
    let ask = Ask::Job(JobAsk { labels, annotations });
    Ok((Source { ask, ..Source::default() }, spec.0.to_string()))
}

/// A stanza for the state of an object.
pub(super) fn object(stanza: &ObjectStatus) -> (Source, String) {
    let ObjectStatus { api_version, kind, plural, name, condition, status, json_path } = stanza;
    let ask = Ask::Object(ObjectAsk {
        api_version: api_version.clone(),
        kind: kind.clone(),
        plural: plural.clone(),
        name: name.clone(),
        condition: condition.clone(),
        status: status.clone().unwrap_or_else(|| "True".to_owned()),
        json_path: json_path.clone().unwrap_or_default(),
    });
    let part = match condition {
        Some(condition) => format!("condition {condition}"),
        None => json_path.clone().unwrap_or_else(|| "all of it".to_owned()),
    };
    (Source { ask, ..Source::default() }, format!("{kind}/{name}: {part}"))
}

/// A plugin stanza: its one key is the plugin's name, the text is its configuration.
pub(super) fn plugin(
    stanza: &BTreeMap<String, Opaque>,
    named: bool,
    path: &str,
) -> Result<(Source, String), SpecError> {
    let mut all = stanza.iter();
    let (Some((name, config)), None) = (all.next(), all.next()) else {
        return Err(wrong(path.to_owned(), "multiple providers specified: name one plugin"));
    };
    if !named {
        let message = format!(
            "the plugin {name:?} needs a server: name a MetricProvider of type Plugin by \
             provider.ref"
        );
        return Err(wrong(path.to_owned(), message));
    }
    let source = Source { ask: Ask::Plugin { name: name.clone() }, ..Source::default() };
    Ok((source, config.0.to_string()))
}
