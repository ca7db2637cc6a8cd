//! Small types that several resources share.

use std::borrow::Cow;

pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A span of time as users write it: a number of seconds (Kruise's form) or text such as `10m`.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(untagged)]
pub enum DurationSpec {
    /// Seconds.
    Seconds(i64),
    /// Text such as `30s`, `10m`, `1h30m`.
    Text(String),
}

impl Default for DurationSpec {
    fn default() -> Self {
        Self::Seconds(0)
    }
}

impl JsonSchema for DurationSpec {
    fn schema_name() -> Cow<'static, str> {
        "DurationSpec".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"x-kubernetes-int-or-string": true})
    }
}
