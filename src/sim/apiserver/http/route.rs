//! From a request's line and query to what is asked for.

use std::collections::BTreeMap;

use http::Method;
use serde_json::{Value, json};

use super::super::{
    ApiStatus, Call, FieldValidation, Options, PatchType, Refusable, ResourceKey, Verb,
};

/// Query parameters.
pub type Query = BTreeMap<String, String>;

/// What a path asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// `/version`.
    Version,
    /// `/healthz` and its relatives.
    Health,
    /// `/api`: the core group's versions.
    Core,
    /// `/apis`: the other groups.
    Groups,
    /// `/apis/GROUP`.
    Group(String),
    /// `/api/v1` and `/apis/GROUP/VERSION`.
    Resources(String, String),
    /// `/openapi/v3`.
    OpenApiIndex,
    /// `/openapi/v3/api...`: group, version.
    OpenApi(String, String),
    /// A resource; the call has no body yet.
    Resource(Box<Call>),
    /// A watch of a resource.
    Watch(Box<Call>),
}

/// Reads a query string.
#[must_use]
pub fn query(text: &str) -> Query {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        })
        .collect()
}

/// Undoes percent encoding; `+` is a space.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let hex = |digit: Option<u8>| digit.and_then(|d| char::from(d).to_digit(16));
                let (high, low) = (hex(rest.next()), hex(rest.next()));
                if let (Some(high), Some(low)) = (high, low) {
                    bytes.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                }
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads a path. Segments are as the client wrote them, percent-encoded.
pub fn target(method: &Method, path: &str, query: &Query, user: &str) -> Refusable<Target> {
    let decoded: Vec<String> =
        path.split('/').filter(|segment| !segment.is_empty()).map(decode).collect();
    let segments: Vec<&str> = decoded.iter().map(String::as_str).collect();
    Ok(match segments.as_slice() {
        ["version"] => Target::Version,
        ["healthz" | "livez" | "readyz", ..] => Target::Health,
        ["api"] => Target::Core,
        ["apis"] => Target::Groups,
        ["apis", group] => Target::Group((*group).to_owned()),
        ["api", version] => Target::Resources(String::new(), (*version).to_owned()),
        ["apis", group, version] => Target::Resources((*group).to_owned(), (*version).to_owned()),
        ["openapi", "v3"] => Target::OpenApiIndex,
        ["openapi", "v3", "api", version] => Target::OpenApi(String::new(), (*version).to_owned()),
        ["openapi", "v3", "apis", group, version] => {
            Target::OpenApi((*group).to_owned(), (*version).to_owned())
        }
        ["api", version, rest @ ..] => resource(method, "", version, rest, query, user)?,
        ["apis", group, version, rest @ ..] => resource(method, group, version, rest, query, user)?,
        _ => return Err(ApiStatus::no_such_resource()),
    })
}

fn resource(
    method: &Method,
    group: &str,
    version: &str,
    rest: &[&str],
    query: &Query,
    user: &str,
) -> Refusable<Target> {
    let (namespace, rest) = match rest {
        // `namespaces/NAME/status` is a subresource of a namespace, not a resource in it.
        [_, _, "status" | "finalize"] => (None, rest),
        ["namespaces", namespace, inner @ ..] if !inner.is_empty() => (Some(*namespace), inner),
        _ => (None, rest),
    };
    let (plural, name, subresource) = match *rest {
        [plural] => (plural, None, None),
        [plural, name] => (plural, Some(name), None),
        [plural, name, subresource] => (plural, Some(name), Some(subresource)),
        _ => return Err(ApiStatus::no_such_resource()),
    };
    let flag = |name: &str| query.get(name).is_some_and(|v| v == "true" || v == "1");
    let verb = match (method, name) {
        (&Method::GET, Some(_)) if !flag("watch") => Verb::Get,
        (&Method::GET, _) => Verb::List,
        (&Method::POST, None) => Verb::Create,
        (&Method::POST, Some(_)) if subresource.is_some() => Verb::Create,
        (&Method::PUT, Some(_)) => Verb::Update,
        // The content type says which patch it is; `body` sets it.
        (&Method::PATCH, Some(_)) => Verb::Patch(PatchType::Merge),
        (&Method::DELETE, Some(_)) => Verb::Delete,
        (&Method::DELETE, None) => Verb::DeleteCollection,
        _ => return Err(ApiStatus::method_not_allowed()),
    };
    let call = Box::new(Call {
        user: user.to_owned(),
        verb,
        resource: ResourceKey::new(group, version, plural),
        subresource: subresource.map(str::to_owned),
        namespace: namespace.map(str::to_owned),
        name: name.map(str::to_owned),
        body: Value::Null,
        options: options(query)?,
    });
    Ok(if flag("watch") && *method == Method::GET {
        Target::Watch(call)
    } else {
        Target::Resource(call)
    })
}

