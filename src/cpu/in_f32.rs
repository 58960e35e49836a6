//! Rows in f32, for those that it is right for: of numbers of at most 32 bits that are divided by their
//! masses. Logarithms are made probabilities first, which takes a digit or two of their differences. A row is
//! looked at, and gone through once more by the [`Method`] of a divergence, from the cache. What lacks digits in
//! f32 is left to [`family`](super::family).

use std::marker::PhantomData;

use super::entropy::{CrossEntropy, Entropy};
use super::form::{self, Form, OfForm, WithForm};
use super::logs::{self, Exponentials, widen};
use super::sums::LANES;
use crate::Divergence;
use crate::batch::{Batch, Mass};
use crate::chain::tree_sum;
use crate::element::Element;
use crate::error::Side;
use crate::kind::Kind;
use crate::sums::DOUBT;
use crate::term::Term;
use crate::verdict::{Judged, refused_mass};

/// Blocks of lanes that are added one after the other, before f64 takes over.
pub(super) const CHAIN: usize = 8;
/// The most bins of a row: one thread goes through all of them.
pub(super) const LONGEST: usize = 1 << 18;

pub(super) type Vector = [f32; LANES];

/// Whether the rows of a batch are of this sort.
pub(super) fn takes<T: Element>(batch: &Batch<'_, T>) -> bool {
    let kinds = [Side::P, Side::Q].map(|side| batch.kind(side));
    let policy = matches!(batch.mass(), Mass::Check | Mass::Normalize);
    let divided = policy || kinds == [Kind::Logits; 2];
    let in_f32 = size_of::<T::Value>() == size_of::<f32>();
    in_f32 && divided && batch.bin_weights().is_none() && batch.bins() <= LONGEST
}

/// How a divergence is made of a row.
pub(super) trait Method {
    /// The verdict on the row, if f32 is right for it.
    fn judged<T: Element, N: Element, const FUSED: bool>(row: &Row<'_, '_, T, N>)
    -> Option<Judged>;
}

/// A divergence that has a method.
#[derive(Clone, Copy)]
pub(super) struct Judge<T: Element> {
    divergence: Divergence,
    /// See [`Row::factor`].
    factor: f64,
    method: fn(Judging<'_, '_, T>) -> Option<Judged>,
}

impl<T: Element> Judge<T> {
    /// The one of a divergence, if it has a method.
    pub(super) fn of(divergence: Divergence) -> Option<Judge<T>> {
        match divergence {
            Divergence::CrossEntropy => Some(Judge::by::<CrossEntropy>(divergence, 1.0)),
            Divergence::Entropy => Some(Judge::by::<Entropy>(divergence, 1.0)),
            _ => form::with_form(divergence, ByForm { divergence, of: PhantomData }),
        }
    }

    fn by<M: Method>(divergence: Divergence, factor: f64) -> Judge<T> {
        Judge { divergence, factor, method: judged::<T, M> }
    }

    /// The verdict on a row, if f32 is right for it.
    pub(super) fn judged(&self, batch: &Batch<'_, T>, sides: &Sides<'_, T>) -> Option<Judged> {
        let Judge { divergence, factor, method } = *self;
        method(Judging { divergence, factor, batch, sides })
    }
}

struct ByForm<T> {
    divergence: Divergence,
    of: PhantomData<T>,
}

impl<T: Element> WithForm for ByForm<T> {
    type Output = Judge<T>;

    fn with<F: Form>(self, factor: f64) -> Judge<T> {
        Judge::by::<OfForm<F>>(self.divergence, factor)
    }
}

/// A row that is to be judged.
struct Judging<'a, 'b, T> {
    divergence: Divergence,
    factor: f64,
    batch: &'a Batch<'b, T>,
    sides: &'a Sides<'a, T>,
}

fn judged<T: Element, M: Method>(row: Judging<'_, '_, T>) -> Option<Judged> {
    pulp::Arch::new().dispatch(By { row, method: PhantomData::<M> })
}

struct By<'a, 'b, T, M> {
    row: Judging<'a, 'b, T>,
    method: PhantomData<M>,
}

impl<T: Element, M: Method> pulp::WithSimd for By<'_, '_, T, M> {
    type Output = Option<Judged>;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> Option<Judged> {
        if S::IS_SCALAR { self.row.judged::<M, false>() } else { self.row.judged::<M, true>() }
    }
}

