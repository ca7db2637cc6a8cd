//! The in-memory Kubernetes API server: real enough that kubectl, kube-rs and other people's
//! controllers cannot tell, as far as they are used here.
//!
//! The core is [`ApiServer::call`]: synchronous and deterministic, with time from a
//! [`Clock`](crate::clock::Clock) and names from a counter. Around it are the edges: a tower
//! service and an HTTP server. Start reading at `server`, then `write`.
//!
//! What it keeps to, each point with a test: identity and times from the server; the generation
//! grows with the spec; status and the rest are written apart; a write that changes nothing keeps
//! the resourceVersion; stale writes and foreign uids are refused; dry runs store nothing; the
//! scale subresource; finalizers, grace, owners, namespaces and definitions in deletion; label and
//! field selectors, pages; strategic merge, JSON and merge patches; server-side apply and
//! managedFields; Events in two versions; watches with bookmarks, initial events and 410 Gone;
//! tables; discovery and schemas. `tests/it/controlplane/conformance.rs` sends the same requests to
//! a kube-apiserver and compares the answers.
//!
//! It refuses: protobuf bodies, conversion between versions (only `apiVersion` changes), role-based
//! access (everybody may do everything). Garbage is collected within the request that made it, and
//! foreground deletion is background deletion.

mod apply;
mod bootstrap;
mod call;
mod delete;
mod direct;
mod discovery;
mod fields;
mod fieldset;
mod http;
mod jsonpath;
mod kinds;
mod managed;
mod openapi;
mod patch;
mod plugins;
mod prepare;
mod read;
mod review;
mod scale;
mod schemas;
mod selector;
mod server;
mod state;
mod status;
mod strategic;
mod table;
mod users;
mod view;
mod write;

pub use call::{Call, FieldValidation, Options, PatchType, ResourceKey, Verb};
pub use http::{ApiService, Body, Fault, Faults, Log, LogEntry, RequestInfo, Tokens, kubeconfig};
pub use kinds::{Generation, Kind, ScalePaths};
pub use plugins::{Operation, Plugins, Reader, Write};
pub use server::{ApiServer, Reply};
pub use state::{Change, ChangeKind};
pub use status::{ApiStatus, Cause, Refusable};

#[cfg(test)]
mod tests;
