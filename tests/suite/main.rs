//! The one test binary. Every operation runs on every backend through the same bodies.

mod batch;
mod compare;
mod cross_check;
mod data;
mod engine;
mod engines;
mod golden;
mod kinds;
mod plan;
mod properties;
mod rows;
#[cfg(feature = "gpu")]
mod shaders;
mod special_values;
