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

#[cfg(test)]
mod tests {
    use super::*;

    const OWED: Record =
        Record { g: 0.5, p: 1.0, q: 1.0, d: 0.0, consumed: 40, flags: 0, top: 0, ticket: 7 };

    #[test]
    fn what_a_submission_owes_is_accepted() {
        assert_eq!(OWED.verified(7, 40), Ok(OWED));
        let infinite = Record { flags: SOME_INFINITE, ..OWED };
        assert_eq!(infinite.verified(7, 40), Ok(infinite));
    }

    #[test]
    fn what_another_one_left_is_refused() {
        // Cleared memory, a plausible 0 among it.
        assert!(Record::default().verified(7, 40).is_err());
        assert!(OWED.verified(8, 40).is_err());
        assert!(Record { flags: SOME_STALE, ..OWED }.verified(7, 40).is_err());
        assert!(Record { flags: SOME_STALE | SOME_INFINITE, ..OWED }.verified(7, 40).is_err());
    }

    #[test]
    fn a_dispatch_that_was_cut_short_is_refused() {
        assert!(OWED.verified(7, 41).is_err());
        assert!(OWED.verified(7, 39).is_err());
    }
}
