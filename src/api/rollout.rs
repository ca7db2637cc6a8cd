//! `Rollout`: how a workload's new versions are let through.
//!
//! A superset of `OpenKruise`'s `rollouts.kruise.io/v1beta1` Rollout: a manifest written for it is
//! valid here when only its `apiVersion` changes. What is added is said at each field.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use super::around::{
    AlertRule, Hook, HookAuth, HookFailurePolicy, HookPoint, HookTls, NotificationRef, Window,
};
pub use super::common::FieldRef;
use super::common::{Condition, DurationSpec, Time};
pub use super::routing::{
    GatewayRef, HeaderModifier, HeaderValue, HttpMatch, IngressRef, PathMatch, PathMatchType,
    SessionAffinity, TrafficRoutingRef, ValueMatch, ValueMatchType,
};
use super::schema;
pub use super::stanza::{AnalysisArg, AnalysisStanza, ArgSource, Bake, TemplateRef};
use super::status::RolloutStatus;

/// How a workload's new versions are held back and let through, step by step.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "sluice.dev",
    version = "v1beta1",
    kind = "Rollout",
    plural = "rollouts",
    shortname = "sro",
    namespaced,
    status = "RolloutStatus",
    derive = "PartialEq",
    derive = "Default",
    category = "sluice",
    validation = Rule::new(
        "!has(oldSelf.status) || !has(oldSelf.status.release) \
         || self.spec.workloadRef == oldSelf.spec.workloadRef"
    )
    .message("workloadRef cannot change while a release runs; wait for its end or abort it"),
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Step","type":"string","jsonPath":".status.step.progress"}"#,
    printcolumn = r#"{"name":"Weight","type":"string","jsonPath":".status.traffic.observed"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.ready"}"#,
    printcolumn = r#"{"name":"Verdict","type":"string","jsonPath":".status.verdict"}"#,
    printcolumn = r#"{"name":"Waiting-For","type":"string","jsonPath":".status.waitingFor"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[x_kube(
    validation = Rule::new(
        "!has(self.strategy.blueGreen) || self.workloadRef.kind in ['Deployment', \
         'CloneSet']"
    )
    .message(
        "blueGreen releases a Deployment or a CloneSet; use canary for other kinds"
    ),
    validation = Rule::new(
        "!has(self.strategy.canary) || \
         !has(self.strategy.canary.enableExtraWorkloadForCanary) || \
         !self.strategy.canary.enableExtraWorkloadForCanary || \
         self.workloadRef.kind == 'Deployment'"
    )
    .message(
        "enableExtraWorkloadForCanary releases a Deployment; set it to false for \
         other kinds"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct RolloutSpec {
    /// The workload that is released, in the Rollout's namespace. Between releases another one may be
    /// named; the one before is let go then.
    pub workload_ref: WorkloadRef,
    /// True takes Sluice's hands off: what is under way is ended as `onDelete` says and the
    /// workload is nobody's until this is false again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
    /// How a new version is let through.
    pub strategy: Strategy,
    /// Seconds a batch may take to get ready before the step fails. Default 600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 31_536_000), extend("default" = 600))]
    pub progress_deadline_seconds: Option<i32>,
    /// What a failed analysis or a missed deadline does. Default `Rollback`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "Rollback"))]
    pub on_failure: Option<OnFailure>,
    /// What an analysis that cannot tell does. Default `Pause`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "Pause"))]
    pub on_inconclusive: Option<OnInconclusive>,
    /// What happens to a release under way when the Rollout is deleted or disabled. Default `Hold`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "Hold"))]
    pub on_delete: Option<OnDelete>,
    /// Firing alerts that stop the release.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub alerts: Vec<AlertRule>,
    /// Whom to tell about what.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub notifications: Vec<NotificationRef>,
    /// When a release may start and step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub windows: Vec<Window>,
    /// When a release must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub freezes: Vec<Window>,
}

/// A reference to the workload, in the Rollout's namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadRef {
    /// API group and version, for example `apps/v1`.
    #[schemars(regex(pattern = r"^([a-z0-9.-]+/)?v[0-9][a-z0-9]*$"), length(max = 253))]
    pub api_version: String,
    /// Kind, for example `Deployment`.
    #[schemars(regex(pattern = r"^[A-Z][A-Za-z0-9]*$"), length(max = 63))]
    pub kind: String,
    /// Name.
    #[schemars(schema_with = "schema::object_name")]
    pub name: String,
}

