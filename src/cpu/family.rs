//! Rows of any divergences on the CPU, several of the same batch in one go: in f64, from the bins as
//! [`block`](super::block) has them.

use std::ops::Range;

use rayon::prelude::*;

use super::bins::{BLOCK, LANES, Look, Numbers, Reading, Scale, Values, Vector, windows};
use super::block::{Block, Space};
use crate::batch::Batch;
use crate::chain::tree_sum;
use crate::element::Element;
use crate::error::{Rule, Side};
use crate::integrand::{Bin, Integrand, Power, Term, UNIT, Visit};
use crate::pairs::blocks;
use crate::slope::{Bins, Slope};
use crate::term::greater;
use crate::verdict::{Judged, MassRule, Verdict};
use crate::{Divergence, Mass};

/// Bins of a long row that one task takes.
pub(super) const SEGMENT: usize = 1 << 16;

/// The verdict on one row, reached in f64: what is made of it where a device lacks digits.
pub(crate) fn closer_look<T: Element>(
    divergence: Divergence,
    batch: &Batch<'_, T>,
    row: usize,
) -> Judged {
    let family = Family::new(&[divergence], Reading::of(batch));
    let mut found = Judged { verdict: Verdict::Infinite, masses: [f64::NAN; 2] };
    each(&family, batch, row, &mut Work::new(&family), |_, judged| found = judged);
    found
}

/// Hands out the verdict on each divergence of a row.
pub(super) fn each<T: Element>(
    family: &Family,
    batch: &Batch<'_, T>,
    row: usize,
    work: &mut Work,
    mut take: impl FnMut(usize, Judged),
) {
    let look = work.sum(family, batch, row);
    let masses = look.masses(&family.reading);
    let refused = refusal(batch, row, &look, masses);
    for place in 0..family.divergences.len() {
        let judged = refused.unwrap_or_else(|| {
            let verdict = verdict(family, place, &work.sums, batch, row, &look);
            Judged { verdict, masses }
        });
        take(place, judged);
    }
}

/// The verdict on a row that is no pair of distributions.
pub(super) fn refusal<T: Element>(
    batch: &Batch<'_, T>,
    row: usize,
    look: &Look,
    masses: [f64; 2],
) -> Option<Judged> {
    match look.is_invalid() {
        // If no number is wrong, its product with a weight is.
        true => Some(batch.offender(row).map_or_else(
            || Judged { verdict: Verdict::Invalid(Side::P, Rule::Overflow), masses },
            |offender| Judged::invalid(&offender),
        )),
        false => MassRule::of(batch)
            .refuses(masses)
            .map(|(side, rule)| Judged { verdict: Verdict::Invalid(side, rule), masses }),
    }
}

/// The verdict on one of the divergences of a row that was looked at and summed.
pub(super) fn verdict<T: Element>(
    family: &Family,
    place: usize,
    sums: &Sums,
    batch: &Batch<'_, T>,
    row: usize,
    look: &Look,
) -> Verdict {
    let more_mass = look.more_mass(&family.reading);
    let far = |order| ln_overlap(family.reading, look, batch, row, order);
    let plain = |of| plain_sum(family.reading, look, batch, row, of);
    family.verdict(place, sums, batch.mass(), more_mass, far, plain)
}

/// What is asked of each row.
pub(super) struct Family {
    divergences: Vec<Divergence>,
    /// The sums that each is made of, by their places among the terms.
    places: Vec<[Option<usize>; 2]>,
    terms: Vec<(Integrand, Power)>,
    /// Whose products are summed as well.
    slope: Option<Slope>,
    pub(super) reading: Reading,
}

impl Family {
    pub(super) fn new(divergences: &[Divergence], reading: Reading) -> Family {
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
        // Logarithms have it unasked.
        let mut has_l = !reading.is_probs();
        has_l |= terms.iter().any(|(integrand, _)| integrand.needs(false).l);
        let needs = terms.iter().map(|(integrand, _)| integrand.needs(has_l));
        let reading = needs.fold(reading, Reading::with);
        Family { divergences: divergences.to_vec(), places, terms, slope: None, reading }
    }

    /// One divergence, whose slopes are looked at as well.
    pub(super) fn with_slope(divergence: Divergence, slope: Slope, reading: Reading) -> Family {
        let family = Family::new(&[divergence], reading);
        let reading = family.reading.with(slope.needs());
        Family { slope: Some(slope), reading, ..family }
    }

