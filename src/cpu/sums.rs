//! The sums of rows of probabilities: `LANES` columns of bins side by side, or, where rows are
//! shorter than that, `LANES` rows.
//!
//! The functions here have no instruction set of their own. They are inlined into the loop over the
//! rows of a task, of which `pulp` holds one copy for each (AVX-512, AVX2, NEON, none), and picks one
//! at run time. Lanes are a constant of the arithmetic, not of the machine, and products are fused
//! with sums in every copy but the one without vectors: all of these give the same bits.
//!
//! How something is written here is often what it takes for the compiler to make good vectors of it:
//! arrays of their own for what is to stay in registers, and no `map` of arrays.

use crate::chain::tree_sum;
use crate::element::{Element, Value};
use crate::sums::Sums;
use crate::term::Term;

/// Columns that are summed side by side.
pub(super) const LANES: usize = 16;
/// Blocks of lanes that are added one after the other. Rounding errors of equal terms all point the
/// same way, so that a chain of n sums may be off by n units in the last place: chains are kept
/// this short, and chained again.
const CHAIN: usize = 4;
/// Levels of chains before f64 takes over.
const LEVELS: usize = 3;
/// Bins of a row that these have room for: the longest rows of middling length.
pub(super) const MIDDLING: usize = longest(LEVELS);
/// Sums of so many bins that are added one after the other in f64.
const FOLDS: usize = 16;
/// Bins of a long row that one task sums.
pub(super) const SEGMENT: usize = MIDDLING * FOLDS * 4;

/// Bins of a row that so many levels of chains have room for.
pub(super) const fn longest(levels: usize) -> usize {
    LANES * CHAIN.pow(levels as u32)
}

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
        columns.g[0] = sum_row(&lanes.sums.g);
        columns.p[0] = sum_row(&lanes.sums.p);
        columns.q[0] = sum_row(&lanes.sums.q);
        columns.d[0] = sum_row(&lanes.sums.d);
        columns.top[0] = lanes.top;
        columns
    }

    /// The sums of `LANES` rows, each of `WIDTH` bins: a power of two, of at most `WIDEST`.
    #[expect(clippy::needless_range_loop, reason = "four arrays are walked through at a time")]
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
            AnyShortRows::<V, WIDTH, FUSED> { sums: &mut sums, top: &mut top }.dispatch();
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
/// of each row. A dispatch of its own, to which the loops over usual bins pay no heed.
struct AnyShortRows<'a, V: Value, const WIDTH: usize, const FUSED: bool> {
    sums: &'a mut [[[V; LANES]; WIDTH]; 4],
    top: &'a mut [V::Bits; LANES],
}

impl<V: Value, const WIDTH: usize, const FUSED: bool> AnyShortRows<'_, V, WIDTH, FUSED> {
    #[cold]
    #[inline(never)]
    fn dispatch(self) {
        pulp::Arch::new().dispatch(self);
    }
}

impl<V: Value, const WIDTH: usize, const FUSED: bool> pulp::WithSimd
    for AnyShortRows<'_, V, WIDTH, FUSED>
{
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        let [g, p, q, d] = self.sums;
        for at in 0..WIDTH {
            let mut tops = [V::Bits::default(); LANES];
            for lane in 0..LANES {
                let bin = V::bin::<FUSED>(p[at][lane], q[at][lane]);
                (g[at][lane], d[at][lane], tops[lane]) = (bin.g, bin.d, bin.top);
            }
            for (lane, &bits) in tops.iter().enumerate() {
                let top = &mut self.top[(at * LANES + lane) / WIDTH];
                *top = (*top).max(bits);
            }
        }
    }
}

/// A group of short rows, each filled up to a length that vectors divide.
pub(super) struct Short<V: Value> {
    sides: [[V; LANES * WIDEST]; 2],
}

/// The longest of them.
const WIDEST: usize = 8;

impl<V: Value> Short<V> {
    /// Every bin is neutral: the sides are equal, and too small to be seen beside others.
    #[inline(always)]
    pub(super) fn empty() -> Short<V> {
        Short { sides: [[V::LEAST_USUAL; LANES * WIDEST]; 2] }
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
        let block = |side: &[V; LANES * WIDEST], at: usize| side.as_chunks().0[at];
        Columns::of_short_rows::<WIDTH, FUSED>(|at| [block(p, at), block(q, at)])
    }
}

/// The lanes of rows of middling length, one after the other, to be summed across all at once. Rows are
/// shorter than a block, or take so many levels of chains.
pub(super) struct Middling<V: Value, const DEEP: usize> {
    g: [[V; 4]; LANES],
    p: [[V; 4]; LANES],
    q: [[V; 4]; LANES],
    d: [[V; 4]; LANES],
}

