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

    /// The sums of `LANES` rows, each of `WIDTH` bins: a power of two, of at most `LANES`.
    #[inline(always)]
    fn of_short_rows<const WIDTH: usize, const FUSED: bool>(
        block: impl Fn(usize) -> [[V; LANES]; 2],
    ) -> Columns<V> {
        let mut sums = [[[V::default(); LANES]; WIDTH]; 4];
        let mut strange = [V::Bits::default(); LANES];
        for at in 0..WIDTH {
            let [p, q] = block(at);
            for lane in 0..LANES {
                strange[lane] = strange[lane] | p[lane].strangeness() | q[lane].strangeness();
                let (g, d) = V::usual_bin::<FUSED>(p[lane], q[lane]);
                sums[0][at][lane] = g;
                sums[1][at][lane] = p[lane];
                sums[2][at][lane] = q[lane];
                sums[3][at][lane] = d;
            }
        }
        let mut top = [V::Bits::default(); LANES];
        if is_strange::<V>(&strange) {
            careful::<V, WIDTH, FUSED>(block, &mut sums, &mut top);
        }
        Columns {
            g: sum_lanes(&sums[0]),
            p: sum_lanes(&sums[1]),
            q: sum_lanes(&sums[2]),
            d: sum_lanes(&sums[3]),
            top,
        }
    }
}

/// Whether a number was not usual, from what its like were collected in.
#[inline(always)]
fn is_strange<V: Value>(strange: &[V::Bits; LANES]) -> bool {
    let mut some = false;
    for &bits in strange {
        some |= bits & V::STRANGE != V::Bits::default();
    }
    some
}

/// What the bins of short rows add to their sums, whatever the bins are, and the largest bit pattern
/// of each row.
#[cold]
#[inline(never)]
fn careful<V: Value, const WIDTH: usize, const FUSED: bool>(
    block: impl Fn(usize) -> [[V; LANES]; 2],
    sums: &mut [[[V; LANES]; WIDTH]; 4],
    top: &mut [V::Bits; LANES],
) {
    for at in 0..WIDTH {
        let [p, q] = block(at);
        for lane in 0..LANES {
            let bin = V::bin::<FUSED>(p[lane], q[lane]);
            (sums[0][at][lane], sums[3][at][lane]) = (bin.g, bin.d);
            let top = &mut top[(at * LANES + lane) / WIDTH];
            *top = (*top).max(bin.top);
        }
    }
}

/// A group of short rows, each filled up to a length that vectors divide.
pub(super) struct Short<V: Value> {
    sides: [[V; LANES * LANES]; 2],
}

impl<V: Value> Short<V> {
    /// Every bin is neutral: the sides are equal, and too small to be seen beside others.
    #[inline(always)]
    pub(super) fn empty() -> Short<V> {
        Short { sides: [[V::LEAST_USUAL; LANES * LANES]; 2] }
    }

