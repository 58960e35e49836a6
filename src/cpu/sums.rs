//! The sums of rows of probabilities: `LANES` columns of bins side by side, or, where rows are
//! shorter than that, `LANES` rows.
//!
//! The functions here have no instruction set of their own. They are inlined into the loop over the
//! rows of a task, of which `pulp` holds one copy for each (AVX-512, AVX2, NEON, none), and picks one
//! at run time. Lanes are a constant of the arithmetic, not of the machine, and products are fused
//! with sums in every copy but the one without vectors: all of these give the same bits.
//!
//! Chains of usual bins in f32, of which most rows are made, have a loop of their own in [`usual`](super::usual).
//!
//! How something is written here is often what it takes for the compiler to make good vectors of it:
//! arrays of their own for what is to stay in registers, and no `map` of arrays.

use std::slice;

use pulp::Simd;

use crate::chain::tree_sum;
use crate::element::Value;
use crate::sums::Sums;

/// Columns that are summed side by side.
pub(super) const LANES: usize = 16;
/// Blocks of lanes that are added one after the other. Rounding errors of equal terms all point the
/// same way, so that a chain of n sums may be off by n units in the last place: chains are kept
/// this short, and chained again.
pub(super) const CHAIN: usize = 4;
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
    /// The largest bit patterns of rows that have a bin which is neither usual nor 0; of rows whose bins are all
    /// at least usual, none unless they reach [`Term::MOST`](crate::term::Term::MOST).
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

    /// Whether no bin of these rows was NaN, nor so large that sums might overflow, if none was negative.
    #[inline(always)]
    fn are_bounded(&self) -> bool {
        are_below(&self.p, &self.q, V::MOST.to_f64())
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

    /// The sums of `LANES` rows, each of `WIDTH` bins: a power of two, of at most `WIDEST`. `zeros` says
    /// whether some are to be expected, and then whether there were some.
    #[expect(clippy::needless_range_loop, reason = "four arrays are walked through at a time")]
    #[inline(always)]
    fn of_short_rows<const WIDTH: usize, const FUSED: bool>(
        block: impl Fn(usize) -> [[V; LANES]; 2],
        zeros: &mut bool,
    ) -> Columns<V> {
        let mut sums = [[[V::default(); LANES]; WIDTH]; 4];
        let mut strange = [V::Bits::default(); LANES];
        for at in 0..WIDTH {
            let [p, q] = block(at);
            if *zeros {
                (sums[1][at], sums[2][at]) = (p, q);
                continue;
            }
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
        *zeros = (*zeros || is_strange::<V>(&strange))
            && ShortRowsWithZeros::<V, WIDTH, FUSED> { sums: &mut sums, top: &mut top }.dispatch();
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

/// What the bins of short rows add to their sums if some are 0, or whatever they are, and the largest bit
/// pattern of each row. A dispatch of its own, to which the loops over usual bins pay no heed.
struct ShortRowsWithZeros<'a, V: Value, const WIDTH: usize, const FUSED: bool> {
    sums: &'a mut [[[V; LANES]; WIDTH]; 4],
    top: &'a mut [V::Bits; LANES],
}

impl<V: Value, const WIDTH: usize, const FUSED: bool> ShortRowsWithZeros<'_, V, WIDTH, FUSED> {
    /// Returns whether some bin was not usual.
    #[inline(never)]
    fn dispatch(self) -> bool {
        pulp::Arch::new().dispatch(self)
    }
}

impl<V: Value, const WIDTH: usize, const FUSED: bool> pulp::WithSimd
    for ShortRowsWithZeros<'_, V, WIDTH, FUSED>
{
    type Output = bool;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> bool {
        let [g, p, q, d] = self.sums;
        let mut with_zeros = WithZeros::<V, FUSED>::new();
        for at in 0..WIDTH {
            let terms = with_zeros.of(&p[at], &q[at]);
            (g[at], d[at]) = (terms.g, terms.d);
        }
        if !is_strange::<V>(&with_zeros.strange) {
            return with_zeros.has_zeros();
        }
        for at in 0..WIDTH {
            let mut any = Any::<V, FUSED>::new();
            let terms = any.of(&p[at], &q[at]);
            (g[at], d[at]) = (terms.g, terms.d);
            for (lane, &bits) in any.top.iter().enumerate() {
                let top = &mut self.top[(at * LANES + lane) / WIDTH];
                *top = (*top).max(bits);
            }
        }
        true
    }
}

/// A group of short rows, each filled up to a length that vectors divide.
pub(super) struct Short<V: Value> {
    sides: [[V; LANES * WIDEST]; 2],
    /// Whether zeros are to be expected: once some rows were summed, whether there were some, or other odd numbers.
    pub zeros: bool,
}

/// The longest of them.
const WIDEST: usize = 8;

impl<V: Value> Short<V> {
    /// Every bin is neutral: the sides are equal, and too small to be seen beside others.
    #[inline(always)]
    pub(super) fn new(zeros: bool) -> Short<V> {
        Short { sides: [[V::LEAST_USUAL; LANES * WIDEST]; 2], zeros }
    }

    /// The sums of up to `LANES` rows of `bins` bins, which are as many in every call, filled up to
    /// `WIDTH`. They are next to each other or, on a side that has only one, all the same.
    #[inline(always)]
    pub(super) fn columns<const WIDTH: usize, const FUSED: bool>(
        &mut self,
        bins: usize,
        rows: usize,
        sides: [&[V]; 2],
    ) -> Columns<V> {
        if let [Some(p), Some(q)] = sides.map(|side| side.as_chunks().0.first_chunk::<WIDTH>())
            && bins == WIDTH
        {
            return Columns::of_short_rows::<WIDTH, FUSED>(|at| [p[at], q[at]], &mut self.zeros);
        }
        for (filled_up, side) in self.sides.iter_mut().zip(sides) {
            let places = filled_up.as_chunks_mut::<WIDTH>().0;
            for (row, place) in places.iter_mut().enumerate().take(rows) {
                let first = if side.len() == bins { 0 } else { row * bins };
                let row = &side[first..first + bins];
                place.iter_mut().zip(row).for_each(|(place, bin)| *place = *bin);
            }
        }
        let [p, q] = &self.sides;
        let block = |side: &[V; LANES * WIDEST], at: usize| side.as_chunks().0[at];
        Columns::of_short_rows::<WIDTH, FUSED>(|at| [block(p, at), block(q, at)], &mut self.zeros)
    }
}

/// The lanes of rows of middling length, one after the other, to be summed across all at once. Rows are
/// shorter than a block, or take so many levels of chains.
pub(super) struct Middling<V: Value, const DEEP: usize> {
    fours: Fours<V>,
    /// Whether zeros are to be expected: once some rows were summed, whether there were some, or other odd numbers.
    pub zeros: bool,
}

impl<V: Value, const DEEP: usize> Middling<V, DEEP> {
    #[inline(always)]
    pub(super) fn new(zeros: bool) -> Middling<V, DEEP> {
        Middling { fours: Fours::empty(), zeros }
    }

    /// The sums of up to `LANES` rows of `bins` bins, next to each other or, on a side that has only
    /// one, all the same.
    #[inline(always)]
    pub(super) fn columns<S: Simd, const FUSED: bool>(
        &mut self,
        simd: S,
        bins: usize,
        rows: usize,
        sides: [&[V]; 2],
    ) -> Columns<V> {
        if !self.zeros {
            let mut usual = Usual::<S, V, FUSED>::new(simd);
            for lane in 0..rows {
                let [p, q] = from(sides, bins, lane);
                let sums = if DEEP == 0 {
                    usual.of(&first_block(p, bins), &first_block(q, bins))
                } else {
                    in_chains::<V, DEEP>(&p[..bins], &q[..bins], &mut usual)
                };
                self.fours.put(lane, &sums);
                if DEEP > 1 && usual.has_strange() {
                    break;
                }
            }
            if !usual.has_strange() {
                let columns = self.fours.columns([V::Bits::default(); LANES]);
                if DEEP < 2 || columns.are_bounded() {
                    return columns;
                }
            }
        }
        let (fours, top) = (&mut self.fours, &mut [V::Bits::default(); LANES]);
        self.zeros = RowsWithZeros::<V, FUSED> { bins, rows, sides, fours, top }.dispatch();
        self.fours.columns(*top)
    }
}

/// What a row of middling length and those after it hold. A side that has only one repeats it.
#[inline(always)]
fn from<T>(sides: [&[T]; 2], bins: usize, lane: usize) -> [&[T]; 2] {
    sides.map(|side| if side.len() == bins { side } else { &side[lane * bins..] })
}

/// The lanes of `LANES` rows, folded into 4 each.
struct Fours<V> {
    g: [[V; 4]; LANES],
    p: [[V; 4]; LANES],
    q: [[V; 4]; LANES],
    d: [[V; 4]; LANES],
}

impl<V: Value> Fours<V> {
    #[inline(always)]
    fn empty() -> Fours<V> {
        let none = [[V::default(); 4]; LANES];
        Fours { g: none, p: none, q: none, d: none }
    }

    #[inline(always)]
    fn put(&mut self, lane: usize, sums: &Four<V>) {
        self.g[lane] = four_of(&sums.g);
        self.p[lane] = four_of(&sums.p);
        self.q[lane] = four_of(&sums.q);
        self.d[lane] = four_of(&sums.d);
    }

    #[inline(always)]
    fn columns(&self, top: [V::Bits; LANES]) -> Columns<V> {
        Columns {
            g: in_f64(&sum_fours(&self.g)),
            p: in_f64(&sum_fours(&self.p)),
            q: in_f64(&sum_fours(&self.q)),
            d: in_f64(&sum_fours(&self.d)),
            top,
        }
    }
}

/// The lanes of rows of middling length if some bins are 0, or whatever they are. A dispatch of its own.
struct RowsWithZeros<'a, V: Value, const FUSED: bool> {
    bins: usize,
    rows: usize,
    sides: [&'a [V]; 2],
    fours: &'a mut Fours<V>,
    top: &'a mut [V::Bits; LANES],
}

impl<V: Value, const FUSED: bool> RowsWithZeros<'_, V, FUSED> {
    /// Returns whether some bin was not usual.
    #[inline(never)]
    fn dispatch(self) -> bool {
        pulp::Arch::new().dispatch(self)
    }
}

