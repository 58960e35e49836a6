//! Rows of logarithms on both sides, in f32: log-probabilities and logits, in any pairing.
//!
//! Blocks of bins become nodes of the tree that [`chain`](crate::chain) merges. Within a block both
//! sides are in units of their largest probabilities, `w = e^(a − max a)`, `v = e^(b − max b)`, and the
//! reference is `c = max a − max b`, which is the logarithm of the ratio of the masses but for a
//! little if the two sides are nearly equal. `y = (a − b) − c` keeps its digits, since what rounding
//! took from `a − b` is added again. Should so much of the sum cancel all the same that digits are
//! lost, then the block is summed once more with the reference that the first sum shows to be right.

use std::ops::Range;

use rayon::prelude::*;

use super::widen;
use crate::batch::Batch;
use crate::chain::{self, Node, tree_sum};
use crate::element::Element;
use crate::error::Side;
use crate::kind::Kind;
use crate::outcome::Row;
use crate::sums::eta;
use crate::term::mul_add;

/// Columns that are summed side by side: a constant of the result's bits, not of the machine.
const LANES: usize = 16;
/// Blocks of lanes that are added one after the other before f64 takes over.
const CHAIN: usize = 8;
/// Bins that share a reference; they fit into the nearest cache, where they are read twice.
const BLOCK: usize = 2048;
/// Bins of a long row that one task takes.
pub(super) const SEGMENT: usize = BLOCK * chain::FAN;

/// The largest number of a side and a block may be so large: as it is, and divided by the temperature.
const LARGEST_TOP: f32 = 65_536.0;
const LARGEST_LN: f64 = 1e8;

/// Whether f32 can take the rows of a batch: numbers of at most 32 bits, of which both sides are
/// divided by the same temperature.
pub(super) fn take<T: Element>(batch: &Batch<'_, T>) -> bool {
    let kinds = [Side::P, Side::Q].map(|side| batch.kind(side));
    let alike = kinds[0] == kinds[1] || batch.temperature() == 1.0;
    size_of::<T>() <= size_of::<f32>() && !kinds.contains(&Kind::Probs) && alike
}

/// The results of a row from its node, or from one made in f64 where its digits do not do.
pub(super) fn settle<T: Element>(batch: &Batch<'_, T>, row: usize, node: &Node) -> Row<T::Value> {
    if node.invalid || !chain::lacks_digits(batch, row, node, false) {
        return chain::settle(batch, row, node);
    }
    let closer = chain::settle(batch, row, &chain::node(batch, row));
    Row { looked_closer: true, ..closer }
}

/// The node of a row of more than `SEGMENT` bins, over as many threads as there are. `temperature`
/// divides the numbers of both sides.
pub(super) fn long_row<T: Element>(p: &[T], q: &[T], temperature: f64) -> Node {
    let segments = p.par_chunks(SEGMENT).zip(q.par_chunks(SEGMENT));
    let nodes = segments.map(|(p, q)| {
        let [mut p_space, mut q_space] = Default::default();
        let (p, q) = (widen::in_f32(p, &mut p_space), widen::in_f32(q, &mut q_space));
        Segment { p, q, temperature }.dispatch()
    });
    chain::root(nodes.collect())
}

/// Some bins of a long row.
struct Segment<'a> {
    p: &'a [f32],
    q: &'a [f32],
    temperature: f64,
}

impl Segment<'_> {
    #[inline(never)]
    fn dispatch(self) -> Node {
        pulp::Arch::new().dispatch(self)
    }
}

impl pulp::WithSimd for Segment<'_> {
    type Output = Node;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> Node {
        segment::<S>(self.p, self.q, self.temperature)
    }
}

/// The node of up to `SEGMENT` bins of a row.
#[inline(always)]
pub(super) fn segment<S: pulp::Simd>(p: &[f32], q: &[f32], temperature: f64) -> Node {
    let kept = &mut Kept::default();
    match S::IS_SCALAR {
        true => in_blocks::<false, false>(p, q, temperature, kept),
        false => in_blocks::<true, false>(p, q, temperature, kept),
    }
}

/// What was made on the way to the node of up to `SEGMENT` bins, for the gradient's sake.
#[derive(Default)]
pub(super) struct Kept {
    /// `w` and `v` of all bins, those of a block in units of its largest.
    weights: [Vec<f32>; 2],
    /// Those largest numbers, of blocks whose weights are there.
    tops: Vec<Option<[f32; 2]>>,
    /// Whether a weight that is too small for f32 counts: see [`Ahead::lacks_weights`].
    lacks_weights: bool,
}

/// The node of up to `SEGMENT` bins, from which [`Gradient`] goes on.
pub(super) struct Keeping<'a> {
    pub p: &'a [f32],
    pub q: &'a [f32],
    pub temperature: f64,
    pub kept: &'a mut Kept,
}

impl Keeping<'_> {
    #[inline(never)]
    pub(super) fn dispatch(self) -> Node {
        pulp::Arch::new().dispatch(self)
    }
}

impl pulp::WithSimd for Keeping<'_> {
    type Output = Node;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> Node {
        let Keeping { p, q, temperature, kept } = self;
        kept.weights.iter_mut().for_each(|side| side.resize(p.len(), 0.0));
        kept.tops.clear();
        kept.lacks_weights = false;
        match S::IS_SCALAR {
            true => in_blocks::<false, true>(p, q, temperature, kept),
            false => in_blocks::<true, true>(p, q, temperature, kept),
        }
    }
}

#[inline(always)]
fn in_blocks<const FUSED: bool, const KEEP: bool>(
    p: &[f32],
    q: &[f32],
    temperature: f64,
    kept: &mut Kept,
) -> Node {
    let mut nodes = [Node::default(); chain::FAN];
    let mut len = 0;
    let (mut p_blocks, mut q_blocks) = (p.chunks(BLOCK), q.chunks(BLOCK));
    let mut ahead = Ahead::at(p_blocks.next(), q_blocks.next());
    // What was right for a block is tried first on the next.
    let mut manner = Manner::Far;
    while !ahead.is_empty() {
        let mut now = ahead;
        now.look_at_rest();
        ahead = Ahead::at(p_blocks.next(), q_blocks.next());
        let before = manner;
        let lacks_weights = now.lacks_weights(temperature);
        kept.lacks_weights |= lacks_weights;
        let first = len * BLOCK;
        let bins = if KEEP { first..first + now.p.len() } else { 0..0 };
        let weights = &mut kept.weights.each_mut().map(|side| &mut side[bins.clone()]);
        let (node, tops) = match lacks_weights {
            true => (chain::of_logs(now.p, now.q, temperature), None),
            false => now.node::<FUSED, KEEP>(temperature, &mut manner, &mut ahead, weights),
        };
        nodes[len] = node;
        if KEEP {
            kept.tops.push(tops.filter(|_| before == Manner::Far));
        }
        len += 1;
    }
    chain::merged(&nodes[..len])
}

