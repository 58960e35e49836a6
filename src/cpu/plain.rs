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
        for lane in 0..LANES {
            let (g, p, q) = (g[lane], p[lane], q[lane]);
            let masses = (p >= least) & (p <= most) & (q >= least) & (q <= most);
            // With this mass, G is not 0 either.
            let fine = (g >= p * self.faint) & (g <= f64::MAX);
            let sound = columns.top[lane] < V::HUGE;
            values[lane] = if masses & fine & sound { values[lane] } else { f64::NAN };
        }
        values
    }
}
