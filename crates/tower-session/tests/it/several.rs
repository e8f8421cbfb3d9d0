//! Requests that show several tokens.

use http::StatusCode;
use http::header::SET_COOKIE;
use tower::{Layer, service_fn};
use tower_session::{
    CookieChange, Event, Reason, SessionCookie, SessionLayer, Source, Tier, Token, TokenKeys,
    TokenKind,
};

use futures_util::StreamExt as _;

use crate::support::{Bed, Seen, call, inner, request, seen};

const NAME: &str = SessionCookie::NAME;

fn pair(token: &Token) -> String {
    format!("{NAME}={}", &*token.expose())
}

fn bearer(token: &Token) -> String {
    format!("Bearer {}", &*token.expose())
}

#[tokio::test]
async fn beside_cookies_that_differ_the_next_source_decides() {
    let bed = Bed::new().await;
    let (one, other, third) = (bed.guest().await, bed.guest().await, bed.guest().await);
    let two = [pair(&one.access), pair(&other.access)].join("; ");
    let good = bearer(&third.access);
    let id = third.session.id();
    let mut service = SessionLayer::new(bed.tiers.clone()).layer(service_fn(inner));

    let both = || request(&[("cookie", &two), ("authorization", &good)]);
    for _ in 0..2 {
        // Also by the short way.
        let found = seen(&mut service, both()).await;
        assert_eq!(found, Seen::Session(id, Tier::Hot));
    }
    let restarted = SessionLayer::new(bed.restarted().await);
    let found = seen(&mut restarted.layer(service_fn(inner)), both()).await;
    assert_eq!(found, Seen::Session(id, Tier::Cold));

    // What it shows decides, even if that is refused.
    let bad = request(&[("cookie", &two), ("authorization", "Bearer x")]);
    let Seen::Refused(why) = seen(&mut service, bad).await else {
        panic!("it is refused");
    };
    assert_eq!(why, "the token is not one of this service");

    // Whichever comes first.
    let sources = [Source::bearer(), Source::cookie(NAME)];
    let layer = SessionLayer::new(bed.tiers.clone()).sources(sources);
    let cookie = pair(&third.access);
    let doubled = request(&[
        ("authorization", &bearer(&one.access)),
        ("authorization", &bearer(&other.access)),
        ("cookie", &cookie),
        ("cookie", &cookie),
    ]);
    let found = seen(&mut layer.layer(service_fn(inner)), doubled).await;
    assert_eq!(found, Seen::Session(id, Tier::Hot));

    // With nothing beside them, the refusal names the reason.
    let mut events = bed.tiers.events();
    let alone = seen(&mut service, request(&[("cookie", &two)])).await;
    assert_eq!(
        alone,
        Seen::Refused("the request shows several different tokens in one place".into())
    );
    let told = events.next().await.unwrap();
    assert!(
        matches!(
            told,
            Event::Refused {
                session: None,
                reason: Reason::Ambiguous
            }
        ),
        "{told:?}"
    );
}

#[tokio::test]
async fn a_logout_ends_every_session_that_the_request_shows() {
    let bed = Bed::new().await;
    let layer = SessionLayer::new(bed.tiers.clone());
    let (one, other, third) = (bed.guest().await, bed.guest().await, bed.guest().await);
    let bystander = bed.guest().await;
    let refreshed = bed.guest().await;
    bed.tiers.refresh(&refreshed.refresh).await.unwrap();
    let forged = TokenKeys::random().mint(TokenKind::Access, bystander.session.id());
    let cookies = [
        pair(&one.access),
        pair(&forged),
        format!("{NAME}=garbage"),
        pair(&refreshed.access),
        pair(&other.access),
    ];
    let shown = request(&[
        ("cookie", &cookies.join("; ")),
        ("cookie", &pair(&one.access)),
        ("authorization", &bearer(&third.access)),
    ]);
    let ended = layer.log_out(shown.headers(), shown.extensions());
    let receipt = ended.await.unwrap().expect("it shows three sessions");
    assert_eq!(receipt.revoked(), 3);
    let longest = bed.tiers.config().fence.staleness_bound;
    assert!(receipt.effective_within() <= longest);
    for ended in [&one, &other, &third] {
        bed.tiers.find(ended.session.id()).await.unwrap_err();
    }
    // Neither by a forged token nor by one that was replaced.
    for kept in [&bystander, &refreshed] {
        bed.tiers.find(kept.session.id()).await.unwrap();
    }

    // Out already.
    let ended = layer.log_out(shown.headers(), shown.extensions());
    assert!(ended.await.unwrap().is_none());

    // Nobody is told that they are out while the database does not say so.
    let shown = request(&[("authorization", &bearer(&bystander.access))]);
    bed.store.unplug();
    let ended = layer.log_out(shown.headers(), shown.extensions());
    ended.await.unwrap_err();
}

