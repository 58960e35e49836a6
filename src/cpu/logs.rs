//! Rows of logarithms on both sides, in f32: log-probabilities and logits, in any pairing.
//!
//! Blocks of bins become nodes of the tree that [`chain`](crate::chain) merges. Within a block both
//! sides are in units of their largest probabilities, or of those of a block before it if they are near:
//! `w = e^(a − max a)`, `v = e^(b − max b)`, and the reference is `c = max a − max b`, which is the
//! logarithm of the ratio of the masses but for a little if the two sides are nearly equal. In such blocks
//! `y = (a − b) − c` keeps its digits, since what rounding took from `a − b` is added again. Should so much
//! of the sum cancel all the same that digits are lost, then the block is summed once more with the
//! reference that the first sum shows to be right.

use std::ops::Range;

use rayon::prelude::*;

use super::in_f32::{PerLane, add, block, put};
use super::widen;
use crate::batch::Batch;
use crate::chain::{self, Node, tree_sum};
use crate::element::Element;
use crate::error::Side;
use crate::kind::Kind;
use crate::outcome::Row;
use crate::slope::LEAST_BESIDE_ALL;
use crate::sums::eta;
use crate::term::{self, lesser, mul_add};

/// Columns that are summed side by side: a constant of the result's bits, not of the machine.
const LANES: usize = 16;
/// Blocks of lanes that are added one after the other before f64 takes over.
const CHAIN: usize = 8;
/// Bins that share a reference; they fit into the nearest cache, where some are read twice.
const BLOCK: usize = 2048;
/// Bins of a long row that one task takes.
pub(super) const SEGMENT: usize = BLOCK * chain::FAN;

/// What a side is in units of may be so large a number: as it is, and divided by the temperature.
pub(super) const LARGEST_TOP: f32 = 65_536.0;
pub(super) const LARGEST_LN: f64 = 1e8;

/// Whether f32 can take the rows of a batch: numbers of at most 32 bits, of which both sides are
/// divided by the same temperature.
pub(super) fn take<T: Element>(batch: &Batch<'_, T>) -> bool {
    let alike = batch.kind(Side::P) == batch.kind(Side::Q) || batch.temperature() == 1.0;
    size_of::<T>() <= size_of::<f32>() && batch.are_logs() && alike
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
        segment::<S>(self.p, self.q, self.temperature, &mut Kept::default())
    }
}

/// The node of up to `SEGMENT` bins of a row.
#[inline(always)]
pub(super) fn segment<S: pulp::Simd>(
    p: &[f32],
    q: &[f32],
    temperature: f64,
    kept: &mut Kept,
) -> Node {
    match S::IS_SCALAR {
        true => in_blocks::<false, false>(p, q, temperature, kept),
        false => in_blocks::<true, false>(p, q, temperature, kept),
    }
}

/// What was made on the way to the node of up to `SEGMENT` bins: memory, but for the gradient, which goes on
/// from it.
#[derive(Default)]
pub(super) struct Kept {
    nodes: Vec<Node>,
    /// `w` and `v` of all bins, those of a block in units of its largest.
    weights: [Vec<f32>; 2],
    /// Those largest numbers, of blocks whose weights are there, and how the terms of the block were made.
    blocks: Vec<(Option<[f32; 2]>, Manner)>,
    /// Whether a weight that is too small for f32 counts.
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
        kept.blocks.clear();
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
    kept.nodes.clear();
    // What was right for a block is tried first on the next.
    let (mut manner, mut guess) = (Manner::Far, None);
    for (p, q) in p.chunks(BLOCK).zip(q.chunks(BLOCK)) {
        let first = kept.nodes.len() * BLOCK;
        let bins = if KEEP { first..first + p.len() } else { 0..0 };
        let weights = &mut kept.weights.each_mut().map(|side| &mut side[bins.clone()]);
        // The gradient, which may be small beside the probabilities, has no digit to lose to a guess.
        let mut guessed = guess.filter(|_| !KEEP);
        let (made, tops) = loop {
            let tops = guessed.unwrap_or_else(|| tops(p, q));
            let block = Block { p, q, tops, temperature, is_guess: guessed.is_some() };
            let made = block.made::<FUSED, KEEP>(&mut manner, weights);
            if !matches!(made, Made::Apart) {
                break (made, tops);
            }
            guessed = None;
        };
        guess = Some(tops);
        kept.lacks_weights |= matches!(made, Made::LacksWeights);
        let (node, kept_block) = match made {
            Made::InF32(node, manner) => (node, (Some(tops), manner)),
            _ => (chain::of_logs(p, q, temperature), (None, Manner::Near)),
        };
        kept.nodes.push(node);
        if KEEP {
            kept.blocks.push(kept_block);
        }
    }
    chain::merged(&kept.nodes)
}

/// Up to `BLOCK` bins.
#[derive(Clone, Copy)]
struct Block<'a> {
    p: &'a [f32],
    q: &'a [f32],
    /// The largest numbers; or a guess at them, those of a block before, so that this one is read once.
    tops: [f32; 2],
    is_guess: bool,
    temperature: f64,
}

/// What became of a block.
enum Made {
    /// Its node, and how its terms were made.
    InF32(Node, Manner),
    /// The largest numbers are too far from the guess.
    Apart,
    /// It is for f64.
    InF64,
    /// It too, and a weight that is too small for f32 counts.
    LacksWeights,
}

/// The masses of a block in units of a guess at its largest numbers. These are at most 8 (by the temperature)
/// above it then: numbers lose less than 2.4e-7 when it is taken from them. They are at most 16 below, and
/// weights that are lost are nothing beside the mass of the block whose numbers they were.
const NEAR_TOPS: std::ops::RangeInclusive<f64> = 1.0 / 4096.0..=2980.0;

impl Block<'_> {
    #[inline(always)]
    fn made<const FUSED: bool, const KEEP: bool>(
        self,
        manner: &mut Manner,
        weights: &mut [&mut [f32]; 2],
    ) -> Made {
        let Block { p, q, tops, is_guess, temperature } = self;
        // The difference of larger ones, in two parts of f32, lacks digits, and their ratio to the
        // temperature in f64. −inf is one of them.
        let largest = tops[0].abs().max(tops[1].abs());
        if largest > LARGEST_TOP || f64::from(largest) > LARGEST_LN * temperature {
            return if is_guess { Made::Apart } else { Made::InF64 };
        }
        let tops_in_f64 = tops.map(f64::from);
        let mut reference = tops_in_f64[0] - tops_in_f64[1];
        let mut unit = 1.0;
        // Each time the masses are nearer to each other, and less is left to cancel.
        for attempt in 0..3 {
            let terms = Terms::new(tops, reference, unit, temperature);
            let far = attempt == 0 && *manner == Manner::Far;
            let Sums { w, v, s, u, odd } = match far {
                true => terms.far_sums::<FUSED, KEEP>(p, q, weights),
                false => terms.near_sums::<FUSED, KEEP>(p, q, weights),
            };
            if attempt == 0 && odd {
                match self.oddness() {
                    Oddness::None => {}
                    Oddness::ForF64 => return Made::InF64,
                    Oddness::LacksWeights => return Made::LacksWeights,
                }
            }
            if is_guess && !(NEAR_TOPS.contains(&w) && NEAR_TOPS.contains(&v)) {
                return Made::Apart;
            }
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
            return Made::InF32(node, if far { Manner::Far } else { Manner::Near });
        }
        // The numbers are too large for f32.
        Made::InF64
    }

    /// What is behind a difference of the two sides that is odd.
    #[inline(always)]
    fn oddness(self) -> Oddness {
        let Block { p, q, tops, temperature, .. } = self;
        let per_temperature = (1.0 / temperature) as f32;
        let (mut is_for_f64, mut lacks) = (false, false);
        for (&p, &q) in p.iter().zip(q) {
            let [bin_is_for_f64, bin_lacks] = odd_bin([p, q], tops, per_temperature);
            is_for_f64 |= bin_is_for_f64;
            lacks |= bin_lacks;
        }
        match is_for_f64 {
            true => Oddness::ForF64,
            false if lacks => Oddness::LacksWeights,
            false => Oddness::None,
        }
    }
}

