//! All rows of P against all rows of Q on the CPU.
//!
//! Each row is made a distribution once, in f64. Where f32 results are asked for, pairs are summed in the
//! f32 forms of [`tile`](super::tile); other divergences and f64 in the terms of all
//! [divergences](super::family). A pair whose sum owes digits to rounding is computed once more, as a row
//! of a batch is: so equal rows are 0 apart, and none has to be good for all.

use std::marker::PhantomData;
use std::ops::Range;

use rayon::prelude::*;

use super::bins::{Block, Reading, windows};
use super::distribution::Distribution;
use super::family::{Family, Sums, closer_look};
use super::tile::{
    self, ChiSquared, CrossEntropy, Far, Form, Jeffreys, JensenShannon, Kept, Kl, Overlap,
    ReverseKl, Roots, Variation,
};
use crate::batch::{Batch, Mass, OnInvalid};
use crate::element::{Element, Value};
use crate::error::{InvalidRow, Rule, Side};
use crate::integrand::Integrand;
use crate::matrix::Matrix;
use crate::pairs::{Pairs, blocks};
use crate::verdict::{Judged, Verdict, refused_mass_of};
use crate::{Divergence, Error, Status, chain, sums};

/// Bytes that rows of a side are made ready into at a time.
const SIDE_BYTES: usize = 64 << 20;
/// Rows of P of a tile, and bytes of its rows of Q: these stay in a cache of a core's own.
const TILE_ROWS: usize = 16;
const TILE_BYTES: usize = 256 << 10;

/// The matrix of a divergence that is none of another's limits.
pub(super) fn matrix<T: Element>(
    divergence: Divergence,
    pairs: &Pairs<'_, T>,
) -> Result<Matrix<T::Value>, Error> {
    let mut matrix = Matrix::of(pairs, "cpu")?;
    let (into, of) = (&mut matrix, Of { divergence, pairs });
    match of.fast() {
        Some(Integrand::Kl) => of.fill_in::<Kl, 3>(into),
        Some(Integrand::ReverseKl) => of.fill_in::<ReverseKl, 3>(into),
        Some(Integrand::Jeffreys) => of.fill_in::<Jeffreys, 4>(into),
        Some(Integrand::JensenShannon(_)) => of.fill_in::<JensenShannon, 4>(into),
        Some(Integrand::Power(_)) => of.fill_in::<Roots, 2>(into),
        Some(Integrand::Variation) => of.fill_in::<Variation, 2>(into),
        Some(Integrand::ChiSquared) => of.fill_in::<ChiSquared, 3>(into),
        Some(Integrand::CrossEntropy) => of.fill_in::<CrossEntropy, 2>(into),
        _ => of.fill(&Exact { of, family: Family::new(&[divergence], of.reading()) }, into),
    }
    Ok(matrix)
}

/// What is asked for.
#[derive(Clone, Copy)]
struct Of<'a, 'b, T> {
    divergence: Divergence,
    pairs: &'a Pairs<'b, T>,
}

/// A way to compute pairs.
trait Manner: Sync {
    /// What is kept of a row.
    type Kept: Send + Sync;
    /// Bytes of it for each bin.
    const BYTES: usize;

    /// What is kept of a row, and whether it does for its pairs.
    fn keep(&self, row: Distribution) -> (Self::Kept, bool);

    /// The values of some rows of P against some of Q, row by row; NaN for those that are to be looked
    /// at closer.
    fn values(&self, p: &[Row<Self::Kept>], q: &[Row<Self::Kept>], into: &mut [f64]);
}

/// A row of a side, ready for all of its pairs.
struct Row<K> {
    kept: K,
    /// Whether that does, and every bin has mass.
    is_plain: bool,
    /// Whether it does.
    is_usual: bool,
    support: Support,
    refused: Option<InvalidRow>,
}

impl<K> Row<K> {
    fn kept(&self) -> &K {
        &self.kept
    }
}

impl<T: Element> Of<'_, '_, T> {
    fn reading(&self) -> Reading {
        Reading::of(self.pairs.sides())
    }

    /// The first sum of the divergence, if there is an f32 form for it, and f32 does.
    fn fast(&self) -> Option<Integrand> {
        let reading = self.reading();
        let divided = reading.divides(Side::P) && reading.divides(Side::Q);
        let fits = size_of::<T::Value>() == size_of::<f32>() && divided;
        self.divergence.integrands()[0].filter(|integrand| match integrand {
            Integrand::JensenShannon(half) | Integrand::Power(half) => fits && *half == 0.5,
            Integrand::Overlap(_) | Integrand::Unmatched | Integrand::Largest => false,
            Integrand::Entropy => false,
            _ => fits,
        })
    }