impl<V: Value, const DEEP: usize> Middling<V, DEEP> {
    #[inline(always)]
    pub(super) fn empty() -> Middling<V, DEEP> {
        let none = [[V::default(); 4]; LANES];
        Middling { g: none, p: none, q: none, d: none }
    }

    /// The sums of up to `LANES` rows of `bins` bins, next to each other or, on a side that has only
    /// one, all the same.
    #[inline(always)]
    pub(super) fn columns<T: Element<Value = V>, const FUSED: bool>(
        &mut self,
        bins: usize,
        rows: usize,
        sides: [&[T]; 2],
    ) -> Columns<V> {
        // From a row on.
        let from = |lane: usize| {
            sides.map(|side| if side.len() == bins { side } else { &side[lane * bins..] })
        };
        let row = |lane: usize| from(lane).map(|side| &side[..bins]);
        let mut strange = [V::Bits::default(); LANES];
        for lane in 0..rows {
            if DEEP == 0 {
                let [p, q] = from(lane);
                let (p, q) = (first_block(p, bins), first_block(q, bins));
                self.put(lane, &terms::<V, FUSED>(&p, &q, &mut strange));
            } else {
                let [p, q] = row(lane);
                self.put(lane, &usual_sums::<T, DEEP, FUSED>(p, q, &mut strange));
            }
        }
        let mut top = [V::Bits::default(); LANES];
        if is_strange::<V>(&strange) {
            for (lane, top) in top.iter_mut().enumerate().take(rows) {
                let [p, q] = row(lane);
                let any = AnyBins::<T, FUSED> { p, q }.dispatch();
                self.put(lane, &any.sums);
                *top = any.top;
            }
        }
        Columns {
            g: in_f64(&sum_fours(&self.g)),
            p: in_f64(&sum_fours(&self.p)),
            q: in_f64(&sum_fours(&self.q)),
            d: in_f64(&sum_fours(&self.d)),
            top,
        }
    }

    #[inline(always)]
    fn put(&mut self, lane: usize, sums: &Four<V>) {
        self.g[lane] = four_of(&sums.g);
        self.p[lane] = four_of(&sums.p);
        self.q[lane] = four_of(&sums.q);
        self.d[lane] = four_of(&sums.d);
    }
}

/// The sums of the lanes of each row, `WIDTH` of them: halves upon halves, so that pairs of equal terms
/// are added without an error.
#[inline(always)]
fn sum_lanes<V: Value, const WIDTH: usize>(rows: &[[V; LANES]; WIDTH]) -> [f64; LANES] {
    let mut sums = [V::default(); LANES];
    let rows = rows.as_flattened();
    match WIDTH {
        1 => sums.copy_from_slice(rows),
        2 => {
            for (sum, row) in sums.iter_mut().zip(rows.as_chunks::<2>().0) {
                *sum = row[0] + row[1];
            }
        }
        _ => {
            let mut fours = [[V::default(); 4]; LANES];
            for (four, row) in fours.iter_mut().zip(rows.as_chunks::<WIDTH>().0) {
                *four = four_of(row);
            }
            sums = sum_fours(&fours);
        }
    }
    in_f64(&sums)
}

/// The sum of the lanes of one row: the same bits, at less cost where there is no other.
#[inline(always)]
fn sum_row<V: Value>(row: &[V; LANES]) -> f64 {
    sum_four(&four_of(row)).to_f64()
}

/// A row of lanes, 4, 8 or 16 of them, folded into 4.
#[inline(always)]
fn four_of<V: Value, const WIDTH: usize>(row: &[V; WIDTH]) -> [V; 4] {
    let mut four = [V::default(); 4];
    if WIDTH == LANES {
        let mut eight = [V::default(); 8];
        for lane in 0..8 {
            eight[lane] = row[lane] + row[lane + 8];
        }
        return four_of(&eight);
    }
    for lane in 0..4 {
        four[lane] = if WIDTH == 8 { row[lane] + row[lane + 4] } else { row[lane] };
    }
    four
}

#[inline(always)]
fn sum_fours<V: Value>(fours: &[[V; 4]; LANES]) -> [V; LANES] {
    let mut sums = [V::default(); LANES];
    for (sum, four) in sums.iter_mut().zip(fours) {
        *sum = sum_four(four);
    }
    sums
}

#[inline(always)]
fn sum_four<V: Value>(four: &[V; 4]) -> V {
    (four[0] + four[2]) + (four[1] + four[3])
}

/// Running sums of `LANES` columns of a row in f64.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Wide<V: Value> {
    g: [f64; LANES],
    p: [f64; LANES],
    q: [f64; LANES],
    d: [f64; LANES],
    top: V::Bits,
}

