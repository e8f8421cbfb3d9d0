//! A token that was accepted a moment ago is known again, without being read; and is held to all
//! that others are held to.

use http::Request;
use tower::{Layer, service_fn};
use tower_session::{
    Binding, Key, Session, SessionCookie, SessionLayer, Source, Tier, Tiers, Token, TokenKind,
};

use crate::support::{Bed, Data, Seen, bearer, cookie, inner, request, seen};

/// What a request sees whose token was accepted three times before: twice it is enough.
async fn seen_by(layer: &SessionLayer<Data>, token: &Token, request: Request<()>) -> Seen {
    let mut service = layer.layer(service_fn(inner));
    for _ in 0..3 {
        let before = seen(&mut service, cookie(token)).await;
        assert!(matches!(before, Seen::Session(_, Tier::Hot)), "{before:?}");
    }
    seen(&mut service, request).await
}

/// Whether a session is found by its token as it is written.
fn is_known(tiers: &Tiers<Data>, token: &Token) -> bool {
    let text = token.expose();
    let written = tower_session::WrittenToken::access(&*text).expect("an access token");
    tiers.try_known(written).is_some()
}

#[tokio::test]
async fn a_known_token_is_refused_as_soon_as_its_session_is_revoked_here() {
    let bed = Bed::new().await;
    let issued = bed.user().await;
    let layer = SessionLayer::new(bed.tiers.clone());
    seen_by(&layer, &issued.access, cookie(&issued.access)).await;
    assert!(is_known(&bed.tiers, &issued.access));
    bed.tiers.revoke(issued.session.id()).await.unwrap();
    assert!(!is_known(&bed.tiers, &issued.access));
    let mut service = layer.layer(service_fn(inner));
    for _ in 0..3 {
        let refused = seen(&mut service, cookie(&issued.access)).await;
        assert_eq!(refused, Seen::Refused("the session was revoked".into()));
    }
}

#[tokio::test]
async fn a_known_token_gives_way_to_the_one_that_it_is_traded_in_with() {
    let bed = Bed::new().await;
    let issued = bed.user().await;
    let layer = SessionLayer::new(bed.tiers.clone());
    seen_by(&layer, &issued.access, cookie(&issued.access)).await;
    let refreshed = bed.tiers.refresh(&issued.refresh).await.unwrap();
    assert!(!is_known(&bed.tiers, &issued.access));
    for _ in 0..3 {
        let old = seen_by(&layer, &refreshed.access, cookie(&issued.access)).await;
        assert!(matches!(old, Seen::Refused(_)), "{old:?}");
    }
}

#[tokio::test]
async fn what_changes_is_seen_by_the_next_request() {
    let bed = Bed::new().await;
    let issued = bed.user().await;
    let items = service_fn(async |request: Request<()>| {
        let session: &Session<Data> = request.extensions().get().unwrap();
        let items = session.body_if_here().unwrap().data().unwrap().len();
        Ok::<_, std::convert::Infallible>(http::Response::new(items))
    });
    let mut service = SessionLayer::new(bed.tiers.clone()).layer(items);
    let mut count = async || {
        let response = tower::Service::call(&mut service, cookie(&issued.access)).await;
        response.unwrap().into_body()
    };
    for before in 1..5 {
        for _ in 0..3 {
            assert_eq!(count().await, before);
        }
        let add = |data: &mut Data| data.push("tea".into());
        issued.session.update(add).await.unwrap();
    }
}

#[tokio::test]
async fn a_known_token_does_not_go_before_what_decides() {
    let bed = Bed::new().await;
    let (issued, other) = (bed.user().await, bed.user().await);
    let known = issued.access.expose();
    let pair = format!("{}={}", SessionCookie::NAME, &*known);
    let layer = SessionLayer::new(bed.tiers.clone());

    // Somebody has set a second cookie of the name.
    let two = request(&[("cookie", &format!("{pair}; {}=x", SessionCookie::NAME))]);
    let refused = seen_by(&layer, &issued.access, two).await;
    assert!(matches!(refused, Seen::Refused(_)), "{refused:?}");

    // An earlier source shows something.
    let sources = [Source::bearer(), Source::cookie(SessionCookie::NAME)];
    let bearer_first = layer.clone().sources(sources);
    let both = request(&[("cookie", &pair), ("authorization", "Bearer x")]);
    let refused = seen_by(&bearer_first, &issued.access, both).await;
    assert!(matches!(refused, Seen::Refused(_)), "{refused:?}");

    // The application's own source does.
    let login = tower_session::Login::guest();
    let session = bed
        .tiers
        .adopt(login, Some(crate::support::foreign("jti")), None)
        .await
        .unwrap();
    let keys = bed.keys.clone();
    let jti = Source::custom(move |headers, _| {
        let jti = headers.get("x-jti")?.to_str().ok()?;
        Some(Key::AccessJti(keys.hash_foreign(
            TokenKind::Access,
            &crate::support::foreign(jti),
        )))
    });
    let sources = [jti, Source::cookie(SessionCookie::NAME)];
    let custom_first = layer.clone().sources(sources);
    let both = request(&[("cookie", &pair), ("x-jti", "jti")]);
    let found = seen_by(&custom_first, &issued.access, both).await;
    assert_eq!(found, Seen::Session(session.id(), Tier::Hot));

    // The hook turns one of two known ones away.
    let barred = other.session.id();
    let hooked = layer.binding(move |session, _, _| match session.id() == barred {
        true => Binding::Reauthenticate,
        false => Binding::Allow,
    });
    seen_by(&hooked, &issued.access, bearer(&issued.access)).await;
    let mut service = hooked.layer(service_fn(inner));
    for _ in 0..3 {
        let turned_away = seen(&mut service, cookie(&other.access)).await;
        assert!(!matches!(turned_away, Seen::Session(..)), "{turned_away:?}");
    }
}
