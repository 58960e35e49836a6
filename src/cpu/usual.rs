//! Chains of usual bins, of which most rows are made.

use pulp::Simd;
use pulp::bytemuck::{Zeroable, cast_slice, cast_slice_mut};

use super::ahead;
use super::sums::{CHAIN, Four, LANES, MIDDLING};
use crate::term::{ATANH_FIFTH, ONE_OCTAVE_F32};

/// The sums of three levels of chains of blocks, and the least of all numbers: one vector of the machine after
/// the other goes through the blocks, so that its sums stay in registers.
///
/// No closures here: each would be a function without vectors.
#[inline(always)]
pub(super) fn chains<S: Simd>(
    simd: S,
    sides: [&[[f32; LANES]]; 2],
    least: &mut [f32; LANES],
) -> Four<f32> {
    const { assert!(LANES.is_multiple_of(S::F32_LANES), "parts of a block are whole vectors") };
    let mut sums = Four::all(-0.0);
    // The first two by name: of places that are constants the compiler keeps the numbers in registers.
    let mut part = Part { simd, at: 0 };
    part.chains(sides, &mut sums, least);
    if LANES / S::F32_LANES > 1 {
        part.at = 1;
        part.chains(sides, &mut sums, least);
    }
    for at in 2..LANES / S::F32_LANES {
        part.at = at;
        part.chains(sides, &mut sums, least);
    }
    sums
}

/// The lanes of blocks that a vector holds.
struct Part<S> {
    simd: S,
    at: usize,
}

impl<S: Simd> Part<S> {
    #[inline(always)]
    fn of(&self, lanes: &[f32; LANES]) -> S::f32s {
        S::as_simd_f32s(lanes).0[self.at]
    }

    #[inline(always)]
    fn put(&self, vector: S::f32s, lanes: &mut [f32; LANES]) {
        S::as_mut_simd_f32s(lanes).0[self.at] = vector;
    }

    #[inline(always)]
    fn chains(&self, [p, q]: [&[[f32; LANES]]; 2], sums: &mut Four<f32>, least: &mut [f32; LANES]) {
        let (mut sum, mut less) = (none(self.simd), self.of(least));
        for (p, q) in p.chunks(CHAIN * CHAIN).zip(q.chunks(CHAIN * CHAIN)) {
            let (p_chains, p_rest) = p.as_chunks::<CHAIN>();
            let (q_chains, q_rest) = q.as_chunks::<CHAIN>();
            let mut chains = none(self.simd);
            for (p, q) in p_chains.iter().zip(q_chains) {
                chains = add(self.simd, chains, self.chain(p, q, &mut less));
            }
            if !p_rest.is_empty() {
                chains = add(self.simd, chains, self.chain(p_rest, q_rest, &mut less));
            }
            sum = add(self.simd, sum, chains);
        }
        self.put(less, least);
        self.put(sum[0], &mut sums.g);
        self.put(sum[1], &mut sums.p);
        self.put(sum[2], &mut sums.q);
        self.put(sum[3], &mut sums.d);
    }

    /// Sums of g, p, q and d. The last vector of each block, whose memory the first waited for, asks for that
    /// of the block that is as far ahead as the sums of a long row go at a time.
    #[inline(always)]
    fn chain(&self, p: &[[f32; LANES]], q: &[[f32; LANES]], least: &mut S::f32s) -> [S::f32s; 4] {
        let (simd, mut sums) = (self.simd, none(self.simd));
        for (p, q) in p.iter().zip(q) {
            if self.at == LANES / S::F32_LANES - 1 {
                ahead::ask(p, MIDDLING / LANES);
                ahead::ask(q, MIDDLING / LANES);
            }
            let (p, q) = (self.of(p), self.of(q));
            *least = simd.min_f32s(simd.min_f32s(p, q), *least);
            sums = add(simd, sums, [bregman(simd, p, q), p, q, simd.sub_f32s(p, q)]);
        }
        sums
    }
}

#[inline(always)]
fn none<S: Simd>(simd: S) -> [S::f32s; 4] {
    [simd.splat_f32s(-0.0); 4]
}

#[inline(always)]
fn add<S: Simd>(simd: S, a: [S::f32s; 4], b: [S::f32s; 4]) -> [S::f32s; 4] {
    let (first, second) = (simd.add_f32s(a[0], b[0]), simd.add_f32s(a[1], b[1]));
    [first, second, simd.add_f32s(a[2], b[2]), simd.add_f32s(a[3], b[3])]
}

