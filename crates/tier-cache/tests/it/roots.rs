//! The root key is replaced while nodes restart one after the other: routinely, and after a leak.

use session_core::{Key, SecretKey, TokenKeys, TokenKind};
use tier_cache::{Error, Issued, Login, Refusal, Tier, Tiers};

use crate::support::{Basket, Cold, Log, Service, eventually, foreign, on_both};

on_both!(
    a_routine_rotation_logs_nobody_out,
    after_a_leak_what_the_old_root_makes_is_refused_at_once,
    a_node_with_another_root_key_says_so,
);

async fn node(service: &Service, keys: &TokenKeys) -> Tiers<Basket> {
    Tiers::open(service.config(), keys.clone()).await.unwrap()
}

/// Both of its tokens are accepted, and the session is the same.
async fn is_found(node: &Tiers<Basket>, issued: &Issued<Basket>, what: &str) {
    let found = node.find(issued.access.clone()).await;
    let found = found.unwrap_or_else(|refusal| panic!("{what}: {refusal}"));
    assert_eq!(found.id(), issued.session.id(), "{what}");
}

async fn a_routine_rotation_logs_nobody_out(cold: Cold) {
    let service = Service::new(cold);
    let (old, new) = (SecretKey::random(), SecretKey::random());
    let (old, new) = (TokenKeys::new(&old), TokenKeys::new(&new));
    let announced = old.clone().announce_root(new.clone()).unwrap();
    let rotated = new.clone().retire_root(old.clone()).unwrap();

    let mut issued: Vec<Issued<Basket>> = Vec::new();
    let first = node(&service, &old).await;
    let login = Login::guest();
    let adopted = first
        .adopt(login, Some(foreign("jti")), None)
        .await
        .unwrap();
    // Each restart: two nodes run, of which one has the next keys.
    for (left, right) in [
        (&old, &old),
        (&old, &announced),
        (&announced, &announced),
        (&announced, &rotated),
        (&rotated, &rotated),
    ] {
        let (left, right) = (node(&service, left).await, node(&service, right).await);
        for (one, other) in [(&left, &right), (&right, &left)] {
            let login = one.login(Login::guest()).await.unwrap();
            is_found(other, &login, "a new login").await;
            issued.push(login);
            // A refresh that is sent twice, to two nodes.
            let traded = one.login(Login::guest()).await.unwrap();
            let next = one.refresh(&traded.refresh).await.unwrap();
            let again = other.refresh(&traded.refresh).await.unwrap();
            assert_eq!(next.access.expose(), again.access.expose());
            assert_eq!(next.refresh.expose(), again.refresh.expose());
            is_found(other, &next, "a refreshed session").await;
            issued.push(next);
            // A revocation, which the other hears of.
            let gone = other.login(Login::guest()).await.unwrap();
            is_found(one, &gone, "one to revoke").await;
            other.revoke(gone.session.id()).await.unwrap();
            eventually("the revoked one is refused", async || {
                let found = one.find(gone.access.clone()).await;
                matches!(found, Err(Refusal::Revoked))
            })
            .await;
        }
        for (at, issued) in issued.iter().enumerate() {
            for node in [&left, &right] {
                is_found(node, issued, &format!("session {at}")).await;
            }
        }
        let found = right.find_foreign(TokenKind::Access, &foreign("jti")).await;
        assert_eq!(found.unwrap().id(), adopted.id());
    }
    // What the old root sealed is still read from Redis.
    let last = node(&service, &rotated).await;
    let found = last.find(issued[0].access.clone()).await.unwrap();
    assert_eq!(found.tier(), Tier::Warm);

    // Who has refreshed since has tokens of the new root alone.
    let alone = node(&service, &new).await;
    let refreshed = last.refresh(&issued[0].refresh).await.unwrap();
    is_found(
        &alone,
        &refreshed,
        "refreshed before the old root was left out",
    )
    .await;
    let refused = alone.find(issued[2].access.clone()).await.unwrap_err();
    assert!(matches!(refused, Refusal::Forged), "{refused}");
}

