//! Gradients of rows on the GPU. Shader: `shaders/gradient.wgsl`, with the parts that a variant takes.
//!
//! A chunk takes two submissions. What the first leaves of a row the host settles, as for its value; then
//! the second writes the derivatives, from the bins that are still there. Rows whose value took a closer
//! look, or in which a slope has not its digits in f32, are left to the CPU, and so are long rows and
//! the divergences whose slopes ask for more than their bins.

use std::collections::VecDeque;
use std::f64::consts::LN_2;
use std::mem::{offset_of, size_of};

use rayon::prelude::*;

use super::call::Call;
use super::device::{Device, GradientJob, RowsJob};
use super::family::{Asked, HALF};
use super::fault::Fault;
use super::kernel::{AT_LOGARITHMS, AT_NUMBERS, AT_POWERS, Spec};
use super::record::{self, Records};
use super::rows::{self, IN_FLIGHT, in_parts, job, pack};
use super::variant::{Family, Variant};
use super::{Gpu, family};
use crate::batch::{Batch, Mass};
use crate::cpu::gradient::{ByDevice, Gradients, Made};
use crate::element::Element;
use crate::error::Side;
use crate::kind::Kind;
use crate::outcome::{Row, Status};
use crate::plan::{Chunk, Layout, Limits, Plan, Shape, padded};
use crate::slope::{LEAST_BESIDE_ALL, Slope};
use crate::{Divergence, Error};

/// What the shader declares, for heads of a variant and what the slope looks at.
pub(crate) fn spec(heads: Variant, look: u32) -> Spec {
    let passes = [("made", 3, true), ("lines", 7, false), ("means", 8, false)];
    let gradients = [("p_gradient", 10, true), ("q_gradient", 11, true)];
    Spec {
        name: "gradient",
        variant: Variant { family: Family::Terms, ..heads },
        heads: Some(heads),
        lines: Some((size_of::<Line>(), LINE_FIELDS)),
        source: [
            &*family::bins_source(heads),
            include_str!("../../shaders/shared/slopes_f32.wgsl"),
            include_str!("../../shaders/shared/segments.wgsl"),
            include_str!("../../shaders/shared/reduce.wgsl"),
            include_str!("../../shaders/shared/put_record.wgsl"),
            include_str!("../../shaders/gradient.wgsl"),
        ]
        .concat(),
        buffers: [heads.bins_buffers(), &passes, &gradients, heads.logs_buffers()].concat(),
        params: (size_of::<Params>(), FIELDS),
        policy: None,
        own: vec![("LOOK", look)],
    }
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
    ("less_1", offset_of!(Params, told.less_1)),
    ("order", offset_of!(Params, told.order)),
    ("by_u", offset_of!(Params, told.by)),
    ("by_v", offset_of!(Params, told.by) + 4),
    ("slope", offset_of!(Params, told.slope)),
    ("divided", offset_of!(Params, divided)),
    ("p_summed", offset_of!(Params, summed)),
    ("q_summed", offset_of!(Params, summed) + 4),
    ("round", offset_of!(Params, round)),
    ("writes", offset_of!(Params, writes)),
];

#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Params {
    rows: rows::Params,
    told: Told,
    divided: u32,
    summed: [u32; 2],
    round: u32,
    writes: u32,
}

impl Params {
    pub(crate) fn with_ticket(self, ticket: u32) -> Params {
        Params { rows: self.rows.with_ticket(ticket), ..self }
    }

    /// Whether this pass sums slopes, for the one after it.
    pub(crate) fn only_sums(&self) -> bool {
        self.writes == 0
    }

    /// What the slope looks at.
    pub(crate) fn look(&self) -> u32 {
        match self.told.slope {
            JENSEN_SHANNON | HELLINGER | VARIATION | CHI_SQUARED => AT_NUMBERS,
            POWER => AT_POWERS,
            _ => AT_LOGARITHMS,
        }
    }
}

