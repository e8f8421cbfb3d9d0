//! How many bytes a session takes, in the process and in Redis.

mod held;
mod warm;

use crate::Failure;
use crate::chapter::Effort;
use crate::report::Section;

pub(crate) use held::{Holds, hold};

pub(crate) fn measure(effort: Effort) -> Result<Section, Failure> {
    Ok(Section::default()
        .table("memory", held::table(effort)?)
        .table("memory-redis", warm::table(effort)?))
}