/// A block, and the largest numbers of as much of it as was looked at. That is done while the block
/// before it is summed, so that the memory does not have to be waited for.
#[derive(Clone, Copy)]
struct Ahead<'a> {
    p: &'a [f32],
    q: &'a [f32],
    p_unseen: &'a [f32],
    q_unseen: &'a [f32],
    p_top: Top,
    q_top: Top,
}

impl<'a> Ahead<'a> {
    #[inline(always)]
    fn at(p: Option<&'a [f32]>, q: Option<&'a [f32]>) -> Ahead<'a> {
        let (p, q) = (p.unwrap_or_default(), q.unwrap_or_default());
        Ahead { p, q, p_unseen: p, q_unseen: q, p_top: Top::NONE, q_top: Top::NONE }
    }

    fn is_empty(&self) -> bool {
        self.p.is_empty()
    }

    /// Looks at the next bins, as many as a chain has, if there are so many.
    #[inline(always)]
    fn look_at_chain(&mut self) {
        const CHAINED: usize = LANES * CHAIN;
        if let (Some((p, p_rest)), Some((q, q_rest))) = (
            self.p_unseen.split_first_chunk::<CHAINED>(),
            self.q_unseen.split_first_chunk::<CHAINED>(),
        ) {
            self.p_top.look_at_all(p);
            self.q_top.look_at_all(q);
            (self.p_unseen, self.q_unseen) = (p_rest, q_rest);
        }
    }

    /// Looks at all that is left.
    #[inline(always)]
    fn look_at_rest(&mut self) {
        self.p_top.look_at_all(self.p_unseen);
        self.q_top.look_at_all(self.q_unseen);
    }

    /// Whether P has a bin whose weight is below f32, and Q lacks it so much that it counts all the same:
    /// what is masked by a number may be as far away as 3e38.
    #[inline(always)]
    fn lacks_weights(&self, temperature: f64) -> bool {
        const FARTHEST: f32 = 1e12;
        let per_temperature = (1.0 / temperature) as f32;
        if self.q_top.largest() * per_temperature <= FARTHEST {
            return false;
        }
        let (tops, mut lacks) = ([self.p_top.number(), self.q_top.number()], false);
        for (p, q) in self.p.iter().zip(self.q) {
            let (a, b) = (p - tops[0], q - tops[1]);
            lacks |= (a * per_temperature < -85.0) & ((a - b) * per_temperature > FARTHEST);
        }
        lacks
    }

    /// The node of the block, of which all was looked at, and its largest numbers if one attempt was enough.
    #[inline(always)]
    fn node<const FUSED: bool, const KEEP: bool>(
        self,
        temperature: f64,
        manner: &mut Manner,
        ahead: &mut Ahead<'_>,
        weights: &mut [&mut [f32]; 2],
    ) -> (Node, Option<[f32; 2]>) {
        // −inf is as good a number as any; NaN and +inf are none.
        let (mut valid, mut infinite) = (true, false);
        if !(self.p_top.finite() && self.q_top.finite()) {
            for (&p, &q) in self.p.iter().zip(self.q) {
                valid &= (p < f32::INFINITY) & (q < f32::INFINITY);
                infinite |= (p > f32::NEG_INFINITY) & (q == f32::NEG_INFINITY);
            }
        }
        if !valid {
            return (Node { invalid: true, ..Node::default() }, None);
        }
        let tops = [self.p_top.number(), self.q_top.number()];
        // The difference of larger ones, in two parts of f32, lacks digits, and their ratio to the
        // temperature in f64. −inf is one of them.
        let largest = tops[0].abs().max(tops[1].abs());
        if infinite || largest > LARGEST_TOP || f64::from(largest) > LARGEST_LN * temperature {
            return (chain::of_logs(self.p, self.q, temperature), None);
        }
        let Ahead { p, q, .. } = self;
        let (node, attempts) =
            block::<FUSED, KEEP>(p, q, tops, temperature, manner, ahead, weights);
        (node, (attempts == 1).then_some(tops))
    }
}

/// The node of up to `BLOCK` bins of which the largest numbers are known, and how many attempts it took.
#[inline(always)]
fn block<const FUSED: bool, const KEEP: bool>(
    p: &[f32],
    q: &[f32],
    tops: [f32; 2],
    temperature: f64,
    manner: &mut Manner,
    ahead: &mut Ahead<'_>,
    weights: &mut [&mut [f32]; 2],
) -> (Node, usize) {
    let tops_in_f64 = tops.map(f64::from);
    let mut reference = tops_in_f64[0] - tops_in_f64[1];
    let mut unit = 1.0;
    // Each time the masses are nearer to each other, and less is left to cancel.
    for attempt in 0..3 {
        let terms = Terms::new(tops, reference, unit, temperature);
        let Sums { w, v, s, u } = match (attempt, *manner) {
            (0, Manner::Far) => terms.sums::<FUSED, true, KEEP>(p, q, ahead, weights),
            _ => terms.sums::<FUSED, false, false>(p, q, ahead, weights),
        };
        // How much more mass Q has than P, seen from P, and `excess − ln(1 + excess)`.
        let (excess, ln_masses, eta) = match u / w {
            excess if excess.abs() < 0.5 => (excess, excess.ln_1p(), eta(excess, 1.0 + excess)),
            _ => {
                let ratio = v * unit / w;
                (ratio - 1.0, ratio.ln(), ratio - 1.0 - ratio.ln())
            }
        };
        let cancelled = w * eta;
        if !(s.is_finite() && excess.is_finite()) {
            break;
        }
        let far = attempt == 0 && *manner == Manner::Far;
        *manner = if s >= 0.5 * w { Manner::Far } else { Manner::Near };
        let lacks_digits = cancelled > 0.75 * s || far && *manner == Manner::Near;
        if attempt < 2 && lacks_digits {
            unit /= 1.0 + excess;
            reference -= ln_masses * temperature;
            continue;
        }
        let node = Node {
            masses: [w, v],
            scales: tops_in_f64.map(|top| top / temperature),
            scale_rests: [0.0; 2],
            ln_ratio: [reference / temperature, -ln_masses],
            g: (s - cancelled).max(0.0),
            infinite: false,
            invalid: false,
        };
        return (node, attempt + 1);
    }
    // The numbers are too large for f32.
    (chain::of_logs(p, q, temperature), usize::MAX)
}

/// How the terms of a block are made.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    /// From the exponentials as they stand: good if the sum is not small.
    Far,
    /// Without cancellation.
    Near,
}

/// The largest of some numbers, by columns.
#[derive(Clone, Copy)]
struct Top {
    lanes: [f32; LANES],
    /// The largest magnitudes, as bit patterns without the sign.
    magnitudes: [u32; LANES],
}

