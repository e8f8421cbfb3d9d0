//! The sessions of a measurement.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use session_core::{Key, KeyHash, SessionId, Token, TokenKeys, TokenKind};
use tower_session::tier_cache::WarmUp;
use tower_session::{SessionCookie, TierConfig, Tiers};

use crate::Failure;
use crate::made_up::MadeUp;

/// The application's data, of which each handler reads one field.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Basket {
    pub(crate) items: u64,
}

/// Sessions of a store that makes them up, in an order at random.
pub(crate) struct Sessions {
    pub(crate) ids: Vec<SessionId>,
    keys: TokenKeys,
    store: MadeUp,
}

impl Sessions {
    /// So many, each with its access token.
    pub(crate) fn with_tokens(count: usize) -> (Self, Vec<Token>) {
        let keys = TokenKeys::random();
        let mint = |_| keys.mint(TokenKind::Access, SessionId::random());
        let tokens: Vec<Token> = (0..count).map(mint).collect();
        let hashes = tokens.iter().map(|token| (token.id(), keys.hash(token)));
        let store = MadeUp::new(hashes);
        let ids = tokens.iter().map(Token::id).collect();
        (Self { ids, keys, store }, tokens)
    }

    /// So many, each with a foreign key: the `jti` of somebody else's token.
    pub(crate) fn with_foreign_keys(count: usize) -> (Self, Vec<Key>) {
        let keys = TokenKeys::random();
        let hash = |number| {
            let jti = format!("jti-{number}");
            let token = session_core::ForeignToken::new("https://idp.example", &jti)
                .expect("both are given");
            keys.hash_foreign(TokenKind::Access, &token)
        };
        let hashes: Vec<KeyHash> = (0..count).map(hash).collect();
        let ids: Vec<SessionId> = hashes.iter().map(|_| SessionId::random()).collect();
        let store = MadeUp::new(ids.iter().copied().zip(hashes.iter().copied()));
        let keys_shown = hashes.into_iter().map(Key::AccessJti).collect();
        (Self { ids, keys, store }, keys_shown)
    }

    /// Tiers over the store, with nothing in their caches.
    pub(crate) async fn tiers(&self, config: TierConfig) -> Result<Tiers<Basket>, Failure> {
        let tiers = Tiers::builder(config, self.keys.clone())
            .store(Arc::new(self.store.clone()))
            .start()
            .await?;
        Ok(tiers)
    }

    /// Tiers that hold all of them hot, and warm where the configuration has a warm tier.
    pub(crate) async fn cached(&self, mut config: TierConfig) -> Result<Tiers<Basket>, Failure> {
        config.cold.batch_size = 1000;
        let tiers = self.tiers(config).await?;
        let all = WarmUp::these(self.ids.iter().copied()).per_second(u32::MAX);
        let warmed = tiers.warm_up(all, |_| ()).await?;
        if warmed.loaded < warmed.of {
            return Err(format!("{} of {} are cached", warmed.loaded, warmed.of).into());
        }
        Ok(tiers)
    }
}

/// The header of a request that shows a token.
pub(crate) fn cookie(token: &Token) -> String {
    format!("{}={}", SessionCookie::NAME, &*token.expose())
}
