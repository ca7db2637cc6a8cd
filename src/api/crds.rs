//! Every custom resource definition, in a fixed order.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

use super::{
    AnalysisRun, AnalysisTemplate, ClusterAnalysisTemplate, ClusterMetricProvider, Gate,
    MetricProvider, Rollout,
};

/// Every custom resource definition, by name.
#[must_use]
pub fn all() -> Vec<CustomResourceDefinition> {
    vec![
        AnalysisRun::crd(),
        AnalysisTemplate::crd(),
        ClusterAnalysisTemplate::crd(),
        ClusterMetricProvider::crd(),
        Gate::crd(),
        MetricProvider::crd(),
        Rollout::crd(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_ordered_by_name_and_each_has_a_schema() {
        let all = all();
        let names: Vec<_> = all.iter().filter_map(|crd| crd.metadata.name.clone()).collect();
        let mut sorted = names.clone();
        sorted.sort();
        assert_eq!(names, sorted);
        for crd in &all {
            let spec = crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref();
            let properties = spec.unwrap().properties.as_ref().unwrap();
            assert_eq!(properties["spec"].type_.as_deref(), Some("object"), "{:?}", names);
        }
    }
}