impl<T: Element> Judging<'_, '_, T> {
    #[inline(always)]
    fn judged<M: Method, const FUSED: bool>(self) -> Option<Judged> {
        let Judging { divergence, factor, batch, sides } = self;
        match *sides {
            Sides::Given([p, q]) => {
                let logs = [None; 2];
                M::judged::<T, T, FUSED>(&Row { divergence, batch, factor, p, q, logs })
            }
            Sides::Made([p, q], logs) => {
                M::judged::<T, f32, FUSED>(&Row { divergence, batch, factor, p, q, logs })
            }
        }
    }
}

/// The probabilities of a row.
pub(super) enum Sides<'a, T> {
    /// As they were given.
    Given([&'a [T]; 2]),
    /// Made of logarithms, which were that.
    Made([&'a [f32]; 2], [Option<Exponentials>; 2]),
}

impl<'a, T: Element> Sides<'a, T> {
    /// Those of two sides that a batch has, if logarithms among them can be made probabilities.
    pub(super) fn of(
        batch: &Batch<'_, T>,
        numbers: [&'a [T]; 2],
        space: &'a mut Space,
    ) -> Option<Sides<'a, T>> {
        if batch.is_probs() {
            return Some(Sides::Given(numbers));
        }
        let logs = pulp::Arch::new().dispatch(Making { batch, numbers, space })?;
        Some(Sides::Made(space.each_ref().map(|side| &side[..]), logs))
    }
}

/// A row: the divergence, the batch that it is one of, and probabilities.
pub(super) struct Row<'a, 'b, T, N> {
    pub divergence: Divergence,
    pub batch: &'a Batch<'b, T>,
    /// What its sums are to be multiplied by.
    pub factor: f64,
    pub p: &'a [N],
    pub q: &'a [N],
    /// What logarithms were, that the probabilities were made of.
    pub logs: [Option<Exponentials>; 2],
}

impl<T: Element, N: Element> Row<'_, '_, T, N> {
    /// What a look at it finds, and its masses, if f32 may be right for it.
    #[inline(always)]
    pub(super) fn looked(&self) -> Option<(Look, [f64; 2])> {
        let Row { divergence, batch, p, q, logs, .. } = *self;
        let look = Look::at::<N>(p, q);
        // What is too small for a number makes no difference, unless the lack of it makes an infinite one.
        if look.is_strange() || self.some_lost() && divergence.is_infinite([true; 2], look.both > 0)
        {
            return None;
        }
        let sums = look.masses;
        let masses = [0, 1].map(|side: usize| logs[side].map_or(sums[side], |logs| logs.mass));
        let doubtful = |mass: f64| ((mass - 1.0).abs() - batch.mass_tolerance()).abs() < DOUBT;
        let on_the_edge = batch.mass() == Mass::Check && masses.into_iter().any(doubtful);
        let faint = sums.into_iter().any(|sum| sum < f32::FAINT);
        let is_sound = !on_the_edge && !faint && refused_mass(batch, masses).is_none();
        is_sound.then_some((look, masses))
    }

    /// Whether logarithms were of numbers that f32 has not.
    #[inline(always)]
    pub(super) fn some_lost(&self) -> bool {
        self.logs.iter().flatten().any(|logs| logs.some_lost)
    }
}

/// Memory for a row's probabilities.
pub(super) type Space = [Vec<f32>; 2];

/// The sides of a row that are to be made probabilities.
pub(super) struct Making<'a, 'b, 's, T> {
    pub batch: &'a Batch<'b, T>,
    pub numbers: [&'a [T]; 2],
    pub space: &'s mut Space,
}

impl<T: Element> pulp::WithSimd for Making<'_, '_, '_, T> {
    type Output = Option<[Option<Exponentials>; 2]>;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> Self::Output {
        if S::IS_SCALAR { self.made::<false>() } else { self.made::<true>() }
    }
}

impl<T: Element> Making<'_, '_, '_, T> {
    /// Makes each side whose numbers are logarithms probabilities in f32, with a mass of 1.
    #[inline(always)]
    pub(super) fn made<const FUSED: bool>(self) -> Option<[Option<Exponentials>; 2]> {
        let Making { batch, numbers, space } = self;
        let mut logs = [None; 2];
        for (at, side) in [Side::P, Side::Q].into_iter().enumerate() {
            let (numbers, into) = (numbers[at], &mut space[at]);
            into.resize(numbers.len(), 0.0);
            logs[at] = match batch.kind(side) {
                Kind::Probs => {
                    into.iter_mut().zip(numbers).for_each(|(to, x)| *to = x.to_f32());
                    None
                }
                Kind::LogProbs => Some(logs::probabilities::<T, FUSED>(numbers, 1.0, into)?),
                Kind::Logits => {
                    let temperature = batch.temperature();
                    let made = logs::probabilities::<T, FUSED>(numbers, temperature, into)?;
                    Some(Exponentials { mass: 1.0, ..made })
                }
            };
        }
        Some(logs)
    }
}

/// What a first look at a row finds.
pub(super) struct Look {
    /// Of the probabilities.
    pub masses: [f64; 2],
    /// Of the masses, summed by itself.
    pub difference: f64,
    /// Whether bins have mass on one side alone.
    pub alone: [bool; 2],
    /// How many have mass on both.
    pub both: u32,
    strange: u32,
}

impl Look {
    #[inline(always)]
    fn at<T: Element>(p: &[T], q: &[T]) -> Look {
        let mut sums = [[0.0_f64; LANES]; 3];
        // Bits that all numbers but 0 and the usual ones have, and whether there are bins of P alone and of
        // Q alone, and how many of both.
        let (mut strange, mut found) = ([0_u32; LANES], [[0_u32; LANES]; 3]);
        let mut first = 0;
        while first < p.len() {
            let mut chains = [[0.0_f32; LANES]; 3];
            for at in (first..p.len().min(first + CHAIN * LANES)).step_by(LANES) {
                let (p, q) = (block(p, at), block(q, at));
                for lane in 0..LANES {
                    let (p, q) = (p[lane], q[lane]);
                    let (on_p, on_q) = (u32::from(p != 0.0), u32::from(q != 0.0));
                    strange[lane] |= is_odd(p) | is_odd(q);
                    found[0][lane] |= on_p & !on_q;
                    found[1][lane] |= on_q & !on_p;
                    found[2][lane] += on_p & on_q;
                    chains[0][lane] += p;
                    chains[1][lane] += q;
                    chains[2][lane] += p - q;
                }
            }
            for (sums, chains) in sums.iter_mut().zip(&chains) {
                for lane in 0..LANES {
                    sums[lane] += f64::from(chains[lane]);
                }
            }
            first += CHAIN * LANES;
        }
        let any = |lanes: &[u32; LANES]| lanes.iter().fold(0, |any, lane| any | lane);
        Look {
            masses: [tree_sum(sums[0]), tree_sum(sums[1])],
            difference: tree_sum(sums[2]),
            alone: [any(&found[0]) != 0, any(&found[1]) != 0],
            both: found[2].iter().sum(),
            strange: any(&strange),
        }
    }

    fn is_strange(&self) -> bool {
        self.strange & f32::STRANGE != 0
    }
}

/// Has bits of [`Term::STRANGE`] unless the number is 0 or usual.
#[inline(always)]
fn is_odd(x: f32) -> u32 {
    if x.to_bits() == 0 { 0 } else { x.strangeness() }
}

/// The bins from one on, and zeros behind the last.
#[inline(always)]
pub(super) fn block<T: Element>(row: &[T], at: usize) -> Vector {
    match row[at..].first_chunk::<LANES>() {
        Some(whole) => widen(whole),
        None => {
            let mut block = [T::default(); LANES];
            block.iter_mut().zip(&row[at..]).for_each(|(to, bin)| *to = *bin);
            widen(&block)
        }
    }
}

/// The verdict on a row of a batch, with fused products.
#[cfg(test)]
pub(super) fn judged_in_f32<M: Method>(
    divergence: Divergence,
    factor: f64,
    batch: &Batch<'_, f32>,
    row: usize,
) -> Option<Judged> {
    let (p, q) = (batch.packed(Side::P, row), batch.packed(Side::Q, row));
    let mut space = Space::default();
    let numbers: [&[f32]; 2] = [&p, &q];
    if batch.is_probs() {
        let sides = &Sides::Given(numbers);
        return Judging { divergence, factor, batch, sides }.judged::<M, true>();
    }
    let logs = Making { batch, numbers, space: &mut space }.made::<true>()?;
    let sides = &Sides::Made([&space[0], &space[1]], logs);
    Judging { divergence, factor, batch, sides }.judged::<M, true>()
}
