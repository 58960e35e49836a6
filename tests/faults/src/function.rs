//! The Vulkan functions that the layer stands in front of.

use std::ffi::CStr;

use crate::layer::forward::{Forward, forward};

macro_rules! functions {
    ($($name:ident)*) => {
        /// A Vulkan function, without its prefix `vk`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[expect(missing_docs, reason = "the Vulkan specification has them")]
        pub enum Function { $($name),* }

        impl Function {
            /// All of them, in the order of their numbers.
            pub const ALL: &[Function] = &[$(Function::$name),*];

            /// Its name, without the prefix.
            pub fn name(self) -> &'static str {
                match self { $(Function::$name => stringify!($name)),* }
            }

            /// Its name, as C has it.
            pub fn c_name(self) -> &'static CStr {
                let name = match self {
                    $(Function::$name => concat!("vk", stringify!($name), "\0")),*
                };
                CStr::from_bytes_with_nul(name.as_bytes()).expect("it ends with a nul")
            }

            /// What the layer puts in its place.
            pub(crate) fn stand_in(self) -> Forward {
                match self { $(Function::$name => forward::<{ Function::$name as usize }>),* }
            }
        }
    };
}

// Those that return a VkResult and that a compute program has a use for, and commands to lie about.
functions! {
    EnumeratePhysicalDevices EnumerateDeviceExtensionProperties EnumerateDeviceLayerProperties
    CreateInstance CreateDevice
    AllocateMemory MapMemory FlushMappedMemoryRanges InvalidateMappedMemoryRanges
    BindBufferMemory BindBufferMemory2 BindBufferMemory2KHR
    CreateBuffer CreateBufferView CreateImage CreateImageView BindImageMemory CreateSampler
    CreateShaderModule CreateDescriptorSetLayout CreatePipelineLayout CreatePipelineCache
    CreateComputePipelines
    CreateDescriptorPool ResetDescriptorPool AllocateDescriptorSets FreeDescriptorSets
    CreateCommandPool ResetCommandPool AllocateCommandBuffers ResetCommandBuffer
    BeginCommandBuffer EndCommandBuffer
    CreateFence ResetFences GetFenceStatus WaitForFences
    CreateSemaphore GetSemaphoreCounterValue GetSemaphoreCounterValueKHR
    WaitSemaphores WaitSemaphoresKHR SignalSemaphore SignalSemaphoreKHR
    CreateEvent CreateQueryPool
    QueueSubmit QueueSubmit2 QueueSubmit2KHR QueueBindSparse QueueWaitIdle DeviceWaitIdle
    SetDebugUtilsObjectNameEXT
    CmdDispatch CmdCopyBuffer CmdFillBuffer CmdPipelineBarrier
}

impl Function {
    /// The one of this name, without the prefix.
    pub fn by_name(name: &str) -> Option<Function> {
        Function::ALL.iter().copied().find(|function| function.name() == name)
    }

    /// Whether it returns a `VkResult`, so that it can fail.
    pub fn can_fail(self) -> bool {
        !self.name().starts_with("Cmd")
    }

    /// Whether it says so when the device was lost.
    pub fn tells_of_loss(self) -> bool {
        self.waits() || self.submits() || self.idles() || self == Function::QueueBindSparse
    }

    /// Whether it hands work to the device.
    pub fn submits(self) -> bool {
        use Function::{QueueSubmit, QueueSubmit2, QueueSubmit2KHR};
        matches!(self, QueueSubmit | QueueSubmit2 | QueueSubmit2KHR)
    }

    /// Whether it waits, without a limit, for all the work there is.
    pub fn idles(self) -> bool {
        matches!(self, Function::QueueWaitIdle | Function::DeviceWaitIdle)
    }

    /// Whether it makes memory ready, for which a driver may wait without a limit.
    pub fn allocates(self) -> bool {
        matches!(self, Function::AllocateMemory | Function::CreateBuffer | Function::MapMemory)
    }

    /// Whether it waits, up to a limit, or asks for a signal.
    pub fn waits(self) -> bool {
        use Function::*;
        matches!(
            self,
            WaitForFences
                | GetFenceStatus
                | WaitSemaphores
                | WaitSemaphoresKHR
                | GetSemaphoreCounterValue
                | GetSemaphoreCounterValueKHR
        )
    }
}
