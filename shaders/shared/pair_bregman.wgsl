// p·ln(p/q) − p + q, of d = ln(q/p). Fields: the probability, and its logarithm in two parts.

const FIELDS: u32 = 3u;

// (eᵈ − 1 − d)/d² for |d| ≤ 1.25, as in src/cpu/tile.rs.
const EXP_TAIL_0: f32 = 0.5;
const EXP_TAIL_1: f32 = 0.16666669;
const EXP_TAIL_2: f32 = 0.041666925;
const EXP_TAIL_3: f32 = 0.008333245;
const EXP_TAIL_4: f32 = 0.001388051;
const EXP_TAIL_5: f32 = 0.00019848043;
const EXP_TAIL_6: f32 = 2.5667836e-5;
const EXP_TAIL_7: f32 = 2.781476e-6;

fn bregman(p: vec4<f32>, q: vec4<f32>, d: vec4<f32>) -> vec4<f32> {
    let product = p * d;
    let upper = ((EXP_TAIL_7 * d + EXP_TAIL_6) * d + EXP_TAIL_5) * d + EXP_TAIL_4;
    let lower = ((upper * d + EXP_TAIL_3) * d + EXP_TAIL_2) * d + EXP_TAIL_1;
    let near = (product * d) * (lower * d + EXP_TAIL_0);
    return select((q - p) - product, near, abs(d) < vec4(1.25));
}
