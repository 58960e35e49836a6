//! Rows of which a side is logarithms: relative entropy by its chain rule, in f64.
//!
//! The bins of a row are taken as the leaves of a tree. A **node** stands for the bins below it: its
//! mass under P, its mass under Q, the logarithm λ of their ratio, and `G`, the mass under P times
//! the divergence of the two conditional distributions. A bin is a node with `G = 0` and
//! `λ = ln p − ln q`. Nodes with masses `wᵢ` and `vᵢ` become one by the chain rule,
//!
//! ```text
//! w = Σ wᵢ,  G = Σ Gᵢ + Σ (wᵢ·yᵢ − wᵢ + v′ᵢ),  yᵢ = λᵢ − c,  v′ᵢ = vᵢ·eᶜ = wᵢ·e^−yᵢ,
//! λ = c − ln(1 + u),  u = Σ (v′ᵢ − wᵢ) / w
//! ```
//!
//! which is exact for any reference `c`, less `w·(u − ln(1 + u))`. With `c = ln(Σw / Σv)`, rounded
//! in whatever way, `u` is next to 0 and so is what has to be subtracted: no summand is negative,
//! and nothing cancels, also where P ≈ Q. It is to the divergence what Chan's update is to the
//! variance. Here each row is read once; the softmax is never written
//! down.

use rayon::prelude::*;

use crate::batch::{Batch, Mass};
use crate::element::Element;
use crate::error::Side;
use crate::kind::Kind;
use crate::outcome::Row;
use crate::sums::eta;
use crate::term::{TAIL_REACH, difference_in_two, exp, exp_tail, ln};
use crate::verdict::{Judged, MassRule, Verdict};

/// Bins of one block, whose logarithms fit into the nearest cache.
const BLOCK: usize = 256;
/// Columns that are summed side by side: a constant of the result's bits, not of the machine.
const LANES: usize = 16;
/// Nodes that become one.
pub(crate) const FAN: usize = 64;
/// Bins of a long row that one task takes.
const SEGMENT: usize = BLOCK * FAN;

/// What logarithms that are lower once divided by the temperature count as, −inf apart.
const LEAST_LN: f64 = -1e300;

/// Some bins of a row, summed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Node {
    /// The masses of P and Q, in units of the exponentials of the scales.
    pub masses: [f64; 2],
    pub scales: [f64; 2],
    /// What rounding took from the scales, which is more than 1 where these are beyond 1e16.
    pub scale_rests: [f64; 2],
    /// The logarithm of the ratio of the masses beyond what the rests of the scales are apart, in two
    /// parts, of which the first alone may be large; meaningless where one of them is 0.
    pub ln_ratio: [f64; 2],
    /// The mass of P times the divergence of the conditional distributions, in the unit of P.
    pub g: f64,
    /// Some bin has `p > 0 = q`.
    pub infinite: bool,
    /// Some bin holds nothing of its side's kind.
    pub invalid: bool,
}

impl Node {
    /// The logarithm of a side's mass; −inf if there is none.
    pub(crate) fn ln_mass(&self, side: Side) -> f64 {
        let side = side as usize;
        self.scales[side] + (self.masses[side].ln() + self.scale_rests[side])
    }

    /// `ln(P/Q)`.
    pub(crate) fn ln_ratio(&self) -> f64 {
        self.ln_ratio[0] + (self.ln_ratio[1] + (self.scale_rests[0] - self.scale_rests[1]))
    }

    /// The divergence of the two sides divided by their masses.
    pub(crate) fn divergence(&self) -> f64 {
        self.g / self.masses[0]
    }
}

/// The node of a whole row.
pub(crate) fn node<T: Element>(batch: &Batch<'_, T>, row: usize) -> Node {
    let (p, q) = (batch.packed(Side::P, row), batch.packed(Side::Q, row));
    let reading = Reading {
        kinds: [batch.kind(Side::P), batch.kind(Side::Q)],
        temperature: batch.temperature(),
    };
    if p.len() <= BLOCK {
        return reading.block(&p, &q);
    }
    if p.len() <= SEGMENT {
        return reading.segment(&p, &q);
    }
    // In their order, so that the bits do not depend on which thread was first.
    let segments = p.par_chunks(SEGMENT).zip(q.par_chunks(SEGMENT));
    root(segments.map(|(p, q)| reading.segment(p, q)).collect())
}

