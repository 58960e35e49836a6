//! Results held against the f64 reference, row by row.

use crate::batch::Batch;
use crate::element::Element;
use crate::error::{Disagreement, Side};
use crate::kind::Kind;
use crate::{Divergence, Error, Mass, Outcome, Status, Value, reference};

/// How far rounding may have carried the reference from its value, as a part of the size of what that was
/// made of.
const ROUNDING: f64 = 4.0 * f64::EPSILON;

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
    outcome: &Outcome<T::Value>,
    rows: usize,
) -> Result<CrossCheck, Error> {
    if outcome.values.len() != batch.rows() || outcome.statuses.len() != batch.rows() {
        return Err(Error::Mismatch { batch: batch.rows(), outcome: outcome.values.len() });
    }
    let mut tally = Tally::default();
    spread(batch.rows(), rows).for_each(|row| tally.compare(divergence, batch, outcome, row, 0));
    tally.finish()
}

/// What comparing some rows, of one batch or of the parts of one, has come to.
#[derive(Default)]
pub(crate) struct Tally {
    check: CrossCheck,
    disagreeing: usize,
    /// The worst of those, and by how much.
    worst: Option<(f64, Disagreement)>,
}

impl Tally {
    /// Compares a row of a batch that begins at row `first` of the whole.
    pub(crate) fn compare<T: Element>(
        &mut self,
        divergence: Divergence,
        batch: &Batch<'_, T>,
        outcome: &Outcome<T::Value>,
        row: usize,
        first: usize,
    ) {
        self.check.compared += 1;
        // An invalid row is compared as NaN, whatever stands in it.
        let valid = !matches!(outcome.statuses[row], Status::Invalid(_));
        let got = if valid { outcome.values[row].to_f64() } else { f64::NAN };
        let comparison = Comparison::of(divergence, batch, row);
        if comparison.agrees(got) {
            self.check.worst = self.check.worst.max(comparison.difference(got));
            return;
        }
        self.disagreeing += 1;
        let excess = comparison.excess(got);
        if self.worst.is_none_or(|(most, _)| excess > most) {
            let Comparison { want, allowed, .. } = comparison;
            let row = first + row;
            let disagreement = Disagreement { row, got, want, allowed, rows: 0, compared: 0 };
            self.worst = Some((excess, disagreement));
        }
    }

