//! The gradients, into their files as they come.

use kullback::{Element, Side};
use ndarray::Array2;

use crate::args::Rows;
use crate::failure::Failure;
use crate::files::npy::{Writer, Written};
use crate::files::whole::Unfinished;
use crate::results;

/// Takes the gradients of one part after another, of the sides that they are wanted in.
pub struct Gradients<V> {
    /// What brings nats to the unit that is asked for.
    per_unit: f64,
    sides: [Option<Gradient<V>>; 2],
}

/// The gradient in one side.
struct Gradient<V> {
    file: Writer<V>,
    /// Of a side with a single row, the sum over all rows.
    sum: Option<Vec<f64>>,
}

impl<V: Written + Element> Gradients<V> {
    /// Makes ready for two sides of these shapes, of which so many rows are made.
    pub fn new(
        options: &Rows,
        unfinished: &Unfinished,
        shapes: [(usize, usize); 2],
        rows: usize,
    ) -> Result<Self, Failure> {
        let begin = |side: Side| {
            let Some(path) = options.gradient_output(side) else { return Ok(None) };
            let shape = shapes[side as usize];
            let file =
                Writer::create(&path, &[shape.0, shape.1], unfinished).map_err(Failure::other)?;
            let is_sum = shape.0 == 1 && rows != 1;
            Ok(Some(Gradient { file, sum: is_sum.then(|| vec![0.0; shape.1]) }))
        };
        let sides = [begin(Side::P)?, begin(Side::Q)?];
        Ok(Gradients { per_unit: results::per_unit(&options.shared)?, sides })
    }

    /// Takes the gradients of the next rows.
    pub fn take(&mut self, gradients: [Option<Array2<V>>; 2]) -> Result<(), Failure> {
        for (side, gradient) in self.sides.iter_mut().zip(gradients) {
            let (Some(side), Some(mut gradient)) = (side, gradient) else { continue };
            if self.per_unit != 1.0 {
                gradient.mapv_inplace(|x| V::from_f64(x.to_f64() * self.per_unit));
            }
            match &mut side.sum {
                Some(sum) => sum.iter_mut().zip(&gradient).for_each(|(sum, x)| *sum += x.to_f64()),
                // It was made contiguous.
                None => side
                    .file
                    .write(gradient.as_slice().unwrap_or_default())
                    .map_err(Failure::other)?,
            }
        }
        Ok(())
    }

    /// Puts the files in their places.
    pub fn finish(self) -> Result<(), Failure> {
        for Gradient { mut file, sum } in self.sides.into_iter().flatten() {
            if let Some(sum) = sum {
                let sum: Vec<V> = sum.into_iter().map(V::from_f64).collect();
                file.write(&sum).map_err(Failure::other)?;
            }
            file.finish().map_err(Failure::other)?;
        }
        Ok(())
    }
}
