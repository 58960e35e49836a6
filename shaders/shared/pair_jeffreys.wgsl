// (p − q)·ln(p/q). Fields: the probability and its logarithm, each in two parts.

const FIELDS: u32 = 4u;

fn term(p: vec4<f32>, q: mat4x4<f32>) -> vec4<f32> {
    let n = difference(vec4(p.x), vec4(p.y), q[0], q[1]);
    return n * difference(vec4(p.z), vec4(p.w), q[2], q[3]);
}
