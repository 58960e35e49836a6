//! The stand-ins: one body for all functions but a few.
//!
//! On 64-bit systems, whose calls pass integers and pointers one to a register, all of the functions
//! look alike: a handle, whose first word tells the device, and at most five words more. So one
//! function can stand in for each, and pass on registers whatever is in them.

#[cfg(not(target_pointer_width = "64"))]
compile_error!("the layer passes arguments on as 64-bit words");

use std::thread::sleep;
use std::time::Duration;

use ash::vk;

use super::state::state;
use super::{below, lies};
use crate::function::Function;
use crate::rule::{Act, Lie};
use crate::script::Key;

/// A function of the list, as the registers see it.
pub(crate) type Forward =
    unsafe extern "system" fn(usize, usize, usize, usize, usize, usize) -> i32;

/// What to put in a function's place.
pub(super) fn stand_in(function: Function) -> unsafe extern "system" fn() {
    let pointer = match function {
        Function::CmdPipelineBarrier => lies::cmd_pipeline_barrier as *const (),
        _ => function.stand_in() as *const (),
    };
    // SAFETY: the caller knows the signature by the name.
    unsafe { std::mem::transmute(pointer) }
}

/// Stands in for the function of this number.
pub(crate) unsafe extern "system" fn forward<const NUMBER: usize>(
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
    f: usize,
) -> i32 {
    let function = Function::ALL[NUMBER];
    // SAFETY: the first argument is a handle that functions are called on, alive during the call.
    let key = unsafe { *(a as *const Key) };
    let Some(next) = below::function(key, function) else {
        return vk::Result::ERROR_INITIALIZATION_FAILED.as_raw();
    };
    // SAFETY: it was found by the name under which this one was called.
    let next: Forward = unsafe { std::mem::transmute(next) };
    let call = [a, b, c, d, e, f];
    match state().next(function, key) {
        Some(Act::Code(code)) => code,
        Some(Act::Lie(Lie::Skip)) => 0,
        // SAFETY: the arguments are those of this function.
        Some(Act::Lie(lie)) => unsafe { lies::tell(lie, call, next, key) },
        // SAFETY: the same.
        Some(Act::Never) => unsafe { never(function, call) },
        // SAFETY: all is passed on as it came.
        None => unsafe { next(a, b, c, d, e, f) },
    }
}

/// Waits for what does not come.
///
/// # Safety
/// The arguments are those of the function.
unsafe fn never(function: Function, call: [usize; 6]) -> i32 {
    let limit = match function {
        Function::WaitForFences => call[4],
        Function::WaitSemaphores | Function::WaitSemaphoresKHR => call[2],
        Function::GetFenceStatus => return vk::Result::NOT_READY.as_raw(),
        Function::GetSemaphoreCounterValue | Function::GetSemaphoreCounterValueKHR => {
            // SAFETY: the third argument is where the value goes.
            unsafe { *(call[2] as *mut u64) = 0 };
            return vk::Result::SUCCESS.as_raw();
        }
        _ => usize::MAX,
    };
    sleep(Duration::from_nanos(limit as u64));
    vk::Result::TIMEOUT.as_raw()
}