/// Slopes, as the shader calls them.
pub const KL: u32 = 1;
pub const REVERSE_KL: u32 = 2;
pub const JEFFREYS: u32 = 3;
pub const JENSEN_SHANNON: u32 = 4;
pub const POWER: u32 = 5;
pub const HELLINGER: u32 = 6;
pub const VARIATION: u32 = 7;
pub const CHI_SQUARED: u32 = 8;
pub const CROSS_ENTROPY: u32 = 9;
pub const ENTROPY: u32 = 10;

/// A slope, as the shader is told of it.
#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
struct Told {
    less_1: [f32; 4],
    order: [f32; 4],
    by: [f32; 2],
    slope: u32,
}

impl Told {
    /// None of one that the shader does not have: that is the host's.
    fn of(divergence: Divergence) -> Option<Told> {
        let plain = |slope| Told { less_1: [0.0; 4], order: [0.0; 4], by: [0.0; 2], slope };
        let mixed = |w: f64| Told { by: [w as f32, (1.0 - w) as f32], ..plain(JENSEN_SHANNON) };
        let power = |a: f64, by: [f64; 2]| Told {
            less_1: in_parts(a - 1.0, HALF),
            order: in_parts(a, HALF),
            by: by.map(|by| by as f32),
            ..plain(POWER)
        };
        Some(match divergence {
            Divergence::Kl => plain(KL),
            Divergence::ReverseKl => plain(REVERSE_KL),
            Divergence::Jeffreys => plain(JEFFREYS),
            Divergence::JensenShannon(w) => mixed(w),
            Divergence::JsDistance => mixed(0.5),
            Divergence::Renyi(a) | Divergence::Tsallis(a) if a > 0.0 && a.is_finite() => {
                power(a, [a / (a - 1.0), 1.0])
            }
            Divergence::Alpha(a) => power(a, [1.0 / (a - 1.0), 1.0 / a]),
            Divergence::Bhattacharyya => power(0.5, [-0.5, 0.5]),
            Divergence::Hellinger => plain(HELLINGER),
            Divergence::TotalVariation => plain(VARIATION),
            Divergence::ChiSquared => plain(CHI_SQUARED),
            Divergence::CrossEntropy => plain(CROSS_ENTROPY),
            Divergence::Entropy => plain(ENTROPY),
            _ => return None,
        })
    }
}

/// What the shader is told of a row.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Line {
    masses: [f32; 2],
    exponents: [i32; 2],
    unbalanced: f32,
    ln_overlap: [f32; 2],
    about: [f32; 2],
    by: [f32; 2],
    factor: f32,
    shifts: [f32; 2],
    /// In P and in Q, where Q has nothing and where P has.
    ends: [[f32; 2]; 2],
    pub ticket: u32,
}

impl Line {
    fn ln_masses(&self) -> [f64; 2] {
        let Line { masses, exponents, .. } = self;
        [0, 1].map(|side| f64::from(masses[side]).ln() + f64::from(exponents[side]) * LN_2)
    }
}

const LINE_FIELDS: &[(&str, usize)] = &[
    ("p", offset_of!(Line, masses)),
    ("q", offset_of!(Line, masses) + 4),
    ("p_exponent", offset_of!(Line, exponents)),
    ("q_exponent", offset_of!(Line, exponents) + 4),
    ("unbalanced", offset_of!(Line, unbalanced)),
    ("ln_overlap", offset_of!(Line, ln_overlap)),
    ("ln_overlap_rest", offset_of!(Line, ln_overlap) + 4),
    ("p_about", offset_of!(Line, about)),
    ("q_about", offset_of!(Line, about) + 4),
    ("p_by", offset_of!(Line, by)),
    ("q_by", offset_of!(Line, by) + 4),
    ("factor", offset_of!(Line, factor)),
    ("p_shift", offset_of!(Line, shifts)),
    ("q_shift", offset_of!(Line, shifts) + 4),
    ("p_end_of_p", offset_of!(Line, ends)),
    ("p_end_of_q", offset_of!(Line, ends) + 4),
    ("q_end_of_p", offset_of!(Line, ends) + 8),
    ("q_end_of_q", offset_of!(Line, ends) + 12),
    ("ticket", offset_of!(Line, ticket)),
];