/// Whether a bin is for f64, or lacks a weight that counts, as [`Oddness`] has it.
#[inline(always)]
pub(super) fn odd_bin([p, q]: [f32; 2], tops: [f32; 2], per_temperature: f32) -> [bool; 2] {
    // −inf is as good a number as any; NaN and +inf are none.
    let valid = (p < f32::INFINITY) & (q < f32::INFINITY);
    let infinite = (p > f32::NEG_INFINITY) & (q == f32::NEG_INFINITY);
    let (a, b) = (p - tops[0], q - tops[1]);
    let lacks = (a * per_temperature < -85.0) & ((a - b) * per_temperature > FARTHEST);
    [!valid | infinite, lacks]
}

/// What is behind a difference of the two sides of a bin that is no number, or above [`FARTHEST`].
enum Oddness {
    /// Nothing: there is no mass.
    None,
    /// A number that is none of a logarithm, or a bin of P alone.
    ForF64,
    /// P has a bin whose weight is below f32, and Q lacks it so much that it counts all the same: what is
    /// masked by a number may be as far away as 3e38.
    LacksWeights,
}

/// By the temperature.
const FARTHEST: f32 = 1e12;

/// How the terms of a block are made.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Manner {
    /// From the exponentials as they stand: good if the sum is not small.
    Far,
    /// Without cancellation.
    Near,
}

/// The largest number of each side, of those that are numbers. (One side after the other: of a loop over both the
/// compiler makes vectors of two.)
#[inline(always)]
fn tops(p: &[f32], q: &[f32]) -> [f32; 2] {
    [top(p), top(q)]
}

#[inline(always)]
fn top(side: &[f32]) -> f32 {
    let (blocks, rest) = side.as_chunks::<LANES>();
    let mut tops = [f32::NEG_INFINITY; LANES];
    for block in blocks {
        for lane in 0..LANES {
            tops[lane] = larger(block[lane], tops[lane]);
        }
    }
    let top = tops.into_iter().fold(f32::NEG_INFINITY, f32::max);
    rest.iter().fold(top, |top, &x| larger(x, top))
}

/// The larger of a number, which may be none, and another: in one instruction.
#[inline(always)]
pub(super) fn larger(x: f32, than: f32) -> f32 {
    if x > than { x } else { than }
}

/// The last bins of a side, beside others that have no probability.
#[inline(always)]
fn filled_up(rest: &[f32], none: f32) -> [f32; LANES] {
    let mut values = [none; LANES];
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
    /// Whether `y` of a bin is no number, or above [`FARTHEST`].
    odd: bool,
}

/// What the terms of a block have in common, or those of each row of rows side by side.
pub(super) struct Terms<B> {
    tops: [B; 2],
    /// The reference, in the units of the input, in two parts.
    reference: [B; 2],
    unit: B,
    per_temperature: f32,
    temperature: f64,
    /// `log2(e)` by the temperature, in two parts.
    log2_e: [f32; 2],
    /// Numbers below it have no exponential, and all above the other the same, which is far too large.
    least: f32,
    most: f32,
    /// [`FARTHEST`], in the units of the input.
    farthest: f32,
}

/// Has its unit in the last place at 1: what is added to it is rounded to an integer.
pub(super) const ROUND: f32 = 12_582_912.0; // 1.5 · 2^23

impl Terms<f32> {
    fn new(tops: [f32; 2], reference: f64, unit: f64, temperature: f64) -> Terms<f32> {
        Terms::of(tops, in_two_parts(reference), unit as f32, temperature)
    }
}

impl<B: PerLane> Terms<B> {
    #[inline(always)]
    pub(super) fn of(tops: [B; 2], reference: [B; 2], unit: B, temperature: f64) -> Terms<B> {
        let octave = temperature * std::f64::consts::LN_2;
        Terms {
            tops,
            reference,
            unit,
            per_temperature: (1.0 / temperature) as f32,
            temperature,
            log2_e: in_two_parts(1.0 / octave),
            least: (-126.0 * octave) as f32,
            most: (64.0 * octave) as f32,
            farthest: (f64::from(FARTHEST) * temperature).min(f32::MAX.into()) as f32,
        }
    }

    /// From the exponentials as they stand: `Σ w·y`, to which the other two sums are added. The reference is
    /// that of the tops.
    #[inline(always)]
    fn far_sums<const FUSED: bool, const KEEP: bool>(
        &self,
        p: &[f32],
        q: &[f32],
        weights: &mut [&mut [f32]; 2],
    ) -> Sums {
        let (sums, odd) = self.far_in_lanes::<FUSED, KEEP>(p, q, weights);
        let [w, v, y] = sums.map(tree_sum);
        Sums { w, v, s: y / self.temperature + (v - w), u: v - w, odd: any(&odd) }
    }

    /// The sums of `w`, `v` and `w·y` in all lanes, and which had odd numbers.
    #[inline(always)]
    pub(super) fn far_in_lanes<const FUSED: bool, const KEEP: bool>(
        &self,
        p: &[f32],
        q: &[f32],
        [kept_w, kept_v]: &mut [&mut [f32]; 2],
    ) -> ([[f64; LANES]; 3], [u32; LANES]) {
        let mut sums = [[0.0_f64; LANES]; 3];
        let mut odd = [0_u32; LANES];
        for (first, (p, q)) in p.chunks(LANES * CHAIN).zip(q.chunks(LANES * CHAIN)).enumerate() {
            let kept = first * LANES * CHAIN..first * LANES * CHAIN + p.len();
            let kept = if KEEP { kept } else { 0..0 };
            let (w_blocks, w_rest) = kept_w[kept.clone()].as_chunks_mut::<LANES>();
            let (v_blocks, v_rest) = kept_v[kept].as_chunks_mut::<LANES>();
            let mut chains = [[0.0_f32; LANES]; 3];
            let (p_blocks, p_rest) = p.as_chunks();
            let (q_blocks, q_rest) = q.as_chunks();
            for (at, (p, q)) in p_blocks.iter().zip(q_blocks).enumerate() {
                let weights = self.far::<FUSED>(p, q, &mut chains, &mut odd);
                if KEEP {
                    (w_blocks[at], v_blocks[at]) = (weights[0], weights[1]);
                }
            }
            if !p_rest.is_empty() {
                let (p, q) = (filled_up(p_rest, f32::MIN), filled_up(q_rest, f32::MIN));
                let weights = self.far::<FUSED>(&p, &q, &mut chains, &mut odd);
                if KEEP {
                    w_rest.copy_from_slice(&weights[0][..p_rest.len()]);
                    v_rest.copy_from_slice(&weights[1][..p_rest.len()]);
                }
            }
            add(&mut sums, &chains);
        }
        (sums, odd)
    }

