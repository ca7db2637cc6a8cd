//! One write, and all policies over it.
//!
//! Policies run in the order of their names, the mutations of one policy in the order written; each
//! sees the object that the one before left, defaulted, and its variables are evaluated anew. An
//! error is the policy's `failurePolicy`: one mutation that fails does not stop the next.

use std::sync::Arc;

use serde_json::Value;

use super::{
    eval::{self, EvalError},
    matching,
    policy::{Run, name_of},
};

/// One write, as admission sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdmissionRequest {
    /// `CREATE`, `UPDATE`, `DELETE` or `CONNECT`.
    pub operation: String,
    /// Who writes.
    pub username: String,
    /// The groups of who writes.
    pub groups: Vec<String>,
    /// Whether nothing will be stored.
    pub dry_run: bool,
    /// API group of the resource; empty for the core group.
    pub group: String,
    /// API version of the resource.
    pub version: String,
    /// Plural name of the resource.
    pub resource: String,
    /// Kind of the object.
    pub kind: String,
    /// `status`, `scale`..., or empty for the object itself.
    pub subresource: String,
    /// Namespace; empty for a cluster-scoped object.
    pub namespace: String,
    /// Name; may be empty while the server still has to generate it.
    pub name: String,
}

/// Finds a parameter object by its apiVersion, kind, namespace and name. The namespace is that of
/// the request unless the binding names one; a cluster-scoped kind ignores it.
pub type FindParam<'a> = dyn Fn(&str, &str, &str, &str) -> Option<Arc<Value>> + 'a;

/// What surrounds a request: the cluster's policies and how to look around.
pub struct Policies<'a> {
    /// Every policy, mutating or validating.
    pub policies: &'a [Arc<Value>],
    /// Every binding of such policies.
    pub bindings: &'a [Arc<Value>],
    /// The Namespace object of the request, for selectors and `namespaceObject`.
    pub namespace: Option<&'a Value>,
    /// Parameters.
    pub param: &'a FindParam<'a>,
    /// Defaults an object, as the server does after each mutation.
    pub default: &'a dyn Fn(&mut Value),
}

/// What became of the object.
#[derive(Clone, Debug, PartialEq)]
pub struct MutateOutcome {
    /// The object after all mutations.
    pub object: Value,
    /// Errors that `failurePolicy: Ignore` passed over, each with its policy: a test that expects
    /// none must look here, as the real server says nothing.
    pub ignored: Vec<String>,
    /// The refusal, if a policy with `failurePolicy: Fail` had an error: HTTP 403, reason
    /// `Invalid`.
    pub denied: Option<String>,
}

/// What validating policies said of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ValidateOutcome {
    /// Errors that `failurePolicy: Ignore` passed over, each with its policy.
    pub ignored: Vec<String>,
    /// The first refusal: HTTP 422, reason `Invalid`.
    pub denied: Option<String>,
    /// Texts for `Warning` headers.
    pub warnings: Vec<String>,
}

/// Runs every mutating policy that is bound and matches over the object.
pub fn mutate(
    request: &AdmissionRequest,
    object: Value,
    old: Option<&Value>,
    surroundings: &Policies<'_>,
) -> MutateOutcome {
    let mut run = Run::begin(request, object, old, surroundings);
    if !matches!(request.operation.as_str(), "CREATE" | "UPDATE") || matching::is_exempt(request) {
        return run.end();
    }
    let mut policies: Vec<&Value> = surroundings.policies.iter().map(Arc::as_ref).collect();
    policies.sort_by_key(|policy| name_of(policy).to_owned());
    for policy in &policies {
        run.policy(policy, Run::mutations);
    }
    // A policy that asks for it sees once more what the later ones left.
    if run.mutated {
        for policy in policies {
            if policy.pointer("/spec/reinvocationPolicy").is_some_and(|p| p == "IfNeeded") {
                run.policy(policy, Run::mutations);
            }
        }
    }
    run.end()
}

/// Asks every validating policy that is bound and matches.
pub fn validate(
    request: &AdmissionRequest,
    object: &Value,
    old: Option<&Value>,
    surroundings: &Policies<'_>,
) -> ValidateOutcome {
    let mut run = Run::begin(request, object.clone(), old, surroundings);
    let mut policies: Vec<&Value> = surroundings.policies.iter().map(Arc::as_ref).collect();
    policies.sort_by_key(|policy| name_of(policy).to_owned());
    for policy in policies {
        run.policy(policy, Run::validations);
    }
    run.verdict()
}

/// Whether any of the policies is about such requests at all.
#[must_use]
pub fn concern(policies: &[Arc<Value>], request: &AdmissionRequest) -> bool {
    let may_match = |policy: &Arc<Value>| {
        let constraints = policy.pointer("/spec/matchConstraints");
        constraints.is_none_or(|constraints| matching::rules_match(constraints, request))
    };
    !matching::is_exempt(request) && policies.iter().any(may_match)
}

/// Where the items of a policy have expressions.
const EXPRESSIONS: [&str; 4] = [
    "/expression",
    "/jsonPatch/expression",
    "/applyConfiguration/expression",
    "/messageExpression",
];

/// The expressions of a policy that do not parse, each as its field and the error: what the server
/// refuses at creation.
#[must_use]
pub fn parse_errors(policy: &Value) -> Vec<(String, EvalError)> {
    let mut errors = Vec::new();
    for list in ["variables", "matchConditions", "mutations", "validations"] {
        let items = policy.pointer(&format!("/spec/{list}")).and_then(Value::as_array);
        for (at, item) in items.into_iter().flatten().enumerate() {
            for path in EXPRESSIONS {
                if let Some(Err(error)) = item.pointer(path).and_then(Value::as_str).map(parses) {
                    errors.push((format!("spec.{list}[{at}]{}", path.replace('/', ".")), error));
                }
            }
        }
    }
    errors
}

/// Whether this is an expression at all.
pub fn parses(source: &str) -> Result<(), EvalError> {
    eval::parse(source).map(|_| ())
}
