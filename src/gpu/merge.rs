//! The second pass: records of a row into one. Shader: `shaders/merge.wgsl`.

use std::mem::{offset_of, size_of};

use super::kernel::Spec;
use super::settle;
use super::variant::{Output, Variant};
use crate::plan::Merge;

/// What the shader declares.
pub fn spec(variant: Variant, output: Output) -> Spec {
    Spec {
        name: "merge",
        variant,
        heads: None,
        lines: None,
        source: [
            variant.record_source(),
            include_str!("../../shaders/shared/reduce.wgsl"),
            variant.output_source(output),
            include_str!("../../shaders/merge.wgsl"),
        ]
        .concat(),
        buffers: [&[("parts", 1, false)], settle::buffers(output), variant.arithmetic_buffers()]
            .concat(),
        params: (size_of::<Params>(), FIELDS),
        policy: settle::policy(output),
        own: Vec::new(),
    }
}

const FIELDS: &[(&str, usize)] = &[
    ("units", offset_of!(Params, units)),
    ("line", offset_of!(Params, line)),
    ("lanes", offset_of!(Params, lanes)),
    ("before", offset_of!(Params, before)),
    ("after", offset_of!(Params, after)),
    ("fan", offset_of!(Params, fan)),
    ("ticket", offset_of!(Params, ticket)),
    ("zero", offset_of!(Params, zero)),
];

#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Params {
    units: u32,
    line: u32,
    lanes: u32,
    before: u32,
    after: u32,
    fan: u32,
    ticket: u32,
    zero: u32,
}

impl Params {
    pub(crate) fn new(merge: &Merge, ticket: u32) -> Params {
        Params {
            units: merge.dispatch.units,
            line: merge.dispatch.grid[0],
            lanes: merge.dispatch.lanes,
            before: merge.before,
            after: merge.after,
            fan: merge.fan,
            ticket,
            zero: 0,
        }
    }
}
