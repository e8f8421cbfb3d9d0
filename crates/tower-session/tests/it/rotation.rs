//! MAC keys rotate, and nobody is logged out by it.

use http::Response;
use http::header::SET_COOKIE;
use tower::{Layer, service_fn};
use tower_session::{
    SecretKey, Session, SessionCookie, SessionLayer, Signed, Tier, Tiers, Token, TokenKeys,
};

use crate::support::{Bed, Data, Seen, bearer, call, cookie, inner};

fn layer(tiers: &Tiers<Data>) -> SessionLayer<Data> {
    SessionLayer::new(tiers.clone())
}

/// The token in the cookie that a response sets, if it sets one.
fn token(response: &Response<Option<Seen>>) -> Option<Token> {
    let set = response.headers().get(SET_COOKIE)?.to_str().unwrap();
    let value = set.strip_prefix(SessionCookie::NAME).unwrap();
    let value = value.strip_prefix('=').unwrap().split(';').next().unwrap();
    Some(Token::parse(value).unwrap())
}

#[tokio::test]
async fn a_cookie_under_a_retired_key_is_written_anew_with_no_io() {
    let bed = Bed::new().await;
    let issued = bed.guest().await;
    let id = issued.session.id();
    let keys = bed.keys.clone().rotate(&SecretKey::random());
    let tiers = bed.restarted_with(keys.clone()).await;
    let mut service = layer(&tiers).required().layer(service_fn(inner));

    // First cold, then hot.
    for tier in [Tier::Cold, Tier::Hot] {
        let before = bed.store.calls();
        let response = call(&mut service, cookie(&issued.access)).await;
        assert_eq!(*response.body(), Some(Seen::Session(id, tier)));
        let anew = token(&response).expect("a cookie is set");
        assert_eq!(keys.signed(&anew), Some(Signed::Current));
        assert_eq!(bed.store.calls() - before, u64::from(tier == Tier::Cold));
        // With that the client is as before, and the cookie stays.
        let response = call(&mut service, cookie(&anew)).await;
        assert_eq!(*response.body(), Some(Seen::Session(id, Tier::Hot)));
        assert!(token(&response).is_none());
    }
    // Nobody would read it from there.
    assert!(token(&call(&mut service, bearer(&issued.access)).await).is_none());
}

#[tokio::test]
async fn a_key_that_is_only_announced_changes_no_cookie() {
    let bed = Bed::new().await;
    let issued = bed.guest().await;
    let key = SecretKey::random();
    let early = bed.restarted_with(bed.keys.clone().announce(&key)).await;
    let late = bed.keys.clone().rotate(&key);
    let anew = late.resign(&issued.access).unwrap();
    let mut service = layer(&early).required().layer(service_fn(inner));
    for shown in [&issued.access, &anew] {
        let response = call(&mut service, cookie(shown)).await;
        assert!(matches!(response.body(), Some(Seen::Session(..))));
        assert!(token(&response).is_none());
    }
}

#[tokio::test]
async fn a_session_that_ends_meanwhile_is_not_written_anew() {
    let bed = Bed::new().await;
    let keys = bed.keys.clone().rotate(&SecretKey::random());
    let tiers = bed.restarted_with(keys).await;
    // A handler that ends the session, or gives it new tokens, and forgets about the cookie.
    for ends in [true, false] {
        let issued = bed.guest().await;
        let refresh = issued.refresh.clone();
        let handler = service_fn(move |request: http::Request<()>| {
            let refresh = refresh.clone();
            async move {
                let session = request.extensions().get::<Session<Data>>().unwrap();
                let tiers = session.tiers();
                if ends {
                    tiers.revoke(session.id()).await.unwrap();
                } else {
                    tiers.refresh(&refresh).await.unwrap();
                }
                Ok::<_, std::convert::Infallible>(Response::new(None))
            }
        });
        let mut service = layer(&tiers).required().layer(handler);
        let response = call(&mut service, cookie(&issued.access)).await;
        assert!(response.status().is_success() && token(&response).is_none());
    }
}

#[tokio::test]
async fn a_key_left_out_for_good_is_refused_before_any_tier_is_asked() {
    let bed = Bed::new().await;
    let issued = bed.guest().await;
    let keys = TokenKeys::with_mac_key(&bed.root, &SecretKey::random());
    let tiers = bed.restarted_with(keys.clone()).await;
    let mut service = layer(&tiers).layer(service_fn(inner));
    let before = bed.store.calls();
    let response = call(&mut service, cookie(&issued.access)).await;
    assert!(matches!(response.body(), Some(Seen::Refused(_))));
    assert_eq!(bed.store.calls(), before);

    // What is hot opens to whoever knows its secret, and no MAC key tells that.
    let session = tiers.find(issued.session.id()).await.unwrap();
    let response = call(&mut service, cookie(&issued.access)).await;
    let found = Seen::Session(session.id(), Tier::Hot);
    assert_eq!(*response.body(), Some(found));
    assert!(token(&response).is_none());
}
