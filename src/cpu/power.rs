//! Powers of any order in f32: the sums of Rényi, Tsallis and Amari divergences, whose orders ½ and 2 have
//! simpler [forms](super::form).

use super::form::{Form, TINY};
use super::logs::{ROUND, exp_curve, exp2};
use crate::Divergence;
use crate::integrand::Integrand;
use crate::term::{ln_near_f32, mul_add, ratio_f32};

/// `(a·p + (1−a)·q − pᵃ·q¹⁻ᵃ) / (a·(1−a))`, which is `q·l²·Σ cₖ·lᵏ` with `l = ln(p/q)`, and
/// `(p·(e^((a−1)·l) − 1)/(a−1) − p + q)/a`.
#[derive(Clone, Copy)]
pub(super) struct Power {
    /// ½ or more: a smaller one is the other of the pair, with P and Q in each other's place.
    order: f32,
    /// `order − 1`: all of it, and in two parts, of which products of the first with an exponent are exact.
    less_1: f32,
    less_1_parts: [f32; 2],
    swapped: bool,
    /// Where the series holds.
    near: f32,
    /// `Σ_(j ≤ k) orderʲ / (k + 2)!` for k = 0, 1, …
    series: [f32; TERMS],
}

const TERMS: usize = 10;
/// The largest of both orders of a pair: those beyond raise what rounding takes from a ratio.
const MOST: f64 = 6.0;
/// The same where probabilities were made of logarithms: rounding of these is raised with them.
const MOST_OF_LOGS: f32 = 3.0;

impl Power {
    /// Whether there is a form for an order.
    pub(super) fn takes(order: f64) -> bool {
        order.max(1.0 - order) <= MOST
    }

    fn new(order: f64) -> Power {
        let swapped = order < 0.5;
        let (order, less_1) = if swapped { (1.0 - order, -order) } else { (order, order - 1.0) };
        let (mut series, mut sum, mut factorial) = ([0.0; TERMS], 0.0, 1.0);
        for (k, term) in series.iter_mut().enumerate() {
            sum = sum * order + 1.0;
            factorial *= (k + 2) as f64;
            *term = (sum / factorial) as f32;
        }
        // Half of the digits: an exponent has 8.
        let upper = f32::from_bits((less_1 as f32).to_bits() & 0xffff_f000);
        Power {
            order: order as f32,
            less_1: less_1 as f32,
            less_1_parts: [upper, (less_1 - f64::from(upper)) as f32],
            swapped,
            near: (1.0 / order.max(1.0)) as f32,
            series,
        }
    }

    /// The sides in the order in which they are raised.
    #[inline(always)]
    fn in_order(self, p: f32, q: f32, n: f32) -> (f32, f32, f32) {
        if self.swapped { (q, p, -n) } else { (p, q, n) }
    }

    /// The slopes of P and Q from `((p/q)^(a−1) − 1)/(a − 1)` and `((p/q)^a − 1)/a` of the sides in that order,
    /// or what differs from these by constants.
    #[inline(always)]
    fn slopes_of(self, by_first: f32, by_second: f32) -> [f32; 2] {
        match self.swapped {
            true => [self.less_1 * by_second, -self.less_1 * by_first],
            false => [self.order * by_first, -self.order * by_second],
        }
    }

    /// `p·(p/q)^(a−1)` of a ratio of so many octaves, and what is left of its logarithm.
    #[inline(always)]
    fn raised<const FUSED: bool>(self, p: f32, octaves: f32, ln_rest: f32) -> f32 {
        let fma = mul_add::<FUSED>;
        let [upper, lower] = self.less_1_parts;
        let exact = octaves * upper;
        let whole = (exact + ROUND) - ROUND;
        let rest = self.less_1 * ln_rest * std::f32::consts::LOG2_E;
        let beyond = (exact - whole) + fma(octaves, lower, rest);
        let more = (beyond + ROUND) - ROUND;
        // In two steps, since one alone may be no number where the product is.
        let exponent = (whole + more).clamp(-252.0, 254.0);
        let half = (0.5 * exponent + ROUND) - ROUND;
        p * exp2::<FUSED>(beyond - more) * power_of_2(half) * power_of_2(exponent - half)
    }
}

/// `2ᵏ` of a whole number from −126 to 127.
#[inline(always)]
fn power_of_2(k: f32) -> f32 {
    f32::from_bits(((k + (ROUND + 127.0)).to_bits()) << 23)
}

impl Form for Power {
    const LEAST_OF_LOGS: f64 = 0.1;

    fn of(divergence: Divergence) -> Power {
        match divergence.integrands()[0] {
            Some(Integrand::Power(order)) => Power::new(order),
            // No other is asked for.
            _ => Power::new(0.5),
        }
    }

    /// A power brings what is too small for a number next to 1.
    #[inline(always)]
    fn takes_logs(self, some_lost: bool) -> bool {
        !some_lost && self.order <= MOST_OF_LOGS
    }

