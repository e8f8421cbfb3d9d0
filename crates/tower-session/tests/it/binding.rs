use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt as _;
use http::header::{AUTHORIZATION, SET_COOKIE, USER_AGENT, WWW_AUTHENTICATE};
use http::{Extensions, HeaderMap, Request, StatusCode};
use testbed::Redis;
use tower::{Layer, ServiceBuilder, service_fn};
use tower_session::{
    Binding, Event, Login, Reason, RefreshError, SessionCookie, SessionLayer, Source, Strictness,
    Tier, Tiers, tier_cache,
};

use crate::support::{Bed, Data, Seen, call, cookie, inner, request, seen};

/// What the server knows of the connection.
#[derive(Clone, Copy)]
struct Peer(IpAddr);

/// A layer whose hook says so each time.
fn says(tiers: &Tiers<Data>, binding: Binding) -> SessionLayer<Data> {
    SessionLayer::new(tiers.clone()).binding(move |_, _, _| binding)
}

#[tokio::test]
async fn a_hook_sees_each_request_of_a_session_and_the_sessions_body() {
    let bed = Bed::new().await;
    let issued = bed.guest().await;
    let id = issued.session.id();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let hook = {
        let asked = Arc::clone(&asked);
        move |session: &tier_cache::Session<Data>, headers: &HeaderMap, extensions: &Extensions| {
            let body = session.body_if_here().expect("it is here");
            assert_eq!(body.data().unwrap(), &["tea"]);
            let agent = headers[USER_AGENT].to_str().unwrap().to_owned();
            let Peer(ip) = extensions.get().unwrap();
            let answer = (session.id(), session.tier(), agent, *ip);
            asked.lock().unwrap().push(answer);
            Binding::Allow
        }
    };
    let tiers = bed.restarted().await;
    let plain = SessionLayer::new(tiers.clone());
    let bound = plain.clone().binding(hook);
    let mut service = bound.clone().layer(service_fn(inner));
    let mut nested = ServiceBuilder::new()
        .layer(plain.clone())
        .layer(bound.clone())
        .service(service_fn(inner));
    let mut strict = bound
        .strictness(Strictness::Version)
        .layer(service_fn(inner));

    let ip: IpAddr = "2001:db8::1".parse().unwrap();
    let mut shown = cookie(&issued.access);
    shown
        .headers_mut()
        .insert(USER_AGENT, "curl".parse().unwrap());
    shown.extensions_mut().insert(Peer(ip));
    for tier in [Tier::Cold, Tier::Hot] {
        let found = seen(&mut service, shown.clone()).await;
        assert_eq!(found, Seen::Session(id, tier));
    }
    let found = [
        seen(&mut strict, shown.clone()).await,
        seen(&mut nested, shown).await,
    ];
    assert_eq!(
        found,
        [Seen::Session(id, Tier::Hot), Seen::Session(id, Tier::Hot)]
    );
    let tiers = [Tier::Cold, Tier::Hot, Tier::Hot, Tier::Hot];
    let expected = tiers.map(|tier| (id, tier, "curl".to_owned(), ip));
    assert_eq!(*asked.lock().unwrap(), expected);

    // Without a session there is nothing to ask.
    assert_eq!(seen(&mut service, request(&[])).await, Seen::NoToken);
    let garbled = request(&[("authorization", "Bearer x")]);
    assert!(matches!(
        seen(&mut service, garbled).await,
        Seen::Refused(_)
    ));
    assert_eq!(asked.lock().unwrap().len(), 4);
}

