//! A place in an object, put into words only when something is to be said about it.

use std::fmt;

/// A path from the top of an object, such as `spec.containers[0].image`.
#[derive(Clone, Copy)]
pub(crate) enum Place<'a> {
    /// The object itself.
    Top,
    /// A field of an object.
    Field(&'a Self, &'a str),
    /// An item of a list.
    Item(&'a Self, usize),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Top => Ok(()),
            Self::Field(Self::Top, name) => f.write_str(name),
            Self::Field(above, name) => write!(f, "{above}.{name}"),
            Self::Item(above, at) => write!(f, "{above}[{at}]"),
        }
    }
}