impl<V: Value, const FUSED: bool> pulp::WithSimd for RowsWithZeros<'_, V, FUSED> {
    type Output = bool;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> bool {
        let RowsWithZeros { bins, rows, sides, fours, top } = self;
        let mut zeros = false;
        for (lane, top) in top.iter_mut().enumerate().take(rows) {
            let [p, q] = from(sides, bins, lane);
            let lanes = sums_with_zeros::<V, FUSED>(&p[..bins], &q[..bins]);
            fours.put(lane, &lanes.sums);
            *top = lanes.top;
            zeros |= lanes.zeros;
        }
        zeros
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
            let rows = rows.as_chunks::<WIDTH>().0.first_chunk();
            sums = sum_fours(rows.expect("there are as many rows as lanes"));
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
pub(super) fn four_of<V: Value, const WIDTH: usize>(row: &[V; WIDTH]) -> [V; 4] {
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

/// The sum of each row, folded into 4 first.
#[inline(always)]
fn sum_fours<V: Value, const WIDTH: usize>(rows: &[[V; WIDTH]; LANES]) -> [V; LANES] {
    if let Some(sums) = V::sums_of_fours(rows) {
        return sums;
    }
    let (mut fours, mut sums) = ([[V::default(); 4]; LANES], [V::default(); LANES]);
    for (four, row) in fours.iter_mut().zip(rows) {
        *four = four_of(row);
    }
    for (sum, four) in sums.iter_mut().zip(&fours) {
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
pub struct Wide<V: Value> {
    g: [f64; LANES],
    p: [f64; LANES],
    q: [f64; LANES],
    d: [f64; LANES],
    top: V::Bits,
    /// Whether some bin was not usual.
    pub zeros: bool,
}

impl<V: Value> Wide<V> {
    /// The sums of more than `MIDDLING` bins, up to `SEGMENT`. `zeros` says whether some are to be expected.
    #[inline(always)]
    pub(super) fn of<S: Simd, const FUSED: bool>(
        simd: S,
        p: &[V],
        q: &[V],
        mut zeros: bool,
    ) -> Wide<V> {
        const LONG: usize = MIDDLING * FOLDS;
        let mut wide = Wide::from(&Lanes::default());
        for (p, q) in p.chunks(LONG).zip(q.chunks(LONG)) {
            let mut folds = Wide::from(&Lanes::default());
            for (p, q) in p.chunks(MIDDLING).zip(q.chunks(MIDDLING)) {
                let lanes = Lanes::of::<S, FUSED>(simd, p, q, zeros);
                zeros = lanes.zeros;
                folds.merge(&Wide::from(&lanes));
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
            zeros: lanes.zeros,
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
        self.zeros |= later.zeros;
    }
}

/// Running sums of `LANES` columns in the type of the arithmetic.
#[derive(Clone, Copy)]
pub(super) struct Lanes<V: Value> {
    sums: Four<V>,
    /// The largest bit pattern, if some bin is neither usual nor 0.
    top: V::Bits,
    /// Whether some bin was not usual.
    pub zeros: bool,
}

/// Columns of g, p, q and d.
#[derive(Clone, Copy)]
pub struct Four<V> {
    pub(super) g: [V; LANES],
    pub(super) p: [V; LANES],
    pub(super) q: [V; LANES],
    pub(super) d: [V; LANES],
}

impl<V: Value> Four<V> {
    #[inline(always)]
    pub(super) fn all(value: V) -> Four<V> {
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

    /// Whether no bin of these lanes was NaN, nor so large that sums might overflow, if none was negative.
    #[inline(always)]
    fn are_bounded(&self) -> bool {
        are_below(&self.p, &self.q, V::MOST)
    }
}

/// Whether all are numbers below the last one.
#[inline(always)]
fn are_below<T: Copy + PartialOrd>(p: &[T; LANES], q: &[T; LANES], most: T) -> bool {
    let mut all = true;
    for lane in 0..LANES {
        all &= (p[lane] < most) & (q[lane] < most);
    }
    all
}

impl<V: Value> Default for Lanes<V> {
    #[inline(always)]
    fn default() -> Lanes<V> {
        Lanes { sums: Four::all(V::default()), top: V::Bits::default(), zeros: false }
    }
}

impl<V: Value> Lanes<V> {
    /// The sums of up to `MIDDLING` bins. `zeros` says whether some are to be expected, which makes no
    /// difference to the sums.
    #[inline(always)]
    pub(super) fn of<S: Simd, const FUSED: bool>(
        simd: S,
        p: &[V],
        q: &[V],
        zeros: bool,
    ) -> Lanes<V> {
        if !zeros {
            let mut usual = Usual::<S, V, FUSED>::new(simd);
            let sums = in_chains::<V, LEVELS>(p, q, &mut usual);
            if !usual.has_strange() && sums.are_bounded() {
                return Lanes { sums, ..Lanes::default() };
            }
        }
        BinsWithZeros::<V, FUSED> { p, q }.dispatch()
    }
}

/// Whether a row starts with zeros, as good a guess as any at what comes after.
pub(super) fn starts_with_zeros<'a, V: Value>(sides: [impl Iterator<Item = &'a V>; 2]) -> bool {
    const FIRST: usize = 2 * LANES;
    sides.into_iter().any(|side| side.take(FIRST).any(|&x| x == V::default()))
}

/// The sum of what each block adds: in a chain, in chains of chains, or in chains of those. A row that
/// fewer levels have room for has the same bits with more.
#[inline(always)]
fn in_chains<V: Value, const DEEP: usize>(p: &[V], q: &[V], terms: &mut impl Terms<V>) -> Four<V> {
    let (p_blocks, q_blocks) = (p.as_chunks().0, q.as_chunks().0);
    let mut sums = match DEEP {
        1 => chain(p_blocks, q_blocks, terms),
        _ => terms.chains::<DEEP>(p_blocks, q_blocks),
    };
    if !p.len().is_multiple_of(LANES) {
        let (p, q) = (last_block(p), last_block(q));
        sums.add(&match DEEP {
            1 => terms.of(&p, &q),
            _ => terms.chains::<2>(slice::from_ref(&p), slice::from_ref(&q)),
        });
    }
    sums
}

#[inline(always)]
fn chains<V: Value, const DEEP: usize>(
    p: &[[V; LANES]],
    q: &[[V; LANES]],
    terms: &mut (impl Terms<V> + ?Sized),
) -> Four<V> {
    let mut sums = Four::all(V::NOTHING);
    if DEEP == 2 {
        for (p, q) in p.chunks(CHAIN).zip(q.chunks(CHAIN)) {
            sums.add(&chain(p, q, terms));
        }
    } else {
        for (p, q) in p.chunks(CHAIN * CHAIN).zip(q.chunks(CHAIN * CHAIN)) {
            sums.add(&chains::<V, 2>(p, q, terms));
        }
    }
    sums
}

#[inline(always)]
fn chain<V: Value>(
    p: &[[V; LANES]],
    q: &[[V; LANES]],
    terms: &mut (impl Terms<V> + ?Sized),
) -> Four<V> {
    let mut sums = Four::all(V::NOTHING);
    for (p, q) in p.iter().zip(q) {
        sums.add(&terms.of(p, q));
    }
    sums
}

/// The sums of up to `MIDDLING` bins if some are 0, or whatever they are: a dispatch of its own.
struct BinsWithZeros<'a, V, const FUSED: bool> {
    p: &'a [V],
    q: &'a [V],
}

impl<V: Value, const FUSED: bool> BinsWithZeros<'_, V, FUSED> {
    #[inline(never)]
    fn dispatch(self) -> Lanes<V> {
        pulp::Arch::new().dispatch(self)
    }
}

impl<V: Value, const FUSED: bool> pulp::WithSimd for BinsWithZeros<'_, V, FUSED> {
    type Output = Lanes<V>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Lanes<V> {
        sums_with_zeros::<V, FUSED>(self.p, self.q)
    }
}

#[inline(always)]
fn sums_with_zeros<V: Value, const FUSED: bool>(p: &[V], q: &[V]) -> Lanes<V> {
    let mut with_zeros = WithZeros::<V, FUSED>::new();
    let sums = in_chains::<V, LEVELS>(p, q, &mut with_zeros);
    if is_strange::<V>(&with_zeros.strange) {
        return AnyBins::<V, FUSED> { p, q }.dispatch();
    }
    Lanes { sums, zeros: with_zeros.has_zeros(), ..Lanes::default() }
}

/// The same, whatever the bins are.
struct AnyBins<'a, V, const FUSED: bool> {
    p: &'a [V],
    q: &'a [V],
}

impl<V: Value, const FUSED: bool> AnyBins<'_, V, FUSED> {
    #[cold]
    #[inline(never)]
    fn dispatch(self) -> Lanes<V> {
        pulp::Arch::new().dispatch(self)
    }
}