#[tokio::test]
async fn a_hook_sees_the_body_of_a_session_whose_head_alone_is_warm_or_hot() {
    let bed = Bed::new().await;
    let redis = Redis::start();
    let mut config = bed.tiers.config().clone();
    config.warm.url = Some(redis.url());
    config.warm.command_timeout = Duration::from_secs(10);
    config.warm.connect_timeout = Duration::from_secs(10);
    config.session.promotion = tier_cache::Promotion::Body;
    let node = async || {
        Tiers::<Data>::builder(config.clone(), bed.keys.clone())
            .store(bed.store.clone())
            .start()
            .await
            .unwrap()
    };
    let login = Login::guest().data(vec!["tea".into()]);
    let issued = node().await.login(login).await.unwrap();
    let id = issued.session.id();
    for first_by_a_layer_without_a_hook in [false, true] {
        let tiers = node().await;
        let plain = SessionLayer::new(tiers.clone());
        let bound = plain.clone().binding(|session, _, _| {
            let body = session.body_if_here().expect("it is here");
            assert_eq!(body.data().unwrap(), &["tea"]);
            Binding::Allow
        });
        if first_by_a_layer_without_a_hook {
            let mut plain = plain.clone().layer(service_fn(inner));
            let found = seen(&mut plain, cookie(&issued.access)).await;
            assert_eq!(found, Seen::Session(id, Tier::Warm));
            let mut nested = ServiceBuilder::new()
                .layer(SessionLayer::new(tiers.clone()))
                .layer(bound.clone())
                .service(service_fn(inner));
            let found = seen(&mut nested, cookie(&issued.access)).await;
            assert_eq!(found, Seen::Session(id, Tier::Cold));
        } else {
            let mut service = bound.clone().layer(service_fn(inner));
            let found = seen(&mut service, cookie(&issued.access)).await;
            assert_eq!(found, Seen::Session(id, Tier::Cold));
        }
        // Once: from then on all of it is hot.
        let mut service = bound.layer(service_fn(inner));
        let before = bed.store.calls();
        let found = seen(&mut service, cookie(&issued.access)).await;
        assert_eq!(found, Seen::Session(id, Tier::Hot));
        assert_eq!(bed.store.calls(), before);
    }
}

#[tokio::test]
async fn a_request_that_is_to_log_in_again_goes_without_its_session_and_keeps_the_cookie() {
    let bed = Bed::new().await;
    let issued = bed.user().await;
    let id = issued.session.id();
    let tiers = bed.restarted().await;
    let layer = says(&tiers, Binding::Reauthenticate);
    let mut optional = layer.clone().layer(service_fn(inner));
    let mut required = layer.required().layer(service_fn(inner));
    // First cold, then hot.
    for _ in 0..2 {
        let response = call(&mut optional, cookie(&issued.access)).await;
        assert_eq!(*response.body(), Some(Seen::StepUp(id)));
        assert!(!response.headers().contains_key(SET_COOKIE));
        let response = call(&mut required, cookie(&issued.access)).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        let challenge = "Bearer error=\"insufficient_user_authentication\"";
        assert_eq!(response.headers()[WWW_AUTHENTICATE], challenge);
        assert!(!response.headers().contains_key(SET_COOKIE));
    }
    // The route that takes the password finds the session by its name.
    let session = tiers.find(tower_session::Key::Id(id)).await.unwrap();
    let anew = tiers.reauthenticate(&session, 1).await.unwrap();
    assert_eq!(anew.session.user(), issued.session.user());
}

#[tokio::test]
async fn a_session_is_revoked_before_the_request_goes_on() {
    for found_by in ["cold", "hot", "a layer further out"] {
        let bed = Bed::new().await;
        let issued = bed.guest().await;
        let id = issued.session.id();
        let tiers = match found_by {
            "cold" => bed.restarted().await,
            _ => bed.tiers.clone(),
        };
        let mut events = tiers.events();
        let bed = Arc::new(bed);
        let handler = {
            let bed = Arc::clone(&bed);
            service_fn(move |request: Request<()>| {
                let sql = format!("SELECT is_active FROM sessions WHERE id = '{id}'");
                assert_eq!(bed.sql(&sql).trim(), "0");
                inner(request)
            })
        };
        let outer = (found_by == "a layer further out").then(|| SessionLayer::new(tiers.clone()));
        let mut service = ServiceBuilder::new()
            .option_layer(outer)
            .layer(says(&tiers, Binding::Revoke))
            .service(handler);
        let response = call(&mut service, cookie(&issued.access)).await;
        let revoked = Seen::Refused("the session was revoked".into());
        assert_eq!(*response.body(), Some(revoked), "{found_by}");
        let cleared = SessionCookie::new().clear();
        assert_eq!(response.headers()[SET_COOKIE], cleared, "{found_by}");
        let told = loop {
            if let Event::Revoked {
                session, reason, ..
            } = events.next().await.unwrap()
            {
                break (session, reason);
            }
        };
        assert_eq!(told, (id, Reason::Binding), "{found_by}");
        assert!(tiers.find(issued.access).await.is_err(), "{found_by}");
    }
}

