//! The sums of rows of probabilities: `LANES` columns of bins side by side, or, where rows are
//! shorter than that, `LANES` rows.
//!
//! The functions here have no instruction set of their own. They are inlined into the loop over the
//! rows of a task, of which `pulp` holds one copy for each (AVX-512, AVX2, NEON, none), and picks one
//! at run time. No product is fused with a sum, and lanes are a constant of the arithmetic, not of
//! the machine: every copy gives the same bits.

use std::ops::Range;

use crate::element::{Element, Value};
use crate::sums::Sums;

/// Columns that are summed side by side.
pub(super) const LANES: usize = 16;
/// Blocks of lanes that are added one after the other. Rounding errors of equal terms all point the
/// same way, so that a chain of n sums may be off by n units in the last place: chains are kept
/// this short, and chained once more, before f64 takes over.
const CHAIN: usize = 4;
/// Blocks after which the lanes are folded into f64.
const FOLD: usize = CHAIN * CHAIN;
/// Folds that are added one after the other.
const FOLDS: usize = 16;
/// Bins of a long row that one task sums.
pub(super) const SEGMENT: usize = LANES * FOLD * FOLDS * 16;

/// The sums of `LANES` rows, side by side.
#[derive(Clone, Copy)]
pub(super) struct Columns<V: Value> {
    pub g: [f64; LANES],
    pub p: [f64; LANES],
    pub q: [f64; LANES],
    pub d: [f64; LANES],
    /// The largest bit patterns of bins that are not usual.
    pub top: [V::Bits; LANES],
}

impl<V: Value> Columns<V> {
    #[inline(always)]
    pub(super) fn empty() -> Columns<V> {
        let none = [0.0; LANES];
        Columns { g: none, p: none, q: none, d: none, top: [V::Bits::default(); LANES] }
    }

    pub(super) fn row(&self, lane: usize) -> Sums {
        Sums {
            g: self.g[lane],
            p: self.p[lane],
            q: self.q[lane],
            d: self.d[lane],
            // The one bin that makes g infinite without being huge or invalid is p > 0 = q.
            infinite: self.g[lane].is_infinite(),
            invalid: self.top[lane] >= V::INFINITE,
            huge: self.top[lane] >= V::HUGE,
        }
    }

    /// Puts the sums of one long row into its lane.
    #[inline(always)]
    pub(super) fn put(&mut self, lane: usize, wide: &Wide<V>) {
        self.g[lane] = tree_sum(wide.g);
        self.p[lane] = tree_sum(wide.p);
        self.q[lane] = tree_sum(wide.q);
        self.d[lane] = tree_sum(wide.d);
        self.top[lane] = wide.top;
    }

    /// The sums of a single row of middling length.
    #[inline(always)]
    pub(super) fn of_one(lanes: &Lanes<V>) -> Columns<V> {
        let mut columns = Columns::<V>::empty();
        columns.g[0] = sum_row(&lanes.g);
        columns.p[0] = sum_row(&lanes.p);
        columns.q[0] = sum_row(&lanes.q);
        columns.d[0] = sum_row(&lanes.d);
        columns.top[0] = lanes.top;
        columns
    }

    /// The sums of up to `LANES` rows of `BINS` bins, next to each other or, on a side that has only
    /// one, all the same.
    #[inline(always)]
    pub(super) fn of_short_rows<T: Element<Value = V>, const BINS: usize, const FUSED: bool>(
        rows: usize,
        [p, q]: [&[T]; 2],
    ) -> Columns<V> {
        match (p.as_chunks::<BINS>().0.first_chunk(), q.as_chunks::<BINS>().0.first_chunk()) {
            (Some(p), Some(q)) => Columns::of_whole_group::<T, BINS, FUSED>(rows, p, q),
            _ => Columns::of_whole_group::<T, BINS, FUSED>(rows, &filled_up(p), &filled_up(q)),
        }
    }

