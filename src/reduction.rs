//! The rows of an outcome made one number, which says what it was divided by.

use crate::Error;
use crate::batch::check_weights;
use crate::element::Value;
use crate::outcome::{Outcome, Status};

/// What some rows come to.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Reduced {
    /// The sum or the mean, in the unit of the rows; NaN for the mean of no rows, and if a row that counts
    /// is invalid; +inf if one is infinite.
    pub value: f64,
    /// The standard error of a mean: how far it is likely to be from the mean of all rows of which these
    /// are a sample. None for sums, for fewer than two rows, and where it or the mean is no finite number.
    pub standard_error: Option<f64>,
    /// How many rows count: all but those of weight 0.
    pub rows: usize,
    /// What the weighted sum of the rows was divided by: 1 for sums, the sum of the weights for means,
    /// which is the number of rows where none are given, and +inf if that is beyond f64. It is never the
    /// number of bins.
    pub divided_by: f64,
}

/// The rows of an outcome with a weight each.
///
/// ```
/// use kullback::{Batch, Divergence, Engine};
/// use ndarray::array;
///
/// let p = array![[0.5_f64, 0.5], [1.0, 0.0], [0.25, 0.75]];
/// let q = array![[0.25_f64, 0.75]];
/// let outcome = Engine::cpu().rows(Divergence::TotalVariation, &Batch::probs(&p, &q)?)?;
///
/// let mean = outcome.mean();
/// assert!((mean.value - 1.0 / 3.0).abs() < 1e-15);
/// assert_eq!((mean.rows, mean.divided_by), (3, 3.0));
/// let mean = outcome.weighted(&[3.0, 1.0, 0.0])?.mean();
/// assert!((mean.value - (3.0 * 0.25 + 0.75) / 4.0).abs() < 1e-15);
/// assert_eq!((mean.rows, mean.divided_by), (2, 4.0));
/// let sum = outcome.only(&[true, false, true])?.sum();
/// assert_eq!((sum.value, sum.divided_by), (0.25, 1.0));
/// # Ok::<(), kullback::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Weighted<'a, T> {
    outcome: &'a Outcome<T>,
    weights: Vec<f64>,
}

impl<T: Value> Outcome<T> {
    /// The sum of the rows.
    pub fn sum(&self) -> Reduced {
        self.evenly().sum()
    }

    /// The mean over the rows: what PyTorch calls `batchmean`. (Its `mean` divides by the bins as well.)
    pub fn mean(&self) -> Reduced {
        self.evenly().mean()
    }

    /// The rows with a weight each, 0 for those that are to be ignored.
    ///
    /// # Errors
    /// [`Error::Weights`] if there are not as many weights as rows, or one of them is negative or no
    /// finite number.
    pub fn weighted(&self, weights: &[f64]) -> Result<Weighted<'_, T>, Error> {
        check_weights("rows", self.values.len(), weights)?;
        Ok(Weighted { outcome: self, weights: weights.to_vec() })
    }

    /// The rows for which there stands `true`, evenly; the others are ignored.
    ///
    /// # Errors
    /// [`Error::Weights`] if the mask has not as many entries as there are rows.
    pub fn only(&self, mask: &[bool]) -> Result<Weighted<'_, T>, Error> {
        let weights: Vec<f64> = mask.iter().map(|&counts| f64::from(u8::from(counts))).collect();
        self.weighted(&weights)
    }

    /// The rows that have a finite value, evenly; infinite and invalid ones are ignored.
    pub fn finite(&self) -> Weighted<'_, T> {
        let weight = |status: &Status| f64::from(u8::from(*status == Status::Ok));
        Weighted { outcome: self, weights: self.statuses.iter().map(weight).collect() }
    }

    fn evenly(&self) -> Weighted<'_, T> {
        Weighted { outcome: self, weights: vec![1.0; self.values.len()] }
    }
}

