//! Pure: desired weights and matches to the edited route, and back to the original.
