//! Behaviour of whole plans on hand-made snapshots.