impl<V: Value, const FUSED: bool> pulp::WithSimd for AnyBins<'_, V, FUSED> {
    type Output = Lanes<V>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Lanes<V> {
        let mut any = Any::<V, FUSED>::new();
        let sums = in_chains::<V, LEVELS>(self.p, self.q, &mut any);
        Lanes { sums, top: any.top.into_iter().fold(Default::default(), Ord::max), zeros: true }
    }
}

/// A way to make what the bins of a block add to the sums of their row. All ways that are right for a bin
/// give it the same bits. (A closure in place of this, called from two lines, would be a function without
/// vectors.)
trait Terms<V: Value> {
    fn of(&mut self, p: &[V; LANES], q: &[V; LANES]) -> Four<V>;

    /// The sums of two or three levels of chains.
    #[inline(always)]
    fn chains<const DEEP: usize>(&mut self, p: &[[V; LANES]], q: &[[V; LANES]]) -> Four<V> {
        chains::<V, DEEP>(p, q, self)
    }
}

/// Right if all bins are usual, or at least not less than those are and bounded: what is collected here tells
/// the one, and the sums of p and q of `chains` the other. Subnormal numbers come of others, and cost some
/// processors a hundred times as much: rows that have zeros had better not begin with this.
struct Usual<S, V: Value, const FUSED: bool> {
    simd: S,
    /// Bits of all bins that were not in loops of `V`'s own.
    strange: [V::Bits; LANES],
    /// Of those that were. NaN hides from it, and shows in their sums.
    least: [V; LANES],
}