/// The node above all others.
pub(crate) fn root(mut nodes: Vec<Node>) -> Node {
    while nodes.len() > 1 {
        nodes = nodes.chunks(FAN).map(merged).collect();
    }
    nodes.into_iter().next().unwrap_or_default()
}

/// The node of up to `SEGMENT` bins of which both sides are logarithms.
pub(crate) fn of_logs<T: Element>(p: &[T], q: &[T], temperature: f64) -> Node {
    Reading { kinds: [Kind::Logits; 2], temperature }.segment(p, q)
}

/// The results of a row from its node.
pub(crate) fn settle<T: Element>(batch: &Batch<'_, T>, row: usize, node: &Node) -> Row<T::Value> {
    if node.invalid
        && let Some(offender) = batch.offender(row)
    {
        return Judged::invalid(&offender).row();
    }
    judge(batch, node).row()
}

/// The logarithms of the masses of a row of valid bins, and the masses.
pub(crate) fn masses<T: Element>(batch: &Batch<'_, T>, node: &Node) -> ([f64; 2], [f64; 2]) {
    // Softmax divides by the mass; all other kinds have one.
    let ln_masses = [Side::P, Side::Q].map(|side| match batch.kind(side) {
        Kind::Logits if node.masses[side as usize] > 0.0 => 0.0,
        _ => node.ln_mass(side),
    });
    // A mass may be too small for a number, and still be one to divide by.
    let masses = [0, 1].map(|side| match node.masses[side] > 0.0 {
        true => ln_masses[side].exp().max(f64::MIN_POSITIVE),
        false => 0.0,
    });
    (ln_masses, masses)
}

/// The verdict on a row of valid bins.
pub(crate) fn judge<T: Element>(batch: &Batch<'_, T>, node: &Node) -> Judged {
    let (ln_masses, masses) = masses(batch, node);
    let verdict = match MassRule::of(batch).refuses(masses) {
        Some((side, rule)) => Verdict::Invalid(side, rule),
        None if node.infinite => Verdict::Infinite,
        None => Verdict::Value(value(batch, node, ln_masses)),
    };
    Judged { verdict, masses }
}

/// The value under the mass policy, with the divergence K of the distributions: the masses add
/// `P·ln(P/Q)` to `P·K`.
fn value<T: Element>(batch: &Batch<'_, T>, node: &Node, ln_masses: [f64; 2]) -> f64 {
    let [p, q] = ln_masses.map(f64::exp);
    let as_they_are = [Side::P, Side::Q].iter().all(|&side| batch.kind(side) != Kind::Logits);
    let ln_ratio = if as_they_are { node.ln_ratio() } else { ln_masses[0] - ln_masses[1] };
    match batch.mass() {
        Mass::Check | Mass::Normalize => node.divergence(),
        Mass::AsGiven if p == 0.0 => 0.0,
        Mass::AsGiven => p * (node.divergence() + ln_ratio),
        Mass::Generalized if p == 0.0 => q,
        Mass::Generalized if ln_ratio.abs() <= TAIL_REACH => {
            p * (node.divergence() + exp_tail::<false>(-ln_ratio))
        }
        Mass::Generalized if ln_ratio.abs() <= 2.0 => {
            p * (node.divergence() + ((-ln_ratio).exp_m1() + ln_ratio))
        }
        Mass::Generalized => p * (node.divergence() + ln_ratio - 1.0) + q,
    }
}