    /// The verdict on one of the divergences of a row that was summed, whose P has so much more mass than
    /// Q. `far` is the logarithm of the overlap of an order, where that is no number; `plain` is
    /// [`plain_sum`], where the masses cancel.
    pub(super) fn verdict(
        &self,
        place: usize,
        sums: &Sums,
        mass: Mass,
        more_mass: f64,
        far: impl Fn(f64) -> f64,
        plain: impl Fn(Side) -> [f64; 2],
    ) -> Verdict {
        let (divergence, [sum, overlap]) = (self.divergences[place], self.places[place]);
        if divergence.is_infinite(sums.alone, sums.both) {
            return Verdict::Infinite;
        }
        let total = |place: usize| sums.total(&self.reading, place, self.terms[place].0);
        let ln_overlap = match overlap.map(|place| (total(place), self.terms[place].0)) {
            Some((overlap, _)) if (1e-100..1e300).contains(&overlap) => overlap.ln(),
            Some((_, Integrand::Overlap(order))) => far(order),
            _ => 0.0,
        };
        let sum = sum.map_or(0.0, total);
        Verdict::Value(match (divergence.at_its_limit(), mass) {
            // What these two leave out of their terms.
            (Divergence::Kl, Mass::AsGiven) => as_given(sum, more_mass, || plain(Side::P)),
            (Divergence::ReverseKl, Mass::AsGiven) => as_given(sum, -more_mass, || plain(Side::Q)),
            _ => divergence.of_sums(sum, ln_overlap, mass),
        })
    }
}

/// The sums of a row, or of some bins of it.
pub(super) struct Sums {
    /// One for each term; of [`Integrand::Largest`] the maxima.
    terms: Vec<Vector>,
    /// Of the slope's products.
    products: [Vector; 2],
    /// The probabilities in bins of one side alone.
    only: [Vector; 2],
    /// Whether there are such bins, and any of both.
    alone: [bool; 2],
    both: bool,
}

impl Sums {
    pub(super) fn new(family: &Family) -> Sums {
        let none = [0.0; LANES];
        let terms = vec![none; family.terms.len()];
        Sums { terms, products: [none; 2], only: [none; 2], alone: [false; 2], both: false }
    }

    pub(super) fn clear(&mut self) {
        let none = [0.0; LANES];
        self.terms.fill(none);
        (self.products, self.only) = ([none; 2], [none; 2]);
        (self.alone, self.both) = ([false; 2], false);
    }

    /// Adds some bins of a row.
    #[inline(always)]
    fn add<const FUSED: bool>(
        &mut self,
        family: &Family,
        scale: &Scale,
        part: &Part<'_>,
        space: &mut Space,
    ) {
        for bins in windows(part.bins.clone()) {
            let (block, _) = space.block::<FUSED>(part.numbers, scale, part.row, bins);
            if let Some(slope) = family.slope {
                with_products(slope, ProductSums { block, sums: &mut self.products });
            }
            self.add_block::<FUSED>(family, block);
        }
    }

    /// Adds the bins of a block.
    #[inline(always)]
    pub(super) fn add_block<const FUSED: bool>(&mut self, family: &Family, block: &Block) {
        for (sums, (integrand, power)) in self.terms.iter_mut().zip(&family.terms) {
            add_terms::<FUSED>(sums, block, *integrand, power);
        }
        let [p_alone, q_alone, both] = block.supports();
        self.alone = [self.alone[0] | p_alone, self.alone[1] | q_alone];
        self.both |= both;
        for side in 0..2 {
            add_vector(&mut self.only[side], &block.only()[side]);
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
            add_vector(&mut self.products[side], &later.products[side]);
            add_vector(&mut self.only[side], &later.only[side]);
            self.alone[side] |= later.alone[side];
        }
        self.both |= later.both;
    }

    /// The probabilities in bins of one side alone: all of them, to the last digit, where the two have no bin in
    /// common.
    fn only(&self, reading: &Reading) -> [f64; 2] {
        [Side::P, Side::Q].map(|side| {
            let is_all = !self.both && self.alone[side as usize] && reading.divides(side);
            if is_all { UNIT } else { tree_sum(self.only[side as usize]) }
        })
    }

    /// `Σ p·u` and `Σ q·v` of a slope over all bins, of which there are none that make the value
    /// infinite.
    pub(super) fn means(&self, reading: &Reading, slope: &Slope) -> [f64; 2] {
        let none = f64::NEG_INFINITY;
        let at_ends = [slope.at_end([0.0, none], f64::INFINITY), slope.at_end([none, 0.0], none)];
        let only = self.only(reading);
        [0, 1].map(|side| {
            let alone = if only[side] > 0.0 { only[side] * at_ends[side][side] } else { 0.0 };
            (tree_sum(self.products[side]) + alone) / UNIT
        })
    }

