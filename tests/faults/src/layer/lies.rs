//! What a broken adapter does while it says that all is well.

use ash::vk::{self, Handle};

use super::below::{self, key_of};
use super::forward::Forward;
use super::state::state;
use crate::function::Function;
use crate::rule::Lie;
use crate::script::Key;

/// Passes the call on with something about it changed.
///
/// # Safety
/// The arguments are those of a function that this lie suits, and `next` is that function below.
pub(super) unsafe fn tell(lie: Lie, call: [usize; 6], next: Forward, device: Key) -> i32 {
    // SAFETY: as above.
    unsafe {
        match lie {
            Lie::Half | Lie::Tail => dispatch(lie, call, next),
            Lie::Zeros | Lie::Nan => fill(lie, call, device),
            Lie::Shift | Lie::Swap | Lie::Byte => copy(lie, call, next),
            Lie::Empty => submit_nothing(call, next),
            Lie::Minus | Lie::Flip => compile(lie, call, next),
            Lie::Skip => 0,
        }
    }
}

/// # Safety
/// As [`tell`], for `vkCmdDispatch`.
unsafe fn dispatch(lie: Lie, [commands, x, y, z, e, f]: [usize; 6], next: Forward) -> i32 {
    // Of a 32-bit argument the upper half of the register is anything.
    let groups = x as u32;
    let done = if lie == Lie::Half { groups / 2 } else { groups - 1 };
    // SAFETY: any number of groups can be asked for.
    unsafe { next(commands, done as usize, y, z, e, f) }
}

/// # Safety
/// The arguments are those of `vkCmdCopyBuffer`.
unsafe fn regions<'a>([_, _, _, count, regions, _]: [usize; 6]) -> &'a [vk::BufferCopy] {
    // SAFETY: the fourth argument is how many there are at the fifth.
    unsafe { std::slice::from_raw_parts(regions as *const vk::BufferCopy, count as u32 as usize) }
}

/// # Safety
/// As [`tell`], for `vkCmdCopyBuffer`.
unsafe fn fill(lie: Lie, call: [usize; 6], device: Key) -> i32 {
    let word = if lie == Lie::Nan { f32::NAN.to_bits() } else { 0 };
    let Some(fill) = below::function(device, Function::CmdFillBuffer) else { return 0 };
    // SAFETY: what can be copied to can be filled, and buffers of words are.
    unsafe {
        let fill: vk::PFN_vkCmdFillBuffer = std::mem::transmute(fill);
        let (commands, to) = (call[0] as u64, call[2] as u64);
        for region in regions(call) {
            let (commands, to) = (vk::CommandBuffer::from_raw(commands), vk::Buffer::from_raw(to));
            fill(commands, to, region.dst_offset, region.size, word);
        }
    }
    0
}

/// # Safety
/// As [`tell`], for `vkCmdCopyBuffer`.
unsafe fn copy(lie: Lie, mut call: [usize; 6], next: Forward) -> i32 {
    let part = |region: &vk::BufferCopy, from: u64, to: u64, size: u64| vk::BufferCopy {
        src_offset: region.src_offset + from,
        dst_offset: region.dst_offset + to,
        size,
    };
    // SAFETY: as above.
    let asked = unsafe { regions(call) };
    let parts = asked.iter().flat_map(|region| {
        let (size, half) = (region.size, region.size / 2);
        match lie {
            Lie::Shift => vec![part(region, 4, 0, size - 4)],
            Lie::Swap => {
                vec![part(region, 0, size - half, half), part(region, half, 0, size - half)]
            }
            _ => vec![part(region, 0, 0, 1), part(region, 2, 1, 1), part(region, 2, 2, size - 2)],
        }
    });
    let parts: Vec<vk::BufferCopy> = parts.filter(|part| part.size > 0).collect();
    (call[3], call[4]) = (parts.len(), parts.as_ptr() as usize);
    let [a, b, c, d, e, f] = call;
    // SAFETY: the parts lie within the regions that were asked for, and do not overlap.
    unsafe { next(a, b, c, d, e, f) }
}

