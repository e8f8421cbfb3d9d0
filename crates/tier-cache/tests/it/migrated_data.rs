//! Data that another release of the application stored.

use serde::{Deserialize, Serialize};
use tier_cache::{Error, Login, Tier, Tiers};

use crate::support::{Cold, Service, on_both};

on_both!(
    data_is_migrated_on_load_from_whichever_tier_it_comes,
    data_that_does_not_read_is_kept_until_it_is_replaced_or_left_behind,
);

/// The data as this release has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Stored")]
struct Lines {
    lines: Vec<(String, u32)>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Stored {
    Lines { lines: Vec<(String, u32)> },
    Names(Vec<String>),
}

impl From<Stored> for Lines {
    fn from(stored: Stored) -> Self {
        let lines = match stored {
            Stored::Lines { lines } => lines,
            Stored::Names(names) => names.into_iter().map(|name| (name, 1)).collect(),
        };
        Self { lines }
    }
}

async fn node<D: tier_cache::SessionData>(service: &Service) -> Tiers<D> {
    let mut config = service.config();
    config.warm.holds = tier_cache::Holds::Full;
    Tiers::open(config, service.keys()).await.unwrap()
}

async fn data_is_migrated_on_load_from_whichever_tier_it_comes(cold: Cold) {
    let service = Service::new(cold);
    let old: Tiers<Vec<String>> = node(&service).await;
    let login = Login::guest().data(vec!["tea".into()]);
    let issued = old.login(login).await.unwrap();
    let tea = Lines {
        lines: vec![("tea".into(), 1)],
    };
    for tier in [Tier::Warm, Tier::Cold] {
        let new: Tiers<Lines> = node(&service).await;
        if tier == Tier::Cold {
            service.redis().cli(&["FLUSHALL"]);
        }
        for tier in [tier, Tier::Hot] {
            let session = new.find(issued.access.clone()).await.unwrap();
            assert_eq!(session.tier(), tier);
            let body = session.body().await.unwrap();
            assert_eq!(body.data().unwrap(), &tea);
        }
    }
    // Stored in the new form by the next change.
    let new: Tiers<Lines> = node(&service).await;
    let session = new.find(issued.access).await.unwrap();
    let add = session.update(|data| data.lines.push(("milk".into(), 2)));
    add.await.unwrap();
    let stored = service
        .cold
        .sql("SELECT data FROM sessions")
        .replace(' ', "");
    assert_eq!(stored.trim(), r#"{"lines":[["tea",1],["milk",2]]}"#);
}

async fn data_that_does_not_read_is_kept_until_it_is_replaced_or_left_behind(cold: Cold) {
    let service = Service::without_redis(cold);
    let other: Tiers<u64> = Tiers::open(service.config(), service.keys()).await.unwrap();
    let node: Tiers<Lines> = Tiers::open(service.config(), service.keys()).await.unwrap();
    let ada = service.cold.add_user("ada");
    let guest = async || {
        let guest = other.login(Login::guest().data(7)).await.unwrap();
        node.find(guest.access).await.unwrap()
    };
    let stored = |id: session_core::SessionId| {
        let data = service
            .cold
            .sql(&format!("SELECT data FROM sessions WHERE id = '{id}'"));
        data.trim().to_owned()
    };
    let session = guest().await;
    assert!(session.body().await.unwrap().data().is_err());
    let error = session.update(|_| {}).await.unwrap_err();
    assert!(matches!(error, Error::Data(_)), "{error}");
    assert_eq!(stored(session.id()), "7");
    let tea = Lines {
        lines: vec![("tea".into(), 1)],
    };
    let replaced = session.replace_data(tea.clone()).await.unwrap();
    assert_eq!(replaced.body().await.unwrap().data().unwrap(), &tea);

    // A login service need not know the data of the application.
    let carried = node
        .upgrade(&guest().await, Login::user(ada))
        .await
        .unwrap();
    assert_eq!(stored(carried.session.id()), "7");
    let login = Login::user(ada).rewrite_data();
    let left = node.upgrade(&guest().await, login.clone()).await.unwrap();
    assert_eq!(stored(left.session.id()), "null");
    assert_eq!(
        left.session.body().await.unwrap().data().unwrap(),
        &Lines::default()
    );
    // What reads goes on as this release writes it.
    let names: Tiers<Vec<String>> = Tiers::open(service.config(), service.keys()).await.unwrap();
    let old = names
        .login(Login::guest().data(vec!["tea".into()]))
        .await
        .unwrap();
    let old = node.find(old.access).await.unwrap();
    let next = node.upgrade(&old, login).await.unwrap();
    let rewritten = stored(next.session.id()).replace(' ', "");
    assert_eq!(rewritten, r#"{"lines":[["tea",1]]}"#);
}
