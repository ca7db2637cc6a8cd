//! The binary: sets up the process and hands over to `cli`.

fn main() {}