/// Whether the answer depends on more digits of a node than it has, made as it was in the arithmetic
/// of the results.
pub(crate) fn lacks_digits<T: Element>(
    batch: &Batch<'_, T>,
    row: usize,
    node: &Node,
    is_f64: bool,
) -> bool {
    // Below the first, the rounding of logarithms begins to show, of which those that are given have
    // less; the second is that of a mass.
    let given = [Side::P, Side::Q].iter().all(|&side| batch.kind(side) != Kind::Probs);
    let (least, doubt) = match (is_f64, given) {
        (true, _) => (1e-26, 1e-13),
        (false, true) => (1e-13, 1e-5),
        (false, false) => (1e-11, 1e-5),
    };
    if node.masses.contains(&0.0) || node.infinite {
        return false;
    }
    let divergence = node.divergence();
    if divergence < least && batch.row(Side::P, row) != batch.row(Side::Q, row) {
        return true;
    }
    let weighted = [Side::P, Side::Q].map(|side| batch.kind(side) != Kind::Logits);
    match batch.mass() {
        Mass::Normalize => false,
        Mass::Check => [Side::P, Side::Q].into_iter().zip(weighted).any(|(side, weighted)| {
            let off = (node.ln_mass(side).exp() - 1.0).abs() - batch.mass_tolerance();
            weighted && off.abs() < doubt
        }),
        // Here the masses themselves go into the value.
        Mass::AsGiven | Mass::Generalized if weighted[0] != weighted[1] => true,
        // Their ratio is rounded, relative to how far the bins lie apart.
        Mass::AsGiven => {
            (divergence + node.ln_ratio()).abs() < doubt * (2e4 * divergence.sqrt() + 10.0)
        }
        Mass::Generalized => false,
    }
}

/// How the numbers of the two sides are read.
#[derive(Clone, Copy)]
struct Reading {
    kinds: [Kind; 2],
    temperature: f64,
}

impl Reading {
    /// The node of up to `SEGMENT` bins.
    fn segment<T: Element>(self, p: &[T], q: &[T]) -> Node {
        let blocks = p.chunks(BLOCK).zip(q.chunks(BLOCK));
        merged(&blocks.map(|(p, q)| self.block(p, q)).collect::<Vec<_>>())
    }

    /// The node of up to `BLOCK` bins.
    fn block<T: Element>(self, p: &[T], q: &[T]) -> Node {
        // Short rows are not worth a large block's memory.
        if p.len() <= LANES {
            return self.short_block(&mut Logs::of(p), &mut Logs::of(q));
        }
        self.whole_block(&mut Logs::of(p), &mut Logs::of(q))
    }

    // Compiled once, whatever the type of the numbers.
    #[inline(never)]
    fn short_block(self, p: &mut Logs<LANES>, q: &mut Logs<LANES>) -> Node {
        pulp::Arch::new().dispatch(Block { reading: self, p, q })
    }

    #[inline(never)]
    fn whole_block(self, p: &mut Logs<BLOCK>, q: &mut Logs<BLOCK>) -> Node {
        pulp::Arch::new().dispatch(Block { reading: self, p, q })
    }
}

/// Up to `N` bins, not yet logarithms if that is not what they were. `dispatch` inlines all that
/// `with_simd` calls into one copy of the loops for each vector instruction set, and runs the best that the
/// machine has.
struct Block<'a, const N: usize> {
    reading: Reading,
    p: &'a mut Logs<N>,
    q: &'a mut Logs<N>,
}

impl<const N: usize> pulp::WithSimd for Block<'_, N> {
    type Output = Node;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> Node {
        if S::IS_SCALAR { self.node::<false>() } else { self.node::<true>() }
    }
}

impl<const N: usize> Block<'_, N> {
    #[inline(always)]
    fn node<const FUSED: bool>(self) -> Node {
        let Block { reading: Reading { kinds, temperature }, p, q } = self;
        p.read::<FUSED>(kinds[0], temperature);
        q.read::<FUSED>(kinds[1], temperature);
        let mut leaves = Leaves::<N>::new(p.len);
        let bins = leaves.padded();
        let scales = [p.weigh::<FUSED>(bins, &mut leaves.w), q.weigh::<FUSED>(bins, &mut leaves.v)];
        for bin in 0..bins {
            let (apart, lost) = difference_in_two(p.high[bin], q.high[bin]);
            leaves.high[bin] = apart;
            leaves.low[bin] = lost + ((p.low[bin] - scales[0].1) - (q.low[bin] - scales[1].1));
        }
        leaves.node::<FUSED>(scales, p.invalid || q.invalid)
    }
}

/// A logarithm: rounded, and what that took from it.
type InTwo = (f64, f64);

/// One side of a block: the logarithms of its probabilities in two parts; −inf for a probability of 0, and
/// past the end.
struct Logs<const N: usize> {
    len: usize,
    high: [f64; N],
    low: [f64; N],
    invalid: bool,
}