impl Top {
    const NONE: Top = Top { lanes: [f32::NEG_INFINITY; LANES], magnitudes: [0; LANES] };

    #[inline(always)]
    fn look_at_all(&mut self, side: &[f32]) {
        let (blocks, rest) = side.as_chunks::<LANES>();
        let Top { mut lanes, mut magnitudes } = *self;
        for block in blocks {
            for lane in 0..LANES {
                let value = block[lane];
                lanes[lane] = if value > lanes[lane] { value } else { lanes[lane] };
                magnitudes[lane] = magnitudes[lane].max(value.to_bits() << 1);
            }
        }
        // What fills a vector up is none of the numbers.
        for (lane, &value) in rest.iter().enumerate() {
            lanes[lane] = if value > lanes[lane] { value } else { lanes[lane] };
            magnitudes[lane] = magnitudes[lane].max(value.to_bits() << 1);
        }
        *self = Top { lanes, magnitudes };
    }

    /// Whether all were finite.
    #[inline(always)]
    fn finite(&self) -> bool {
        largest(self.magnitudes) < f32::INFINITY.to_bits() << 1
    }

    /// The largest magnitude; no number where one is none.
    #[inline(always)]
    fn largest(&self) -> f32 {
        f32::from_bits(largest(self.magnitudes) >> 1)
    }

    #[inline(always)]
    fn number(&self) -> f32 {
        largest(self.lanes)
    }
}

/// The largest of all lanes, halves upon halves: one after the other, they would be taken apart all the time.
#[inline(always)]
fn largest<N: Copy + PartialOrd>(mut lanes: [N; LANES]) -> N {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            let other = lanes[lane + width];
            lanes[lane] = if other > lanes[lane] { other } else { lanes[lane] };
        }
        width /= 2;
    }
    lanes[0]
}

/// The last bins of a side; past the end there is no probability.
#[inline(always)]
fn filled_up(rest: &[f32]) -> [f32; LANES] {
    let mut values = [f32::NEG_INFINITY; LANES];
    values.iter_mut().zip(rest).for_each(|(value, bin)| *value = *bin);
    values
}

/// The sums of a block.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    /// `Σ w`.
    w: f64,
    /// `Σ v`.
    v: f64,
    /// `Σ w·(e^−y − 1 + y)`.
    s: f64,
    /// `Σ w·(e^−y − 1)`.
    u: f64,
}

/// Running sums of `LANES` columns.
#[derive(Clone, Copy, Default)]
struct Lanes {
    w: [f32; LANES],
    v: [f32; LANES],
    s: [f32; LANES],
    u: [f32; LANES],
}

impl Lanes {
    #[inline(always)]
    fn add(&mut self, others: &Lanes) {
        for lane in 0..LANES {
            self.w[lane] += others.w[lane];
            self.v[lane] += others.v[lane];
            self.s[lane] += others.s[lane];
            self.u[lane] += others.u[lane];
        }
    }
}

/// What the terms of a block have in common.
struct Terms {
    tops: [f32; 2],
    /// The reference, in the units of the input, in two parts.
    reference: [f32; 2],
    unit: f32,
    per_temperature: f32,
    /// `log2(e)` by the temperature, in two parts.
    log2_e: [f32; 2],
}

impl Terms {
    fn new(tops: [f32; 2], reference: f64, unit: f64, temperature: f64) -> Terms {
        Terms {
            tops,
            reference: in_two_parts(reference),
            unit: unit as f32,
            per_temperature: (1.0 / temperature) as f32,
            log2_e: in_two_parts(std::f64::consts::LOG2_E / temperature),
        }
    }

    #[inline(always)]
    fn sums<const FUSED: bool, const FAR: bool, const KEEP: bool>(
        &self,
        p: &[f32],
        q: &[f32],
        ahead: &mut Ahead<'_>,
        [kept_w, kept_v]: &mut [&mut [f32]; 2],
    ) -> Sums {
        let none = [0.0; LANES];
        let (mut w, mut v, mut s, mut u) = (none, none, none, none);
        for (first, (p, q)) in p.chunks(LANES * CHAIN).zip(q.chunks(LANES * CHAIN)).enumerate() {
            let kept = first * LANES * CHAIN..first * LANES * CHAIN + p.len();
            let kept = if KEEP { kept } else { 0..0 };
            let (w_blocks, w_rest) = kept_w[kept.clone()].as_chunks_mut::<LANES>();
            let (v_blocks, v_rest) = kept_v[kept].as_chunks_mut::<LANES>();
            let mut chain = Lanes::default();
            let (p_blocks, p_rest) = p.as_chunks();
            let (q_blocks, q_rest) = q.as_chunks();
            ahead.look_at_chain();
            for (at, (p, q)) in p_blocks.iter().zip(q_blocks).enumerate() {
                let lanes = self.lanes::<FUSED, FAR>(p, q);
                chain.add(&lanes);
                if KEEP {
                    (w_blocks[at], v_blocks[at]) = (lanes.w, lanes.v);
                }
            }
            if !p_rest.is_empty() {
                let lanes = self.lanes::<FUSED, FAR>(&filled_up(p_rest), &filled_up(q_rest));
                chain.add(&lanes);
                if KEEP {
                    w_rest.copy_from_slice(&lanes.w[..p_rest.len()]);
                    v_rest.copy_from_slice(&lanes.v[..p_rest.len()]);
                }
            }
            for lane in 0..LANES {
                w[lane] += f64::from(chain.w[lane]);
                v[lane] += f64::from(chain.v[lane]);
                s[lane] += f64::from(chain.s[lane]);
                u[lane] += f64::from(chain.u[lane]);
            }
        }
        Sums { w: tree_sum(w), v: tree_sum(v), s: tree_sum(s), u: tree_sum(u) }
    }

    /// What each bin of a block of lanes adds to the sums.
    #[inline(always)]
    fn lanes<const FUSED: bool, const FAR: bool>(
        &self,
        p: &[f32; LANES],
        q: &[f32; LANES],
    ) -> Lanes {
        if FAR { self.far::<FUSED>(p, q) } else { self.near::<FUSED>(p, q) }
    }

    /// `e^−y − 1 + y` as it stands.
    #[inline(always)]
    fn far<const FUSED: bool>(&self, p: &[f32; LANES], q: &[f32; LANES]) -> Lanes {
        let mut lanes = Lanes::default();
        for lane in 0..LANES {
            let (a, b) = (p[lane] - self.tops[0], q[lane] - self.tops[1]);
            let (w, some_w) = self.exp::<FUSED>(a);
            let (v, _) = self.exp::<FUSED>(b);
            let y = if some_w { (a - b) * self.per_temperature } else { 0.0 };
            lanes.w[lane] = w;
            lanes.v[lane] = v;
            lanes.u[lane] = v - w;
            lanes.s[lane] = mul_add::<FUSED>(w, y, v - w);
        }
        lanes
    }

