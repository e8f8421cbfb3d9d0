use std::time::Duration;

use futures_util::StreamExt as _;
use http::header::{SET_COOKIE, WWW_AUTHENTICATE};
use http::{HeaderMap, StatusCode};
use tower::{Layer, ServiceBuilder, service_fn};
use tower_session::{Event, Issued, Login, Reason, SessionLayer, Tier, Tiers};

use crate::support::{Bed, Data, Seen, call, cookie, inner, request, seen};

const FIVE_MINUTES: Duration = Duration::from_secs(300);

async fn user(bed: &Bed, tiers: &Tiers<Data>, assurance: u8) -> Issued<Data> {
    let login = Login::user(bed.user_id()).assurance(assurance);
    tiers.login(login).await.unwrap()
}

/// What a required layer answers where a login is not enough.
async fn challenge(layer: &SessionLayer<Data>, issued: &Issued<Data>) -> String {
    let mut service = layer.clone().required().layer(service_fn(inner));
    let response = call(&mut service, cookie(&issued.access)).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    let headers: &HeaderMap = response.headers();
    assert!(!headers.contains_key(SET_COOKIE), "{headers:?}");
    headers[WWW_AUTHENTICATE].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn v7_5_1_a_login_too_long_ago_does_not_pass_until_its_user_proves_again_who_they_are() {
    let bed = Bed::new().await;
    let (tiers, clock) = bed.on_a_clock().await;
    let issued = user(&bed, &tiers, 0).await;
    let id = issued.session.id();
    let layer = SessionLayer::new(tiers.clone()).authenticated_within(FIVE_MINUTES);
    let mut service = layer.clone().layer(service_fn(inner));
    clock.advance(FIVE_MINUTES);
    let found = seen(&mut service, cookie(&issued.access)).await;
    assert_eq!(found, Seen::Session(id, Tier::Hot));

    clock.advance(Duration::from_secs(1));
    let mut events = tiers.events();
    let response = call(&mut service, cookie(&issued.access)).await;
    assert_eq!(*response.body(), Some(Seen::StepUp(id)));
    let told = events.next().await;
    assert!(
        matches!(told, Some(Event::Refused { session, reason: Reason::StepUp }) if session == Some(id)),
        "{told:?}"
    );
    let garbled = request(&[("cookie", "__Host-session=sa1_garbled")]);
    call(&mut service, garbled).await;
    let told = events.next().await;
    assert!(
        matches!(
            told,
            Some(Event::Refused {
                session: None,
                reason: Reason::Malformed
            })
        ),
        "{told:?}"
    );
    assert!(!response.headers().contains_key(SET_COOKIE));
    assert_eq!(
        challenge(&layer, &issued).await,
        "Bearer error=\"insufficient_user_authentication\", max_age=\"300\""
    );
    // A refresh proves nothing of the user.
    let refreshed = tiers.refresh(&issued.refresh).await.unwrap();
    let found = seen(&mut service, cookie(&refreshed.access)).await;
    assert_eq!(found, Seen::StepUp(id));

    // A route beside it still has the session, and takes the password.
    let mut beside = SessionLayer::new(tiers.clone()).layer(service_fn(inner));
    let found = seen(&mut beside, cookie(&refreshed.access)).await;
    assert!(matches!(found, Seen::Session(..)), "{found:?}");
    let anew = tiers.reauthenticate(&refreshed.session, 0).await.unwrap();
    let found = seen(&mut service, cookie(&anew.access)).await;
    assert_eq!(found, Seen::Session(anew.session.id(), Tier::Hot));
}

#[tokio::test]
async fn v7_5_3_a_login_with_one_factor_does_not_pass_where_two_are_demanded() {
    let bed = Bed::new().await;
    let (tiers, clock) = bed.on_a_clock().await;
    let issued = user(&bed, &tiers, 1).await;
    let outer = SessionLayer::new(tiers.clone());
    let inside = outer.clone().assurance(2);
    assert_eq!(
        challenge(&inside, &issued).await,
        "Bearer error=\"insufficient_user_authentication\""
    );
    let mut service = ServiceBuilder::new()
        .layer(outer)
        .layer(inside.clone())
        .service(service_fn(inner));
    let found = seen(&mut service, cookie(&issued.access)).await;
    assert_eq!(found, Seen::StepUp(issued.session.id()));

    let strong = tiers.reauthenticate(&issued.session, 2).await.unwrap();
    let found = seen(&mut service, cookie(&strong.access)).await;
    assert_eq!(found, Seen::Session(strong.session.id(), Tier::Hot));
    let stronger = user(&bed, &tiers, 3).await;
    let found = seen(&mut service, cookie(&stronger.access)).await;
    assert_eq!(found, Seen::Session(stronger.session.id(), Tier::Hot));

    // Both may be demanded.
    let both = inside.authenticated_within(FIVE_MINUTES);
    clock.advance(FIVE_MINUTES * 2);
    for login in [strong, user(&bed, &tiers, 1).await] {
        assert_eq!(
            challenge(&both, &login).await,
            "Bearer error=\"insufficient_user_authentication\", max_age=\"300\""
        );
    }
}

#[tokio::test]
async fn v7_5_3_what_is_found_below_the_hot_tier_is_held_to_the_same() {
    let bed = Bed::new().await;
    let login = Login::user(bed.user_id()).assurance(1);
    let issued = bed.tiers.login(login).await.unwrap();
    let id = issued.session.id();
    let layer = SessionLayer::new(bed.restarted().await).assurance(2);
    let mut service = layer.layer(service_fn(inner));
    for _ in 0..2 {
        let found = seen(&mut service, cookie(&issued.access)).await;
        assert_eq!(found, Seen::StepUp(id));
    }
}

#[tokio::test]
async fn v7_5_1_a_guest_has_proved_nothing() {
    let bed = Bed::new().await;
    let login = Login::guest().assurance(3);
    let issued = bed.tiers.login(login).await.unwrap();
    let layer = SessionLayer::new(bed.tiers.clone());
    for layer in [
        layer.clone().authenticated_within(FIVE_MINUTES),
        layer.assurance(1),
    ] {
        let mut service = layer.layer(service_fn(inner));
        let found = seen(&mut service, cookie(&issued.access)).await;
        assert_eq!(found, Seen::StepUp(issued.session.id()));
    }
}