    /// Adds `w`, `v` and `w·y` of each bin to chains, the last in the units of the input, and returns `w`, `v` and
    /// `y`.
    #[inline(always)]
    fn far<const FUSED: bool>(
        &self,
        p: &[f32; LANES],
        q: &[f32; LANES],
        [w_chain, v_chain, y_chain]: &mut [[f32; LANES]; 3],
        odd: &mut [u32; LANES],
    ) -> [[f32; LANES]; 3] {
        let mut made = [[0.0; LANES]; 3];
        for lane in 0..LANES {
            let (a, b) = (p[lane] - self.tops[0].at(lane), q[lane] - self.tops[1].at(lane));
            let (w, some_w) = self.exp::<FUSED>(a);
            let (v, _) = self.exp::<FUSED>(b);
            let y = a - b;
            odd[lane] |= self.is_odd(y);
            w_chain[lane] += w;
            v_chain[lane] += v;
            let y = if some_w { y } else { 0.0 };
            y_chain[lane] = mul_add::<FUSED>(w, y, y_chain[lane]);
            (made[0][lane], made[1][lane], made[2][lane]) = (w, v, y);
        }
        made
    }

    /// Whether a difference of the two sides is no number, or above [`FARTHEST`].
    #[inline(always)]
    fn is_odd(&self, y: f32) -> u32 {
        // Written so that NaN is odd.
        if y <= self.farthest { 0 } else { u32::MAX }
    }

    /// The sums of one row to the bits that they have in a lane of [`far_in_lanes`](Terms::far_in_lanes), and whether
    /// it has odd numbers.
    #[inline(always)]
    pub(super) fn far_alone<const FUSED: bool>(&self, p: &[f32], q: &[f32]) -> ([f64; 3], bool) {
        let mut odd = [0_u32; LANES];
        let mut sums = [0.0_f64; 3];
        for (p, q) in p.chunks(LANES).zip(q.chunks(LANES)) {
            let (p_block, q_block) = (filled_up(p, f32::MIN), filled_up(q, f32::MIN));
            let mut none = [[0.0; LANES]; 3];
            let [w, v, y] = self.far::<FUSED>(&p_block, &q_block, &mut none, &mut odd);
            for first in (0..p.len()).step_by(CHAIN) {
                let mut chains = [0.0_f32; 3];
                for bin in first..p.len().min(first + CHAIN) {
                    chains[0] += w[bin];
                    chains[1] += v[bin];
                    chains[2] = mul_add::<FUSED>(w[bin], y[bin], chains[2]);
                }
                sums.iter_mut().zip(chains).for_each(|(sum, chain)| *sum += f64::from(chain));
            }
        }
        (sums, any(&odd))
    }

    /// Without cancellation: `e^−y − 1 + y` from a series near 0, and as it stands elsewhere.
    #[inline(always)]
    fn near_sums<const FUSED: bool, const KEEP: bool>(
        &self,
        p: &[f32],
        q: &[f32],
        weights: &mut [&mut [f32]; 2],
    ) -> Sums {
        let (sums, odd) = self.near_in_lanes::<FUSED, KEEP>(p, q, weights);
        let [w, v, s, u] = sums.map(tree_sum);
        Sums { w, v, s, u, odd: any(&odd) }
    }

    /// The four sums in all lanes, and which had odd numbers.
    #[inline(always)]
    pub(super) fn near_in_lanes<const FUSED: bool, const KEEP: bool>(
        &self,
        p: &[f32],
        q: &[f32],
        [kept_w, kept_v]: &mut [&mut [f32]; 2],
    ) -> ([[f64; LANES]; 4], [u32; LANES]) {
        let mut sums = [[0.0_f64; LANES]; 4];
        let mut odd = [0_u32; LANES];
        for (first, (p, q)) in p.chunks(LANES * CHAIN).zip(q.chunks(LANES * CHAIN)).enumerate() {
            let kept = first * LANES * CHAIN..first * LANES * CHAIN + p.len();
            let kept = if KEEP { kept } else { 0..0 };
            let (w_blocks, w_rest) = kept_w[kept.clone()].as_chunks_mut::<LANES>();
            let (v_blocks, v_rest) = kept_v[kept].as_chunks_mut::<LANES>();
            let mut chains = [[0.0_f32; LANES]; 4];
            let (p_blocks, p_rest) = p.as_chunks();
            let (q_blocks, q_rest) = q.as_chunks();
            for (at, (p, q)) in p_blocks.iter().zip(q_blocks).enumerate() {
                let weights = self.near::<FUSED>(p, q, &mut chains, &mut odd);
                if KEEP {
                    (w_blocks[at], v_blocks[at]) = (weights[0], weights[1]);
                }
            }
            if !p_rest.is_empty() {
                let (p, q) = (filled_up(p_rest, f32::MIN), filled_up(q_rest, f32::MIN));
                let weights = self.near::<FUSED>(&p, &q, &mut chains, &mut odd);
                if KEEP {
                    w_rest.copy_from_slice(&weights[0][..p_rest.len()]);
                    v_rest.copy_from_slice(&weights[1][..p_rest.len()]);
                }
            }
            add(&mut sums, &chains);
        }
        (sums, odd)
    }

    /// The sums of one row to the bits that they have in a lane of [`near_in_lanes`](Terms::near_in_lanes).
    #[inline(always)]
    pub(super) fn near_alone<const FUSED: bool>(&self, p: &[f32], q: &[f32]) -> [f64; 4] {
        let mut sums = [0.0_f64; 4];
        for (p, q) in p.chunks(LANES).zip(q.chunks(LANES)) {
            let (p_block, q_block) = (filled_up(p, f32::MIN), filled_up(q, f32::MIN));
            let mut terms = [[0.0; LANES]; 4];
            self.near::<FUSED>(&p_block, &q_block, &mut terms, &mut [0; LANES]);
            for (sum, terms) in sums.iter_mut().zip(&terms) {
                for chain in terms[..p.len()].chunks(CHAIN) {
                    *sum += f64::from(chain.iter().fold(0.0, |sum, term| sum + term));
                }
            }
        }
        sums
    }

    /// Adds what each bin adds to the four sums to chains, and returns `w` and `v`.
    #[inline(always)]
    fn near<const FUSED: bool>(
        &self,
        p: &[f32; LANES],
        q: &[f32; LANES],
        [w_chain, v_chain, s_chain, u_chain]: &mut [[f32; LANES]; 4],
        odd: &mut [u32; LANES],
    ) -> [[f32; LANES]; 2] {
        let mut weights = [[0.0; LANES]; 2];
        let (mut s, mut u) = ([0.0; LANES], [0.0; LANES]);
        for lane in 0..LANES {
            let (a, b) = (p[lane], q[lane]);
            odd[lane] |= self.is_odd((a - b) - self.reference[0].at(lane));
            let y = self.ln_ratio(a, b, lane);
            let (w, some_w) = self.exp_below::<FUSED>(a, self.tops[0].at(lane));
            let (v, _) = self.exp_below::<FUSED>(b, self.tops[1].at(lane));
            let far_u = mul_add::<FUSED>(v, self.unit.at(lane), -w);
            let far_s = mul_add::<FUSED>(w, if some_w { y } else { 0.0 }, far_u);
            let tail = exp_tail::<FUSED>(y);
            let near = y.abs() <= 1.0;
            w_chain[lane] += w;
            v_chain[lane] += v;
            s[lane] = if near { w * tail } else { far_s };
            u[lane] = if near { w * (tail - y) } else { far_u };
            (weights[0][lane], weights[1][lane]) = (w, v);
        }
        // What is added to memory under a mask has to be waited for.
        for lane in 0..LANES {
            s_chain[lane] += s[lane];
            u_chain[lane] += u[lane];
        }
        weights
    }

    /// `e^(x / temperature)`, but no more than 2^64, and whether that is at least 2^−126: if not, it is 0.
    #[inline(always)]
    fn exp<const FUSED: bool>(&self, x: f32) -> (f32, bool) {
        self.power::<FUSED>(x, |x, k| self.beyond::<FUSED>(x, k))
    }

