//! A row of one side as a distribution, made once for all the rows that it is compared with.
//!
//! Probabilities and logarithms keep what rounding takes from them, so that the difference of two
//! has its digits where they are nearly equal.

use super::bins::{LANES, LEAST_LN, Reading, ln_of_sum};
use crate::chain::tree_sum;
use crate::error::Side;
use crate::integrand::{FLOOR, UNIT, exp_of};
use crate::kind::Kind;
use crate::sums::Total;
use crate::term::{difference_in_two, exp, ln};

/// Quotients below it may have lost digits.
const TINY: f64 = 1e-290;

/// A row as a distribution. All vectors are as long as a multiple of `LANES`.
pub(crate) struct Distribution {
    /// Probabilities in units, and what rounding took from them.
    pub x: Vec<f64>,
    pub x_rest: Vec<f64>,
    /// Their logarithms, likewise; −inf where there is no probability.
    pub ln: Vec<f64>,
    pub ln_rest: Vec<f64>,
    pub mass: f64,
    /// Whether some number is none of its kind.
    pub is_invalid: bool,
    /// Whether quotients have lost digits, or are not even numbers.
    pub some_lost: bool,
}

impl Distribution {
    /// Of the numbers of a row, which are used up.
    pub(super) fn new(side: Side, mut numbers: Vec<f64>, reading: &Reading) -> Distribution {
        let filled_up = numbers.len().next_multiple_of(LANES);
        numbers.resize(filled_up, reading.none[side as usize]);
        let none = vec![0.0; filled_up];
        let mut made = Distribution {
            x: numbers,
            x_rest: none.clone(),
            ln: none.clone(),
            ln_rest: none,
            mass: 0.0,
            is_invalid: false,
            some_lost: false,
        };
        pulp::Arch::new().dispatch(Make { made: &mut made, side, reading });
        made
    }
}

/// Makes a distribution of the numbers that stand in the place of its probabilities.
struct Make<'a> {
    made: &'a mut Distribution,
    side: Side,
    reading: &'a Reading,
}

impl pulp::WithSimd for Make<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        let Make { made, side, reading } = self;
        let Reading { kinds, by, none, .. } = *reading;
        let (kind, by, least) = (kinds[side as usize], by[side as usize], none[side as usize]);
        let divided = reading.divides(side);
        made.is_invalid = made
            .x
            .iter()
            .fold(false, |invalid, &x| invalid | !((x >= least) & (x < f64::INFINITY)));
        if made.is_invalid {
            made.mass = f64::NAN;
        } else if kind == Kind::Probs {
            match S::IS_SCALAR {
                true => made.of_probs::<false>(divided),
                false => made.of_probs::<true>(divided),
            }
        } else {
            match S::IS_SCALAR {
                true => made.of_logs::<false>(by, kind, divided),
                false => made.of_logs::<true>(by, kind, divided),
            }
        }
    }
}

impl Distribution {
    #[inline(always)]
    fn of_probs<const FUSED: bool>(&mut self, divided: bool) {
        let (by, total) = in_range(&self.x);
        let (sum, sum_rest) = total.parts();
        self.mass = sum / by;
        let (mass, mass_rest) = if divided { (sum, sum_rest) } else { (by, 0.0) };
        let (ln_per_mass, mut some_lost) = (by.ln() - mass.ln(), false);
        for (at, x) in self.x.iter_mut().enumerate() {
            let raw = *x;
            let scaled = raw * by;
            let quotient = scaled / mass;
            let rest = (-quotient).mul_add(mass, scaled) - quotient * mass_rest;
            self.x_rest[at] = UNIT * (rest / mass);
            // Next to 1 the digits of the logarithm are in the rest.
            let (of, more) = match quotient < TINY {
                true => (raw, ln_per_mass),
                false => (quotient, rest / mass / quotient),
            };
            self.ln[at] = ln::<FUSED>(of) + more;
            *x = quotient * UNIT;
            some_lost |= (raw > 0.0) & (*x < FLOOR);
        }
        self.some_lost = some_lost;
    }

