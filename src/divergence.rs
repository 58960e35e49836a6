//! The measures, by name, and how each is made of sums over the bins of a row.

use std::f64::consts::LN_2;
use std::fmt;
use std::str::FromStr;

use crate::integrand::Integrand;
use crate::{Error, Mass};

/// Which measure of how far Q lies from P.
///
/// Each is told below by its formula, its range, and the rows for which it is +inf; the README has them in one
/// table. p and q are the two rows as distributions: under the mass policies `check` and `normalize` divided
/// by their sums, and softmax of logits under all of them. Values are in nats where there is a
/// logarithm in the formula. All but the last two are 0 where P = Q bit for bit, and never negative.
///
/// Where A is at one of its limits the limit is meant: `renyi:1`, `tsallis:1` and `alpha:1` are `kl`,
/// `alpha:0` is `reverse-kl`, `renyi:0` is `−ln Σ q` over the bins in which p > 0, and `renyi:inf` is
/// the largest `ln(p/q)`.
///
/// Under the mass policies [`AsGiven`](Mass::AsGiven) and [`Generalized`](Mass::Generalized) p and q
/// stand in the formulas as they are. `kl` and `reverse-kl` are what these policies say; `alpha` is
/// `Σ (A·p + (1−A)·q − pᴬ·q¹⁻ᴬ) / (A·(1−A))` under `generalized`. Where a formula has a constant or a
/// logarithm that takes masses of 1 for granted, the policy is refused: `renyi`, `tsallis` and
/// `bhattacharyya` under both, `alpha` under `as-given`.
///
/// ```
/// use kullback::{Batch, Divergence, Engine};
/// use ndarray::array;
///
/// // Supports that do not touch: one is as far as two distributions can be from each other.
/// let (p, q) = (array![[1.0_f64, 0.0]], array![[0.0, 1.0]]);
/// let batch = Batch::probs(&p, &q)?;
/// let value = |divergence| Engine::cpu().rows(divergence, &batch).map(|outcome| outcome.values[0]);
/// assert_eq!(value(Divergence::JensenShannon(0.5))?, std::f64::consts::LN_2);
/// assert_eq!(value(Divergence::TotalVariation)?, 1.0);
/// assert_eq!(value(Divergence::Kl)?, f64::INFINITY);
/// assert_eq!("renyi:2".parse(), Ok(Divergence::Renyi(2.0)));
/// # Ok::<(), kullback::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Divergence {
    /// The Kullback-Leibler divergence `D(P‖Q) = Σ p·ln(p/q)`, from 0 up; +inf where some p > 0 = q
    /// (Kullback and Leibler, "On Information and Sufficiency", Ann. Math. Statist. 22, 1951).
    #[default]
    Kl,
    /// `D(Q‖P) = Σ q·ln(q/p)`; +inf where some q > 0 = p.
    ReverseKl,
    /// `D(P‖Q) + D(Q‖P) = Σ (p − q)·ln(p/q)`, symmetric; +inf where either is (Jeffreys, "An invariant form for the prior probability in estimation
    /// problems", Proc. R. Soc. A 186, 1946).
    Jeffreys,
    /// The Jensen-Shannon divergence `w·D(P‖M) + (1−w)·D(Q‖M)` with `m = w·p + (1−w)·q` and the weight w of
    /// P, above 0 and below 1. From 0 to `ln 2` for w = ½, which is symmetric; never infinite (Lin, "Divergence
    /// measures based on the Shannon entropy", IEEE Trans. Inf. Theory 37, 1991).
    JensenShannon(f64),
    /// The root of the Jensen-Shannon divergence with weight ½, a metric from 0 to `√ln 2` (Endres and Schindelin, "A new
    /// metric for probability distributions", IEEE Trans. Inf. Theory 49, 2003).
    JsDistance,
    /// The Rényi divergence `ln(Σ pᵃ·q¹⁻ᵃ) / (a − 1)` of an order from 0 to ∞; +inf from order 1 on where some
    /// p > 0 = q, below it where no bin has both (van Erven and Harremoës, "Rényi Divergence and
    /// Kullback-Leibler Divergence", IEEE Trans. Inf. Theory 60, 2014).
    Renyi(f64),
    /// The Tsallis relative entropy `(Σ pᵃ·q¹⁻ᵃ − 1) / (a − 1)` of a finite order, 0 or more; +inf from order 1
    /// on where some p > 0 = q (Tsallis, "Generalized entropy-based
    /// criterion for consistent testing", Phys. Rev. E 58, 1998).
    Tsallis(f64),
    /// Amari's α-divergence `(1 − Σ pᵃ·q¹⁻ᵃ) / (a·(1 − a))` of any finite order, as Cichocki and Amari write
    /// it; +inf from 1 on where some p > 0 = q, up to 0 where some q > 0 = p ("Families of Alpha- Beta- and Gamma-Divergences", Entropy 12, 2010).
    Alpha(f64),
    /// The Hellinger distance `√(½·Σ (√p − √q)²)`, a metric from 0 to 1 (Le Cam and Yang, "Asymptotics in
    /// Statistics", 2000).
    Hellinger,
    /// The total variation distance `½·Σ |p − q|`, a metric from 0 to 1 (Levin, Peres and Wilmer, "Markov
    /// Chains and Mixing Times", 2009).
    TotalVariation,
    /// Pearson's χ² divergence `Σ (p − q)²/q`; +inf where some p > 0 = q (Pearson, "On the criterion …",
    /// Philos. Mag. 50, 1900).
    ChiSquared,
    /// The Bhattacharyya distance `−ln Σ √(p·q)`, symmetric, half of the Rényi divergence of order ½; +inf where
    /// no bin has both (Bhattacharyya, "On a measure of divergence between two statistical populations …",
    /// Bull. Calcutta Math. Soc. 35, 1943).
    Bhattacharyya,
    /// The cross-entropy `−Σ p·ln q = H(P) + D(P‖Q)`; +inf where some p > 0 = q (Cover and Thomas, "Elements of
    /// Information Theory", 2006).
    CrossEntropy,
    /// The Shannon entropy of P, `−Σ p·ln p`, from 0 to the logarithm of the bins; Q is checked, and does not
    /// enter (Shannon, "A Mathematical Theory of Communication", Bell Syst. Tech. J. 27, 1948).
    Entropy,
}