    /// The same of the difference of two numbers, with what its rounding takes: beside 30 that would be 1e-6 of the
    /// exponential.
    #[inline(always)]
    fn exp_below<const FUSED: bool>(&self, x: f32, top: f32) -> (f32, bool) {
        let (below, rest) = difference(x, top);
        // What is above it counts as that, whatever rounding took: of +inf that is no number.
        let rest = if below > self.most { 0.0 } else { rest };
        self.power::<FUSED>(below, |x, k| {
            mul_add::<FUSED>(rest, self.log2_e[0], self.beyond::<FUSED>(x, k))
        })
    }

    /// 2 to the power of the octaves of a number, from what these are beyond the nearest integer of so much of
    /// the number as counts.
    #[inline(always)]
    fn power<const FUSED: bool>(&self, x: f32, beyond: impl Fn(f32, f32) -> f32) -> (f32, bool) {
        // Above a guess, octaves would pass what an exponent has room for, and come again as others.
        let x = if x > self.most { self.most } else { x };
        let shifted = mul_add::<FUSED>(x, self.log2_e[0], ROUND);
        let r = beyond(x, shifted - ROUND);
        // The lowest bits of `shifted` are those of the integer.
        let scaled = exp2::<FUSED>(r).to_bits().wrapping_add(shifted.to_bits() << 23);
        let some = x >= self.least;
        // As integers, so that one instruction adds and chooses.
        (f32::from_bits(if some { scaled } else { 0 }), some)
    }

    /// The octaves of a number beyond so many.
    #[inline(always)]
    fn beyond<const FUSED: bool>(&self, x: f32, k: f32) -> f32 {
        mul_add::<FUSED>(x, self.log2_e[1], mul_add::<FUSED>(x, self.log2_e[0], -k))
    }
}

