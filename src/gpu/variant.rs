//! The texts that the kernels are made of: one for each type of bin and each way to sum a row.

use crate::batch::Batch;
use crate::cpu::tile::Sum;
use crate::element::Element;
use crate::error::Side;
use crate::kind::Kind;
use crate::plan::{Chunk, Dispatch, Layout, Plan};

use super::record;

/// How bins lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// A bin to a word, each row padded to whole vector loads.
    F32,
    /// A bin to a word, and no padding.
    F32Any,
    /// Two bins to a word.
    F16,
    /// Two bins to a word.
    Bf16,
    /// A bin to two words.
    F64,
}

/// What is made of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// Sums, where both sides are probabilities.
    Sums,
    /// A node of the chain rule, where a side is logarithms.
    Chain,
    /// The same, in f32, where both sides are logarithms as they are.
    Logs,
    /// The sums that other divergences are made of, in passes after one of the former.
    Terms,
    /// A sum over pairs of rows that the host made ready.
    Pairs(Sum),
}

/// What a kernel leaves of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// Its record.
    Record,
    /// The value of the row that it is, for resident use.
    Value,
}

/// A variant of the kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Variant {
    /// How bins lie in memory.
    pub format: Format,
    /// What is made of a row.
    pub family: Family,
}

impl Variant {
    /// All that the first pass has.
    pub fn all() -> impl Iterator<Item = Variant> {
        let formats = [Format::F32, Format::F32Any, Format::F16, Format::Bf16, Format::F64];
        let all = formats.into_iter().flat_map(|format| {
            let families = [Family::Sums, Family::Chain, Family::Logs];
            families.map(|family| Variant { format, family })
        });
        all.filter(|variant| !(variant.is_f64() && variant.family == Family::Logs))
    }

    /// Those whose records are merged.
    pub fn merged() -> impl Iterator<Item = Variant> {
        let terms =
            [Format::F32, Format::F64].map(|format| Variant { format, family: Family::Terms });
        Variant::all().chain(terms)
    }

    /// The dispatch that sums the units of a chunk.
    pub(crate) fn dispatch(self, plan: &Plan, chunk: &Chunk) -> Dispatch {
        let dispatch = plan.dispatch(chunk);
        if self.family == Family::Chain { dispatch.unspecialised() } else { dispatch }
    }

    /// Records of terms, of which there are two: whatever the bins were, the arithmetic is in f32 or in f64.
    pub(crate) fn terms(self) -> Variant {
        let format = if self.is_f64() { Format::F64 } else { Format::F32 };
        Variant { format, family: Family::Terms }
    }

    /// The one for a sum over pairs of rows.
    pub(crate) fn for_sum(sum: Sum) -> Variant {
        Variant { format: Format::F32, family: Family::Pairs(sum) }
    }

    /// Those of all sums over pairs.
    pub fn sums() -> impl Iterator<Item = Sum> {
        let linear = [Sum::Kl, Sum::ReverseKl, Sum::Jeffreys, Sum::JensenShannon, Sum::ChiSquared];
        let others = [Sum::Roots, Sum::Overlap, Sum::Variation, Sum::CrossEntropy];
        linear.into_iter().chain(others)
    }

    /// The one for a batch.
    pub(crate) fn of<T: Element>(batch: &Batch<'_, T>) -> Option<Variant> {
        let format = match T::NAME {
            "f32" => Format::F32,
            "f16" => Format::F16,
            "bf16" => Format::Bf16,
            "f64" => Format::F64,
            _ => return None,
        };
        let kinds = [Side::P, Side::Q].map(|side| batch.kind(side));
        Some(Variant::for_kinds(format, kinds, batch.temperature()))
    }

    /// The one for two sides of these kinds.
    pub(crate) fn for_kinds(format: Format, kinds: [Kind; 2], temperature: f64) -> Variant {
        let logs = kinds.iter().all(|&kind| kind != Kind::Probs);
        let cooled = kinds.contains(&Kind::Logits) && temperature != 1.0;
        let family = match kinds {
            [Kind::Probs, Kind::Probs] => Family::Sums,
            _ if logs && !cooled && format != Format::F64 => Family::Logs,
            _ => Family::Chain,
        };
        Variant { format, family }
    }

