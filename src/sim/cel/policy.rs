//! One policy over one object: its bindings, parameters, conditions, and its mutations or validations.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use super::{
    admission::{AdmissionRequest, MutateOutcome, Policies, ValidateOutcome},
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

/// The variables of a policy, each with its expression.
type Variables<'p> = BTreeMap<&'p str, &'p str>;

fn variables(policy: &Value) -> Variables<'_> {
    let named = |variable| (text(variable, "name"), text(variable, "expression"));
    items(policy, "variables").map(named).collect()
}

/// A longer `messageExpression` is passed over.
const MESSAGE_MAX: usize = 5 * 1024;

/// The object on its way through the policies.
pub(super) struct Run<'a> {
    pub(super) request: &'a AdmissionRequest,
    pub(super) old: Option<&'a Value>,
    pub(super) surroundings: &'a Policies<'a>,
    pub(super) object: Value,
    pub(super) mutated: bool,
    pub(super) ignored: Vec<String>,
    pub(super) denied: Option<String>,
    pub(super) warnings: Vec<String>,
}

/// What a policy does once a binding of it matches.
pub(super) type Invoke<'a> = fn(&mut Run<'a>, &Value, &Value, Option<&Value>);

impl<'a> Run<'a> {
    pub(super) fn begin(
        request: &'a AdmissionRequest,
        object: Value,
        old: Option<&'a Value>,
        surroundings: &'a Policies<'a>,
    ) -> Self {
        Self {
            request,
            old,
            surroundings,
            object,
            mutated: false,
            ignored: Vec::new(),
            denied: None,
            warnings: Vec::new(),
        }
    }

    pub(super) fn end(self) -> MutateOutcome {
        let Self { object, ignored, denied, .. } = self;
        MutateOutcome { object, ignored, denied }
    }

    pub(super) fn verdict(self) -> ValidateOutcome {
        let Self { ignored, denied, warnings, .. } = self;
        ValidateOutcome { ignored, denied, warnings }
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

    pub(super) fn policy(&mut self, policy: &Value, invoke: Invoke<'a>) {
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
                Ok(Some(param)) => invoke(self, policy, binding, param.as_deref()),
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

    /// What the expressions of a policy see, where its conditions hold.
    fn applies<'p>(
        &mut self,
        policy: &'p Value,
        binding: &Value,
        param: Option<&Value>,
    ) -> Option<(Value, Variables<'p>)> {
        let request = self.request_value();
        let variables = variables(policy);
        match self.conditions(policy, &request, &variables, param) {
            Ok(holds) => holds.then_some((request, variables)),
            Err(error) => {
                self.fail(policy, Some(binding), &error);
                None
            }
        }
    }

    pub(super) fn mutations(&mut self, policy: &Value, binding: &Value, param: Option<&Value>) {
        let Some((request, variables)) = self.applies(policy, binding, param) else { return };
        for mutation in items(policy, "mutations") {
            match self.mutation(mutation, &request, &variables, param) {
                Ok(changed) => {
                    // Left as it was, it is as it was defaulted before.
                    if let Some(mut object) = changed {
                        (self.surroundings.default)(&mut object);
                        self.object = object;
                    }
                    self.mutated = true;
                }
                Err(error) => self.fail(policy, Some(binding), &error),
            }
        }
    }

    /// What is not true warns or denies, as the binding says.
    pub(super) fn validations(&mut self, policy: &Value, binding: &Value, param: Option<&Value>) {
        let Some((request, variables)) = self.applies(policy, binding, param) else { return };
        let actions = binding.pointer("/spec/validationActions").and_then(Value::as_array);
        let does = |action: &str| actions.is_some_and(|all| all.iter().any(|one| one == action));
        let names = format!(
            "ValidatingAdmissionPolicy '{}' with binding '{}'",
            name_of(policy),
            name_of(binding)
        );
        for validation in items(policy, "validations") {
            let broken = self.broken(validation, &request, &variables, param);
            match broken {
                Ok(None) => {}
                Ok(Some(message)) => {
                    if does("Warn") {
                        self.warnings.push(format!("Validation failed for {names}: {message}"));
                    }
                    if does("Deny") && self.denied.is_none() {
                        self.denied = Some(format!("{names} denied request: {message}"));
                    }
                }
                Err(error) => self.fail(policy, Some(binding), &error),
            }
        }
    }

    /// The message of a validation that does not hold: a `messageExpression` that gives one line counts
    /// before `message`.
    fn broken(
        &self,
        validation: &Value,
        request: &Value,
        variables: &Variables<'_>,
        param: Option<&Value>,
    ) -> Result<Option<String>, EvalError> {
        let source = text(validation, "expression");
        // One environment for both, so that the message costs no second look at the variables.
        let env = self.env(request, variables, param);
        let holds = env.evaluate(source).map_err(|error| {
            EvalError::new(format!("expression '{source}' resulted in error: {error}"))
        })?;
        if holds.as_bool().ok_or_else(EvalError::overload)? {
            return Ok(None);
        }
        let told = match text(validation, "messageExpression") {
            "" => None,
            source => env.evaluate(source).ok().and_then(|value| value.as_str().map(str::to_owned)),
        };
        let one_line = |told: &String| {
            !told.trim().is_empty() && !told.contains('\n') && told.len() <= MESSAGE_MAX
        };
        let message = match (told.filter(one_line), text(validation, "message")) {
            (Some(told), _) => told.trim().to_owned(),
            (None, "") => format!("failed expression: {}", source.trim()),
            (None, message) => message.trim().to_owned(),
        };
        Ok(Some(message))
    }

    fn env<'e>(
        &'e self,
        request: &'e Value,
        variables: &'e Variables<'e>,
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
        variables: &Variables<'_>,
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
        variables: &Variables<'_>,
        param: Option<&Value>,
    ) -> Result<Option<Value>, EvalError> {
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
