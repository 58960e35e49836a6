//! The plain f64 statement of each measure: the judge in cross-checks.
//!
//! Nothing here is shared with the backends. Each function is the textbook sum, evaluated in f64
//! with a compensated total. Near equality f64 loses digits in it; [`size`] says how many.

use crate::{Divergence, Kind, Mass};

/// `Σ p·ln(p/q)` over the bins with `p > 0`; +inf if one of them has `q = 0`.
///
/// ```
/// let kl = kullback::reference::relative_entropy(&[0.5, 0.5], &[0.25, 0.75]);
/// assert!((kl - 0.14384103622589046).abs() < 1e-15);
/// ```
pub fn relative_entropy(p: &[f64], q: &[f64]) -> f64 {
    sum(p.iter().zip(q).map(|(&p, &q)| term(p, q)))
}

/// The divergence of a row under a mass policy, in nats.
///
/// `Check` and `Normalize` divide each side by its sum; `AsGiven` is [`relative_entropy`];
/// `Generalized` adds `Σ q − Σ p` to it.
///
/// ```
/// use kullback::{Mass, reference};
///
/// let counts = reference::kl(&[30.0, 10.0], &[1.0, 1.0], Mass::Normalize);
/// let shares = reference::kl(&[0.75, 0.25], &[0.5, 0.5], Mass::Check);
/// assert!((counts - shares).abs() < 1e-15);
/// ```
pub fn kl(p: &[f64], q: &[f64], mass: Mass) -> f64 {
    match mass {
        Mass::Check | Mass::Normalize => relative_entropy(&normalized(p), &normalized(q)),
        Mass::AsGiven => relative_entropy(p, q),
        Mass::Generalized => sum(p.iter().zip(q).map(|(&p, &q)| term(p, q) + (q - p))),
    }
}

/// Whether a row is what its mass policy takes: probabilities that are finite and not negative,
/// and under `Check` masses within the tolerance of 1, under `Normalize` masses above 0.
pub fn is_valid(p: &[f64], q: &[f64], mass: Mass, tolerance: f64) -> bool {
    let probabilities = |side: &[f64]| side.iter().all(|&value| value >= 0.0 && value.is_finite());
    let masses = |accepts: &dyn Fn(f64) -> bool| {
        [p, q].iter().all(|side| accepts(sum(side.iter().copied())))
    };
    probabilities(p)
        && probabilities(q)
        && match mass {
            Mass::Check => masses(&|mass| (mass - 1.0).abs() <= tolerance),
            Mass::Normalize => masses(&|mass| mass > 0.0),
            Mass::AsGiven | Mass::Generalized => true,
        }
}

/// `Σ |p·ln(p/q)| + p + q` over the row as [`kl`] reads it: rounding may have carried that
/// function from the exact value by a few units in the last place of this.
pub fn size(p: &[f64], q: &[f64], mass: Mass) -> f64 {
    let size = |p: &[f64], q: &[f64]| sum(p.iter().zip(q).map(|(&p, &q)| term(p, q).abs() + p + q));
    match mass {
        Mass::Check | Mass::Normalize => size(&normalized(p), &normalized(q)),
        Mass::AsGiven | Mass::Generalized => size(p, q),
    }
}

/// The natural logarithms of a row as it is given, −inf for 0: of probabilities, of log-probabilities
/// themselves, or of what a softmax divides by its sum.
///
/// ```
/// use kullback::{Kind, reference};
///
/// assert_eq!(reference::logs(&[2.0, 1.0], Kind::Logits, 0.5), [4.0, 2.0]);
/// ```
pub fn logs(row: &[f64], kind: Kind, temperature: f64) -> Vec<f64> {
    let log = |&value: &f64| match kind {
        Kind::Probs => value.ln(),
        Kind::LogProbs => value,
        Kind::Logits => value / temperature,
    };
    row.iter().map(log).collect()
}

/// The logarithm of the mass of a row of logarithms; −inf if all of them are.
///
/// ```
/// assert_eq!(kullback::reference::ln_mass(&[2.0, 2.0]), 2.0 + std::f64::consts::LN_2);
/// ```
pub fn ln_mass(logs: &[f64]) -> f64 {
    let (top, ln_sum) = ln_mass_in_parts(logs);
    if top.is_infinite() { top } else { top + ln_sum }
}

/// A row of logarithms divided by its mass, whatever was added to all of them: −inf for a mass of 0.
///
/// ```
/// let logs = kullback::reference::divided_by_mass(&[-1e30, -1e30, f64::NEG_INFINITY]);
/// assert_eq!(logs, [-std::f64::consts::LN_2, -std::f64::consts::LN_2, f64::NEG_INFINITY]);
/// ```
pub fn divided_by_mass(logs: &[f64]) -> Vec<f64> {
    let (top, ln_sum) = ln_mass_in_parts(logs);
    if top.is_infinite() {
        return logs.to_vec();
    }
    logs.iter().map(|x| (x - top) - ln_sum).collect()
}