    #[inline(always)]
    fn of_whole_group<T: Element<Value = V>, const BINS: usize, const FUSED: bool>(
        rows: usize,
        p: &[[T; BINS]; LANES],
        q: &[[T; BINS]; LANES],
    ) -> Columns<V> {
        // First bin by bin, whatever row it belongs to; then row by row.
        let mut terms = [[[V::default(); BINS]; LANES]; 4];
        let [g, p_wide, q_wide, d] = &mut terms;
        let mut top = V::Bits::default();
        for at in 0..BINS {
            let block = |side: &[[T; BINS]; LANES]| widen(&side.as_flattened().as_chunks().0[at]);
            let (p, q) = (block(p), block(q));
            let bins = Bins::of::<FUSED>(&p, &q, 0..LANES);
            top = top.max(bins.top);
            for (place, values) in [(&mut *g, bins.g), (p_wide, p), (q_wide, q), (d, bins.d)] {
                place.as_flattened_mut().as_chunks_mut().0[at] = values;
            }
        }
        let mut columns = Columns::<V>::empty();
        sum_rows(&terms[0][..rows], &mut columns.g);
        sum_rows(&terms[1][..rows], &mut columns.p);
        sum_rows(&terms[2][..rows], &mut columns.q);
        sum_rows(&terms[3][..rows], &mut columns.d);
        if top > V::Bits::default() {
            // Whose bin it was matters to that row alone.
            for ((top, p), q) in columns.top.iter_mut().zip(p).zip(q) {
                for (p, q) in p.iter().zip(q) {
                    *top = (*top).max(V::bin::<FUSED>(p.widen(), q.widen()).top);
                }
            }
        }
        columns
    }
}

/// The sums of short rows.
#[inline(always)]
fn sum_rows<V: Value, const BINS: usize>(rows: &[[V; BINS]], sums: &mut [f64; LANES]) {
    for (sum, row) in sums.iter_mut().zip(rows) {
        let mut total = V::default();
        for chain in row.chunks(CHAIN) {
            total = total + chain.iter().fold(V::default(), |sum, &bin| sum + bin);
        }
        *sum = total.to_f64();
    }
}

/// Up to `LANES` short rows, of which the last stands for those that are missing.
#[inline(always)]
fn filled_up<T: Element, const BINS: usize>(side: &[T]) -> [[T; BINS]; LANES] {
    let rows = side.as_chunks::<BINS>().0;
    let mut filled = [[T::default(); BINS]; LANES];
    for (lane, row) in filled.iter_mut().enumerate() {
        *row = rows[lane.min(rows.len() - 1)];
    }
    filled
}

/// The lanes of rows of middling length, one after the other, to be summed across all at once.
pub(super) struct Middling<V: Value> {
    g: [[V; LANES]; LANES],
    p: [[V; LANES]; LANES],
    q: [[V; LANES]; LANES],
    d: [[V; LANES]; LANES],
    top: [V::Bits; LANES],
}

impl<V: Value> Middling<V> {
    /// The longest rows of middling length.
    pub(super) const BINS: usize = LANES * FOLD;

    #[inline(always)]
    pub(super) fn empty() -> Middling<V> {
        let none = [[V::default(); LANES]; LANES];
        Middling { g: none, p: none, q: none, d: none, top: [V::Bits::default(); LANES] }
    }

    #[inline(always)]
    pub(super) fn put(&mut self, lane: usize, lanes: &Lanes<V>) {
        self.g[lane] = lanes.g;
        self.p[lane] = lanes.p;
        self.q[lane] = lanes.q;
        self.d[lane] = lanes.d;
        self.top[lane] = lanes.top;
    }

    #[inline(always)]
    pub(super) fn columns(&self) -> Columns<V> {
        Columns {
            g: sum_lanes(&self.g),
            p: sum_lanes(&self.p),
            q: sum_lanes(&self.q),
            d: sum_lanes(&self.d),
            top: self.top,
        }
    }
}

/// The sum of the lanes of one row: the same bits, at less cost where there is no other.
#[inline(always)]
fn sum_row<V: Value>(row: &[V; LANES]) -> f64 {
    let sums = halves::<V, 4>(&halves::<V, 8>(row, row), row);
    let sums = halves::<V, 1>(&halves::<V, 2>(&sums, row), row);
    sums[0].to_f64()
}

