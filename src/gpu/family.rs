//! Divergences other than Kullback-Leibler's, in passes after its own. Shader: `shaders/family.wgsl`, with
//! the parts that a variant takes.
//!
//! The first pass leaves the masses of a row. A second one finds by how much bins that are divided by them
//! do not balance, since masses are rounded; then each pass has up to four of the sums that divergences are
//! made of. Where a value has not its digits the host looks closer, in f64: at small entropies, at overlaps
//! beyond the range, at rows next to equality, at orders far from 1, and at rows that are too long for one
//! submission.

use std::mem::{offset_of, size_of};

use super::kernel::{AT_LOGARITHMS, AT_NUMBERS, AT_POWERS, Spec};
use super::record::{self, Terms};
use super::rows;
use super::variant::{Family, Variant};
use crate::batch::{Batch, Mass};
use crate::cpu::family::closer_look;
use crate::element::Element;
use crate::error::Side;
use crate::integrand::Integrand;
use crate::kind::Kind;
use crate::outcome::Row;
use crate::verdict::{Judged, MassRule, Verdict};
use crate::{Divergence, chain, sums};

/// What the shader declares, for heads of a variant and what the terms look at.
pub(crate) fn spec(heads: Variant, look: u32) -> Spec {
    let passes = [("made", 3, true), ("heads", 7, false), ("balances", 8, false)];
    Spec {
        name: "family",
        variant: Variant { family: Family::Terms, ..heads },
        heads: Some(heads),
        lines: None,
        source: [
            &*bins_source(heads),
            include_str!("../../shaders/shared/integrand.wgsl"),
            match heads.is_f64() {
                true => include_str!("../../shaders/shared/integrand_f64.wgsl"),
                false => include_str!("../../shaders/shared/integrand_f32.wgsl"),
            },
            include_str!("../../shaders/shared/segments.wgsl"),
            include_str!("../../shaders/shared/reduce.wgsl"),
            include_str!("../../shaders/shared/put_record.wgsl"),
            include_str!("../../shaders/family.wgsl"),
        ]
        .concat(),
        buffers: [heads.bins_buffers(), &passes, heads.logs_buffers()].concat(),
        params: (size_of::<Params>(), FIELDS),
        policy: None,
        own: vec![("LOOK", look)],
    }
}

/// Bins as those of distributions, and records of what is summed of them.
pub(super) fn bins_source(heads: Variant) -> String {
    let arithmetic = match heads.is_f64() {
        true => concat!(
            include_str!("../../shaders/shared/logs_f64.wgsl"),
            include_str!("../../shaders/shared/atanh_f64.wgsl"),
            include_str!("../../shaders/shared/side_f64.wgsl"),
            include_str!("../../shaders/shared/bins_f64.wgsl"),
        ),
        false => concat!(
            include_str!("../../shaders/shared/logs_f32.wgsl"),
            include_str!("../../shaders/shared/side_f32.wgsl"),
            include_str!("../../shaders/shared/bins_f32.wgsl"),
        ),
    };
    [
        heads.terms().record_source(),
        heads.bins_source(),
        arithmetic,
        include_str!("../../shaders/shared/two_parts.wgsl"),
        include_str!("../../shaders/shared/side.wgsl"),
        include_str!("../../shaders/shared/bins.wgsl"),
        heads.head_source(),
    ]
    .concat()
}

const FIELDS: &[(&str, usize)] = &[
    ("units", offset_of!(Params, rows.units)),
    ("line", offset_of!(Params, rows.line)),
    ("lanes", offset_of!(Params, rows.lanes)),
    ("segments", offset_of!(Params, rows.segments)),
    ("segment_quads", offset_of!(Params, rows.segment_quads)),
    ("bins", offset_of!(Params, rows.bins)),
    ("p_stride", offset_of!(Params, rows.p_stride)),
    ("q_stride", offset_of!(Params, rows.q_stride)),
    ("ticket", offset_of!(Params, rows.ticket)),
    ("p_kind", offset_of!(Params, rows.p_kind)),
    ("q_kind", offset_of!(Params, rows.q_kind)),
    ("zero", offset_of!(Params, rows.zero)),
    ("per_temperature", offset_of!(Params, rows.per_temperature)),
    ("temperature", offset_of!(Params, rows.temperature)),
    ("codes", offset_of!(Params, codes)),
    ("divided", offset_of!(Params, divided)),
    ("balanced", offset_of!(Params, balanced)),
    ("terms", offset_of!(Params, terms)),
    ("parameters", offset_of!(Params, parameters)),
    ("series", offset_of!(Params, series)),
];