impl Divergence {
    /// One of each. Those that have a parameter stand here with an example of it.
    pub const ALL: &'static [Divergence] = &[
        Divergence::Kl,
        Divergence::ReverseKl,
        Divergence::Jeffreys,
        Divergence::JensenShannon(0.5),
        Divergence::JsDistance,
        Divergence::Renyi(0.5),
        Divergence::Tsallis(2.0),
        Divergence::Alpha(0.5),
        Divergence::Hellinger,
        Divergence::TotalVariation,
        Divergence::ChiSquared,
        Divergence::Bhattacharyya,
        Divergence::CrossEntropy,
        Divergence::Entropy,
    ];

    /// The name without the parameter.
    pub fn name(self) -> &'static str {
        match self {
            Divergence::Kl => "kl",
            Divergence::ReverseKl => "reverse-kl",
            Divergence::Jeffreys => "jeffreys",
            Divergence::JensenShannon(_) => "js",
            Divergence::JsDistance => "js-distance",
            Divergence::Renyi(_) => "renyi",
            Divergence::Tsallis(_) => "tsallis",
            Divergence::Alpha(_) => "alpha",
            Divergence::Hellinger => "hellinger",
            Divergence::TotalVariation => "tv",
            Divergence::ChiSquared => "chi2",
            Divergence::Bhattacharyya => "bhattacharyya",
            Divergence::CrossEntropy => "cross-entropy",
            Divergence::Entropy => "entropy",
        }
    }

    /// The parameter of those that have one.
    pub fn parameter(self) -> Option<f64> {
        match self {
            Divergence::JensenShannon(parameter)
            | Divergence::Renyi(parameter)
            | Divergence::Tsallis(parameter)
            | Divergence::Alpha(parameter) => Some(parameter),
            _ => None,
        }
    }

    /// The same measure with another parameter; itself if it has none.
    fn with_parameter(self, parameter: f64) -> Divergence {
        match self {
            Divergence::JensenShannon(_) => Divergence::JensenShannon(parameter),
            Divergence::Renyi(_) => Divergence::Renyi(parameter),
            Divergence::Tsallis(_) => Divergence::Tsallis(parameter),
            Divergence::Alpha(_) => Divergence::Alpha(parameter),
            other => other,
        }
    }

    /// Whether swapping P and Q never changes a value: then it changes no bit of it.
    ///
    /// ```
    /// use kullback::Divergence;
    ///
    /// assert!(Divergence::JensenShannon(0.5).is_symmetric());
    /// assert!(!Divergence::JensenShannon(0.3).is_symmetric());
    /// ```
    pub fn is_symmetric(self) -> bool {
        match self {
            Divergence::Jeffreys
            | Divergence::JsDistance
            | Divergence::Hellinger
            | Divergence::TotalVariation
            | Divergence::Bhattacharyya => true,
            Divergence::JensenShannon(half)
            | Divergence::Renyi(half)
            | Divergence::Tsallis(half)
            | Divergence::Alpha(half) => half == 0.5,
            _ => false,
        }
    }

    /// What brings a value from nats to units of so many nats each; nothing for measures whose formula has
    /// no logarithm, or whose value is no multiple of one.
    ///
    /// ```
    /// use kullback::Divergence;
    ///
    /// let bits = 2.0_f64.ln();
    /// assert_eq!(Divergence::Kl.per_unit(bits), Some(1.0 / bits));
    /// assert_eq!(Divergence::JsDistance.per_unit(bits), Some(1.0 / bits.sqrt()));
    /// assert_eq!(Divergence::Hellinger.per_unit(bits), None);
    /// ```
    pub fn per_unit(self, nats: f64) -> Option<f64> {
        match self.at_its_limit() {
            Divergence::JsDistance => Some(1.0 / nats.sqrt()),
            Divergence::Kl
            | Divergence::ReverseKl
            | Divergence::Jeffreys
            | Divergence::JensenShannon(_)
            | Divergence::Renyi(_)
            | Divergence::Bhattacharyya
            | Divergence::CrossEntropy
            | Divergence::Entropy => Some(1.0 / nats),
            _ => None,
        }
    }

    /// Whether the parameter is one, and the mass policy one that the measure has a meaning under.
    pub(crate) fn check(self, mass: Mass) -> Result<(), Error> {
        let parameter = self.parameter().unwrap_or(0.5);
        let refused = |name, rule| Err(Error::Setting { name, value: parameter, rule });
        match self {
            Divergence::JensenShannon(weight) if !(weight > 0.0 && weight < 1.0) => {
                refused("weight of js", "it must be above 0 and below 1")
            }
            Divergence::Renyi(order) if order.is_nan() || order < 0.0 => {
                refused("order of renyi", "it must be 0 or more; inf is one")
            }
            Divergence::Tsallis(order) if !(0.0..=f64::MAX).contains(&order) => {
                refused("order of tsallis", "it must be finite and 0 or more")
            }
            Divergence::Alpha(order) if !order.is_finite() => {
                refused("order of alpha", "it must be finite")
            }
            Divergence::Renyi(_) | Divergence::Tsallis(_) | Divergence::Bhattacharyya
                if matches!(mass, Mass::AsGiven | Mass::Generalized) =>
            {
                Err(Error::Policy { divergence: self.name(), mass: mass.name() })
            }
            Divergence::Alpha(order) if mass == Mass::AsGiven && order != 1.0 && order != 0.0 => {
                Err(Error::Policy { divergence: self.name(), mass: mass.name() })
            }
            _ => Ok(()),
        }
    }

    /// The measure that this one is in the limit of its parameter.
    pub(crate) fn at_its_limit(self) -> Divergence {
        match self {
            Divergence::Renyi(1.0) | Divergence::Tsallis(1.0) | Divergence::Alpha(1.0) => {
                Divergence::Kl
            }
            Divergence::Alpha(0.0) => Divergence::ReverseKl,
            // No number tells it from the limit, and the square of the order has to be one.
            Divergence::Renyi(order) if order > 1e100 => Divergence::Renyi(f64::INFINITY),
            other => other,
        }
    }

    /// The sums that the value is made of: one, or two.
    pub(crate) fn integrands(self) -> [Option<Integrand>; 2] {
        let one = |integrand| [Some(integrand), None];
        match self.at_its_limit() {
            Divergence::Kl => one(Integrand::Kl),
            Divergence::ReverseKl => one(Integrand::ReverseKl),
            Divergence::Jeffreys => one(Integrand::Jeffreys),
            Divergence::JensenShannon(weight) => one(Integrand::JensenShannon(weight)),
            Divergence::JsDistance => one(Integrand::JensenShannon(0.5)),
            Divergence::Tsallis(0.0) => one(Integrand::Unmatched),
            Divergence::Renyi(0.0) => [Some(Integrand::Unmatched), Some(Integrand::Overlap(0.0))],
            Divergence::Renyi(f64::INFINITY) => one(Integrand::Largest),
            Divergence::Renyi(order) => {
                [Some(Integrand::Power(order)), Some(Integrand::Overlap(order))]
            }
            Divergence::Tsallis(order) | Divergence::Alpha(order) => one(Integrand::Power(order)),
            Divergence::Hellinger => one(Integrand::Power(0.5)),
            Divergence::TotalVariation => one(Integrand::Variation),
            Divergence::ChiSquared => one(Integrand::ChiSquared),
            Divergence::Bhattacharyya => {
                [Some(Integrand::Power(0.5)), Some(Integrand::Overlap(0.5))]
            }
            Divergence::CrossEntropy => one(Integrand::CrossEntropy),
            Divergence::Entropy => one(Integrand::Entropy),
        }
    }

    /// Whether the value is +inf: by whether some bin is of P alone, some of Q alone, and some of both.
    pub(crate) fn is_infinite(self, alone: [bool; 2], both: bool) -> bool {
        match self.at_its_limit() {
            Divergence::Renyi(..1.0) | Divergence::Bhattacharyya => !both,
            other => other.integrands()[0].is_some_and(|integrand| {
                let terms = integrand.alone();
                alone[0] && terms[0] == f64::INFINITY || alone[1] && terms[1] == f64::INFINITY
            }),
        }
    }

    /// The value from the first of those sums, and the logarithm of the second. What has an upper end
    /// does not pass it for rounding.
    pub(crate) fn of_sums(self, sum: f64, ln_overlap: f64, mass: Mass) -> f64 {
        // From the distance to 1 where the overlap is next to it.
        let ln_overlap = |apart: f64| if apart.abs() < 0.5 { apart.ln_1p() } else { ln_overlap };
        match (self.of_one_sum(mass), self.at_its_limit()) {
            (Some(of_sum), _) => of_sum.value(sum),
            (None, Divergence::Renyi(0.0)) => -ln_overlap(-sum),
            (None, Divergence::Renyi(order)) => {
                not_below_0(ln_overlap(order * (order - 1.0) * sum) / (order - 1.0))
            }
            (None, _) => not_below_0(-ln_overlap(-0.25 * sum)),
        }
    }

    /// How the value is made of the first sum, unless it is a logarithm of the second.
    pub(crate) fn of_one_sum(self, mass: Mass) -> Option<OfSum> {
        let none = OfSum { per_sum: 1.0, most: f64::INFINITY, is_root: false };
        let of_sum = match self.at_its_limit() {
            Divergence::Renyi(order) if order < f64::INFINITY => return None,
            Divergence::Bhattacharyya => return None,
            Divergence::JensenShannon(0.5) => OfSum { most: LN_2, ..none },
            Divergence::JensenShannon(w) => {
                OfSum { most: -w * w.ln() - (1.0 - w) * (-w).ln_1p(), ..none }
            }
            Divergence::JsDistance => OfSum { most: LN_2, is_root: true, ..none },
            // With α = ½ it is 4·(1 − Σ √(p·q)), and so are the squares.
            Divergence::Hellinger => OfSum { per_sum: 0.25, most: 1.0, is_root: true },
            Divergence::Tsallis(0.0) => none,
            Divergence::Tsallis(order) => OfSum { per_sum: order, ..none },
            Divergence::TotalVariation => OfSum { most: 1.0, ..none },
            _ => none,
        };
        let given = matches!(mass, Mass::AsGiven | Mass::Generalized);
        Some(OfSum { most: if given { f64::INFINITY } else { of_sum.most }, ..of_sum })
    }
}