    /// A sum over all bins, of which there are none that make it infinite.
    fn total(&self, reading: &Reading, place: usize, integrand: Integrand) -> f64 {
        if integrand == Integrand::Largest {
            return self.terms[place].into_iter().fold(0.0, f64::max);
        }
        let (only, by) = (self.only(reading), integrand.alone());
        let alone = [0, 1].map(|side| if only[side] > 0.0 { only[side] * by[side] } else { 0.0 });
        // The two first, so that swapping them changes no bits.
        (tree_sum(self.terms[place]) + (alone[0] + alone[1])) / UNIT
    }
}

#[inline(always)]
fn add_vector(sums: &mut Vector, more: &Vector) {
    for lane in 0..LANES {
        sums[lane] += more[lane];
    }
}

/// Adds what the bins of a block come to in one integrand.
#[inline(always)]
fn add_terms<const FUSED: bool>(
    sums: &mut Vector,
    block: &Block,
    integrand: Integrand,
    power: &Power,
) {
    let mut made = [0.0; BLOCK];
    match integrand {
        Integrand::Unmatched => return,
        Integrand::Largest => return find_largest(sums, block.ln_ratios()),
        Integrand::CrossEntropy => block.put_cross_entropies(&mut made),
        Integrand::Entropy => block.put_entropies(&mut made),
        sum => sum.visit(power, MakeTerms::<FUSED> { block, into: &mut made }),
    }
    add_up(sums, &made[..block.len()]);
}

/// Makes a term of each bin of a block.
struct MakeTerms<'a, const FUSED: bool> {
    block: &'a Block,
    into: &'a mut Values,
}

impl<const FUSED: bool> Visit for MakeTerms<'_, FUSED> {
    #[inline(always)]
    fn take<T: Term>(self, term: T) {
        let (bins, into) = (self.block.bins(), &mut self.into[..self.block.len()]);
        for (bin, into) in into.iter_mut().enumerate() {
            *into = term.of::<FUSED>(bins.at(bin));
        }
    }
}

#[inline(always)]
fn add_up(sums: &mut Vector, values: &[f64]) {
    for vector in values.as_chunks::<LANES>().0 {
        add_vector(sums, vector);
    }
}

#[inline(always)]
fn find_largest(largest: &mut Vector, values: &[f64]) {
    for vector in values.as_chunks::<LANES>().0 {
        for lane in 0..LANES {
            largest[lane] = greater(vector[lane], largest[lane]);
        }
    }
}

/// Hands the products of a slope to whoever does something with them. A function of its own, since few ask
/// for it.
#[inline(never)]
pub(super) fn with_products(slope: Slope, bins: impl Bins) {
    pulp::Arch::new().dispatch(WithProducts { slope, bins });
}

struct WithProducts<B> {
    slope: Slope,
    bins: B,
}

impl<B: Bins> pulp::WithSimd for WithProducts<B> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        let WithProducts { slope, bins } = self;
        match S::IS_SCALAR {
            true => slope.products::<S, false>(bins),
            false => slope.products::<S, true>(bins),
        }
    }
}

/// Adds up products over the bins of a block.
struct ProductSums<'a> {
    block: &'a Block,
    sums: &'a mut [Vector; 2],
}

impl Bins for ProductSums<'_> {
    #[inline(always)]
    fn each(self, products: impl Fn(Bin) -> [f64; 2]) {
        let ProductSums { block, sums: [of_p, of_q] } = self;
        let (bins, both, mut made) = (block.bins(), block.both(), [[0.0; BLOCK]; 2]);
        let [p, q] = made.each_mut().map(|values| &mut values[..both.len()]);
        for bin in 0..both.len() {
            let [of_p, of_q] = products(bins.at(bin));
            p[bin] = if both[bin] == 1.0 { of_p } else { 0.0 };
            q[bin] = if both[bin] == 1.0 { of_q } else { 0.0 };
        }
        add_up(of_p, p);
        add_up(of_q, q);
    }
}

/// Some bins of a row.
pub(super) struct Part<'a> {
    pub numbers: &'a dyn Numbers,
    pub row: usize,
    pub bins: Range<usize>,
}

/// What it takes to sum rows one after the other.
pub(super) struct Work {
    pub arch: pulp::Arch,
    pub sums: Sums,
    pub space: Space,
}

impl Work {
    pub(super) fn new(family: &Family) -> Work {
        Work { arch: pulp::Arch::new(), sums: Sums::new(family), space: Space::new() }
    }