    /// `e^−y − 1 + y` from a series near 0, and as it stands elsewhere.
    #[inline(always)]
    fn near<const FUSED: bool>(&self, p: &[f32; LANES], q: &[f32; LANES]) -> Lanes {
        let mut lanes = Lanes::default();
        for lane in 0..LANES {
            let (a, b) = (p[lane], q[lane]);
            // What rounding took from the difference is itself a number, and this one (Knuth 1969).
            let d = a - b;
            let b_seen = d - a;
            let lost = (a - (d - b_seen)) - (b + b_seen);
            let y = ((d - self.reference[0]) + (lost - self.reference[1])) * self.per_temperature;
            let (w, some_w) = self.exp::<FUSED>(a - self.tops[0]);
            let (v, _) = self.exp::<FUSED>(b - self.tops[1]);
            let far_u = mul_add::<FUSED>(v, self.unit, -w);
            let far_s = mul_add::<FUSED>(w, if some_w { y } else { 0.0 }, far_u);
            let tail = exp_tail::<FUSED>(y);
            let near = y.abs() <= 1.0;
            lanes.w[lane] = w;
            lanes.v[lane] = v;
            lanes.s[lane] = if near { w * tail } else { far_s };
            lanes.u[lane] = if near { w * (tail - y) } else { far_u };
        }
        lanes
    }

    /// `e^(x / temperature)` for `x ≤ 0`, and whether that is at least 2^−126: if not, it is 0.
    #[inline(always)]
    fn exp<const FUSED: bool>(&self, x: f32) -> (f32, bool) {
        let octaves = x * self.log2_e[0];
        power_of_2::<FUSED>(octaves, |k| self.beyond::<FUSED>(x, k))
    }

    /// The same of a sum of which the second number is what rounding took from the first.
    #[inline(always)]
    fn exp_of_both<const FUSED: bool>(&self, x: f32, rest: f32) -> (f32, bool) {
        let octaves = x * self.log2_e[0];
        let beyond = |k| mul_add::<FUSED>(rest, self.log2_e[0], self.beyond::<FUSED>(x, k));
        power_of_2::<FUSED>(octaves, beyond)
    }

    /// The octaves of a number beyond so many.
    #[inline(always)]
    fn beyond<const FUSED: bool>(&self, x: f32, k: f32) -> f32 {
        mul_add::<FUSED>(x, self.log2_e[1], mul_add::<FUSED>(x, self.log2_e[0], -k))
    }
}

/// 2 to the power of some octaves, from what they are beyond the nearest integer, and whether it is at least
/// 2^−126: if not, it is 0.
#[inline(always)]
fn power_of_2<const FUSED: bool>(octaves: f32, beyond: impl Fn(f32) -> f32) -> (f32, bool) {
    /// Has its unit in the last place at 1: what is added to it is rounded to an integer.
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2^23
    let shifted = octaves + ROUND;
    let r = beyond(shifted - ROUND);
    // The lowest bits of `shifted` are those of the integer.
    let scaled = exp2::<FUSED>(r).to_bits().wrapping_add(shifted.to_bits() << 23);
    let some = octaves >= -126.0;
    (if some { f32::from_bits(scaled) } else { 0.0 }, some)
}

/// `2^r` for `|r| ≤ 1/2`: least-squares fit of the relative error on Chebyshev nodes in 40-digit
/// arithmetic, coefficients rounded to f32; relative error below 4e-9 before rounding.
#[inline(always)]
fn exp2<const FUSED: bool>(r: f32) -> f32 {
    const FIT: [f32; 7] = [
        1.0,
        std::f32::consts::LN_2,
        0.240_226_45,
        0.055_503_592,
        0.009_618_841,
        0.001_339_113_7,
        0.000_152_380_06,
    ];
    let fma = mul_add::<FUSED>;
    let r2 = r * r;
    let low = fma(FIT[3], r, FIT[2]);
    let high = fma(r2, FIT[6], fma(FIT[5], r, FIT[4]));
    fma(r2, fma(r2, high, low), fma(FIT[1], r, FIT[0]))
}

/// `e^−y − 1 + y` for `|y| ≤ 1`: the same kind of fit; relative error below 6e-9 before rounding.
#[inline(always)]
fn exp_tail<const FUSED: bool>(y: f32) -> f32 {
    const FIT: [f32; 8] = [
        0.5,
        -0.166_666_67,
        0.041_666_716,
        -0.008_333_296_5,
        0.001_388_583_3,
        -0.000_198_469_2,
        2.533_241_6e-5,
        -2.755_233e-6,
    ];
    let fma = mul_add::<FUSED>;
    let (y2, y4) = (y * y, (y * y) * (y * y));
    let low = fma(y2, fma(FIT[3], y, FIT[2]), fma(FIT[1], y, FIT[0]));
    let high = fma(y2, fma(FIT[7], y, FIT[6]), fma(FIT[5], y, FIT[4]));
    y2 * fma(y4, high, low)
}

/// What a side was before it was made probabilities.
#[derive(Clone, Copy)]
pub(super) struct Exponentials {
    pub mass: f64,
    /// Whether numbers other than −inf have no probability in f32.
    pub some_lost: bool,
}

/// The exponentials of a side's numbers, divided by their sum, in f32 to some 1.5e-7 of each. Nothing if a
/// number is none of a logarithm, or none has a probability; nor without fused products, whose rounding
/// would take digits.
#[inline(always)]
pub(super) fn probabilities<const FUSED: bool>(
    numbers: &[f32],
    temperature: f64,
    into: &mut [f32],
) -> Option<Exponentials> {
    if !FUSED {
        return None;
    }
    let (blocks, rest) = numbers.as_chunks();
    let all = || blocks.iter().copied().chain((!rest.is_empty()).then(|| filled_up(rest)));
    let (mut tops, mut wrong) = ([f32::NEG_INFINITY; LANES], [0_u32; LANES]);
    for block in all() {
        for lane in 0..LANES {
            tops[lane] = if block[lane] > tops[lane] { block[lane] } else { tops[lane] };
            wrong[lane] |= u32::from(block[lane].is_nan() | (block[lane] == f32::INFINITY));
        }
    }
    let top = tops.into_iter().fold(f32::NEG_INFINITY, f32::max);
    if top == f32::NEG_INFINITY || wrong.into_iter().any(|wrong| wrong > 0) {
        return None;
    }
    let terms = Terms::new([top; 2], 0.0, 1.0, temperature);
    let (mut sums, mut lost) = ([0.0_f64; LANES], [0_u32; LANES]);
    let (places, last) = into.as_chunks_mut::<LANES>();
    let mut places = places.iter_mut();
    for block in all() {
        let mut weights = [0.0; LANES];
        for lane in 0..LANES {
            let x = block[lane];
            let below = x - top;
            // What rounding took from the difference is itself a number, and this one (Knuth 1969).
            let top_seen = below - x;
            let rest = (x - (below - top_seen)) - (top + top_seen);
            let (weight, some) = terms.exp_of_both::<FUSED>(below, rest);
            weights[lane] = weight;
            lost[lane] |= u32::from(!some & (block[lane] > f32::NEG_INFINITY));
            sums[lane] += f64::from(weight);
        }
        match places.next() {
            Some(place) => *place = weights,
            None => last.copy_from_slice(&weights[..last.len()]),
        }
    }
    let sum = tree_sum(sums);
    let by = (1.0 / sum) as f32;
    into.iter_mut().for_each(|weight| *weight *= by);
    Some(Exponentials {
        mass: sum * (f64::from(top) / temperature).exp(),
        some_lost: lost.into_iter().any(|lost| lost > 0),
    })
}