    /// Whether the arithmetic is in f64, which not every adapter has.
    pub fn is_f64(self) -> bool {
        self.format == Format::F64
    }

    /// Bytes of a bin and of a record.
    pub fn layout(self) -> Layout {
        Layout {
            bin_bytes: match self.format {
                Format::F32 | Format::F32Any => 4,
                Format::F16 | Format::Bf16 => 2,
                Format::F64 => 8,
            },
            record_bytes: record::bytes(self),
        }
    }

    /// The storage buffers that the bins are read from, with their bindings.
    pub(crate) fn bins_buffers(self) -> &'static [(&'static str, u32, bool)] {
        match self.format {
            Format::F64 => {
                &[("p", 1, false), ("q", 2, false), ("p_words", 5, false), ("q_words", 6, false)]
            }
            _ => &[("p", 1, false), ("q", 2, false)],
        }
    }

    /// Those that the arithmetic reads.
    pub(crate) fn arithmetic_buffers(self) -> &'static [(&'static str, u32, bool)] {
        match self.family {
            Family::Chain | Family::Logs => self.logs_buffers(),
            _ => &[],
        }
    }

    /// Those that logarithms are read from.
    pub(crate) fn logs_buffers(self) -> &'static [(&'static str, u32, bool)] {
        if self.is_f64() { &[] } else { &[("ln_table", 4, false)] }
    }

    /// What reads four bins.
    pub(crate) fn bins_source(self) -> &'static str {
        match self.format {
            Format::F32 => include_str!("../../shaders/shared/f32.wgsl"),
            Format::F32Any => include_str!("../../shaders/shared/f32_any.wgsl"),
            Format::F16 => include_str!("../../shaders/shared/f16.wgsl"),
            Format::Bf16 => include_str!("../../shaders/shared/bf16.wgsl"),
            Format::F64 => include_str!("../../shaders/shared/f64.wgsl"),
        }
    }

    /// What makes a record of a segment, in the first pass.
    pub(crate) fn segment_source(self) -> &'static str {
        match (self.family, self.is_f64()) {
            (Family::Terms, _) => "",
            (Family::Pairs(sum), _) => pair_source(sum),
            (Family::Sums, false) => concat!(
                include_str!("../../shaders/shared/term_f32.wgsl"),
                include_str!("../../shaders/shared/segment_sums.wgsl"),
                include_str!("../../shaders/shared/reduce.wgsl"),
            ),
            (Family::Sums, true) => concat!(
                include_str!("../../shaders/shared/atanh_f64.wgsl"),
                include_str!("../../shaders/shared/term_f64.wgsl"),
                include_str!("../../shaders/shared/segment_sums.wgsl"),
                include_str!("../../shaders/shared/reduce.wgsl"),
            ),
            (Family::Chain, false) => concat!(
                include_str!("../../shaders/shared/side.wgsl"),
                include_str!("../../shaders/shared/side_f32.wgsl"),
                include_str!("../../shaders/shared/sides.wgsl"),
                include_str!("../../shaders/shared/segment_chain.wgsl"),
            ),
            (Family::Logs, _) => concat!(
                include_str!("../../shaders/shared/side.wgsl"),
                include_str!("../../shaders/shared/side_f32.wgsl"),
                include_str!("../../shaders/shared/plain_f32.wgsl"),
                include_str!("../../shaders/shared/segment_chain.wgsl"),
            ),
            (Family::Chain, true) => concat!(
                include_str!("../../shaders/shared/side.wgsl"),
                include_str!("../../shaders/shared/side_f64.wgsl"),
                include_str!("../../shaders/shared/sides.wgsl"),
                include_str!("../../shaders/shared/segment_chain.wgsl"),
            ),
        }
    }

    /// What puts a unit's record, or in f32 a row's value, where the host looks for it.
    pub(crate) fn output_source(self, output: Output) -> &'static str {
        match (output, self.family) {
            (Output::Record, _) => include_str!("../../shaders/shared/put_record.wgsl"),
            (Output::Value, Family::Chain | Family::Logs) => concat!(
                include_str!("../../shaders/shared/settle_chain.wgsl"),
                include_str!("../../shaders/shared/put_value.wgsl"),
            ),
            (Output::Value, _) => concat!(
                include_str!("../../shaders/shared/settle_sums.wgsl"),
                include_str!("../../shaders/shared/put_value.wgsl"),
            ),
        }
    }

    /// How the later passes make distributions of the bins, from records of this variant.
    pub(crate) fn head_source(self) -> &'static str {
        match self.family {
            Family::Sums => include_str!("../../shaders/shared/family_sums.wgsl"),
            Family::Chain => concat!(
                include_str!("../../shaders/shared/kinds_any.wgsl"),
                include_str!("../../shaders/shared/family_chain.wgsl"),
            ),
            Family::Logs => concat!(
                include_str!("../../shaders/shared/kinds_logs.wgsl"),
                include_str!("../../shaders/shared/family_chain.wgsl"),
            ),
            Family::Terms | Family::Pairs(_) => "",
        }
    }

    /// What a record is and how two become one.
    pub(crate) fn record_source(self) -> &'static str {
        match (self.family, self.is_f64()) {
            (Family::Terms, false) => concat!(
                include_str!("../../shaders/shared/unit.wgsl"),
                include_str!("../../shaders/shared/bits_f32.wgsl"),
                include_str!("../../shaders/shared/terms.wgsl"),
            ),
            (Family::Terms, true) => concat!(
                include_str!("../../shaders/shared/unit.wgsl"),
                include_str!("../../shaders/shared/bits_f64.wgsl"),
                include_str!("../../shaders/shared/terms.wgsl"),
            ),
            (Family::Pairs(_), _) => concat!(
                include_str!("../../shaders/shared/unit.wgsl"),
                include_str!("../../shaders/shared/bits_f32.wgsl"),
            ),
            (Family::Sums, false) => concat!(
                include_str!("../../shaders/shared/unit.wgsl"),
                include_str!("../../shaders/shared/bits_f32.wgsl"),
                include_str!("../../shaders/shared/sums.wgsl"),
            ),
            (Family::Sums, true) => concat!(
                include_str!("../../shaders/shared/unit.wgsl"),
                include_str!("../../shaders/shared/bits_f64.wgsl"),
                include_str!("../../shaders/shared/sums.wgsl"),
            ),
            (Family::Chain | Family::Logs, false) => concat!(
                include_str!("../../shaders/shared/unit.wgsl"),
                include_str!("../../shaders/shared/bits_f32.wgsl"),
                include_str!("../../shaders/shared/logs_f32.wgsl"),
                include_str!("../../shaders/shared/two_parts.wgsl"),
                include_str!("../../shaders/shared/chain.wgsl"),
            ),
            (Family::Chain | Family::Logs, true) => concat!(
                include_str!("../../shaders/shared/unit.wgsl"),
                include_str!("../../shaders/shared/bits_f64.wgsl"),
                include_str!("../../shaders/shared/logs_f64.wgsl"),
                include_str!("../../shaders/shared/two_parts.wgsl"),
                include_str!("../../shaders/shared/chain.wgsl"),
            ),
        }
    }
}

/// What a bin of a pair adds to a sum.
fn pair_source(sum: Sum) -> &'static str {
    match sum {
        Sum::Kl => concat!(
            include_str!("../../shaders/shared/pair_bregman.wgsl"),
            include_str!("../../shaders/shared/pair_kl.wgsl"),
        ),
        Sum::ReverseKl => concat!(
            include_str!("../../shaders/shared/pair_bregman.wgsl"),
            include_str!("../../shaders/shared/pair_reverse_kl.wgsl"),
        ),
        Sum::Jeffreys => include_str!("../../shaders/shared/pair_jeffreys.wgsl"),
        Sum::JensenShannon => include_str!("../../shaders/shared/pair_jensen_shannon.wgsl"),
        Sum::Roots => include_str!("../../shaders/shared/pair_roots.wgsl"),
        Sum::Overlap => include_str!("../../shaders/shared/pair_overlap.wgsl"),
        Sum::Variation => include_str!("../../shaders/shared/pair_variation.wgsl"),
        Sum::ChiSquared => include_str!("../../shaders/shared/pair_chi_squared.wgsl"),
        Sum::CrossEntropy => include_str!("../../shaders/shared/pair_cross_entropy.wgsl"),
    }
}
