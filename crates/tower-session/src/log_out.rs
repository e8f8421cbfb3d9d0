//! How a logout ends what a request shows.

use http::{Extensions, HeaderMap};
use tier_cache::{Error, Receipt, SessionData};

use crate::layer::SessionLayer;
use crate::source;

impl<D: SessionData> SessionLayer<D> {
    /// Ends every session that a request shows: a logout. It looks into all
    /// [sources](Self::sources), and at each of several cookies of the name, whatever the layer made
    /// of the request. Answer with [`CookieChange::clear`] beside it, which removes the cookies.
    ///
    /// Only a session whose present token is shown ends: a forged token ends nothing, and neither
    /// does one that was replaced. The [binding](Self::binding) hook is not asked.
    ///
    /// Returns `None` if the request shows no valid session, else when no node serves any of them.
    ///
    /// If the future is dropped, some of the sessions may have been revoked.
    ///
    /// # Errors
    ///
    /// [`Error`] if a session could not be found or revoked, because the database does not answer;
    /// the others are revoked all the same. It may be called again.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use http::Request;
    /// use tower_session::{Login, SessionLayer, TierConfig, Tiers, TokenKeys};
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let mut config = TierConfig::default();
    /// # config.cold.url = format!("sqlite://{}/sessions.db", folder.path().display());
    /// let tiers: Tiers<()> = Tiers::open(config, TokenKeys::random()).await?;
    /// let layer = SessionLayer::new(tiers.clone());
    /// let (one, other) = (tiers.login(Login::guest()).await?, tiers.login(Login::guest()).await?);
    ///
    /// let cookie = |token: &tower_session::Token| format!("__Host-session={}", &*token.expose());
    /// let request = Request::builder()
    ///     .header("cookie", [cookie(&one.access), cookie(&other.access)].join("; "))
    ///     .body(())?;
    /// let receipt = layer.log_out(request.headers(), request.extensions()).await?;
    /// assert_eq!(receipt.map(|receipt| receipt.revoked()), Some(2));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// [`CookieChange::clear`]: crate::CookieChange::clear
    pub fn log_out(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> impl Future<Output = Result<Option<Receipt>, Error>> + Send + use<D> {
        let shared = self.shared.local();
        let shown = source::find_all(&shared.sources, headers, extensions);
        let tiers = shared.tiers.clone();
        async move {
            let (mut ended, mut failed) = (None, None);
            for credential in shown {
                let revoked = match tiers.find(credential).await {
                    Ok(session) => session.revoke().await,
                    Err(refusal) => Err(refusal.into()),
                };
                match revoked {
                    Ok(receipt) => {
                        ended = Some(match ended.take() {
                            Some(before) => Receipt::and(before, receipt),
                            None => receipt,
                        });
                    }
                    Err(Error::Refused(refusal)) if !refusal.is_unavailable() => {}
                    Err(error) => failed = Some(error),
                }
            }
            match failed {
                None => Ok(ended),
                Some(error) => Err(error),
            }
        }
    }
}
