//! Who a user is.

/// The groups of a user, as the API server's authenticators give them.
#[must_use]
pub fn groups(user: &str) -> Vec<String> {
    let mut groups = Vec::new();
    if let Some(account) = user.strip_prefix("system:serviceaccount:") {
        let namespace = account.split(':').next().unwrap_or_default();
        groups.push("system:serviceaccounts".to_owned());
        groups.push(format!("system:serviceaccounts:{namespace}"));
    } else if user == "admin" {
        groups.push("system:masters".to_owned());
    }
    groups.push("system:authenticated".to_owned());
    groups
}