/// `2^r` for `|r| ≤ 1/2`: least-squares fit of the relative error on Chebyshev nodes in 40-digit
/// arithmetic, coefficients rounded to f32; relative error below 4e-9 before rounding.
#[inline(always)]
pub(super) fn exp2<const FUSED: bool>(r: f32) -> f32 {
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

/// `e^−y − 1 + y` for `|y| ≤ 1`.
#[inline(always)]
fn exp_tail<const FUSED: bool>(y: f32) -> f32 {
    y * y * exp_curve::<FUSED>(y)
}

/// The same by y²: the same kind of fit; relative error below 6e-9 before rounding.
#[inline(always)]
pub(super) fn exp_curve<const FUSED: bool>(y: f32) -> f32 {
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
    fma(y4, high, low)
}

/// What a side was before it was made probabilities.
#[derive(Clone, Copy)]
pub(super) struct Exponentials {
    pub mass: f64,
    /// Its logarithm, also where it is out of range itself.
    pub ln_mass: f64,
    /// Whether numbers other than −inf have no probability in f32.
    pub some_lost: bool,
}

impl Exponentials {
    /// Of exponentials in units of the largest number's.
    #[inline(always)]
    fn new(sum: f64, top: f32, temperature: f64, lost: u32) -> Exponentials {
        let scale = f64::from(top) / temperature;
        let ln_mass = sum.ln() + scale;
        Exponentials { mass: sum * scale.exp(), ln_mass, some_lost: lost > 0 }
    }

    /// The same of numbers of a kind: logits have a mass of 1, whatever their own.
    #[inline(always)]
    pub(super) fn of_kind(self, kind: Kind) -> Exponentials {
        if kind == Kind::Logits { Exponentials { mass: 1.0, ..self } } else { self }
    }

    /// Whether the logarithm has the digits for a difference of two.
    #[inline(always)]
    pub(super) fn has_small_ln_mass(&self) -> bool {
        self.ln_mass.abs() <= SMALL_LN_MASS
    }
}

const SMALL_LN_MASS: f64 = 65_536.0;

/// The exponentials of a side's numbers, divided by their sum, in f32 to some 1.5e-7 of each. Nothing if a
/// number is none of a logarithm, or none has a probability; nor without fused products, whose rounding
/// would take digits.
#[inline(always)]
pub(super) fn probabilities<const FUSED: bool>(
    numbers: &[f32],
    temperature: f64,
    into: &mut [f32],
) -> Option<Exponentials> {
    let (tops, wrong) = largest(numbers);
    let top = tops.into_iter().fold(f32::NEG_INFINITY, f32::max);
    if !FUSED || top == f32::NEG_INFINITY || any(&wrong) {
        return None;
    }
    let (sums, lost) = exponentials::<FUSED, _>(numbers, &top, temperature, into);
    let sum = tree_sum(sums);
    let by = (1.0 / sum) as f32;
    into.iter_mut().for_each(|weight| *weight *= by);
    Some(Exponentials::new(sum, top, temperature, u32::from(any(&lost))))
}

/// What a side of rows side by side was.
pub(super) struct LaneLogs {
    pub masses: [f64; LANES],
    ln_masses: [f64; LANES],
    lost: [u32; LANES],
    are_sound: [bool; LANES],
}

impl LaneLogs {
    /// That of a lane, unless its numbers have no probabilities.
    #[inline(always)]
    pub(super) fn in_lane(&self, lane: usize) -> Option<Exponentials> {
        let LaneLogs { masses, ln_masses, lost, are_sound } = self;
        are_sound[lane].then_some(Exponentials {
            mass: masses[lane],
            ln_mass: ln_masses[lane],
            some_lost: lost[lane] > 0,
        })
    }

    /// Whether all numbers of each lane have probabilities in f32, and their mass a logarithm with the digits for
    /// a difference.
    #[inline(always)]
    pub(super) fn are_whole(&self) -> [bool; LANES] {
        let LaneLogs { ln_masses, lost, are_sound, .. } = self;
        let mut are_whole = [false; LANES];
        for lane in 0..LANES {
            let is_small = ln_masses[lane].abs() <= SMALL_LN_MASS;
            are_whole[lane] = are_sound[lane] & (lost[lane] == 0) & is_small;
        }
        are_whole
    }
}

/// The same of rows side by side, of numbers of a kind.
#[inline(always)]
pub(super) fn probabilities_side_by_side<const FUSED: bool>(
    kind: Kind,
    numbers: &[f32],
    temperature: f64,
    into: &mut [f32],
) -> LaneLogs {
    let (mut tops, wrong) = largest(numbers);
    let mut are_sound = [FUSED; LANES];
    for lane in 0..LANES {
        are_sound[lane] &= (wrong[lane] == 0) & (tops[lane] > f32::NEG_INFINITY);
        tops[lane] = if are_sound[lane] { tops[lane] } else { 0.0 };
    }
    let (sums, lost) = exponentials::<FUSED, _>(numbers, &tops, temperature, into);
    let mut by = [0.0; LANES];
    for lane in 0..LANES {
        by[lane] = (1.0 / sums[lane]) as f32;
    }
    for weights in into.as_chunks_mut::<LANES>().0 {
        for lane in 0..LANES {
            weights[lane] *= by[lane];
        }
    }
    let (mut masses, mut ln_masses) = ([1.0; LANES], [0.0; LANES]);
    for lane in 0..LANES {
        ln_masses[lane] = term::ln::<FUSED>(sums[lane]) + f64::from(tops[lane]) / temperature;
    }
    if kind != Kind::Logits {
        for lane in 0..LANES {
            let scale = lesser(f64::from(tops[lane]) / temperature, LARGEST_SCALE);
            masses[lane] = sums[lane] * term::exp::<FUSED>(scale);
        }
    }
    LaneLogs { masses, ln_masses, lost, are_sound }
}

/// The largest logarithm with an exponential in f64. Masses of more are infinite in f32 as well.
const LARGEST_SCALE: f64 = 709.0;

/// The largest number of each lane, and whether one is none of a logarithm.
#[inline(always)]
pub(super) fn largest(numbers: &[f32]) -> ([f32; LANES], [u32; LANES]) {
    let (mut tops, mut wrong) = ([f32::NEG_INFINITY; LANES], [0_u32; LANES]);
    for at in 0..numbers.len().div_ceil(LANES) {
        let block = numbers_of(numbers, at);
        for lane in 0..LANES {
            tops[lane] = if block[lane] > tops[lane] { block[lane] } else { tops[lane] };
            wrong[lane] |= u32::from(block[lane].is_nan() | (block[lane] == f32::INFINITY));
        }
    }
    (tops, wrong)
}

/// Exponentials of numbers in units of that of the largest.
pub(super) struct Below {
    terms: Terms<f32>,
}

impl Below {
    #[inline(always)]
    pub(super) fn new(temperature: f64) -> Below {
        Below { terms: Terms::new([0.0; 2], 0.0, 1.0, temperature) }
    }

    /// That of a number, to some 1.5e-7 of it, and whether f32 has it.
    #[inline(always)]
    pub(super) fn exp<const FUSED: bool>(&self, x: f32, top: f32) -> (f32, bool) {
        self.terms.exp_below::<FUSED>(x, top)
    }
}

/// The exponentials of numbers in units of that of the largest, their sums in all lanes, and whether numbers
/// other than −inf have none.
#[inline(always)]
fn exponentials<const FUSED: bool, B: PerLane>(
    numbers: &[f32],
    top: &B,
    temperature: f64,
    into: &mut [f32],
) -> ([f64; LANES], [u32; LANES]) {
    let below = Below::new(temperature);
    let (mut sums, mut lost) = ([[0.0_f64; LANES]], [0_u32; LANES]);
    for (at, place) in into.chunks_mut(LANES).enumerate() {
        let block = numbers_of(numbers, at);
        let mut weights = [0.0; LANES];
        for lane in 0..LANES {
            let (weight, some) = below.exp::<FUSED>(block[lane], top.at(lane));
            weights[lane] = weight;
            lost[lane] |= u32::from(!some & (block[lane] > f32::NEG_INFINITY));
        }
        put(&weights, place);
        // A loop of its own: in one with the other all vectors would be halves.
        add(&mut sums, &[std::hint::black_box(weights)]);
    }
    let [sums] = sums;
    (sums, lost)
}

/// `p − q` of the probabilities that were made of both sides' numbers, from the differences of these, which
/// keep their digits where rounded probabilities do not: `(p + q)·tanh(l/2)` with `l = ln(p/q)`, for which the
/// logarithm of the masses' ratio is taken from the numbers' difference. Swapping P and Q changes its sign
/// and nothing else.
#[inline(always)]
pub(super) fn differences<const FUSED: bool, B: PerLane>(
    numbers: [&[f32]; 2],
    probabilities: [&[f32]; 2],
    reference: &[B; 2],
    temperature: f64,
    into: &mut [f32],
) {
    let per_temperature = (1.0 / temperature) as f32;
    for (at, place) in into.chunks_mut(LANES).enumerate() {
        let (a, b) = (numbers_of(numbers[0], at), numbers_of(numbers[1], at));
        let (p, q) = (block(probabilities[0], at * LANES), block(probabilities[1], at * LANES));
        let mut lanes = [0.0; LANES];
        for lane in 0..LANES {
            let reference = [reference[0].at(lane), reference[1].at(lane)];
            let l = ln_ratio(a[lane], b[lane], reference) * per_temperature;
            let near = (p[lane] + q[lane]) * tanh_half::<FUSED>(l);
            lanes[lane] = if l.abs() <= 1.0 { near } else { p[lane] - q[lane] };
        }
        put(&lanes, place);
    }
}

/// What [`differences`] takes from the numbers': the logarithm of the ratio of the masses, in the units of the
/// numbers and in two parts.
#[inline(always)]
pub(super) fn reference(logs: [Exponentials; 2], temperature: f64) -> [f32; 2] {
    in_two_parts((logs[0].ln_mass - logs[1].ln_mass) * temperature)
}

/// `tanh(y/2)` for `|y| ≤ 1`: a fit as that of [`exp2`]; relative error below 4e-9 before rounding.
#[inline(always)]
fn tanh_half<const FUSED: bool>(y: f32) -> f32 {
    const FIT: [f32; 6] =
        [0.5, -0.041_666_657, 0.004_166_530_4, -0.000_421_038_2, 4.154_744_6e-5, -3.227_333_5e-6];
    let fma = mul_add::<FUSED>;
    let (z, zz) = (y * y, (y * y) * (y * y));
    let high = fma(zz, fma(FIT[5], z, FIT[4]), fma(FIT[3], z, FIT[2]));
    y * fma(zz, high, fma(FIT[1], z, FIT[0]))
}

/// The gradient of a row of up to `SEGMENT` bins whose node is known, in f32: `p·(l − D)` and `q − p`,
/// each times `by`.
///
/// Of a block whose sides are not near each other, `q − p` is a difference of weights, which is good to a unit in
/// the last place of the largest probability. Should that show in the gradient, all of it is made once
/// more from `l`, as is that of blocks in which the two sides are near each other.
pub(super) struct Gradient<'a> {
    pub p: &'a [f32],
    pub q: &'a [f32],
    pub temperature: f64,
    pub node: &'a Node,
    pub by: f64,
    pub kept: &'a mut Kept,
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
pub(super) const LEAST_BESIDE_LN: f64 = 1e-8;
/// The same, by the largest probability alone, where that logarithm is one of masses that are good to 2e-7.
pub(super) const LEAST_OF_MASSES: f64 = 0.025;

impl Gradient<'_> {
    #[inline(always)]
    fn write<const FUSED: bool>(mut self) -> bool {
        if self.kept.lacks_weights {
            return false;
        }
        let mut largest = [0.0_f32; 2];
        for block in 0..self.kept.blocks.len() {
            let of_block = match self.kept.blocks[block] {
                (Some(tops), Manner::Far) => self.far::<FUSED>(block, tops),
                _ => self.near::<FUSED>(block),
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
            for block in 0..self.kept.blocks.len() {
                let of_block = self.near::<FUSED>(block);
                largest = [largest[0].max(of_block[0]), largest[1].max(of_block[1])];
            }
            // Here l shows, which has no more digits than the two parts that it is made of, and no more than the masses
            // have where they were summed as they stand.
            let is_of_masses = self.kept.blocks.iter().any(|block| block.1 == Manner::Far);
            let of_parts = LEAST_BESIDE_LN * (1.0 + self.node.ln_ratio().abs());
            let least = if is_of_masses { LEAST_OF_MASSES } else { of_parts } * self.by.abs();
            let of = [1.0 / w, (1.0 / w).max(1.0 / v)];
            return (0..2).all(|side| {
                let (into, largest) = (&self.into[side], f64::from(largest[side]));
                let has_digits = largest >= least * of[side];
                into.is_empty() || has_digits && stands_out(into, largest as f32, self.top())
            });
        }
        is_sound
    }

    /// The largest probability of both sides, or a little more.
    #[inline(always)]
    fn top(&self) -> f32 {
        let tops = self.kept.blocks.iter().filter_map(|block| block.0);
        let largest = tops.flat_map(|tops| self.probabilities(tops));
        largest.fold(0.0, f64::max) as f32
    }

    /// The bins of a block.
    #[inline(always)]
    fn bins(&self, block: usize) -> Range<usize> {
        block * BLOCK..((block + 1) * BLOCK).min(self.p.len())
    }

    /// What weights that are in units of these numbers are to be multiplied by.
    #[inline(always)]
    fn scales(&self, tops: [f32; 2]) -> [f32; 2] {
        self.probabilities(tops).map(|probability| (self.by * probability) as f32)
    }

    /// Of a number of each side.
    #[inline(always)]
    fn probabilities(&self, numbers: [f32; 2]) -> [f64; 2] {
        let (node, mut probabilities) = (self.node, [0.0; 2]);
        for (side, probability) in probabilities.iter_mut().enumerate() {
            let above = f64::from(numbers[side]) / self.temperature - node.scales[side];
            *probability = above.exp() / node.masses[side];
        }
        probabilities
    }

    /// A block from its weights alone. Returns the largest of both gradients.
    #[inline(always)]
    fn far<const FUSED: bool>(&mut self, block: usize, tops: [f32; 2]) -> [f32; 2] {
        let (bins, node) = (self.bins(block), self.node);
        let apart = (f64::from(tops[0]) - f64::from(tops[1])) / self.temperature;
        let far = Far {
            sides: [&self.p[bins.clone()], &self.q[bins.clone()]],
            weights: [&self.kept.weights[0][bins.clone()], &self.kept.weights[1][bins.clone()]],
            by: self.scales(tops),
            tops,
            less: (node.ln_ratio() - apart + node.divergence()) as f32,
            per_temperature: (1.0 / self.temperature) as f32,
        };
        fill_both::<FUSED>(&mut self.into, bins, &far)
    }

    /// A block without cancellation.
    #[inline(always)]
    fn near<const FUSED: bool>(&mut self, block: usize) -> [f32; 2] {
        let (bins, node, temperature) = (self.bins(block), self.node, self.temperature);
        let tops = match self.kept.blocks[block].0 {
            Some(tops) => tops,
            None => self.weigh::<FUSED>(block),
        };
        let near = Near {
            sides: [&self.p[bins.clone()], &self.q[bins.clone()]],
            weights: [&self.kept.weights[0][bins.clone()], &self.kept.weights[1][bins.clone()]],
            by: self.scales(tops),
            terms: Terms::new(tops, node.ln_ratio() * temperature, 1.0, temperature),
            divergence: node.divergence() as f32,
        };
        fill_both::<FUSED>(&mut self.into, bins, &near)
    }

    /// Makes the weights of a block that f64 took, in units of the largest numbers of the row, and returns these.
    #[cold]
    #[inline(never)]
    fn weigh<const FUSED: bool>(&mut self, block: usize) -> [f32; 2] {
        let bins = self.bins(block);
        // What the scales were made of.
        let tops = self.node.scales.map(|scale| (scale * self.temperature) as f32);
        let terms = Terms::new(tops, 0.0, 1.0, self.temperature);
        for (side, numbers) in [self.p, self.q].into_iter().enumerate() {
            let weights = &mut self.kept.weights[side][bins.clone()];
            for (weight, x) in weights.iter_mut().zip(&numbers[bins.clone()]) {
                *weight = terms.exp::<FUSED>(x - tops[side]).0;
            }
        }
        self.kept.blocks[block].0 = Some(tops);
        tops
    }
}

/// Fills the bins of a block with their derivatives where they are wanted, and returns the largest magnitudes.
#[inline(always)]
fn fill_both<const FUSED: bool>(
    [p, q]: &mut [&mut [f32]; 2],
    bins: Range<usize>,
    block: &impl Derivatives,
) -> [f32; 2] {
    let of_p = if p.is_empty() { 0.0 } else { fill::<FUSED, true>(&mut p[bins.clone()], block) };
    let of_q = if q.is_empty() { 0.0 } else { fill::<FUSED, false>(&mut q[bins], block) };
    [of_p, of_q]
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
        let w = block(self.weights[0], at * LANES);
        let mut lanes = [0.0; LANES];
        if OF_P {
            let (p, q) = (numbers_of(self.sides[0], at), numbers_of(self.sides[1], at));
            for lane in 0..LANES {
                let apart = (p[lane] - tops[0]) - (q[lane] - tops[1]);
                let derivative = w[lane] * by[0] * (apart * per_temperature - less);
                lanes[lane] = if w[lane] > 0.0 { derivative } else { 0.0 };
            }
        } else {
            let v = block(self.weights[1], at * LANES);
            for lane in 0..LANES {
                lanes[lane] = mul_add::<FUSED>(v[lane], by[1], -(w[lane] * by[0]));
            }
        }
        lanes
    }
}

