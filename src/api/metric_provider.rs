//! `MetricProvider` and `ClusterMetricProvider`: a metric server with its credentials and limits,
//! named by `provider.ref`.
//!
//! Credentials are Secret references and are read in the provider's own namespace (for the
//! cluster's: the controller's), so that a template never sees one.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{DurationSpec, SecretKeyRef};
use super::provider::WebHeader;
use super::schema;

/// A metric server.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "sluice.dev",
    version = "v1beta1",
    kind = "MetricProvider",
    plural = "metricproviders",
    shortname = "smp",
    namespaced,
    derive = "PartialEq",
    derive = "Default",
    category = "sluice",
    printcolumn = r#"{"name":"Type","type":"string","jsonPath":".spec.type"}"#,
    printcolumn = r#"{"name":"Address","type":"string","jsonPath":".spec.address"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct MetricProviderSpec {
    /// What it speaks. Default `Prometheus`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "Prometheus"))]
    pub type_: Option<ProviderType>,
    /// Scheme, host and path prefix, for example `http://prometheus.monitoring:9090`.
    #[schemars(schema_with = "schema::address")]
    pub address: String,
    /// Credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<ProviderAuth>,
    /// How the server's certificate is verified and ours is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ProviderTls>,
    /// Headers sent along, for example `X-Scope-OrgID`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub headers: Vec<WebHeader>,
    /// How long a query may take. Default 30 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<DurationSpec>,
    /// What the server can be asked to bear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<ProviderLimits>,
}

/// The same for the whole cluster.
#[derive(CustomResource, JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "sluice.dev",
    version = "v1beta1",
    kind = "ClusterMetricProvider",
    plural = "clustermetricproviders",
    shortname = "scmp",
    derive = "PartialEq",
    derive = "Default",
    category = "sluice",
    printcolumn = r#"{"name":"Type","type":"string","jsonPath":".spec.type"}"#,
    printcolumn = r#"{"name":"Address","type":"string","jsonPath":".spec.address"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(transparent)]
pub struct ClusterMetricProviderSpec(pub MetricProviderSpec);

/// What a metric server speaks.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProviderType {
    /// Prometheus' HTTP API.
    #[default]
    Prometheus,
    /// Any JSON.
    Web,
    /// Datadog.
    Datadog,
    /// New Relic.
    NewRelic,
    /// Wavefront.
    Wavefront,
    /// CloudWatch.
    CloudWatch,
    /// Graphite.
    Graphite,
    /// InfluxDB.
    Influxdb,
    /// Apache SkyWalking.
    Skywalking,
    /// Sluice's HTTP protocol for metric plugins.
    Plugin,
}

/// Credentials: at most one of its fields.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[x_kube(
    validation = Rule::new(
        "[has(self.bearer), has(self.basic), has(self.oauth2), \
         has(self.sigv4), has(self.headers)].filter(x, x).size() <= 1"
    )
    .message(
        "must have at most one of bearer, basic, oauth2, sigv4 and headers"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct ProviderAuth {
    /// A bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer: Option<SecretKeyRef>,
    /// A user name and a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic: Option<BasicAuthRef>,
    /// OAuth2's client credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oauth2: Option<OAuth2Ref>,
    /// AWS' request signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sigv4: Option<SigV4Ref>,
    /// Headers that hold keys, such as Datadog's `DD-API-KEY` and `DD-APPLICATION-KEY`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub headers: Vec<HeaderRef>,
}

/// A header whose value is a Secret's.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HeaderRef {
    /// Name.
    #[schemars(length(min = 1, max = 256))]
    pub key: String,
    /// Where its value is.
    pub value_from: SecretKeyRef,
}

/// AWS' request signature: with an access key, a profile, or the controller's own identity.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[x_kube(
    validation = Rule::new(
        "has(self.accessKeyId) == has(self.secretAccessKey)"
    )
    .message(
        "must have both of accessKeyId and secretAccessKey, or none"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct SigV4Ref {
    /// Region.
    #[schemars(length(min = 1, max = 64))]
    pub region: String,
    /// Profile of the controller's shared credentials file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Role that is assumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role_arn: Option<String>,
    /// The access key's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<SecretKeyRef>,
    /// The access key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_access_key: Option<SecretKeyRef>,
}

/// A user name and a password.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct BasicAuthRef {
    /// The user.
    #[schemars(length(min = 1, max = 256))]
    pub username: String,
    /// The password.
    pub password: SecretKeyRef,
}

/// OAuth2's client credentials.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct OAuth2Ref {
    /// Where tokens are asked for.
    #[schemars(schema_with = "schema::address")]
    pub token_url: String,
    /// The client.
    #[schemars(length(min = 1, max = 256))]
    pub client_id: String,
    /// Its secret.
    pub client_secret: SecretKeyRef,
    /// Scopes asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub scopes: Vec<String>,
}

/// TLS towards the server.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[x_kube(
    validation = Rule::new(
        "has(self.cert) == has(self.key)"
    )
    .message(
        "must have both of cert and key, or none"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct ProviderTls {
    /// The certificate authority, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<SecretKeyRef>,
    /// Our certificate, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert: Option<SecretKeyRef>,
    /// Its key, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<SecretKeyRef>,
    /// The name that the server is asked for (SNI) and that its certificate must carry, where it is not
    /// the address's: the connection and the `Host` header stay the address's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub server_name: Option<String>,
    /// True does not verify the server's certificate.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub insecure_skip_verify: bool,
}

/// What the server can be asked to bear.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ProviderLimits {
    /// Queries at a time. Default 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub concurrent: Option<i32>,
    /// Queries a second, after a burst of one second's worth. Default 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub per_second: Option<i32>,
    /// Largest answer in bytes. Default 16 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1024))]
    pub response_bytes: Option<i64>,
}
