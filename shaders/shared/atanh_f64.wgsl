// The series of the inverse hyperbolic tangent in f64, four numbers at a time.

// atanh(s) = s·(1 + s²·(c₀ + c₁s² + …)) for |s| ≤ 1/3, as in src/term.rs.
const ATANH_0: f64 = 0.3333333333333333;
const ATANH_1: f64 = 0.19999999999999762;
const ATANH_2: f64 = 0.1428571428580005;
const ATANH_3: f64 = 0.11111111099118386;
const ATANH_4: f64 = 0.09090909948981357;
const ATANH_5: f64 = 0.07692271982430275;
const ATANH_6: f64 = 0.06667589315724629;
const ATANH_7: f64 = 0.05867139530651599;
const ATANH_8: f64 = 0.05422589197440007;
const ATANH_9: f64 = 0.03746071897775383;
const ATANH_10: f64 = 0.07815288900461426;

// t of atanh(s) = s·(1 + t), from s².
fn atanh_tail(z: vec4<f64>) -> vec4<f64> {
    let a = ((ATANH_10 * z + ATANH_9) * z + ATANH_8) * z + ATANH_7;
    let b = (((a * z + ATANH_6) * z + ATANH_5) * z + ATANH_4) * z + ATANH_3;
    return z * (((b * z + ATANH_2) * z + ATANH_1) * z + ATANH_0);
}
