// (p − q)²/q. Fields: the probability in two parts, and its reciprocal.

const FIELDS: u32 = 3u;

fn term(p: vec4<f32>, q: mat4x4<f32>) -> vec4<f32> {
    let n = difference(vec4(p.x), vec4(p.y), q[0], q[1]);
    // Where Q has nothing, neither has P, or the pair is infinitely far apart.
    return n * (n * q[2]);
}