impl<V: Value> Wide<V> {
    /// The sums of more than `MIDDLING` bins, up to `SEGMENT`.
    #[inline(always)]
    pub(super) fn of<T: Element<Value = V>, const FUSED: bool>(p: &[T], q: &[T]) -> Wide<V> {
        const LONG: usize = MIDDLING * FOLDS;
        let mut wide = Wide::from(&Lanes::default());
        for (p, q) in p.chunks(LONG).zip(q.chunks(LONG)) {
            let mut folds = Wide::from(&Lanes::default());
            for (p, q) in p.chunks(MIDDLING).zip(q.chunks(MIDDLING)) {
                folds.merge(&Wide::from(&Lanes::of::<T, FUSED>(p, q)));
            }
            wide.merge(&folds);
        }
        wide
    }

    #[inline(always)]
    fn from(lanes: &Lanes<V>) -> Wide<V> {
        Wide {
            g: in_f64(&lanes.sums.g),
            p: in_f64(&lanes.sums.p),
            q: in_f64(&lanes.sums.q),
            d: in_f64(&lanes.sums.d),
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
    sums: Four<V>,
    /// The largest bit pattern of bins that are not usual.
    top: V::Bits,
}

/// Columns of g, p, q and d.
#[derive(Clone, Copy)]
struct Four<V> {
    g: [V; LANES],
    p: [V; LANES],
    q: [V; LANES],
    d: [V; LANES],
}

impl<V: Value> Four<V> {
    #[inline(always)]
    fn all(value: V) -> Four<V> {
        let all = [value; LANES];
        Four { g: all, p: all, q: all, d: all }
    }

    #[inline(always)]
    fn add(&mut self, more: &Four<V>) {
        for lane in 0..LANES {
            self.g[lane] = self.g[lane] + more.g[lane];
            self.p[lane] = self.p[lane] + more.p[lane];
            self.q[lane] = self.q[lane] + more.q[lane];
            self.d[lane] = self.d[lane] + more.d[lane];
        }
    }
}

impl<V: Value> Default for Lanes<V> {
    #[inline(always)]
    fn default() -> Lanes<V> {
        Lanes { sums: Four::all(V::default()), top: V::Bits::default() }
    }
}

impl<V: Value> Lanes<V> {
    /// The sums of up to `MIDDLING` bins.
    #[inline(always)]
    pub(super) fn of<T: Element<Value = V>, const FUSED: bool>(p: &[T], q: &[T]) -> Lanes<V> {
        let mut strange = [V::Bits::default(); LANES];
        let sums = usual_sums::<T, LEVELS, FUSED>(p, q, &mut strange);
        if is_strange::<V>(&strange) {
            return AnyBins::<T, FUSED> { p, q }.dispatch();
        }
        Lanes { sums, top: V::Bits::default() }
    }
}

/// The same if the bins are usual. Collects what tells whether they are.
#[inline(always)]
fn usual_sums<T: Element, const DEEP: usize, const FUSED: bool>(
    p: &[T],
    q: &[T],
    strange: &mut [<T::Value as Term>::Bits; LANES],
) -> Four<T::Value> {
    in_chains::<T, DEEP>(p, q, |p, q| terms::<T::Value, FUSED>(p, q, strange))
}

/// The sum of what each block adds: in a chain, in chains of chains, or in chains of those. A row that
/// fewer levels have room for has the same bits with more.
#[inline(always)]
fn in_chains<T: Element, const DEEP: usize>(
    p: &[T],
    q: &[T],
    mut terms: impl FnMut(&[T::Value; LANES], &[T::Value; LANES]) -> Four<T::Value>,
) -> Four<T::Value> {
    let (p_blocks, q_blocks) = (p.as_chunks().0, q.as_chunks().0);
    let mut sums = match DEEP {
        1 => chain(p_blocks, q_blocks, &mut terms),
        2 => chain_of_chains(p_blocks, q_blocks, &mut terms),
        _ => {
            let mut sums = Four::all(T::Value::NOTHING);
            for (p, q) in p_blocks.chunks(CHAIN * CHAIN).zip(q_blocks.chunks(CHAIN * CHAIN)) {
                sums.add(&chain_of_chains(p, q, &mut terms));
            }
            sums
        }
    };
    if !p.len().is_multiple_of(LANES) {
        sums.add(&terms(&last_block(p), &last_block(q)));
    }
    sums
}

#[inline(always)]
fn chain_of_chains<T: Element>(
    p: &[[T; LANES]],
    q: &[[T; LANES]],
    terms: &mut impl FnMut(&[T::Value; LANES], &[T::Value; LANES]) -> Four<T::Value>,
) -> Four<T::Value> {
    let mut sums = Four::all(T::Value::NOTHING);
    for (p, q) in p.chunks(CHAIN).zip(q.chunks(CHAIN)) {
        sums.add(&chain(p, q, terms));
    }
    sums
}

#[inline(always)]
fn chain<T: Element>(
    p: &[[T; LANES]],
    q: &[[T; LANES]],
    terms: &mut impl FnMut(&[T::Value; LANES], &[T::Value; LANES]) -> Four<T::Value>,
) -> Four<T::Value> {
    let mut sums = Four::all(T::Value::NOTHING);
    for (p, q) in p.iter().zip(q) {
        sums.add(&terms(&widen(p), &widen(q)));
    }
    sums
}

/// The same as [`Lanes::of`], whatever the bins are: a dispatch of its own, too.
struct AnyBins<'a, T, const FUSED: bool> {
    p: &'a [T],
    q: &'a [T],
}

impl<T: Element, const FUSED: bool> AnyBins<'_, T, FUSED> {
    #[cold]
    #[inline(never)]
    fn dispatch(self) -> Lanes<T::Value> {
        pulp::Arch::new().dispatch(self)
    }
}