/// How a value is made of a sum.
#[derive(Clone, Copy)]
pub(crate) struct OfSum {
    per_sum: f64,
    /// The upper end, before the root.
    most: f64,
    is_root: bool,
}

impl OfSum {
    #[inline(always)]
    pub(crate) fn value(self, sum: f64) -> f64 {
        let value = self.per_sum * sum;
        let value = if value > self.most { self.most } else { value };
        if self.is_root { value.sqrt() } else { value }
    }
}

/// What rounding took below 0 is 0; what is no number stays none.
fn not_below_0(value: f64) -> f64 {
    if value < 0.0 { 0.0 } else { value }
}

impl fmt::Display for Divergence {
    /// The name, as [`FromStr`] takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Divergence::JensenShannon(0.5) => f.write_str(self.name()),
            _ => match self.parameter() {
                Some(parameter) => write!(f, "{}:{parameter}", self.name()),
                None => f.write_str(self.name()),
            },
        }
    }
}

impl FromStr for Divergence {
    type Err = Error;

    /// `kl`, `renyi:0.5`, …: a name, with a parameter behind a colon for those that have one.
    fn from_str(text: &str) -> Result<Self, Error> {
        let unknown = || Error::Name {
            what: "divergence",
            name: text.to_owned(),
            expected: Divergence::ALL.iter().map(|one| one.usage()).collect::<Vec<_>>().join(", "),
        };
        let (name, parameter) = match text.split_once(':') {
            Some((name, parameter)) => (name, Some(parameter)),
            None => (text, None),
        };
        let known = Divergence::ALL.iter().copied().find(|one| one.name() == name);
        let divergence = match (known.ok_or_else(unknown)?, parameter) {
            (known, Some(parameter)) if known.parameter().is_some() => {
                known.with_parameter(parameter.parse().map_err(|_| unknown())?)
            }
            (known @ Divergence::JensenShannon(_), None) => known,
            (known, None) if known.parameter().is_none() => known,
            _ => return Err(unknown()),
        };
        divergence.check(Mass::Check).map(|()| divergence)
    }
}