#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Params {
    rows: rows::Params,
    codes: [u32; SUMS],
    divided: u32,
    balanced: u32,
    terms: u32,
    unused: u32,
    parameters: [[f32; 4]; SUMS],
    series: [[f32; 4]; 3 * SUMS],
}

impl Params {
    pub(crate) fn with_ticket(self, ticket: u32) -> Params {
        Params { rows: self.rows.with_ticket(ticket), ..self }
    }

    /// Whether this is the pass that finds what does not balance, which the others read.
    pub(crate) fn is_balance(&self) -> bool {
        self.codes[0] == DIFFERENCE
    }

    /// What its terms look at.
    pub(crate) fn look(&self) -> u32 {
        self.codes.iter().map(|&code| look(code)).max().unwrap_or(AT_NUMBERS)
    }
}

/// Sums of a pass.
pub(crate) const SUMS: usize = 4;

/// What is summed, as the shader calls it.
pub const NO_SUM: u32 = 0;
pub const DIFFERENCE: u32 = 1;
pub const REVERSE_KL: u32 = 2;
pub const JEFFREYS: u32 = 3;
pub const JENSEN_SHANNON: u32 = 4;
pub const ROOTS: u32 = 5;
pub const POWER: u32 = 6;
pub const SWAPPED_POWER: u32 = 7;
pub const ROOT_OVERLAP: u32 = 8;
pub const OVERLAP: u32 = 9;
pub const LARGEST: u32 = 10;
pub const VARIATION: u32 = 11;
pub const CROSS_ENTROPY: u32 = 12;
pub const ENTROPY: u32 = 13;

/// What the terms of a sum look at.
fn look(code: u32) -> u32 {
    match code {
        NO_SUM | DIFFERENCE | JENSEN_SHANNON | ROOTS | VARIATION => AT_NUMBERS,
        REVERSE_KL | JEFFREYS | LARGEST | CROSS_ENTROPY | ENTROPY => AT_LOGARITHMS,
        _ => AT_POWERS,
    }
}

/// A sum, as the shader is told of it.
struct Told {
    code: u32,
    parameters: [f32; 4],
    series: [[f32; 4]; 3],
}

impl Told {
    /// None of a sum that the shader does not have: that is the host's.
    fn of(integrand: Integrand) -> Option<Told> {
        let plain = |code| Told { code, parameters: [0.0; 4], series: [[0.0; 4]; 3] };
        // The first pass has it, and what Q has where P has nothing is among the masses.
        if matches!(integrand, Integrand::Kl | Integrand::Unmatched) {
            return Some(plain(NO_SUM));
        }
        Some(match integrand {
            Integrand::ReverseKl => plain(REVERSE_KL),
            Integrand::Jeffreys => plain(JEFFREYS),
            Integrand::JensenShannon(w) => {
                let [first, second, third, _] = rows::in_parts(w, u32::MAX);
                let parameters = [first, (1.0 - w) as f32, second, third];
                Told { parameters, ..plain(JENSEN_SHANNON) }
            }
            Integrand::Power(0.5) => plain(ROOTS),
            // The other of the pair, less 1.
            Integrand::Power(order) if order < 0.5 => power(SWAPPED_POWER, -order),
            Integrand::Power(order) => power(POWER, order - 1.0),
            // (p − q)²/q is twice that.
            Integrand::ChiSquared => power(POWER, 1.0),
            Integrand::Overlap(0.5) => plain(ROOT_OVERLAP),
            Integrand::Overlap(order) => {
                Told { parameters: rows::in_parts(order - 1.0, HALF), ..plain(OVERLAP) }
            }
            Integrand::Largest => plain(LARGEST),
            Integrand::Variation => plain(VARIATION),
            Integrand::CrossEntropy => plain(CROSS_ENTROPY),
            Integrand::Entropy => plain(ENTROPY),
            _ => return None,
        })
    }
}