impl<S: Simd, V: Value, const FUSED: bool> Usual<S, V, FUSED> {
    #[inline(always)]
    fn new(simd: S) -> Self {
        let strange = [V::Bits::default(); LANES];
        Usual { simd, strange, least: [V::LEAST_USUAL; LANES] }
    }

    #[inline(always)]
    fn has_strange(&self) -> bool {
        let mut some = is_strange::<V>(&self.strange);
        for least in self.least {
            some |= least < V::LEAST_USUAL;
        }
        some
    }
}

impl<S: Simd, V: Value, const FUSED: bool> Terms<V> for Usual<S, V, FUSED> {
    #[inline(always)]
    fn of(&mut self, p: &[V; LANES], q: &[V; LANES]) -> Four<V> {
        let (mut g, mut d) = ([V::default(); LANES], [V::default(); LANES]);
        for lane in 0..LANES {
            self.strange[lane] = self.strange[lane] | p[lane].strangeness() | q[lane].strangeness();
            (g[lane], d[lane]) = V::usual_bin::<FUSED>(p[lane], q[lane]);
        }
        Four { g, p: *p, q: *q, d }
    }

    #[inline(always)]
    fn chains<const DEEP: usize>(&mut self, p: &[[V; LANES]], q: &[[V; LANES]]) -> Four<V> {
        match V::usual_chains(self.simd, [p, q], &mut self.least) {
            Some(sums) => sums,
            None => chains::<V, DEEP>(p, q, self),
        }
    }
}

