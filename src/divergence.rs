//! The measures, by name.

use std::fmt;
use std::str::FromStr;

use crate::Error;
use crate::error::by_name;

/// Which measure of how far Q lies from P.
///
/// ```
/// use kullback::Divergence;
///
/// assert_eq!("kl".parse(), Ok(Divergence::Kl));
/// assert_eq!(Divergence::ALL.len(), 1);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Divergence {
    /// The Kullback-Leibler divergence `D(P‖Q) = Σ p·ln(p/q)` in nats (Kullback and Leibler,
    /// "On Information and Sufficiency", Ann. Math. Statist. 22, 1951). From 0, where P = Q, to
    /// +inf, where P has mass in a bin in which Q has none. Not symmetric; not a metric.
    #[default]
    Kl,
}

impl Divergence {
    /// All of them.
    pub const ALL: &'static [Divergence] = &[Divergence::Kl];

    /// The name, as the command takes it.
    pub fn name(self) -> &'static str {
        match self {
            Divergence::Kl => "kl",
        }
    }
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Divergence {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        by_name("divergence", name, Divergence::ALL, Divergence::name)
    }
}
