//! What a client asks for: a [`Call`] is one request after its URL, headers and body were read.

use std::borrow::Cow;

use serde_json::Value;

/// One served resource: group, version and plural name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceKey {
    /// API group; empty for the core group.
    pub group: Cow<'static, str>,
    /// API version, such as `v1`.
    pub version: Cow<'static, str>,
    /// Plural, lower-case resource name, such as `deployments`.
    pub plural: Cow<'static, str>,
}

impl ResourceKey {
    /// `v1/pods`.
    pub const PODS: Self = Self::of("", "v1", "pods");
    /// `v1/services`.
    pub const SERVICES: Self = Self::of("", "v1", "services");
    /// `v1/events`.
    pub const EVENTS: Self = Self::of("", "v1", "events");
    /// `v1/nodes`.
    pub const NODES: Self = Self::of("", "v1", "nodes");
    /// `v1/namespaces`.
    pub const NAMESPACES: Self = Self::of("", "v1", "namespaces");
    /// `apps/v1/deployments`.
    pub const DEPLOYMENTS: Self = Self::of("apps", "v1", "deployments");
    /// `apps/v1/replicasets`.
    pub const REPLICASETS: Self = Self::of("apps", "v1", "replicasets");
    /// `apps/v1/statefulsets`.
    pub const STATEFULSETS: Self = Self::of("apps", "v1", "statefulsets");
    /// `apps/v1/daemonsets`.
    pub const DAEMONSETS: Self = Self::of("apps", "v1", "daemonsets");
    /// `apps/v1/controllerrevisions`.
    pub const CONTROLLERREVISIONS: Self = Self::of("apps", "v1", "controllerrevisions");
    /// `discovery.k8s.io/v1/endpointslices`.
    pub const ENDPOINTSLICES: Self = Self::of("discovery.k8s.io", "v1", "endpointslices");
    /// `apiextensions.k8s.io/v1/customresourcedefinitions`.
    pub const CRDS: Self = Self::of("apiextensions.k8s.io", "v1", "customresourcedefinitions");
    /// `admissionregistration.k8s.io/v1/mutatingadmissionpolicies`.
    pub const MUTATING_POLICIES: Self =
        Self::of("admissionregistration.k8s.io", "v1", "mutatingadmissionpolicies");
    /// `admissionregistration.k8s.io/v1/mutatingadmissionpolicybindings`.
    pub const MUTATING_POLICY_BINDINGS: Self =
        Self::of("admissionregistration.k8s.io", "v1", "mutatingadmissionpolicybindings");

    /// `admissionregistration.k8s.io/v1/validatingadmissionpolicies`.
    pub const VALIDATING_POLICIES: Self =
        Self::of("admissionregistration.k8s.io", "v1", "validatingadmissionpolicies");
    /// `admissionregistration.k8s.io/v1/validatingadmissionpolicybindings`.
    pub const VALIDATING_POLICY_BINDINGS: Self =
        Self::of("admissionregistration.k8s.io", "v1", "validatingadmissionpolicybindings");

    /// A key from constant parts.
    #[must_use]
    pub const fn of(group: &'static str, version: &'static str, plural: &'static str) -> Self {
        Self {
            group: Cow::Borrowed(group),
            version: Cow::Borrowed(version),
            plural: Cow::Borrowed(plural),
        }
    }

    /// A key from parts known only at run time.
    #[must_use]
    pub fn new(group: &str, version: &str, plural: &str) -> Self {
        Self {
            group: Cow::Owned(group.to_owned()),
            version: Cow::Owned(version.to_owned()),
            plural: Cow::Owned(plural.to_owned()),
        }
    }

    /// Whether objects of this resource call this their `apiVersion`.
    #[must_use]
    pub fn is_of(&self, api_version: &str) -> bool {
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        self.group == group && self.version == version
    }

    /// `group/version`, or only the version for the core group: what objects call `apiVersion`.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_string()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}

/// How the body of a PATCH is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchType {
    /// RFC 6902.
    Json,
    /// RFC 7386.
    Merge,
    /// Kubernetes' own: lists of built-in kinds are merged by key.
    Strategic,
    /// Server-side apply.
    Apply,
}

/// What is to be done. Watches are not calls: they are streams of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Read one object.
    Get,
    /// Read many.
    List,
    /// POST.
    Create,
    /// PUT.
    Update,
    /// PATCH.
    Patch(PatchType),
    /// DELETE of one object.
    Delete,
    /// DELETE of every object that the selectors choose.
    DeleteCollection,
}

/// What to do about fields that a schema does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FieldValidation {
    /// Drop them silently.
    Ignore,
    /// Drop them and warn: the default, as in Kubernetes.
    #[default]
    Warn,
    /// Refuse the request.
    Strict,
}

/// Query parameters (and, for deletes, the fields of `DeleteOptions`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// `dryRun=All`: answer as if, store nothing.
    pub dry_run: bool,
    /// `fieldManager`.
    pub field_manager: Option<String>,
    /// `force` of server-side apply.
    pub force: bool,
    /// `fieldValidation`.
    pub field_validation: FieldValidation,
    /// `labelSelector`.
    pub label_selector: Option<String>,
    /// `fieldSelector`.
    pub field_selector: Option<String>,
    /// `limit` of a list.
    pub limit: Option<usize>,
    /// `continue` of a list.
    pub continue_token: Option<String>,
    /// `resourceVersion` of a read.
    pub resource_version: Option<String>,
    /// `propagationPolicy` of a delete.
    pub propagation_policy: Option<String>,
    /// `gracePeriodSeconds` of a delete.
    pub grace_period_seconds: Option<i64>,
    /// `User-Agent`: names the field manager where none is given.
    pub user_agent: Option<String>,
}

/// One request.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Who asks.
    pub user: String,
    /// What is to be done.
    pub verb: Verb,
    /// To which resource.
    pub resource: ResourceKey,
    /// `status`, `scale`, `binding`.
    pub subresource: Option<String>,
    /// Namespace; `None` for cluster-scoped resources and for lists over all namespaces.
    pub namespace: Option<String>,
    /// Object name; `None` for creates and lists.
    pub name: Option<String>,
    /// Object, patch or `DeleteOptions`; `Null` without a body.
    pub body: Value,
    /// Everything else.
    pub options: Options,
}

impl Call {
    /// A call with no subresource, body or options.
    #[must_use]
    pub fn new(user: &str, verb: Verb, resource: &ResourceKey) -> Self {
        Self {
            user: user.to_owned(),
            verb,
            resource: resource.clone(),
            subresource: None,
            namespace: None,
            name: None,
            body: Value::Null,
            options: Options::default(),
        }
    }

    /// In this namespace; an empty one means cluster scope.
    #[must_use]
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.namespace = (!namespace.is_empty()).then(|| namespace.to_owned());
        self
    }

    /// On the object of this name.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// On this subresource.
    #[must_use]
    pub fn subresource(mut self, subresource: &str) -> Self {
        self.subresource = Some(subresource.to_owned());
        self
    }

    /// With this body.
    #[must_use]
    pub fn body(mut self, body: Value) -> Self {
        self.body = body;
        self
    }

    /// As `fieldManager`.
    #[must_use]
    pub fn manager(mut self, manager: &str) -> Self {
        self.options.field_manager = Some(manager.to_owned());
        self
    }

    /// As a dry run.
    #[must_use]
    pub fn dry_run(mut self) -> Self {
        self.options.dry_run = true;
        self
    }

    /// With `force`, for server-side apply.
    #[must_use]
    pub fn force(mut self) -> Self {
        self.options.force = true;
        self
    }
}