/// What is asked of each row of a batch.
struct Lines {
    variant: Variant,
    divergence: Divergence,
    told: Told,
    kinds: [Kind; 2],
    divided: bool,
    mass: Mass,
    temperature: f64,
}

impl Lines {
    /// None of what the device has no slopes for.
    fn of<T: Element>(
        divergence: Divergence,
        batch: &Batch<'_, T>,
        variant: Variant,
    ) -> Option<Lines> {
        let kinds = [Side::P, Side::Q].map(|side| batch.kind(side));
        let divides = matches!(batch.mass(), Mass::Check | Mass::Normalize);
        let [divided, other] = kinds.map(|kind| divides || kind == Kind::Logits);
        let divergence = divergence.at_its_limit();
        let told = Told::of(divergence).filter(|_| !variant.is_f64() && divided == other)?;
        let (mass, temperature) = (batch.mass(), batch.temperature());
        Some(Lines { variant, divergence, told, kinds, divided, mass, temperature })
    }

    /// The means of which slopes are to be summed, of those that are wanted. The others are 0; but of
    /// rows near each other even that takes a sum, where sides are divided by a mass that has no more
    /// digits than an f32.
    fn summed(&self, wanted: [bool; 2], near: bool) -> [bool; 2] {
        let [p, q] = wanted.map(|wanted| wanted && self.divided);
        let rounded = near && self.variant.family != Family::Sums;
        match self.divergence {
            Divergence::Kl => [p, q && rounded],
            Divergence::ReverseKl => [p && rounded, q],
            Divergence::Entropy => [p, false],
            _ => [p, q],
        }
    }

    /// What the means are near for rows of some value, if that says it.
    fn means(&self, value: f64) -> Option<[f64; 2]> {
        Some(match self.divergence {
            Divergence::Kl | Divergence::CrossEntropy | Divergence::Entropy => [value, 0.0],
            Divergence::ReverseKl => [0.0, value],
            Divergence::Renyi(_) | Divergence::Bhattacharyya => [0.0; 2],
            Divergence::Tsallis(a) | Divergence::Alpha(a) => [a * value, (1.0 - a) * value],
            Divergence::Hellinger => [value * value; 2],
            Divergence::ChiSquared => [2.0 * value, -value],
            // Of many it says only what the two come to together.
            _ => return None,
        })
    }

    /// What a row of this value and weight is told, by what the first pass left of it. None if it is not
    /// in the range of this arithmetic.
    fn line(&self, head: &[u32], value: f64, weight: f64) -> Option<Line> {
        let masses = self.masses(head)?;
        if self.is_flat(value) {
            return None;
        }
        let slope = Slope::new(self.divergence).at(value, 1.0);
        let factor = slope.factor() as f32;
        let per_number = |side: usize| match self.kinds[side] {
            Kind::Probs if self.divided => 1.0 / (masses.of[side] * masses.exponents[side].exp2()),
            Kind::Probs | Kind::LogProbs => 1.0,
            Kind::Logits => 1.0 / self.temperature,
        };
        let by = [0, 1].map(|side| (weight * per_number(side)) as f32);
        if !(factor.is_normal() && by.iter().all(|by| by.is_normal())) {
            return None;
        }
        let means = self.means(value).filter(|_| self.divided).unwrap_or_default();
        let shifts = if self.divided { [0.0; 2] } else { slope.constants(self.mass).map(|x| -x) };
        let ln_overlap = match self.divergence {
            Divergence::Renyi(a) => (a - 1.0) * value,
            Divergence::Bhattacharyya => -value,
            _ => 0.0,
        };
        let none = f64::NEG_INFINITY;
        let [p_toward_p, q_toward_p] = slope.at_end([none, none], f64::INFINITY);
        let [p_toward_q, q_toward_q] = slope.at_end([none, 0.0], none);
        let ends = [[p_toward_p, p_toward_q], [q_toward_p, q_toward_q]];
        Some(Line {
            masses: masses.of.map(|mass| mass as f32),
            exponents: masses.exponents.map(|exponent| exponent as i32),
            unbalanced: masses.unbalanced as f32,
            ln_overlap: in_two(ln_overlap),
            about: means.map(|mean| mean as f32),
            by,
            factor,
            shifts: shifts.map(|shift| shift as f32),
            ends: ends.map(|ends| ends.map(|end| end as f32)),
            ticket: 0,
        })
    }

