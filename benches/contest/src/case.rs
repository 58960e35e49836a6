//! What is computed: seeded rows, the files that hand them to the tools, and the true divergences.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// What the numbers of a case are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Probabilities; the rows of both sides have a mass of 1.
    Probs,
    /// Their logarithms but for a constant, of both sides.
    Logits,
}

/// A batch in f32, all its rows side by side in memory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Case {
    /// As the option `--cases` has it.
    pub name: String,
    /// What the numbers are.
    pub kind: Kind,
    /// Rows of each side.
    pub rows: usize,
    /// Bins of each row.
    pub bins: usize,
}

impl Case {
    /// The cases of a run with so many bins on each side; the last has one short row.
    pub(crate) fn all(bins_of_a_side: usize) -> Vec<Case> {
        let case = |kind: Kind, bins: usize| {
            let name = match kind {
                Kind::Probs => format!("probs-{bins}"),
                Kind::Logits => format!("logits-{bins}"),
            };
            Case { name, kind, rows: (bins_of_a_side / bins).max(1), bins }
        };
        let probs = [2, 8, 16, 32, 64, 256, 512, 1024, 1 << 16, 1 << 20].map(|bins| case(Kind::Probs, bins));
        let logits = [1024, 32_000, 128_256].map(|bins| case(Kind::Logits, bins));
        let row = Case { name: "row-64".into(), kind: Kind::Probs, rows: 1, bins: 64 };
        probs.into_iter().chain(logits).chain([row]).collect()
    }

    /// Of a single row the time is of interest; it lies in the cache whatever its bandwidth.
    pub fn is_one_row(&self) -> bool {
        self.rows == 1 && self.bins == 64
    }

    /// The bytes that have to be read of it.
    pub fn bytes(&self) -> usize {
        2 * self.rows * self.bins * size_of::<f32>()
    }

    /// Both sides. The logarithms of Q are some of those of P, and some of its own, so that the
    /// divergences are neither near 0 nor large.
    pub(crate) fn draw(&self) -> [Vec<f32>; 2] {
        [0, 1].map(|side| {
            let mut values = vec![0.0; self.rows * self.bins];
            values.par_chunks_mut(self.bins).enumerate().for_each(|(row, values)| {
                let first = row * self.bins;
                for (bin, value) in values.iter_mut().enumerate() {
                    let p = gaussian(2 * (first + bin));
                    let own = gaussian(2 * (first + bin) + 1);
                    *value = if side == 0 { p } else { 0.8 * p + 0.6 * own };
                }
                match self.kind {
                    Kind::Probs => soften(values),
                    Kind::Logits => values.iter_mut().for_each(|value| *value *= 3.0),
                }
            });
            values
        })
    }

    /// The divergence of each row as f64 has it, both sides divided by their masses.
    pub(crate) fn truth(&self, p: &[f32], q: &[f32]) -> Vec<f64> {
        let rows = p.par_chunks(self.bins).zip(q.par_chunks(self.bins));
        rows.map(|(p, q)| divergence(self.kind, p, q)).collect()
    }

    /// The files for the tools.
    pub(crate) fn write(&self, folder: &Path, [p, q]: [&[f32]; 2]) -> io::Result<()> {
        fs::write(folder.join("case.json"), serde_json::to_string(self)?)?;
        File::create(folder.join("p.bin"))?.write_all(bytemuck::cast_slice(p))?;
        File::create(folder.join("q.bin"))?.write_all(bytemuck::cast_slice(q))
    }

    /// What [`Case::write`] left there.
    pub(crate) fn read(folder: &Path) -> io::Result<(Case, [Vec<f32>; 2])> {
        let case: Case = serde_json::from_slice(&fs::read(folder.join("case.json"))?)?;
        let side = |file| {
            let mut values = vec![0_f32; case.rows * case.bins];
            File::open(folder.join(file))?.read_exact(bytemuck::cast_slice_mut(&mut values))?;
            Ok::<_, io::Error>(values)
        };
        let sides = [side("p.bin")?, side("q.bin")?];
        Ok((case, sides))
    }
}

/// The row by whose exponentials the mass is divided.
fn soften(row: &mut [f32]) {
    row.iter_mut().for_each(|value| *value = value.exp());
    let mass: f64 = row.iter().copied().map(f64::from).sum();
    row.iter_mut().for_each(|value| *value = (f64::from(*value) / mass) as f32);
}

/// `Σ w·ln(w/v) / Σ w − ln(Σ w / Σ v)` with the weights w and v of the two sides.
fn divergence(kind: Kind, p: &[f32], q: &[f32]) -> f64 {
    let top = |row: &[f32]| row.iter().copied().fold(f32::NEG_INFINITY, f32::max).into();
    let (p_top, q_top): (f64, f64) = (top(p), top(q));
    let (mut p_mass, mut q_mass, mut sum) = (0.0, 0.0, 0.0);
    for (&p, &q) in p.iter().zip(q) {
        let (p, q) = (f64::from(p), f64::from(q));
        let (w, v, log) = match kind {
            Kind::Probs => (p, q, (p / q).ln()),
            Kind::Logits => ((p - p_top).exp(), (q - q_top).exp(), (p - p_top) - (q - q_top)),
        };
        p_mass += w;
        q_mass += v;
        sum += w * log;
    }
    sum / p_mass - (p_mass / q_mass).ln()
}

/// Numbers of variance 1 that depend on nothing but their place: a sum of four 16-bit numbers of a
/// mixed word (Steele, Lea and Flood 2014: SplitMix64).
fn gaussian(place: usize) -> f32 {
    let z = (place as u64).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let z = z ^ (z >> 31);
    let sum: u32 = [0, 16, 32, 48].iter().map(|shift| (z >> shift) as u16 as u32).sum();
    (sum as f32 / 65_535.0 - 2.0) * 3_f32.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_truth_is_that_of_the_library() {
        for case in Case::all(1 << 12) {
            let [p, q] = case.draw();
            let truth = case.truth(&p, &q);
            assert_eq!(truth.len(), case.rows);
            let row = |side: &[f32]| -> Vec<f64> {
                let row = side[..case.bins].iter().copied().map(f64::from);
                match case.kind {
                    Kind::Probs => row.collect(),
                    Kind::Logits => row.map(f64::exp).collect(),
                }
            };
            let want = kullback::reference::kl(&row(&p), &row(&q), kullback::Mass::Normalize);
            assert!((truth[0] - want).abs() < 1e-12 * (1.0 + want), "{}: {want}", case.name);
        }
    }

    #[test]
    fn probabilities_have_a_mass_of_1() {
        let case = Case { name: "probs-100".into(), kind: Kind::Probs, rows: 3, bins: 100 };
        for side in case.draw() {
            for row in side.chunks(100) {
                let mass: f64 = row.iter().copied().map(f64::from).sum();
                assert!((mass - 1.0).abs() < 1e-6, "{mass}");
            }
        }
    }
}