    /// Sums a row, unless a look at it finds that it has no meaning.
    pub(super) fn sum(&mut self, family: &Family, numbers: &dyn Numbers, row: usize) -> Look {
        let Work { arch, sums, space } = self;
        sums.clear();
        let part = Part { numbers, row, bins: 0..numbers.bins() };
        match numbers.bins() <= SEGMENT {
            true => arch.dispatch(Summed { family, part, sums, space }),
            false => long_row(family, *arch, &part, sums),
        }
    }
}

/// A row, looked at and summed.
struct Summed<'a> {
    family: &'a Family,
    part: Part<'a>,
    sums: &'a mut Sums,
    space: &'a mut Space,
}

impl pulp::WithSimd for Summed<'_> {
    type Output = Look;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> Look {
        if S::IS_SCALAR { self.summed::<false>() } else { self.summed::<true>() }
    }
}

impl Summed<'_> {
    #[inline(always)]
    fn summed<const FUSED: bool>(self) -> Look {
        let Summed { family, part, sums, space } = self;
        let (reading, Part { numbers, row, bins }) = (family.reading, &part);
        let look = Look::at::<FUSED>(*numbers, &reading, *row, bins.clone(), &mut space.window);
        if look.is_usable(&reading) {
            let scale = Scale::new(reading, &look, *numbers, *row);
            sums.add::<FUSED>(family, &scale, &part, space);
        }
        look
    }
}

/// The same for a row that several threads share. Segments are merged in their order.
fn long_row(family: &Family, arch: pulp::Arch, row: &Part<'_>, sums: &mut Sums) -> Look {
    let reading = family.reading;
    let part = |bins| Part { numbers: row.numbers, row: row.row, bins };
    let parts: Vec<_> = blocks(row.bins.clone(), SEGMENT).map(part).collect();
    let looks: Vec<_> =
        parts.par_iter().map(|part| arch.dispatch(LookAt { reading, part })).collect();
    let mut look = Look::default();
    looks.iter().for_each(|later| look.merge(&reading, later));
    if look.is_usable(&reading) {
        let scale = Scale::new(reading, &look, row.numbers, row.row);
        let summed = parts.par_iter().map(|part| arch.dispatch(AddUp { family, scale, part }));
        let summed: Vec<_> = summed.collect();
        summed.iter().for_each(|later| sums.merge(family, later));
    }
    look
}

struct LookAt<'a> {
    reading: Reading,
    part: &'a Part<'a>,
}

impl pulp::WithSimd for LookAt<'_> {
    type Output = Look;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> Look {
        let Part { numbers, row, bins } = self.part;
        let (bins, window) = (bins.clone(), &mut Space::new().window);
        match S::IS_SCALAR {
            true => Look::at::<false>(*numbers, &self.reading, *row, bins, window),
            false => Look::at::<true>(*numbers, &self.reading, *row, bins, window),
        }
    }
}

struct AddUp<'a> {
    family: &'a Family,
    scale: Scale,
    part: &'a Part<'a>,
}

impl pulp::WithSimd for AddUp<'_> {
    type Output = Sums;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> Sums {
        let AddUp { family, scale, part } = self;
        let (mut sums, mut space) = (Sums::new(family), Space::new());
        match S::IS_SCALAR {
            true => sums.add::<false>(family, &scale, part, &mut space),
            false => sums.add::<true>(family, &scale, part, &mut space),
        }
        sums
    }
}

/// `sum + more`, or the plain sum where that has more digits.
fn as_given(sum: f64, more: f64, plain: impl Fn() -> [f64; 2]) -> f64 {
    let (value, parts) = (sum + more, sum + more.abs());
    if value.abs() < parts / 8.0 {
        let [plain, size] = plain();
        return if parts > size { plain } else { value };
    }
    value
}

/// `Σ p·ln(p/q)`, or `Σ q·ln(q/p)`, of a row that is taken as it is, and the sum of the magnitudes.
#[cold]
fn plain_sum(
    reading: Reading,
    look: &Look,
    numbers: &dyn Numbers,
    row: usize,
    of: Side,
) -> [f64; 2] {
    let needs = Integrand::Kl.needs(true);
    let scale = Scale::new(reading.with(needs), look, numbers, row);
    let (mut sum, mut size) = (0.0, 0.0);
    let mut space = Space::new();
    for bins in windows(0..numbers.bins()) {
        let (block, _) = space.block::<false>(numbers, &scale, row, bins);
        for at in 0..block.len() {
            let bin = block.bins().at(at);
            let term = if of == Side::P { bin.p * bin.l } else { -(bin.q * bin.l) } / UNIT;
            sum += term;
            size += term.abs();
        }
    }
    [sum, size]
}