/// A block of which the two sides may be near each other; or rows side by side.
pub(super) struct Near<'a, B> {
    pub sides: [&'a [f32]; 2],
    pub weights: [&'a [f32]; 2],
    pub terms: Terms<B>,
    pub by: [B; 2],
    pub divergence: B,
}

impl<B: PerLane> Near<'_, B> {
    /// Fills places with the derivatives in P or in Q, and returns the largest magnitudes of all lanes.
    #[inline(always)]
    pub(super) fn fill<const FUSED: bool, const OF_P: bool>(
        &self,
        into: &mut [f32],
    ) -> [f32; LANES] {
        fill_in_lanes::<FUSED, OF_P>(into, self)
    }
}

impl<B: PerLane> Derivatives for Near<'_, B> {
    #[inline(always)]
    fn at<const FUSED: bool, const OF_P: bool>(&self, at: usize) -> [f32; LANES] {
        let Near { terms, by, divergence, .. } = self;
        let (p, q) = (numbers_of(self.sides[0], at), numbers_of(self.sides[1], at));
        let (w, v) = (block(self.weights[0], at * LANES), block(self.weights[1], at * LANES));
        let mut lanes = [0.0; LANES];
        for lane in 0..LANES {
            let l = terms.ln_ratio(p[lane], q[lane], lane);
            let (w, v) = (w[lane] * by[0].at(lane), v[lane] * by[1].at(lane));
            if OF_P {
                lanes[lane] = if w > 0.0 { w * (l - divergence.at(lane)) } else { 0.0 };
            } else {
                let near = w * (exp_tail::<FUSED>(l) - l);
                lanes[lane] = if l.abs() <= 1.0 { near } else { v - w };
            }
        }
        lanes
    }
}

impl<B: PerLane> Terms<B> {
    /// `ln(p/q)` of each bin, and 0 where P has nothing.
    #[inline(always)]
    pub(super) fn ln_ratios(&self, [p, q]: [&[f32]; 2], weights: &[f32], into: &mut [f32]) {
        for (at, place) in into.chunks_mut(LANES).enumerate() {
            let (p, q, w) = (numbers_of(p, at), numbers_of(q, at), block(weights, at * LANES));
            let mut lanes = [0.0; LANES];
            for lane in 0..LANES {
                let l = self.ln_ratio(p[lane], q[lane], lane);
                lanes[lane] = if w[lane] > 0.0 { l } else { 0.0 };
            }
            put(&lanes, place);
        }
    }

    /// `ln(p/q)` of a bin in a lane.
    #[inline(always)]
    fn ln_ratio(&self, a: f32, b: f32, lane: usize) -> f32 {
        let reference = [self.reference[0].at(lane), self.reference[1].at(lane)];
        ln_ratio(a, b, reference) * self.per_temperature
    }
}

/// By how much one number is more above another than a reference.
#[inline(always)]
fn ln_ratio(a: f32, b: f32, reference: [f32; 2]) -> f32 {
    let (d, lost) = difference(a, b);
    (d - reference[0]) + (lost - reference[1])
}

/// The difference of two numbers, and what rounding took from it, which is itself a number (Knuth 1969).
#[inline(always)]
fn difference(a: f32, b: f32) -> (f32, f32) {
    let d = a - b;
    let b_seen = d - a;
    (d, (a - (d - b_seen)) - (b + b_seen))
}

