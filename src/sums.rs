//! From the sums of a row of probabilities to its value and status. Both backends end here.

use crate::batch::{Batch, Mass};
use crate::element::Element;
use crate::error::Side;
use crate::outcome::Row;
use crate::term::{self, Bin, Term};
use crate::verdict::{Judged, MassRule, Verdict};

/// What a backend sums over the bins of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Sums {
    /// `Σ p·ln(p/q) − p + q`, no term of which is negative.
    pub g: f64,
    /// `Σ p`.
    pub p: f64,
    /// `Σ q`.
    pub q: f64,
    /// `Σ (p − q)`, summed by itself: the difference of `p` and `q` has lost its digits.
    pub d: f64,
    /// Some bin has `p > 0 = q`.
    pub infinite: bool,
    /// Some bin holds no probability.
    pub invalid: bool,
    /// Some bin is so large that the sums may have overflowed.
    pub huge: bool,
}

impl Sums {
    /// Whether the masses are so far apart that `Q/P − 1` has lost digits of their ratio.
    pub(crate) fn masses_are_apart(&self) -> bool {
        self.d.abs() > FAR * self.p
    }

    /// `ln(Q/P)`. Near each other the difference of the masses has digits that those of the masses are not.
    pub(crate) fn ln_mass_ratio(&self) -> f64 {
        if self.masses_are_apart() { (self.q / self.p).ln() } else { (-self.d / self.p).ln_1p() }
    }
}

/// The results of a row from its sums, or from a closer look where the sums lack digits.
pub(crate) fn settle<T: Element>(batch: &Batch<'_, T>, row: usize, sums: &Sums) -> Row<T::Value> {
    if sums.invalid
        && let Some(offender) = batch.offender(row)
    {
        return Judged::invalid(&offender).row();
    }
    if in_range::<T>(sums) && !on_the_edge(batch, sums) && !too_fine(batch, row, sums) {
        let masses = [sums.p, sums.q];
        let (verdict, cancelled) = judge(batch, sums, masses);
        if !cancelled {
            return Judged { verdict, masses }.row();
        }
    }
    Row { looked_closer: true, ..closer_look(batch, row).row() }
}

/// Whether the sums are of numbers for which the arithmetic was made.
pub(crate) fn in_range<T: Element>(sums: &Sums) -> bool {
    let faint = T::Value::FAINT;
    !sums.invalid && !sums.huge && sums.p >= faint && sums.q >= faint
}

/// The verdict on a row of valid bins, reached in f64.
pub(crate) fn closer_look<T: Element>(batch: &Batch<'_, T>, row: usize) -> Judged {
    let closer = CloserLook::at(batch, row);
    Judged { verdict: closer.verdict(batch), masses: closer.masses }
}

/// How much rounding may take from a mass.
pub(crate) const DOUBT: f64 = 1e-5;

/// Whether rounding in a sum could decide on which side of the tolerance a mass lies.
fn on_the_edge<T: Element>(batch: &Batch<'_, T>, sums: &Sums) -> bool {
    let doubtful = |mass: f64| ((mass - 1.0).abs() - batch.mass_tolerance()).abs() < DOUBT;
    batch.mass() == Mass::Check && (doubtful(sums.p) || doubtful(sums.q))
}

/// Whether bins differ by so little, against the row, that subnormal numbers may have been lost on
/// the way: the answer must not depend on whether a device keeps them.
fn too_fine<T: Element>(batch: &Batch<'_, T>, row: usize, sums: &Sums) -> bool {
    if sums.g == 0.0 {
        return batch.row(Side::P, row) != batch.row(Side::Q, row);
    }
    sums.g < sums.p * T::Value::FAINT
}

/// The verdict on sums; for a value also whether so much of it cancelled that digits are missing.
fn judge<T: Element>(batch: &Batch<'_, T>, sums: &Sums, masses: [f64; 2]) -> (Verdict, bool) {
    if let Some((side, rule)) = MassRule::of(batch).refuses(masses) {
        return (Verdict::Invalid(side, rule), false);
    }
    if sums.infinite {
        return (Verdict::Infinite, false);
    }
    let (value, cancelled) = match batch.mass() {
        Mass::Generalized => (sums.g, false),
        Mass::AsGiven => {
            let value = sums.g + sums.d;
            (value, value.abs() < distance(sums.g, sums.p, sums.q) / 2.0)
        }
        Mass::Check | Mass::Normalize => {
            // D(p/P ‖ q/Q) = G/P − η(v), v = Q/P − 1, which is exact for any masses.
            let g = sums.g / sums.p;
            let eta = eta(-sums.d / sums.p, sums.q / sums.p);
            ((g - eta).max(0.0), eta.is_nan() || eta > g / 8.0)
        }
    };
    (Verdict::Value(value), cancelled)
}

/// A bound of `Σ|p − q|` by G, as in Pinsker's inequality. Rounding leaves in D a few units of it.
#[inline(always)]
pub(crate) fn distance(g: f64, p: f64, q: f64) -> f64 {
    (2.0 / 3.0 * g * (p + 2.0 * q)).sqrt()
}

