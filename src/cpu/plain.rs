//! The values of ordinary rows from their sums, many rows side by side.

use std::ops::RangeInclusive;

use super::sums::{Columns, LANES};
use crate::batch::{Batch, Mass};
use crate::element::{Element, Value};
use crate::sums::{DOUBT, NEAR, distance, eta_near};
use crate::term::Term;

/// The settings of a batch that the values of its ordinary rows depend on.
pub(super) struct Plain {
    mass: Mass,
    /// Masses that raise no question.
    masses: RangeInclusive<f64>,
    faint: f64,
}

impl Plain {
    pub(super) fn of<T: Element>(batch: &Batch<'_, T>) -> Plain {
        let faint = T::Value::FAINT;
        let within = batch.mass_tolerance() - DOUBT;
        let masses = match batch.mass() {
            Mass::Check => 1.0 - within..=1.0 + within,
            Mass::Normalize | Mass::AsGiven | Mass::Generalized => faint..=f64::MAX,
        };
        Plain { mass: batch.mass(), masses, faint }
    }

    /// What [`settle`](crate::sums::settle) makes of each row, or NaN where that has more to
    /// say than a value, or takes more than this straight line of arithmetic to find it.
    #[inline(always)]
    pub(super) fn values<V: Value>(&self, columns: &Columns<V>) -> [f64; LANES] {
        let Columns { g, p, q, d, .. } = columns;
        let mut values = *g;
        match self.mass {
            Mass::Generalized => {}
            Mass::AsGiven => {
                for lane in 0..LANES {
                    let value = g[lane] + d[lane];
                    let cancelled = value.abs() < distance(g[lane], p[lane], q[lane]) / 2.0;
                    values[lane] = if cancelled { f64::NAN } else { value };
                }
            }
            Mass::Check | Mass::Normalize if size_of::<V>() == size_of::<f32>() => {
                for lane in 0..LANES {
                    // One division, and as much of the series as shows in f32.
                    let per_p = 1.0 / p[lane];
                    let (g, u) = (g[lane] * per_p, d[lane] * per_p);
                    let z = u * u;
                    let eta = z * (0.5 + (u * (1.0 / 3.0) + z * 0.25));
                    let plain = (z <= NEAR * NEAR) & (eta * 8.0 <= g);
                    values[lane] = if plain { g - eta } else { f64::NAN };
                }
            }
            Mass::Check | Mass::Normalize => {
                for lane in 0..LANES {
                    let (g, v) = (g[lane] / p[lane], -d[lane] / p[lane]);
                    let eta = eta_near(v);
                    let plain = (v.abs() <= NEAR) & (eta * 8.0 <= g);
                    values[lane] = if plain { g - eta } else { f64::NAN };
                }
            }
        }
        let (least, most) = (*self.masses.start(), *self.masses.end());
        // In an array of their own: of what stays where it is the compiler makes stores under a mask.
        let mut plain = [f64::NAN; LANES];
        for lane in 0..LANES {
            let (g, p, q) = (g[lane], p[lane], q[lane]);
            let masses = (p >= least) & (p <= most) & (q >= least) & (q <= most);
            // With this mass, G is not 0 either.
            let fine = (g >= p * self.faint) & (g <= f64::MAX);
            let sound = columns.top[lane] < V::HUGE;
            plain[lane] = if masses & fine & sound { values[lane] } else { f64::NAN };
        }
        plain
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;
    use crate::sums::eta;

    /// Sums of a row, and the largest bit pattern of its bins that are not usual.
    #[derive(Clone, Copy)]
    struct Row<V: Value> {
        sums: [f64; 4],
        top: V::Bits,
    }

    /// What becomes of a row among others that are plain: `g, p, q, d`.
    fn value<V: Value>(mass: Mass, row: Row<V>) -> f64 {
        const LANE: usize = 5;
        let side = Array2::from_elem((1, 1), V::from_f64(1.0));
        let plain = Plain::of(&Batch::probs(&side, &side).unwrap().with_mass(mass));
        let mut columns = Columns::<V>::empty();
        for lane in 0..LANES {
            let other = Row { sums: [0.75, 1.0, 1.0, 0.0], top: V::Bits::default() };
            let Row { sums: [g, p, q, d], top } = if lane == LANE { row } else { other };
            (columns.g[lane], columns.p[lane], columns.q[lane]) = (g, p, q);
            (columns.d[lane], columns.top[lane]) = (d, top);
        }
        let values = plain.values(&columns);
        let others = values.iter().enumerate().filter(|&(lane, _)| lane != LANE);
        others.for_each(|(lane, &value)| assert_eq!(value, 0.75, "{mass}, lane {lane}"));
        values[LANE]
    }

    fn of_sums<V: Value>(mass: Mass, sums: [f64; 4]) -> f64 {
        value::<V>(mass, Row { sums, top: V::Bits::default() })
    }

    /// Each would have the same value one by one, but take longer.
    fn check_plain<V: Value>() {
        let allowed = if size_of::<V>() == size_of::<f32>() { 1e-8 } else { 4e-15 };
        for sums in [
            [0.3, 1.0, 1.0, 0.0],
            [0.3, 1.0, 0.9995, 0.0005],
            [0.3, 0.9991, 1.0, -0.0009],
            // Next to where too much cancels, and next to where the series ends.
            [3.3e-6, 1.0, 0.9991, 0.9e-3],
            [3.3e-6, 1.0, 1.0009, -0.9e-3],
        ] {
            let [g, p, q, d] = sums;
            let divided = g / p - eta(-d / p, q / p);
            for (mass, want) in
                [(Mass::Check, divided), (Mass::Normalize, divided), (Mass::Generalized, g)]
            {
                let got = of_sums::<V>(mass, sums);
                let right = (got - want).abs() <= allowed * want;
                assert!(right, "{mass}, {} of {p} {q}: {got:e}, not {want:e}", V::NAME);
            }
        }
        for (g, p, d) in [(6e-5, 1.0, 3.8e-3), (6e-5, 1.0, -3.8e-3), (0.6, 2.0, 7e-3)] {
            let want = g / p - eta(-d / p, (p - d) / p);
            let got = of_sums::<V>(Mass::Normalize, [g, p, p - d, d]);
            assert!((got - want).abs() <= allowed * want, "{} {g} {d}: {got:e} {want:e}", V::NAME);
        }
        let got = of_sums::<V>(Mass::AsGiven, [0.02, 1.0, 1.0, 0.09]);
        assert!((got - 0.11).abs() < 1e-15, "{got}");
        // The masses are as they are, and the largest numbers are still plain.
        assert_eq!(of_sums::<V>(Mass::Generalized, [0.3, 70.0, 90.0, -20.0]), 0.3);
        assert_eq!(of_sums::<V>(Mass::Generalized, [f64::MAX, 1.0, f64::MAX, -1.0]), f64::MAX);
    }

    /// Each has more to say than a value, or takes more arithmetic to find it.
    fn check_others<V: Value>() {
        let faint = V::FAINT / 2.0;
        let edge = 1e-3 - DOUBT / 2.0;
        for (mass, sums) in [
            (Mass::Check, [0.3, 1.002, 1.0, 0.002]),
            (Mass::Check, [0.3, 1.0, 1.002, -0.002]),
            (Mass::Check, [0.3, 0.998, 1.0, -0.002]),
            (Mass::Check, [0.3, 1.0, 0.998, 0.002]),
            // On the edge of the tolerance.
            (Mass::Check, [0.3, 1.0 + edge, 1.0, edge]),
            (Mass::Check, [0.3, 1.0, 1.0 - edge, edge]),
            (Mass::Normalize, [0.3 * faint, faint, faint, 0.0]),
            (Mass::Generalized, [0.3, faint, 1.0, -1.0]),
            (Mass::Generalized, [0.3, 1.0, faint, 1.0]),
            (Mass::Generalized, [0.0, 1.0, 1.0, 0.0]),
            (Mass::Generalized, [faint, 1.0, 1.0, 0.0]),
            (Mass::Generalized, [f64::INFINITY, 1.0, 1.0, 0.0]),
            (Mass::Generalized, [f64::NAN, 1.0, 1.0, 0.0]),
            (Mass::Generalized, [0.3, 1.0, f64::INFINITY, 0.0]),
            (Mass::Generalized, [0.3, f64::INFINITY, 1.0, 0.0]),
            // Too much cancels.
            (Mass::Normalize, [3.9e-6, 1.0, 0.999, 1e-3]),
            (Mass::AsGiven, [0.02, 1.0, 1.0, 0.07]),
            (Mass::AsGiven, [0.02, 1.0, 1.0, -0.11]),
            // The masses are too far apart for the series.
            (Mass::Normalize, [0.3, 1.0, 0.996, 3.95e-3]),
            (Mass::Normalize, [0.3, 1.0, 1.004, -3.95e-3]),
        ] {
            let got = of_sums::<V>(mass, sums);
            assert!(got.is_nan(), "{mass}, {}: {sums:?} gives {got:e}", V::NAME);
        }
        let top = V::HUGE;
        let huge = Row { sums: [0.3, 1.0, 1.0, 0.0], top };
        assert!(value::<V>(Mass::Generalized, huge).is_nan());
    }

    #[test]
    fn ordinary_rows_are_plain() {
        check_plain::<f32>();
        check_plain::<f64>();
    }

    #[test]
    fn what_is_not_plain_is_left_to_a_look_by_itself() {
        check_others::<f32>();
        check_others::<f64>();
    }
}