/// The gradient of a row of up to `SEGMENT` bins whose node is known, in f32: `p·(l − D)` and `q − p`,
/// each times `by`.
///
/// Where the weights of a block were kept, `q − p` is a difference of them, which is good to a unit in
/// the last place of the largest probability. Should that show in the gradient, all of it is made once
/// more from `l`, as is that of blocks in which the two sides are near each other.
pub(super) struct Gradient<'a> {
    pub p: &'a [f32],
    pub q: &'a [f32],
    pub temperature: f64,
    pub node: &'a Node,
    pub by: f64,
    pub kept: &'a Kept,
    /// Places for both, empty where it is not wanted.
    pub into: [&'a mut [f32]; 2],
}

impl Gradient<'_> {
    /// Whether it has its digits.
    #[inline(never)]
    pub(super) fn dispatch(self) -> bool {
        pulp::Arch::new().dispatch(self)
    }
}

impl pulp::WithSimd for Gradient<'_> {
    type Output = bool;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> bool {
        if S::IS_SCALAR { self.write::<false>() } else { self.write::<true>() }
    }
}

/// The least that the largest derivative may be, by the largest probability, if the rounding of that
/// is not to show.
const SHOWS: f64 = 0.05;
/// The same, by the largest probability and the logarithm of the ratio of the masses, for the rounding of
/// what is made from `l`.
const LEAST_BESIDE_LN: f64 = 1e-8;

impl Gradient<'_> {
    #[inline(always)]
    fn write<const FUSED: bool>(mut self) -> bool {
        if self.kept.lacks_weights {
            return false;
        }
        let mut largest = [0.0_f32; 2];
        for block in 0..self.kept.tops.len() {
            let of_block = match self.kept.tops[block] {
                Some(tops) => self.far::<FUSED>(block, tops),
                None => self.near::<FUSED>(block),
            };
            largest = [largest[0].max(of_block[0]), largest[1].max(of_block[1])];
        }
        let ([w, v], divergence) = (self.node.masses, self.node.divergence());
        let shows = |side: usize, of: f64| {
            !self.into[side].is_empty() && f64::from(largest[side]) < SHOWS * of * self.by.abs()
        };
        // `l − D` cancels for good where one bin has nearly all of P.
        let is_sound = !shows(0, divergence / w);
        if is_sound && (shows(0, divergence.max(1.0) / w) || shows(1, (1.0 / w).max(1.0 / v))) {
            let mut largest = [0.0_f32; 2];
            for block in 0..self.kept.tops.len() {
                let of_block = self.near::<FUSED>(block);
                largest = [largest[0].max(of_block[0]), largest[1].max(of_block[1])];
            }
            // Here l shows, which has no more digits than the two parts that it is made of.
            let least = LEAST_BESIDE_LN * (1.0 + self.node.ln_ratio().abs()) * self.by.abs();
            let of = [1.0 / w, (1.0 / w).max(1.0 / v)];
            return (0..2).all(|side| {
                self.into[side].is_empty() || f64::from(largest[side]) >= least * of[side]
            });
        }
        is_sound
    }

    /// The bins of a block.
    #[inline(always)]
    fn bins(&self, block: usize) -> Range<usize> {
        block * BLOCK..((block + 1) * BLOCK).min(self.p.len())
    }

    /// A block from the weights that were kept. Returns the largest of both gradients.
    #[inline(always)]
    fn far<const FUSED: bool>(&mut self, block: usize, tops: [f32; 2]) -> [f32; 2] {
        let (bins, node, by) = (self.bins(block), self.node, self.by);
        let scale = |side: usize| {
            let above = f64::from(tops[side]) / self.temperature - node.scales[side];
            (by * above.exp() / node.masses[side]) as f32
        };
        let apart = (f64::from(tops[0]) - f64::from(tops[1])) / self.temperature;
        let [w, v] = self.kept.weights.each_ref().map(|side| &side[bins.clone()]);
        let far = Far {
            sides: [&self.p[bins.clone()], &self.q[bins.clone()]],
            weights: [w, v],
            by: [scale(0), scale(1)],
            tops,
            less: (node.ln_ratio() - apart + node.divergence()) as f32,
            per_temperature: (1.0 / self.temperature) as f32,
        };
        self.put::<FUSED>(bins, &far)
    }

    /// A block without cancellation.
    #[inline(always)]
    fn near<const FUSED: bool>(&mut self, block: usize) -> [f32; 2] {
        let (bins, node, temperature) = (self.bins(block), self.node, self.temperature);
        // What the scales were made of.
        let tops = node.scales.map(|scale| (scale * temperature) as f32);
        let near = Near {
            sides: [&self.p[bins.clone()], &self.q[bins.clone()]],
            terms: Terms::new(tops, node.ln_ratio() * temperature, 1.0, temperature),
            by: node.masses.map(|mass| (self.by / mass) as f32),
            divergence: node.divergence() as f32,
        };
        self.put::<FUSED>(bins, &near)
    }

    #[inline(always)]
    fn put<const FUSED: bool>(&mut self, bins: Range<usize>, block: &impl Derivatives) -> [f32; 2] {
        let [p, q] = &mut self.into;
        let of_p =
            if p.is_empty() { 0.0 } else { fill::<FUSED, true>(&mut p[bins.clone()], block) };
        let of_q = if q.is_empty() { 0.0 } else { fill::<FUSED, false>(&mut q[bins], block) };
        [of_p, of_q]
    }
}

/// The derivatives of some bins of a block, in P or in Q.
trait Derivatives {
    fn at<const FUSED: bool, const OF_P: bool>(&self, at: usize) -> [f32; LANES];
}

