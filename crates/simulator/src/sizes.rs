//! How many bytes things take. Those of hot sessions and of Redis were measured, and tests hold to them;
//! those of rows and floors are estimates.

use crate::setting::Setting;

/// An entry of the hot tier with no texts and no data, as the tier weighs it.
pub(crate) const HOT_ENTRY: u32 = 525;

/// What it takes more if something is known of the session's device, without texts.
pub(crate) const DEVICE: u32 = 56;

/// A lookup entry of the hot tier.
pub(crate) const LOOKUP: u32 = 300;

/// A record in Redis with no texts: key, value, expiry, and what Redis adds.
pub(crate) const WARM_RECORD: f64 = 224.0;

/// A row and its part of all indexes, with no texts and no data.
pub(crate) const ROW: f64 = 600.0;

/// A floor, in a hash map.
pub(crate) const FLOOR: f64 = 60.0;

/// Foreign keys of a session that has such: one of its access token, one of its refresh token.
pub(crate) const FOREIGN_KEYS: u64 = 2;

/// Bytes that a session takes in the database.
pub(crate) fn row(setting: &Setting) -> f64 {
    ROW + f64::from(setting.workload.data + setting.workload.device)
}