impl<T: Value> Weighted<'_, T> {
    /// `Σ w·x` over the rows. A row of weight 0 adds nothing, whatever its value.
    pub fn sum(&self) -> Reduced {
        let sum = pairwise(&self.rows().map(|(x, weight)| x * weight).collect::<Vec<_>>());
        Reduced { value: sum, standard_error: None, rows: self.rows().count(), divided_by: 1.0 }
    }

    /// `Σ w·x / Σ w`, with the standard error `√(n/(n−1)·Σ w²·(x − mean)²) / Σ w`, which for equal weights
    /// is that of the plain mean (Cochran, "Sampling Techniques", 1977; compared with the bootstrap by Gatz
    /// and Smith, "The standard error of a weighted mean concentration", Atmos. Environ. 29, 1995).
    pub fn mean(&self) -> Reduced {
        // In units of their size, of which squares and sums are in the range; what counts stays above 0.
        let x_unit = unit(self.rows().map(|(x, _)| x));
        let weight_unit = unit(self.rows().map(|(_, weight)| weight));
        let least = f64::from_bits(1);
        let in_units = |(x, weight): (f64, f64)| (x / x_unit, (weight / weight_unit).max(least));
        let rows: Vec<(f64, f64)> = self.rows().map(in_units).collect();
        let sum_of = |term: &dyn Fn(f64, f64) -> f64| {
            pairwise(&rows.iter().map(|&(x, weight)| term(x, weight)).collect::<Vec<_>>())
        };
        let weights = sum_of(&|_, weight| weight);
        let mean = sum_of(&|x, weight| x * weight) / weights;
        let spread = sum_of(&|x, weight| (weight * (x - mean)).powi(2));
        let n = rows.len() as f64;
        let error = (n / (n - 1.0) * spread).sqrt() / weights * x_unit;
        Reduced {
            value: mean * x_unit,
            standard_error: (rows.len() > 1 && error.is_finite()).then_some(error),
            rows: rows.len(),
            divided_by: weights * weight_unit,
        }
    }

    /// The rows that count, with their weights.
    fn rows(&self) -> impl Iterator<Item = (f64, f64)> {
        let values = self.outcome.values.iter().map(|value| value.to_f64());
        values.zip(self.weights.iter().copied()).filter(|&(_, weight)| weight > 0.0)
    }
}

/// A power of two of the size of the largest finite one of some numbers, or the least normal number if that
/// is larger: to divide by it rounds nothing that matters beside the largest.
fn unit(numbers: impl Iterator<Item = f64>) -> f64 {
    let finite = numbers.map(f64::abs).filter(|number| number.is_finite());
    let exponent = finite.fold(0.0, f64::max).to_bits() & f64::INFINITY.to_bits();
    f64::from_bits(exponent).max(f64::MIN_POSITIVE)
}