/// A block whose weights are there.
struct Far<'a> {
    sides: [&'a [f32]; 2],
    weights: [&'a [f32]; 2],
    by: [f32; 2],
    tops: [f32; 2],
    less: f32,
    per_temperature: f32,
}

impl Derivatives for Far<'_> {
    #[inline(always)]
    fn at<const FUSED: bool, const OF_P: bool>(&self, at: usize) -> [f32; LANES] {
        let Far { tops, less, per_temperature, by, .. } = *self;
        let w = lanes_of(self.weights[0], at);
        let mut lanes = [0.0; LANES];
        if OF_P {
            let (p, q) = (numbers_of(self.sides[0], at), numbers_of(self.sides[1], at));
            for lane in 0..LANES {
                let apart = (p[lane] - tops[0]) - (q[lane] - tops[1]);
                let derivative = w[lane] * by[0] * (apart * per_temperature - less);
                lanes[lane] = if w[lane] > 0.0 { derivative } else { 0.0 };
            }
        } else {
            let v = lanes_of(self.weights[1], at);
            for lane in 0..LANES {
                lanes[lane] = mul_add::<FUSED>(v[lane], by[1], -(w[lane] * by[0]));
            }
        }
        lanes
    }
}

/// A block of which the two sides may be near each other.
struct Near<'a> {
    sides: [&'a [f32]; 2],
    terms: Terms,
    by: [f32; 2],
    divergence: f32,
}

impl Derivatives for Near<'_> {
    #[inline(always)]
    fn at<const FUSED: bool, const OF_P: bool>(&self, at: usize) -> [f32; LANES] {
        let Near { terms, by, divergence, .. } = self;
        let (p, q) = (numbers_of(self.sides[0], at), numbers_of(self.sides[1], at));
        let mut lanes = [0.0; LANES];
        for lane in 0..LANES {
            let (l, w) = terms.ratio::<FUSED>(p[lane], q[lane]);
            if OF_P {
                lanes[lane] = if w > 0.0 { w * by[0] * (l - divergence) } else { 0.0 };
            } else {
                let (v, _) = terms.exp::<FUSED>(q[lane] - terms.tops[1]);
                let near = w * by[0] * (exp_tail::<FUSED>(l) - l);
                let far = mul_add::<FUSED>(v, by[1], -(w * by[0]));
                lanes[lane] = if l.abs() <= 1.0 { near } else { far };
            }
        }
        lanes
    }
}

impl Terms {
    /// `ln(p/q)` of a bin, and its `w`.
    #[inline(always)]
    fn ratio<const FUSED: bool>(&self, a: f32, b: f32) -> (f32, f32) {
        let d = a - b;
        let b_seen = d - a;
        let lost = (a - (d - b_seen)) - (b + b_seen);
        let y = ((d - self.reference[0]) + (lost - self.reference[1])) * self.per_temperature;
        (y, self.exp::<FUSED>(a - self.tops[0]).0)
    }
}

/// Fills a block with its derivatives, and returns the largest magnitude.
#[inline(always)]
fn fill<const FUSED: bool, const OF_P: bool>(into: &mut [f32], block: &impl Derivatives) -> f32 {
    let (places, rest) = into.as_chunks_mut::<LANES>();
    let mut largest = [0.0_f32; LANES];
    for (at, place) in places.iter_mut().enumerate() {
        *place = block.at::<FUSED, OF_P>(at);
        for lane in 0..LANES {
            let size = place[lane].abs();
            largest[lane] = if size > largest[lane] { size } else { largest[lane] };
        }
    }
    if !rest.is_empty() {
        let lanes = block.at::<FUSED, OF_P>(places.len());
        rest.copy_from_slice(&lanes[..rest.len()]);
        largest[0] = rest.iter().fold(largest[0], |largest, x| largest.max(x.abs()));
    }
    largest.into_iter().fold(0.0, f32::max)
}

/// Some of the numbers of a block; past the end there are none.
#[inline(always)]
fn lanes_of(side: &[f32], at: usize) -> [f32; LANES] {
    match side[at * LANES..].first_chunk() {
        Some(lanes) => *lanes,
        None => {
            let mut lanes = [0.0; LANES];
            lanes.iter_mut().zip(&side[at * LANES..]).for_each(|(lane, x)| *lane = *x);
            lanes
        }
    }
}

#[inline(always)]
fn numbers_of(side: &[f32], at: usize) -> [f32; LANES] {
    match side[at * LANES..].first_chunk() {
        Some(lanes) => *lanes,
        None => filled_up(&side[at * LANES..]),
    }
}

