//! Where a metric is asked: the provider stanza, checked. A provider without a client is refused by
//! name.
//!
//! With `ref` the address and the credentials are the MetricProvider's, and the template cannot
//! send them elsewhere or turn the check of the server's certificate off.

use std::collections::BTreeMap;
use std::fmt;

use jiff::SignedDuration;

use super::ask::{self, DatadogAsk, JobAsk, ObjectAsk, WebAsk};
use super::metric::{SpecError, wrong};
use super::range::RangeTime;
use crate::api::DurationSpec;
use crate::api::provider::{Authentication, Prometheus, Provider, RangeQuery, WebHeader};

/// Seconds a request may take at most, whatever the template says.
pub(super) const MAX_TIMEOUT: i64 = 300;

/// Seconds that Prometheus may take at most: Argo has no bound.
const LONGEST_QUERY: i64 = 3_600;

/// A metric server as a template names it.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// The MetricProvider or ClusterMetricProvider, by name.
    pub named: Option<NamedProvider>,
    /// The server, when the template names it. Else that of `named`, else the controller's default.
    pub address: Option<String>,
    /// Headers sent along.
    pub headers: Vec<(String, String)>,
    /// Credentials that the template writes itself.
    pub login: Login,
    /// The server's certificate is not verified.
    pub insecure: bool,
    /// How long a query may take.
    pub timeout: Option<SignedDuration>,
    /// What kind of question it is.
    pub ask: Ask,
}

/// Credentials written inline. They are never printed.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Login {
    /// None.
    #[default]
    None,
    /// A user name and a password.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// OAuth2's client credentials.
    OAuth2 {
        /// Where tokens are asked for.
        token_url: String,
        /// The client.
        client_id: String,
        /// Its secret.
        client_secret: String,
        /// Scopes.
        scopes: Vec<String>,
    },
    /// AWS' signature with the controller's own identity.
    SigV4 {
        /// The region; empty: that of the address, or the controller's own.
        region: String,
        /// A profile of the shared credentials file.
        profile: Option<String>,
        /// A role to assume.
        role_arn: Option<String>,
    },
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Basic { .. } => "Basic(..)",
            Self::OAuth2 { .. } => "OAuth2(..)",
            Self::SigV4 { .. } => "SigV4(..)",
        })
    }
}

/// What kind of question a query's text is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ask {
    /// PromQL, at one instant or over a range.
    Prometheus {
        /// The range.
        range: Option<Range>,
    },
    /// A request to a web server; the text is its address.
    Web(WebAsk),
    /// Datadog.
    Datadog(DatadogAsk),
    /// CloudWatch; the text is its queries as JSON.
    CloudWatch {
        /// The window.
        window: SignedDuration,
    },
    /// A Kubernetes Job; the text is its spec as JSON.
    Job(JobAsk),
    /// The state of an object.
    Object(ObjectAsk),
    /// A plugin; the text is its configuration as JSON.
    Plugin {
        /// The plugin's name.
        name: String,
    },
}

impl Ask {
    /// A question that can be asked twice, or once for two, without any other effect.
    #[must_use]
    pub fn is_pure(&self) -> bool {
        match self {
            Self::Prometheus { .. } | Self::Datadog(_) | Self::CloudWatch { .. } => true,
            Self::Web(web) => web.method == "GET",
            Self::Job(_) | Self::Object(_) | Self::Plugin { .. } => false,
        }
    }

    /// How the same server is asked for the number of events behind an answer, by this text: at one
    /// instant, and in the whole window.
    #[must_use]
    pub(super) fn counting(&self, text: &str) -> Self {
        match self {
            Self::Prometheus { range: _ } => Self::default(),
            Self::Datadog(ask) => Self::Datadog(DatadogAsk {
                queries: BTreeMap::from([("query".to_owned(), text.to_owned())]),
                formula: None,
                aggregator: "sum".to_owned(),
                ..ask.clone()
            }),
            other => other.clone(),
        }
    }

    /// A range query.
    #[must_use]
    pub fn is_range(&self) -> bool {
        matches!(self, Self::Prometheus { range: Some(_) })
    }
}

impl Default for Ask {
    fn default() -> Self {
        Self::Prometheus { range: None }
    }
}

/// A range query's range.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Range {
    /// Its start.
    pub start: RangeTime,
    /// Its end.
    pub end: RangeTime,
    /// The distance between points.
    pub step: SignedDuration,
}

/// A MetricProvider by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamedProvider {
    /// Its name.
    pub name: String,
    /// It is a ClusterMetricProvider; else it is in the run's namespace.
    pub cluster: bool,
}

