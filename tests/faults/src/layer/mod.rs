//! The Vulkan layer. The loader opens the shared library of this package, finds
//! `vkNegotiateLoaderLayerInterfaceVersion`, and from then on asks it for functions.

mod below;
pub(crate) mod forward;
mod lies;
mod state;

use std::ffi::{CStr, c_char, c_void};

use ash::vk;

use crate::function::Function;
use crate::rule::Act;
use below::{Below, key_of};
use state::state;

/// The name under which the loader knows the layer.
pub const NAME: &str = "VK_LAYER_KULLBACK_faults";
/// The environment variable with the rules.
pub const RULES: &str = "KULLBACK_FAULTS";
/// The environment variable with the file to which each call is written, and each fault after a `!`.
pub const TRACE: &str = "KULLBACK_FAULTS_TRACE";

/// What the loader needs to know of the layer, as a file beside it.
pub fn manifest(library: &str) -> String {
    serde_json::json!({
        "file_format_version": "1.1.2",
        "layer": {
            "name": NAME,
            "type": "GLOBAL",
            "library_path": library,
            "api_version": "1.3.239",
            "implementation_version": "1",
            "description": "Fails calls, or lies about them, as KULLBACK_FAULTS says",
        },
    })
    .to_string()
}

/// `VkNegotiateLayerInterface` of the loader's interface.
#[repr(C)]
#[derive(Debug)]
pub struct NegotiateLayerInterface {
    s_type: u32,
    next: *mut c_void,
    version: u32,
    get_instance_proc_addr: Option<vk::PFN_vkGetInstanceProcAddr>,
    get_device_proc_addr: Option<vk::PFN_vkGetDeviceProcAddr>,
    get_physical_device_proc_addr: Option<vk::PFN_vkGetInstanceProcAddr>,
}

/// `VkLayerInstanceLink` and `VkLayerDeviceLink`, whose last member differs: the functions of the
/// next layer.
#[repr(C)]
struct Link {
    next: *mut Link,
    get_instance_proc_addr: vk::PFN_vkGetInstanceProcAddr,
    get_other_proc_addr: Option<vk::PFN_vkGetDeviceProcAddr>,
}

/// `VkLayerInstanceCreateInfo` and `VkLayerDeviceCreateInfo`.
#[repr(C)]
struct LinkInfo {
    s_type: vk::StructureType,
    next: *mut LinkInfo,
    function: u32,
    link: *mut Link,
}

/// `VK_LAYER_LINK_INFO`
const LINK_INFO: u32 = 0;

/// Where the loader begins.
///
/// # Safety
/// To be called by the Vulkan loader.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn vkNegotiateLoaderLayerInterfaceVersion(
    interface: *mut NegotiateLayerInterface,
) -> vk::Result {
    // SAFETY: the loader gives a valid struct of its own.
    let interface = unsafe { &mut *interface };
    interface.version = 2;
    interface.get_instance_proc_addr = Some(get_instance_proc_addr);
    interface.get_device_proc_addr = Some(get_device_proc_addr);
    interface.get_physical_device_proc_addr = None;
    vk::Result::SUCCESS
}

unsafe extern "system" fn get_instance_proc_addr(
    instance: vk::Instance,
    name: *const c_char,
) -> vk::PFN_vkVoidFunction {
    // SAFETY: names are C strings.
    let name = unsafe { CStr::from_ptr(name) };
    match name.to_bytes() {
        b"vkGetInstanceProcAddr" => pointer(get_instance_proc_addr as *const ()),
        b"vkGetDeviceProcAddr" => pointer(get_device_proc_addr as *const ()),
        b"vkCreateInstance" => pointer(create_instance as *const ()),
        b"vkDestroyInstance" => pointer(destroy_instance as *const ()),
        b"vkCreateDevice" => pointer(create_device as *const ()),
        _ if instance == vk::Instance::null() => None,
        // SAFETY: the handle is an instance, which was made through this layer.
        _ => unsafe { below::look_up(key_of(&instance), name) },
    }
}

unsafe extern "system" fn get_device_proc_addr(
    device: vk::Device,
    name: *const c_char,
) -> vk::PFN_vkVoidFunction {
    // SAFETY: names are C strings.
    let name = unsafe { CStr::from_ptr(name) };
    match name.to_bytes() {
        b"vkGetDeviceProcAddr" => pointer(get_device_proc_addr as *const ()),
        b"vkDestroyDevice" => pointer(destroy_device as *const ()),
        // SAFETY: the handle is a device, which was made through this layer.
        _ => unsafe { below::look_up(key_of(&device), name) },
    }
}

