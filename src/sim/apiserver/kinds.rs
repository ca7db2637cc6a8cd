//! Which resources are served: the built-in kinds, and those that CustomResourceDefinitions add.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use super::{ResourceKey, fields::text};

/// A served resource.
#[derive(Debug, Clone)]
pub struct Kind {
    /// Group, version, plural.
    pub key: ResourceKey,
    /// Kind of one object.
    pub kind: String,
    /// Kind of a list.
    pub list_kind: String,
    /// Singular name.
    pub singular: String,
    /// Short names for kubectl.
    pub short: Vec<String>,
    /// Categories for kubectl, such as `all`.
    pub categories: Vec<String>,
    /// Lives in a namespace.
    pub namespaced: bool,
    /// Has a status subresource, so that status and the rest are written apart.
    pub status: bool,
    /// Has a scale subresource.
    pub scale: Option<ScalePaths>,
    /// What makes `metadata.generation` grow.
    pub generation: Generation,
    /// Group and plural under which objects are stored: all versions share one.
    pub store: (String, String),
    /// `apiVersion` of what is stored.
    pub storage_version: String,
    /// The resource in its stored version.
    pub stored: ResourceKey,
    /// The definition that added it; `None` for built-in kinds.
    pub crd: Option<Arc<Value>>,
    /// Answered at once and never stored, such as a SelfSubjectReview.
    pub answered: bool,
}

/// Where a scale subresource reads and writes, as paths of field names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScalePaths {
    /// Path of the wanted replicas.
    pub spec: Vec<String>,
    /// Path of the observed replicas.
    pub status: Vec<String>,
    /// Path of the selector, where there is one: a string or a label selector.
    pub selector: Option<Vec<String>>,
}

/// What makes the generation grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    /// Nothing: the kind has no generation.
    None,
    /// A change of `spec`.
    Spec,
    /// A change of `spec` or of the annotations (Deployment only).
    SpecOrAnnotations,
    /// A change of anything but metadata and, if it is a subresource, status.
    AllButMetadata,
}

impl Kind {
    /// `plural.group`, or the plural alone in the core group: how messages name it.
    #[must_use]
    pub fn qualified(&self) -> String {
        if self.key.group.is_empty() {
            self.key.plural.to_string()
        } else {
            format!("{}.{}", self.key.plural, self.key.group)
        }
    }

    /// True for the given built-in resource, whatever its version.
    #[must_use]
    pub fn is(&self, group: &str, plural: &str) -> bool {
        self.key.group == group && self.key.plural == plural
    }
}

use Generation as G;