    /// Whether the slopes of a row of this value are next to alike: in logarithms nothing is left of them then but
    /// what f32 rounds away.
    fn is_flat(&self, value: f64) -> bool {
        const NEXT_TO: f64 = 0.98;
        let most = match self.divergence {
            Divergence::JensenShannon(w) => -w * w.ln() - (1.0 - w) * (-w).ln_1p(),
            Divergence::JsDistance => LN_2.sqrt(),
            Divergence::Hellinger | Divergence::TotalVariation => 1.0,
            Divergence::Tsallis(a @ ..1.0) => 1.0 / (1.0 - a),
            Divergence::Alpha(a) if (0.0..1.0).contains(&a) => 1.0 / (a * (1.0 - a)),
            _ => return false,
        };
        self.divided && self.kinds != [Kind::Probs; 2] && value > NEXT_TO * most
    }

    fn masses(&self, head: &[u32]) -> Option<LineMasses> {
        if !self.divided {
            return Some(LineMasses::NONE);
        }
        let (masses, exponents, ln_ratio) = match self.variant.family {
            Family::Sums => {
                let sums = record::sums(head, self.variant);
                ([sums.p, sums.q], [0.0; 2], -sums.ln_mass_ratio())
            }
            _ => {
                let (node, _) = record::node(head, self.variant);
                (node.masses, node.scales.map(|scale| (scale / LN_2).round()), node.ln_ratio())
            }
        };
        LineMasses::of(masses, exponents, ln_ratio)
    }
}

fn in_two(x: f64) -> [f32; 2] {
    let high = x as f32;
    [high, (x - f64::from(high)) as f32]
}

/// The masses of a row, between 1 and 2 in units of powers of two, and what the logarithm of their
/// ratio lacks.
struct LineMasses {
    of: [f64; 2],
    exponents: [f64; 2],
    unbalanced: f64,
}

impl LineMasses {
    const NONE: LineMasses = LineMasses { of: [1.0; 2], exponents: [0.0; 2], unbalanced: 0.0 };

    fn of(masses: [f64; 2], scales: [f64; 2], ln_ratio: f64) -> Option<LineMasses> {
        if !masses.iter().all(|&mass| (mass as f32).is_normal()) {
            return None;
        }
        let octaves = masses.map(|mass| mass.log2().floor());
        let of = [0, 1].map(|side| masses[side] * (-octaves[side]).exp2());
        let exponents = [0, 1].map(|side| octaves[side] + scales[side]);
        let rounded = (of[0] / of[1]).ln() + (exponents[0] - exponents[1]) * LN_2;
        Some(LineMasses { of, exponents, unbalanced: ln_ratio - rounded })
    }
}

/// A row that the device writes the derivatives of.
struct DueRow<V> {
    results: Row<V>,
    weight: f64,
    ln_masses: [f64; 2],
}

/// Of the rows of a chunk.
type Due<V> = Vec<Option<DueRow<V>>>;

/// A chunk on its way.
enum Stage<V> {
    /// To the records of its rows.
    Summing,
    /// To the derivatives.
    Writing(Due<V>),
}

