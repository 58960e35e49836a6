//! All rows of P against all rows of Q: what every backend does about them.
//!
//! Each row is made a distribution once, in f64, and what a backend needs of it is kept. What it makes of
//! a pair is settled here: NaN where a row is refused, +inf where that is the answer, and one more
//! computation, as a row of a batch, where a sum owes digits to rounding: so equal rows are 0 apart, and
//! none has to be good for all.

use std::ops::Range;

use rayon::prelude::*;

use super::bins::Reading;
use super::distribution::Distribution;
use super::family::closer_look;
use super::tile::Sum;
use crate::batch::{Batch, Mass};
use crate::element::{Element, Value};
use crate::error::{InvalidRow, Rule, Side};
use crate::integrand::Integrand;
use crate::matrix::Matrix;
use crate::pairs::{Pairs, blocks};
use crate::verdict::{Judged, MassRule, Verdict};
use crate::{Divergence, Status, chain, sums};

/// Bytes that rows of a side are made ready into at a time.
pub(crate) const SIDE_BYTES: usize = 64 << 20;
/// Rows of P of a tile.
pub(crate) const TILE_ROWS: usize = 16;

/// What is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Of<'a, 'b, T> {
    pub divergence: Divergence,
    pub pairs: &'a Pairs<'b, T>,
}

/// A row of a side, ready for all of its pairs.
pub(crate) struct Row<K> {
    kept: K,
    /// Whether that does, and every bin has mass.
    is_plain: bool,
    /// Whether it does.
    is_usual: bool,
    support: Support,
    pub refused: Option<InvalidRow>,
}

impl<K> Row<K> {
    pub(crate) fn kept(&self) -> &K {
        &self.kept
    }
}

impl<T: Element> Of<'_, '_, T> {
    pub(super) fn reading(&self) -> Reading {
        Reading::of(self.pairs.sides())
    }

    /// The first sum of the divergence, if there is an f32 form for it, and f32 does.
    pub(crate) fn fast(&self) -> Option<Sum> {
        let reading = self.reading();
        let divided = reading.divides(Side::P) && reading.divides(Side::Q);
        let fits = size_of::<T::Value>() == size_of::<f32>() && divided;
        match self.divergence.integrands()[0].filter(|_| fits)? {
            Integrand::Kl => Some(Sum::Kl),
            Integrand::ReverseKl => Some(Sum::ReverseKl),
            Integrand::Jeffreys => Some(Sum::Jeffreys),
            Integrand::JensenShannon(0.5) => Some(Sum::JensenShannon),
            Integrand::Power(0.5) => Some(Sum::Roots),
            Integrand::Variation => Some(Sum::Variation),
            Integrand::ChiSquared => Some(Sum::ChiSquared),
            Integrand::CrossEntropy => Some(Sum::CrossEntropy),
            _ => None,
        }
    }

    /// Whether each pair need be computed once only.
    pub(crate) fn is_mirrored(&self) -> bool {
        self.divergence.is_symmetric() && self.pairs.sides().is_one_side()
    }

    /// Makes some rows of a side ready. What is kept of one is told with whether it does for its pairs.
    pub(crate) fn ready<K: Send>(
        &self,
        side: Side,
        rows: Range<usize>,
        keep: impl Fn(Distribution) -> (K, bool) + Sync,
    ) -> Vec<Row<K>> {
        let (sides, reading) = (self.pairs.sides(), self.reading());
        let ready = rows.into_par_iter().map(|row| {
            let numbers = sides.side(side).row(row).iter().map(|x| x.to_f64()).collect();
            let made = Distribution::new(side, numbers, &reading);
            let as_a_whole = |rule| InvalidRow { row, ..sides.offending(side, made.mass, rule) };
            let refused = match made.is_invalid {
                true => sides.offender_of(side, row),
                false => MassRule::of(sides).broken(side, made.mass).map(as_a_whole),
            };
            let support = Support::of(&made.ln[..sides.bins()]);
            let (kept, is_usual) = keep(made);
            let is_plain = is_usual && refused.is_none() && support.is_full;
            Row { kept, is_plain, is_usual, support, refused }
        });
        ready.collect()
    }

    /// The value of a pair from its sum in an f32 form and the logarithm of its overlap; NaN if the sum is
    /// not between the least that has its digits, which comes with the form's factor, and the largest, or
    /// if the overlap is one of numbers with fewer digits than others.
    pub(crate) fn value(&self, [least, factor]: [f64; 2], sum: f64, ln_overlap: f64) -> f64 {
        const LEAST_LN: f64 = -69.0;
        match (least..LARGEST).contains(&sum) && ln_overlap > LEAST_LN {
            true => self.divergence.of_sums(sum * factor, ln_overlap, Mass::Check),
            false => f64::NAN,
        }
    }

