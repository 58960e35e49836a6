//! Row-wise divergences on the CPU.

use rayon::prelude::*;

use super::Cpu;
use crate::backend::Backend;
use crate::batch::Batch;
use crate::chain;
use crate::element::{Element, Value};
use crate::error::Side;
use crate::sums::{self, Sums, Total};
use crate::{Divergence, Error, Outcome};

/// Bins that are summed side by side. A constant of the result's bits, not of the machine: the
/// same tree of sums is walked whatever the width of its vectors.
const LANES: usize = 16;
/// Blocks of lanes that are added one after the other. Rounding errors of equal terms all point the
/// same way, so that a chain of n sums may be off by n units in the last place: chains are kept
/// this short, and chained once more, before f64 takes over.
const CHAIN: usize = 4;
/// Bins after which the lanes are folded into f64.
const FOLD: usize = LANES * CHAIN * CHAIN;
/// Bins of a long row that one task sums.
const SEGMENT: usize = FOLD * 256;
/// Bins that make a task of their own worth its while.
const TASK: usize = 1 << 15;

impl Backend for Cpu {
    async fn rows<T: Element>(
        &self,
        divergence: Divergence,
        batch: &Batch<'_, T>,
    ) -> Result<Outcome<T::Value>, Error> {
        let Divergence::Kl = divergence;
        let mut outcome = Outcome::with_rows(batch.rows(), "cpu");
        let rows_per_task = (TASK / batch.bins().max(1)).max(1);
        outcome.fill_in_parallel(0..batch.rows(), rows_per_task, |row| {
            if !batch.is_probs() {
                return chain::settle(batch, row, &chain::node(batch, row));
            }
            let (p, q) = (batch.packed(Side::P, row), batch.packed(Side::Q, row));
            sums::settle(batch, row, &row_sums(&p, &q))
        });
        Ok(outcome)
    }
}

/// The sums of a row, over as many threads as it is long.
fn row_sums<T: Element>(p: &[T], q: &[T]) -> Sums {
    if p.len() <= SEGMENT {
        return Segment::of(p, q).sums();
    }
    let segments: Vec<Segment<T::Value>> =
        p.par_chunks(SEGMENT).zip(q.par_chunks(SEGMENT)).map(|(p, q)| Segment::of(p, q)).collect();
    // In their order, so that the bits do not depend on which thread was first.
    let merged = segments.into_iter().reduce(Segment::merge);
    merged.unwrap_or_default().sums()
}

/// The sums of a stretch of bins.
#[derive(Clone, Copy, Default)]
struct Segment<V: Value> {
    g: Total,
    p: Total,
    q: Total,
    d: Total,
    top: V::Bits,
}

impl<V: Value> Segment<V> {
    fn of<T: Element<Value = V>>(p: &[T], q: &[T]) -> Segment<V> {
        pulp::Arch::new().dispatch(Stretch { p, q })
    }

    fn merge(self, later: Segment<V>) -> Segment<V> {
        Segment {
            g: self.g.merge(later.g),
            p: self.p.merge(later.p),
            q: self.q.merge(later.q),
            d: self.d.merge(later.d),
            top: self.top.max(later.top),
        }
    }

    fn sums(self) -> Sums {
        Sums {
            g: self.g.value(),
            p: self.p.value(),
            q: self.q.value(),
            d: self.d.value(),
            // The one bin that makes g infinite without being huge or invalid is p > 0 = q.
            infinite: self.g.value().is_infinite(),
            invalid: self.top >= V::INFINITE,
            huge: self.top >= V::HUGE,
        }
    }
}

/// The bins of a segment. `dispatch` inlines all that `with_simd` calls into one copy of the loop
/// for each vector instruction set, and runs the best that the machine has.
struct Stretch<'a, T> {
    p: &'a [T],
    q: &'a [T],
}

impl<T: Element> pulp::WithSimd for Stretch<'_, T> {
    type Output = Segment<T::Value>;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> Segment<T::Value> {
        let mut segment = Segment::default();
        for (p, q) in self.p.chunks(FOLD).zip(self.q.chunks(FOLD)) {
            Lanes::of(p, q).fold_into(&mut segment);
        }
        segment
    }
}