fn in_two_parts(value: f64) -> [f32; 2] {
    let high = value as f32;
    [high, (value - f64::from(high)) as f32]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::tests::on_every_vector_unit;

    /// Logits of P, and of Q that lie off by about `by` and are shifted.
    fn sides(bins: usize, by: f32, shift: f32) -> [Vec<f32>; 2] {
        let spread = |bin: usize, step: usize| ((bin * step) % 1013) as f32 / 1013.0 - 0.5;
        let p: Vec<f32> = (0..bins).map(|bin| 8.0 * spread(bin, 389)).collect();
        let q = p.iter().enumerate().map(|(bin, p)| p + by * spread(bin, 577) + shift).collect();
        [p, q]
    }

    const LENGTHS: [usize; 10] = [1, 7, 16, 17, 100, 2047, 2048, 2049, 5000, 140_000];

    /// If it were, each such row would be looked through once more.
    #[test]
    fn what_fills_a_vector_up_is_not_a_number_of_the_row() {
        let top = |side: &[f32]| {
            let mut top = Top::NONE;
            top.look_at_all(side);
            top
        };
        for bins in [1, 15, 16, 17, 40] {
            let mut side: Vec<f32> = (0..bins).map(|bin| bin as f32 - 90.0).collect();
            assert!(top(&side).finite());
            assert_eq!([top(&side).largest(), top(&side).number()], [90.0, side[bins - 1]]);
            side[bins - 1] = f32::NEG_INFINITY;
            assert!(!top(&side).finite());
        }
    }

    #[test]
    fn nodes_are_those_of_f64() {
        for bins in LENGTHS {
            for by in [1e-5, 1e-3, 0.1, 1.0, 4.0, 40.0, 150.0] {
                for (shift, temperature) in [(0.0, 1.0), (300.0, 1.0), (-7.0, 2.5), (0.1, 0.4)] {
                    let [p, q] = sides(bins, by, shift);
                    let got = match bins <= SEGMENT {
                        true => pulp::Arch::new().dispatch(Segment { p: &p, q: &q, temperature }),
                        false => long_row(&p, &q, temperature),
                    };
                    let parts = p.chunks(1 << 14).zip(q.chunks(1 << 14));
                    let want = chain::root(
                        parts.map(|(p, q)| chain::of_logs(p, q, temperature)).collect(),
                    );
                    let what =
                        format!("{bins} bins, {by}, {shift}, {temperature}: {got:?} {want:?}");
                    let near = |got: f64, want: f64, off: f64| {
                        assert!((got - want).abs() <= off, "{got:e}, not {want:e}, at {what}");
                    };
                    near(got.divergence(), want.divergence(), 1e-6 * want.divergence() + 1e-15);
                    near(got.ln_ratio(), want.ln_ratio(), 3e-7);
                    for side in [Side::P, Side::Q] {
                        near(got.ln_mass(side), want.ln_mass(side), 5e-7);
                    }
                    assert!(!got.invalid && !got.infinite, "{what}");
                }
            }
        }
    }

    fn node(p: &[f32], q: &[f32]) -> Node {
        pulp::Arch::new().dispatch(Segment { p, q, temperature: 1.0 })
    }

    fn in_f64(p: &[f32], q: &[f32]) -> Node {
        let parts = p.chunks(1 << 14).zip(q.chunks(1 << 14));
        chain::root(parts.map(|(p, q)| chain::of_logs(p, q, 1.0)).collect())
    }

    fn assert_same_divergence(p: &[f32], q: &[f32], what: &str) {
        let (got, want) = (node(p, q).divergence(), in_f64(p, q).divergence());
        assert!((got - want).abs() <= 1e-6 * want, "{what}: {got:e}, not {want:e}");
    }

    /// What is left to f64 is right as well, and comes later: answers do not tell.
    #[test]
    fn weights_that_f32_lacks_are_told_from_others() {
        let whole = |[first, second, others]: [f32; 3]| {
            let mut side = [others; LANES];
            (side[0], side[1]) = (first, second);
            side
        };
        let lacks = |temperature: f64, p, q| {
            let (p, q) = (whole(p), whole(q));
            let mut ahead = Ahead::at(Some(&p), Some(&q));
            ahead.look_at_rest();
            ahead.lacks_weights(temperature)
        };
        for (want, temperature, p, q) in [
            // Below f32 is what is more than 85 below the largest; much more is what is beyond 1e12.
            (true, 1.0, [0.0, -86.0, 0.0], [0.0, -2e12, 0.0]),
            (false, 1.0, [0.0, -85.0, 0.0], [0.0, -2e12, 0.0]),
            (false, 1.0, [0.0, -86.0, 0.0], [0.0, -0.9e12, 0.0]),
            (false, 1.0, [0.0, -86.0, 0.0], [0.0, -1e12, -9e12]),
            // Both from the largest on.
            (true, 1.0, [10.0, -80.0, 0.0], [0.0, -2e12, 0.0]),
            (true, 1.0, [0.0, -86.0, 0.0], [10.0, -5e12, 0.0]),
            (false, 1.0, [0.0, -86.0, 0.0], [-3e12, -3.5e12, -4e12]),
            // And both by the temperature.
            (false, 2.0, [0.0, -160.0, 0.0], [0.0, -5e12, 0.0]),
            (false, 4.0, [0.0, -400.0, 0.0], [0.0, -3e12, -9e12]),
            (true, 0.25, [0.0, -30.0, 0.0], [0.0, -0.5e12, 0.0]),
        ] {
            assert_eq!(lacks(temperature, p, q), want, "{p:?}, {q:?}, {temperature}");
        }
    }

    /// Which of two ways a block takes shows in whether its weights can be kept, but not in its sums.
    #[test]
    fn blocks_that_f32_is_right_for_take_it() {
        let attempted = |temperature: f64, p: &[f32], q: &[f32]| {
            let (mut now, mut manner) = (Ahead::at(Some(p), Some(q)), Manner::Far);
            now.look_at_rest();
            let mut ahead = Ahead::at(None, None);
            let weights = &mut [&mut [][..], &mut []];
            let (node, tops) =
                now.node::<false, false>(temperature, &mut manner, &mut ahead, weights);
            assert!(!node.invalid && node.infinite == q.contains(&f32::NEG_INFINITY));
            tops
        };
        let (p, q) = ([0.0_f32, 3.0, 1.0], [2.0_f32, 0.0, 1.0]);
        assert_eq!(attempted(1.0, &p, &q), Some([3.0, 2.0]));
        assert_eq!(attempted(1.0, &p, &[0.1, 2.9, 1.0]), None, "near, which is seen too late");
        assert_eq!(attempted(1.0, &p, &[2.0, f32::NEG_INFINITY, 1.0]), None);
        // As large as f32 takes, and larger; on either side.
        let up = |side: [f32; 3], by: f32| side.map(|x| x + by);
        let most = LARGEST_TOP - 3.0;
        assert_eq!(attempted(1.0, &up(p, most), &q), Some([LARGEST_TOP, 2.0]));
        assert_eq!(attempted(1.0, &up(p, most + 1.0), &q), None);
        assert_eq!(attempted(1.0, &p, &up(q, most + 2.0)), None);
        assert_eq!(attempted(1.0, &up(p, -most - 8.0), &q), None);
        for side in [[f32::NAN, 0.0, 1.0], [f32::INFINITY, 0.0, 1.0]] {
            for (p, q) in [(&side, &q), (&p, &side)] {
                let mut now = Ahead::at(Some(&p[..]), Some(&q[..]));
                now.look_at_rest();
                let (weights, mut ahead) = (&mut [&mut [][..], &mut []], Ahead::at(None, None));
                let node = now.node::<false, false>(1.0, &mut Manner::Far, &mut ahead, weights).0;
                assert!(node.invalid, "{p:?}, {q:?}");
            }
        }
    }

    /// What is summed where f32 cannot would hide sums that are far off: they would only take longer.
    #[test]
    fn the_sums_themselves_are_right() {
        for bins in [1, 15, 16, 17, 127, 128, 129, 300, 2047, 2048] {
            for (by, temperature) in [(1e-3, 1.0), (0.5, 2.5), (4.0, 0.4_f64)] {
                let [p, q] = sides(bins, by, 3.0);
                let tops = [&p, &q].map(|side| side.iter().copied().fold(f32::MIN, f32::max));
                let reference = f64::from(tops[0]) - f64::from(tops[1]);
                for (is_far, reference, unit) in [
                    (true, reference, 1.0),
                    (false, reference, 1.0),
                    (false, reference + 0.1, (0.1 / temperature).exp()),
                ] {
                    let terms = Terms::new(tops, reference, unit, temperature);
                    let ahead = &mut Ahead::at(None, None);
                    let none = &mut [&mut [][..], &mut []];
                    let got = [
                        terms.sums::<true, false, false>(&p, &q, ahead, none),
                        terms.sums::<false, false, false>(&p, &q, ahead, none),
                        terms.sums::<true, true, false>(&p, &q, ahead, none),
                        terms.sums::<false, true, false>(&p, &q, ahead, none),
                    ];
                    let got = if is_far { &got[2..] } else { &got[..2] };
                    let what = format!("{bins} bins, {by}, {is_far}, {reference}: {got:?}");
                    for got in got {
                        assert_sums(got, [&p, &q], tops, (reference, temperature), is_far, &what);
                    }
                }
            }
        }
    }

    /// Holds sums against what their definitions come to in f64.
    fn assert_sums(
        got: &Sums,
        [p, q]: [&[f32]; 2],
        tops: [f32; 2],
        (reference, temperature): (f64, f64),
        is_far: bool,
        what: &str,
    ) {
        let (mut want, mut size) = (Sums::default(), Sums::default());
        for (&p, &q) in p.iter().zip(q) {
            let weight = |x: f32, top: f32| ((f64::from(x) - f64::from(top)) / temperature).exp();
            let (w, v) = (weight(p, tops[0]), weight(q, tops[1]));
            let y = (f64::from(p) - f64::from(q) - reference) / temperature;
            let (s, u) = (w * ((-y).exp_m1() + y), w * (-y).exp_m1());
            let seen = if is_far { w * (1.0 + y.abs() + (-y).exp()) } else { 0.0 };
            want = Sums { w: want.w + w, v: want.v + v, s: want.s + s, u: want.u + u };
            size.s += s + seen;
            size.u += u.abs() + seen;
        }
        for (got, want, size) in [
            (got.w, want.w, want.w),
            (got.v, want.v, want.v),
            (got.s, want.s, size.s),
            (got.u, want.u, size.u),
        ] {
            assert!((got - want).abs() <= 1e-6 * size + 1e-12, "{got:e}, not {want:e}, at {what}");
        }
    }

    /// Rounding in f32 leaves its mark: what has none was left to f64, which takes longer.
    #[test]
    fn ordinary_rows_are_not_left_to_f64() {
        for by in [1e-3, 0.1, 1.0, 4.0] {
            let [p, q] = sides(250, by, 0.5);
            assert_ne!(node(&p, &q), in_f64(&p, &q), "{by}");
        }
    }

    #[test]
    fn f32_takes_what_it_can() {
        fn takes<T: Element>(kinds: [Kind; 2], temperature: f64) -> bool {
            let side = ndarray::Array2::from_elem((1, 2), T::from_f64(0.5));
            let batch = Batch::of(kinds[0], &side, kinds[1], &side).unwrap();
            take(&batch.with_temperature(temperature).unwrap())
        }
        let (logits, log_probs) = (Kind::Logits, Kind::LogProbs);
        assert!(takes::<f32>([logits; 2], 2.0) && takes::<half::f16>([logits; 2], 2.0));
        assert!(takes::<f32>([log_probs; 2], 1.0) && takes::<f32>([log_probs, logits], 1.0));
        assert!(!takes::<f32>([log_probs, logits], 2.0) && !takes::<f64>([logits; 2], 1.0));
        assert!(!takes::<f32>([Kind::Probs, logits], 1.0));
    }

    #[test]
    fn the_largest_number_is_found_wherever_it_stands() {
        for bins in [1, 5, 16, 33, 48] {
            for at in 0..bins {
                let top = |number: f32| {
                    let mut side = vec![-7.0_f32; bins];
                    side[at] = number;
                    let mut top = Top::NONE;
                    top.look_at_all(&side);
                    (top.number(), top.finite())
                };
                assert_eq!(top(-3.0), (-3.0, true));
                assert_eq!(top(f32::MAX), (f32::MAX, true));
                assert_eq!(top(f32::INFINITY), (f32::INFINITY, false));
                assert_eq!([f32::NAN, f32::NEG_INFINITY].map(|none| top(none).1), [false; 2]);
            }
        }
    }

    /// A number so far above the others that, taken for one of them, it has no exponential.
    #[test]
    fn a_row_may_have_its_largest_number_anywhere() {
        for at in [0, 100, 127, 128, 255, 256, 299, 2047, 2048, 2175, 2176, 2199] {
            let [p, q] = sides(2200, 0.1, 0.0);
            let mut larger = p.clone();
            larger[at] = 200.0;
            assert_same_divergence(&larger, &q, &format!("P is larger at {at}"));
            assert_same_divergence(&q, &larger, &format!("Q is larger at {at}"));
        }
    }

    #[test]
    fn a_probability_too_small_for_f32_is_none_of_zero() {
        let (mut p, mut q) = ([0.0; LANES], [0.0; LANES]);
        (p[1], q[1]) = (-200.0, f32::NEG_INFINITY);
        let row = node(&p, &q);
        assert!(row.infinite && !row.invalid, "{row:?}");
    }

    #[test]
    fn sums_beyond_f32_are_left_to_f64() {
        let p = [0.0_f32; 300];
        let q: Vec<f32> = (0..300).map(|bin| if bin % 2 == 0 { 0.0 } else { -2e38 }).collect();
        assert_same_divergence(&p, &q, "half of the bins lie far off");
    }

    /// Nearly equal sides, of which the largest numbers are no good reference.
    #[test]
    fn what_cancels_is_summed_again() {
        for at in [1000, 3000, 5000] {
            // Of flat rows the largest has little of the mass, and nearly all cancels.
            for (steepness, top, by) in [(1.0, 5.0, 0.3), (0.01, 0.1, 0.02)] {
                let [mut p, mut q] = sides(6144, 1e-4 / steepness, 0.0)
                    .map(|side| side.iter().map(|x| steepness * x).collect::<Vec<_>>());
                (p[at], q[at]) = (top, top + by);
                assert_same_divergence(&p, &q, &format!("the largest is off by {by} at {at}"));
            }
        }
    }

    /// The two halves of a row agree in one of them and differ much in the other.
    #[test]
    fn either_manner_takes_over_from_the_other() {
        for near_first in [true, false] {
            let [p, mut q] = sides(20_000, 1e-4, 0.0);
            let far = if near_first { 10_000..20_000 } else { 0..10_000 };
            for (bin, q) in q[far].iter_mut().enumerate() {
                *q += (bin % 7) as f32 - 3.0;
            }
            let got = pulp::Arch::new().dispatch(Segment { p: &p, q: &q, temperature: 1.0 });
            let want = chain::root(
                p.chunks(1 << 14)
                    .zip(q.chunks(1 << 14))
                    .map(|(p, q)| chain::of_logs(p, q, 1.0))
                    .collect(),
            );
            let off = (got.divergence() / want.divergence() - 1.0).abs();
            assert!(off < 3e-7, "{near_first}: {got:?}, not {want:?}");
        }
    }

    #[test]
    fn vector_units_agree() {
        for bins in LENGTHS.into_iter().filter(|&bins| bins <= SEGMENT) {
            for by in [1e-3, 3.0] {
                let [p, q] = sides(bins, by, 0.5);
                let segment = || Segment { p: &p, q: &q, temperature: 1.0 };
                on_every_vector_unit(segment, |node| node.g / node.masses[0]);
            }
        }
    }
}
