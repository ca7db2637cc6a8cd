//! What a new cluster holds.

use serde_json::json;

use super::ApiServer;

/// Creates the namespaces that every cluster has.
#[expect(clippy::expect_used, reason = "a new store has none of them")]
pub fn fill(server: &ApiServer) {
    for name in ["default", "kube-node-lease", "kube-public", "kube-system"] {
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name},
        });
        server.create("system:apiserver", namespace).expect("a new store has no namespaces");
    }
}