/// Reads a provider stanza: the source and the query.
pub(crate) fn read(provider: Option<&Provider>, path: &str) -> Result<(Source, String), SpecError> {
    let path = format!("{path}.provider");
    let Some(provider) = provider else {
        return Err(wrong(path, "no provider specified"));
    };
    let kinds = kinds(provider);
    if kinds.len() > 1 {
        let message = format!("multiple providers specified: {}", kinds.join(", "));
        return Err(wrong(path, message));
    }
    let named = provider.ref_.is_some();
    let below = |kind: &str| format!("{path}.{kind}");
    let (mut source, text) = match kinds.first().copied() {
        None => {
            let message = "no provider specified: write prometheus: {query: ...} next to ref";
            return Err(wrong(path, message));
        }
        Some("prometheus") => {
            let stanza = provider.prometheus.clone().unwrap_or_default();
            prometheus(&stanza, &below("prometheus"))?
        }
        Some("web") => ask::web(&provider.web.clone().unwrap_or_default(), named, &below("web"))?,
        Some("job") => ask::job(&provider.job.clone().unwrap_or_default(), &below("job"))?,
        Some("datadog") => {
            let stanza = provider.datadog.clone().unwrap_or_default();
            ask::datadog(&stanza, named, &below("datadog"))?
        }
        Some("cloudWatch") => {
            let stanza = provider.cloud_watch.clone().unwrap_or_default();
            ask::cloud_watch(&stanza, &below("cloudWatch"))?
        }
        Some("object") => ask::object(&provider.object.clone().unwrap_or_default()),
        Some("plugin") => ask::plugin(&provider.plugin, named, &below("plugin"))?,
        Some(other) => {
            return Err(SpecError::Unsupported {
                path: below(other),
                remedy: "ask it through a plugin or by web, or export its metrics to Prometheus"
                    .to_owned(),
            });
        }
    };
    if let Some(name) = provider.ref_.clone() {
        if matches!(source.ask, Ask::Job(_) | Ask::Object(_)) {
            let message = "this provider is the cluster itself: leave out ref";
            return Err(wrong(format!("{path}.ref"), message));
        }
        source.named = Some(NamedProvider { name, cluster: provider.cluster_scope });
    }
    check_ref(&source, named, &path)?;
    Ok((source, text))
}

fn prometheus(stanza: &Prometheus, path: &str) -> Result<(Source, String), SpecError> {
    let source = read_prometheus(stanza, path)?;
    match stanza.query.as_deref().map(str::trim) {
        Some(query) if !query.is_empty() => Ok((source, query.to_owned())),
        _ => Err(wrong(format!("{path}.query"), "a query is needed: write PromQL")),
    }
}

fn kinds(provider: &Provider) -> Vec<&'static str> {
    let Provider {
        ref_: _,
        cluster_scope: _,
        prometheus,
        web,
        job,
        object,
        datadog,
        new_relic,
        wavefront,
        cloud_watch,
        graphite,
        influxdb,
        kayenta,
        skywalking,
        plugin,
    } = provider;
    let given = [
        (prometheus.is_some(), "prometheus"),
        (web.is_some(), "web"),
        (job.is_some(), "job"),
        (object.is_some(), "object"),
        (datadog.is_some(), "datadog"),
        (new_relic.is_some(), "newRelic"),
        (wavefront.is_some(), "wavefront"),
        (cloud_watch.is_some(), "cloudWatch"),
        (graphite.is_some(), "graphite"),
        (influxdb.is_some(), "influxdb"),
        (kayenta.is_some(), "kayenta"),
        (skywalking.is_some(), "skywalking"),
        (!plugin.is_empty(), "plugin"),
    ];
    given.into_iter().filter_map(|(given, kind)| given.then_some(kind)).collect()
}

/// What `ref` holds cannot be written a second time.
fn check_ref(source: &Source, named: bool, path: &str) -> Result<(), SpecError> {
    let twice = source.address.is_some() || source.login != Login::None || source.insecure;
    if named && twice {
        let message =
            "address, authentication and insecure come from ref: leave out one of the two";
        return Err(wrong(path.to_owned(), message));
    }
    Ok(())
}

