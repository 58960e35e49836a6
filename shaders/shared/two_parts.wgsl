// Sums and products in two parts. With logs_f32.wgsl or logs_f64.wgsl.

// A number in two parts, the second far below the first.
struct Pair {
    hi: vec4<Real>,
    lo: vec4<Real>,
}

// a + b without any error: hi is the rounded sum, lo what rounding took from it.
fn two_sum(a: vec4<Real>, b: vec4<Real>) -> Pair {
    let s = exact_sum(a, b);
    let b_taken = exact_diff(s, a);
    let lo = exact_diff(a, exact_diff(s, b_taken)) + exact(exact_diff(b, b_taken));
    return Pair(s, exact(lo));
}

// b·(t1 + t2 + t3), where the first two have at most the bits of an upper half, and each is at most in units
// of the last of the one before it. The products of halves are exact. Measured in f32: relative error
// 2^-46.5, |lo/hi| at most 2^-22.3; below 2^-78 the lowest product is subnormal and digits are lost.
fn scaled(b: vec4<Real>, t1: Real, t2: Real, t3: Real) -> Pair {
    let upper = exact(upper_half(b));
    let lower = exact(b - upper);
    let middle = two_sum(exact(lower * t1), exact(upper * t2));
    let sum = two_sum(exact(upper * t1), middle.hi);
    let rest = lower * t2 + (upper * t3 + lower * t3);
    return Pair(sum.hi, sum.lo + (middle.lo + rest));
}
