//! The handlers, by topic, and what they share.

pub(crate) mod activity;
pub(crate) mod data;
pub(crate) mod device;
pub(crate) mod error;
mod guest;
pub(crate) mod login;
pub(crate) mod operations;
pub(crate) mod password;
pub(crate) mod sessions;

use std::sync::Arc;

use metrics_exporter_prometheus::PrometheusHandle;
use tower_session::{SessionLayer, Tiers};

use crate::accounts::Accounts;
use crate::activity::Activity;
use crate::limits::{Attempts, Guests};
use crate::passwords::Passwords;

pub(crate) use data::Data;

/// What the handlers work with. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Api(Arc<Parts>);

struct Parts {
    tiers: Tiers<Data>,
    sessions: SessionLayer<Data>,
    accounts: Accounts,
    passwords: Passwords,
    activity: Activity,
    metrics: PrometheusHandle,
    attempts: Attempts,
    guests: Guests,
    trusts_forwarded_for: bool,
}

impl Api {
    pub(crate) fn new(
        sessions: SessionLayer<Data>,
        tiers: Tiers<Data>,
        accounts: Accounts,
        passwords: Passwords,
        activity: Activity,
        metrics: PrometheusHandle,
        trusts_forwarded_for: bool,
    ) -> Self {
        Self(Arc::new(Parts {
            sessions,
            tiers,
            accounts,
            passwords,
            activity,
            metrics,
            attempts: Attempts::new(),
            guests: Guests::new(guest::TTL),
            trusts_forwarded_for,
        }))
    }

    pub(crate) fn tiers(&self) -> &Tiers<Data> {
        &self.0.tiers
    }

    /// Which session a request has, and whether it is bound to its browser.
    pub(crate) fn sessions(&self) -> &SessionLayer<Data> {
        &self.0.sessions
    }

    fn accounts(&self) -> &Accounts {
        &self.0.accounts
    }

    fn passwords(&self) -> &Passwords {
        &self.0.passwords
    }

    fn activity(&self) -> &Activity {
        &self.0.activity
    }

    fn attempts(&self) -> &Attempts {
        &self.0.attempts
    }

    fn guests(&self) -> &Guests {
        &self.0.guests
    }

    fn trusts_forwarded_for(&self) -> bool {
        self.0.trusts_forwarded_for
    }

    fn metrics(&self) -> &PrometheusHandle {
        &self.0.metrics
    }
}
