//! Results held against the f64 reference, row by row.

use crate::batch::{Batch, Element, Mass};
use crate::error::{Disagreement, Side};
use crate::{Divergence, Error, Outcome, Status, reference};

/// What a cross-check found when nothing disagreed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct CrossCheck {
    /// Rows that were compared. Invalid rows have no value to compare.
    pub compared: usize,
    /// The largest relative difference between a finite value and the reference, leaving aside
    /// what rounding in the reference itself can explain.
    pub worst: f64,
}

/// Recomputes `rows` rows, spread evenly over the batch, by the reference.
pub(crate) fn cross_check<T: Element>(
    divergence: Divergence,
    batch: &Batch<'_, T>,
    outcome: &Outcome<T>,
    rows: usize,
) -> Result<CrossCheck, Error> {
    let Divergence::Kl = divergence;
    let mut check = CrossCheck::default();
    let mut worst: Option<(f64, Disagreement)> = None;
    let mut disagreeing = 0;
    for row in spread(batch.rows(), rows) {
        if matches!(outcome.statuses[row], Status::Invalid(_)) {
            continue;
        }
        check.compared += 1;
        let got = outcome.values[row].to_f64();
        let comparison = Comparison::of(batch, row, got);
        if comparison.agrees(got) {
            check.worst = check.worst.max(comparison.difference(got));
            continue;
        }
        disagreeing += 1;
        let excess = comparison.excess(got);
        if worst.is_none_or(|(most, _)| excess > most) {
            let Comparison { want, allowed, .. } = comparison;
            let disagreement = Disagreement { row, got, want, allowed, rows: 0, compared: 0 };
            worst = Some((excess, disagreement));
        }
    }
    match worst {
        None => Ok(check),
        Some((_, disagreement)) => Err(Error::Disagreement(Disagreement {
            rows: disagreeing,
            compared: check.compared,
            ..disagreement
        })),
    }
}

/// The reference's answer to one row, and how far from it a right one may lie.
struct Comparison {
    want: f64,
    doubt: f64,
    allowed: f64,
}

impl Comparison {
    fn of<T: Element>(batch: &Batch<'_, T>, row: usize, got: f64) -> Comparison {
        let p: Vec<f64> = batch.row(Side::P, row).iter().map(|p| p.to_f64()).collect();
        let q: Vec<f64> = batch.row(Side::Q, row).iter().map(|q| q.to_f64()).collect();
        let want = reference::kl(&p, &q, batch.mass());
        if want.is_infinite() || got.is_infinite() {
            return Comparison { want, doubt: 0.0, allowed: 0.0 };
        }
        let size = reference::size(&p, &q, batch.mass());
        // Terms of either sign may cancel under `as-given`, and there only.
        let scale = if batch.mass() == Mass::AsGiven { size } else { want.abs() };
        let doubt = 4.0 * f64::EPSILON * size;
        Comparison { want, doubt, allowed: T::CROSS_CHECK * scale + doubt }
    }

    fn agrees(&self, got: f64) -> bool {
        // Written so that NaN does not agree.
        got == self.want || (got - self.want).abs() <= self.allowed
    }

    /// The relative difference beyond what the reference's own rounding explains.
    fn difference(&self, got: f64) -> f64 {
        let beyond = (got - self.want).abs() - self.doubt;
        if beyond > 0.0 { beyond / self.want.abs() } else { 0.0 }
    }

    /// By how much a disagreeing value is off, for comparison with others.
    fn excess(&self, got: f64) -> f64 {
        let excess = (got - self.want).abs() / self.allowed;
        if excess.is_nan() { f64::INFINITY } else { excess }
    }
}

/// `count` of `rows` row numbers, evenly spread from the first to the last.
fn spread(rows: usize, count: usize) -> impl Iterator<Item = usize> {
    let count = count.min(rows);
    let last = (rows.max(1) - 1) as u128;
    (0..count).map(move |at| (at as u128 * last / (count.max(2) - 1) as u128) as usize)
}