impl Gpu {
    /// Fills in the rows that a call still lacks.
    pub(crate) async fn finish_gradients<T: Element>(
        &self,
        divergence: Divergence,
        gradients: &mut Gradients<'_, '_, '_, T>,
        call: &mut Call<T::Value>,
    ) -> Result<(), Error> {
        let done_before = call.done;
        let batch = &gradients.batch().slice(done_before..gradients.batch().rows());
        for outcome in &mut call.outcomes {
            outcome.adapter = Some(self.adapter().name().to_owned());
        }
        let variant = self.variant_for(batch)?;
        let wanted = [Side::P, Side::Q].map(|side| gradients.wanted().includes(side));
        let Some(way) = self.way(divergence, batch, variant, wanted) else {
            fill(gradients, batch.rows(), call, &|_| None);
            return Ok(());
        };
        let (mut running, mut idle) = (VecDeque::new(), Vec::new());
        let mut chunks = way.plan.chunks().peekable();
        // The first chunk is the largest, and a slot is for any of them.
        let most = chunks.peek().map_or([0; 2], |chunk| way.rows_job(chunk).bytes);
        loop {
            while running.len() < IN_FLIGHT
                && let Some(chunk) = chunks.peek()
            {
                let job = way.rows_job(chunk);
                let lent = match idle.pop() {
                    Some(lent) => Some(lent),
                    None => self.lend(call, most, !running.is_empty()).await?,
                };
                let Some(mut lent) = lent else { break };
                let Some(chunk) = chunks.next() else { break };
                pack(batch, &chunk, job.bytes, lent.slot()?).map_err(|e| self.fault(e))?;
                let until = call.until;
                lent.run(until, move |device, slot| Ok(((), device.sum_rows(slot, &job, until)?)))
                    .await?;
                running.push_back((chunk, lent, Stage::Summing));
            }
            let Some((chunk, mut lent, stage)) = running.pop_front() else { break };
            let until = call.until;
            let collect =
                move |device: &mut Device, mut slot| Ok((device.collect(&mut slot, until)?, slot));
            let made = lent.run(until, collect).await?;
            match stage {
                Stage::Summing => {
                    let weight = |row| gradients.weight(done_before + row);
                    let (rows, lines) = self.settled(&way, &chunk, &made, weight)?;
                    call.progressed();
                    let (job, until) = (way.gradient_job(&chunk, &rows, lines), call.until);
                    let write = move |device: &mut Device, slot| {
                        Ok(((), device.write_gradients(slot, job, until)?))
                    };
                    lent.run(until, write).await?;
                    running.push_back((chunk, lent, Stage::Writing(rows)));
                }
                Stage::Writing(rows) => {
                    self.take(&way, &chunk, &made, rows, gradients, call)?;
                    idle.push(lent);
                }
            }
        }
        match batch.rows() - (call.done - done_before) {
            0 => Ok(()),
            lost => Err(self.fault(Fault::wrong(format!("{lost} rows did not come")))),
        }
    }

    /// How the gradients of a batch are computed, if the device does it.
    fn way<'a, 'b, T: Element>(
        &self,
        divergence: Divergence,
        batch: &'a Batch<'b, T>,
        variant: Variant,
        wanted: [bool; 2],
    ) -> Option<Way<'a, 'b, T>> {
        let lines = Lines::of(divergence, batch, variant)?;
        let asked = Asked::new(&[divergence], batch, variant, true);
        let later = variant.terms().layout().record_bytes;
        let record_bytes = variant.layout().record_bytes + (asked.passes() + 1) * later;
        let limits = self.limits();
        let chunk_bytes = limits.chunk_bytes.min(limits.binding_bytes / READ_BACK);
        let layout = Layout { record_bytes, bin_bytes: GRADIENT_BYTES.max(size_of::<T>()) };
        let shape = Shape { rows: batch.rows(), bins: batch.bins(), layout };
        let plan = Plan::new(shape, Limits { chunk_bytes, ..limits }).ok()?;
        let read_back =
            |chunk: &Chunk| chunk.rows.len() * (2 * gradient_bytes(batch.bins()) + later);
        // The first chunk is the largest.
        let fits = plan.chunks().next().is_none_or(|chunk| {
            chunk.whole_rows && read_back(&chunk) as u64 <= limits.binding_bytes
        });
        let is_able = fits && !asked.is_for_the_host();
        is_able.then_some(Way { batch, lines, asked, plan, wanted })
    }

