//! The texts that the kernels are made of: one for each type of bin and each way to sum a row.

use crate::batch::Batch;
use crate::element::Element;
use crate::plan::Layout;

use super::record::{ChainRecord, SumsRecord};

/// How bins lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// A bin to a word.
    F32,
    /// Two bins to a word.
    F16,
    /// Two bins to a word.
    Bf16,
}

/// What is made of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// Sums, where both sides are probabilities.
    Sums,
    /// A node of the chain rule, where a side is logarithms.
    Chain,
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
    /// All of them.
    pub fn all() -> impl Iterator<Item = Variant> {
        [Format::F32, Format::F16, Format::Bf16].into_iter().flat_map(|format| {
            [Family::Sums, Family::Chain].map(|family| Variant { format, family })
        })
    }

    /// The one for a batch; none if the shaders do not take its type.
    pub(crate) fn of<T: Element>(batch: &Batch<'_, T>) -> Option<Variant> {
        let format = match T::NAME {
            "f32" => Format::F32,
            "f16" => Format::F16,
            "bf16" => Format::Bf16,
            _ => return None,
        };
        let family = if batch.is_probs() { Family::Sums } else { Family::Chain };
        Some(Variant { format, family })
    }

    /// Bytes of a bin and of a record.
    pub fn layout(self) -> Layout {
        Layout {
            bin_bytes: match self.format {
                Format::F32 => 4,
                Format::F16 | Format::Bf16 => 2,
            },
            record_bytes: match self.family {
                Family::Sums => size_of::<SumsRecord>(),
                Family::Chain => size_of::<ChainRecord>(),
            },
        }
    }

    /// What reads four bins, as 32-bit floats.
    pub(crate) fn bins_source(self) -> &'static str {
        match self.format {
            Format::F32 => include_str!("../../shaders/shared/f32.wgsl"),
            Format::F16 => include_str!("../../shaders/shared/f16.wgsl"),
            Format::Bf16 => include_str!("../../shaders/shared/bf16.wgsl"),
        }
    }

    /// What makes a record of a segment.
    pub(crate) fn segment_source(self) -> &'static str {
        match self.family {
            Family::Sums => concat!(
                include_str!("../../shaders/shared/term.wgsl"),
                include_str!("../../shaders/shared/segment_sums.wgsl"),
            ),
            Family::Chain => include_str!("../../shaders/shared/segment_chain.wgsl"),
        }
    }

    /// What a record is and how two become one.
    pub(crate) fn record_source(self) -> &'static str {
        match self.family {
            Family::Sums => concat!(
                include_str!("../../shaders/shared/unit.wgsl"),
                include_str!("../../shaders/shared/bits.wgsl"),
                include_str!("../../shaders/shared/sums.wgsl"),
            ),
            Family::Chain => concat!(
                include_str!("../../shaders/shared/unit.wgsl"),
                include_str!("../../shaders/shared/bits.wgsl"),
                include_str!("../../shaders/shared/logs.wgsl"),
                include_str!("../../shaders/shared/chain.wgsl"),
            ),
        }
    }

    /// Whether the texts read the table of logarithms.
    pub(crate) fn reads_ln_table(self) -> bool {
        self.family == Family::Chain
    }
}