/// What leaves 12 bits of an f32: two such parts and a third one have 48, which do for f64.
pub(super) const HALF: u32 = 0xffff_f000;

fn power(code: u32, less_1: f64) -> Told {
    let order = 1.0 + less_1;
    let [first, second, third, _] = rows::in_parts(less_1, HALF);
    let (mut series, mut sum, mut factorial) = ([[0.0; 4]; 3], 0.0, 1.0);
    for (k, term) in series.as_flattened_mut().iter_mut().enumerate().take(10) {
        // Σ_(j ≤ k) orderʲ / (k + 2)!
        sum = sum * order + 1.0;
        factorial *= (k + 2) as f64;
        *term = (sum / factorial) as f32;
    }
    Told { code, parameters: [first, second, third, order as f32], series }
}

/// What is asked of each row of a batch.
pub(crate) struct Asked {
    variant: Variant,
    divergences: Vec<Divergence>,
    /// The places of the sums that each is made of. None if no pass but the first has to do with it: that
    /// one alone, or the host.
    places: Vec<Option<[Option<usize>; 2]>>,
    integrands: Vec<Integrand>,
    divided: bool,
    /// The least sum that has its digits, if it is of second order in the distance.
    least: f64,
}

impl Asked {
    /// Of rows that are, or are not, computed in one submission.
    pub(crate) fn new<T: Element>(
        divergences: &[Divergence],
        batch: &Batch<'_, T>,
        variant: Variant,
        whole_rows: bool,
    ) -> Asked {
        let divides = matches!(batch.mass(), Mass::Check | Mass::Normalize);
        let kinds = [Side::P, Side::Q].map(|side| batch.kind(side));
        let divided = kinds.map(|kind| divides || kind == Kind::Logits);
        let able = whole_rows && divided[0] == divided[1];
        let mut integrands = Vec::new();
        let mut place = |integrand: Integrand| {
            let known = integrands.iter().position(|&known| known == integrand);
            known.unwrap_or_else(|| {
                integrands.push(integrand);
                integrands.len() - 1
            })
        };
        let divergences: Vec<_> = divergences.iter().map(|one| one.at_its_limit()).collect();
        let places = divergences.iter().map(|&divergence| {
            let [sum, overlap] = divergence.integrands();
            // To what the terms of this come to it would take the difference of the masses.
            let literal = divergence == Divergence::ReverseKl && batch.mass() == Mass::AsGiven;
            let told = [sum, overlap].into_iter().flatten().all(|sum| Told::of(sum).is_some());
            let by_host = literal || !told || is_far_off(sum);
            let by_device = able && divergence != Divergence::Kl && !by_host;
            by_device.then(|| [sum.map(&mut place), overlap.map(&mut place)])
        });
        let places = places.collect();
        let least = match (variant.is_f64(), kinds.map(|kind| kind == Kind::Probs)) {
            (false, [true, true]) => 1e-15,
            (false, [false, false]) => 1e-13,
            (false, _) => 1e-11,
            // Between kinds, the rounding of one side's logarithms shows, on the CPU too.
            (true, [true, false] | [false, true]) => 1e-8,
            (true, _) => 1e-18,
        };
        Asked { variant, divergences, places, integrands, divided: divided[0], least }
    }

    /// Whether there is nothing to do for the device.
    pub(crate) fn is_for_the_host(&self) -> bool {
        self.integrands.is_empty() && !self.divergences.contains(&Divergence::Kl)
    }

    /// How many passes leave records to be read, after the first.
    pub(crate) fn passes(&self) -> usize {
        self.integrands.len().div_ceil(SUMS)
    }

