//! JS
use std::path::Path;
use super::{BuildError, BuildOptions, Built, Progress, config::Config};
pub fn build(_: &Path, _: &Config, _: &BuildOptions, _: &mut dyn FnMut(Progress)) -> Result<Built, BuildError> { todo!() }
