//! The record of sums that the shaders leave, as `shaders/shared/record.wgsl` declares it.

use crate::sums::Sums;
use crate::term::Term;

/// One record.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Record {
    pub g: f32,
    pub p: f32,
    pub q: f32,
    pub d: f32,
    pub consumed: u32,
    pub flags: u32,
    pub top: u32,
    pub ticket: u32,
}

/// The fields and their offsets, for the test that reads the shaders.
pub const FIELDS: &[(&str, usize)] = &[
    ("g", std::mem::offset_of!(Record, g)),
    ("p", std::mem::offset_of!(Record, p)),
    ("q", std::mem::offset_of!(Record, q)),
    ("d", std::mem::offset_of!(Record, d)),
    ("consumed", std::mem::offset_of!(Record, consumed)),
    ("flags", std::mem::offset_of!(Record, flags)),
    ("top", std::mem::offset_of!(Record, top)),
    ("ticket", std::mem::offset_of!(Record, ticket)),
];

/// `Record::flags`: some bin has `p > 0 = q`.
pub const SOME_INFINITE: u32 = 1;
/// `Record::flags`: a merged record was not written by the submission that merged it.
pub const SOME_STALE: u32 = 2;

impl Record {
    /// The record, if it is what the submission with this ticket owed: a dispatch that did not
    /// run, or not to its end, leaves something else.
    pub(crate) fn verified(self, ticket: u32, bins: usize) -> Result<Record, String> {
        if self.ticket != ticket || self.flags & SOME_STALE != 0 {
            return Err("a dispatch did not run: its results are not of this submission".into());
        }
        if self.consumed as usize != bins {
            return Err(format!(
                "a dispatch was cut short: {} of {bins} bins were consumed",
                self.consumed
            ));
        }
        Ok(self)
    }

    pub(crate) fn sums(self) -> Sums {
        Sums {
            g: self.g.into(),
            p: self.p.into(),
            q: self.q.into(),
            d: self.d.into(),
            infinite: self.flags & SOME_INFINITE != 0,
            invalid: self.top >= f32::INFINITE,
            huge: self.top >= f32::HUGE,
        }
    }
}
