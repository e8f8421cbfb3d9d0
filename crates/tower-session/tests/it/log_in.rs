//! Logins in place of what a request shows.

use http::{HeaderMap, Request};
use tower_session::{
    Binding, Error, Event, Issued, Login, Reason, SessionCookie, SessionLayer, Tiers, Token,
};

use futures_util::{FutureExt as _, StreamExt as _};

use crate::support::{Bed, Data, bearer, cookie, request};

async fn log_in(
    layer: &SessionLayer<Data>,
    user: i64,
    shown: Request<()>,
) -> Result<Issued<Data>, Error> {
    let login = Login::user(user);
    layer
        .log_in(shown.headers(), shown.extensions(), login)
        .await
}

async fn data(issued: &Issued<Data>) -> Data {
    let body = issued.session.body().await.unwrap();
    body.data().unwrap().clone()
}

async fn is_live(tiers: &Tiers<Data>, token: &Token) -> bool {
    tiers.find(token.clone()).await.is_ok()
}

#[tokio::test]
async fn a_login_goes_on_with_what_the_request_shows_if_that_is_the_users_to_have() {
    let bed = Bed::new().await;
    let layer = SessionLayer::new(bed.tiers.clone());
    let (ada, bob) = (bed.user_id(), bed.user_id());
    let tea: Data = vec!["tea".into()];

    let guest = bed.guest().await;
    let first = log_in(&layer, ada, cookie(&guest.access)).await.unwrap();
    assert_eq!(data(&first).await, tea);
    assert!(!is_live(&bed.tiers, &guest.access).await);
    // Sent again; and by whoever planted the cookie.
    let second = log_in(&layer, ada, cookie(&guest.access)).await.unwrap();
    assert_eq!(data(&second).await, tea);
    assert!(is_live(&bed.tiers, &first.access).await);
    let planted = log_in(&layer, bob, bearer(&guest.access)).await.unwrap();
    assert_eq!(data(&planted).await, [""; 0]);

    // The same user's session goes on, another's ends.
    let third = log_in(&layer, ada, bearer(&second.access)).await.unwrap();
    assert_eq!(data(&third).await, tea);
    assert!(!is_live(&bed.tiers, &second.access).await);
    let other = log_in(&layer, bob, bearer(&third.access)).await.unwrap();
    assert_eq!(data(&other).await, [""; 0]);
    assert!(!is_live(&bed.tiers, &third.access).await);

    // What is none is no obstacle, and neither are two.
    let (one, two) = (bed.guest().await, bed.guest().await);
    let name = SessionCookie::NAME;
    let both = format!(
        "{name}={}; {name}={}",
        &*one.access.expose(),
        &*two.access.expose()
    );
    for shown in [
        request(&[]),
        request(&[("cookie", &both)]),
        request(&[("authorization", "Bearer x")]),
    ] {
        let issued = log_in(&layer, ada, shown).await.unwrap();
        assert_eq!(data(&issued).await, [""; 0]);
    }
    // Nobody loses a basket to an outage.
    let restarted = SessionLayer::new(bed.restarted().await);
    bed.store.unplug();
    let failed = log_in(&restarted, ada, cookie(&one.access)).await;
    assert!(failed.is_err());
}

/// A layer whose hook asks for what stands in the header of this name.
fn bound(tiers: &Tiers<Data>) -> SessionLayer<Data> {
    let says = |headers: &HeaderMap| match headers.get("x-binding").map(|value| value.as_bytes()) {
        None => Binding::Allow,
        Some(b"revoke") => Binding::Revoke,
        Some(_) => Binding::Reauthenticate,
    };
    let layer = SessionLayer::new(tiers.clone());
    layer.binding(move |session, headers, _| {
        assert!(session.body_if_here().is_some());
        says(headers)
    })
}

fn turned_away(token: &Token, by: &str) -> Request<()> {
    let mut request = cookie(token);
    request
        .headers_mut()
        .insert("x-binding", by.parse().unwrap());
    request
}

#[tokio::test]
async fn a_guest_that_the_hook_turns_away_gives_nothing_to_a_login() {
    let bed = Bed::new().await;
    let layer = bound(&bed.restarted().await);
    let ada = bed.user_id();
    let tea: Data = vec!["tea".into()];

    let guest = bed.guest().await;
    let issued = log_in(&layer, ada, turned_away(&guest.access, "again"))
        .await
        .unwrap();
    assert_eq!(data(&issued).await, [""; 0]);
    assert!(is_live(&bed.tiers, &guest.access).await, "it is left alone");
    // The user's own goes on: this was the login that the hook demands.
    let issued = log_in(&layer, ada, cookie(&guest.access)).await.unwrap();
    assert_eq!(data(&issued).await, tea);
    // Sent twice, the second time from elsewhere.
    let elsewhere = log_in(&layer, ada, turned_away(&guest.access, "again"))
        .await
        .unwrap();
    assert_eq!(data(&elsewhere).await, [""; 0]);
    let again = log_in(&layer, ada, turned_away(&issued.access, "again"))
        .await
        .unwrap();
    assert_eq!(data(&again).await, tea);
    assert!(!is_live(&bed.tiers, &issued.access).await);

    let guest = bed.guest().await;
    let tiers = bed.restarted().await;
    let mut events = tiers.events();
    let issued = log_in(&bound(&tiers), ada, turned_away(&guest.access, "revoke"))
        .await
        .unwrap();
    assert_eq!(data(&issued).await, [""; 0]);
    let told = events.next().now_or_never().flatten();
    assert!(
        matches!(told, Some(Event::Revoked { reason: Reason::Binding, session, .. }) if session == guest.session.id()),
        "{told:?}"
    );
}