    #[inline(always)]
    fn of_logs<const FUSED: bool>(&mut self, by: f64, kind: Kind, divided: bool) {
        let top = self.x.iter().fold(f64::NEG_INFINITY, |top, &x| if x > top { x } else { top });
        // Of a masked side all exponentials are 0.
        let top = top.max(f64::MIN);
        let (mut largest, mut rest) = ([0.0; LANES], [0.0; LANES]);
        for vector in self.x.as_chunks::<LANES>().0 {
            for lane in 0..LANES {
                let below = vector[lane] - top;
                let exp = exp::<FUSED>(below * by);
                largest[lane] += if below == 0.0 { 1.0 } else { 0.0 };
                rest[lane] += if below == 0.0 { 0.0 } else { exp };
            }
        }
        let ln_sum = ln_of_sum(tree_sum(largest), tree_sum(rest));
        self.mass = match kind {
            _ if ln_sum == f64::NEG_INFINITY => 0.0,
            Kind::Logits => 1.0,
            // A mass may be too small for a number, and still be one to divide by.
            _ => (top * by + ln_sum).exp().max(f64::MIN_POSITIVE),
        };
        // What is added to all logarithms goes before anything is rounded.
        let (top, ln_beyond) = if divided { (top, ln_sum) } else { (0.0, 0.0) };
        for (at, x) in self.x.iter_mut().enumerate() {
            let some = *x > f64::NEG_INFINITY;
            let (below, rest) = difference_in_two(if some { *x } else { top }, top);
            let given = (below * by).max(LEAST_LN);
            let lost = if given > LEAST_LN { below.mul_add(by, -given) + rest * by } else { 0.0 };
            let (ln, rest) = difference_in_two(given, ln_beyond);
            self.ln_rest[at] = rest + lost;
            self.ln[at] = if some { ln } else { f64::NEG_INFINITY };
            *x = if some { exp_of::<FUSED>(ln) * UNIT } else { 0.0 };
        }
    }
}

/// A power of two that brings the sum of some numbers into the middle of the range, and the sum of
/// the products.
#[inline(always)]
fn in_range(numbers: &[f64]) -> (f64, Total) {
    let sum: f64 = numbers.iter().sum();
    let by = match sum {
        1e-150..1e150 => 1.0,
        1e150.. => 0.5_f64.powi(1000),
        _ => 2.0_f64.powi(900),
    };
    (by, numbers.iter().map(|x| x * by).collect())
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;
    use crate::batch::{Batch, Mass};

    fn made(kind: Kind, numbers: &[f64]) -> Distribution {
        let row = Array2::from_shape_vec((1, numbers.len()), numbers.to_vec()).unwrap();
        let batch = Batch::of(kind, &row, kind, &row).unwrap().with_mass(Mass::Normalize);
        Distribution::new(Side::P, numbers.to_vec(), &Reading::of(&batch))
    }

    /// What is lost is made once more in another way: answers do not tell.
    #[test]
    fn what_is_lost_is_told_from_what_is_not_there() {
        assert!(!made(Kind::Probs, &[0.5, 0.5, 0.0]).some_lost);
        assert!(!made(Kind::Probs, &[1.0, 1e-300, 0.0]).some_lost);
        assert!(made(Kind::Probs, &[1.0, 1e-312, 0.0]).some_lost);
    }

    #[test]
    fn numbers_are_those_of_their_kind() {
        for kind in [Kind::Probs, Kind::LogProbs, Kind::Logits] {
            assert!(!made(kind, &[0.5, 0.0]).is_invalid);
            assert!(made(kind, &[0.5, f64::INFINITY]).is_invalid);
            assert!(made(kind, &[f64::NAN, 0.5]).is_invalid);
        }
        assert!(made(Kind::Probs, &[0.5, -0.5]).is_invalid);
        assert!(!made(Kind::LogProbs, &[0.0, f64::NEG_INFINITY]).is_invalid);
    }

    #[test]
    fn logits_have_a_mass_of_1_and_the_others_their_own() {
        assert_eq!(made(Kind::Logits, &[3.0, 4.0]).mass, 1.0);
        assert_eq!(made(Kind::Logits, &[f64::NEG_INFINITY; 2]).mass, 0.0);
        assert_eq!(made(Kind::LogProbs, &[0.0, 0.0]).mass, 2.0);
        assert_eq!(made(Kind::Probs, &[3.0, 4.0]).mass, 7.0);
    }

    /// Of a logarithm that counts as another nothing is lost.
    #[test]
    fn masks_leave_no_rest() {
        let masked = made(Kind::Logits, &[0.0, f64::MIN]);
        assert_eq!((masked.ln[1], masked.ln_rest[1], masked.x[1]), (LEAST_LN, 0.0, 0.0));
    }
}