fn options(query: &Query) -> Refusable<Options> {
    let text = |name: &str| query.get(name).filter(|value| !value.is_empty()).cloned();
    let field_validation = match text("fieldValidation").as_deref() {
        None | Some("Warn") => FieldValidation::Warn,
        Some("Strict") => FieldValidation::Strict,
        Some("Ignore") => FieldValidation::Ignore,
        Some(other) => {
            let message = format!(
                "fieldValidation: Unsupported value: \"{other}\": supported values: \"Ignore\", \
                 \"Strict\", \"Warn\""
            );
            return Err(ApiStatus::bad_request(message));
        }
    };
    Ok(Options {
        dry_run: text("dryRun").is_some(),
        field_manager: text("fieldManager"),
        force: text("force").is_some_and(|value| value == "true"),
        field_validation,
        label_selector: text("labelSelector"),
        field_selector: text("fieldSelector"),
        limit: text("limit").and_then(|value| value.parse().ok()),
        continue_token: text("continue"),
        resource_version: text("resourceVersion"),
        propagation_policy: text("propagationPolicy"),
        grace_period_seconds: text("gracePeriodSeconds").and_then(|value| value.parse().ok()),
        user_agent: None,
    })
}

/// Reads a body by its content type: JSON or YAML, never protobuf.
pub fn body(call: &mut Call, content_type: &str, bytes: &[u8]) -> Refusable<()> {
    let media = content_type.split(';').next().unwrap_or_default().trim();
    let reviews =
        matches!(call.resource.group.as_ref(), "authentication.k8s.io" | "authorization.k8s.io");
    if let Verb::Patch(_) = call.verb {
        call.verb = Verb::Patch(match media {
            "application/json-patch+json" => PatchType::Json,
            "application/merge-patch+json" => PatchType::Merge,
            "application/strategic-merge-patch+json" => PatchType::Strategic,
            "application/apply-patch+yaml" => PatchType::Apply,
            _ => {
                let message = "415: Unsupported Media Type";
                let refusal = ApiStatus::new(415, "UnsupportedMediaType", message);
                return Err(Box::new(ApiStatus { details: json!({}), ..*refusal }));
            }
        });
    } else if !reviews && !matches!(media, "" | "application/json" | "application/yaml") {
        return Err(unsupported("application/json, application/yaml"));
    }
    if reviews {
        // What they ask does not matter to the answer, so it need not be readable.
        return Ok(());
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(());
    }
    let parsed = serde_json::from_slice(bytes);
    call.body = match parsed {
        Ok(value) => value,
        Err(_) if media.ends_with("yaml") => serde_saphyr::from_slice(bytes)
            .map_err(|error| ApiStatus::bad_request(format!("error parsing YAML: {error}")))?,
        Err(error) => {
            return Err(ApiStatus::bad_request(format!("error parsing JSON: {error}")));
        }
    };
    Ok(())
}

fn unsupported(accepted: &str) -> Box<ApiStatus> {
    let message = format!(
        "the body of the request was in an unknown format - accepted media types include: \
         {accepted}"
    );
    ApiStatus::new(415, "UnsupportedMediaType", message)
}
