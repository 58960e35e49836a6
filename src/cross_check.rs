//! Results held against the f64 reference, row by row.

use crate::batch::{Batch, Element};
use crate::error::{Disagreement, Side};
use crate::{Divergence, Error, Outcome, Status, reference};

/// What a cross-check found when nothing disagreed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct CrossCheck {
    /// Rows that were compared: their values, and whether they are valid.
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
    if outcome.values.len() != batch.rows() || outcome.statuses.len() != batch.rows() {
        return Err(Error::Mismatch { batch: batch.rows(), outcome: outcome.values.len() });
    }
    let mut check = CrossCheck::default();
    let mut worst: Option<(f64, Disagreement)> = None;
    let mut disagreeing = 0;
    for row in spread(batch.rows(), rows) {
        check.compared += 1;
        // An invalid row is compared as NaN, whatever stands in it.
        let valid = !matches!(outcome.statuses[row], Status::Invalid(_));
        let got = if valid { outcome.values[row].to_f64() } else { f64::NAN };
        let comparison = Comparison::of(batch, row);
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
    /// NaN if the row is invalid.
    want: f64,
    doubt: f64,
    allowed: f64,
}

impl Comparison {
    fn of<T: Element>(batch: &Batch<'_, T>, row: usize) -> Comparison {
        let [p, q] = [Side::P, Side::Q].map(|side| {
            batch.row(side, row).iter().map(|value| value.to_f64()).collect::<Vec<_>>()
        });
        let exact = |want| Comparison { want, doubt: 0.0, allowed: 0.0 };
        if !reference::is_valid(&p, &q, batch.mass(), batch.mass_tolerance()) {
            return exact(f64::NAN);
        }
        let want = reference::kl(&p, &q, batch.mass());
        if want.is_infinite() {
            return exact(want);
        }
        if T::from_f64(want).to_f64().is_infinite() {
            return exact(f64::NAN); // beyond the result type
        }
        let doubt = 4.0 * f64::EPSILON * reference::size(&p, &q, batch.mass());
        Comparison { want, doubt, allowed: T::CROSS_CHECK * want.abs() + doubt }
    }

    fn agrees(&self, got: f64) -> bool {
        if self.want.is_nan() {
            return got.is_nan();
        }
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
