//! Small numbers that must not be mixed up: a percentage, a target of pods, a tolerance.
//!
//! Each is checked when it is made; whoever holds one need not check again.

use std::fmt;

/// Why a number was refused. The remedy is in the text; the path and the value are the caller's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Not `N%`.
    #[error("must be a whole percentage such as `10%`, from 0% to 100%")]
    NotAPercentage,
    /// A target of no pods.
    #[error("must be above 0; leave the step out to have no pod of the new version")]
    NoPods,
    /// A number below zero.
    #[error("must be 0 or more")]
    Negative,
}

/// A whole percentage from 0 to 100.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(u8);

impl Percent {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// All.
    pub const ALL: Self = Self(100);

    /// The percentage `n`, if it is from 0 to 100.
    #[must_use]
    pub fn new(n: i32) -> Option<Self> {
        u8::try_from(n).ok().filter(|n| *n <= 100).map(Self)
    }

    /// Reads `N%`: digits and the sign, nothing else.
    ///
    /// # Errors
    /// When it is anything else, or above 100.
    pub fn parse(text: &str) -> Result<Self, UnitError> {
        let digits = text.strip_suffix('%').ok_or(UnitError::NotAPercentage)?;
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(UnitError::NotAPercentage);
        }
        digits.parse().ok().and_then(Self::new).ok_or(UnitError::NotAPercentage)
    }

    /// The number without its sign, from 0 to 100.
    #[must_use]
    pub fn get(self) -> i32 {
        i32::from(self.0)
    }

    /// The share of `n`, rounded up; nothing of nothing.
    #[must_use]
    pub fn of(self, n: i32) -> i32 {
        let share = (i64::from(n.max(0)) * i64::from(self.0) + 99) / 100;
        i32::try_from(share).unwrap_or(n)
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

/// How many pods of the new version a step wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicasTarget {
    /// This many, or all when there are fewer.
    Absolute(i32),
    /// This share.
    Percent(Percent),
}

impl ReplicasTarget {
    /// A number of pods, above 0.
    ///
    /// # Errors
    /// When it is 0 or less.
    pub fn absolute(n: i32) -> Result<Self, UnitError> {
        if n > 0 { Ok(Self::Absolute(n)) } else { Err(UnitError::NoPods) }
    }

    /// Reads `N%`, above 0 %.
    ///
    /// # Errors
    /// When it is no percentage, or `0%`.
    pub fn percent(text: &str) -> Result<Self, UnitError> {
        match Percent::parse(text)? {
            Percent::ZERO => Err(UnitError::NoPods),
            share => Ok(Self::Percent(share)),
        }
    }

    /// The pods of a workload of `n`. A share is rounded up and stays below `n` unless it is 100 %,
    /// so that a workload of several pods keeps one stable pod; of a single pod, one.
    #[must_use]
    pub fn of(self, n: i32) -> i32 {
        let n = n.max(0);
        match self {
            Self::Absolute(k) => k.clamp(0, n),
            Self::Percent(Percent::ALL) => n,
            Self::Percent(share) if n > 1 => share.of(n).min(n - 1),
            Self::Percent(share) => share.of(n),
        }
    }

    /// True when this is every pod whatever their number: 100 %.
    #[must_use]
    pub fn is_all(self) -> bool {
        self == Self::Percent(Percent::ALL)
    }
}

impl fmt::Display for ReplicasTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absolute(n) => n.fmt(f),
            Self::Percent(share) => share.fmt(f),
        }
    }
}

/// How many pods of a batch may be not ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tolerance {
    /// This many.
    Absolute(i32),
    /// This share, rounded up.
    Percent(Percent),
}

impl Default for Tolerance {
    fn default() -> Self {
        Self::Absolute(0)
    }
}

impl Tolerance {
    /// A number of pods, 0 or more.
    ///
    /// # Errors
    /// When it is below 0.
    pub fn absolute(n: i32) -> Result<Self, UnitError> {
        if n >= 0 { Ok(Self::Absolute(n)) } else { Err(UnitError::Negative) }
    }

    /// Reads `N%`.
    ///
    /// # Errors
    /// When it is no percentage.
    pub fn percent(text: &str) -> Result<Self, UnitError> {
        Percent::parse(text).map(Self::Percent)
    }

    /// The pods of a batch of `n` that may be not ready.
    #[must_use]
    pub fn of(self, n: i32) -> i32 {
        match self {
            Self::Absolute(k) => k.clamp(0, n.max(0)),
            Self::Percent(share) => share.of(n),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Result<ReplicasTarget, UnitError> {
        ReplicasTarget::percent(text)
    }

    #[test]
    fn a_percentage_is_digits_and_a_sign_up_to_a_hundred() {
        assert_eq!(Percent::parse("0%"), Ok(Percent::ZERO));
        assert_eq!(Percent::parse("100%"), Ok(Percent::ALL));
        for bad in ["", "%", "10", "101%", "-1%", "+5%", " 5%", "5 %", "1.5%", "99999999999%"] {
            assert_eq!(Percent::parse(bad), Err(UnitError::NotAPercentage), "{bad}");
        }
    }

    #[test]
    fn a_share_of_pods_is_rounded_up_and_leaves_one_stable_pod() {
        let cases =
            [("1%", 10, 1), ("10%", 10, 1), ("11%", 10, 2), ("99%", 10, 9), ("100%", 10, 10)];
        for (text, n, want) in cases {
            assert_eq!(target(text).unwrap().of(n), want, "{text} of {n}");
        }
        assert_eq!(target("99%").unwrap().of(3), 2);
        assert_eq!(target("1%").unwrap().of(1), 1);
        assert_eq!(target("50%").unwrap().of(0), 0);
        assert_eq!(target("99%").unwrap().of(i32::MAX), 2_126_008_811);
    }

    #[test]
    fn a_number_of_pods_is_at_most_all_of_them() {
        let three = ReplicasTarget::absolute(3).unwrap();
        assert_eq!([three.of(10), three.of(3), three.of(2), three.of(0)], [3, 3, 2, 0]);
    }

    #[test]
    fn a_target_of_no_pods_is_refused() {
        assert_eq!(target("0%"), Err(UnitError::NoPods));
        assert_eq!(ReplicasTarget::absolute(0), Err(UnitError::NoPods));
        assert_eq!(ReplicasTarget::absolute(-1), Err(UnitError::NoPods));
    }

    #[test]
    fn a_tolerance_may_be_nothing_and_is_rounded_up() {
        assert_eq!(Tolerance::default().of(10), 0);
        let tenth = Tolerance::percent("10%").unwrap();
        assert_eq!([tenth.of(1), tenth.of(10), tenth.of(11)], [1, 1, 2]);
        assert_eq!(Tolerance::absolute(-1), Err(UnitError::Negative));
    }
}
