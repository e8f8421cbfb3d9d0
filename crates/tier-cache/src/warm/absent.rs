//! Stands in for the warm tier in a build without the cargo feature `redis`: there is none.

use std::time::Duration;
use std::vec;

use session_core::{Key, KeyHash, Lineage, Timestamp, TokenKeys};
use tokio_util::sync::CancellationToken;

use super::content::WarmRecord;
use super::finding::{WarmFound, WarmStats};
use crate::circuit::CircuitState;
use crate::cold::Changed;
use crate::config::{ConfigError, WarmConfig};
use crate::metrics::Metrics;

pub(crate) enum Warm {}

impl Warm {
    pub(crate) fn open(
        _: &WarmConfig,
        _: TokenKeys,
        _: Metrics,
        _: bool,
    ) -> Result<Self, ConfigError> {
        Err(ConfigError::because(
            "warm.url",
            "this build has no warm tier: add the cargo feature `redis`, or leave the key out",
        ))
    }

    pub(crate) async fn ready(&self) -> bool {
        match *self {}
    }

    pub(crate) fn circuit(&self) -> CircuitState {
        match *self {}
    }

    pub(crate) fn is_up(&self) -> bool {
        match *self {}
    }

    pub(crate) async fn get(&self, _: &[Key], _: Lineage) -> vec::IntoIter<Option<WarmRecord>> {
        match *self {}
    }

    pub(crate) async fn inspect(&self, _: Key, _: Lineage, _: Timestamp) -> WarmFound {
        match *self {}
    }

    pub(crate) async fn stats(&self) -> Option<WarmStats> {
        match *self {}
    }

    pub(crate) async fn lease(&self, _: &[Key]) -> Vec<bool> {
        match *self {}
    }

    pub(crate) async fn end_lease(&self, _: Key) {
        match *self {}
    }

    pub(crate) async fn fill(&self, _: &WarmRecord, _: Lineage, _: Duration) {
        match *self {}
    }

    pub(crate) async fn apply(
        &self,
        _: &WarmRecord,
        _: &[KeyHash],
        _: Changed,
        _: Lineage,
        _: Duration,
    ) -> bool {
        match *self {}
    }

    pub(crate) async fn listen(
        &self,
        _: impl FnMut(Lineage, Changed) + Send,
        _: CancellationToken,
    ) {
        match *self {}
    }
}