impl<const N: usize> Logs<N> {
    /// The numbers, which are yet to be read.
    fn of<T: Element>(bins: &[T]) -> Logs<N> {
        let (none, len) = ([f64::NEG_INFINITY; N], bins.len());
        let mut logs = Logs { len, high: none, low: [0.0; N], invalid: false };
        logs.high.iter_mut().zip(bins).for_each(|(log, bin)| *log = bin.to_f64());
        logs
    }

    #[inline(always)]
    fn read<const FUSED: bool>(&mut self, kind: Kind, temperature: f64) {
        let Logs { len, high, low, .. } = self;
        let (high, mut valid) = (&mut high[..*len], true);
        for log in high.iter() {
            // Written so that NaN is not valid.
            valid &= *log < f64::INFINITY;
        }
        if kind == Kind::Probs {
            for log in high {
                valid &= *log >= 0.0;
                *log = ln::<FUSED>(*log);
            }
        } else if kind == Kind::Logits && temperature != 1.0 {
            for (high, low) in high.iter_mut().zip(low) {
                let logit = *high;
                *high = logit / temperature;
                // What is too small for a number is no −inf.
                *high = if logit > f64::NEG_INFINITY { high.max(LEAST_LN) } else { *high };
                let lost = (-*high).mul_add(temperature, logit) / temperature;
                *low = if *high > LEAST_LN { lost } else { 0.0 };
            }
        }
        self.invalid = !valid;
    }

    /// The first probabilities in units of the largest, whose logarithm is returned.
    #[inline(always)]
    fn weigh<const FUSED: bool>(&self, bins: usize, weights: &mut [f64; N]) -> InTwo {
        let (high, low) = (&self.high[..bins], &self.low[..bins]);
        let mut tops = [f64::NEG_INFINITY; LANES];
        for logs in high.as_chunks::<LANES>().0 {
            for lane in 0..LANES {
                tops[lane] = if logs[lane] > tops[lane] { logs[lane] } else { tops[lane] };
            }
        }
        let top = tops.into_iter().fold(f64::NEG_INFINITY, f64::max);
        let scale = if top > f64::NEG_INFINITY { top } else { 0.0 };
        // Of those that round alike, the largest.
        let mut rests = [f64::NEG_INFINITY; LANES];
        for (high, low) in high.as_chunks::<LANES>().0.iter().zip(low.as_chunks::<LANES>().0) {
            for lane in 0..LANES {
                let is_top = (high[lane] == scale) & (low[lane] > rests[lane]);
                rests[lane] = if is_top { low[lane] } else { rests[lane] };
            }
        }
        let rest = rests.into_iter().fold(f64::NEG_INFINITY, f64::max);
        let rest = if rest > f64::NEG_INFINITY { rest } else { 0.0 };
        for ((weight, high), low) in weights.iter_mut().zip(high).zip(low) {
            *weight = exp::<FUSED>((high - scale) + (low - rest));
        }
        (scale, rest)
    }
}

/// The children of a node, side by side.
struct Leaves<const N: usize> {
    len: usize,
    /// Their masses under P and Q, each side in a unit of its own.
    w: [f64; N],
    v: [f64; N],
    /// The logarithms of the ratios of their masses, in two parts: ±inf where one of them is 0, NaN
    /// where both are. The second is beyond what rounding took from the scales.
    high: [f64; N],
    low: [f64; N],
}

impl<const N: usize> Leaves<N> {
    #[inline(always)]
    fn new(len: usize) -> Leaves<N> {
        let none = [0.0; N];
        Leaves { len, w: none, v: none, high: [f64::NAN; N], low: none }
    }

    /// So many places are looked at: whole rows of lanes.
    #[inline(always)]
    fn padded(&self) -> usize {
        self.len.next_multiple_of(LANES)
    }