    /// The sums of up to `LANES` rows of `bins` bins, which are as many in every call, filled up to
    /// `WIDTH`. They are next to each other or, on a side that has only one, all the same.
    #[inline(always)]
    pub(super) fn columns<T: Element<Value = V>, const WIDTH: usize, const FUSED: bool>(
        &mut self,
        bins: usize,
        rows: usize,
        sides: [&[T]; 2],
    ) -> Columns<V> {
        if let [Some(p), Some(q)] = sides.map(|side| side.as_chunks().0.first_chunk::<WIDTH>())
            && bins == WIDTH
        {
            return Columns::of_short_rows::<WIDTH, FUSED>(|at| [widen(&p[at]), widen(&q[at])]);
        }
        for (filled_up, side) in self.sides.iter_mut().zip(sides) {
            let places = filled_up.as_chunks_mut::<WIDTH>().0;
            for (row, place) in places.iter_mut().enumerate().take(rows) {
                let first = if side.len() == bins { 0 } else { row * bins };
                let row = &side[first..first + bins];
                place.iter_mut().zip(row).for_each(|(place, bin)| *place = bin.widen());
            }
        }
        let [p, q] = &self.sides;
        let block = |side: &[V; LANES * LANES], at: usize| side.as_chunks().0[at];
        Columns::of_short_rows::<WIDTH, FUSED>(|at| [block(p, at), block(q, at)])
    }
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
            g: sum_lanes::<V, LANES>(&self.g),
            p: sum_lanes::<V, LANES>(&self.p),
            q: sum_lanes::<V, LANES>(&self.q),
            d: sum_lanes::<V, LANES>(&self.d),
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

/// The sums of `LANES` rows, of each `WIDTH` numbers side by side: halves upon halves, of which those
/// of two vectors make one, again and again. Pairs of equal terms are added without an error.
#[inline(always)]
fn sum_lanes<V: Value, const WIDTH: usize>(rows: &[[V; LANES]; WIDTH]) -> [f64; LANES] {
    // Spelt out: of loops the compiler makes gathers.
    #[inline(always)]
    fn of_16<V: Value>(v: &[[V; LANES]; 16]) -> [V; LANES] {
        let (a, b) = (halves::<V, 8>(&v[0], &v[1]), halves::<V, 8>(&v[2], &v[3]));
        let (c, d) = (halves::<V, 8>(&v[4], &v[5]), halves::<V, 8>(&v[6], &v[7]));
        let (e, f) = (halves::<V, 8>(&v[8], &v[9]), halves::<V, 8>(&v[10], &v[11]));
        let (g, h) = (halves::<V, 8>(&v[12], &v[13]), halves::<V, 8>(&v[14], &v[15]));
        of_8(&[a, b, c, d, e, f, g, h])
    }
    #[inline(always)]
    fn of_8<V: Value>(v: &[[V; LANES]; 8]) -> [V; LANES] {
        let (a, b) = (halves::<V, 4>(&v[0], &v[1]), halves::<V, 4>(&v[2], &v[3]));
        let (c, d) = (halves::<V, 4>(&v[4], &v[5]), halves::<V, 4>(&v[6], &v[7]));
        of_4(&[a, b, c, d])
    }
    #[inline(always)]
    fn of_4<V: Value>(v: &[[V; LANES]; 4]) -> [V; LANES] {
        of_2(&[halves::<V, 2>(&v[0], &v[1]), halves::<V, 2>(&v[2], &v[3])])
    }
    #[inline(always)]
    fn of_2<V: Value>(v: &[[V; LANES]; 2]) -> [V; LANES] {
        halves::<V, 1>(&v[0], &v[1])
    }
    let sums = if let Some(rows) = rows.first_chunk() {
        of_16(rows)
    } else if let Some(rows) = rows.first_chunk() {
        of_8(rows)
    } else if let Some(rows) = rows.first_chunk() {
        of_4(rows)
    } else if let Some(rows) = rows.first_chunk() {
        of_2(rows)
    } else {
        rows[0]
    };
    in_f64(&sums)
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
            g: in_f64(&lanes.g),
            p: in_f64(&lanes.p),
            q: in_f64(&lanes.q),
            d: in_f64(&lanes.d),
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
    /// The sums of a row of more than `LANES` bins, up to `Middling::BINS`.
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
            lanes.merge(&Lanes::chain::<T, FUSED>(p, q));
        }
        lanes
    }

    /// The sums of up to `CHAIN` blocks.
    #[inline(always)]
    fn chain<T: Element<Value = V>, const FUSED: bool>(
        p: &[[T; LANES]],
        q: &[[T; LANES]],
    ) -> Lanes<V> {
        // Each by itself, so that they stay in registers.
        let none = [V::NOTHING; LANES];
        let (mut g_sums, mut p_sums, mut q_sums, mut d_sums) = (none, none, none, none);
        let mut strange = [V::Bits::default(); LANES];
        for (p, q) in p.iter().zip(q) {
            let (p, q) = (widen(p), widen(q));
            for lane in 0..LANES {
                let (p, q) = (p[lane], q[lane]);
                strange[lane] = strange[lane] | p.strangeness() | q.strangeness();
                let (g, d) = V::usual_bin::<FUSED>(p, q);
                g_sums[lane] = g_sums[lane] + g;
                p_sums[lane] = p_sums[lane] + p;
                q_sums[lane] = q_sums[lane] + q;
                d_sums[lane] = d_sums[lane] + d;
            }
        }
        match is_strange::<V>(&strange) {
            true => Lanes::careful_chain::<T, FUSED>(p, q),
            false => {
                Lanes { g: g_sums, p: p_sums, q: q_sums, d: d_sums, top: V::Bits::default() }
            }
        }
    }

    /// The same of any bins.
    #[cold]
    #[inline(never)]
    fn careful_chain<T: Element<Value = V>, const FUSED: bool>(
        p: &[[T; LANES]],
        q: &[[T; LANES]],
    ) -> Lanes<V> {
        let mut lanes = Lanes::default();
        for (p, q) in p.iter().zip(q) {
            lanes.add::<FUSED>(&widen(p), &widen(q), 0..LANES);
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
            // The end of a long row. Any bin of it may stand where there is none.
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
        let mut strange = [V::Bits::default(); LANES];
        for lane in 0..LANES {
            strange[lane] = p[lane].strangeness() | q[lane].strangeness();
        }
        if is_strange::<V>(&strange) {
            for lane in 0..LANES {
                let bin = V::bin::<FUSED>(p[lane], q[lane]);
                (g[lane], d[lane]) = (bin.g, bin.d);
                top = if counted.contains(&lane) { top.max(bin.top) } else { top };
            }
        } else {
            for lane in 0..LANES {
                (g[lane], d[lane]) = V::usual_bin::<FUSED>(p[lane], q[lane]);
            }
        }
        Bins { g, d, top }
    }
}

/// The same numbers. (`array::map` would be a call of a function without vectors.)
#[inline(always)]
fn in_f64<V: Value>(values: &[V; LANES]) -> [f64; LANES] {
    let mut wide = [0.0; LANES];
    for lane in 0..LANES {
        wide[lane] = values[lane].to_f64();
    }
    wide
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