    pub(crate) fn finish(self) -> Result<CrossCheck, Error> {
        match self.worst {
            None => Ok(self.check),
            Some((_, disagreement)) => Err(Error::Disagreement(Disagreement {
                rows: self.disagreeing,
                compared: self.check.compared,
                ..disagreement
            })),
        }
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
    fn of<T: Element>(divergence: Divergence, batch: &Batch<'_, T>, row: usize) -> Comparison {
        let sides = [Side::P, Side::Q].map(|side| {
            let (kind, temperature) = (batch.kind(side), batch.temperature());
            let weight = |bin: usize| batch.bin_weights().map(|weights| weights[bin]);
            let value = |(bin, value): (usize, &T)| match weight(bin) {
                Some(weight) => kind.weighted(value.to_f64(), weight, temperature),
                None => value.to_f64(),
            };
            batch.row(side, row).iter().enumerate().map(value).collect::<Vec<_>>()
        });
        let found = match divergence {
            Divergence::Kl if batch.is_probs() => of_probs(batch, &sides),
            Divergence::Kl => of_logs(batch, &sides),
            divergence => of_any(divergence, batch, &sides),
        };
        let exactly = |want| Comparison { want, doubt: 0.0, allowed: 0.0 };
        let Some((want, size)) = found else {
            return exactly(f64::NAN);
        };
        if T::Value::from_f64(want).to_f64().is_infinite() {
            // Beyond the result type, unless it is to be infinite.
            let is_infinite = is_infinite_by_its_bins(divergence, batch, &sides);
            return exactly(if is_infinite { want } else { f64::NAN });
        }
        let doubt = ROUNDING * size;
        Comparison { want, doubt, allowed: T::Value::CROSS_CHECK * want.abs() + doubt }
    }

    fn agrees(&self, got: f64) -> bool {
        // A reference that has no answer to a valid row, which is one without a tolerance, agrees with
        // nothing.
        if self.want.is_nan() {
            return got.is_nan() && self.allowed == 0.0;
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

/// The value of a row of probabilities and the size of what went into it; nothing for an invalid
/// row.
fn of_probs<T: Element>(batch: &Batch<'_, T>, [p, q]: &[Vec<f64>; 2]) -> Option<(f64, f64)> {
    let mass = batch.mass();
    reference::is_valid(p, q, mass, batch.mass_tolerance())
        .then(|| (reference::kl(p, q, mass), reference::size(p, q, mass)))
}

/// The same for a row of which a side is logarithms.
fn of_logs<T: Element>(batch: &Batch<'_, T>, [p, q]: &[Vec<f64>; 2]) -> Option<(f64, f64)> {
    let (p, p_size) = side_of_logs(batch, Side::P, p)?;
    let (q, q_size) = side_of_logs(batch, Side::Q, q)?;
    let masses = [&p, &q].map(|logs| reference::ln_mass(logs).exp());
    let mut value = reference::relative_entropy_of_logs(&p, &q);
    if batch.mass() == Mass::Generalized {
        value += masses[1] - masses[0];
    }
    let terms = p.iter().zip(&q).filter(|(x, _)| **x > f64::NEG_INFINITY);
    let terms: f64 = terms.map(|(x, y)| x.exp() * (x - y).abs()).sum();
    Some((value, terms + masses[0] * (1.0 + p_size + q_size) + masses[1]))
}

/// The same for any divergence and any kinds.
fn of_any<T: Element>(
    divergence: Divergence,
    batch: &Batch<'_, T>,
    [p, q]: &[Vec<f64>; 2],
) -> Option<(f64, f64)> {
    let (p, p_size) = side_of_logs(batch, Side::P, p)?;
    let (q, q_size) = side_of_logs(batch, Side::Q, q)?;
    let mut value = reference::divergence(divergence, &p, &q);
    if batch.mass() == Mass::Generalized {
        let [p_mass, q_mass] = [&p, &q].map(|logs| reference::ln_mass(logs).exp());
        value += match divergence.at_its_limit() {
            Divergence::Kl => q_mass - p_mass,
            Divergence::ReverseKl => p_mass - q_mass,
            _ => 0.0,
        };
    }
    let size = match divergence.at_its_limit() {
        Divergence::Renyi(f64::INFINITY) => size_at_largest(&p, &q, value),
        _ => p_size + q_size,
    };
    Some((value, reference::size_of(divergence, &p, &q) * (1.0 + size)))
}

/// The size of the logarithms whose ratio is the largest or, but for rounding, may be: it can lie where there
/// is next to no mass.
fn size_at_largest(p: &[f64], q: &[f64], largest: f64) -> f64 {
    let both = p.iter().zip(q).filter(|(x, y)| x.is_finite() && y.is_finite());
    let sizes = both.map(|(x, y)| (x - y, x.abs().max(y.abs())));
    let close = sizes.filter(|(ratio, size)| ratio + 2.0 * ROUNDING * size >= largest);
    close.map(|(_, size)| size).fold(0.0, f64::max)
}

/// Whether a row is infinite by where its sides have mass: then it is so, too, with the same mass in each of
/// these bins.
fn is_infinite_by_its_bins<T: Element>(
    divergence: Divergence,
    batch: &Batch<'_, T>,
    [p, q]: &[Vec<f64>; 2],
) -> bool {
    let even = |side: Side, row: &[f64]| -> Vec<f64> {
        let none = no_mass(batch.kind(side));
        row.iter().map(|&value| if value > none { 0.0 } else { f64::NEG_INFINITY }).collect()
    };
    reference::divergence(divergence, &even(Side::P, p), &even(Side::Q, q)) == f64::INFINITY
}

/// What a bin without mass has.
fn no_mass(kind: Kind) -> f64 {
    if kind == Kind::Probs { 0.0 } else { f64::NEG_INFINITY }
}

/// One side as logarithms, divided by its mass where that is to be, and their size before that, to
/// which rounding is relative.
fn side_of_logs<T: Element>(
    batch: &Batch<'_, T>,
    side: Side,
    row: &[f64],
) -> Option<(Vec<f64>, f64)> {
    let kind = batch.kind(side);
    let lowest = no_mass(kind);
    let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    // What is added to all logits changes nothing, rounding included.
    let mut logs = match kind {
        Kind::Logits if top.is_finite() => {
            let below: Vec<f64> = row.iter().map(|x| x - top).collect();
            reference::logs(&below, kind, batch.temperature())
        }
        _ => reference::logs(row, kind, batch.temperature()),
    };
    let ln_mass = reference::ln_mass(&logs);
    let accepted = match (kind, batch.mass()) {
        (Kind::Logits, _) | (_, Mass::Normalize) => ln_mass > f64::NEG_INFINITY,
        (_, Mass::Check) => (ln_mass.exp() - 1.0).abs() <= batch.mass_tolerance(),
        _ => true,
    };
    if !accepted || !row.iter().all(|&value| value >= lowest && value < f64::INFINITY) {
        return None;
    }
    if kind == Kind::Logits || matches!(batch.mass(), Mass::Check | Mass::Normalize) {
        logs = reference::divided_by_mass(&logs);
    }
    // Bins far below the others do not count.
    let lowest = reference::ln_mass(&logs) - 50.0;
    let sizes = logs.iter().filter(|log| **log > lowest).map(|log| log.abs());
    let size = sizes.fold(0.0, f64::max);
    Some((logs, size))
}

/// `count` of `rows` row numbers, evenly spread from the first to the last.
pub(crate) fn spread(rows: usize, count: usize) -> impl Iterator<Item = usize> {
    let count = count.min(rows);
    let last = (rows.max(1) - 1) as u128;
    (0..count).map(move |at| (at as u128 * last / (count.max(2) - 1) as u128) as usize)
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;
    use crate::Engine;

    #[test]
    fn parts_come_to_what_the_whole_does() {
        let p = Array2::from_shape_fn((10, 2), |(row, bin)| {
            [0.05, 0.95][bin] + [1.0, -1.0][bin] * row as f32 / 20.0
        });
        let q = Array2::from_elem((1, 2), 0.5_f32);
        let batch = Batch::probs(&p, &q).unwrap();
        let mut outcome = Engine::cpu().rows(Divergence::Kl, &batch).unwrap();
        for tampered in [false, true] {
            if tampered {
                outcome.values[2] += 0.5;
                outcome.values[7] += 1.0;
            }
            let whole = cross_check(Divergence::Kl, &batch, &outcome, 10);
            let mut tally = Tally::default();
            for part in [0..4, 4..5, 5..10] {
                let first = part.start;
                let mut piece = outcome.clone();
                piece.values =
                    outcome.values.slice_axis(ndarray::Axis(0), part.clone().into()).to_owned();
                for row in 0..part.len() {
                    tally.compare(Divergence::Kl, &batch.slice(part.clone()), &piece, row, first);
                }
            }
            assert_eq!(tally.finish(), whole);
            assert_eq!(whole.is_err(), tampered);
        }
    }
}
