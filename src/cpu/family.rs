//! Rows of any divergences on the CPU, several of the same batch in one go: in f64, from the bins as
//! [`bins`](super::bins) has them.

use rayon::prelude::*;

use super::bins::{BLOCK, Block, LANES, Look, Reading, Scale};
use super::rows::rows_per_task;
use crate::batch::Batch;
use crate::chain::tree_sum;
use crate::element::Element;
use crate::error::Side;
use crate::integrand::{Bin, Integrand, Power, UNIT, jensen_shannon, kl, overlap};
use crate::outcome::{Slots, in_common_tasks};
use crate::verdict::{Judged, Verdict, refused_mass};
use crate::{Divergence, Error, Outcome};

/// Bins of a long row that one task takes.
const SEGMENT: usize = 1 << 16;

type Vector = [f64; LANES];

/// One outcome for each divergence.
pub(super) fn outcomes<T: Element>(
    divergences: &[Divergence],
    batch: &Batch<'_, T>,
) -> Result<Vec<Outcome<T::Value>>, Error> {
    let family = Family::new(divergences, batch);
    let new = |_: &Divergence| Outcome::of(batch, "cpu");
    let mut outcomes = divergences.iter().map(new).collect::<Result<Vec<_>, _>>()?;
    let rows_per_task = rows_per_task(batch.bins());
    let arch = pulp::Arch::new();
    in_common_tasks(&mut outcomes, rows_per_task, |first, slots| {
        arch.dispatch(Rows { family: &family, batch, first, slots });
    });
    Ok(outcomes)
}

/// The results of one row, in f64: what is made of it where a device lacks digits.
pub(crate) fn closer_look<T: Element>(
    divergence: Divergence,
    batch: &Batch<'_, T>,
    row: usize,
) -> Judged {
    let family = Family::new(&[divergence], batch);
    let (p, q) = (batch.packed(Side::P, row), batch.packed(Side::Q, row));
    pulp::Arch::new().dispatch(OneRow { family: &family, batch, row, p: &p, q: &q })
}

/// What is asked of each row.
struct Family {
    divergences: Vec<Divergence>,
    /// The sums that each is made of, by their places among the terms.
    places: Vec<[Option<usize>; 2]>,
    terms: Vec<(Integrand, Power)>,
    reading: Reading,
}

impl Family {
    fn new<T: Element>(divergences: &[Divergence], batch: &Batch<'_, T>) -> Family {
        let mut terms: Vec<(Integrand, Power)> = Vec::new();
        let mut place = |integrand: Integrand| {
            let known = terms.iter().position(|&(known, _)| known == integrand);
            known.unwrap_or_else(|| {
                let order = if let Integrand::Power(order) = integrand { order } else { 0.5 };
                terms.push((integrand, Power::new(order)));
                terms.len() - 1
            })
        };
        let places = divergences.iter().map(|divergence| {
            let [sum, overlap] = divergence.integrands();
            [sum.map(&mut place), overlap.map(&mut place)]
        });
        let places = places.collect();
        let needs_logs = terms.iter().any(|(integrand, _)| integrand.needs_ln_p());
        let needs_l = needs_logs || terms.iter().any(|(integrand, _)| integrand.needs_l());
        let reading = Reading::of(batch, needs_l, needs_logs);
        Family { divergences: divergences.to_vec(), places, terms, reading }
    }

    /// The verdict on each divergence of a row that was summed.
    fn judge<T: Element>(
        &self,
        batch: &Batch<'_, T>,
        sums: &Sums,
        masses: [f64; 2],
        ln_overlap: impl Fn(f64) -> f64,
    ) -> impl Iterator<Item = Judged> {
        self.divergences.iter().zip(&self.places).map(move |(divergence, &[sum, overlap])| {
            let verdict = if divergence.is_infinite(sums.alone, sums.both) {
                Verdict::Infinite
            } else {
                let total = |place: usize| sums.total(place, self.terms[place].0);
                let overlap = overlap.map_or(0.0, |place| match (total(place), self.terms[place].0) {
                    (sum, _) if (1e-100..1e300).contains(&sum) => sum.ln(),
                    (_, Integrand::Overlap(order)) => ln_overlap(order),
                    _ => 0.0,
                });
                Verdict::Value(divergence.of_sums(sum.map_or(0.0, total), overlap, batch.mass()))
            };
            Judged { verdict, masses }
        })
    }
}