    /// Fills a matrix in with the values of an f32 form.
    fn fill_in<F: Form<N>, const N: usize>(self, matrix: &mut Matrix<T::Value>) {
        self.fill(&Fast { of: self, form: PhantomData::<F> }, matrix);
    }

    /// Fills a matrix in, block by block of the rows made ready.
    fn fill<M: Manner>(self, manner: &M, matrix: &mut Matrix<T::Value>) {
        let (m, n) = self.pairs.shape();
        let bytes = self.pairs.bins().saturating_mul(M::BYTES).max(1);
        let block = (SIDE_BYTES / bytes).max(1);
        let mirrored = self.divergence.is_symmetric() && self.pairs.sides().is_one_side();
        for q_rows in blocks(0..n, block) {
            let q = self.ready(manner, Side::Q, q_rows.clone());
            matrix.note(Side::Q, q_rows.start, q.iter().map(|row| row.refused));
            for p_rows in blocks(0..m, block) {
                let p = self.ready(manner, Side::P, p_rows.clone());
                matrix.note(Side::P, p_rows.start, p.iter().map(|row| row.refused));
                if self.pairs.on_invalid() == OnInvalid::Error && matrix.offender.is_some() {
                    // The rest would be thrown away. Other rows of P may come before.
                    continue;
                }
                let across = (TILE_BYTES / bytes).clamp(TILE_ROWS, 256);
                let values = matrix.values.as_slice_mut().unwrap_or_default();
                let rows = values.chunks_mut(n).skip(p_rows.start).take(p_rows.len());
                let tiles = tiles(rows, &p_rows, &q_rows, across);
                let due = tiles.into_par_iter().filter(|tile| !mirrored || tile.is_above());
                let found = due.map(|tile| {
                    let p = &p[within(&tile.p, &p_rows)];
                    let q = &q[within(&tile.q, &q_rows)];
                    self.compute(manner, tile, p, q)
                });
                let found = found.reduce(Found::default, Found::and);
                matrix.closer_looks += found.closer_looks;
                let too_large = found.too_large.filter(|_| matrix.offender.is_none());
                if let Some((row, value)) = too_large {
                    let sides = self.pairs.sides();
                    let rule = Rule::Overflow;
                    matrix.offender =
                        Some(InvalidRow { row, ..sides.offending(Side::P, value, rule) });
                }
            }
        }
        if mirrored {
            mirror(matrix);
        }
    }

    /// Makes some rows of a side ready.
    fn ready<M: Manner>(&self, manner: &M, side: Side, rows: Range<usize>) -> Vec<Row<M::Kept>> {
        let (sides, reading) = (self.pairs.sides(), self.reading());
        let ready = rows.into_par_iter().map(|row| {
            let numbers = sides.side(side).row(row).iter().map(|x| x.to_f64()).collect();
            let made = Distribution::new(side, numbers, &reading);
            let as_a_whole = |rule| InvalidRow { row, ..sides.offending(side, made.mass, rule) };
            let refused = match made.is_invalid {
                true => sides.offender_of(side, row),
                false => refused_mass_of(sides, side, made.mass).map(as_a_whole),
            };
            let support = Support::of(&made.ln[..sides.bins()]);
            let (kept, is_usual) = manner.keep(made);
            let is_plain = is_usual && refused.is_none() && support.is_full;
            Row { kept, is_plain, is_usual, support, refused }
        });
        ready.collect()
    }

