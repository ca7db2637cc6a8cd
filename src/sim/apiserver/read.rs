//! GET of one object and of lists.

use serde_json::{Value, json};

use super::{ApiStatus, Refusable, scale, selector::Selector, server::Request, state::State, view};

/// One object, or one of its subresources.
pub fn get(request: &Request<'_>, state: &State) -> Refusable<Value> {
    let (kind, call) = (&request.kind, request.call);
    let name = call.name.as_deref().unwrap_or_default();
    let namespace = call.namespace.as_deref().unwrap_or_default();
    let served = match call.subresource.as_deref() {
        None => true,
        Some("status") => kind.status,
        Some("scale") => kind.scale.is_some(),
        Some(_) => false,
    };
    if !served {
        return Err(ApiStatus::no_such_resource());
    }
    let stored = state.stored(kind, namespace, name);
    let stored = stored.ok_or_else(|| ApiStatus::not_found(kind, name))?;
    let object = view::of(kind, stored);
    if call.subresource.as_deref() == Some("scale") {
        return scale::of(kind, &object);
    }
    Ok(Value::clone(&object))
}

/// The objects that the selectors choose, a page at a time.
pub fn list(request: &Request<'_>, state: &State) -> Refusable<Value> {
    let (kind, call) = (&request.kind, request.call);
    let selector = Selector::of(kind, call)?;
    let chosen = state.stored_all(kind, call.namespace.as_deref());
    let chosen = chosen.filter(|object| selector.matches(object));
    let token = call.options.continue_token.as_deref().unwrap_or_default();
    let (rv, skip) = page_start(token, state.rv)?;
    let mut rest = chosen.skip(skip);
    let limit = call.options.limit.filter(|limit| *limit > 0).unwrap_or(usize::MAX);
    let items: Vec<Value> =
        rest.by_ref().take(limit).map(|object| Value::clone(&view::of(kind, object))).collect();
    let left = rest.count();
    let mut metadata = json!({"resourceVersion": rv.to_string()});
    if left > 0 {
        metadata["continue"] = json!(format!("{rv}:{}", skip + items.len()));
        metadata["remainingItemCount"] = json!(left);
    }
    Ok(json!({
        "kind": kind.list_kind, "apiVersion": kind.key.api_version(),
        "metadata": metadata, "items": items,
    }))
}

/// Version and number of items to skip of a page. A page of an older list is refused once anything
/// was written, where Kubernetes would still serve the old snapshot for some minutes.
fn page_start(token: &str, rv: u64) -> Refusable<(u64, usize)> {
    if token.is_empty() {
        return Ok((rv, 0));
    }
    let parsed = token.split_once(':').and_then(|(v, n)| Some((v.parse().ok()?, n.parse().ok()?)));
    let (at, skip): (u64, usize) =
        parsed.ok_or_else(|| ApiStatus::bad_request("continue key is not valid"))?;
    if at != rv {
        let message = "The provided continue parameter is too old to display a consistent list \
                       result. You must start a new list without the continue parameter.";
        return Err(ApiStatus::expired(message));
    }
    Ok((at, skip))
}
