//! What the numbers of a side are.

use std::fmt;

/// What the numbers of a side are.
///
/// ```
/// use kullback::Kind;
///
/// assert_eq!("log-probs".parse(), Ok(Kind::LogProbs));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Probabilities, or counts under a mass policy that takes them: finite and 0 or more.
    #[default]
    Probs,
    /// Natural logarithms of probabilities; −inf for a probability of 0.
    LogProbs,
    /// The input of a softmax: p is proportional to `exp(logit / T)` with the temperature T; −inf
    /// for a masked entry, whose probability is 0. Their mass is 1 by definition, so that no mass
    /// policy concerns them, and a constant added to a row changes nothing.
    Logits,
}

impl Kind {
    /// All of them.
    pub const ALL: &'static [Kind] = &[Kind::Probs, Kind::LogProbs, Kind::Logits];

    /// The name, as the command takes it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Probs => "probs",
            Kind::LogProbs => "log-probs",
            Kind::Logits => "logits",
        }
    }
}

impl Kind {
    /// What numbers of the kind are divided by, of a temperature for logits.
    pub(crate) fn divided_by(self, temperature: f64) -> f64 {
        if self == Kind::Logits { temperature } else { 1.0 }
    }

    /// A number for a probability that is multiplied by the weight of its bin. What is left out is not
    /// looked at.
    pub(crate) fn weighted(self, x: f64, weight: f64, temperature: f64) -> f64 {
        match self {
            Kind::Probs if weight == 0.0 => 0.0,
            Kind::Probs => x * weight,
            Kind::LogProbs | Kind::Logits if weight == 0.0 => f64::NEG_INFINITY,
            Kind::LogProbs => x + weight.ln(),
            Kind::Logits => x + temperature * weight.ln(),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
