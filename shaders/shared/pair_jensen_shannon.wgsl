// Twice the Jensen-Shannon divergence of weight ½. Fields: the probability, its reciprocal, and its
// logarithm in two parts.

const FIELDS: u32 = 4u;

// The polynomials of src/cpu/tile.rs: of bins near each other, in the square of ln(q/p), and of others.
const NEAR_0: f32 = 0.125;
const NEAR_1: f32 = -0.015624407;
const NEAR_2: f32 = 0.0017327737;
const NEAR_3: f32 = -0.00017776489;
const NEAR_4: f32 = 1.3500194e-5;
const FAR_0: f32 = -0.9999925;
const FAR_1: f32 = 0.4996845;
const FAR_2: f32 = -0.32878965;
const FAR_3: f32 = 0.21971877;
const FAR_4: f32 = -0.09898928;

fn term(p: vec4<f32>, q: mat4x4<f32>) -> vec4<f32> {
    let d = difference(q[2], q[3], vec4(p.z), vec4(p.w));
    let square = d * d;
    let near = square < vec4(1.44);
    let u = select(min(p.x * q[1], q[0] * p.y), square, near);
    var w = select(vec4(FAR_4), vec4(NEAR_4), near);
    w = w * u + select(vec4(FAR_3), vec4(NEAR_3), near);
    w = w * u + select(vec4(FAR_2), vec4(NEAR_2), near);
    w = w * u + select(vec4(FAR_1), vec4(NEAR_1), near);
    w = w * u + select(vec4(FAR_0), vec4(NEAR_0), near);
    w = w * u + select(vec4(LN_2), vec4(0.0), near);
    let less = select(min(vec4(p.x), q[0]), vec4(0.0), near);
    return (p.x + q[0]) * w - less * abs(d);
}
