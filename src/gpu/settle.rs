//! What is left of a unit: its record, or for resident use the value and the status of the row that it
//! is. Shaders: `shaders/shared/put_record.wgsl` and `shaders/shared/put_value.wgsl`.

use std::mem::{offset_of, size_of};

use super::kernel::Fields;
use super::variant::Output;

/// The storage buffers that a kernel of this output writes to.
pub(super) fn buffers(output: Output) -> &'static [(&'static str, u32, bool)] {
    match output {
        Output::Record => &[("made", 3, true)],
        Output::Value => &[("values", 10, true), ("statuses", 11, true)],
    }
}

/// The uniform that it reads besides its parameters.
pub(super) fn policy(output: Output) -> Option<Fields> {
    (output == Output::Value).then_some((size_of::<Policy>(), FIELDS))
}

const FIELDS: &[(&str, usize)] = &[
    ("bins", offset_of!(Policy, bins)),
    ("mass", offset_of!(Policy, mass)),
    ("p_weighed", offset_of!(Policy, p_weighed)),
    ("q_weighed", offset_of!(Policy, q_weighed)),
    ("tolerance", offset_of!(Policy, tolerance)),
    ("least", offset_of!(Policy, least)),
    ("with_statuses", offset_of!(Policy, with_statuses)),
];

/// How records become values, as the shader has it.
#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Policy {
    pub bins: u32,
    /// A [`Mass`](crate::Mass).
    pub mass: u32,
    /// Whether P and Q have masses.
    pub p_weighed: u32,
    pub q_weighed: u32,
    pub tolerance: f32,
    /// Divergences below it owe digits to rounding.
    pub least: f32,
    pub with_statuses: u32,
}