    #[inline(always)]
    fn bin<const FUSED: bool>(self, p: f32, q: f32, n: f32) -> f32 {
        let fma = mul_add::<FUSED>;
        let (p, q, n) = self.in_order(p, q, n);
        let (octaves, s) = ratio_f32::<FUSED>(p.max(TINY), q.max(TINY), n);
        let ln_rest = ln_near_f32::<FUSED>(s);
        let l = fma(octaves, std::f32::consts::LN_2, ln_rest);

        let mut series = self.series[TERMS - 1];
        for at in (0..TERMS - 1).rev() {
            series = fma(series, l, self.series[at]);
        }
        let near = q * (l * l) * series;

        let z = self.less_1 * l;
        // Where there is no q there is no power, but for the number in its place.
        let (has_q, is_small) = (q > 0.0, z.abs() <= 1.0);
        let raised = if has_q { self.raised::<FUSED>(p, octaves, ln_rest) } else { 0.0 };
        let by_difference = (raised - p) / self.less_1;
        let by_product = p * l * fma(z, exp_curve::<FUSED>(-z), 1.0);
        let of_p = if has_q & is_small { by_product } else { by_difference };
        let far = ((of_p - n) / self.order).max(0.0);
        if l.abs() <= self.near { near } else { far }
    }

    #[inline(always)]
    fn overlap<const FUSED: bool>(self, p: f32, q: f32) -> f32 {
        let (p, q, _) = self.in_order(p, q, 0.0);
        let (p_there, q_there) = (p.max(TINY), q.max(TINY));
        let (octaves, s) = ratio_f32::<FUSED>(p_there, q_there, p_there - q_there);
        let raised = self.raised::<FUSED>(p, octaves, ln_near_f32::<FUSED>(s));
        if q > 0.0 { raised } else { 0.0 }
    }

    /// `a/(a−1)·((p/q)^(a−1) − 1)` and `1 − (p/q)^a`.
    #[inline(always)]
    fn slopes<const FUSED: bool>(self, p: f32, q: f32, n: f32) -> [f32; 2] {
        let fma = mul_add::<FUSED>;
        let (p, q, n) = self.in_order(p, q, n);
        let (octaves, s) = ratio_f32::<FUSED>(p, q, n);
        let ln_rest = ln_near_f32::<FUSED>(s);
        let l = fma(octaves, std::f32::consts::LN_2, ln_rest);
        let power = self.raised::<FUSED>(1.0, octaves, ln_rest);
        let (z, y) = (self.less_1 * l, self.order * l);
        let near_z = l * fma(z, exp_curve::<FUSED>(-z), 1.0);
        let near_y = l * fma(y, exp_curve::<FUSED>(-y), 1.0);
        // In the place of p it is nothing to the power of an order of ½ or more; in that of q, to one less, it is not.
        let has_q = q > TINY;
        let far_z = (if has_q { power } else { 0.0 } - 1.0) / self.less_1;
        let far_y = fma(power, p / q, -1.0) / self.order;
        let by_first = if has_q & (z.abs() <= 1.0) { near_z } else { far_z };
        let by_second = if y.abs() <= 1.0 { near_y } else { far_y };
        self.slopes_of(by_first, by_second)
    }

    /// `a/(a−1)·(p/q)^(a−1)` and `−(p/q)^a`.
    #[inline(always)]
    fn slopes_from_end<const FUSED: bool>(self, p: f32, q: f32, n: f32) -> [f32; 2] {
        let (p, q, n) = self.in_order(p, q, n);
        let (octaves, s) = ratio_f32::<FUSED>(p, q, n);
        let power = self.raised::<FUSED>(1.0, octaves, ln_near_f32::<FUSED>(s));
        let by_first = if q > TINY { power / self.less_1 } else { 0.0 };
        self.slopes_of(by_first, power * (p / q) / self.order)
    }

    fn largest(self) -> f64 {
        match self.less_1 < 0.0 {
            true => 1.0 / (f64::from(self.order) * f64::from(-self.less_1)),
            false => f64::INFINITY,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Also where the power by itself is no number, and where its exponent would round.
    #[test]
    fn powers_have_their_digits_whatever_the_ratio() {
        for order in [0.7, 0.999, 1.3, 3.1, 5.9] {
            for (p, octaves) in [(1.3e-18, 30.0), (0.3, 100.0), (0.7, -31.0), (1.1e-7, 3.0)] {
                let ln_rest = 0.2_f32;
                let z = (order - 1.0) * (f64::from(octaves) * 2.0_f64.ln() + f64::from(ln_rest));
                let want = f64::from(p) * z.exp();
                if !(1e-37..1e38).contains(&want) {
                    continue;
                }
                let got = Power::new(order).raised::<true>(p, octaves, ln_rest);
                let off = (f64::from(got) - want).abs() / want;
                assert!(off < 5e-7, "{p} by 2^{octaves}, order {order}: {got:e}, not {want:e}");
            }
        }
    }
}