/// `v − ln(1 + v)`, which is never negative, without cancellation near 0. `ratio` is `1 + v` by itself, which
/// has its digits next to 0.
pub(crate) fn eta(v: f64, ratio: f64) -> f64 {
    if v.abs() > FAR {
        return v - ratio.ln();
    }
    if v.abs() <= NEAR {
        return eta_near(v);
    }
    // ln(1 + v) = 2·atanh(s), and v − 2s = v²/(2 + v).
    let s = v / (2.0 + v);
    v * v / (2.0 + v) - 2.0 * s * term::atanh_tail::<false>(s * s)
}

/// From where on the masses are far apart.
const FAR: f64 = 0.25;

/// As far from 0 as the masses of most rows leave v.
pub(crate) const NEAR: f64 = 1.0 / 256.0;

/// [`eta`] for `|v| ≤ NEAR`: the power series, cut off after v⁸, which is right to 4e-18. Its terms
/// are paired (Estrin 1960), since the length of the chain of operations is what takes the time.
#[inline(always)]
pub(crate) fn eta_near(v: f64) -> f64 {
    let z = v * v;
    let low = (1.0 / 2.0 - v * (1.0 / 3.0)) + z * (1.0 / 4.0 - v * (1.0 / 5.0));
    let high = (1.0 / 6.0 - v * (1.0 / 7.0)) + z * (1.0 / 8.0);
    z * (low + z * z * high)
}

/// A row summed in f64, each side scaled so that nothing overflows, and Q scaled to the mass of P
/// where the policy divides by the masses. The products are exact, so that rows of counts keep
/// the digits that probabilities have.
struct CloserLook {
    sums: Sums,
    /// `Σ p·ln(p/q)`.
    as_given: f64,
    /// What a value of these sums is to be multiplied by.
    unit: f64,
    masses: [f64; 2],
}

impl CloserLook {
    fn at<T: Element>(batch: &Batch<'_, T>, row: usize) -> CloserLook {
        let (p_row, q_row) = (batch.row(Side::P, row), batch.row(Side::Q, row));
        let p = || p_row.iter().map(|p| p.to_f64());
        let q = || q_row.iter().map(|q| q.to_f64());
        let divides = matches!(batch.mass(), Mass::Check | Mass::Normalize);
        let (p_scale, q_scale) = if divides {
            (scale_for(p()), scale_for(q()))
        } else {
            let common = scale_for(p().chain(q()));
            (common, common)
        };
        let p_total: Total = p().map(|p| p * p_scale).collect();
        let q_total: Total = q().map(|q| q * q_scale).collect();
        let (p_sum, q_sum) = (p_total.value(), q_total.value());
        let divisible = divides && q_sum > 0.0;
        let ratio = if divisible { Ratio::of(p_total, q_total) } else { Ratio::ONE };

        let mut sums = Sums { p: p_sum, q: q_sum, ..Sums::default() };
        let [mut g, mut d, mut log, mut size] = [Total::default(); 4];
        for (p, q) in p().zip(q()) {
            let bin = scaled_bin(p, q, p_scale, q_scale, ratio);
            sums.infinite |= p > 0.0 && q == 0.0;
            g.add(bin.g);
            d.add(bin.d);
            log.add(bin.log);
            size.add(bin.log.abs());
        }
        sums.g = g.value();
        sums.d = d.value();
        // Near equality G + D has the digits; where the masses are far apart, the plain sum.
        let plain = sums.g + sums.d.abs() > size.value();
        let as_given = if plain { log.value() } else { sums.g + sums.d };
        CloserLook {
            sums,
            as_given,
            unit: if divides { 1.0 } else { 1.0 / p_scale },
            masses: [p_sum / p_scale, q_sum / q_scale],
        }
    }

    fn verdict<T: Element>(&self, batch: &Batch<'_, T>) -> Verdict {
        // What still cancels here are the last digits of f64.
        match judge(batch, &self.sums, self.masses).0 {
            Verdict::Value(_) if batch.mass() == Mass::AsGiven => {
                Verdict::Value(self.as_given * self.unit)
            }
            Verdict::Value(value) => Verdict::Value(value * self.unit),
            other => other,
        }
    }
}

/// One bin of `p·p_scale` against `q·q_scale·ratio`, where the scales are powers of two.
fn scaled_bin(p: f64, q: f64, p_scale: f64, q_scale: f64, ratio: Ratio) -> Bin<f64> {
    /// Below this a product may be subnormal, and its residue is lost.
    const SMALL: f64 = 1e-280;
    let (scaled_p, scaled_q) = (p * p_scale, q * q_scale);
    let (product, residue) = ratio.times(scaled_q);
    let bin = term::bin_with_residue::<false>(scaled_p, product, residue);
    if p > 0.0 && q > 0.0 && product < SMALL {
        // More than 200 decades below the row's largest q: only the logarithm still counts.
        let ln_ratio = (p.ln() + p_scale.ln()) - (q.ln() + q_scale.ln() + ratio.high.ln());
        let log = scaled_p * ln_ratio;
        return Bin { g: (log - scaled_p + product).max(0.0), log, ..bin };
    }
    bin
}

