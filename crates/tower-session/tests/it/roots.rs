//! The root key is rotated while nodes restart one after the other, for sessions of foreign tokens that
//! a source of the application's own shows.

use testbed::{Database, SqliteFile};
use tower::Layer;
use tower_session::{
    Credential, Login, SessionId, SessionLayer, Source, Strictness, Tier, TierConfig, Tiers,
    TokenKeys, TokenKind,
};

use crate::support::{Data, Seen, foreign, inner, request, seen};

const HEADER: &str = "x-verified-jti";

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_logs_out_no_foreign_session_on_postgres() {
    let database = Database::create();
    a_rotation_logs_out_no_foreign_session(&database.url()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_logs_out_no_foreign_session_on_sqlite() {
    let file = SqliteFile::create();
    a_rotation_logs_out_no_foreign_session(&file.url()).await;
}

struct Node {
    tiers: Tiers<Data>,
    layer: SessionLayer<Data>,
}

impl Node {
    async fn start(url: &str, keys: &TokenKeys) -> Self {
        let mut config = TierConfig::default();
        config.cold.url = url.into();
        let tiers = Tiers::open(config, keys.clone()).await.unwrap();
        let keys = tiers.keys().clone();
        let jti = Source::custom(move |headers, _| {
            let jti = headers.get(HEADER)?.to_str().ok()?;
            let token = foreign(jti);
            Some(Credential::foreign(&keys, TokenKind::Access, &token))
        });
        let layer = SessionLayer::new(tiers.clone()).sources([jti]);
        Self { tiers, layer }
    }

    async fn adopt(&self, jti: &str) -> SessionId {
        let adopted = self.tiers.adopt(Login::guest(), Some(foreign(jti)), None);
        adopted.await.unwrap().id()
    }

    async fn seen(&self, jti: &str, strictness: Strictness) -> Seen {
        let layer = self.layer.clone().strictness(strictness);
        seen(
            &mut layer.layer(tower::service_fn(inner)),
            request(&[(HEADER, jti)]),
        )
        .await
    }
}

async fn a_rotation_logs_out_no_foreign_session(url: &str) {
    let (old, new) = (TokenKeys::random(), TokenKeys::random());
    let announced = old.clone().announce_root(new.clone()).unwrap();
    let rotated = new.clone().retire_root(old.clone()).unwrap();
    let mut adopted = Vec::new();
    // Each restart: two nodes run, of which one has the next keys.
    for (round, (left, right)) in [
        (&old, &announced),
        (&announced, &announced),
        (&announced, &rotated),
        (&rotated, &rotated),
    ]
    .into_iter()
    .enumerate()
    {
        let nodes = [Node::start(url, left).await, Node::start(url, right).await];
        for (at, node) in nodes.iter().enumerate() {
            let jti = format!("jti {round} {at}");
            adopted.push((node.adopt(&jti).await, jti));
        }
        for (id, jti) in &adopted {
            for node in &nodes {
                let strict = [Strictness::Trust, Strictness::Version, Strictness::Row];
                for strictness in strict {
                    let found = node.seen(jti, strictness).await;
                    assert!(
                        matches!(found, Seen::Session(found, _) if found == *id),
                        "{jti} {strictness:?}: {found:?}"
                    );
                }
                // Then with no I/O, under whichever root it is.
                let hot = Seen::Session(*id, Tier::Hot);
                assert_eq!(node.seen(jti, Strictness::Trust).await, hot);
            }
        }
        for node in &nodes {
            let nobody = node.seen("nobody's", Strictness::Trust).await;
            assert_eq!(nobody, Seen::Refused("no such session".into()));
        }
    }
    // A logout ends it too; and what was adopted under the old root is not found by the new one alone.
    let last = Node::start(url, &rotated).await;
    let (id, jti) = &adopted[0];
    let alone = Node::start(url, &new).await;
    assert!(matches!(
        alone.seen(jti, Strictness::Trust).await,
        Seen::Refused(_)
    ));
    let shown = request(&[(HEADER, jti)]);
    let receipt = last
        .layer
        .log_out(shown.headers(), shown.extensions())
        .await;
    assert_eq!(receipt.unwrap().map(|receipt| receipt.revoked()), Some(1));
    assert!(last.tiers.find(*id).await.is_err());
}