/// Right if all bins are usual or 0. Collects what tells whether they are.
struct WithZeros<V: Value, const FUSED: bool> {
    strange: [V::Bits; LANES],
    least: [V; LANES],
}

impl<V: Value, const FUSED: bool> WithZeros<V, FUSED> {
    #[inline(always)]
    fn new() -> Self {
        WithZeros { strange: [V::Bits::default(); LANES], least: [V::LEAST_USUAL; LANES] }
    }

    #[inline(always)]
    fn has_zeros(&self) -> bool {
        self.least.iter().fold(false, |some, &least| some | (least == V::default()))
    }
}

impl<V: Value, const FUSED: bool> Terms<V> for WithZeros<V, FUSED> {
    #[inline(always)]
    fn of(&mut self, p: &[V; LANES], q: &[V; LANES]) -> Four<V> {
        let zero = V::default();
        let (mut g, mut d) = ([zero; LANES], [zero; LANES]);
        for lane in 0..LANES {
            let (p, q) = (p[lane], q[lane]);
            let less = if p < q { p } else { q };
            self.least[lane] = if less < self.least[lane] { less } else { self.least[lane] };
            let some_p = if p == zero { V::LEAST_USUAL } else { p };
            let some_q = if q == zero { V::LEAST_USUAL } else { q };
            self.strange[lane] = self.strange[lane] | some_p.strangeness() | some_q.strangeness();
            let both = V::usual_bin::<FUSED>(some_p, some_q).0;
            let of_p = if q == zero { V::INFINITY } else { both };
            g[lane] = if p == zero { q } else { of_p };
            d[lane] = p - q;
        }
        Four { g, p: *p, q: *q, d }
    }
}

