//! The last pass of resident use: values and statuses. Shader: `shaders/settle.wgsl`.

use std::mem::{offset_of, size_of};

use super::kernel::Spec;
use super::variant::Variant;
use crate::batch::Mass;
use crate::plan::Dispatch;

/// What the shader declares.
pub fn spec(variant: Variant) -> Spec {
    Spec {
        name: "settle",
        variant,
        heads: None,
        source: [
            variant.record_source(),
            variant.settle_source(),
            include_str!("../../shaders/settle.wgsl"),
        ]
        .concat(),
        buffers: [
            &[("settled", 1, false), ("values", 2, true), ("statuses", 3, true)],
            variant.arithmetic_buffers(),
        ]
        .concat(),
        params: (size_of::<Params>(), FIELDS),
    }
}

const FIELDS: &[(&str, usize)] = &[
    ("units", offset_of!(Params, units)),
    ("line", offset_of!(Params, line)),
    ("bins", offset_of!(Params, bins)),
    ("ticket", offset_of!(Params, ticket)),
    ("mass", offset_of!(Params, mass)),
    ("p_weighed", offset_of!(Params, p_weighed)),
    ("q_weighed", offset_of!(Params, q_weighed)),
    ("tolerance", offset_of!(Params, tolerance)),
    ("least", offset_of!(Params, least)),
    ("zero", offset_of!(Params, zero)),
];

#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Params {
    units: u32,
    line: u32,
    bins: u32,
    ticket: u32,
    mass: u32,
    p_weighed: u32,
    q_weighed: u32,
    tolerance: f32,
    least: f32,
    zero: u32,
}

/// How records become values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    pub mass: Mass,
    pub tolerance: f64,
    /// Whether P and Q have masses.
    pub weighed: [bool; 2],
    /// Divergences below it owe digits to rounding.
    pub least: f64,
}

impl Params {
    pub(crate) fn new(policy: Policy, dispatch: Dispatch, bins: usize, ticket: u32) -> Params {
        let [p_weighed, q_weighed] = policy.weighed.map(u32::from);
        Params {
            units: dispatch.units,
            line: dispatch.grid[0],
            bins: bins as u32,
            ticket,
            mass: policy.mass as u32,
            p_weighed,
            q_weighed,
            tolerance: policy.tolerance as f32,
            least: policy.least as f32,
            zero: 0,
        }
    }
}