    /// The node above them, with what the chain rule adds to the divergences within them.
    #[inline(always)]
    fn node<const FUSED: bool>(&mut self, [p_scale, q_scale]: [InTwo; 2], invalid: bool) -> Node {
        let masses = [self.sum(&self.w), self.sum(&self.v)];
        let (scales, scale_rests) = ([p_scale.0, q_scale.0], [p_scale.1, q_scale.1]);
        let mut node = Node { masses, scales, scale_rests, invalid, ..Node::default() };
        let [w, v] = masses;
        let ratio = w / v;
        // The reference is ln(w/v) beyond how far the scales are apart. Both are kept by themselves, so
        // that what is added to all logarithms of a side goes before anything is rounded.
        let ((apart, lost), (beyond, to_p)) = match ratio > 0.0 && ratio.is_finite() {
            true => (difference_in_two(scales[0], scales[1]), (ratio.ln(), ratio)),
            false => ((0.0, 0.0), (0.0, 0.0)),
        };
        let len = self.padded();
        let (w_of, v_of) = (&self.w[..len], &self.v[..len]);
        let (high, low) = (&mut self.high[..len], &mut self.low[..len]);
        let mut infinite = 0_u64;
        for at in 0..len {
            let (ln, w, v) = (high[at], w_of[at], v_of[at]);
            let y = ((ln - apart) - beyond) + (low[at] - lost);
            let near = y.abs() <= TAIL_REACH;
            let tail = exp_tail::<FUSED>(if near { -y } else { 0.0 });
            let far_u = v * to_p - w;
            let far_g = far_u + w * if ln.abs() < f64::INFINITY { y } else { 0.0 };
            // Their summands in the places of the logarithms, which nobody needs any more.
            high[at] = if near { w * tail } else { far_g };
            low[at] = if near { w * (tail - y) } else { far_u };
            infinite |= u64::from(ln == f64::INFINITY);
        }
        let (g, u) = (self.sum(&self.high), self.sum(&self.low) / w);
        node.infinite = infinite != 0;
        if w > 0.0 && v > 0.0 {
            node.ln_ratio = [apart, (beyond + lost) - u.ln_1p()];
            node.g = (g - w * eta(u, 1.0 + u)).max(0.0);
        }
        node
    }

    #[inline(always)]
    fn sum(&self, values: &[f64; N]) -> f64 {
        let mut sums = [0.0; LANES];
        for values in values[..self.padded()].as_chunks::<LANES>().0 {
            for lane in 0..LANES {
                sums[lane] += values[lane];
            }
        }
        tree_sum(sums)
    }
}

/// The sum of a power of two of lanes, halves upon halves.
#[inline(always)]
pub(crate) fn tree_sum<const LANES: usize>(mut lanes: [f64; LANES]) -> f64 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// The node above up to `FAN` others.
pub(crate) fn merged(nodes: &[Node]) -> Node {
    if let [node] = nodes {
        return *node;
    }
    let scale = |side: usize| {
        let some = nodes.iter().filter(|node| node.masses[side] > 0.0);
        let scales = some.map(|node| (node.scales[side], node.scale_rests[side]));
        scales.reduce(|top, other| if other > top { other } else { top }).unwrap_or_default()
    };
    let scales = [scale(0), scale(1)];
    let mut leaves = Leaves::<FAN>::new(nodes.len());
    let mut g = 0.0;
    for (at, node) in nodes.iter().enumerate() {
        // Rests may be large themselves: only their differences are added to anything.
        let rests = [0, 1].map(|side| node.scale_rests[side] - scales[side].1);
        let unit =
            [0, 1].map(|side| ((node.scales[side] - scales[side].0) + rests[side]).min(0.0).exp());
        (leaves.w[at], leaves.v[at]) = (node.masses[0] * unit[0], node.masses[1] * unit[1]);
        g += node.g * unit[0];
        [leaves.high[at], leaves.low[at]] = match node.masses.map(|mass| mass > 0.0) {
            [true, true] => [node.ln_ratio[0], node.ln_ratio[1] + (rests[0] - rests[1])],
            [true, false] => [f64::INFINITY, 0.0],
            [false, true] => [f64::NEG_INFINITY, 0.0],
            [false, false] => [f64::NAN, 0.0],
        };
    }
    let node = leaves.node::<false>(scales, nodes.iter().any(|node| node.invalid));
    let infinite = node.infinite || nodes.iter().any(|node| node.infinite);
    Node { g: node.g + g, infinite, ..node }
}
