//! How a refresh token is traded for a client that fits its session.

use http::{Extensions, HeaderMap};
use tier_cache::{Error, Issued, Reason, Refusal, SessionData};

use crate::binding::Binding;
use crate::layer::SessionLayer;
use crate::step_up::{Demand, StepUp};
use session_core::Token;

impl<D: SessionData> SessionLayer<D> {
    /// Trades a refresh token for a new pair, as [`Tiers::refresh`](tier_cache::Tiers::refresh) does,
    /// if the [binding](Self::binding) hook lets this request have the session. The hook sees the
    /// session with its body; it is asked also for a token that comes again within the grace.
    ///
    /// Where the hook demands a new login, the token stays as good as it was. A token that was traded
    /// in before ends its session whatever the hook says.
    ///
    /// # Errors
    ///
    /// [`RefreshError::StepUp`] if the hook says [`Binding::Reauthenticate`];
    /// [`RefreshError::Tiers`] with [`Refusal::Revoked`] if it says [`Binding::Revoke`], after the
    /// session was revoked; else as `Tiers::refresh`.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use http::Request;
    /// use tower_session::{
    ///     Binding, Login, RefreshError, SessionLayer, TierConfig, Tiers, Token, TokenKeys,
    /// };
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let mut config = TierConfig::default();
    /// # config.cold.url = format!("sqlite://{}/sessions.db", folder.path().display());
    /// let tiers: Tiers<()> = Tiers::open(config, TokenKeys::random()).await?;
    /// let layer = SessionLayer::new(tiers.clone()).binding(|_session, headers, _| {
    ///     match headers.contains_key("x-known-device") {
    ///         true => Binding::Allow,
    ///         false => Binding::Reauthenticate,
    ///     }
    /// });
    /// let token = tiers.login(Login::guest()).await?.refresh;
    ///
    /// let request = Request::new(());
    /// let refused = layer.refresh(request.headers(), request.extensions(), &token).await;
    /// assert!(matches!(refused, Err(RefreshError::StepUp(_))));
    ///
    /// let request = Request::builder().header("x-known-device", "1").body(())?;
    /// layer.refresh(request.headers(), request.extensions(), &token).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn refresh(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
        token: &Token,
    ) -> Result<Issued<D>, RefreshError> {
        let shared = self.shared.local();
        let tiers = &shared.tiers;
        let mut asked = Binding::Allow;
        let refreshed = tiers.refresh_if(token, |session| {
            asked = match &shared.binding {
                Some(hook) => hook(session, headers, extensions),
                None => Binding::Allow,
            };
            asked == Binding::Allow
        });
        if let Some(issued) = refreshed.await? {
            return Ok(issued);
        }
        if asked == Binding::Revoke {
            let revoked = tiers.revoke_for(token.id(), Reason::Binding).await;
            revoked.map_err(RefreshError::Tiers)?;
            return Err(RefreshError::Tiers(Refusal::Revoked.into()));
        }
        tiers.tell_refused(Some(token.id()), Reason::StepUp);
        let step_up = StepUp::new(token.id(), Demand::default());
        Err(RefreshError::StepUp(step_up))
    }
}

/// Why a refresh token was not traded.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RefreshError {
    /// The [binding](SessionLayer::binding) hook demands another login first.
    #[error("{}", .0.message())]
    StepUp(StepUp),
    /// The tiers did not trade it.
    #[error(transparent)]
    Tiers(#[from] Error),
}
