// p·ln(p/q) − p + q. With shared/pair_bregman.wgsl.

fn term(p: vec4<f32>, q: mat4x4<f32>) -> vec4<f32> {
    return bregman(vec4(p.x), q[0], difference(q[1], q[2], vec4(p.y), vec4(p.z)));
}