/// The largest of some logarithms, and the logarithm of the mass in units of its exponential.
fn ln_mass_in_parts(logs: &[f64]) -> (f64, f64) {
    let top = logs.iter().copied().fold(NONE, f64::max);
    (top, sum(logs.iter().map(|x| (x - top).exp())).ln())
}

/// [`relative_entropy`] of rows of natural logarithms: `Σ eˣ·(x − y)`; +inf if some `x` is a number
/// and its `y` is −inf.
///
/// ```
/// let (p, q) = ([0.5_f64.ln(); 2], [0.25_f64.ln(), 0.75_f64.ln()]);
/// let kl = kullback::reference::relative_entropy_of_logs(&p, &q);
/// assert!((kl - 0.14384103622589046).abs() < 1e-15);
/// ```
pub fn relative_entropy_of_logs(p: &[f64], q: &[f64]) -> f64 {
    sum(p.iter().zip(q).map(|(&x, &y)| log_term(x, y)))
}

/// Any divergence of rows of natural logarithms, by its textbook formula: one line each.
///
/// ```
/// use kullback::{Divergence, reference};
///
/// let (p, q) = ([0.9_f64.ln(), 0.1_f64.ln()], [0.1_f64.ln(), 0.9_f64.ln()]);
/// let js = reference::divergence(Divergence::JensenShannon(0.5), &p, &q);
/// assert!((js - 0.368064207168497).abs() < 1e-15);
/// ```
pub fn divergence(divergence: Divergence, p: &[f64], q: &[f64]) -> f64 {
    let over = |term: &dyn Fn(f64, f64) -> f64| sum(p.iter().zip(q).map(|(&x, &y)| term(x, y)));
    let squares = |x: f64, y: f64| ((x / 2.0).exp() - (y / 2.0).exp()).powi(2);
    match divergence.at_its_limit() {
        Divergence::Kl => over(&log_term),
        Divergence::ReverseKl => over(&|x, y| log_term(y, x)),
        Divergence::Jeffreys => over(&|x, y| log_term(x, y) + log_term(y, x)),
        Divergence::JensenShannon(w) => over(&|x, y| to_mixture(w, x, y)),
        Divergence::JsDistance => match over(&|x, y| to_mixture(0.5, x, y)) {
            below if below < 0.0 => 0.0,
            js => js.sqrt(),
        },
        Divergence::Renyi(f64::INFINITY) => largest_ratio(p, q),
        Divergence::Renyi(a) => ln_overlap(a, p, q) / (a - 1.0),
        Divergence::Tsallis(a) => (ln_overlap(a, p, q).exp() - 1.0) / (a - 1.0),
        Divergence::Alpha(a) => {
            let mean = over(&|x, y| a * x.exp() + (1.0 - a) * y.exp());
            (mean - ln_overlap(a, p, q).exp()) / (a * (1.0 - a))
        }
        Divergence::Hellinger => (0.5 * over(&squares)).sqrt(),
        Divergence::TotalVariation => 0.5 * over(&|x, y| (x.exp() - y.exp()).abs()),
        Divergence::ChiSquared => over(&squared_term),
        Divergence::Bhattacharyya => -ln_overlap(0.5, p, q),
        Divergence::CrossEntropy => over(&|x, y| times_exp(-y, x)),
        Divergence::Entropy => over(&|x, _| times_exp(-x, x)),
    }
}

/// The size of what [`divergence`] was made of: rounding may have carried that from the exact value by
/// a few units in the last place of this.
pub fn size_of(divergence: Divergence, p: &[f64], q: &[f64]) -> f64 {
    let both = |term: &dyn Fn(f64, f64) -> f64| {
        let bins = p.iter().zip(q).filter(|(x, y)| **x > NONE && **y > NONE);
        sum(bins.map(|(&x, &y)| term(x, y)))
    };
    let masses = sum(p.iter().chain(q).map(|x| x.exp()));
    // A root is as far off as what is under it, by twice the root, or as the root of that.
    let of_root = |value: f64, size: f64| size / (2.0 * value).max((f64::EPSILON * size).sqrt());
    let value = self::divergence(divergence, p, q);
    match divergence.at_its_limit() {
        Divergence::Kl | Divergence::ReverseKl | Divergence::Jeffreys => {
            masses + both(&|x, y| times_exp((x - y).abs(), x) + times_exp((x - y).abs(), y))
        }
        Divergence::JensenShannon(_) => masses,
        Divergence::JsDistance | Divergence::Hellinger => of_root(value, masses),
        Divergence::Renyi(f64::INFINITY) => 1.0 + value.abs(),
        Divergence::Renyi(a) => ln_size(a, p, q) / (a - 1.0).abs(),
        Divergence::Tsallis(a) => {
            (1.0 + ln_overlap(a, p, q).exp() * ln_size(a, p, q)) / (a - 1.0).abs()
        }
        Divergence::Alpha(a) => {
            let overlap = ln_overlap(a, p, q).exp() * ln_size(a, p, q);
            (masses * (a.abs() + 1.0) + overlap) / (a * (1.0 - a)).abs()
        }
        Divergence::Bhattacharyya => ln_size(0.5, p, q),
        Divergence::ChiSquared => both(&|x, y| 2.0 * (2.0 * x.max(y) - y).exp()),
        Divergence::TotalVariation => masses,
        Divergence::CrossEntropy | Divergence::Entropy => masses + value.abs(),
    }
}