/// # Safety
/// As [`tell`], for `vkQueueSubmit`.
unsafe fn submit_nothing(call: [usize; 6], next: Forward) -> i32 {
    let [queue, count, submits, fence, e, f] = call;
    // SAFETY: the second argument is how many there are at the third.
    let asked = unsafe {
        std::slice::from_raw_parts(submits as *const vk::SubmitInfo<'_>, count as u32 as usize)
    };
    let mut empty = asked.to_vec();
    for submit in &mut empty {
        submit.command_buffer_count = 0;
    }
    // SAFETY: without commands it is as valid as with them.
    unsafe { next(queue, empty.len(), empty.as_ptr() as usize, fence, e, f) }
}

/// # Safety
/// As [`tell`], for `vkCreateShaderModule`.
unsafe fn compile(
    lie: Lie,
    [device, info, allocator, module, e, f]: [usize; 6],
    next: Forward,
) -> i32 {
    // SAFETY: the second argument is a valid struct with so many bytes of SPIR-V.
    unsafe {
        let mut info = *(info as *const vk::ShaderModuleCreateInfo<'_>);
        let mut words = std::slice::from_raw_parts(info.p_code, info.code_size / 4).to_vec();
        miscompile(lie, &mut words);
        info.p_code = words.as_ptr();
        next(device, &raw const info as usize, allocator, module, e, f)
    }
}

/// Changes a SPIR-V module so that it stays valid.
fn miscompile(lie: Lie, words: &mut [u32]) {
    const HEADER: usize = 5;
    const TYPE_FLOAT: u32 = 22;
    const CONSTANT: u32 = 43;
    const ADD: u32 = 129;
    const SUBTRACT: u32 = 131;
    let (mut f32_type, mut at) = (None, HEADER);
    while let Some(&first) = words.get(at) {
        let (length, code) = ((first >> 16) as usize, first & 0xffff);
        match (code, &mut words[at..(at + length.max(1))]) {
            (TYPE_FLOAT, [_, id, 32, ..]) => f32_type = Some(*id),
            (CONSTANT, [_, of, _, value]) if lie == Lie::Flip && Some(*of) == f32_type => {
                *value ^= 1 << 12;
            }
            (ADD, [first, ..]) if lie == Lie::Minus => *first = *first & !0xffff | SUBTRACT,
            _ => {}
        }
        at += length.max(1);
    }
}

/// Stands in for `vkCmdPipelineBarrier`, which has more arguments than the others.
pub(super) unsafe extern "system" fn cmd_pipeline_barrier(
    commands: vk::CommandBuffer,
    from: vk::PipelineStageFlags,
    to: vk::PipelineStageFlags,
    flags: vk::DependencyFlags,
    memory_count: u32,
    memory: *const vk::MemoryBarrier<'_>,
    buffer_count: u32,
    buffers: *const vk::BufferMemoryBarrier<'_>,
    image_count: u32,
    images: *const vk::ImageMemoryBarrier<'_>,
) {
    // SAFETY: the handle is alive during the call.
    let device = unsafe { key_of(&commands) };
    if state().next(Function::CmdPipelineBarrier, device).is_some() {
        return;
    }
    let Some(next) = below::function(device, Function::CmdPipelineBarrier) else { return };
    // SAFETY: it was found by its name, and all is passed on as it came.
    unsafe {
        let next: vk::PFN_vkCmdPipelineBarrier = std::mem::transmute(next);
        next(
            commands,
            from,
            to,
            flags,
            memory_count,
            memory,
            buffer_count,
            buffers,
            image_count,
            images,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_miscompiled_module_differs_where_it_should() {
        // A header; f32; the constant 1.0; f64; a constant of it; an addition.
        let module = [
            [0x0723_0203, 0x1_0000, 0, 9, 0].as_slice(),
            &[3 << 16 | 22, 1, 32],
            &[4 << 16 | 43, 1, 2, 0x3f80_0000],
            &[3 << 16 | 22, 3, 64],
            &[5 << 16 | 43, 3, 4, 0, 0x3ff0_0000],
            &[5 << 16 | 129, 1, 5, 2, 2],
        ]
        .concat();
        let changed = |lie| {
            let mut words = module.clone();
            miscompile(lie, &mut words);
            let pairs = module.iter().zip(words).enumerate();
            pairs.filter(|(_, (a, b))| **a != *b).map(|(at, (_, b))| (at, b)).collect::<Vec<_>>()
        };
        assert_eq!(changed(Lie::Flip), [(11, 0x3f80_1000)]);
        assert_eq!(changed(Lie::Minus), [(20, 5 << 16 | 131)]);
    }
}
