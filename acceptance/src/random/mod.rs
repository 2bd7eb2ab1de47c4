//! Random builds: a seed becomes an app with buildpacks ([`generate`]), the app is built two or three times by a
//! lifecycle in a root directory of its own ([`world`]), and what every phase left is written down ([`observe`]), so
//! that two lifecycles, or a lifecycle and what it did a year ago, can be compared.

pub mod generate;
pub mod observe;
mod rng;
pub mod world;

pub use generate::{Case, case};
pub use observe::Observed;
pub use world::World;
