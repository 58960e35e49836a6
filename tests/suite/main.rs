//! The one test binary. Every operation runs on every backend through the same bodies.

mod batch;
mod compare;
mod cross_check;
mod data;
mod engine;
mod engines;
mod family;
mod golden;
mod gradient;
mod kinds;
mod logs;
mod long;
mod matrix;
mod plan;
mod properties;
mod random;
#[cfg(feature = "gpu")]
mod recover;
#[cfg(feature = "gpu")]
mod resident;
mod rows;
#[cfg(feature = "gpu")]
mod shaders;
mod special_logs;
mod special_values;
mod stream;
mod top_k;