impl Divergence {
    /// How the name is written, with a letter for a parameter.
    fn usage(self) -> String {
        match self {
            Divergence::JensenShannon(_) => "js, js:W".to_owned(),
            _ if self.parameter().is_some() => format!("{}:A", self.name()),
            _ => self.name().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for &divergence in Divergence::ALL {
            assert_eq!(divergence.to_string().parse(), Ok(divergence));
        }
        let read = |text: &str| text.parse::<Divergence>();
        assert_eq!(read("js:0.3"), Ok(Divergence::JensenShannon(0.3)));
        assert_eq!(read("renyi:inf"), Ok(Divergence::Renyi(f64::INFINITY)));
        assert_eq!(read("alpha:-1"), Ok(Divergence::Alpha(-1.0)));
        for wrong in ["", "KL", "kl:2", "renyi", "renyi:", "renyi:x", "renyi:1:2", "tv:"] {
            let error = read(wrong).unwrap_err().to_string();
            assert!(error.contains("renyi:A") && error.contains("js:W"), "{wrong}: {error}");
        }
        for wrong in ["js:0", "js:1", "js:nan", "renyi:-1", "renyi:nan", "tsallis:inf", "alpha:inf"]
        {
            assert!(matches!(read(wrong), Err(Error::Setting { .. })), "{wrong}");
        }
    }

    #[test]
    fn what_takes_masses_of_1_for_granted_refuses_others() {
        for mass in [Mass::AsGiven, Mass::Generalized] {
            for refused in
                [Divergence::Renyi(0.5), Divergence::Tsallis(2.0), Divergence::Bhattacharyya]
            {
                assert!(matches!(refused.check(mass), Err(Error::Policy { .. })), "{refused}");
                assert_eq!(refused.check(Mass::Normalize), Ok(()));
            }
        }
        assert!(Divergence::Alpha(0.5).check(Mass::AsGiven).is_err());
        assert_eq!(Divergence::Alpha(0.5).check(Mass::Generalized), Ok(()));
        assert_eq!(Divergence::Alpha(1.0).check(Mass::AsGiven), Ok(()));
    }
}
