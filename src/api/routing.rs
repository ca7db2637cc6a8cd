//! The traffic part of a Rollout: which Services and routes follow it, and which requests go where.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::DurationSpec;
use super::rollout::WorkloadRef;
use super::schema;

/// A Service and the routers in front of it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[x_kube(
    validation = Rule::new(
        "has(self.gateway) || has(self.ingress) || (has(self.customNetworkRefs) && \
         size(self.customNetworkRefs) > 0)"
    )
    .message(
        "must name at least one router; write gateway: {httpRouteName: NAME}"
    ),
    validation = schema::service_length()
)]
#[serde(rename_all = "camelCase")]
pub struct TrafficRoutingRef {
    /// The Service that selects the workload's pods.
    #[schemars(schema_with = "schema::label_name")]
    pub service: String,
    /// Seconds to wait after a change to a Service or route. Default 3 for Kruise; here a change is
    /// waited for until the router has accepted it, and this many seconds more. Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 3600))]
    pub grace_period_seconds: Option<i32>,
    /// Gateway API routes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<GatewayRef>,
    /// An Ingress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<IngressRef>,
    /// Objects of other routers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub custom_network_refs: Vec<WorkloadRef>,
}

/// Gateway API routes, in the Rollout's namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[x_kube(
    validation = Rule::new(
        "has(self.httpRouteName) || (has(self.httpRouteNames) && \
         size(self.httpRouteNames) > 0) || (has(self.grpcRouteNames) && \
         size(self.grpcRouteNames) > 0)"
    )
    .message(
        "must name a route; write httpRouteName: NAME"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct GatewayRef {
    /// One `HTTPRoute`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::object_name")]
    pub http_route_name: Option<String>,
    /// Several `HTTPRoutes`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::object_names")]
    pub http_route_names: Vec<String>,
    /// `GRPCRoutes`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::object_names")]
    pub grpc_route_names: Vec<String>,
    /// Only the rule of this name is split. Absent: every rule that names the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::object_name")]
    pub rule_name: Option<String>,
}

/// An Ingress of a known class.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct IngressRef {
    /// `nginx` (default), `higress`, `aliyun-alb`, `mse` or one with a script of yours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub class_type: Option<String>,
    /// Name.
    #[schemars(schema_with = "schema::object_name")]
    pub name: String,
}

/// A request that goes to the new version. All parts that are given must match.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[x_kube(
    validation = Rule::new(
        "has(self.path) || has(self.method) || (has(self.headers) && \
         size(self.headers) > 0) || (has(self.queryParams) && \
         size(self.queryParams) > 0) || (has(self.cookies) && size(self.cookies) > \
         0)"
    )
    .message(
        "must match something: a path, headers, queryParams, cookies or a method"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct HttpMatch {
    /// The path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathMatch>,
    /// Headers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub headers: Vec<ValueMatch>,
    /// Query parameters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub query_params: Vec<ValueMatch>,
    /// Cookies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub cookies: Vec<ValueMatch>,
    /// The method, for example `GET`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        regex(pattern = r"^(GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS|TRACE|PATCH)$"),
        length(max = 7)
    )]
    pub method: Option<String>,
}

/// A path to match.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[x_kube(
    validation = Rule::new(
        "!has(self.value) || (has(self.type) && self.type == 'RegularExpression') \
         || self.value.startsWith('/')"
    )
    .message(
        "value must start with `/`"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct PathMatch {
    /// `PathPrefix` (default), `Exact` or `RegularExpression`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "PathPrefix"))]
    pub type_: Option<PathMatchType>,
    /// The value. Default `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024), extend("default" = "/"))]
    pub value: Option<String>,
}

/// How a path is compared.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PathMatchType {
    /// Equal.
    Exact,
    /// Equal up to a path element.
    #[default]
    PathPrefix,
    /// A regular expression of the router's dialect.
    RegularExpression,
}

/// A named value to match: a header, a query parameter or a cookie.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ValueMatch {
    /// `Exact` (default) or `RegularExpression`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "Exact"))]
    pub type_: Option<ValueMatchType>,
    /// Name.
    #[schemars(schema_with = "schema::token")]
    pub name: String,
    /// Value.
    #[schemars(length(min = 1, max = 4096))]
    pub value: String,
}

/// How a value is compared.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ValueMatchType {
    /// Equal.
    #[default]
    Exact,
    /// A regular expression of the router's dialect.
    RegularExpression,
}

/// Gateway API's header filter.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[x_kube(
    validation = Rule::new(
        "(has(self.set) && size(self.set) > 0) || (has(self.add) && size(self.add) \
         > 0) || (has(self.remove) && size(self.remove) > 0)"
    )
    .message(
        "must set, add or remove a header"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct HeaderModifier {
    /// Headers to overwrite.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub set: Vec<HeaderValue>,
    /// Headers to add.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub add: Vec<HeaderValue>,
    /// Headers to remove.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub remove: Vec<String>,
}

/// A header and its value.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HeaderValue {
    /// Name.
    #[schemars(schema_with = "schema::token")]
    pub name: String,
    /// Value.
    #[schemars(length(min = 1, max = 4096))]
    pub value: String,
}

/// Keeps a client on the arm it first met.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SessionAffinity {
    /// The cookie that carries the arm.
    #[schemars(schema_with = "schema::token")]
    pub cookie_name: String,
    /// How long it lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<DurationSpec>,
}