/// A function as the loader gets it, which knows the signature by the name.
fn pointer(function: *const ()) -> vk::PFN_vkVoidFunction {
    // SAFETY: a function's address is a function pointer, and not null.
    unsafe { std::mem::transmute(function) }
}

unsafe extern "system" fn create_instance(
    info: *const vk::InstanceCreateInfo<'_>,
    allocator: *const vk::AllocationCallbacks<'_>,
    instance: *mut vk::Instance,
) -> vk::Result {
    if let Some(Act::Code(code)) = state().next(Function::CreateInstance, 0) {
        return vk::Result::from_raw(code);
    }
    // SAFETY: the loader put its link into the chain of the valid struct that it calls with.
    let link = unsafe { take_link((*info).p_next, vk::StructureType::LOADER_INSTANCE_CREATE_INFO) };
    let get = link.get_instance_proc_addr;
    // SAFETY: the next layer's function of that name has that signature, and all is passed on.
    unsafe {
        let create = get(vk::Instance::null(), c"vkCreateInstance".as_ptr());
        let create: Option<vk::PFN_vkCreateInstance> = std::mem::transmute(create);
        let Some(create) = create else { return vk::Result::ERROR_INITIALIZATION_FAILED };
        let result = create(info, allocator, instance);
        if result == vk::Result::SUCCESS {
            below::add(Below::instance(*instance, get));
        }
        result
    }
}

unsafe extern "system" fn create_device(
    physical_device: vk::PhysicalDevice,
    info: *const vk::DeviceCreateInfo<'_>,
    allocator: *const vk::AllocationCallbacks<'_>,
    device: *mut vk::Device,
) -> vk::Result {
    // SAFETY: the handle is of an instance that was made through this layer.
    let key = unsafe { key_of(&physical_device) };
    if let Some(Act::Code(code)) = state().next(Function::CreateDevice, key) {
        return vk::Result::from_raw(code);
    }
    // SAFETY: the loader put its link into the chain of the valid struct that it calls with.
    let link = unsafe { take_link((*info).p_next, vk::StructureType::LOADER_DEVICE_CREATE_INFO) };
    // SAFETY: the next layer's functions of these names have these signatures, all is passed on.
    unsafe {
        let create = below::look_up_through(link.get_instance_proc_addr, key, c"vkCreateDevice");
        let create: Option<vk::PFN_vkCreateDevice> = std::mem::transmute(create);
        let (Some(create), Some(get)) = (create, link.get_other_proc_addr) else {
            return vk::Result::ERROR_INITIALIZATION_FAILED;
        };
        let result = create(physical_device, info, allocator, device);
        if result == vk::Result::SUCCESS {
            below::add(Below::device(*device, get));
        }
        result
    }
}

/// The link for this layer, and the next one's put in its place, as the loader wants it.
///
/// # Safety
/// The chain is one that the loader made for a layer.
unsafe fn take_link(chain: *const c_void, s_type: vk::StructureType) -> Link {
    let mut at = chain.cast_mut().cast::<LinkInfo>();
    // SAFETY: every struct of a chain begins with its type and the next one's address.
    unsafe {
        while (*at).s_type != s_type || (*at).function != LINK_INFO {
            at = (*at).next;
        }
        let link = (*at).link.read();
        (*at).link = link.next;
        link
    }
}

unsafe extern "system" fn destroy_instance(
    instance: vk::Instance,
    allocator: *const vk::AllocationCallbacks<'_>,
) {
    if instance == vk::Instance::null() {
        return;
    }
    // SAFETY: the handle was made through this layer, and the function has this signature.
    unsafe {
        let destroy = below::remove(key_of(&instance));
        let destroy: Option<vk::PFN_vkDestroyInstance> = std::mem::transmute(destroy);
        if let Some(destroy) = destroy {
            destroy(instance, allocator);
        }
    }
}

unsafe extern "system" fn destroy_device(
    device: vk::Device,
    allocator: *const vk::AllocationCallbacks<'_>,
) {
    if device == vk::Device::null() {
        return;
    }
    // SAFETY: the handle was made through this layer, and the function has this signature.
    unsafe {
        let key = key_of(&device);
        // Before another device can get the key.
        state().forget(key);
        let destroy = below::remove(key);
        let destroy: Option<vk::PFN_vkDestroyDevice> = std::mem::transmute(destroy);
        if let Some(destroy) = destroy {
            destroy(device, allocator);
        }
    }
}