    /// Settles the pairs of some rows made ready, tile by tile of so many columns and on all threads.
    /// The values of a tile, of such rows of P and of Q, come row by row: NaN for those that are to be
    /// looked at closer.
    pub(crate) fn settle<K: Sync>(
        &self,
        matrix: &mut Matrix<T::Value>,
        [p_rows, q_rows]: [Range<usize>; 2],
        [p, q]: [&[Row<K>]; 2],
        across: usize,
        values: impl Fn([Range<usize>; 2]) -> Vec<f64> + Sync,
    ) -> Found {
        let mirrored = self.is_mirrored();
        let all = matrix.values.as_slice_mut().unwrap_or_default();
        let rows = all.chunks_mut(self.pairs.shape().1).skip(p_rows.start).take(p_rows.len());
        let tiles = tiles(rows, &p_rows, &q_rows, across);
        let due = tiles.into_par_iter().filter(|tile| !mirrored || tile.is_above());
        let found = due.map(|tile| {
            let (p_tile, q_tile) = (within(&tile.p, &p_rows), within(&tile.q, &q_rows));
            let values = values([p_tile.clone(), q_tile.clone()]);
            self.settle_tile(tile, &p[p_tile], &q[q_tile], &values)
        });
        found.reduce(Found::default, Found::and)
    }

    /// Settles the pairs of a tile.
    fn settle_tile<K>(
        &self,
        tile: Tile<'_, T::Value>,
        p: &[Row<K>],
        q: &[Row<K>],
        values: &[f64],
    ) -> Found {
        let mut found = Found::default();
        let rows = tile.into.into_iter().zip(values.chunks(q.len()));
        for ((at, p), (into, values)) in p.iter().enumerate().zip(rows) {
            for ((column, q), (into, &value)) in
                q.iter().enumerate().zip(into.iter_mut().zip(values))
            {
                *into = if p.is_plain && q.is_plain && value <= LARGEST {
                    T::Value::from_f64(value)
                } else {
                    let pair = (tile.p.start + at, tile.q.start + column);
                    self.settle_pair(value, [p, q], pair, &mut found)
                };
            }
        }
        found
    }

    /// The value of a pair that is not plain.
    #[cold]
    fn settle_pair<K>(
        &self,
        value: f64,
        [p, q]: [&Row<K>; 2],
        pair: (usize, usize),
        found: &mut Found,
    ) -> T::Value {
        if p.refused.is_some() || q.refused.is_some() {
            return T::Value::from_f64(f64::NAN);
        }
        let (alone, both) = p.support.beside(&q.support);
        if self.divergence.is_infinite(alone, both) {
            return T::Value::from_f64(f64::INFINITY);
        }
        if p.is_usual && q.is_usual && value <= LARGEST {
            return T::Value::from_f64(value);
        }
        found.closer_looks += 1;
        let judged = exact(self.divergence, &self.pairs.pair(pair.0, pair.1));
        let row = judged.row::<T::Value>();
        if let (Verdict::Value(value), Status::Invalid(_)) = (judged.verdict, row.status) {
            found.too_large.get_or_insert((pair.0, value));
        }
        row.value
    }

    /// Writes down what was met in some tiles.
    pub(crate) fn note(&self, found: Found, matrix: &mut Matrix<T::Value>) {
        matrix.closer_looks += found.closer_looks;
        let too_large = found.too_large.filter(|_| matrix.offender.is_none());
        if let Some((row, value)) = too_large {
            let offending = self.pairs.sides().offending(Side::P, value, Rule::Overflow);
            matrix.offender = Some(InvalidRow { row, ..offending });
        }
    }
}

/// Whether a sum of squared differences of roots is that of rows so far apart that their overlap itself
/// has the digits.
pub(crate) fn is_apart(sum: f64) -> bool {
    sum >= 2.0
}

/// Values above it may be infinite in the type of the results.
const LARGEST: f64 = 1e38;

/// The verdict on the row of a batch that has one, reached in f64 and with all digits.
fn exact<T: Element>(divergence: Divergence, row: &Batch<'_, T>) -> Judged {
    match divergence {
        Divergence::Kl if row.is_probs() => sums::closer_look(row, 0),
        Divergence::Kl => chain::judge(row, &chain::node(row, 0)),
        Divergence::ReverseKl => exact(Divergence::Kl, &row.swapped()),
        divergence => closer_look(divergence, row, 0),
    }
}

