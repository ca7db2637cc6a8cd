//! One policy over one object: its bindings, parameters, conditions and mutations.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use super::{
    admission::{AdmissionRequest, MutateOutcome, Policies},
    eval::{Env, EvalError},
    matching, merge,
    value::Val,
};

pub(super) fn name_of(object: &Value) -> &str {
    object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or("")
}

fn items<'v>(policy: &'v Value, list: &str) -> impl Iterator<Item = &'v Value> {
    policy
        .get("spec")
        .and_then(|spec| spec.get(list))
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or("")
}

/// The object on its way through the policies.
pub(super) struct Run<'a> {
    pub(super) request: &'a AdmissionRequest,
    pub(super) old: Option<&'a Value>,
    pub(super) surroundings: &'a Policies<'a>,
    pub(super) object: Value,
    pub(super) mutated: bool,
    pub(super) ignored: Vec<String>,
    pub(super) denied: Option<String>,
}

impl Run<'_> {
    pub(super) fn end(self) -> MutateOutcome {
        let Self { object, ignored, denied, .. } = self;
        MutateOutcome { object, ignored, denied }
    }

    fn matches(&self, constraints: Option<&Value>) -> Result<bool, EvalError> {
        let Some(constraints) = constraints else { return Ok(true) };
        let objects = [Some(&self.object), self.old];
        matching::matches(constraints, self.request, objects, self.surroundings.namespace)
    }

    /// Records an error the way the policy's `failurePolicy` says.
    fn fail(&mut self, policy: &Value, binding: Option<&Value>, error: &EvalError) {
        let name = name_of(policy);
        let message = match binding {
            Some(binding) => format!(
                "policy '{name}' with binding '{}' denied request: {error}",
                name_of(binding)
            ),
            None => format!("policy {name:?} denied request: failed to configure policy: {error}"),
        };
        if policy.pointer("/spec/failurePolicy").is_some_and(|failure| failure == "Ignore") {
            self.ignored.push(message);
        } else if self.denied.is_none() {
            self.denied = Some(message);
        }
    }

    pub(super) fn policy(&mut self, policy: &Value) {
        match self.matches(policy.pointer("/spec/matchConstraints")) {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => return self.fail(policy, None, &error),
        }
        let bindings = self.surroundings.bindings;
        let mut bound: Vec<&Value> = bindings
            .iter()
            .map(Arc::as_ref)
            .filter(|b| b.pointer("/spec/policyName").is_some_and(|name| name == name_of(policy)))
            .collect();
        bound.sort_by_key(|binding| name_of(binding).to_owned());
        for binding in bound {
            match self.matches(binding.pointer("/spec/matchResources")) {
                Ok(true) => {}
                Ok(false) => continue,
                Err(error) => {
                    self.fail(policy, Some(binding), &error);
                    continue;
                }
            }
            match self.param(policy, binding) {
                Ok(Some(param)) => self.invoke(policy, binding, param.as_deref()),
                Ok(None) => {}
                Err(error) => self.fail(policy, Some(binding), &error),
            }
        }
    }

    /// The parameter of this binding: `Some(None)` runs without one, `None` does not run.
    fn param(
        &self,
        policy: &Value,
        binding: &Value,
    ) -> Result<Option<Option<Arc<Value>>>, EvalError> {
        let (Some(kind), Some(reference)) =
            (policy.pointer("/spec/paramKind"), binding.pointer("/spec/paramRef"))
        else {
            return Ok(Some(None));
        };
        let name = text(reference, "name");
        if name.is_empty() {
            return Err(EvalError::new(
                "paramRef.selector is not supported here: name the parameter",
            ));
        }
        let namespace = match text(reference, "namespace") {
            "" => self.request.namespace.as_str(),
            namespace => namespace,
        };
        let found = (self.surroundings.param)(
            text(kind, "apiVersion"),
            text(kind, "kind"),
            namespace,
            name,
        );
        match found {
            Some(param) => Ok(Some(Some(param))),
            None if text(reference, "parameterNotFoundAction") == "Deny" => Err(EvalError::new(
                "failed to configure binding: no params found for policy binding with `Deny` \
                     parameterNotFoundAction",
            )),
            None => Ok(None),
        }
    }

    fn invoke(&mut self, policy: &Value, binding: &Value, param: Option<&Value>) {
        let request = self.request_value();
        let variables: BTreeMap<String, String> = items(policy, "variables")
            .map(|variable| {
                (text(variable, "name").to_owned(), text(variable, "expression").to_owned())
            })
            .collect();
        match self.conditions(policy, &request, &variables, param) {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => return self.fail(policy, Some(binding), &error),
        }
        for mutation in items(policy, "mutations") {
            match self.mutation(mutation, &request, &variables, param) {
                Ok(mut object) => {
                    (self.surroundings.default)(&mut object);
                    self.object = object;
                    self.mutated = true;
                }
                Err(error) => self.fail(policy, Some(binding), &error),
            }
        }
    }

    fn env<'e>(
        &'e self,
        request: &'e Value,
        variables: &BTreeMap<String, String>,
        param: Option<&'e Value>,
    ) -> Env<'e> {
        let or_null = |value: Option<&'e Value>| value.map_or_else(Val::null, Val::borrowed);
        let roots = [
            ("object", Val::borrowed(&self.object)),
            ("oldObject", or_null(self.old)),
            ("params", or_null(param)),
            ("request", Val::borrowed(request)),
            ("namespaceObject", or_null(self.surroundings.namespace)),
        ];
        Env::new(roots, variables)
    }

    /// One false condition is a no, whatever else errs; else an error counts.
    fn conditions(
        &self,
        policy: &Value,
        request: &Value,
        variables: &BTreeMap<String, String>,
        param: Option<&Value>,
    ) -> Result<bool, EvalError> {
        let mut failed = None;
        for condition in items(policy, "matchConditions") {
            // Each condition has its own view of the variables, as on the server.
            let env = self.env(request, variables, param);
            let value = env.evaluate(text(condition, "expression"));
            match value.and_then(|value| value.as_bool().ok_or_else(EvalError::overload)) {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(true), Err)
    }

    fn mutation(
        &self,
        mutation: &Value,
        request: &Value,
        variables: &BTreeMap<String, String>,
        param: Option<&Value>,
    ) -> Result<Value, EvalError> {
        let env = self.env(request, variables, param);
        let evaluate = |path: &str| {
            let source = mutation.pointer(path).and_then(Value::as_str).unwrap_or("");
            env.evaluate(source).map_err(|error| {
                EvalError::new(format!("expression '{source}' resulted in error: {error}"))
            })
        };
        match text(mutation, "patchType") {
            "JSONPatch" => merge::json_patch(&self.object, evaluate("/jsonPatch/expression")?),
            "ApplyConfiguration" => merge::apply_configuration(
                &self.object,
                evaluate("/applyConfiguration/expression")?,
            ),
            other => Err(EvalError::new(format!("unknown patchType {other:?}"))),
        }
    }

    /// The `request` variable.
    fn request_value(&self) -> Value {
        let AdmissionRequest {
            operation,
            username,
            groups,
            dry_run,
            group,
            version,
            resource,
            kind,
            subresource,
            namespace,
            name,
        } = self.request;
        let kind = json!({"group": group, "version": version, "kind": kind});
        let resource = json!({"group": group, "version": version, "resource": resource});
        let mut request = json!({
            "uid": "",
            "kind": kind,
            "requestKind": kind,
            "resource": resource,
            "requestResource": resource,
            "operation": operation,
            "userInfo": {"username": username, "groups": groups},
            "dryRun": dry_run,
        });
        for (key, value) in [
            ("subResource", subresource),
            ("requestSubResource", subresource),
            ("namespace", namespace),
            ("name", name),
        ] {
            if !value.is_empty() {
                request[key] = json!(value);
            }
        }
        request
    }
}
