// What integrand.wgsl takes that is not the same in f32 and f64, in f64.

// x·ln(x/m) − x + m of numbers with n = x − m, none of which is far above the other one.
fn bregman(x: vec4<f64>, m: vec4<f64>, n: vec4<f64>) -> vec4<f64> {
    let s = n / (x + m);
    let t = atanh_tail(s * s);
    // Far below m there is nothing left of x.
    let ln_ratio = ln_of(max(x / m, vec4<f64>(0x1p-120)));
    return select(exact(x * ln_ratio) - n, n * (s + (1.0 + s) * t), abs(s) <= vec4<f64>(THIRD));
}

// An order and 1 less that, as it is told.
struct Order {
    itself: f64,
    less_1: f64,
}

fn order_of(parameters: vec4<f32>) -> Order {
    let parts = vec4<f64>(parameters);
    let less_1 = parts.x + (parts.y + parts.z);
    return Order(1.0 + less_1, less_1);
}

// Where the series of a power holds: products of an order and a logarithm.
const REACH: f64 = 0.1;

// Σ (1 + a + … + aᵏ)·lᵏ / (k + 2)!
fn series(i: u32, a: f64, l: vec4<f64>) -> vec4<f64> {
    let sum_1 = 1.0 + a;
    let sum_2 = 1.0 + a * sum_1;
    let sum_3 = 1.0 + a * sum_2;
    let sum_4 = 1.0 + a * sum_3;
    let sum_5 = 1.0 + a * sum_4;
    let sum_6 = 1.0 + a * sum_5;
    let sum_7 = 1.0 + a * sum_6;
    let sum_8 = 1.0 + a * sum_7;
    let sum_9 = 1.0 + a * sum_8;
    let upper = ((sum_9 / 39916800.0 * l + sum_8 / 3628800.0) * l + sum_7 / 362880.0) * l + sum_6 / 40320.0;
    let middle = ((upper * l + sum_5 / 5040.0) * l + sum_4 / 720.0) * l + sum_3 / 120.0;
    return ((middle * l + sum_2 / 24.0) * l + sum_1 / 6.0) * l + 0.5;
}

// The weights of P and Q: one of them in parts.
fn weights_of(parameters: vec4<f32>) -> vec2<f64> {
    let parts = vec4<f64>(parameters);
    let of_p = parts.x + (parts.z + parts.w);
    return vec2<f64>(of_p, 1.0 - of_p);
}
