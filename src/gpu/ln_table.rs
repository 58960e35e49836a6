//! The table behind `ln` in `shaders/shared/logs.wgsl`.

/// Bytes of the table.
pub(crate) const BYTES: usize = size_of::<[[f32; 4]; 128]>();

/// Entry j serves the mantissas within half a step of `1 + j/128`. Each is
/// `[r·2^12, t·2^16, rest, 0]` with r near `1 / (1 + j/128)` and `t + rest = −ln r`, of which the first
/// two are integers. Entry 0 has r = 1, so that the logarithms of numbers near 1 keep their digits.
pub(crate) fn ln_table() -> [[f32; 4]; 128] {
    std::array::from_fn(|j| {
        let r = (4096.0 / (1.0 + j as f64 / 128.0)).round() / 4096.0;
        let t = (-r.ln() * 65536.0).round();
        let rest = -r.ln() - t / 65536.0;
        [(r * 4096.0) as f32, t as f32, rest as f32, 0.0]
    })
}
