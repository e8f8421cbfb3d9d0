//! What the layer does to a response on its way out: it writes its cookie.

use std::mem;
use std::sync::Arc;

use http::header::{CACHE_CONTROL, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Response};
use session_core::Token;
use tier_cache::{Reason, Refusal, SessionData};

use crate::absence::Absence;
use crate::change::{Change, CookieChange};
use crate::layer::Shared;
use crate::session::Session;
use crate::source::Source;
use crate::spread::Apart;

/// Goes with a request, and meets its response.
pub(crate) struct Outbound<D: SessionData> {
    pub(crate) shared: Arc<Apart<Shared<D>>>,
    shown: Shown,
}

/// The layer's own cookie, as the request shows it.
#[derive(Default)]
pub(crate) enum Shown {
    /// Not at all, or in a way that leaves nothing to do.
    #[default]
    Nothing,
    /// With a token whose session is not decided yet.
    Asked,
    /// With a token under a retired key, which was accepted: here it is under the one that signs.
    Resigned(Box<Token>),
    /// With something that is refused, and always will be.
    Refused,
    /// Several times, with values that differ.
    Several,
}

impl<D: SessionData> Outbound<D> {
    pub(crate) fn new(shared: Arc<Apart<Shared<D>>>, shown: Shown) -> Self {
        Self { shared, shown }
    }

    /// The session of the request was found, or not.
    pub(crate) fn decided(&mut self, found: &Result<Session<D>, Absence>, headers: &HeaderMap) {
        if let Err(Absence::StepUp(step_up)) = found {
            let session = Some(step_up.session());
            self.shared.tiers.tell_refused(session, Reason::StepUp);
        }
        let Shown::Asked = self.shown else {
            return;
        };
        self.shown = match found {
            Ok(_) => match self.resigned(headers) {
                Some(token) => Shown::Resigned(Box::new(token)),
                None => Shown::Nothing,
            },
            Err(Absence::Refused(refusal)) if is_final(refusal) => Shown::Refused,
            Err(_) => Shown::Nothing,
        };
    }

    /// The token of the layer's own cookie under the key that signs, if a retired one signed it.
    fn resigned(&self, headers: &HeaderMap) -> Option<Token> {
        let shared = &self.shared;
        let keys = shared.tiers.keys();
        if !keys.has_retired() {
            return None;
        }
        let is_own = |source: &&Source| source.is_cookie(&shared.cookie_name);
        let text = shared.sources.iter().find(is_own)?.text(headers)?.ok()?;
        keys.resign(&Token::parse(text).ok()?)
    }

    /// Writes the cookie: as the handler asks, else as what the request showed makes it right.
    #[inline]
    pub(crate) fn write<B>(&mut self, response: &mut Response<B>) {
        if matches!(self.shown, Shown::Nothing) && response.extensions().is_empty() {
            return;
        }
        self.write_if_any(response);
    }

    fn write_if_any<B>(&mut self, response: &mut Response<B>) {
        let change = response.extensions_mut().remove::<CookieChange>();
        let shown = mem::take(&mut self.shown);
        if change.is_none() && matches!(shown, Shown::Nothing) {
            return;
        }
        if let Some(change) = change {
            let cookies = match change.take() {
                Change::Set { token, until } => {
                    let now = self.shared.tiers.now().wall;
                    let set = self.shared.cookie.set(token, *until, now);
                    let mut cookies = vec![set];
                    if matches!(shown, Shown::Several) {
                        // With the others left, the new one would be refused for them.
                        let everywhere = self.shared.clear_everywhere();
                        cookies.extend(everywhere.into_iter().skip(1));
                    }
                    cookies
                }
                Change::Clear => self.shared.clear_everywhere(),
            };
            for cookie in cookies {
                add(response.headers_mut(), cookie);
            }
        } else if let Some(cookie) = self.unasked(shown)
            && takes_unasked(response.headers(), &self.shared.cookie_name)
        {
            add(response.headers_mut(), cookie);
        }
    }

    /// What the layer writes by itself.
    fn unasked(&self, shown: Shown) -> Option<HeaderValue> {
        let shared = &self.shared;
        match shown {
            Shown::Nothing | Shown::Asked | Shown::Several => None,
            Shown::Refused => shared.removes_refused.then(|| shared.cookie.clear()),
            // The handler may have ended the session, or another request refreshed it.
            Shown::Resigned(token) => {
                let session = shared.tiers.try_hot(&Token::clone(&token).into())?.ok()?;
                let now = shared.tiers.now().wall;
                Some(shared.cookie.set(&token, session.expires_at(), now))
            }
        }
    }
}

/// Whether the client's cookie can never become good again.
///
/// Not where nobody could tell; and not that of a token that was replaced: the cookie that
/// replaced it may be there already, and this response come after the one that brought it. Nor one
/// whose signature is not accepted: it is good again once this node has the root key of the others.
fn is_final(refusal: &Refusal) -> bool {
    matches!(
        refusal,
        Refusal::Malformed | Refusal::Unknown | Refusal::Expired | Refusal::Revoked
    )
}

fn add(headers: &mut HeaderMap, cookie: HeaderValue) {
    headers.append(SET_COOKIE, cookie);
    headers
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
}

/// Whether a cookie that no handler asked for may be added: not beside one of the same name, and
/// not to a response that caches may give to others. The client's next one will do.
fn takes_unasked(headers: &HeaderMap, name: &str) -> bool {
    let sets = |header: &HeaderValue| {
        let rest = header.as_bytes().strip_prefix(name.as_bytes());
        rest.is_some_and(|rest| rest.starts_with(b"="))
    };
    let own = |header: &HeaderValue| {
        header.as_bytes().split(|&byte| byte == b',').any(|part| {
            let part = part.trim_ascii();
            part.eq_ignore_ascii_case(b"no-store") || part.eq_ignore_ascii_case(b"private")
        })
    };
    !headers.get_all(SET_COOKIE).iter().any(sets)
        && (!headers.contains_key(CACHE_CONTROL) || headers.get_all(CACHE_CONTROL).iter().any(own))
}