fn read_prometheus(prometheus: &Prometheus, path: &str) -> Result<Source, SpecError> {
    let Prometheus { address, query: _, authentication, timeout, insecure, headers, range_query } =
        prometheus;
    let range = range_query.as_ref();
    let range = range.map(|range| read_range(range, &format!("{path}.rangeQuery"))).transpose()?;
    let address = address.as_deref().map(str::trim).filter(|address| !address.is_empty());
    if address.is_some_and(|a| !a.starts_with("http://") && !a.starts_with("https://")) {
        let message = format!(
            "prometheus address is not is url format: {:?} needs a scheme, as in \
             http://prometheus.monitoring:9090",
            address.unwrap_or_default()
        );
        return Err(wrong(format!("{path}.address"), message));
    }
    Ok(Source {
        named: None,
        address: address.map(str::to_owned),
        headers: read_headers(headers),
        login: read_login(authentication.as_ref(), &format!("{path}.authentication"))?,
        insecure: *insecure,
        // Zero is none of its own.
        timeout: read_timeout(
            timeout.filter(|seconds| *seconds != 0),
            LONGEST_QUERY,
            &format!("{path}.timeout"),
        )?,
        ask: Ask::Prometheus { range },
    })
}

pub(super) fn read_headers(headers: &[WebHeader]) -> Vec<(String, String)> {
    headers.iter().map(|header| (header.key.clone(), header.value.clone())).collect()
}

pub(super) fn read_timeout(
    seconds: Option<i64>,
    most: i64,
    path: &str,
) -> Result<Option<SignedDuration>, SpecError> {
    match seconds {
        None => Ok(None),
        Some(seconds) if (1..=most).contains(&seconds) => {
            Ok(Some(SignedDuration::from_secs(seconds)))
        }
        Some(seconds) => {
            let message = format!("{seconds} is not between 1 and {most} seconds");
            Err(wrong(path.to_owned(), message))
        }
    }
}

/// A part that must be there.
fn needed(part: &Option<String>, path: &str, message: &str) -> Result<String, SpecError> {
    let part = part.as_deref().map(str::trim).filter(|text| !text.is_empty());
    part.map(str::to_owned).ok_or_else(|| wrong(path.to_owned(), message))
}

pub(super) fn read_login(auth: Option<&Authentication>, path: &str) -> Result<Login, SpecError> {
    let Some(Authentication { basic_auth, oauth2, sigv4 }) = auth else { return Ok(Login::None) };
    let given =
        [basic_auth.is_some(), oauth2.is_some(), sigv4.is_some()].iter().filter(|g| **g).count();
    if given > 1 {
        return Err(wrong(path.to_owned(), "must have at most one of basicAuth, oauth2 and sigv4"));
    }
    if let Some(basic) = basic_auth {
        let path = format!("{path}.basicAuth");
        let part = |part: &Option<String>, field: &str| {
            let what = "missing mandatory parameter in metric for basic auth setup";
            needed(part, &path, &format!("{what}: {field}"))
        };
        let user = part(&basic.username, "username")?;
        return Ok(Login::Basic { user, password: part(&basic.password, "password")? });
    }
    if let Some(oauth2) = oauth2 {
        let path = format!("{path}.oauth2");
        let part = |part: &Option<String>, field: &str| {
            let what = "missing mandatory parameter in metric for OAuth2 setup";
            needed(part, &path, &format!("{what}: {field}"))
        };
        return Ok(Login::OAuth2 {
            token_url: part(&oauth2.token_url, "tokenUrl")?,
            client_id: part(&oauth2.client_id, "clientId")?,
            client_secret: part(&oauth2.client_secret, "clientSecret")?,
            scopes: oauth2.scopes.clone(),
        });
    }
    if let Some(sigv4) = sigv4 {
        return Ok(Login::SigV4 {
            region: sigv4.region.as_deref().unwrap_or_default().trim().to_owned(),
            profile: sigv4.profile.clone().filter(|text| !text.is_empty()),
            role_arn: sigv4.role_arn.clone().filter(|text| !text.is_empty()),
        });
    }
    Ok(Login::None)
}

fn read_range(range: &RangeQuery, path: &str) -> Result<Range, SpecError> {
    let RangeQuery { start, end, step } = range;
    let time = |text: &Option<String>, field: &str| {
        let path = format!("{path}.{field}");
        let text = needed(text, &path, "a time is needed, as in now() - duration(\"5m\")")?;
        RangeTime::parse(&text).map_err(|why| {
            wrong(path, format!("failed to parse rangeQuery.{field} as time: {text:?}: {why}"))
        })
    };
    let (start, end) = (time(start, "start")?, time(end, "end")?);
    let path = format!("{path}.step");
    let text = needed(step, &path, "a step is needed, as in 15s")?;
    let span = crate::spec::duration(&DurationSpec::Text(text.clone()));
    let step = span.filter(|span| span.is_positive()).ok_or_else(|| {
        wrong(path, format!("failed to parse rangeQuery.step as duration: {text:?}: write 15s"))
    })?;
    Ok(Range { start, end, step })
}