/// The sums of a row, or of some bins of it.
struct Sums {
    /// One for each term; of [`Integrand::Largest`] the maxima.
    terms: Vec<Vector>,
    /// The probabilities in bins of one side alone.
    only: [Vector; 2],
    /// Whether there are such bins, and any of both.
    alone: [bool; 2],
    both: bool,
}

impl Sums {
    fn new(family: &Family) -> Sums {
        let none = [0.0; LANES];
        let terms = vec![none; family.terms.len()];
        Sums { terms, only: [none; 2], alone: [false; 2], both: false }
    }

    fn clear(&mut self) {
        let none = [0.0; LANES];
        self.terms.fill(none);
        (self.only, self.alone, self.both) = ([none; 2], [false; 2], false);
    }

    /// Adds the bins of a row.
    #[inline(always)]
    fn add<T: Element, const FUSED: bool>(
        &mut self,
        family: &Family,
        scale: &Scale,
        block: &mut Block,
        (p, q): (&[T], &[T]),
    ) {
        for (p, q) in p.chunks(BLOCK).zip(q.chunks(BLOCK)) {
            let vectors = block.fill::<T, FUSED>(scale, p, q);
            for (sums, &(integrand, power)) in self.terms.iter_mut().zip(&family.terms) {
                add_terms::<FUSED>(sums, block, vectors, integrand, &power);
            }
            for side in 0..2 {
                add_vector(&mut self.only[side], &block.only()[side]);
                self.alone[side] |= block.lone()[side].contains(&1.0);
            }
            for at in 0..vectors {
                self.both |= block.both(at).contains(&1.0);
            }
        }
    }

    fn merge(&mut self, family: &Family, later: &Sums) {
        for (at, &(integrand, _)) in family.terms.iter().enumerate() {
            for lane in 0..LANES {
                let (one, other) = (&mut self.terms[at][lane], later.terms[at][lane]);
                *one = if integrand == Integrand::Largest { one.max(other) } else { *one + other };
            }
        }
        for side in 0..2 {
            add_vector(&mut self.only[side], &later.only[side]);
            self.alone[side] |= later.alone[side];
        }
        self.both |= later.both;
    }

    /// A sum over all bins, of which there are none that make it infinite.
    fn total(&self, place: usize, integrand: Integrand) -> f64 {
        if integrand == Integrand::Largest {
            return self.terms[place].into_iter().fold(0.0, f64::max);
        }
        let mut total = tree_sum(self.terms[place]);
        for (only, by) in self.only.into_iter().zip(integrand.alone()) {
            let only = tree_sum(only);
            if only > 0.0 {
                total += only * by;
            }
        }
        total / UNIT
    }
}

#[inline(always)]
fn add_vector(sums: &mut Vector, more: &Vector) {
    for lane in 0..LANES {
        sums[lane] += more[lane];
    }
}