/// What was met in some tiles.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    closer_looks: usize,
    /// A row of P with a value too large for the type, and the value.
    too_large: Option<(usize, f64)>,
}

impl Found {
    pub(crate) fn and(self, other: Found) -> Found {
        let first = |a: &(usize, f64), b: &(usize, f64)| a.0.cmp(&b.0);
        Found {
            closer_looks: self.closer_looks + other.closer_looks,
            too_large: self.too_large.into_iter().chain(other.too_large).min_by(first),
        }
    }
}

/// Where a part of some rows lies within them.
fn within(part: &Range<usize>, rows: &Range<usize>) -> Range<usize> {
    part.start - rows.start..part.end - rows.start
}

/// The bins in which a row has mass, one bit each.
struct Support {
    words: Vec<u64>,
    is_full: bool,
}

impl Support {
    fn of(ln: &[f64]) -> Support {
        let bits = |bins: &[f64]| {
            bins.iter().rev().fold(0, |word, ln| word << 1 | u64::from(*ln > f64::NEG_INFINITY))
        };
        let words: Vec<u64> = ln.chunks(64).map(bits).collect();
        let some: u32 = words.iter().map(|word| word.count_ones()).sum();
        Support { words, is_full: some as usize == ln.len() }
    }

    /// Whether there are bins of this row alone, of the other alone, and of both.
    fn beside(&self, other: &Support) -> ([bool; 2], bool) {
        let (mut alone, mut both) = ([false; 2], false);
        for (one, other) in self.words.iter().zip(&other.words) {
            alone[0] |= one & !other != 0;
            alone[1] |= other & !one != 0;
            both |= one & other != 0;
        }
        (alone, both)
    }
}

/// Some rows of P against some of Q, and the places of their values.
struct Tile<'a, V> {
    p: Range<usize>,
    q: Range<usize>,
    into: Vec<&'a mut [V]>,
}

impl<V> Tile<'_, V> {
    /// Whether some of it lies on the diagonal of the matrix, or above.
    fn is_above(&self) -> bool {
        self.q.end > self.p.start
    }
}

/// Cuts rows of a matrix, as far as they lie in `q`, into tiles of so many columns.
fn tiles<'a, V: 'a>(
    rows: impl Iterator<Item = &'a mut [V]>,
    p: &Range<usize>,
    q: &Range<usize>,
    across: usize,
) -> Vec<Tile<'a, V>> {
    let mut tiles: Vec<_> = blocks(p.clone(), TILE_ROWS)
        .flat_map(|p| {
            blocks(q.clone(), across).map(move |q| Tile { p: p.clone(), q, into: Vec::new() })
        })
        .collect();
    let in_row = q.len().div_ceil(across);
    for (at, row) in rows.enumerate() {
        let first = at / TILE_ROWS * in_row;
        let parts = row[q.clone()].chunks_mut(across);
        tiles[first..first + in_row]
            .iter_mut()
            .zip(parts)
            .for_each(|(tile, part)| tile.into.push(part));
    }
    tiles
}

