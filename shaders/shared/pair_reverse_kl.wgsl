// q·ln(q/p) − q + p. With shared/pair_bregman.wgsl.

fn term(p: vec4<f32>, q: mat4x4<f32>) -> vec4<f32> {
    return bregman(q[0], vec4(p.x), difference(vec4(p.y), vec4(p.z), q[1], q[2]));
}