/// Adds what the bins of a block come to in one integrand: the formulas that there are, in one place.
#[inline(always)]
fn add_terms<const FUSED: bool>(
    sums: &mut Vector,
    block: &Block,
    vectors: usize,
    integrand: Integrand,
    power: &Power,
) {
    match integrand {
        Integrand::Kl => add_each(sums, block, vectors, kl::<FUSED>),
        Integrand::ReverseKl => add_each(sums, block, vectors, |bin| kl::<FUSED>(bin.swapped())),
        Integrand::Jeffreys => add_each(sums, block, vectors, |bin| bin.n * bin.l),
        Integrand::JensenShannon(w) => {
            add_each(sums, block, vectors, |bin| jensen_shannon::<FUSED>(bin, w));
        }
        Integrand::Power(_) => add_each(sums, block, vectors, |bin| power.term(bin)),
        Integrand::Overlap(order) => add_each(sums, block, vectors, |bin| overlap(bin, order)),
        Integrand::Unmatched => {}
        Integrand::Largest => {
            for at in 0..vectors {
                for lane in 0..LANES {
                    sums[lane] = sums[lane].max(block.bin(at, lane).l);
                }
            }
        }
        Integrand::Variation => add_each(sums, block, vectors, |bin| 0.5 * bin.n.abs()),
        Integrand::ChiSquared => add_each(sums, block, vectors, |bin| bin.n * (bin.n / bin.q)),
        Integrand::CrossEntropy => {
            (0..vectors).for_each(|at| add_vector(sums, block.cross(at)));
        }
        Integrand::Entropy => {
            (0..vectors).for_each(|at| add_vector(sums, block.entropy(at)));
        }
    }
}

#[inline(always)]
fn add_each(sums: &mut Vector, block: &Block, vectors: usize, term: impl Fn(Bin) -> f64) {
    for at in 0..vectors {
        for lane in 0..LANES {
            sums[lane] += term(block.bin(at, lane));
        }
    }
}

/// Some rows, whose results have their places in several outcomes.
struct Rows<'a, 'b, T: Element> {
    family: &'a Family,
    batch: &'a Batch<'b, T>,
    first: usize,
    slots: Vec<Slots<'a, T::Value>>,
}

impl<T: Element> pulp::WithSimd for Rows<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        if S::IS_SCALAR { self.settle::<false>() } else { self.settle::<true>() }
    }
}

impl<T: Element> Rows<'_, '_, T> {
    #[inline(always)]
    fn settle<const FUSED: bool>(mut self) {
        let (mut sums, mut block) = (Sums::new(self.family), Block::new());
        let mut space = [Vec::new(), Vec::new()];
        let rows = self.slots.first().map_or(0, |slots| slots.values.len());
        for at in 0..rows {
            let row = self.first + at;
            let [p_space, q_space] = &mut space;
            let p = self.batch.packed_rows(Side::P, row..row + 1, p_space);
            let q = self.batch.packed_rows(Side::Q, row..row + 1, q_space);
            let look = summed::<T, FUSED>(self.family, &mut sums, &mut block, (p, q));
            let family = self.family;
            each(family, self.batch, row, &look, &sums, (p, q), |place, judged| {
                self.slots[place].put(at, judged.row());
            });
        }
    }
}

/// One row, of which one divergence is wanted.
struct OneRow<'a, 'b, T: Element> {
    family: &'a Family,
    batch: &'a Batch<'b, T>,
    row: usize,
    p: &'a [T],
    q: &'a [T],
}

impl<T: Element> pulp::WithSimd for OneRow<'_, '_, T> {
    type Output = Judged;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> Judged {
        let OneRow { family, batch, row, p, q } = self;
        let (mut sums, mut block) = (Sums::new(family), Block::new());
        let look = match S::IS_SCALAR {
            true => summed::<T, false>(family, &mut sums, &mut block, (p, q)),
            false => summed::<T, true>(family, &mut sums, &mut block, (p, q)),
        };
        let mut found = Judged { verdict: Verdict::Infinite, masses: [f64::NAN; 2] };
        each(family, batch, row, &look, &sums, (p, q), |_, judged| found = judged);
        found
    }
}

/// Hands out the verdict on each divergence of a row.
fn each<T: Element>(
    family: &Family,
    batch: &Batch<'_, T>,
    row: usize,
    look: &Look,
    sums: &Sums,
    (p, q): (&[T], &[T]),
    mut take: impl FnMut(usize, Judged),
) {
    let masses = look.masses(&family.reading);
    let refused = match look.is_invalid() {
        true => batch.offender(row).map(|offender| Judged::invalid(&offender)),
        false => refused_mass(batch, masses)
            .map(|(side, rule)| Judged { verdict: Verdict::Invalid(side, rule), masses }),
    };
    if let Some(refused) = refused {
        return (0..family.divergences.len()).for_each(|place| take(place, refused));
    }
    let ln_overlap = |order| ln_overlap(&family.reading, look, (p, q), order);
    for (place, judged) in family.judge(batch, sums, masses, ln_overlap).enumerate() {
        take(place, judged);
    }
}