    /// What the passes after the first are told.
    pub(crate) fn params(&self, rows: rows::Params) -> Vec<Params> {
        let params = |balanced, told: &[Told]| {
            let mut params = Params {
                rows,
                codes: [NO_SUM; SUMS],
                divided: self.divided.into(),
                balanced,
                terms: told.len() as u32,
                unused: 0,
                parameters: [[0.0; 4]; SUMS],
                series: [[0.0; 4]; 3 * SUMS],
            };
            for (at, told) in told.iter().enumerate() {
                params.codes[at] = told.code;
                params.parameters[at] = told.parameters;
                params.series[3 * at..3 * at + 3].copy_from_slice(&told.series);
            }
            params
        };
        let told: Vec<_> =
            self.integrands.iter().filter_map(|&integrand| Told::of(integrand)).collect();
        let balance = Told { code: DIFFERENCE, parameters: [0.0; 4], series: [[0.0; 4]; 3] };
        let balance = (self.divided && !told.is_empty()).then(|| params(0, &[balance]));
        let passes = told.chunks(SUMS).map(|told| params(self.divided.into(), told));
        balance.into_iter().chain(passes).collect()
    }

    /// The results of a row in one of the divergences: from its record of the first pass and those of the
    /// later ones, or from a closer look.
    pub(crate) fn row<'r, T: Element>(
        &self,
        place: usize,
        batch: &Batch<'_, T>,
        row: usize,
        head: &[u32],
        later: impl Fn(usize) -> &'r [u32],
    ) -> Row<T::Value> {
        let divergence = self.divergences[place];
        if divergence == Divergence::Kl {
            return record::settle(head, self.variant, batch, row);
        }
        let terms = |pass: usize| record::terms(later(pass), self.variant.terms());
        match self.judged(place, batch, row, head, terms) {
            Some(judged) => judged.row(),
            None => self.closer(place, batch, row),
        }
    }

    /// The same without a device.
    pub(crate) fn closer<T: Element>(
        &self,
        place: usize,
        batch: &Batch<'_, T>,
        row: usize,
    ) -> Row<T::Value> {
        Row { looked_closer: true, ..closer_look(self.divergences[place], batch, row).row() }
    }

    /// None if it takes a closer look.
    fn judged<T: Element>(
        &self,
        place: usize,
        batch: &Batch<'_, T>,
        row: usize,
        head: &[u32],
        terms: impl Fn(usize) -> Terms,
    ) -> Option<Judged> {
        let head = Head::of(batch, head, self.variant);
        if head.invalid
            && let Some(offender) = batch.offender(row)
        {
            return Some(Judged::invalid(&offender));
        }
        let masses = head.masses?;
        if on_the_edge(batch, masses) {
            return None;
        }
        let verdict = match MassRule::of(batch).refuses(masses) {
            Some((side, rule)) => Verdict::Invalid(side, rule),
            None => self.verdict(place, batch, row, masses, terms)?,
        };
        Some(Judged { verdict, masses })
    }

    fn verdict<T: Element>(
        &self,
        place: usize,
        batch: &Batch<'_, T>,
        row: usize,
        masses: [f64; 2],
        terms: impl Fn(usize) -> Terms,
    ) -> Option<Verdict> {
        let divergence = self.divergences[place];
        let [sum, overlap] = self.places[place]?;
        let any = terms(0);
        if any.huge {
            return None;
        }
        if divergence.is_infinite(any.alone, any.both) {
            return Some(Verdict::Infinite);
        }
        let total = |at: usize| self.total(self.integrands[at], at % SUMS, &terms(at / SUMS));
        let sum_of = |at: usize| {
            let (integrand, sum) = (self.integrands[at], total(at));
            let fine =
                sum >= self.least(integrand) && sum < MOST && !self.is_mixed(integrand, masses);
            let same = || batch.row(Side::P, row) == batch.row(Side::Q, row);
            let nothing = match integrand {
                // What a device flushes is not among it, but counts as its smallest bin.
                Integrand::Unmatched => true,
                _ => is_a_distance(integrand) && same(),
            };
            (fine || sum == 0.0 && nothing).then_some(sum)
        };
        let ln_overlap = overlap.map_or(Some(0.0), |at| {
            let overlap = total(at);
            (1.0 / MOST..MOST).contains(&overlap).then(|| overlap.ln())
        });
        let sum = sum.map_or(Some(0.0), sum_of)?;
        Some(Verdict::Value(divergence.of_sums(sum, ln_overlap?, batch.mass())))
    }

    /// A sum over all bins, of which there are none that make it infinite.
    fn total(&self, integrand: Integrand, at: usize, terms: &Terms) -> f64 {
        let both = match integrand {
            Integrand::Largest => return terms.largest,
            Integrand::ChiSquared => 2.0 * terms.sums[at],
            _ => terms.sums[at],
        };
        let alone = terms.only.into_iter().zip(integrand.alone());
        let alone = alone.filter(|&(only, _)| only > 0.0).map(|(only, by)| only * by);
        both + alone.sum::<f64>()
    }

    /// The least that a sum may be and still have its digits: that of an entropy, whose terms next to 1
    /// have none, is large. What is of first order in the distance shows by how much masses are rounded.
    fn least(&self, integrand: Integrand) -> f64 {
        let is_f64 = self.variant.is_f64();
        match integrand {
            Integrand::Entropy | Integrand::CrossEntropy if is_f64 => 1e-3,
            Integrand::Entropy | Integrand::CrossEntropy => 0.25,
            Integrand::Overlap(_) => 0.0,
            Integrand::Variation if is_f64 => 5e-5,
            Integrand::Variation => self.least.sqrt(),
            Integrand::Largest if is_f64 => 2e-4,
            // In a bin far below the others it comes of logarithms, which are good to 3e-12.
            Integrand::Largest => self.least.sqrt().max(2e-6),
            Integrand::JensenShannon(w) => self.least * w * (1.0 - w),
            _ => self.least,
        }
    }

    /// Whether terms of both signs may be among those of a sum.
    fn is_mixed(&self, integrand: Integrand, masses: [f64; 2]) -> bool {
        let most = match integrand {
            Integrand::Entropy => masses[0],
            Integrand::CrossEntropy => masses[1],
            _ => 0.0,
        };
        !self.divided && most > 1.0
    }
}

