//! A compute kernel: what its shader and its host file agree on, and the pipeline made of it.

use super::variant::Variant;
use crate::plan::{Dispatch, Form};

/// What a shader declares and its host file relies on. A test reads the shaders and compares.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The name of the shader's file, its entry point, and its host file.
    pub name: &'static str,
    /// Which of its texts this is.
    pub variant: Variant,
    /// The variant of the records that it reads as heads.
    pub heads: Option<Variant>,
    /// What it reads of each row that the host made of records.
    pub lines: Option<Fields>,
    /// The whole WGSL text.
    pub source: String,
    /// The storage buffers beside the uniform at binding 0: the name, the binding, and whether the
    /// shader writes to it.
    pub buffers: Vec<(&'static str, u32, bool)>,
    /// Bytes of the uniform, and its fields in order.
    pub params: Fields,
    /// Of a second uniform, by which records become values.
    pub policy: Option<Fields>,
    /// Override constants of its own.
    pub own: Vec<(&'static str, u32)>,
}

/// What the terms of a kernel look at, of which there are many: no more than the probabilities of a bin, their
/// logarithms too, or powers. A kernel is compiled for one of these; so the shaders call them.
pub const AT_NUMBERS: u32 = 0;
pub const AT_LOGARITHMS: u32 = 1;
pub const AT_POWERS: u32 = 2;

/// Which kernel: the name of its shader, the variant of its text, how that is specialised, and what its terms
/// look at, if there is a choice.
pub(crate) type KernelKey = (&'static str, Variant, Form, u32);

/// The size of a struct, and the names and offsets of its fields.
pub type Fields = (usize, &'static [(&'static str, usize)]);

/// The binding of the second uniform.
pub const POLICY_BINDING: u32 = 9;

/// The override constants that each shader has, for these of the host's numbers.
pub(crate) fn overrides(workgroup_size: u32, form: Form) -> [(&'static str, f64); 5] {
    [
        ("WORKGROUP_SIZE", f64::from(workgroup_size)),
        ("SHARED", f64::from(u8::from(form.shared))),
        ("SPLIT", f64::from(u8::from(form.split))),
        ("LOADS", f64::from(form.loads)),
        ("WHOLE", f64::from(u8::from(form.whole))),
    ]
}

/// A pipeline with the layout of its bindings.
pub(crate) struct Kernel {
    spec: Spec,
    pipeline: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
}

impl Kernel {
    pub(crate) fn new(
        device: &wgpu::Device,
        spec: Spec,
        workgroup_size: u32,
        form: Form,
    ) -> Kernel {
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(spec.name),
            source: wgpu::ShaderSource::Wgsl(spec.source.as_str().into()),
        });
        let uniforms = std::iter::once(0).chain(spec.policy.map(|_| POLICY_BINDING));
        let uniforms = uniforms.map(|binding| (binding, wgpu::BufferBindingType::Uniform));
        let storage = spec.buffers.iter().map(|&(_, binding, writes)| {
            (binding, wgpu::BufferBindingType::Storage { read_only: !writes })
        });
        let entries: Vec<_> = uniforms
            .chain(storage)
            .map(|(binding, ty)| wgpu::BindGroupLayoutEntry {
                binding,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty,
                    has_dynamic_offset: false,
                    min_binding_size: None,
                },
                count: None,
            })
            .collect();
        let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some(spec.name),
            entries: &entries,
        });
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(spec.name),
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let own = spec.own.iter().map(|&(name, value)| (name, f64::from(value)));
        let constants: Vec<_> = overrides(workgroup_size, form).into_iter().chain(own).collect();
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(spec.name),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some(spec.name),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &constants,
                // Where the driver does not do it, one invocation would for all. A unit's lanes write
                // whatever its tree reads.
                zero_initialize_workgroup_memory: false,
            },
            cache: None,
        });
        Kernel { spec, pipeline, layout }
    }

    /// Records one dispatch. The buffers are asked for by the names in the spec. The bind group is to
    /// be kept until the dispatch is done.
    pub(crate) fn record<'a>(
        &self,
        device: &wgpu::Device,
        encoder: &mut wgpu::CommandEncoder,
        params: &wgpu::Buffer,
        buffers: impl Fn(&str) -> Result<wgpu::BufferBinding<'a>, String>,
        dispatch: Dispatch,
    ) -> Result<wgpu::BindGroup, String> {
        let mut entries =
            vec![wgpu::BindGroupEntry { binding: 0, resource: params.as_entire_binding() }];
        let policy = self.spec.policy.map(|_| ("policy", POLICY_BINDING));
        let storage = self.spec.buffers.iter().map(|&(name, binding, _)| (name, binding));
        for (name, binding) in policy.into_iter().chain(storage) {
            let resource = wgpu::BindingResource::Buffer(buffers(name)?);
            entries.push(wgpu::BindGroupEntry { binding, resource });
        }
        let bind_group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(self.spec.name),
            layout: &self.layout,
            entries: &entries,
        });
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
            label: Some(self.spec.name),
            timestamp_writes: None,
        });
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &bind_group, &[]);
        pass.dispatch_workgroups(dispatch.grid[0], dispatch.grid[1], 1);
        drop(pass);
        Ok(bind_group)
    }
}