/// The sums of the lanes of each row, halves upon halves: those of two rows make one vector, again
/// and again. Pairs of equal terms are added without an error.
#[inline(always)]
fn sum_lanes<V: Value>(rows: &[[V; LANES]; LANES]) -> [f64; LANES] {
    let mut rows = *rows;
    for row in 0..8 {
        rows[row] = halves::<V, 8>(&rows[2 * row], &rows[2 * row + 1]);
    }
    for row in 0..4 {
        rows[row] = halves::<V, 4>(&rows[2 * row], &rows[2 * row + 1]);
    }
    for row in 0..2 {
        rows[row] = halves::<V, 2>(&rows[2 * row], &rows[2 * row + 1]);
    }
    halves::<V, 1>(&rows[0], &rows[1]).map(V::to_f64)
}

/// Each lane added to the one `WIDTH` further on, of stretches of `2·WIDTH`.
#[inline(always)]
fn halves<V: Value, const WIDTH: usize>(x: &[V; LANES], y: &[V; LANES]) -> [V; LANES] {
    let mut sums = [V::default(); LANES];
    for lane in 0..LANES / 2 {
        let at = lane / WIDTH * 2 * WIDTH + lane % WIDTH;
        sums[lane] = x[at] + x[at + WIDTH];
        sums[lane + LANES / 2] = y[at] + y[at + WIDTH];
    }
    sums
}

/// Running sums of `LANES` columns of a row in f64.
#[derive(Clone, Copy)]
pub(super) struct Wide<V: Value> {
    g: [f64; LANES],
    p: [f64; LANES],
    q: [f64; LANES],
    d: [f64; LANES],
    top: V::Bits,
}

impl<V: Value> Wide<V> {
    /// The sums of more than `Middling::BINS` bins, up to `SEGMENT`.
    #[inline(always)]
    pub(super) fn of<T: Element<Value = V>, const FUSED: bool>(p: &[T], q: &[T]) -> Wide<V> {
        let (p_blocks, q_blocks) = (p.as_chunks::<LANES>().0, q.as_chunks::<LANES>().0);
        let mut wide = Wide::from(&Lanes::rest::<T, FUSED>(p, q));
        for (p, q) in p_blocks.chunks(FOLD * FOLDS).zip(q_blocks.chunks(FOLD * FOLDS)) {
            let mut folds = Wide::from(&Lanes::default());
            for (p, q) in p.chunks(FOLD).zip(q.chunks(FOLD)) {
                folds.merge(&Wide::from(&Lanes::of::<T, FUSED>(p, q)));
            }
            wide.merge(&folds);
        }
        wide
    }

    #[inline(always)]
    fn from(lanes: &Lanes<V>) -> Wide<V> {
        Wide {
            g: lanes.g.map(V::to_f64),
            p: lanes.p.map(V::to_f64),
            q: lanes.q.map(V::to_f64),
            d: lanes.d.map(V::to_f64),
            top: lanes.top,
        }
    }

    #[inline(always)]
    pub(super) fn merge(&mut self, later: &Wide<V>) {
        for lane in 0..LANES {
            self.g[lane] += later.g[lane];
            self.p[lane] += later.p[lane];
            self.q[lane] += later.q[lane];
            self.d[lane] += later.d[lane];
        }
        self.top = self.top.max(later.top);
    }
}

/// Running sums of `LANES` columns in the type of the arithmetic.
#[derive(Clone, Copy)]
pub(super) struct Lanes<V: Value> {
    g: [V; LANES],
    p: [V; LANES],
    q: [V; LANES],
    d: [V; LANES],
    /// The largest bit pattern of bins that are not usual.
    top: V::Bits,
}

impl<V: Value> Default for Lanes<V> {
    #[inline(always)]
    fn default() -> Lanes<V> {
        let none = [V::default(); LANES];
        Lanes { g: none, p: none, q: none, d: none, top: V::Bits::default() }
    }
}

impl<V: Value> Lanes<V> {
    /// The sums of a row of up to `Middling::BINS` bins.
    #[inline(always)]
    pub(super) fn of_row<T: Element<Value = V>, const FUSED: bool>(p: &[T], q: &[T]) -> Lanes<V> {
        let mut lanes = Lanes::of::<T, FUSED>(p.as_chunks().0, q.as_chunks().0);
        if !p.len().is_multiple_of(LANES) {
            lanes.merge(&Lanes::rest::<T, FUSED>(p, q));
        }
        lanes
    }

