//! Properties of routes made at random.
