//! Parse, don't validate: what users wrote becomes checked domain types; every error names its path.