/// Sums the bins of a row, unless it is found to have no meaning before.
#[inline(always)]
fn summed<T: Element, const FUSED: bool>(
    family: &Family,
    sums: &mut Sums,
    block: &mut Block,
    (p, q): (&[T], &[T]),
) -> Look {
    sums.clear();
    let reading = family.reading;
    if p.len() > SEGMENT {
        return long_row(family, sums, (p, q));
    }
    let look = Look::at(&reading, p, q);
    if !look.is_invalid() && !look.masses(&reading).contains(&0.0) {
        let scale = Scale::new(reading, &look, p, q);
        sums.add::<T, FUSED>(family, &scale, block, (p, q));
    }
    look
}

/// The same for a row that several threads share. Segments are merged in their order.
#[inline(never)]
fn long_row<T: Element>(family: &Family, sums: &mut Sums, (p, q): (&[T], &[T])) -> Look {
    let reading = family.reading;
    let arch = pulp::Arch::new();
    let segments = || p.par_chunks(SEGMENT).zip(q.par_chunks(SEGMENT));
    let looks: Vec<_> =
        segments().map(|(p, q)| arch.dispatch(LookAt { reading, p, q })).collect();
    let mut look = Look::default();
    looks.iter().for_each(|later| look.merge(&reading, later));
    if !look.is_invalid() && !look.masses(&reading).contains(&0.0) {
        let scale = Scale::new(reading, &look, p, q);
        let parts: Vec<_> =
            segments().map(|(p, q)| arch.dispatch(Segment { family, scale, p, q })).collect();
        parts.iter().for_each(|later| sums.merge(family, later));
    }
    look
}

struct LookAt<'a, T> {
    reading: Reading,
    p: &'a [T],
    q: &'a [T],
}

impl<T: Element> pulp::WithSimd for LookAt<'_, T> {
    type Output = Look;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> Look {
        Look::at(&self.reading, self.p, self.q)
    }
}

/// Some bins of a long row.
struct Segment<'a, T> {
    family: &'a Family,
    scale: Scale,
    p: &'a [T],
    q: &'a [T],
}

impl<T: Element> pulp::WithSimd for Segment<'_, T> {
    type Output = Sums;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> Sums {
        let Segment { family, scale, p, q } = self;
        let (mut sums, mut block) = (Sums::new(family), Block::new());
        match S::IS_SCALAR {
            true => sums.add::<T, false>(family, &scale, &mut block, (p, q)),
            false => sums.add::<T, true>(family, &scale, &mut block, (p, q)),
        }
        sums
    }
}

/// `ln Σ pᵃ·q¹⁻ᵃ` of rows whose overlap is beyond the range of f64, or next to its end.
#[cold]
fn ln_overlap<T: Element>(reading: &Reading, look: &Look, (p, q): (&[T], &[T]), order: f64) -> f64 {
    let scale = Scale::new(reading.with_logs(), look, p, q);
    let mut block = Block::new();
    let (mut top, mut sum) = (f64::NEG_INFINITY, 0.0);
    for (p, q) in p.chunks(BLOCK).zip(q.chunks(BLOCK)) {
        let vectors = block.fill::<T, false>(&scale, p, q);
        for at in 0..vectors {
            for lane in (0..LANES).filter(|&lane| block.both(at)[lane] == 1.0) {
                let bin = block.bin(at, lane);
                let ln = bin.ln_p + (order - 1.0) * bin.l;
                if ln > top {
                    sum *= (top - ln).exp();
                    top = ln;
                }
                sum += (ln - top).exp();
            }
        }
    }
    top + sum.ln()
}