/// Copies what lies above the diagonal to the tiles below it that were left out.
pub(crate) fn mirror<V: Value>(matrix: &mut Matrix<V>) {
    let values = &mut matrix.values;
    let n = values.nrows();
    for rows in blocks(0..n, TILE_ROWS) {
        for columns in blocks(0..rows.end, TILE_ROWS) {
            for row in rows.clone() {
                for column in columns.start..columns.end.min(row) {
                    values[[row, column]] = values[[column, row]];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use half::f16;
    use ndarray::{Array2, array};

    use super::*;
    use crate::kind::Kind;

    fn fast<T: Element>(divergence: Divergence, numbers: &Array2<T>, mass: Mass) -> Option<Sum> {
        let pairs = Pairs::probs(numbers, numbers).unwrap().with_mass(mass);
        Of { divergence, pairs: &pairs }.fast()
    }

    /// Values do not tell: what is left to f64 is right as well, and comes later.
    #[test]
    fn what_has_a_form_in_f32_takes_it() {
        let numbers = array![[0.25_f32, 0.75]];
        for divergence in Divergence::ALL {
            let want = match *divergence {
                Divergence::Kl => Some(Sum::Kl),
                Divergence::ReverseKl => Some(Sum::ReverseKl),
                Divergence::Jeffreys => Some(Sum::Jeffreys),
                Divergence::JensenShannon(_) | Divergence::JsDistance => Some(Sum::JensenShannon),
                Divergence::Hellinger | Divergence::Bhattacharyya => Some(Sum::Roots),
                Divergence::Renyi(order)
                | Divergence::Tsallis(order)
                | Divergence::Alpha(order) => (order == 0.5).then_some(Sum::Roots),
                Divergence::TotalVariation => Some(Sum::Variation),
                Divergence::ChiSquared => Some(Sum::ChiSquared),
                Divergence::CrossEntropy => Some(Sum::CrossEntropy),
                Divergence::Entropy => None,
            };
            assert_eq!(fast(*divergence, &numbers, Mass::Check), want, "{divergence}");
            assert_eq!(fast(*divergence, &numbers, Mass::Normalize), want, "{divergence}");
            let in_f16 = numbers.mapv(f16::from_f32);
            assert_eq!(fast(*divergence, &in_f16, Mass::Check), want, "{divergence}");
            let in_f64 = numbers.mapv(f64::from);
            assert_eq!(fast(*divergence, &in_f64, Mass::Check), None, "{divergence}");
        }
        assert_eq!(fast(Divergence::Kl, &numbers, Mass::AsGiven), None);
        assert_eq!(fast(Divergence::JensenShannon(0.3), &numbers, Mass::Check), None);
    }

    #[test]
    fn symmetric_divergences_of_one_side_are_computed_once() {
        let (numbers, copy) = (array![[0.25_f32, 0.75]], array![[0.25_f32, 0.75]]);
        let one = Pairs::probs(&numbers, &numbers).unwrap();
        let two = Pairs::probs(&numbers, &copy).unwrap();
        let mixed = Pairs::of(Kind::Probs, &numbers, Kind::Logits, &numbers).unwrap();
        let is = |divergence, pairs| Of { divergence, pairs }.is_mirrored();
        assert!(is(Divergence::Hellinger, &one) && !is(Divergence::Kl, &one));
        assert!(!is(Divergence::Hellinger, &two) && !is(Divergence::Hellinger, &mixed));
    }

    #[test]
    fn a_support_knows_its_bins() {
        let some = |bins: &[usize], of: usize| {
            let ln: Vec<f64> = (0..of)
                .map(|bin| if bins.contains(&bin) { -1.0 } else { f64::NEG_INFINITY })
                .collect();
            Support::of(&ln)
        };
        let (one, other) = (some(&[0, 70], 71), some(&[0, 69], 71));
        assert_eq!(one.beside(&other), ([true, true], true));
        assert_eq!(one.beside(&some(&[70], 71)), ([true, false], true));
        assert_eq!(some(&[64], 71).beside(&other), ([true, true], false));
        assert_eq!(some(&[], 71).beside(&other), ([false, true], false));
        assert!(some(&[0, 1, 2], 3).is_full && !one.is_full);
    }

    #[test]
    fn tiles_are_where_their_rows_are() {
        assert_eq!(within(&(5..7), &(3..9)), 2..4);
        let tile = |p, q| Tile::<f32> { p, q, into: Vec::new() };
        assert!(tile(0..2, 2..4).is_above() && tile(2..4, 2..4).is_above());
        assert!(tile(1..3, 0..2).is_above() && !tile(2..4, 0..2).is_above());
        let rows = 2 * TILE_ROWS + 1;
        let mut values = Array2::from_shape_fn((rows, 10), |(row, column)| 10 * row + column);
        let rows_of = values.as_slice_mut().unwrap().chunks_mut(10);
        let tiles = tiles(rows_of, &(0..rows), &(0..10), 4);
        let firsts: Vec<_> = tiles.iter().map(|tile| (*tile.into[0])[0]).collect();
        let second = 10 * TILE_ROWS;
        let third = 2 * second;
        let want = [0, 4, 8, second, second + 4, second + 8, third, third + 4, third + 8];
        assert_eq!(firsts, want);
        assert!(tiles.iter().all(|tile| tile.into.len() == tile.p.len()));
    }

    /// Overlaps of pairs that are nearer are made anew: answers do not tell.
    #[test]
    fn overlaps_have_their_digits_from_where_roots_are_far_apart() {
        assert!(is_apart(2.0) && !is_apart(1.9));
    }

    /// The first too large value is that of the first row, whichever tile it is in.
    #[test]
    fn what_was_met_adds_up() {
        let found = |closer_looks, too_large| Found { closer_looks, too_large };
        let both = found(2, Some((7, 1e39))).and(found(3, Some((4, 1e40))));
        assert_eq!((both.closer_looks, both.too_large), (5, Some((4, 1e40))));
        let one = found(1, None).and(found(0, Some((2, 1e39))));
        assert_eq!((one.closer_looks, one.too_large), (1, Some((2, 1e39))));
    }
}
