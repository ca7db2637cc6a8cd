//! Sluice: progressive delivery for Kubernetes.
//!
//! Observe, plan, apply: a pure planner turns a snapshot of the cluster and the time into a status,
//! a list of fully decided actions, the next wake-up and the reason for waiting; everything else is
//! an adapter around it.
//!
//! ```text
//!           watches, stores             pure, synchronous, deterministic              the only writer
//! cluster -----------------> observe ---> rollout::plan ---> Plan -----------> apply ------> cluster
//!                               ^              ^               |
//! metric servers --> providers -+---> analysis-+               +--> events, telemetry, cli
//! ```
//!
//! # The rooms
//!
//! A room uses only rooms on earlier lines, and inside line 2 only those named before it;
//! `tests/it/tidy.rs` reads the `use crate::` lines and enforces it. Lines 0 to 2 know no runtime, no
//! client, no `now()` and no chance.
//!
//! | line | room | what lives there |
//! | --- | --- | --- |
//! | 0 | [`units`], [`clock`], [`telemetry`] | percent, weights; `trait Clock`; handles of our own metrics |
//! | 0 | [`stats`] | the mathematics of judging: slices in, numbers out |
//! | 1 | [`api`] | what users write: types, defaults, schemas, rules; `crds/` is generated from it |
//! | 2 | [`spec`] | parse, don't validate: every error names its path |
//! | 2 | [`workload`] | how a Deployment is held, moved by one knob, brought to rest, given back |
//! | 2 | [`traffic`] | a step's weights and matches to an edited route and Service, and back |
//! | 2 | [`analysis`] | template and measurements to a verdict |
//! | 2 | [`rollout`] | the release: `rollout::plan(&Snapshot, now) -> Plan` |
//! | 3 | [`observe`] | objects to a Snapshot |
//! | 3 | [`apply`] | Action to API call: the only writer; each write carries uid and resourceVersion |
//! | 3 | [`providers`] | metric servers: one pool, one client for each kind |
//! | 3 | [`hooks`] | outgoing calls that a release waits for |
//! | 3 | [`alerts`] | firing alerts to what they ask of a release |
//! | 4 | [`controller`] | the process: Lease, watches, queue; [`controller::Engine`] is one reconcile |
//! | 4 | [`server`] | health, metrics and the alert receiver over HTTP |
//! | 5 | [`sim`] | a cluster in memory: API server, controllers, nodes, gateway, load, PromQL |
//! | 6 | [`cli`] | what a person types |
//!
//! State lives in the Kubernetes API and nowhere else. A reconcile may be cut off after any write and run
//! again by another process.
//!
//! # Where to start
//!
//! `rollout/machine.rs` asks the questions of a release in the order in which they bind. `workload/knob.rs`
//! is how the native controller is made to move exactly k pods. `charts/sluice/policies` is what holds a
//! workload while nobody is there.
//!
//! # Decisions that bind
//!
//! - *Traffic on the way back.* While a release goes back, the stable version may carry the whole load as
//!   soon as `n - maxUnavailable` of its pods are ready, which is what the user's own strategy promises
//!   during any update; with fewer, its share is `ready / (n - maxUnavailable)`. Counting against all n
//!   would keep a broken version serving until the very last stable pod is back.
//! - *Traffic to a smaller step* goes down by the same rule, before the pods do, and the canary Service stays
//!   pinned: served by every version, it would double the load of the few stable pods.
//! - *A last step at 100 %* with an explicit `pause: {}` waits for a person; Kruise passes it.
//! - *No data never fails a release.* It holds, and says what is missing; Argo aborts.
//! - *A policy that errs lets through.* So the gate is proven by a dry run before it is relied on, and
//!   repaired by the controller where it cannot be proven.
//! - *A workload that is let go with every pod new* is given back as its user wrote it: nothing is held
//!   there. With two ReplicaSets it stays paused, without the user's `maxSurge`, which the Gate remembers.
//! - *The surge at rest is what is too many.* Paused, the native controller takes the pods beyond
//!   `maxSurge` from its largest ReplicaSet, ready or not; so a pause in mid-move and a let-go keep as much.
//! - *A canary Service without a ready pod* serves from every version until one is back: its share of the
//!   requests is answered.
//! - *A hook is asked once for each decision.* A call whose answer was lost in a crash is `Unknown` and goes
//!   to `onInconclusive`; it is asked again, with the same id, only where `retries` allows that.
//! - *A release spends its risk once.* All its runs, steps and retries are one process of evidence.
//! - *Calibration is a Rollout's, not a template's*: the workload and the arguments decide what is asked.
//! - *Four ports*: `Clock`, the metric source, `kube::Client`, and the caller of hooks.
//! - *Roles, policies and definitions of an install* are the chart's files; a test compares what Helm
//!   renders with what `sluice install` applies.

pub mod alerts;
pub mod analysis;
pub mod api;
pub mod apply;
pub mod cli;
pub mod clock;
pub mod controller;
pub mod hooks;
pub mod observe;
pub mod providers;
pub mod rollout;
pub mod server;
pub mod sim;
pub mod spec;
pub mod stats;
pub mod telemetry;
pub mod traffic;
pub mod units;
pub mod workload;
