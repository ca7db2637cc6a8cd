//! Pure: from templates and measurements to a verdict.
