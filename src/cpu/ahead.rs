//! Asking for memory before its turn comes. Loops that go through some bins more than once leave the memory
//! idle from the second time on; and processors that read ahead by themselves do it no further than a row's
//! sums take to be settled.

use super::sums::LANES;

/// Asks for the line of memory so many blocks after this one. It may belong to nobody: nothing is read.
#[inline(always)]
pub(super) fn ask(block: &[f32; LANES], ahead: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(sse) = pulp::core_arch::x86::Sse::try_new() {
        use std::arch::x86_64::_MM_HINT_T0;
        sse._mm_prefetch::<_MM_HINT_T0>(block.as_ptr().wrapping_add(ahead * LANES).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (block, ahead);
}