/// A sum by halves, whose error grows with the logarithm of their number.
fn pairwise(values: &[f64]) -> f64 {
    const FEW: usize = 128;
    if values.len() <= FEW {
        return values.iter().sum();
    }
    let (one, other) = values.split_at(values.len() / 2);
    pairwise(one) + pairwise(other)
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;
    use crate::{Batch, Divergence, Engine, OnInvalid};

    fn outcome() -> Outcome<f64> {
        // Total variations of 0, 0.25, 0.5 and 0.75, and a row that is none.
        let p = array![[1.0, 0.0], [0.75, 0.25], [0.5, 0.5], [0.25, 0.75], [-1.0, 2.0]];
        let q = array![[1.0, 0.0]];
        let batch = Batch::probs(&p, &q).unwrap().with_on_invalid(OnInvalid::Nan);
        Engine::cpu().rows(Divergence::TotalVariation, &batch).unwrap()
    }

    #[test]
    fn means_and_their_errors() {
        let outcome = outcome();
        assert!(outcome.mean().value.is_nan() && outcome.sum().value.is_nan());
        assert_eq!(outcome.mean().standard_error, None);
        let finite = outcome.finite().mean();
        assert_eq!((finite.value, finite.rows, finite.divided_by), (0.375, 4, 4.0));
        // The deviation of 0, ¼, ½, ¾ from a sample is √(5/48).
        let want = (5.0_f64 / 48.0).sqrt() / 2.0;
        assert!((finite.standard_error.unwrap() - want).abs() < 1e-15);
        let twice = outcome.weighted(&[2.0, 2.0, 2.0, 2.0, 0.0]).unwrap().mean();
        assert_eq!((twice.value, twice.divided_by), (0.375, 8.0));
        assert!((twice.standard_error.unwrap() - want).abs() < 1e-15);
    }

    /// Neither the squares of weights or of values nor their sums have to be in the range of f64.
    #[test]
    fn weights_and_values_are_of_any_size() {
        let outcome = outcome();
        let want = outcome.finite().mean();
        let error = want.standard_error.unwrap();
        let near = |got: f64, want: f64| (got / want - 1.0).abs() < 1e-14;
        for weight in [5e-324, 1e-200, 1e-170, 0.1, 1e200, 1e308, f64::MAX] {
            let mean = outcome.weighted(&[weight, weight, weight, weight, 0.0]).unwrap().mean();
            assert!(near(mean.value, want.value), "{weight:e}: {mean:?}");
            assert!(near(mean.standard_error.unwrap(), error), "{weight:e}: {mean:?}");
            assert_eq!((mean.rows, mean.divided_by), (4, 4.0 * weight));
        }
        for size in [1e-300, 1e160, 1.5e308] {
            let mut outcome = outcome.clone();
            outcome.values.mapv_inplace(|value| value * size);
            let mean = outcome.finite().mean();
            assert!(near(mean.value, want.value * size), "{size:e}: {mean:?}");
            assert!(near(mean.standard_error.unwrap(), error * size), "{size:e}: {mean:?}");
        }
    }

    #[test]
    fn rows_that_are_ignored_do_not_count() {
        let outcome = outcome();
        let one = outcome.only(&[false, false, false, true, false]).unwrap();
        assert_eq!((one.mean().value, one.mean().standard_error, one.mean().rows), (0.75, None, 1));
        assert_eq!((one.sum().value, one.sum().divided_by), (0.75, 1.0));
        let none = outcome.only(&[false; 5]).unwrap();
        assert!(none.mean().value.is_nan());
        assert_eq!((none.sum().value, none.mean().divided_by), (0.0, 0.0));
        let weighted = outcome.weighted(&[0.0, 1.0, 3.0, 0.0, 0.0]).unwrap();
        assert_eq!((weighted.sum().value, weighted.mean().value), (1.75, 0.4375));
    }

    #[test]
    fn weights_are_checked() {
        let error = outcome().weighted(&[1.0; 4]).unwrap_err();
        assert_eq!(error.to_string(), "there are 4 weights for 5 rows");
        assert!(outcome().only(&[true; 6]).is_err());
        assert!(outcome().weighted(&[1.0, 1.0, 1.0, -0.5, 1.0]).is_err());
    }

    #[test]
    fn an_infinite_row_makes_an_infinite_mean() {
        let (p, q) = (array![[0.5, 0.5], [1.0, 0.0]], array![[1.0, 0.0]]);
        let outcome = Engine::cpu().rows(Divergence::Kl, &Batch::probs(&p, &q).unwrap()).unwrap();
        assert_eq!((outcome.mean().value, outcome.mean().standard_error), (f64::INFINITY, None));
        assert_eq!(outcome.finite().mean().value, 0.0);
        // However little it weighs.
        let little = outcome.weighted(&[5e-324, 1e308]).unwrap().mean();
        assert_eq!((little.value, little.standard_error), (f64::INFINITY, None));
    }

    #[test]
    fn long_sums_keep_their_digits() {
        let values = vec![0.1; 10_000_000];
        assert!((pairwise(&values) - 1e6).abs() < 1e-8);
    }
}