    /// Computes the pairs of a tile.
    fn compute<M: Manner>(
        &self,
        manner: &M,
        tile: Tile<'_, T::Value>,
        p: &[Row<M::Kept>],
        q: &[Row<M::Kept>],
    ) -> Found {
        let mut values = vec![0.0; p.len() * q.len()];
        manner.values(p, q, &mut values);
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
                    self.settle(value, [p, q], pair, &mut found)
                };
            }
        }
        found
    }

    /// The value of a pair that is not plain.
    #[cold]
    fn settle<K>(
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
#[derive(Default)]
struct Found {
    closer_looks: usize,
    /// A row of P with a value too large for the type, and the value.
    too_large: Option<(usize, f64)>,
}

impl Found {
    fn and(self, other: Found) -> Found {
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
fn mirror<V: Value>(matrix: &mut Matrix<V>) {
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

/// Pairs in f32.
struct Fast<'a, 'b, T, F, const N: usize> {
    of: Of<'a, 'b, T>,
    form: PhantomData<F>,
}

impl<T: Element, F: Form<N>, const N: usize> Manner for Fast<'_, '_, T, F, N> {
    type Kept = Kept<N>;
    const BYTES: usize = N * size_of::<f32>();

    fn keep(&self, row: Distribution) -> (Kept<N>, bool) {
        tile::kept::<F, N>(&row)
    }

    fn values(&self, p: &[Row<Kept<N>>], q: &[Row<Kept<N>>], into: &mut [f64]) {
        let divergence = self.of.divergence;
        match F::FAR.is_finite() {
            true => near_and_far::<F, N>(p, q, into),
            false => tile::sums::<F, N>(p.iter().map(Row::kept), q.iter().map(Row::kept), into),
        }
        let apart = |sum: f64| sum * F::FACTOR >= 2.0;
        let mut overlaps = Vec::new();
        if divergence.integrands()[1].is_some() && into.iter().any(|&sum| apart(sum)) {
            // Of rows far apart the overlap itself has the digits.
            overlaps.resize(into.len(), 0.0);
            tile::sums::<Overlap, N>(
                p.iter().map(Row::kept),
                q.iter().map(Row::kept),
                &mut overlaps,
            );
        }
        for (at, value) in into.iter_mut().enumerate() {
            let ln_overlap = overlaps.get(at).map_or(0.0, |overlap| overlap.ln());
            *value = match (F::LEAST..LARGEST).contains(value) {
                true => divergence.of_sums(*value * F::FACTOR, ln_overlap, Mass::Check),
                false => f64::NAN,
            };
        }
    }
}

/// The sums of all pairs in the manner of those far apart, and of those that are not once more.
fn near_and_far<F: Form<N>, const N: usize>(
    p: &[Row<Kept<N>>],
    q: &[Row<Kept<N>>],
    into: &mut [f64],
) {
    tile::sums::<Far<F>, N>(p.iter().map(Row::kept), q.iter().map(Row::kept), into);
    let (mut near, mut again) = (Vec::new(), Vec::new());
    for (p, into) in p.iter().zip(into.chunks_mut(q.len())) {
        near.clear();
        near.extend((0..q.len()).filter(|&column| into[column] < F::FAR));
        again.resize(near.len(), 0.0);
        let columns = near.iter().map(|&column| q[column].kept());
        tile::sums::<F, N>(std::iter::once(p.kept()), columns, &mut again);
        near.iter().zip(&again).for_each(|(&column, &sum)| into[column] = sum);
    }
}

/// Pairs in f64, of whatever divergence.
struct Exact<'a, 'b, T> {
    of: Of<'a, 'b, T>,
    family: Family,
}

impl<T: Element> Manner for Exact<'_, '_, T> {
    type Kept = Distribution;
    const BYTES: usize = 4 * size_of::<f64>();

    fn keep(&self, row: Distribution) -> (Distribution, bool) {
        (row, true)
    }

    fn values(&self, p: &[Row<Distribution>], q: &[Row<Distribution>], into: &mut [f64]) {
        let Of { divergence, pairs } = self.of;
        let is_kl = matches!(divergence, Divergence::Kl | Divergence::ReverseKl);
        if is_kl && pairs.mass() == Mass::AsGiven {
            // Literally, and not its integrand.
            return into.fill(f64::NAN);
        }
        let family = &self.family;
        pulp::Arch::new().dispatch(ExactTile { family, mass: pairs.mass(), p, q, into });
    }
}

struct ExactTile<'a> {
    family: &'a Family,
    mass: Mass,
    p: &'a [Row<Distribution>],
    q: &'a [Row<Distribution>],
    into: &'a mut [f64],
}

impl pulp::WithSimd for ExactTile<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        if S::IS_SCALAR { self.all::<false>() } else { self.all::<true>() }
    }
}

impl ExactTile<'_> {
    #[inline(always)]
    fn all<const FUSED: bool>(self) {
        let ExactTile { family, mass, p, q, into } = self;
        let (mut block, mut sums) = (Block::new(), Sums::new(family));
        let pairs = p.iter().flat_map(|p| q.iter().map(move |q| [&p.kept, &q.kept]));
        for (value, pair) in into.iter_mut().zip(pairs) {
            sums.clear();
            for bins in windows(0..pair[0].x.len()) {
                let vectors = block.fill_with::<FUSED>(&family.reading, pair, bins);
                sums.add_block::<FUSED>(family, &block, vectors);
            }
            *value = match family.verdict(0, &sums, mass, f64::NAN, |_| f64::NAN) {
                Verdict::Value(value) => value,
                _ => f64::NAN,
            };
        }
    }
}