/// Running sums of `LANES` columns of bins.
#[derive(Clone, Copy)]
struct Lanes<V: Value> {
    g: [V; LANES],
    p: [V; LANES],
    q: [V; LANES],
    d: [V; LANES],
    top: [V::Bits; LANES],
}

impl<V: Value> Default for Lanes<V> {
    #[inline(always)]
    fn default() -> Lanes<V> {
        Lanes {
            g: [V::default(); LANES],
            p: [V::default(); LANES],
            q: [V::default(); LANES],
            d: [V::default(); LANES],
            top: [V::Bits::default(); LANES],
        }
    }
}

impl<V: Value> Lanes<V> {
    /// The sums of up to `FOLD` bins.
    #[inline(always)]
    fn of<T: Element<Value = V>>(p: &[T], q: &[T]) -> Lanes<V> {
        let mut lanes = Lanes::default();
        for (p, q) in p.chunks(LANES * CHAIN).zip(q.chunks(LANES * CHAIN)) {
            lanes.merge(&Lanes::chain(p, q));
        }
        lanes
    }

    /// The sums of up to `CHAIN` blocks.
    #[inline(always)]
    fn chain<T: Element<Value = V>>(p: &[T], q: &[T]) -> Lanes<V> {
        let mut lanes = Lanes::default();
        let (p_blocks, p_rest) = p.as_chunks::<LANES>();
        let (q_blocks, q_rest) = q.as_chunks::<LANES>();
        for (p, q) in p_blocks.iter().zip(q_blocks) {
            lanes.add(&p.map(T::widen), &q.map(T::widen));
        }
        if !p_rest.is_empty() {
            // Bins that are 0 on both sides add nothing.
            let mut p = [T::default(); LANES];
            let mut q = [T::default(); LANES];
            p[..p_rest.len()].copy_from_slice(p_rest);
            q[..q_rest.len()].copy_from_slice(q_rest);
            lanes.add(&p.map(T::widen), &q.map(T::widen));
        }
        lanes
    }

    #[inline(always)]
    fn merge(&mut self, later: &Lanes<V>) {
        for lane in 0..LANES {
            self.g[lane] = self.g[lane] + later.g[lane];
            self.p[lane] = self.p[lane] + later.p[lane];
            self.q[lane] = self.q[lane] + later.q[lane];
            self.d[lane] = self.d[lane] + later.d[lane];
            self.top[lane] = self.top[lane].max(later.top[lane]);
        }
    }

    #[inline(always)]
    fn add(&mut self, p: &[V; LANES], q: &[V; LANES]) {
        for lane in 0..LANES {
            let bin = V::bin(p[lane], q[lane]);
            self.g[lane] = self.g[lane] + bin.g;
            self.p[lane] = self.p[lane] + p[lane];
            self.q[lane] = self.q[lane] + q[lane];
            self.d[lane] = self.d[lane] + bin.d;
            self.top[lane] = self.top[lane].max(bin.top);
        }
    }

    #[inline(always)]
    fn fold_into(&self, segment: &mut Segment<V>) {
        segment.g.add(tree_sum(&self.g));
        segment.p.add(tree_sum(&self.p));
        segment.q.add(tree_sum(&self.q));
        segment.d.add(tree_sum(&self.d));
        segment.top = self.top.iter().copied().fold(segment.top, Ord::max);
    }
}

/// The lanes' sum in f64, halves upon halves.
#[inline(always)]
fn tree_sum<V: Value>(lanes: &[V; LANES]) -> f64 {
    let mut sums = lanes.map(V::to_f64);
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
        width /= 2;
    }
    sums[0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sums::tests::{assert_sums, sides};

    #[test]
    fn the_sums_themselves_are_right() {
        for bins in [1, 7, 16, 64, 257, 1_000, 5_000, 70_000, 140_000] {
            let sides = sides(bins);
            let sums = row_sums(&sides[0], &sides[1]);
            assert_sums(&sums, &sides, &format!("{bins} bins"));
        }
    }
}