async fn after_a_leak_what_the_old_root_makes_is_refused_at_once(cold: Cold) {
    let service = Service::new(cold);
    let (old, new) = (SecretKey::random(), SecretKey::random());
    let (old, new) = (TokenKeys::new(&old), TokenKeys::new(&new));
    let before = node(&service, &old).await;
    let kept = before.login(Login::guest()).await.unwrap();
    let traded = before.login(Login::guest()).await.unwrap();
    let next = before.refresh(&traded.refresh).await.unwrap();
    let other = node(&service, &old).await;
    assert_eq!(
        other.find(kept.access.clone()).await.unwrap().tier(),
        Tier::Warm
    );

    let keys = new.clone().retire_leaked_root(old.clone()).unwrap();
    let (here, there) = (node(&service, &keys).await, node(&service, &keys).await);
    // Records of the old root are not believed: the database is asked.
    let found = here.find(kept.access.clone()).await.unwrap();
    assert_eq!((found.id(), found.tier()), (kept.session.id(), Tier::Cold));
    // Then the record is sealed anew.
    eventually("the record is sealed under the new root", async || {
        let fresh = node(&service, &keys).await;
        fresh.find(kept.access.clone()).await.unwrap().tier() == Tier::Warm
    })
    .await;
    // Nothing is handed out that the old root derives, and nobody is logged out by asking.
    let replayed = here.refresh(&traded.refresh).await.unwrap_err();
    assert!(
        matches!(replayed, Error::Refused(Refusal::Replaced)),
        "{replayed}"
    );
    // Nor by a refresh token that anybody may make of the leaked root.
    let forged = old.mint(TokenKind::Refresh, kept.session.id());
    let refused = here.refresh(&forged).await.unwrap_err();
    assert!(
        matches!(refused, Error::Refused(Refusal::Replaced)),
        "{refused}"
    );
    let forged = old.mint(TokenKind::Access, kept.session.id());
    assert!(there.find(forged).await.is_err());
    for issued in [&kept, &next] {
        is_found(&there, issued, "after the leak").await;
        // The newest one buys a pair of the new root, and the same pair when it comes again.
        let fresh = there.refresh(&issued.refresh).await.unwrap();
        let again = here.refresh(&issued.refresh).await.unwrap();
        assert_eq!(fresh.refresh.expose(), again.refresh.expose());
        let alone = node(&service, &new).await;
        is_found(&alone, &fresh, "with the new root alone").await;
        // Theft of what the new root made is noticed as ever.
        let next = there.refresh(&fresh.refresh).await.unwrap();
        there.refresh(&next.refresh).await.unwrap();
        let stolen = there.refresh(&fresh.refresh).await.unwrap_err();
        assert!(
            matches!(stolen, Error::Refused(Refusal::Reused)),
            "{stolen}"
        );
    }
    let ended = there.find(Key::Id(kept.session.id())).await;
    assert!(matches!(ended, Err(Refusal::Revoked)));
}

/// It works well by itself, and refuses whatever the others made.
async fn a_node_with_another_root_key_says_so(cold: Cold) {
    let service = Service::new(cold);
    let others = node(&service, &TokenKeys::new(&SecretKey::random())).await;
    let odd = node(&service, &TokenKeys::new(&SecretKey::random())).await;
    let issued = others.login(Login::guest()).await.unwrap();
    let log = Log::default();
    let _guard = log.listen();
    let lines = || log.text().matches("this node's root key").count();
    for tokens in 1..=200 {
        let refused = match tokens % 2 {
            0 => odd.refresh(&issued.refresh).await.map(drop),
            _ => odd
                .find(issued.access.clone())
                .await
                .map(drop)
                .map_err(Error::from),
        };
        assert!(
            matches!(refused, Err(Error::Refused(Refusal::Forged))),
            "{refused:?}"
        );
        let told = [9, 99].iter().filter(|&&before| tokens > before).count();
        assert_eq!(lines(), told, "{tokens}: {}", log.text());
    }
}