    /// The sums of up to `FOLD` blocks.
    #[inline(always)]
    fn of<T: Element<Value = V>, const FUSED: bool>(
        p: &[[T; LANES]],
        q: &[[T; LANES]],
    ) -> Lanes<V> {
        let mut lanes = Lanes::default();
        for (p, q) in p.chunks(CHAIN).zip(q.chunks(CHAIN)) {
            let mut chain = Lanes::default();
            for (p, q) in p.iter().zip(q) {
                chain.add::<FUSED>(&widen(p), &widen(q), 0..LANES);
            }
            lanes.merge(&chain);
        }
        lanes
    }

    /// The sums of the last bins of a row, those that fill no block.
    #[inline(always)]
    fn rest<T: Element<Value = V>, const FUSED: bool>(p: &[T], q: &[T]) -> Lanes<V> {
        let mut lanes = Lanes::default();
        let rest = p.len() % LANES;
        if rest == 0 {
            return lanes;
        }
        if let (Some(p), Some(q)) = (p.last_chunk(), q.last_chunk()) {
            // A block that reaches back to bins that are counted already.
            lanes.add::<FUSED>(&widen(p), &widen(q), LANES - rest..LANES);
        } else {
            // Any bin of the row may stand where there is none.
            let (mut p_block, mut q_block) = ([p[0]; LANES], [q[0]; LANES]);
            p_block.iter_mut().zip(p).for_each(|(place, &bin)| *place = bin);
            q_block.iter_mut().zip(q).for_each(|(place, &bin)| *place = bin);
            lanes.add::<FUSED>(&widen(&p_block), &widen(&q_block), 0..rest);
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
        }
        self.top = self.top.max(later.top);
    }

    /// Adds those bins of a block that count.
    #[inline(always)]
    fn add<const FUSED: bool>(&mut self, p: &[V; LANES], q: &[V; LANES], counted: Range<usize>) {
        let Bins { g, d, top } = Bins::of::<FUSED>(p, q, counted.clone());
        self.top = self.top.max(top);
        for lane in 0..LANES {
            let value = |value: V| if counted.contains(&lane) { value } else { V::default() };
            self.g[lane] = self.g[lane] + value(g[lane]);
            self.p[lane] = self.p[lane] + value(p[lane]);
            self.q[lane] = self.q[lane] + value(q[lane]);
            self.d[lane] = self.d[lane] + value(d[lane]);
        }
    }
}

/// What the bins of a block add to the sums of their rows.
struct Bins<V: Value> {
    g: [V; LANES],
    d: [V; LANES],
    /// The largest bit pattern, if one of the bins is not usual.
    top: V::Bits,
}

impl<V: Value> Bins<V> {
    #[inline(always)]
    fn of<const FUSED: bool>(p: &[V; LANES], q: &[V; LANES], counted: Range<usize>) -> Bins<V> {
        let (mut g, mut d) = ([V::default(); LANES], [V::default(); LANES]);
        let mut top = V::Bits::default();
        let mut usual = true;
        for lane in 0..LANES {
            usual &= p[lane].is_usual() & q[lane].is_usual();
        }
        if usual {
            for lane in 0..LANES {
                (g[lane], d[lane]) = V::usual_bin::<FUSED>(p[lane], q[lane]);
            }
        } else {
            for lane in 0..LANES {
                let bin = V::bin::<FUSED>(p[lane], q[lane]);
                (g[lane], d[lane]) = (bin.g, bin.d);
                top = if counted.contains(&lane) { top.max(bin.top) } else { top };
            }
        }
        Bins { g, d, top }
    }
}

#[inline(always)]
fn widen<T: Element>(block: &[T; LANES]) -> [T::Value; LANES] {
    let mut wide = [T::Value::default(); LANES];
    for lane in 0..LANES {
        wide[lane] = block[lane].widen();
    }
    wide
}

/// The sum of the lanes, halves upon halves.
#[inline(always)]
fn tree_sum(mut lanes: [f64; LANES]) -> f64 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}