/// The logarithm of 0.
const NONE: f64 = f64::NEG_INFINITY;

/// `eˣ` times a logarithm: 0 where x is −inf, or so low that there is nothing of it; otherwise +inf if
/// the logarithm is.
fn times_exp(log: f64, x: f64) -> f64 {
    match x.exp() {
        _ if x > NONE && log == f64::INFINITY => f64::INFINITY,
        0.0 => 0.0,
        exp => exp * log,
    }
}

/// `eˣ·(x − y)`.
fn log_term(x: f64, y: f64) -> f64 {
    times_exp(x - y, x)
}

/// `(eˣ − e^y)²/e^y`.
fn squared_term(x: f64, y: f64) -> f64 {
    match y.exp() {
        _ if y == NONE && x == NONE => 0.0,
        _ if y == NONE => f64::INFINITY,
        0.0 => (2.0 * x - y).exp(),
        q => (x.exp() - q).powi(2) / q,
    }
}

/// `w·p·ln(p/m) + (1 − w)·q·ln(q/m)`.
fn to_mixture(w: f64, x: f64, y: f64) -> f64 {
    let top = x.max(y);
    if top == NONE {
        return 0.0;
    }
    let m = top + (w * (x - top).exp() + (1.0 - w) * (y - top).exp()).ln();
    w * log_term(x, m) + (1.0 - w) * log_term(y, m)
}

/// The largest `x − y` where x is a number.
fn largest_ratio(p: &[f64], q: &[f64]) -> f64 {
    let bins = p.iter().zip(q).filter(|(x, _)| **x > NONE);
    bins.map(|(x, y)| x - y).fold(NONE, f64::max)
}

/// `ln Σ e^(a·x + (1 − a)·y)`, where 0⁰ is 0.
fn ln_overlap(a: f64, p: &[f64], q: &[f64]) -> f64 {
    let power = |a: f64, x: f64| if a == 0.0 && x > NONE { 0.0 } else { a * x };
    let logs: Vec<f64> = p
        .iter()
        .zip(q)
        .filter(|(x, y)| **x > NONE || **y > NONE)
        .map(|(&x, &y)| {
            // A side without mass decides, by the sign of its power.
            match (x == NONE, y == NONE) {
                (true, _) => {
                    if a < 0.0 {
                        f64::INFINITY
                    } else {
                        NONE
                    }
                }
                (_, true) => {
                    if a > 1.0 {
                        f64::INFINITY
                    } else {
                        NONE
                    }
                }
                _ => power(a, x) + power(1.0 - a, y),
            }
        })
        .collect();
    ln_mass(&logs)
}

/// How much the terms of that are off, in units in the last place.
fn ln_size(a: f64, p: &[f64], q: &[f64]) -> f64 {
    let sizes = p.iter().chain(q).filter(|x| **x > -50.0).map(|x| x.abs());
    (1.0 + a.abs()) * (2.0 + sizes.fold(0.0, f64::max)) + ln_overlap(a, p, q).abs()
}

/// `p·ln(p/q)`, with `0·ln(0/q) = 0` and `p·ln(p/0) = ∞`.
fn term(p: f64, q: f64) -> f64 {
    match (p == 0.0, q == 0.0) {
        (true, _) => 0.0,
        (false, true) => f64::INFINITY,
        (false, false) if (p / q).is_normal() => p * (p / q).ln(),
        // The quotient is beyond the range of f64; the logarithms are not.
        (false, false) => p * (p.ln() - q.ln()),
    }
}

/// The row divided by its sum.
fn normalized(row: &[f64]) -> Vec<f64> {
    let mass = sum(row.iter().copied());
    row.iter().map(|value| value / mass).collect()
}

/// A sum with a running compensation (Kahan 1965, as amended by Neumaier 1974).
fn sum(values: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut lost) = (0.0_f64, 0.0);
    for value in values {
        let next = sum + value;
        lost += if sum.abs() >= value.abs() { (sum - next) + value } else { (value - next) + sum };
        sum = next;
    }
    if sum.is_finite() { sum + lost } else { sum }
}