    /// The results of the rows that the device is to write the derivatives of, and what it is told of
    /// each row.
    fn settled<T: Element>(
        &self,
        way: &Way<'_, '_, T>,
        chunk: &Chunk,
        records: &[Records],
        weight: impl Fn(usize) -> f64 + Sync,
    ) -> Result<(Due<T::Value>, Vec<Line>), Error> {
        let passes = self.verified(way.batch, chunk.rows.clone(), records)?;
        let (heads, terms) = (&passes[0], &passes[1..]);
        let settled = (0..chunk.rows.len()).into_par_iter().map(|at| {
            let row = chunk.rows.start + at;
            let terms = |pass: usize| terms.get(pass).map_or(&[][..], |pass| pass[at]);
            let found = way.asked.row(0, way.batch, row, heads[at], terms);
            let is_due = found.status == Status::Ok && !found.looked_closer;
            let weight = Some(weight(row)).filter(|&weight| is_due && weight != 0.0);
            let value = found.value.to_f64();
            let due = weight.and_then(|weight| {
                let line = way.lines.line(heads[at], value, weight)?;
                Some((Some(DueRow { results: found, weight, ln_masses: line.ln_masses() }), line))
            });
            due.unwrap_or_default()
        });
        Ok(settled.unzip())
    }

    /// Takes the derivatives of the next rows of a call.
    fn take<T: Element>(
        &self,
        way: &Way<'_, '_, T>,
        chunk: &Chunk,
        made: &[Records],
        rows: Due<T::Value>,
        gradients: &mut Gradients<'_, '_, '_, T>,
        call: &mut Call<T::Value>,
    ) -> Result<(), Error> {
        let (records, written) = made.split_at(made.len().min(1));
        let passes = self.verified(way.batch, chunk.rows.clone(), records)?;
        let mut written = written.iter();
        let sides = way.wanted.map(|wanted| written.next().filter(|_| wanted));
        let (stride, bins) = (padded(way.batch.bins()), way.batch.bins());
        let (first, proofs) = (call.done, &passes[0]);
        let gradients_of = |at: usize| {
            sides.map(|side| match side {
                Some(side) => bytemuck::cast_slice(&side.words[at * stride..][..bins]),
                None => &[],
            })
        };
        let is_taken = |at: usize| {
            let is_huge = record::terms(proofs[at], way.lines.variant.terms()).huge;
            let Some(due) = rows[at].as_ref().filter(|_| !is_huge) else { return false };
            let top = || way.largest_probability(chunk.rows.start + at, due.ln_masses);
            let mut sides = way.lines.kinds.iter().zip(gradients_of(at));
            !way.lines.divided
                || sides.all(|(&kind, of)| kind == Kind::Probs || is_sound(of, due.weight, top))
        };
        // Once, since it takes a look at all of them.
        let are_taken: Vec<bool> = (0..rows.len()).into_par_iter().map(is_taken).collect();
        let of_row = |row: usize| {
            let at = row - first;
            let due = rows[at].as_ref().filter(|_| are_taken[at])?;
            Some(Made { row: due.results, gradients: gradients_of(at) })
        };
        fill(gradients, chunk.rows.len(), call, &of_row);
        Ok(())
    }
}

/// How the gradients of a batch are computed.
struct Way<'a, 'b, T> {
    batch: &'a Batch<'b, T>,
    lines: Lines,
    asked: Asked,
    plan: Plan,
    wanted: [bool; 2],
}

impl<T: Element> Way<'_, '_, T> {
    /// Of both sides of a row.
    fn largest_probability(&self, row: usize, ln_masses: [f64; 2]) -> f64 {
        let of_side = |side: Side| {
            let (kind, bins) = (self.lines.kinds[side as usize], self.batch.row(side, row));
            let most = bins.iter().fold(f64::NEG_INFINITY, |most, x| most.max(x.to_f64()));
            let ln = if kind == Kind::Probs { most.ln() } else { most };
            (ln / kind.divided_by(self.lines.temperature) - ln_masses[side as usize]).exp()
        };
        of_side(Side::P).max(of_side(Side::Q))
    }

