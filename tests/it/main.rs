//! The one integration test binary: each module is a tier or a part.
mod prometheus;
