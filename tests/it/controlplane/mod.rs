//! The cluster tier: facts about the real API server and the real Deployment controller that Sluice
//! rests on, each as a test.
//!
//! Start at [`harness`], which runs etcd, kube-apiserver and kube-controller-manager on loopback.
//! [`stage`] is one namespace with pods that become ready one by one. The scenarios take nothing but
//! `kube::Client`s, so that the same ones run on the in-memory server.

mod admission;
mod approval;
mod conformance;
mod going_back;
pub(crate) mod harness;
mod in_memory;
mod job;
mod knob;
mod kubectl;
mod kubelet;
mod movement;
mod nodes;
mod ownership;
mod permissions;
mod policy;
mod resting;
mod rollback;
mod schemas;
mod stage;
mod third_version;
mod trace;
mod way_out;
