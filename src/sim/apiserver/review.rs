//! Questions that are answered and not stored: who am I, and may I.

use serde_json::{Value, json};

use super::{
    ApiStatus, Refusable, Verb, fields::object_mut, prepare::time, server::Request, users,
};

/// Answers a review.
pub fn answer(request: &mut Request<'_>) -> Refusable<Value> {
    if request.call.verb != Verb::Create {
        return Err(ApiStatus::method_not_allowed());
    }
    let user = &request.call.user;
    let status = match request.kind.kind.as_str() {
        "SelfSubjectReview" => {
            json!({"userInfo": {"username": user, "groups": users::groups(user)}})
        }
        _ => json!({"allowed": true, "reason": "everybody may do everything here"}),
    };
    let mut review = request.body.take();
    let fields = object_mut(&mut review);
    fields.insert("apiVersion".into(), json!(request.kind.key.api_version()));
    fields.insert("kind".into(), json!(request.kind.kind));
    fields.insert("metadata".into(), json!({"creationTimestamp": time(request.now)}));
    fields.insert("status".into(), status);
    Ok(review)
}
