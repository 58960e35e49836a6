//! All rows of P against all rows of Q on the CPU.
//!
//! Where f32 results are asked for, pairs are summed in the f32 forms of [`tile`](super::tile); other
//! divergences and f64 in the terms of all [divergences](super::family).

use super::bins::windows;
use super::block::Block;
use super::distribution::Distribution;
use super::family::{Family, Sums};
use super::pairing::{Of, Row, SIDE_BYTES, TILE_ROWS, is_apart, mirror};
use super::tile::{self, Known, Lanes};
use crate::batch::{Mass, OnInvalid};
use crate::element::Element;
use crate::error::Side;
use crate::matrix::Matrix;
use crate::pairs::{Pairs, blocks};
use crate::verdict::Verdict;
use crate::{Divergence, Error};

/// Bytes of the rows of Q of a tile: these, and its rows of P, stay in a cache of a core's own.
const TILE_BYTES: usize = 256 << 10;

/// The matrix of a divergence that is none of another's limits.
pub(super) fn matrix<T: Element>(
    divergence: Divergence,
    pairs: &Pairs<'_, T>,
) -> Result<Matrix<T::Value>, Error> {
    let mut matrix = Matrix::of(pairs, "cpu")?;
    let (into, of) = (&mut matrix, Of { divergence, pairs });
    match of.fast() {
        Some(sum) => fill(of, &Fast { of, known: sum.known() }, into),
        None => {
            let family = Family::new(&[divergence], of.reading());
            fill(of, &Exact { of, family }, into);
        }
    }
    Ok(matrix)
}

/// A way to compute pairs.
trait Manner: Sync {
    /// What is kept of a row.
    type Kept: Send + Sync;
    /// Bytes of it for each bin.
    fn bytes(&self) -> usize;

    /// What is kept of a row, and whether it does for its pairs.
    fn keep(&self, row: Distribution) -> (Self::Kept, bool);

    /// The values of some rows of P against some of Q, row by row; NaN for those that are to be looked
    /// at closer.
    fn values(&self, p: &[Row<Self::Kept>], q: &[Row<Self::Kept>], into: &mut [f64]);
}

/// Fills a matrix in, block by block of the rows made ready.
fn fill<T: Element, M: Manner>(of: Of<'_, '_, T>, manner: &M, matrix: &mut Matrix<T::Value>) {
    let (m, n) = of.pairs.shape();
    let bytes = of.pairs.bins().saturating_mul(manner.bytes()).max(1);
    let block = (SIDE_BYTES / bytes).max(1);
    let across = (TILE_BYTES / bytes).clamp(TILE_ROWS, 256);
    let ready = |side, rows| of.ready(side, rows, |row| manner.keep(row));
    for q_rows in blocks(0..n, block) {
        let q = ready(Side::Q, q_rows.clone());
        matrix.note(Side::Q, q_rows.start, q.iter().map(|row| row.refused));
        for p_rows in blocks(0..m, block) {
            let p = ready(Side::P, p_rows.clone());
            matrix.note(Side::P, p_rows.start, p.iter().map(|row| row.refused));
            if of.pairs.on_invalid() == OnInvalid::Error && matrix.offender.is_some() {
                // The rest would be thrown away. Other rows of P may come before.
                continue;
            }
            let rows = [p_rows, q_rows.clone()];
            let found = of.settle(matrix, rows, [&p, &q], across, |[p_tile, q_tile]| {
                let mut values = vec![0.0; p_tile.len() * q_tile.len()];
                manner.values(&p[p_tile], &q[q_tile], &mut values);
                values
            });
            of.note(found, matrix);
        }
    }
    if of.is_mirrored() {
        mirror(matrix);
    }
}

/// Pairs in f32.
struct Fast<'a, 'b, T> {
    of: Of<'a, 'b, T>,
    known: Known,
}

impl<T: Element> Manner for Fast<'_, '_, T> {
    type Kept = Vec<Lanes>;

    fn bytes(&self) -> usize {
        self.known.fields * size_of::<f32>()
    }

    fn keep(&self, row: Distribution) -> (Vec<Lanes>, bool) {
        (self.known.keep)(row)
    }

    fn values(&self, p: &[Row<Vec<Lanes>>], q: &[Row<Vec<Lanes>>], into: &mut [f64]) {
        let (divergence, Known { least, factor, .. }) = (self.of.divergence, self.known);
        let [p, q] = [p, q].map(|side| side.iter().map(|row| &**row.kept()).collect::<Vec<_>>());
        self.known.near_and_far(&p, &q, into);
        let mut overlaps = Vec::new();
        if divergence.integrands()[1].is_some() && into.iter().any(|&sum| is_apart(sum * factor)) {
            // Of rows far apart the overlap itself has the digits.
            overlaps.resize(into.len(), 0.0);
            tile::overlaps(&p, &q, &mut overlaps);
        }
        for (at, value) in into.iter_mut().enumerate() {
            let ln_overlap = overlaps.get(at).map_or(0.0, |overlap| overlap.ln());
            *value = self.of.value([least, factor], *value, ln_overlap);
        }
    }
}

/// Pairs in f64, of whatever divergence.
struct Exact<'a, 'b, T> {
    of: Of<'a, 'b, T>,
    family: Family,
}

impl<T> Exact<'_, '_, T> {
    fn is_kl(&self) -> bool {
        matches!(self.of.divergence, Divergence::Kl | Divergence::ReverseKl)
    }
}

impl<T: Element> Manner for Exact<'_, '_, T> {
    type Kept = Distribution;

    fn bytes(&self) -> usize {
        4 * size_of::<f64>()
    }

    fn keep(&self, row: Distribution) -> (Distribution, bool) {
        // Of `kl` rows have what quotients lack.
        let does = !(row.some_lost && self.is_kl());
        (row, does)
    }

    fn values(&self, p: &[Row<Distribution>], q: &[Row<Distribution>], into: &mut [f64]) {
        let pairs = self.of.pairs;
        if self.is_kl() && pairs.mass() == Mass::AsGiven {
            // Literally, and not its integrand.
            return into.fill(f64::NAN);
        }
        let family = &self.family;
        ExactTile { family, mass: pairs.mass(), p, q, into }.dispatch();
    }
}

struct ExactTile<'a> {
    family: &'a Family,
    mass: Mass,
    p: &'a [Row<Distribution>],
    q: &'a [Row<Distribution>],
    into: &'a mut [f64],
}

impl ExactTile<'_> {
    #[inline(never)]
    fn dispatch(self) {
        pulp::Arch::new().dispatch(self)
    }
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
        let pairs = p.iter().flat_map(|p| q.iter().map(move |q| [p.kept(), q.kept()]));
        for (value, pair) in into.iter_mut().zip(pairs) {
            sums.clear();
            for bins in windows(0..pair[0].x.len()) {
                block.fill_with::<FUSED>(&family.reading, pair, bins);
                sums.add_block::<FUSED>(family, &block);
            }
            *value = match family.verdict(0, &sums, mass, f64::NAN, |_| f64::NAN, |_| [f64::NAN; 2])
            {
                Verdict::Value(value) => value,
                _ => f64::NAN,
            };
        }
    }
}
