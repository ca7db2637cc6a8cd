//! Every custom resource definition, in a fixed order, as it is installed.
//!
//! The binary carries the files of `crds/`, which a test compares with [`all`]: deriving them needs code for
//! every type of a pod, and takes longer than reading.
//!
//! What the derived definitions lack is added here: bounds for whatever has none, so that the cost
//! of every rule can be estimated, and no `nullable`, so that a null is the same as nothing.

use std::sync::OnceLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;
use serde_json::Value;

use super::{
    AnalysisRun, AnalysisTemplate, ClusterAnalysisTemplate, ClusterMetricProvider, Gate,
    MetricProvider, Rollout,
};

/// The longest text of a spec whose field sets no other bound.
const TEXT: i64 = 1024;
/// The most items of a list of a spec whose field sets no other bound.
const ITEMS: i64 = 64;
/// The most entries of a map of a spec whose field sets no other bound.
const ENTRIES: i64 = 64;
/// The most workloads that one Gate can name: an entry has up to 500 bytes, an object 1 MiB.
const GATED: i64 = 2000;

/// The files of `crds/`, by name.
const FILES: [&str; 7] = [
    include_str!("../../crds/analysisruns.yaml"),
    include_str!("../../crds/analysistemplates.yaml"),
    include_str!("../../crds/clusteranalysistemplates.yaml"),
    include_str!("../../crds/clustermetricproviders.yaml"),
    include_str!("../../crds/gates.yaml"),
    include_str!("../../crds/metricproviders.yaml"),
    include_str!("../../crds/rollouts.yaml"),
];

/// Every definition as it is shipped, by name, as one YAML stream.
#[must_use]
pub fn shipped_yaml() -> String {
    FILES.join("---\n")
}

/// Every definition as it is shipped, by name.
pub fn shipped() -> &'static [Value] {
    static SHIPPED: OnceLock<Vec<Value>> = OnceLock::new();
    SHIPPED.get_or_init(|| {
        // A file that is no YAML would be found by the test that reads them all.
        FILES.iter().filter_map(|text| serde_saphyr::from_str(text).ok()).collect()
    })
}

/// Every custom resource definition as its types say, by name.
#[must_use]
pub fn all() -> Vec<CustomResourceDefinition> {
    let mut all = vec![
        AnalysisRun::crd(),
        AnalysisTemplate::crd(),
        ClusterAnalysisTemplate::crd(),
        ClusterMetricProvider::crd(),
        Gate::crd(),
        MetricProvider::crd(),
        Rollout::crd(),
    ];
    for crd in &mut all {
        let versions = crd.spec.versions.iter_mut();
        for schema in versions.filter_map(|v| v.schema.as_mut()?.open_api_v3_schema.as_mut()) {
            finish(schema, crd.spec.names.kind == "Gate");
        }
    }
    all
}

/// The file below `crds/` that holds `crd`: its plural name.
#[must_use]
pub fn file_name(crd: &CustomResourceDefinition) -> String {
    format!("{}.yaml", crd.spec.names.plural)
}

/// `crd` as YAML.
#[must_use]
#[expect(clippy::expect_used, reason = "a definition is plain data, which is always YAML")]
pub fn yaml(crd: &CustomResourceDefinition) -> String {
    serde_saphyr::to_string(crd).expect("a definition is plain data")
}

fn finish(schema: &mut JSONSchemaProps, gate: bool) {
    walk(schema, &mut |s| {
        s.nullable = None;
        if let Some(values) = &mut s.enum_ {
            values.retain(|value| !value.0.is_null());
        }
    });
    let spec = schema.properties.as_mut().and_then(|p| p.get_mut("spec"));
    let Some(spec) = spec else { return };
    walk(spec, &mut |s| bound(s, if gate { GATED } else { ENTRIES }));
}

fn bound(schema: &mut JSONSchemaProps, entries: i64) {
    let opaque = schema.x_kubernetes_preserve_unknown_fields == Some(true);
    match schema.type_.as_deref() {
        Some("string") if schema.enum_.is_none() && schema.format.is_none() => {
            schema.max_length.get_or_insert(TEXT);
        }
        Some("array") => {
            schema.max_items.get_or_insert(ITEMS);
        }
        Some("object") if schema.properties.is_none() && !opaque => {
            schema.max_properties.get_or_insert(entries);
        }
        _ => {}
    }
}

/// Visits `schema` and all below it.
fn walk(schema: &mut JSONSchemaProps, visit: &mut impl FnMut(&mut JSONSchemaProps)) {
    visit(schema);
    for property in schema.properties.iter_mut().flatten() {
        walk(property.1, visit);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        walk(items, visit);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        walk(values, visit);
    }
}