#[tokio::test]
async fn a_request_is_refused_even_if_its_session_cannot_be_revoked() {
    let bed = Bed::new().await;
    let issued = bed.guest().await;
    let layer = says(&bed.tiers, Binding::Revoke).required();
    let mut service = layer.layer(service_fn(inner));
    bed.store.unplug();
    for _ in 0..2 {
        let response = call(&mut service, cookie(&issued.access)).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        let challenge = "Bearer error=\"invalid_token\"";
        assert_eq!(response.headers()[WWW_AUTHENTICATE], challenge);
    }
}

#[tokio::test]
async fn a_layer_inside_does_not_find_what_one_further_out_has_turned_away() {
    let (customers, staff) = (Bed::new().await, Bed::new().await);
    let (customer, clerk) = (customers.guest().await, staff.guest().await);
    for strictness in [Strictness::Trust, Strictness::Version, Strictness::Row] {
        let lax = SessionLayer::new(customers.tiers.clone()).strictness(strictness);
        let mut service = ServiceBuilder::new()
            .layer(says(&customers.tiers, Binding::Reauthenticate))
            .layer(lax)
            .service(service_fn(inner));
        let found = seen(&mut service, cookie(&customer.access)).await;
        assert_eq!(found, Seen::StepUp(customer.session.id()), "{strictness:?}");
    }
    // Sessions of other tiers are no business of its hook.
    let mut service = ServiceBuilder::new()
        .layer(says(&customers.tiers, Binding::Revoke))
        .layer(SessionLayer::new(staff.tiers.clone()))
        .service(service_fn(inner));
    let found = seen(&mut service, cookie(&clerk.access)).await;
    assert_eq!(found, Seen::Session(clerk.session.id(), Tier::Hot));
}

#[tokio::test]
async fn a_layer_inside_does_not_find_a_session_that_could_not_be_revoked() {
    let bed = Bed::new().await;
    let issued = bed.guest().await;
    // So that it is a known token for the layer inside.
    let plain = SessionLayer::new(bed.tiers.clone());
    let mut alone = plain.clone().layer(service_fn(inner));
    for _ in 0..2 {
        let found = seen(&mut alone, cookie(&issued.access)).await;
        assert_eq!(found, Seen::Session(issued.session.id(), Tier::Hot));
    }
    bed.store.unplug();
    let mut service = ServiceBuilder::new()
        .layer(says(&bed.tiers, Binding::Revoke))
        .layer(plain)
        .service(service_fn(inner));
    let refused = Seen::Refused("the session was revoked".into());
    for _ in 0..2 {
        assert_eq!(seen(&mut service, cookie(&issued.access)).await, refused);
    }
}

#[tokio::test]
async fn what_two_layers_have_turned_away_a_third_does_not_find() {
    let bed = Bed::new().await;
    let (one, other) = (bed.guest().await, bed.guest().await);
    let (plain, stern) = (
        SessionLayer::new(bed.tiers.clone()),
        says(&bed.tiers, Binding::Reauthenticate),
    );
    let mut service = ServiceBuilder::new()
        .layer(stern.clone().sources([Source::cookie(SessionCookie::NAME)]))
        .layer(stern.sources([Source::bearer()]))
        .layer(plain)
        .service(service_fn(inner));
    let mut both = cookie(&one.access);
    let bearer = format!("Bearer {}", &*other.access.expose());
    both.headers_mut()
        .insert(AUTHORIZATION, bearer.parse().unwrap());
    let found = seen(&mut service, both).await;
    assert_eq!(found, Seen::StepUp(one.session.id()));
}

