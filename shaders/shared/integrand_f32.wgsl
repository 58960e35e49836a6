// What integrand.wgsl takes that is not the same in f32 and f64, in f32.

// x·ln(x/m) − x + m of normal numbers with n = x − m, as in term_f32.wgsl.
fn bregman(x: vec4<f32>, m: vec4<f32>, n: vec4<f32>) -> vec4<f32> {
    let near = within_octave(x, m, n);
    let s = near.n / (x + near.m);
    let far = x * near.ln + select(m - near.m, vec4(0.0), near.ln == vec4(0.0));
    let t = atanh_tail(s * s);
    return (near.n + near.n * s) * t + (near.n * s + far);
}

// An order and 1 less that, as it is told.
struct Order {
    itself: f32,
    less_1: f32,
}

fn order_of(parameters: vec4<f32>) -> Order {
    return Order(parameters.w, parameters.x + parameters.y);
}

// Where the series of a power holds: products of an order and a logarithm.
const REACH: f32 = 1.0;

// Σ cₖ·lᵏ of the i-th sum.
fn series(i: u32, order: f32, l: vec4<f32>) -> vec4<f32> {
    let c = params.series[3u * i];
    let d = params.series[3u * i + 1u];
    let e = params.series[3u * i + 2u];
    let upper = (((e.y * l + e.x) * l + d.w) * l + d.z) * l + d.y;
    return ((((upper * l + d.x) * l + c.w) * l + c.z) * l + c.y) * l + c.x;
}

// The weights of P and Q.
fn weights_of(parameters: vec4<f32>) -> vec2<f32> {
    return parameters.xy;
}