/// A power of two that brings the largest of the values into [1, 2), or near it.
fn scale_for(values: impl Iterator<Item = f64>) -> f64 {
    let largest = values.fold(0.0, f64::max);
    if largest == 0.0 {
        return 1.0;
    }
    let exponent = (largest.to_bits() >> 52) as i32 - 1023;
    2f64.powi(-exponent.clamp(-1022, 1022))
}

/// A quotient to twice the digits of an f64.
#[derive(Clone, Copy)]
struct Ratio {
    high: f64,
    low: f64,
}

impl Ratio {
    const ONE: Ratio = Ratio { high: 1.0, low: 0.0 };

    fn of(numerator: Total, denominator: Total) -> Ratio {
        let (n, n_low) = numerator.parts();
        let (d, d_low) = denominator.parts();
        let high = n / d;
        let rest = (-high).mul_add(d, n) + (n_low - high * d_low);
        Ratio { high, low: rest / d }
    }

    /// The product, and what rounding took from it.
    fn times(self, value: f64) -> (f64, f64) {
        let product = value * self.high;
        (product, value.mul_add(self.high, -product) + value * self.low)
    }
}

/// A sum that remembers what rounding took from it (Neumaier 1974).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Total {
    sum: f64,
    lost: f64,
}

impl Total {
    #[inline(always)]
    pub(crate) fn add(&mut self, value: f64) {
        let sum = self.sum + value;
        let (large, small) =
            if self.sum.abs() >= value.abs() { (self.sum, value) } else { (value, self.sum) };
        self.lost += (large - sum) + small;
        self.sum = sum;
    }

    /// The sum, and what of it an f64 cannot hold.
    pub(crate) fn parts(self) -> (f64, f64) {
        let sum = self.value();
        (sum, (self.sum - sum) + self.lost)
    }

    /// The sum; infinite if an infinite value went into it.
    pub(crate) fn value(self) -> f64 {
        if self.sum.is_infinite() { self.sum } else { self.sum + self.lost }
    }
}

impl FromIterator<f64> for Total {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Total {
        let mut total = Total::default();
        values.into_iter().for_each(|value| total.add(value));
        total
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{Sums, eta};

    /// Two sides of which each bin adds to every sum, with masses that are not 1.
    pub(crate) fn sides(bins: usize) -> [Vec<f32>; 2] {
        let weight = |bin: usize, by: usize| ((bin * by) % 101 + 1) as f32 / (50 * bins) as f32;
        [7, 11].map(|by| (0..bins).map(|bin| weight(bin, by)).collect())
    }

    /// Holds what a backend summed against plain sums in f64. The closer look would hide a backend
    /// whose sums are far off: its rows would only take longer.
    pub(crate) fn assert_sums(sums: &Sums, [p, q]: &[Vec<f32>; 2], what: &str) {
        let pairs = || p.iter().zip(q).map(|(&p, &q)| (f64::from(p), f64::from(q)));
        let wanted: [(&str, f64, f64, f64); 4] = [
            ("g", sums.g, pairs().map(|(p, q)| p * (p / q).ln() - p + q).sum(), 0.0),
            ("p", sums.p, pairs().map(|(p, _)| p).sum(), 0.0),
            ("q", sums.q, pairs().map(|(_, q)| q).sum(), 0.0),
            (
                "d",
                sums.d,
                pairs().map(|(p, q)| p - q).sum(),
                pairs().map(|(p, q)| (p - q).abs()).sum(),
            ),
        ];
        for (name, got, want, size) in wanted {
            let allowed = 5e-7 * f64::max(size, want.abs());
            assert!((got - want).abs() <= allowed, "{what}: {name} is {got:e}, not {want:e}");
        }
        assert!(!sums.invalid && !sums.infinite && !sums.huge, "{what}: {sums:?}");
    }

    #[test]
    fn eta_keeps_its_digits_in_every_branch() {
        // v − log1p(v) of the stored v by mpmath, 40 digits.
        for (v, want) in [
            (1e-9, 4.999999996666667e-19),
            (-9e-6, 4.050024300164026e-11),
            (9.99e-6, 4.989971766815699e-11),
            (1.1e-5, 6.049955633699355e-11),
            (-0.2, 0.023143551314209757),
            (0.25, 0.026856448685790246),
            (0.3, 0.03763573553250894),
            (-0.9, 1.402585092994046),
            (1e9, 999999979.2767341),
            (0.0, 0.0),
        ] {
            let got = eta(v, 1.0 + v);
            assert!((got - want).abs() <= 4e-15 * want, "eta({v:e}) is {got:e}, not {want:e}");
        }
    }
}