/// See [`LEAST_BESIDE_ALL`].
#[inline(always)]
pub(super) fn stands_out(derivatives: &[f32], largest: f32, top: f32) -> bool {
    let least = LEAST_BESIDE_ALL as f32 * top;
    least * derivatives.len() as f32 <= 1.0 || largest >= least * sum_of_magnitudes(derivatives)
}

/// Roughly.
#[inline(always)]
fn sum_of_magnitudes(derivatives: &[f32]) -> f32 {
    let (blocks, rest) = derivatives.as_chunks::<LANES>();
    let mut sums = [0.0_f32; LANES];
    for block in blocks {
        for lane in 0..LANES {
            sums[lane] += block[lane].abs();
        }
    }
    sums.into_iter().chain(rest.iter().map(|x| x.abs())).sum()
}

/// Fills a block with its derivatives, and returns the largest magnitude.
#[inline(always)]
fn fill<const FUSED: bool, const OF_P: bool>(into: &mut [f32], block: &impl Derivatives) -> f32 {
    fill_in_lanes::<FUSED, OF_P>(into, block).into_iter().fold(0.0, f32::max)
}

/// The same for the largest of all lanes.
#[inline(always)]
fn fill_in_lanes<const FUSED: bool, const OF_P: bool>(
    into: &mut [f32],
    block: &impl Derivatives,
) -> [f32; LANES] {
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
    largest
}

/// Some of the numbers of a block; past the end there are none.
#[inline(always)]
pub(super) fn numbers_of(side: &[f32], at: usize) -> [f32; LANES] {
    match side[at * LANES..].first_chunk() {
        Some(lanes) => *lanes,
        None => filled_up(&side[at * LANES..], f32::NEG_INFINITY),
    }
}

pub(super) fn any(lanes: &[u32; LANES]) -> bool {
    lanes.iter().fold(0, |any, lane| any | lane) != 0
}