/// Beyond this sums are left to the host, and below its inverse overlaps.
const MOST: f64 = 1e30;

/// Whether the order of a power is so far from 1 that rounded masses show in it, or a weight next to
/// nothing.
fn is_far_off(integrand: Option<Integrand>) -> bool {
    match integrand {
        Some(Integrand::Power(order)) => !(-5.0..=6.0).contains(&order),
        Some(Integrand::JensenShannon(weight)) => weight < 1.0 / MOST,
        _ => false,
    }
}

/// Whether it is 0 between rows that are the same.
fn is_a_distance(integrand: Integrand) -> bool {
    !matches!(integrand, Integrand::Entropy | Integrand::CrossEntropy)
}

/// Whether rounding in a mass could decide on which side of the tolerance it lies.
fn on_the_edge<T: Element>(batch: &Batch<'_, T>, masses: [f64; 2]) -> bool {
    let doubtful = |mass: f64| ((mass - 1.0).abs() - batch.mass_tolerance()).abs() < sums::DOUBT;
    batch.mass() == Mass::Check && masses.into_iter().any(doubtful)
}

/// What the first pass says of a row.
struct Head {
    invalid: bool,
    /// None where they are out of the range of this arithmetic.
    masses: Option<[f64; 2]>,
}

impl Head {
    fn of<T: Element>(batch: &Batch<'_, T>, words: &[u32], variant: Variant) -> Head {
        match variant.family {
            Family::Sums => {
                let found = record::sums(words, variant);
                let masses = [found.p, found.q];
                // An f32 tells the shader the exponent of a mass.
                let is_known = masses.iter().all(|&mass| (mass as f32).is_normal());
                let in_range = sums::in_range::<T>(&found) && is_known;
                Head { invalid: found.invalid, masses: in_range.then_some(masses) }
            }
            _ => {
                let (node, huge) = record::node(words, variant);
                let masses = (!node.invalid && !huge).then(|| chain::masses(batch, &node).1);
                Head { invalid: node.invalid, masses }
            }
        }
    }
}
