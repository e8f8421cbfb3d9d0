//! How a login takes the place of what a request shows.

use http::{Extensions, HeaderMap};
use tier_cache::{Credential, Error, Issued, Login, Reason, Session, SessionData};

use crate::binding::Binding;
use crate::layer::{SessionLayer, Shared};
use crate::source;

impl<D: SessionData> SessionLayer<D> {
    /// Begins the session of a user who has just proved to be that user, in place of what the
    /// request shows. Answer with [`CookieChange::set`](crate::CookieChange::set).
    ///
    /// | the request shows | what becomes of it |
    /// |---|---|
    /// | a guest's session, or the same user's | the new session takes its data, unless the login brings its own; the old one ends ([`Tiers::upgrade`](tier_cache::Tiers::upgrade)) |
    /// | another user's session | it is revoked; nothing of it goes on |
    /// | a session whose place this user's login took a moment ago: a doubled click, a lost answer | for `session.refresh_grace` the new session has the data of that one, which goes on beside it ([`Tiers::upgraded`](tier_cache::Tiers::upgraded)) |
    /// | nothing, several tokens that differ, or what is not accepted | the new session begins without data |
    ///
    /// The [binding](Self::binding) hook is asked of each session whose data would go on. A guest's
    /// session that it turns away is left as it is, and gives nothing to the login. The user's own goes
    /// on after [`Binding::Reauthenticate`], since the user has just done that. One that is to be
    /// [revoked](Binding::Revoke) is, for [`Reason::Binding`].
    ///
    /// If the future is dropped, the session may have begun; nobody has its tokens then.
    ///
    /// # Errors
    ///
    /// As [`Tiers::login`](tier_cache::Tiers::login); [`Error::Refused`] with
    /// [`Refusal::Unavailable`](tier_cache::Refusal::Unavailable) if it cannot be said whether what
    /// the request shows is a session.
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
    /// let tiers: Tiers<Vec<String>> = Tiers::open(config, TokenKeys::random()).await?;
    /// let layer = SessionLayer::new(tiers.clone());
    /// let guest = tiers.login(Login::guest().data(vec!["tea".into()])).await?;
    /// let request = Request::builder()
    ///     .header("cookie", format!("__Host-session={}", &*guest.access.expose()))
    ///     .body(())?;
    ///
    /// let login = Login::guest(); // `Login::user(id)`, once the password was right
    /// let issued = layer.log_in(request.headers(), request.extensions(), login).await?;
    /// assert_eq!(issued.session.body().await?.data()?, &["tea"]);
    /// assert!(tiers.find(guest.access).await.is_err(), "its place is taken");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn log_in(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
        login: Login<D>,
    ) -> Result<Issued<D>, Error> {
        let shared = self.shared.local();
        let tiers = &shared.tiers;
        let Some((_, Ok(credential))) = source::find(&shared.sources, headers, extensions) else {
            return tiers.login(login).await;
        };
        let previous = match tiers.find(credential.clone()).await {
            Ok(session) => Some(session),
            Err(refusal) if refusal.is_unavailable() => return Err(refusal.into()),
            Err(_) => None,
        };
        let upgraded = match previous {
            Some(previous) => replace(shared, previous, headers, extensions, &login).await?,
            None => None,
        };
        if let Some(issued) = upgraded {
            return Ok(issued);
        }
        let login = with_data_of_first(shared, &credential, headers, extensions, login).await?;
        tiers.login(login).await
    }
}

/// Puts the login in the place of a session that is accepted; `None` if nothing of it may go on.
async fn replace<D: SessionData>(
    shared: &Shared<D>,
    previous: Session<D>,
    headers: &HeaderMap,
    extensions: &Extensions,
    login: &Login<D>,
) -> Result<Option<Issued<D>>, Error> {
    let tiers = &shared.tiers;
    let owner = previous.user().map(|user| user.id);
    // What another user's session holds is not for this one.
    if owner.is_some() && owner != login.user_id() {
        previous.revoke().await?;
        return Ok(None);
    }
    let (previous, binding) = shared.ask_binding(previous, headers, extensions).await?;
    match binding {
        Binding::Revoke => {
            tiers.revoke_for(previous.id(), Reason::Binding).await?;
            return Ok(None);
        }
        Binding::Reauthenticate if owner.is_none() => return Ok(None),
        Binding::Reauthenticate | Binding::Allow => {}
    }
    match tiers.upgrade(&previous, login.clone()).await {
        Ok(issued) => Ok(Some(issued)),
        // It has ended meanwhile, and does not stand in the way.
        Err(Error::Refused(refusal)) if !refusal.is_unavailable() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The login with the data of the session that the first of two logins has begun, if this is the
/// second.
async fn with_data_of_first<D: SessionData>(
    shared: &Shared<D>,
    credential: &Credential,
    headers: &HeaderMap,
    extensions: &Extensions,
    login: Login<D>,
) -> Result<Login<D>, Error> {
    let (Credential::Token(token), Some(user), false) =
        (credential, login.user_id(), login.has_data())
    else {
        return Ok(login);
    };
    let Some(first) = shared.tiers.upgraded(token, user).await? else {
        return Ok(login);
    };
    let (first, binding) = shared.ask_binding(first, headers, extensions).await?;
    if binding != Binding::Allow {
        return Ok(login);
    }
    let body = first.body().await?;
    Ok(match body.data() {
        Ok(data) => login.data(data.clone()),
        // Nobody could read it in the new session either.
        Err(_) => login,
    })
}