/// Exactly one of `canary` and `blueGreen`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[x_kube(
    validation = Rule::new(
        "has(self.canary) != has(self.blueGreen)"
    )
    .message(
        "must have exactly one of canary and blueGreen"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct Strategy {
    /// True freezes the release where it is. Rolling back still works.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// Step by step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
    /// Two full sets of pods and a switch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blue_green: Option<BlueGreen>,
}

/// Step by step, in place (the default) or with an extra Deployment.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[x_kube(
    validation = Rule::new(
        "has(self.ramp) != (has(self.steps) && size(self.steps) > 0)"
    )
    .message(
        "must have from 1 to 50 steps, or a ramp that writes them"
    ),
    validation = Rule::new(
        "!has(self.steps) || !self.steps.exists(s, has(s.traffic) && s.traffic == \
         '0%')"
    )
    .message(
        "traffic must be above 0%; leave traffic out for none"
    ),
    validation = Rule::new(
        "has(self.trafficRoutingRef) || (has(self.trafficRoutings) && \
         size(self.trafficRoutings) > 0) || !has(self.steps) || \
         !self.steps.exists(s, has(s.traffic) || has(s.matches) || has(s.mirror) \
         || has(s.requestHeaderModifier))"
    )
    .message(
        "a step with traffic, matches, mirror or requestHeaderModifier needs \
         trafficRoutings; add `- service: NAME` with a gateway"
    ),
    validation = Rule::new(
        "!has(self.steps) || self.steps.all(a, !has(a.name) || \
         self.steps.exists_one(b, has(b.name) && b.name == a.name))"
    )
    .message(
        "two steps have one name; give each step its own"
    ),
    validation = Rule::new(
        "!has(self.trafficRoutings) || self.trafficRoutings.all(a, \
         self.trafficRoutings.exists_one(b, b.service == a.service))"
    )
    .message(
        "a service is named twice in trafficRoutings; put all its routes in one \
         entry (gateway.httpRouteNames)"
    ),
    validation = schema::routes_once(),
    validation = schema::rising_traffic(),
    validation = schema::rising_replicas()
)]
#[serde(rename_all = "camelCase")]
pub struct Canary {
    /// The steps, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub steps: Vec<Step>,
    /// The services and routes whose traffic follows the steps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub traffic_routings: Vec<TrafficRoutingRef>,
    /// How many updated pods of a batch, as a number or a percentage, may be not ready. Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::tolerance")]
    pub failure_threshold: Option<IntOrString>,
    /// Labels and annotations for the pods of the extra Deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch_pod_template_metadata: Option<PodMetadata>,
    /// True releases with an extra Deployment beside the stable one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub enable_extra_workload_for_canary: bool,
    /// The name of a `TrafficRouting` (end-to-end canary).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::object_name")]
    pub traffic_routing_ref: Option<String>,
    /// True makes no canary Service: the router tells the pods apart by itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disable_generate_canary_service: bool,
    /// Analysis in the background, from the first canary request to the end of the release. When it
    /// has passed it begins again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analysis: Option<AnalysisStanza>,
    /// Added: more of them, each a run of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub background_analyses: Vec<AnalysisStanza>,
    /// Added: how long the new version is watched after the last step, when everything is in its
    /// place; what fails then goes back by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bake: Option<Bake>,
    /// Analysis for every step that names none of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_analysis: Option<AnalysisStanza>,
    /// Outgoing calls around the release and around every step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub hooks: Vec<Hook>,
    /// Keeps a client on the arm it first met.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_affinity: Option<SessionAffinity>,
    /// Writes the steps: see [`Ramp`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ramp: Option<Ramp>,
    /// How a rollback moves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<RollbackStyle>,
}

/// Two full sets of pods and a switch.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[x_kube(
    validation = Rule::new(
        "has(self.steps) && size(self.steps) > 0"
    )
    .message(
        "must have from 1 to 50 steps"
    ),
    validation = Rule::new(
        "has(self.trafficRoutingRef) || (has(self.trafficRoutings) && \
         size(self.trafficRoutings) > 0) || !has(self.steps) || \
         !self.steps.exists(s, has(s.traffic) || has(s.matches) || has(s.mirror) \
         || has(s.requestHeaderModifier))"
    )
    .message(
        "a step with traffic, matches, mirror or requestHeaderModifier needs \
         trafficRoutings; add `- service: NAME` with a gateway"
    ),
    validation = Rule::new(
        "!has(self.steps) || self.steps.all(a, !has(a.name) || \
         self.steps.exists_one(b, has(b.name) && b.name == a.name))"
    )
    .message(
        "two steps have one name; give each step its own"
    ),
    validation = Rule::new(
        "!has(self.trafficRoutings) || self.trafficRoutings.all(a, \
         self.trafficRoutings.exists_one(b, b.service == a.service))"
    )
    .message(
        "a service is named twice in trafficRoutings; put all its routes in one \
         entry (gateway.httpRouteNames)"
    ),
    validation = schema::routes_once(),
    validation = schema::rising_traffic(),
    validation = schema::rising_replicas()
)]
#[serde(rename_all = "camelCase")]
pub struct BlueGreen {
    /// The steps, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub steps: Vec<Step>,
    /// The services and routes whose traffic is switched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub traffic_routings: Vec<TrafficRoutingRef>,
    /// How many updated pods, as a number or a percentage, may be not ready. Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::tolerance")]
    pub failure_threshold: Option<IntOrString>,
    /// The name of a `TrafficRouting` (end-to-end canary).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::object_name")]
    pub traffic_routing_ref: Option<String>,
    /// True makes no canary Service.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disable_generate_canary_service: bool,
    /// A Service that shows the new set before the switch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label_name")]
    pub preview_service: Option<String>,
    /// Analysis in the background.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analysis: Option<AnalysisStanza>,
    /// Analysis for every step that names none of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_analysis: Option<AnalysisStanza>,
    /// Analysis before the switch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre_promotion_analysis: Option<AnalysisStanza>,
    /// Analysis after the switch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub post_promotion_analysis: Option<AnalysisStanza>,
    /// How long the old set stays after the switch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_down_delay: Option<DurationSpec>,
    /// True switches without waiting for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_promotion: Option<bool>,
}

