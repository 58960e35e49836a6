//! The values of ordinary rows from their sums, many rows side by side.

use super::sums::{Columns, LANES};
use crate::batch::{Batch, Mass};
use crate::element::{Element, Value};
use crate::sums::{DOUBT, NEAR, distance, eta_near};
use crate::term::Term;

/// The settings of a batch that the values of its ordinary rows depend on.
pub(super) struct Plain {
    mass: Mass,
    /// How far a mass may lie from 1 without any doubt.
    within: f64,
    faint: f64,
}

impl Plain {
    pub(super) fn of<T: Element>(batch: &Batch<'_, T>) -> Plain {
        let within = match batch.mass() {
            Mass::Check => batch.mass_tolerance() - DOUBT,
            Mass::Normalize | Mass::AsGiven | Mass::Generalized => f64::INFINITY,
        };
        Plain { mass: batch.mass(), within, faint: T::Value::FAINT }
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
            Mass::Check | Mass::Normalize => {
                for lane in 0..LANES {
                    let (g, v) = (g[lane] / p[lane], -d[lane] / p[lane]);
                    let eta = eta_near(v);
                    let plain = v.abs() <= NEAR && eta <= g / 8.0;
                    values[lane] = if plain { g - eta } else { f64::NAN };
                }
            }
        }
        for lane in 0..LANES {
            let (g, p, q) = (g[lane], p[lane], q[lane]);
            let in_range = p >= self.faint && q >= self.faint && g < f64::INFINITY;
            let masses = (p - 1.0).abs() <= self.within && (q - 1.0).abs() <= self.within;
            let fine = g > 0.0 && g >= p * self.faint;
            let sound = columns.top[lane] < V::HUGE;
            values[lane] = if in_range & masses & fine & sound { values[lane] } else { f64::NAN };
        }
        values
    }
}