    /// What the values take, after which the bins are wanted once more.
    fn rows_job(&self, chunk: &Chunk) -> RowsJob {
        let rows = job(self.batch, self.lines.variant, &self.plan, chunk, &self.asked);
        RowsJob { keeps_bins: true, ..rows }
    }

    /// What the derivatives take.
    fn gradient_job(&self, chunk: &Chunk, due: &Due<T::Value>, lines: Vec<Line>) -> GradientJob {
        let rows = self.rows_job(chunk);
        let near = due.iter().flatten().any(|due| due.results.value.to_f64() < NEAR);
        let passes = self.passes(rows.params, near);
        let side_bytes = chunk.rows.len() * gradient_bytes(chunk.bins.len());
        let bytes = self.wanted.map(|wanted| if wanted { side_bytes } else { 0 });
        GradientJob { rows, passes, bytes, lines }
    }

    fn passes(&self, rows: rows::Params, near: bool) -> Vec<Params> {
        let Lines { told, divided, .. } = self.lines;
        let summed = self.lines.summed(self.wanted, near);
        let known = u32::from(self.lines.means(1.0).is_some());
        let sums = if summed == [false; 2] { 0 } else { 2 - known };
        let [p, q] = self.wanted.map(u32::from);
        let (divided, summed) = (divided.into(), summed.map(u32::from));
        let pass = |round, writes| Params { rows, told, divided, summed, round, writes };
        let before = (0..sums).map(|round| pass(round, 0));
        before.chain([pass(sums, p | q << 1)]).collect()
    }
}

/// Whether derivatives in logarithms that are divided by their mass come to nothing together: where one bin has
/// nearly all the mass they do not, which is where rounding shows. And whether there is one beside which the least
/// probabilities, which the device takes as larger than they are, do not count, nor what all others have lost, by the
/// largest probability.
fn is_sound(derivatives: &[f32], weight: f64, largest_probability: impl FnOnce() -> f64) -> bool {
    let (mut sum, mut size, mut largest) = (0.0, 0.0, 0.0_f64);
    for &derivative in derivatives {
        let derivative = f64::from(derivative);
        sum += derivative;
        size += derivative.abs();
        largest = largest.max(derivative.abs());
    }
    let shows = largest == 0.0 || largest >= LEAST * weight.abs();
    let stands_out = || {
        let least = LEAST_BESIDE_ALL * size;
        largest >= least || largest >= least * largest_probability()
    };
    shows && sum.abs() <= 5e-6 * largest + 5e-7 * size && stands_out()
}

/// Beside so large a derivative it does not matter what a probability below 2^-100 is taken for.
const LEAST: f64 = 1e-23;
/// The least value of rows that do not count as near each other.
const NEAR: f64 = 1e-3;
/// Bytes of a derivative.
const GRADIENT_BYTES: usize = size_of::<f32>();
/// Bytes of those in a row.
fn gradient_bytes(bins: usize) -> usize {
    padded(bins) * GRADIENT_BYTES
}

/// What is read back of a chunk is up to three times as large as its bins, and no larger than a binding.
const READ_BACK: u64 = 4;

/// Fills in the next rows of a call.
fn fill<T: Element>(
    gradients: &mut Gradients<'_, '_, '_, T>,
    rows: usize,
    call: &mut Call<T::Value>,
    by_device: &ByDevice<'_, T::Value>,
) {
    let rows = call.done..call.done + rows;
    for outcome in &mut call.outcomes {
        gradients.fill(outcome.slots(rows.clone()), rows.start, by_device);
        outcome.closer_looks += rows.clone().filter(|&row| by_device(row).is_none()).count();
    }
    call.done = rows.end;
    call.progressed();
}