/// Right whatever the bins are. Keeps the largest bit patterns.
struct Any<V: Value, const FUSED: bool> {
    top: [V::Bits; LANES],
}

impl<V: Value, const FUSED: bool> Any<V, FUSED> {
    #[inline(always)]
    fn new() -> Self {
        Any { top: [V::Bits::default(); LANES] }
    }
}

impl<V: Value, const FUSED: bool> Terms<V> for Any<V, FUSED> {
    #[inline(always)]
    fn of(&mut self, p: &[V; LANES], q: &[V; LANES]) -> Four<V> {
        let (mut g, mut d) = ([V::default(); LANES], [V::default(); LANES]);
        for lane in 0..LANES {
            let bin = V::bin::<FUSED>(p[lane], q[lane]);
            (g[lane], d[lane]) = (bin.g, bin.d);
            self.top[lane] = self.top[lane].max(bin.top);
        }
        Four { g, p: *p, q: *q, d }
    }
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
fn last_block<V: Value>(side: &[V]) -> [V; LANES] {
    let rest = side.len() % LANES;
    match side.last_chunk() {
        // A whole block is read at once; most of it was counted already.
        Some(last) => {
            let (mut block, kept) = (*last, kept(rest));
            for lane in 0..LANES {
                block[lane] = if kept[lane] == 0 { V::LEAST_USUAL } else { block[lane] };
            }
            block
        }
        // A short row, or the end of a long one.
        None => filled_up(side),
    }
}

/// A row of fewer bins than a block, of a side that may go on after it, beside bins that are neutral.
#[inline(always)]
fn first_block<V: Value>(side: &[V], bins: usize) -> [V; LANES] {
    match side.first_chunk() {
        Some(first) => {
            let (mut block, dropped) = (*first, kept(LANES - bins));
            for lane in 0..LANES {
                block[lane] = if dropped[lane] == 0 { block[lane] } else { V::LEAST_USUAL };
            }
            block
        }
        None => filled_up(&side[..bins]),
    }
}

fn filled_up<V: Value>(bins: &[V]) -> [V; LANES] {
    let mut block = [V::LEAST_USUAL; LANES];
    block[..bins.len()].copy_from_slice(bins);
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