/// The steps of [`usual_bin`](crate::term::Term::usual_bin) for `g`.
#[inline(always)]
fn bregman<S: Simd>(simd: S, p: S::f32s, q: S::f32s) -> S::f32s {
    let (p_bits, q_bits) = (simd.transmute_u32s_f32s(p), simd.transmute_u32s_f32s(q));
    let half_more =
        simd.add_u32s(simd.sub_u32s(p_bits, q_bits), simd.splat_u32s(ONE_OCTAVE_F32 as u32 / 2));
    let k = simd.and_u32s(half_more, simd.splat_u32s(-ONE_OCTAVE_F32 as u32));
    let q_near = simd.transmute_f32s_u32s(simd.add_u32s(q_bits, k));
    let n = simd.sub_f32s(p, q_near);
    let s = simd.div_f32s(n, simd.add_f32s(p, q_near));
    let ln_2 = std::f32::consts::LN_2 / ONE_OCTAVE_F32 as f32;
    let ln = simd.mul_f32s(as_floats::<S>(k), simd.splat_f32s(ln_2));
    let more = simd.mul_add_f32s(p, ln, simd.sub_f32s(q, q_near));

    let z = simd.mul_f32s(s, s);
    let [c0, c1, c2] = ATANH_FIFTH;
    let (c0, c1, c2) = (simd.splat_f32s(c0), simd.splat_f32s(c1), simd.splat_f32s(c2));
    let w = simd.mul_add_f32s(simd.mul_add_f32s(c2, z, c1), z, c0);
    let curve = simd.mul_add_f32s(z, simd.mul_add_f32s(s, w, w), s);
    simd.mul_add_f32s(n, curve, more)
}

/// The numbers that signed integers are, for which `pulp` has no name.
#[inline(always)]
fn as_floats<S: Simd>(integers: S::u32s) -> S::f32s {
    let mut floats = S::f32s::zeroed();
    let integers: &[i32] = cast_slice(std::slice::from_ref(&integers));
    let places: &mut [f32] = cast_slice_mut(std::slice::from_mut(&mut floats));
    for (place, &integer) in places.iter_mut().zip(integers) {
        *place = integer as f32;
    }
    floats
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::term::Term;

    type Blocks = Vec<[f32; LANES]>;

    struct Chains<'a>(&'a [Blocks; 2]);

    impl pulp::WithSimd for Chains<'_> {
        /// The sums, and the least numbers; none where there are no vectors.
        type Output = Option<([[f32; LANES]; 4], [f32; LANES])>;

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
            if S::IS_SCALAR {
                return None;
            }
            let (Chains([p, q]), mut least) = (self, [0.75; LANES]);
            let sums = chains(simd, [p, q], &mut least);
            Some(([sums.g, sums.p, sums.q, sums.d], least))
        }
    }

    /// Numbers of 130 octaves, those of the second side near to or far from those of the first.
    fn sides(blocks: usize) -> [Blocks; 2] {
        let mut state = 0x9e37_79b9_7f4a_7c15 ^ blocks as u64;
        let mut noise = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1_u64 << 53) as f64
        };
        let mut sides = [vec![[0.0; LANES]; blocks], vec![[0.0; LANES]; blocks]];
        for (block, lane) in (0..blocks).flat_map(|block| (0..LANES).map(move |at| (block, at))) {
            let p = (noise() * 130.0 - 80.0).exp2();
            let apart = (noise() - 0.5) * [1e-6, 1.0, 24.0][lane % 3];
            sides[0][block][lane] = p as f32;
            sides[1][block][lane] = (p * apart.exp2()) as f32;
        }
        sides
    }

    /// The sum of a lane's terms in three levels of chains.
    fn in_chains(terms: &[f32]) -> f32 {
        let chain = |terms: &[f32]| terms.iter().fold(-0.0, |sum, term| sum + term);
        let chain_of = |terms: &[f32], length: usize, of: &dyn Fn(&[f32]) -> f32| {
            terms.chunks(length).fold(-0.0, |sum, some| sum + of(some))
        };
        chain_of(terms, CHAIN * CHAIN, &|terms| chain_of(terms, CHAIN, &chain))
    }

    #[test]
    fn vectors_give_the_bits_of_single_bins() {
        for blocks in [1, 2, 3, 4, 5, 16, 17, 23, 64] {
            let sides = sides(blocks);
            assert_bits(pulp::Arch::new().dispatch(Chains(&sides)), &sides);
            #[cfg(target_arch = "x86_64")]
            if let Some(avx2) = pulp::x86::V3::try_new() {
                assert_bits(Simd::vectorize(avx2, Chains(&sides)), &sides);
            }
        }
    }

    fn assert_bits(got: <Chains<'_> as pulp::WithSimd>::Output, sides: &[Blocks; 2]) {
        let Some((sums, least)) = got else { return };
        for lane in 0..LANES {
            let [p, q] = sides
                .each_ref()
                .map(|side| -> Vec<_> { side.iter().map(|block| block[lane]).collect() });
            let bins = || p.iter().zip(&q).map(|(&p, &q)| f32::bin::<true>(p, q));
            let (g, d): (Vec<_>, Vec<_>) = bins().map(|bin| (bin.g, bin.d)).unzip();
            let want = [&g, &p, &q, &d].map(|terms| in_chains(terms).to_bits());
            let got = sums.map(|sums| sums[lane].to_bits());
            assert_eq!(got, want, "lane {lane} of {} blocks", p.len());
            let less = p.iter().chain(&q).fold(0.75, |less, &x| x.min(less));
            assert_eq!(least[lane], less, "lane {lane} of {} blocks", p.len());
        }
    }
}
