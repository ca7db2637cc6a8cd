//! Where a metric's numbers come from: Argo's providers by their own field names, plus `ref`.
//!
//! `prometheus`, `web`, `job` and `object` are typed; the others are kept as they were written, and
//! read by their clients, so that nothing is lost on the way.

use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::common::Opaque;
use super::schema;

/// Exactly one provider, or `ref` with at most one.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[x_kube(
    validation = Rule::new(
        "has(self.ref) || [has(self.prometheus), has(self.web), has(self.job), \
         has(self.object), has(self.datadog), has(self.newRelic), has(self.wavefront), \
         has(self.cloudWatch), has(self.graphite), has(self.influxdb), \
         has(self.kayenta), has(self.skywalking), has(self.plugin)].filter(x, \
         x).size() > 0"
    )
    .message(
        "no provider specified; write for example prometheus: {query: ...}"
    ),
    validation = Rule::new(
        "[has(self.prometheus), has(self.web), has(self.job), has(self.object), \
         has(self.datadog), has(self.newRelic), has(self.wavefront), has(self.cloudWatch), \
         has(self.graphite), has(self.influxdb), has(self.kayenta), \
         has(self.skywalking), has(self.plugin)].filter(x, x).size() <= 1"
    )
    .message(
        "multiple providers specified; a metric has one"
    ),
    validation = Rule::new(
        "!has(self.clusterScope) || !self.clusterScope || has(self.ref)"
    )
    .message(
        "clusterScope needs ref"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct Provider {
    /// Added: the name of a `MetricProvider` that holds address and credentials.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::object_name")]
    pub ref_: Option<String>,
    /// Added: `ref` names a `ClusterMetricProvider`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cluster_scope: bool,
    /// Prometheus and whatever answers its HTTP API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<Prometheus>,
    /// Any HTTP server that answers JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub web: Option<Web>,
    /// A Kubernetes Job: its end is the measurement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<Job>,
    /// Added: the state of any object in the run's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<ObjectStatus>,
    /// Datadog: `interval`, `query`, `queries`, `formula`, `apiVersion`, `aggregator`, `secretRef`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datadog: Option<Opaque>,
    /// New Relic: `profile`, `query`, `timeout`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_relic: Option<Opaque>,
    /// Wavefront: `address`, `query`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wavefront: Option<Opaque>,
    /// CloudWatch: `interval`, `metricDataQueries`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud_watch: Option<Opaque>,
    /// Graphite: `address`, `query`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graphite: Option<Opaque>,
    /// InfluxDB: `profile`, `query`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub influxdb: Option<Opaque>,
    /// Kayenta: `address`, `application`, `canaryConfigName`, `scopes`, `threshold` and the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kayenta: Option<Opaque>,
    /// Apache SkyWalking: `address`, `query`, `interval`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skywalking: Option<Opaque>,
    /// Argo's metric plugins, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 1))]
    pub plugin: BTreeMap<String, Opaque>,
}

/// A PromQL query.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Prometheus {
    /// The server, with scheme and host. Absent: that of `ref`, or the controller's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::address")]
    pub address: Option<String>,
    /// PromQL. Absent only in a metric with `compare`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::query")]
    pub query: Option<String>,
    /// Credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication: Option<Authentication>,
    /// Seconds a query may take. Default 30.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 3600))]
    pub timeout: Option<i64>,
    /// True does not verify the server's certificate.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub insecure: bool,
    /// Headers sent along.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub headers: Vec<WebHeader>,
    /// A range query: every point of every series becomes one list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range_query: Option<RangeQuery>,
}

/// The range of a range query.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RangeQuery {
    /// An expression for its start, for example `now() - duration("5m")`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub start: Option<String>,
    /// An expression for its end, for example `now()`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub end: Option<String>,
    /// The distance between points, for example `15s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub step: Option<String>,
}

/// A header. The value may hold `{{args.NAME}}`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct WebHeader {
    /// Name.
    #[schemars(length(min = 1, max = 256))]
    pub key: String,
    /// Value.
    #[schemars(length(max = 4096))]
    pub value: String,
}

/// Credentials of a provider that is written inline: at most one of its fields.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[x_kube(
    validation = Rule::new(
        "[has(self.basicAuth), has(self.oauth2), has(self.sigv4)].filter(x, \
         x).size() <= 1"
    )
    .message(
        "must have at most one of basicAuth, oauth2 and sigv4"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct Authentication {
    /// A user name and a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic_auth: Option<BasicAuth>,
    /// OAuth2's client credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oauth2: Option<OAuth2>,
    /// AWS' request signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sigv4: Option<SigV4>,
}

/// A user name and a password; both may hold `{{args.NAME}}`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct BasicAuth {
    /// The user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
}

/// OAuth2's client credentials.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct OAuth2 {
    /// Where tokens are asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_url: Option<String>,
    /// The client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// Its secret; may hold `{{args.NAME}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<String>,
    /// Scopes asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub scopes: Vec<String>,
}

/// AWS' request signature.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SigV4 {
    /// Region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role_arn: Option<String>,
}

/// A request whose JSON answer is the result.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[x_kube(
    validation = Rule::new(
        "!has(self.body) || !has(self.jsonBody)"
    )
    .message(
        "must have at most one of body and jsonBody"
    ),
    validation = Rule::new(
        "(!has(self.body) && !has(self.jsonBody)) || (has(self.method) && \
         self.method in ['POST', 'PUT'])"
    )
    .message(
        "body and jsonBody need method POST or PUT"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct Web {
    /// `GET` (default), `POST` or `PUT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^(GET|POST|PUT)$"), length(max = 4), extend("default" = "GET"))]
    pub method: Option<String>,
    /// The address.
    #[schemars(schema_with = "schema::address")]
    pub url: String,
    /// Headers; they replace all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub headers: Vec<WebHeader>,
    /// The body. Not with `jsonBody`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16384))]
    pub body: Option<String>,
    /// The body as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json_body: Option<Opaque>,
    /// Seconds the request may take. Default 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<i64>,
    /// A JSONPath such as `{$.data.ok}`. Absent: the whole answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub json_path: Option<String>,
    /// True does not verify the server's certificate.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub insecure: bool,
    /// Credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication: Option<Authentication>,
}

/// A Kubernetes Job whose end is the measurement.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    /// Labels and annotations of the Job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<super::rollout::PodMetadata>,
    /// A `batch/v1` JobSpec.
    pub spec: Opaque,
}

/// The state of an object in the run's namespace: a condition, or a part of its JSON.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[x_kube(
    validation = Rule::new("has(self.condition) != has(self.jsonPath)")
        .message("must have one of condition and jsonPath"),
    validation = Rule::new("!has(self.status) || has(self.condition)")
        .message("status needs condition")
)]
#[serde(rename_all = "camelCase")]
pub struct ObjectStatus {
    /// Group and version, such as `apps/v1`.
    #[schemars(length(min = 1, max = 253))]
    pub api_version: String,
    /// Kind, such as `Deployment`.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Plural, where it is not the usual one of the kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub plural: Option<String>,
    /// Its name; may hold `{{args.NAME}}`.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The type of the condition that decides: no `successCondition` is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 316))]
    pub condition: Option<String>,
    /// The status that the condition must have. Default `True`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^(True|False|Unknown)$"), length(max = 7), extend("default" = "True"))]
    pub status: Option<String>,
    /// A JSONPath whose first match is the result, for example `{.status.readyReplicas}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub json_path: Option<String>,
}
