// |p − q|. Fields: the probability in two parts.

const FIELDS: u32 = 2u;

fn term(p: vec4<f32>, q: mat4x4<f32>) -> vec4<f32> {
    return abs(difference(vec4(p.x), vec4(p.y), q[0], q[1]));
}