/// Where cookies are removed that a response sets: what follows their empty values.
async fn removed(layer: SessionLayer<crate::support::Data>) -> Vec<String> {
    let mut logout = layer.layer(service_fn(async |_| {
        let mut response = http::Response::new(None);
        response.extensions_mut().insert(CookieChange::clear());
        Ok::<_, std::convert::Infallible>(response)
    }));
    let response = call(&mut logout, request(&[])).await;
    let set = response.headers().get_all(SET_COOKIE).iter();
    set.map(|header| {
        let text = header.to_str().unwrap();
        assert!(text.ends_with("Max-Age=0"), "{text}");
        let kept = text.split("; ").filter(|part| {
            part.starts_with("Path=")
                || part.starts_with("Domain=")
                || *part == "Partitioned"
                || part.ends_with('=')
        });
        kept.collect::<Vec<_>>().join("; ")
    })
    .collect()
}

#[tokio::test]
async fn a_logout_removes_the_cookie_from_every_place_that_the_layer_knows() {
    let bed = Bed::new().await;
    let layer = SessionLayer::new(bed.tiers.clone());
    let new = SessionCookie::new;
    assert_eq!(removed(layer.clone()).await, ["__Host-session=; Path=/"]);

    let wide = new().domain("example.com").unwrap();
    let places = removed(layer.clone().cookie(wide.clone())).await;
    assert_eq!(
        places,
        [
            "__Secure-session=; Path=/; Domain=example.com",
            "__Secure-session=; Path=/"
        ]
    );

    let deep = wide.clone().path("/app").unwrap().partitioned();
    let places = removed(layer.clone().cookie(deep)).await;
    assert_eq!(places.len(), 8, "{places:?}");
    assert_eq!(
        places[0],
        "__Secure-session=; Partitioned; Path=/app; Domain=example.com"
    );

    // As it was in the past.
    let former = layer
        .former_cookie(wide)
        .former_cookie(new().named("login").unwrap())
        .former_cookie(new());
    assert_eq!(
        removed(former).await,
        [
            "__Host-session=; Path=/",
            "__Secure-session=; Path=/; Domain=example.com",
            "__Secure-session=; Path=/",
            "__Host-login=; Path=/"
        ]
    );
}

#[tokio::test]
async fn a_login_beside_cookies_that_differ_removes_the_others() {
    let bed = Bed::new().await;
    let issued = bed.guest().await;
    let change = CookieChange::set(&issued);
    let wide = SessionCookie::new().domain("example.com").unwrap();
    let layer = SessionLayer::new(bed.tiers.clone()).cookie(wide);
    let mut login = layer.layer(service_fn(move |_| {
        let mut response = http::Response::new(None);
        response.extensions_mut().insert(change.clone());
        std::future::ready(Ok::<_, std::convert::Infallible>(response))
    }));
    for (shown, expected) in [
        ("__Secure-session=a; __Secure-session=b", 2),
        ("__Secure-session=a; __Secure-session=a", 1),
        ("__Secure-session=a", 1),
        ("a=b", 1),
    ] {
        let response = call(&mut login, request(&[("cookie", shown)])).await;
        let set = response.headers().get_all(SET_COOKIE).iter();
        let set: Vec<_> = set.map(|header| header.to_str().unwrap()).collect();
        assert_eq!(set.len(), expected, "{shown}: {set:?}");
        assert!(set[0].contains("=sa1_") && set[0].contains("Domain=example.com"));
        let others = set[1..]
            .iter()
            .all(|other| other.starts_with("__Secure-session=;") && !other.contains("Domain"));
        assert!(others, "{set:?}");
    }
    assert_eq!(
        call(&mut login, request(&[])).await.status(),
        StatusCode::OK
    );
}