#[tokio::test]
async fn a_hook_is_asked_once_for_a_request_that_it_turns_away() {
    let bed = Bed::new().await;
    let issued = bed.guest().await;
    let asked = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&asked);
    let layer = SessionLayer::new(bed.tiers.clone()).binding(move |_, _, _| {
        match counted.fetch_add(1, Ordering::SeqCst) {
            // Then the token is known.
            0..3 => Binding::Allow,
            _ => Binding::Reauthenticate,
        }
    });
    let mut service = layer.layer(service_fn(inner));
    for time in 1..=3 {
        let found = seen(&mut service, cookie(&issued.access)).await;
        assert_eq!(found, Seen::Session(issued.session.id(), Tier::Hot));
        assert_eq!(asked.load(Ordering::SeqCst), time);
    }
    let found = seen(&mut service, cookie(&issued.access)).await;
    assert_eq!(found, Seen::StepUp(issued.session.id()));
    assert_eq!(asked.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn a_hook_that_panics_lets_no_request_through() {
    let bed = Bed::new().await;
    let issued = bed.guest().await;
    let reached = Arc::new(AtomicU64::new(0));
    // First cold, then hot.
    let tiers = bed.restarted().await;
    for _ in 0..2 {
        let layer = SessionLayer::new(tiers.clone()).binding(|_, _, _| panic!("a mistake"));
        let counted = Arc::clone(&reached);
        let mut service = layer.layer(service_fn(move |request| {
            counted.fetch_add(1, Ordering::SeqCst);
            inner(request)
        }));
        let shown = cookie(&issued.access);
        let answered = tokio::spawn(async move { seen(&mut service, shown).await });
        assert!(answered.await.unwrap_err().is_panic());
    }
    assert_eq!(reached.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_refresh_is_asked_of_the_hook() {
    let bed = Bed::new().await;
    let issued = bed.user().await;
    let id = issued.session.id();
    let tiers = bed.restarted().await;
    let layer = SessionLayer::new(tiers.clone()).binding(|session, headers, _| {
        assert_eq!(session.body_if_here().unwrap().data().unwrap(), &["tea"]);
        match headers.get(USER_AGENT).map(|agent| agent.as_bytes()) {
            Some(b"thief") => Binding::Revoke,
            Some(b"other") => Binding::Reauthenticate,
            _ => Binding::Allow,
        }
    });
    let refresh = async |agent: &str, token| {
        let shown = request(&[("user-agent", agent)]);
        layer
            .refresh(shown.headers(), shown.extensions(), token)
            .await
    };
    let mut events = tiers.events();
    let Err(RefreshError::StepUp(step_up)) = refresh("other", &issued.refresh).await else {
        panic!("another login is demanded");
    };
    assert_eq!(step_up.session(), id);
    let told = events.next().await.unwrap();
    let reason = Reason::StepUp;
    assert!(
        matches!(told, Event::Refused { session: Some(session), reason: why } if session == id && why == reason),
        "{told:?}"
    );
    // The token is as good as before; also when it comes again.
    let first = refresh("own", &issued.refresh).await.unwrap();
    let elsewhere = refresh("other", &issued.refresh).await;
    assert!(matches!(elsewhere, Err(RefreshError::StepUp(_))));
    tiers.find(first.access.clone()).await.unwrap();

    let Err(RefreshError::Tiers(error)) = refresh("thief", &first.refresh).await else {
        panic!("it is revoked");
    };
    assert!(error.to_string().contains("revoked"), "{error}");
    tiers.find(first.access).await.unwrap_err();
    let mut told = Vec::new();
    while let Some(Some(event)) = futures_util::FutureExt::now_or_never(events.next()) {
        told.push(event);
    }
    assert!(
        matches!(
            told[..],
            [
                Event::Refreshed { .. },
                Event::Refused { .. },
                Event::Revoked {
                    reason: Reason::Binding,
                    ..
                },
                ..
            ]
        ),
        "{told:?}"
    );
}
