//! Tells handwritten digits apart by the divergence from each class's mean image.
//!
//! Each image's ink is a distribution over 64 pixels. The first half of the images give ten mean
//! distributions; each image of the second half goes to the class with the smallest
//! `D(image‖mean)`. Run it with `cargo run --release --example nearest_digit`.

use std::error::Error;

use kullback::{Batch, Divergence, Engine, Mass};
use ndarray::{Array1, Array2, ArrayView2, Axis};

const DIGITS: usize = 10;
const PIXELS: usize = 64;

fn main() -> Result<(), Box<dyn Error>> {
    let (labels, ink) = read(include_str!("data/digits.csv"))?;
    let half = labels.len() / 2;
    let (known, unknown) = ink.view().split_at(Axis(0), half);
    let means = class_means(&labels[..half], known);

    // One mean against all images at a time: a side with a single row is not copied.
    let engine = Engine::auto();
    let mut divergences = Array2::<f32>::zeros((DIGITS, unknown.nrows()));
    for (mean, mut row) in means.axis_chunks_iter(Axis(0), 1).zip(divergences.rows_mut()) {
        let batch = Batch::probs(unknown, mean)?.with_mass(Mass::Normalize);
        row.assign(&engine.rows(Divergence::Kl, &batch)?.values);
    }
    let guesses: Vec<usize> = divergences.columns().into_iter().map(smallest).collect();

    println!("{} images, each assigned to the nearest of {DIGITS} means ({engine})", guesses.len());
    report(&labels[half..], &guesses);
    Ok(())
}

/// The label and the ink of each image.
fn read(csv: &str) -> Result<(Vec<usize>, Array2<f32>), Box<dyn Error>> {
    let (mut labels, mut ink) = (Vec::new(), Vec::new());
    for line in csv.lines().skip(1) {
        let mut fields = line.split(',');
        labels.push(fields.next().unwrap_or_default().parse()?);
        for field in fields {
            ink.push(field.parse()?);
        }
    }
    let ink = Array2::from_shape_vec((labels.len(), PIXELS), ink)?;
    Ok((labels, ink))
}

/// The mean distribution of each class. A pixel that no known image has ink in would make every
/// image that does infinitely far away, so each pixel is given a thousandth of the mass.
fn class_means(labels: &[usize], ink: ArrayView2<'_, f32>) -> Array2<f32> {
    let mut means = Array2::from_elem((DIGITS, PIXELS), 0.0);
    for (&label, image) in labels.iter().zip(ink.rows()) {
        means.row_mut(label).scaled_add(1.0 / image.sum(), &image);
    }
    for mut mean in means.rows_mut() {
        let mass = mean.sum();
        mean.mapv_inplace(|ink| ink / mass + 1e-3);
    }
    means
}

fn smallest(values: ndarray::ArrayView1<'_, f32>) -> usize {
    let order = |a: &(usize, &f32), b: &(usize, &f32)| a.1.total_cmp(b.1);
    values.iter().enumerate().min_by(order).map_or(0, |(at, _)| at)
}

fn report(labels: &[usize], guesses: &[usize]) {
    let mut right = Array1::<usize>::zeros(DIGITS);
    let mut all = Array1::<usize>::zeros(DIGITS);
    for (&label, &guess) in labels.iter().zip(guesses) {
        all[label] += 1;
        right[label] += usize::from(label == guess);
    }
    for digit in 0..DIGITS {
        let share = 100.0 * right[digit] as f64 / all[digit] as f64;
        println!("  {digit}: {:3} of {:3} right, {share:5.1} %", right[digit], all[digit]);
    }
    let share = 100.0 * right.sum() as f64 / all.sum() as f64;
    println!("all: {:3} of {:3} right, {share:5.1} %", right.sum(), all.sum());
}
