//! The sums of rows of lanes that are folded into 4 each, four rows at a time: of such sums the compiler makes
//! several times the steps that they take.

use super::sums::LANES;

/// The sum of each row, in the order of [`sums`](super::sums). None where that is left to the compiler.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn sums<const WIDTH: usize>(rows: &[[f32; WIDTH]; LANES]) -> Option<[f32; LANES]> {
    use super::sums::four_of;
    use pulp::bytemuck::cast;
    let sse = pulp::core_arch::x86::Sse::try_new()?;
    let mut sums = [0.0; LANES];
    for ([a, b, c, d], sums) in rows.as_chunks().0.iter().zip(sums.as_chunks_mut::<4>().0) {
        let (a, b) = (cast(four_of(a)), cast(four_of(b)));
        let (c, d) = (cast(four_of(c)), cast(four_of(d)));
        // Of each pair of rows: the first and the third of both, beside the second and the fourth of both.
        let ab = sse._mm_add_ps(sse._mm_unpacklo_ps(a, b), sse._mm_unpackhi_ps(a, b));
        let cd = sse._mm_add_ps(sse._mm_unpacklo_ps(c, d), sse._mm_unpackhi_ps(c, d));
        *sums = cast(sse._mm_add_ps(sse._mm_movelh_ps(ab, cd), sse._mm_movehl_ps(cd, ab)));
    }
    Some(sums)
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub(super) fn sums<const WIDTH: usize>(_: &[[f32; WIDTH]; LANES]) -> Option<[f32; LANES]> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounding tells the order of the sums.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn each_row_has_its_sum_in_the_order_of_others() {
        fn check<const WIDTH: usize>() {
            let number = |at: usize| 1.0 + ((at * 7919) % 1009) as f32 / 1e5;
            let rows = std::array::from_fn(|row| std::array::from_fn(|at| number(row * 31 + at)));
            let sums: [f32; LANES] = sums::<WIDTH>(&rows).unwrap();
            for (row, sum) in rows.iter().zip(sums) {
                let four: [f32; 4] =
                    std::array::from_fn(|lane| row[lane..].iter().step_by(4).sum());
                assert_eq!(sum, (four[0] + four[2]) + (four[1] + four[3]), "{WIDTH}");
            }
        }
        check::<4>();
        check::<8>();
    }
}
