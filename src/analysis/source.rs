//! Where a metric is asked: the provider stanza, checked. Only Prometheus for now; every other
//! provider is refused by name.

use jiff::SignedDuration;

use super::metric::{SpecError, wrong};
use crate::api::provider::{Prometheus, Provider};

/// Seconds a query may take at most, whatever the template says.
const MAX_TIMEOUT: i64 = 300;

/// A metric server as a template names it.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// The MetricProvider or ClusterMetricProvider, by name.
    pub named: Option<NamedProvider>,
    /// The server, when the template names it. Else that of `named`, else the controller's default.
    pub address: Option<String>,
    /// Headers sent along.
    pub headers: Vec<(String, String)>,
    /// A user name and a password.
    pub basic: Option<(String, String)>,
    /// The server's certificate is not verified.
    pub insecure: bool,
    /// How long a query may take.
    pub timeout: Option<SignedDuration>,
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
    if let Some(other) = kinds.iter().find(|kind| **kind != "prometheus") {
        return Err(SpecError::Unsupported {
            path: format!("{path}.{other}"),
            remedy: "only prometheus is; ask its exporter or keep this metric elsewhere".to_owned(),
        });
    }
    let Some(prometheus) = &provider.prometheus else {
        let message = "no provider specified: write prometheus: {query: ...} next to ref";
        return Err(wrong(path, message));
    };
    let path = format!("{path}.prometheus");
    let mut source = read_prometheus(prometheus, &path)?;
    source.named =
        provider.ref_.clone().map(|name| NamedProvider { name, cluster: provider.cluster_scope });
    if source.named.is_some() && (source.address.is_some() || source.basic.is_some()) {
        let message = "address and authentication come from ref: leave out one of the two";
        return Err(wrong(path, message));
    }
    match prometheus.query.as_deref().map(str::trim) {
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

fn read_prometheus(prometheus: &Prometheus, path: &str) -> Result<Source, SpecError> {
    let Prometheus { address, query: _, authentication, timeout, insecure, headers, range_query } =
        prometheus;
    let unsupported = |field: &str, remedy: &str| SpecError::Unsupported {
        path: format!("{path}.{field}"),
        remedy: remedy.to_owned(),
    };
    if range_query.is_some() {
        let remedy = "use an instant query with a window, for example max_over_time(x[5m])";
        return Err(unsupported("rangeQuery", remedy));
    }
    let mut basic = None;
    if let Some(auth) = authentication {
        let remedy = "use basicAuth, or a header with a token";
        if auth.oauth2.is_some() {
            return Err(unsupported("authentication.oauth2", remedy));
        }
        if auth.sigv4.is_some() {
            return Err(unsupported("authentication.sigv4", remedy));
        }
        if let Some(given) = &auth.basic_auth {
            let part = |part: &Option<String>, field: &str| {
                part.clone().filter(|text| !text.is_empty()).ok_or_else(|| {
                    let message = format!(
                        "missing mandatory parameter in metric for basic auth setup: {field}"
                    );
                    wrong(format!("{path}.authentication.basicAuth"), message)
                })
            };
            basic = Some((part(&given.username, "username")?, part(&given.password, "password")?));
        }
    }
    let address = address.as_deref().map(str::trim).filter(|address| !address.is_empty());
    if address.is_some_and(|a| !a.starts_with("http://") && !a.starts_with("https://")) {
        let message = format!(
            "prometheus address is not is url format: {:?} needs a scheme, as in \
             http://prometheus.monitoring:9090",
            address.unwrap_or_default()
        );
        return Err(wrong(format!("{path}.address"), message));
    }
    let timeout = match timeout {
        None => None,
        Some(seconds @ 1..=MAX_TIMEOUT) => Some(SignedDuration::from_secs(*seconds)),
        Some(seconds) => {
            let message = format!("{seconds} is not between 1 and {MAX_TIMEOUT} seconds");
            return Err(wrong(format!("{path}.timeout"), message));
        }
    };
    Ok(Source {
        named: None,
        address: address.map(str::to_owned),
        headers: headers.iter().map(|h| (h.key.clone(), h.value.clone())).collect(),
        basic,
        insecure: *insecure,
        timeout,
    })
}
