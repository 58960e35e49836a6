//! Ten lines to paste: how far is each row of P from its row of Q?

use kullback::Engine;
use ndarray::array;

fn main() -> Result<(), kullback::Error> {
    let p = array![[0.7_f32, 0.2, 0.1], [0.25, 0.25, 0.5], [0.5, 0.5, 0.0]];
    let q = array![[0.1_f32, 0.3, 0.6], [0.25, 0.25, 0.5], [0.5, 0.0, 0.5]];
    let kl = Engine::auto().kl(&p, &q)?;
    println!("D(P‖Q) per row, in nats: {kl}");
    Ok(())
}
