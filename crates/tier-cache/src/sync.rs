//! The atomics and the lock that the fence and the hot tier share their state by: the standard
//! ones, in which the unit tests put a place before each operation where another thread may come
//! in between. (The front has locks of another kind, and such a place before each.) A scheduler
//! then tries the orders in which threads can meet there.

#[cfg(not(test))]
pub(crate) use std::sync::RwLock;
#[cfg(not(test))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32};

#[cfg(test)]
pub(crate) use stepped::{AtomicBool, AtomicI64, AtomicU32, RwLock, Turn, schedules, step};

/// Where another thread may come in between; nothing outside of unit tests.
#[cfg(not(test))]
#[inline(always)]
pub(crate) const fn step() {}

#[cfg(test)]
mod stepped;
