//! The edges: what HTTP adds to [`Call`](super::Call)s. A request is read by `route`, answered by
//! `service` (or streamed by `watch`), and shown in the form that the client accepts by `present`.
//! `serve` puts the same service behind a socket.

mod faults;
mod log;
mod present;
mod route;
mod serve;
mod service;
mod watch;

pub use faults::{Fault, Faults, RequestInfo};
pub use log::{Log, LogEntry};
pub use present::partial;
pub use serve::{Tokens, kubeconfig};
pub use service::{ApiService, Body};
