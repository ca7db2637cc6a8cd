//! Built-in kinds: the defaults that the API server writes, the zero values that it drops, and the
//! rules that matter to a release.
//!
//! It does not generate: cluster IPs, node ports, a Job's selector. It does not judge: everything
//! about volumes, probes, affinity and resources.

mod defaults;
mod pod;
mod validate;
mod zero;

pub use defaults::default;
pub use validate::validate;