/// One step: how many pods, how much traffic, what is looked at, what is waited for.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[x_kube(
    validation = Rule::new(
        "has(self.replicas) || has(self.traffic)"
    )
    .message(
        "replicas is needed when the step has no traffic; write a number such as \
         1, or 10%"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// A name for people and for `jump`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label_name")]
    pub name: Option<String>,
    /// Pods of the new version: a number or a percentage of the workload, rounded up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::pods")]
    pub replicas: Option<IntOrString>,
    /// Share of the traffic for the new version, `N%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4))]
    #[x_kube(validation = schema::percent_rule())]
    pub traffic: Option<String>,
    /// Requests that go to the new version: any item matches, all parts of an item must.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub matches: Vec<HttpMatch>,
    /// Header changes on requests to the new version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_header_modifier: Option<HeaderModifier>,
    /// Share of the traffic copied to the new version without its answers being used, `N%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4))]
    #[x_kube(validation = schema::percent_rule())]
    pub mirror: Option<String>,
    /// What the step waits for after pods and traffic are in place. Absent: the analysis' verdict,
    /// or approval where there is none. `{}`: approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
    /// Analysis that must pass before the step ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analysis: Option<AnalysisStanza>,
    /// Outgoing calls before and after the step: `BeforeStep` and `AfterStep`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub hooks: Vec<Hook>,
    /// How long the step may last before `onInconclusive` applies; pods on their way have their deadline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<DurationSpec>,
}

/// A wait at the end of a step.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Pause {
    /// Seconds, or `10m`. Absent: until somebody approves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<DurationSpec>,
}

/// Labels and annotations for the canary's pods.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PodMetadata {
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub annotations: BTreeMap<String, String>,
}

/// Steps written by rule: from `from` to `to`, by a sum or a factor, each lasting `every`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[x_kube(
    validation = Rule::new(
        "has(self.by) != has(self.factor)"
    )
    .message(
        "must have exactly one of by and factor"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct Ramp {
    /// The first share, `N%`.
    #[schemars(length(max = 4))]
    #[x_kube(validation = schema::percent_rule())]
    pub from: String,
    /// The last share, `N%`.
    #[schemars(length(max = 4))]
    #[x_kube(validation = schema::percent_rule())]
    pub to: String,
    /// Added at each step, `N%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4))]
    #[x_kube(validation = schema::percent_rule())]
    pub by: Option<String>,
    /// Multiplied at each step, for example `2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[0-9]+(\.[0-9]+)?$"), length(max = 8))]
    pub factor: Option<String>,
    /// How long each step lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<DurationSpec>,
    /// The analysis of each step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analysis: Option<AnalysisStanza>,
}

/// How a rollback moves.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RollbackStyle {
    /// `Immediate` (default) or `Gradual`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<RollbackSteps>,
}

/// Whether a rollback goes at once or back through the steps.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RollbackSteps {
    /// At once.
    #[default]
    Immediate,
    /// Back through the steps.
    Gradual,
}

/// What a failed analysis or a missed deadline does.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// Back to the stable version.
    #[default]
    Rollback,
    /// All stays as it is for a person.
    Pause,
    /// No traffic to the new version; its pods stay to be looked at.
    Isolate,
}

/// What an analysis that cannot tell does.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnInconclusive {
    /// The release holds for a person.
    #[default]
    Pause,
    /// The release goes on.
    Continue,
    /// Back to the stable version.
    Rollback,
}

/// What happens to a release under way when its Rollout is deleted or disabled.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDelete {
    /// The workload stays where it is, held by its own native word.
    #[default]
    Hold,
    /// The workload's own controller finishes the update.
    Finish,
    /// Back to the stable version.
    Rollback,
}

impl Rollout {
    /// The condition of this type, if there is one.
    #[must_use]
    pub fn condition(&self, type_: &str) -> Option<&Condition> {
        self.status.as_ref()?.conditions.iter().find(|c| c.type_ == type_)
    }

    /// When the object was created.
    #[must_use]
    pub fn created_at(&self) -> Option<Time> {
        self.metadata.creation_timestamp.clone()
    }
}
