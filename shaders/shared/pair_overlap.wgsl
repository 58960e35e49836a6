// √p·√q, of the fields of pair_roots.wgsl.

const FIELDS: u32 = 2u;

fn term(p: vec4<f32>, q: mat4x4<f32>) -> vec4<f32> {
    return p.x * q[0];
}