impl<T: Element, const FUSED: bool> pulp::WithSimd for AnyBins<'_, T, FUSED> {
    type Output = Lanes<T::Value>;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> Lanes<T::Value> {
        let AnyBins { p, q } = self;
        let mut top = <T::Value as Term>::Bits::default();
        let sums =
            in_chains::<T, LEVELS>(p, q, |p, q| any_terms::<T::Value, FUSED>(p, q, &mut top));
        Lanes { sums, top }
    }
}

/// What the bins of a block add, whatever they are, and the largest bit pattern of those not usual.
#[inline(always)]
fn any_terms<V: Value, const FUSED: bool>(
    p: &[V; LANES],
    q: &[V; LANES],
    top: &mut V::Bits,
) -> Four<V> {
    let mut strange = [V::Bits::default(); LANES];
    let mut terms = terms::<V, FUSED>(p, q, &mut strange);
    if is_strange::<V>(&strange) {
        for lane in 0..LANES {
            let bin = V::bin::<FUSED>(p[lane], q[lane]);
            (terms.g[lane], terms.d[lane]) = (bin.g, bin.d);
            *top = (*top).max(bin.top);
        }
    }
    terms
}

/// What the bins of a block add if they are usual. Collects what tells whether they are.
#[inline(always)]
fn terms<V: Value, const FUSED: bool>(
    p: &[V; LANES],
    q: &[V; LANES],
    strange: &mut [V::Bits; LANES],
) -> Four<V> {
    let (mut g, mut d) = ([V::default(); LANES], [V::default(); LANES]);
    for lane in 0..LANES {
        strange[lane] = strange[lane] | p[lane].strangeness() | q[lane].strangeness();
        (g[lane], d[lane]) = V::usual_bin::<FUSED>(p[lane], q[lane]);
    }
    Four { g, p: *p, q: *q, d }
}

/// 0 for all lanes, and 1 for as many: which bins of a block are kept is looked up, since of comparisons
/// with a lane's number the compiler makes branches.
const KEPT: [[u8; LANES]; 2] = [[0; LANES], [1; LANES]];

/// 1 in so many of the last lanes, and 0 before them.
#[inline(always)]
fn kept(last: usize) -> &'static [u8; LANES] {
    KEPT.as_flattened()[last..].first_chunk().expect("there are twice as many")
}

/// The last bins of a row, those that fill no block, beside bins that are neutral.
#[inline(always)]
fn last_block<T: Element>(side: &[T]) -> [T::Value; LANES] {
    let rest = side.len() % LANES;
    match side.last_chunk() {
        // A whole block is read at once; most of it was counted already.
        Some(last) => {
            let (mut block, kept) = (widen(last), kept(rest));
            for lane in 0..LANES {
                block[lane] = if kept[lane] == 0 { T::Value::LEAST_USUAL } else { block[lane] };
            }
            block
        }
        // A short row, or the end of a long one.
        None => filled_up(side),
    }
}

/// A row of fewer bins than a block, of a side that may go on after it, beside bins that are neutral.
#[inline(always)]
fn first_block<T: Element>(side: &[T], bins: usize) -> [T::Value; LANES] {
    match side.first_chunk() {
        Some(first) => {
            let (mut block, dropped) = (widen(first), kept(LANES - bins));
            for lane in 0..LANES {
                block[lane] = if dropped[lane] == 0 { block[lane] } else { T::Value::LEAST_USUAL };
            }
            block
        }
        None => filled_up(&side[..bins]),
    }
}

fn filled_up<T: Element>(bins: &[T]) -> [T::Value; LANES] {
    let mut block = [T::Value::LEAST_USUAL; LANES];
    block.iter_mut().zip(bins).for_each(|(place, bin)| *place = bin.widen());
    block
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
