use std::fmt;
use std::ops::Deref;

use tier_cache::SessionData;

/// The session of a request, as [`SessionLayer`](crate::SessionLayer) puts it into the request's
/// extensions. Cheap to clone.
///
/// All that [`tier_cache::Session`] offers is here by dereference:
/// [`user`](tier_cache::Session::user), [`body`](tier_cache::Session::body),
/// [`update`](tier_cache::Session::update), and so on.
pub struct Session<D: SessionData>(tier_cache::Session<D>);

impl<D: SessionData> Session<D> {
    /// The session itself.
    pub fn into_inner(self) -> tier_cache::Session<D> {
        self.0
    }
}

impl<D: SessionData> From<tier_cache::Session<D>> for Session<D> {
    fn from(session: tier_cache::Session<D>) -> Self {
        Self(session)
    }
}

impl<D: SessionData> Deref for Session<D> {
    type Target = tier_cache::Session<D>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<D: SessionData> Clone for Session<D> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<D: SessionData> fmt::Debug for Session<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