pub(super) fn in_two_parts(value: f64) -> [f32; 2] {
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

    /// A block whose tops are its own.
    fn own<'a>(p: &'a [f32], q: &'a [f32], temperature: f64) -> Block<'a> {
        Block { p, q, tops: tops(p, q), is_guess: false, temperature }
    }

    /// If it were, each such row would be looked through once more.
    #[test]
    fn what_fills_a_vector_up_is_no_odd_number_of_the_row() {
        let odd = |p: &[f32], q: &[f32]| {
            let terms = Terms::new([-50.0; 2], 0.0, 1.0, 1.0);
            let far = terms.far_sums::<false, false>(p, q, &mut [&mut [][..], &mut []]);
            let near = terms.near_sums::<false, false>(p, q, &mut [&mut [][..], &mut []]);
            assert_eq!(far.odd, near.odd);
            far.odd
        };
        for bins in [1, 15, 16, 17, 40] {
            let side: Vec<f32> = (0..bins).map(|bin| bin as f32 - 90.0).collect();
            assert!(!odd(&side, &side));
            let none = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -2e12];
            for (at, none) in (0..bins).flat_map(|at| none.map(|none| (at, none))) {
                let mut other = side.clone();
                other[at] = none;
                assert!(odd(&side, &other) || none == f32::INFINITY, "{none} at {at} of {bins}");
                assert_eq!(odd(&other, &side), none > 0.0 || none.is_nan(), "{none} at {at}");
                assert!(odd(&other, &other) || none == -2e12, "{none} at {at} of {bins}");
            }
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

    /// One number far below another is all that the two sides differ in, and is not rounded to the places that their
    /// difference has.
    #[test]
    fn of_a_number_far_below_another_no_digit_is_lost() {
        for (bins, step) in
            [2, 16, 17, 64, 65, 300].into_iter().flat_map(|n| [0, 1, 2].map(|x| (n, x)))
        {
            for at in 0..40 {
                let by = |seed: usize| ((at * seed) % 97) as f32 / 97.0;
                let side = |top: f32, other: f32| {
                    let mut side = vec![f32::NEG_INFINITY; bins];
                    (side[0], side[bins - 1]) = (other, top);
                    side
                };
                let p = side(32.0 + by(31), 14.0 + by(17));
                let apart = 1.0 + 0.3 * step as f32;
                let q = side(p[bins - 1] - 0.5, p[0] + apart - 0.5 + 0.01 * by(41));
                assert_same_divergence(&p, &q, &format!("{bins} bins, {apart} apart, {at}"));
            }
        }
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
            matches!(own(&p, &q, temperature).oddness(), Oddness::LacksWeights)
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

    /// Which of two ways a block takes does not show in its sums.
    #[test]
    fn blocks_that_f32_is_right_for_take_it() {
        let made = |block: Block<'_>| {
            block.made::<false, false>(&mut Manner::Far, &mut [&mut [][..], &mut []])
        };
        let attempted = |temperature: f64, p: &[f32], q: &[f32]| {
            let block = own(p, q, temperature);
            match made(block) {
                Made::InF32(_, Manner::Far) => Some(block.tops),
                _ => None,
            }
        };
        let (p, q) = ([0.0_f32, 3.0, 1.0], [2.0_f32, 0.0, 1.0]);
        assert_eq!(attempted(1.0, &p, &q), Some([3.0, 2.0]));
        assert_eq!(attempted(1.0, &p, &[0.1, 2.9, 1.0]), None, "near, which is seen too late");
        assert_eq!(attempted(1.0, &p, &[2.0, f32::NEG_INFINITY, 1.0]), None);
        let none = f32::NEG_INFINITY;
        assert_eq!(attempted(1.0, &[0.0, 3.0, none], &[2.0, 0.0, none]), Some([3.0, 2.0]));
        assert_eq!(attempted(1.0, &[0.0, 3.0, none], &q), Some([3.0, 2.0]));
        // As large as f32 takes, and larger; on either side.
        let up = |side: [f32; 3], by: f32| side.map(|x| x + by);
        let most = LARGEST_TOP - 3.0;
        assert_eq!(attempted(1.0, &up(p, most), &q), Some([LARGEST_TOP, 2.0]));
        assert_eq!(attempted(1.0, &up(p, most + 1.0), &q), None);
        assert_eq!(attempted(1.0, &p, &up(q, most + 2.0)), None);
        assert_eq!(attempted(1.0, &up(p, -most - 8.0), &q), None);
        for side in [[f32::NAN, 0.0, 1.0], [f32::INFINITY, 0.0, 1.0]] {
            for (p, q) in [(&side, &q), (&p, &side)] {
                assert!(matches!(made(own(p, q, 1.0)), Made::InF64), "{p:?}, {q:?}");
                assert!(node(p, q).invalid, "{p:?}, {q:?}");
            }
        }
        // Also where P has no weight that would show it.
        for (of_p, of_q) in
            [none, -120.0].into_iter().flat_map(|p| [f32::NAN, f32::INFINITY].map(|q| (p, q)))
        {
            assert!(node(&[0.0, of_p, 1.0], &[0.0, of_q, 1.0]).invalid, "{of_p} and {of_q}");
        }
        // What was taken for the largest numbers is near enough to them, or not.
        for (by, other_by, want) in [
            (0.0, 0.0, true),
            (7.5, -8.0, true),
            (-7.0, 7.0, true),
            (8.0, 0.0, false),
            (0.0, 8.0, false),
            (-9.0, 0.0, false),
            (0.0, -9.0, false),
            (f32::NEG_INFINITY, 0.0, false),
            (0.0, 1e9, false),
        ] {
            let tops = [3.0 - by, 2.0 - other_by];
            let made = made(Block { tops, is_guess: true, ..own(&p, &q, 1.0) });
            assert_eq!(!matches!(made, Made::Apart), want, "{tops:?}");
        }
    }

    /// Values do not tell which of them were summed for once, but whether what they were taken for was right.
    #[test]
    fn blocks_at_other_levels_than_those_before_have_their_digits() {
        let steps = [
            0.0, 3.0, -5.0, 9.0, 30.0, 30.0, -60.0, 90.0, 200.0, 355.0, 710.0, 1e5, 0.0, -1e6, 2.0,
            -300.0,
        ];
        for by in [1e-4, 0.5, 6.0] {
            for (p_step, q_step) in [(1.0, 1.0), (1.0, 0.5), (0.0, 0.1), (0.05, 0.0)] {
                let [mut p, mut q] = sides(steps.len() * BLOCK - 5, by, 0.25);
                for (at, step) in steps.into_iter().enumerate() {
                    let of = at * BLOCK..p.len().min((at + 1) * BLOCK);
                    p[of.clone()].iter_mut().for_each(|x| *x += p_step * step);
                    q[of].iter_mut().for_each(|x| *x += q_step * step);
                }
                assert_same_divergence(&p, &q, &format!("{by}, steps by {p_step} and {q_step}"));
            }
        }
    }

    /// Peaks and levels at random, by temperatures at which they are anything from nothing to all of the mass.
    #[test]
    fn random_blocks_have_the_divergence_of_f64() {
        let mut state = 1_u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32
        };
        for round in 0..60 {
            let bins = 2 * BLOCK + 1 + (random() * 4096.0) as usize;
            let [mut p, mut q] = sides(bins, 6.0 * random(), 3.0 * random());
            for block in 0..bins.div_ceil(BLOCK) {
                let of = block * BLOCK..bins.min((block + 1) * BLOCK);
                let (level, apart) = (20.0 * random() - 10.0, 2.0 * random());
                p[of.clone()].iter_mut().for_each(|x| *x += level);
                q[of.clone()].iter_mut().for_each(|x| *x += level + apart);
                let peak = of.start + (random() * (of.len() - 1) as f32) as usize;
                (p[peak], q[peak]) = (p[peak] + 30.0 * random(), q[peak] + 30.0 * random());
            }
            for temperature in [0.01, 0.1, 1.0, 10.0] {
                let divergence = |p: &[f32], q: &[f32]| {
                    let got = Segment { p, q, temperature }.dispatch();
                    let (p, q) = (p.chunks(1 << 12), q.chunks(1 << 12));
                    let parts = p.zip(q).map(|(p, q)| chain::of_logs(p, q, temperature));
                    (got.divergence(), chain::root(parts.collect()).divergence())
                };
                let (got, want) = divergence(&p, &q);
                // What is nearer to 0 takes a closer look.
                let is_right = (got - want).abs() <= 1e-6 * want || got.max(want) < 1e-13;
                assert!(is_right, "{round}: {got:e}, not {want:e}, by {temperature}");
                assert_eq!(divergence(&p, &p).0, 0.0, "{round}, by {temperature}");
            }
        }
    }

    /// They tell the gradient how large the largest probabilities are, and no digit is lost to a guess.
    #[test]
    fn what_is_kept_is_in_units_of_the_largest_numbers() {
        for (by, manner) in [(12.0, Manner::Far), (1e-3, Manner::Near)] {
            let [mut p, mut q] = sides(3 * BLOCK + 5, by, 0.25);
            (p[2 * BLOCK + 5], q[3 * BLOCK - 1]) = (9.0, 9.25);
            let kept = &mut Kept::default();
            let node = Keeping { p: &p, q: &q, temperature: 2.0, kept }.dispatch();
            assert_eq!(node.scales, [4.5, 4.625]);
            let blocks = p.chunks(BLOCK).zip(q.chunks(BLOCK));
            let own: Vec<_> = blocks.map(|(p, q)| (Some(tops(p, q)), manner)).collect();
            // The third has most of its mass in bins that are far apart.
            assert_eq!(kept.blocks[..2], own[..2]);
            assert_eq!(kept.blocks[3], own[3]);
            for (at, (block, _)) in own.into_iter().enumerate() {
                let tops = block.unwrap();
                for bin in at * BLOCK..p.len().min((at + 1) * BLOCK) {
                    let want = [p[bin] - tops[0], q[bin] - tops[1]].map(|x| (x / 2.0).exp());
                    for (kept, want) in kept.weights.iter().zip(want) {
                        assert!((kept[bin] - want).abs() <= 1e-6 * want, "{manner:?}, {bin}");
                    }
                }
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
                    let none = &mut [&mut [][..], &mut []];
                    let got = match is_far {
                        true => [
                            terms.far_sums::<true, false>(&p, &q, none),
                            terms.far_sums::<false, false>(&p, &q, none),
                        ],
                        false => [
                            terms.near_sums::<true, false>(&p, &q, none),
                            terms.near_sums::<false, false>(&p, &q, none),
                        ],
                    };
                    let what = format!("{bins} bins, {by}, {is_far}, {reference}: {got:?}");
                    for got in &got {
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
            size.s += s + seen;
            size.u += u.abs() + seen;
            let (w, v, s, u) = (want.w + w, want.v + v, want.s + s, want.u + u);
            want = Sums { w, v, s, u, odd: false };
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
                    let others = vec![9.0; bins];
                    let ([top, _], [other, _]) = (tops(&side, &others), tops(&others, &side));
                    assert_eq!(other, 9.0);
                    assert_eq!(tops(&others, &side)[1], top);
                    top
                };
                for number in [-3.0, f32::MAX, f32::INFINITY] {
                    assert_eq!(top(number), number);
                }
                let of_others = if bins == 1 { f32::NEG_INFINITY } else { -7.0 };
                assert_eq!([f32::NAN, f32::NEG_INFINITY].map(top), [of_others; 2]);
            }
        }
    }

    /// A number so far above the others that, taken for one of them, it has no exponential.
    #[test]
    fn a_row_may_have_its_largest_number_anywhere() {
        let numbers = [7.5, 12.0, 60.0, 88.0, 90.0, 120.0, 150.0, 180.0, 200.0, 270.0, 300.0];
        let larger = [355.0, 360.0, 450.0, 710.0, 1e4, 6e4, 1e9, 3e38];
        let [p, q] = sides(2200, 0.1, 0.0);
        for at in [0, 100, 127, 128, 255, 256, 299, 2047, 2048, 2175, 2176, 2199] {
            for number in numbers.into_iter().chain(larger) {
                let mut larger = p.clone();
                larger[at] = number;
                assert_same_divergence(&larger, &q, &format!("P is {number} at {at}"));
                assert_same_divergence(&q, &larger, &format!("Q is {number} at {at}"));
            }
        }
        // In a block whose largest number is guessed, beside a bin without weight, of a row next to the other.
        let [p, q] =
            sides(6144, 1e-3, 0.0).map(|side| side.iter().map(|x| x + 1e4).collect::<Vec<_>>());
        for at in [2048, 3000, 6143] {
            for none in [f32::NEG_INFINITY, -1e4] {
                let (mut masked, mut larger) = (p.clone(), q.clone());
                masked[at] = none;
                for number in [1.1e4, 6e4, 1e30] {
                    larger[at] = number;
                    assert_same_divergence(
                        &masked,
                        &larger,
                        &format!("{none} and {number} at {at}"),
                    );
                    assert_same_divergence(
                        &larger,
                        &masked,
                        &format!("{number} and {none} at {at}"),
                    );
                }
                larger[at] = f32::INFINITY;
                assert!(node(&masked, &larger).invalid, "{none} and +inf at {at}");
                assert!(node(&larger, &masked).invalid, "+inf and {none} at {at}");
            }
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