/// `ln Σ pᵃ·q¹⁻ᵃ` of rows whose overlap is beyond the range of f64, or next to its end.
#[cold]
fn ln_overlap(reading: Reading, look: &Look, numbers: &dyn Numbers, row: usize, order: f64) -> f64 {
    let scale = Scale::new(reading, look, numbers, row);
    let logs = [0, 1].map(|side| scale.logs_of_probs(side));
    let (mut top, mut sum) = (f64::NEG_INFINITY, 0.0);
    let mut space = Space::new();
    for bins in windows(0..numbers.bins()) {
        let (block, window) = space.block::<false>(numbers, &scale, row, bins);
        for bin in (0..block.len()).filter(|&bin| block.both()[bin] == 1.0) {
            // Of the logarithms themselves: the same bits with P and Q swapped.
            let [ln_p, ln_q] = scale.ln_probabilities(window, &logs, bin);
            let ln = match order < 0.5 {
                true => ln_q + order * (ln_p - ln_q),
                false => order * ln_p + (1.0 - order) * ln_q,
            };
            if ln > top {
                sum *= (top - ln).exp();
                top = ln;
            }
            sum += (ln - top).exp();
        }
    }
    top + sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What else it is made of is not asked for in vain: that takes longer, and answers do not tell.
    #[test]
    fn the_plain_sum_is_made_where_it_may_have_more_digits() {
        let not = || panic!("it is not needed");
        assert_eq!(as_given(1.0, 2.0, not), 3.0);
        assert_eq!(as_given(100.0, 100.0, not), 200.0);
        assert_eq!(as_given(9.0, -7.0, not), 2.0);
        assert_eq!(as_given(9.0, -8.0, || [0.99, 5.0]), 0.99);
        assert_eq!(as_given(9.0, -8.0, || [0.99, 17.0]), 1.0);
        assert_eq!(as_given(8.0, -9.0, || [-0.99, 5.0]), -0.99);
    }

    fn value(divergence: Divergence, p: &[f64], q: &[f64]) -> f64 {
        let side = |numbers: &[f64]| {
            ndarray::Array2::from_shape_vec((1, numbers.len()), numbers.to_vec()).unwrap()
        };
        let (p, q) = (side(p), side(q));
        let batch = Batch::probs(&p, &q).unwrap().with_mass(Mass::Normalize);
        match closer_look(divergence, &batch, 0).verdict {
            Verdict::Value(value) => value,
            verdict => panic!("{verdict:?}"),
        }
    }

    /// Whatever their masses round to.
    #[test]
    fn what_has_no_bin_in_common_has_the_largest_value_to_the_last_digit() {
        for mass in 1..200 {
            let (p, q) = ([f64::from(mass), 3.0, 0.0], [0.0, 0.0, f64::from(mass)]);
            let js = value(Divergence::JensenShannon(0.5), &p, &q);
            assert!((js - std::f64::consts::LN_2).abs() <= f64::EPSILON / 2.0, "{mass}: {js}");
            assert_eq!(value(Divergence::TotalVariation, &p, &q), 1.0, "{mass}");
            assert_eq!(value(Divergence::Hellinger, &p, &q), 1.0, "{mass}");
        }
    }

    /// Also what only one of two sides has.
    #[test]
    fn what_is_symmetric_is_so_in_its_bits() {
        let noise = crate::cpu::tests::noise;
        for row in 0..200 {
            let side = |at: usize| [noise(row, at), noise(row + 7, at), noise(row + 50, at)];
            let (mut p, mut q) = (side(1), side(2));
            (p[2], q[1]) = (0.0, 0.0);
            for divergence in [
                Divergence::TotalVariation,
                Divergence::JensenShannon(0.5),
                Divergence::Hellinger,
                Divergence::Renyi(0.5),
            ] {
                let (one, other) = (value(divergence, &p, &q), value(divergence, &q, &p));
                assert_eq!(one, other, "{divergence}, row {row}");
            }
        }
    }

    /// A probability too small for a number counts as itself, whatever else is asked for.
    #[test]
    fn squares_are_those_of_the_smallest_numbers() {
        let chi2 = value(Divergence::ChiSquared, &[1.0, 1e-100], &[1.0, 1e-315]);
        let want = 1e-200 / 1e-315;
        assert!((chi2 - want).abs() < 1e-6 * want, "{chi2:e}, not {want:e}");
    }
}