type Row = (&'static str, &'static str, &'static str, &'static str, bool, &'static str, Flags);
type Flags = (&'static str, Generation);

/// Group, version, plural, kind, namespaced, short names, (s = status, c = scale, a = category
/// `all`, r = answered, not stored; generation).
const BUILT_IN: &[Row] = &[
    ("", "v1", "configmaps", "ConfigMap", true, "cm", ("", G::None)),
    ("", "v1", "endpoints", "Endpoints", true, "ep", ("", G::None)),
    ("", "v1", "events", "Event", true, "ev", ("", G::None)),
    ("", "v1", "limitranges", "LimitRange", true, "limits", ("", G::None)),
    ("", "v1", "namespaces", "Namespace", false, "ns", ("s", G::None)),
    ("", "v1", "nodes", "Node", false, "no", ("s", G::None)),
    ("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", true, "pvc", ("s", G::None)),
    ("", "v1", "persistentvolumes", "PersistentVolume", false, "pv", ("s", G::None)),
    ("", "v1", "pods", "Pod", true, "po", ("sa", G::Spec)),
    ("", "v1", "resourcequotas", "ResourceQuota", true, "quota", ("s", G::None)),
    ("", "v1", "secrets", "Secret", true, "", ("", G::None)),
    ("", "v1", "serviceaccounts", "ServiceAccount", true, "sa", ("", G::None)),
    ("", "v1", "services", "Service", true, "svc", ("sa", G::None)),
    (
        "admissionregistration.k8s.io",
        "v1",
        "mutatingadmissionpolicies",
        "MutatingAdmissionPolicy",
        false,
        "",
        ("", G::Spec),
    ),
    (
        "admissionregistration.k8s.io",
        "v1",
        "mutatingadmissionpolicybindings",
        "MutatingAdmissionPolicyBinding",
        false,
        "",
        ("", G::Spec),
    ),
    (
        "admissionregistration.k8s.io",
        "v1",
        "mutatingwebhookconfigurations",
        "MutatingWebhookConfiguration",
        false,
        "",
        ("", G::AllButMetadata),
    ),
    (
        "admissionregistration.k8s.io",
        "v1",
        "validatingadmissionpolicies",
        "ValidatingAdmissionPolicy",
        false,
        "",
        ("s", G::Spec),
    ),
    (
        "admissionregistration.k8s.io",
        "v1",
        "validatingadmissionpolicybindings",
        "ValidatingAdmissionPolicyBinding",
        false,
        "",
        ("", G::Spec),
    ),
    (
        "admissionregistration.k8s.io",
        "v1",
        "validatingwebhookconfigurations",
        "ValidatingWebhookConfiguration",
        false,
        "",
        ("", G::AllButMetadata),
    ),
    (
        "apiextensions.k8s.io",
        "v1",
        "customresourcedefinitions",
        "CustomResourceDefinition",
        false,
        "crd,crds",
        ("s", G::Spec),
    ),
    ("apps", "v1", "controllerrevisions", "ControllerRevision", true, "", ("", G::None)),
    ("apps", "v1", "daemonsets", "DaemonSet", true, "ds", ("sa", G::Spec)),
    ("apps", "v1", "deployments", "Deployment", true, "deploy", ("sca", G::SpecOrAnnotations)),
    ("apps", "v1", "replicasets", "ReplicaSet", true, "rs", ("sca", G::Spec)),
    ("apps", "v1", "statefulsets", "StatefulSet", true, "sts", ("sca", G::Spec)),
    (
        "autoscaling",
        "v2",
        "horizontalpodautoscalers",
        "HorizontalPodAutoscaler",
        true,
        "hpa",
        ("sa", G::None),
    ),
    (
        "authentication.k8s.io",
        "v1",
        "selfsubjectreviews",
        "SelfSubjectReview",
        false,
        "",
        ("r", G::None),
    ),
    (
        "authorization.k8s.io",
        "v1",
        "selfsubjectaccessreviews",
        "SelfSubjectAccessReview",
        false,
        "",
        ("r", G::None),
    ),
    ("batch", "v1", "cronjobs", "CronJob", true, "cj", ("sa", G::Spec)),
    ("batch", "v1", "jobs", "Job", true, "", ("sa", G::Spec)),
    ("coordination.k8s.io", "v1", "leases", "Lease", true, "", ("", G::None)),
    (
        "discovery.k8s.io",
        "v1",
        "endpointslices",
        "EndpointSlice",
        true,
        "",
        ("", G::AllButMetadata),
    ),
    ("events.k8s.io", "v1", "events", "Event", true, "ev", ("", G::None)),
    ("networking.k8s.io", "v1", "ingressclasses", "IngressClass", false, "", ("", G::Spec)),
    ("networking.k8s.io", "v1", "ingresses", "Ingress", true, "ing", ("s", G::Spec)),
    ("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", true, "netpol", ("", G::Spec)),
    ("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", true, "pdb", ("s", G::Spec)),
    (
        "rbac.authorization.k8s.io",
        "v1",
        "clusterrolebindings",
        "ClusterRoleBinding",
        false,
        "",
        ("", G::None),
    ),
    ("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", false, "", ("", G::None)),
    ("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding", true, "", ("", G::None)),
    ("rbac.authorization.k8s.io", "v1", "roles", "Role", true, "", ("", G::None)),
    ("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", false, "pc", ("", G::None)),
    ("storage.k8s.io", "v1", "storageclasses", "StorageClass", false, "sc", ("", G::None)),
];

/// Everything that is served.
#[derive(Debug, Clone)]
pub struct Kinds {
    by_key: BTreeMap<ResourceKey, Arc<Kind>>,
}

impl Kinds {
    /// The built-in kinds.
    #[must_use]
    pub fn built_in() -> Self {
        let by_key = BUILT_IN.iter().map(built_in).map(|kind| (kind.key.clone(), Arc::new(kind)));
        Self { by_key: by_key.collect() }
    }

    /// The served resource of that key.
    #[must_use]
    pub fn get(&self, key: &ResourceKey) -> Option<&Arc<Kind>> {
        self.by_key.get(key)
    }

    /// The resource that serves a kind.
    #[must_use]
    pub fn of_kind(&self, api_version: &str, kind: &str) -> Option<&Arc<Kind>> {
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        let first = ResourceKey::new(group, version, "");
        self.by_key
            .range(first..)
            .map(|(_, found)| found)
            .take_while(|found| found.key.group == group && found.key.version == version)
            .find(|found| found.kind == kind)
    }

    /// A resource whose objects are stored there: any of its versions.
    #[must_use]
    pub fn of_store(&self, store: &(String, String)) -> Option<&Arc<Kind>> {
        self.by_key.values().find(|kind| kind.store == *store)
    }

    /// Everything, sorted by group, version and plural.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Kind>> {
        self.by_key.values()
    }

    /// Serves what a CustomResourceDefinition defines, instead of what an older state of it did.
    pub fn define(&mut self, crd: &Arc<Value>) {
        self.forget(crd);
        for kind in custom(crd) {
            self.by_key.insert(kind.key.clone(), Arc::new(kind));
        }
    }

    /// Stops serving what a CustomResourceDefinition defined.
    pub fn forget(&mut self, crd: &Value) {
        let spec = &crd["spec"];
        let (group, plural) = (text(&spec["group"]), text(&spec["names"]["plural"]));
        self.by_key
            .retain(|key, kind| kind.crd.is_none() || key.group != group || key.plural != plural);
    }
}

fn built_in(row: &Row) -> Kind {
    let (group, version, plural, kind, namespaced, short, (flags, generation)) = *row;
    let store = if (group, plural) == ("events.k8s.io", "events") { "" } else { group };
    let key = ResourceKey::of(group, version, plural);
    let stored = if store == group { key.clone() } else { ResourceKey::of("", "v1", plural) };
    let path = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Kind {
        kind: kind.to_owned(),
        list_kind: format!("{kind}List"),
        singular: kind.to_lowercase(),
        short: short.split(',').filter(|s| !s.is_empty()).map(str::to_owned).collect(),
        categories: if flags.contains('a') { vec!["all".to_owned()] } else { Vec::new() },
        namespaced,
        status: flags.contains('s'),
        scale: flags.contains('c').then(|| ScalePaths {
            spec: path(&["spec", "replicas"]),
            status: path(&["status", "replicas"]),
            selector: Some(path(&["spec", "selector"])),
        }),
        generation,
        store: (store.to_owned(), plural.to_owned()),
        storage_version: stored.api_version(),
        stored,
        key,
        crd: None,
        answered: flags.contains('r'),
    }
}

fn custom(crd: &Arc<Value>) -> Vec<Kind> {
    let spec = &crd["spec"];
    let names = &spec["names"];
    let (group, plural, kind) =
        (text(&spec["group"]), text(&names["plural"]), text(&names["kind"]));
    let none = Vec::new();
    let versions = spec["versions"].as_array().unwrap_or(&none);
    let stored = versions.iter().find(|v| v["storage"] == Value::Bool(true));
    let storage = stored.map_or("", |v| text(&v["name"]));
    let list = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().map(|v| text(v).to_owned()).collect()
    };
    let or = |value: &Value, other: String| match text(value) {
        "" => other,
        given => given.to_owned(),
    };
    let served = versions.iter().filter(|v| v["served"] == Value::Bool(true));
    served
        .map(|version| Kind {
            key: ResourceKey::new(group, text(&version["name"]), plural),
            kind: kind.to_owned(),
            list_kind: or(&names["listKind"], format!("{kind}List")),
            singular: or(&names["singular"], kind.to_lowercase()),
            short: list(&names["shortNames"]),
            categories: list(&names["categories"]),
            namespaced: text(&spec["scope"]) == "Namespaced",
            status: version["subresources"]["status"].is_object(),
            scale: scale_paths(&version["subresources"]["scale"]),
            generation: Generation::AllButMetadata,
            store: (group.to_owned(), plural.to_owned()),
            storage_version: format!("{group}/{storage}"),
            stored: ResourceKey::new(group, storage, plural),
            crd: Some(crd.clone()),
            answered: false,
        })
        .collect()
}

fn scale_paths(scale: &Value) -> Option<ScalePaths> {
    let path = |field: &str| -> Vec<String> {
        let names = text(&scale[field]).split('.').filter(|name| !name.is_empty());
        names.map(str::to_owned).collect()
    };
    scale.is_object().then(|| ScalePaths {
        spec: path("specReplicasPath"),
        status: path("statusReplicasPath"),
        selector: Some(path("labelSelectorPath")).filter(|path| !path.is_empty()),
    })
}
