//! What lies below the layer: for each instance and each device, the functions of the next layer.

use std::collections::HashMap;
use std::ffi::CStr;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use ash::vk::{self, Handle};

use super::forward;
use crate::function::Function;
use crate::script::Key;

/// `vkGetInstanceProcAddr` or `vkGetDeviceProcAddr`: both take a handle and a name.
#[derive(Clone, Copy)]
enum Get {
    Instance(vk::Instance, vk::PFN_vkGetInstanceProcAddr),
    Device(vk::Device, vk::PFN_vkGetDeviceProcAddr),
}

impl Get {
    fn get(self, name: &CStr) -> vk::PFN_vkVoidFunction {
        // SAFETY: who made this said that the handle and the function belong together.
        unsafe {
            match self {
                Get::Instance(instance, get) => get(instance, name.as_ptr()),
                Get::Device(device, get) => get(device, name.as_ptr()),
            }
        }
    }
}

/// What lies below one instance or device. The functions are looked up when it is made: later the
/// loader would answer with those at the top, which is to say with the layer's own.
pub(super) struct Below {
    key: Key,
    get: Get,
    functions: HashMap<Function, unsafe extern "system" fn()>,
    destroy: vk::PFN_vkVoidFunction,
}

static BELOW: LazyLock<Mutex<HashMap<Key, Below>>> = LazyLock::new(Mutex::default);

fn all() -> MutexGuard<'static, HashMap<Key, Below>> {
    BELOW.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Vulkan's handles that functions are called on begin with the address of the loader's table: the
/// same for an instance and its physical devices, and for a device, its queues and command buffers.
///
/// # Safety
/// The handle is such a one, and is alive.
pub(super) unsafe fn key_of<H: Handle + Copy>(handle: &H) -> Key {
    // SAFETY: as above.
    unsafe { *(handle.as_raw() as *const Key) }
}

impl Below {
    /// # Safety
    /// The instance is alive, and the function is the one below it.
    pub(super) unsafe fn instance(
        instance: vk::Instance,
        get: vk::PFN_vkGetInstanceProcAddr,
    ) -> Below {
        // SAFETY: as above.
        let key = unsafe { key_of(&instance) };
        Below::new(key, Get::Instance(instance, get), c"vkDestroyInstance")
    }

    /// # Safety
    /// The device is alive, and the function is the one below it.
    pub(super) unsafe fn device(device: vk::Device, get: vk::PFN_vkGetDeviceProcAddr) -> Below {
        // SAFETY: as above.
        let key = unsafe { key_of(&device) };
        Below::new(key, Get::Device(device, get), c"vkDestroyDevice")
    }

    fn new(key: Key, get: Get, destroy: &CStr) -> Below {
        let known = |&function: &Function| Some((function, get.get(function.c_name())?));
        let functions = Function::ALL.iter().filter_map(known).collect();
        Below { key, get, functions, destroy: get.get(destroy) }
    }
}

pub(super) fn add(below: Below) {
    all().insert(below.key, below);
}

/// Forgets an instance or a device, and returns the function below that destroys it.
pub(super) fn remove(key: Key) -> vk::PFN_vkVoidFunction {
    all().remove(&key)?.destroy
}

/// The function below that a stand-in was called for.
pub(super) fn function(key: Key, function: Function) -> vk::PFN_vkVoidFunction {
    all().get(&key)?.functions.get(&function).copied()
}

/// A function below by its name, for the caller: if the layer stands in front of it, the stand-in.
pub(super) fn look_up(key: Key, name: &CStr) -> vk::PFN_vkVoidFunction {
    let get = all().get(&key)?.get;
    match Function::ALL.iter().find(|function| function.c_name() == name) {
        Some(&known) => function(key, known).map(|_| forward::stand_in(known)),
        None => get.get(name),
    }
}

/// A function below an instance, through another layer's function that looks names up.
///
/// # Safety
/// The function belongs to a layer below.
pub(super) unsafe fn look_up_through(
    get: vk::PFN_vkGetInstanceProcAddr,
    key: Key,
    name: &CStr,
) -> vk::PFN_vkVoidFunction {
    match all().get(&key)?.get {
        // SAFETY: as above.
        Get::Instance(instance, _) => unsafe { get(instance, name.as_ptr()) },
        Get::Device(..) => None,
    }
}
