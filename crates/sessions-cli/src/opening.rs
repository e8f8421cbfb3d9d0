//! The configuration, the root key, and how the tiers are opened.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use session_core::{SecretKey, TokenKeys};
use tier_cache::cold::ColdStore;
use tier_cache::{TierConfig, TierState, Tiers, cold, without_password};

use crate::cli::Place;
use crate::failure::Failure;

/// Whatever an application keeps in its sessions, unread.
pub(crate) type Data = Box<RawValue>;

/// What the service's configuration says, with what does not concern an operator switched off.
pub(crate) fn config(place: &Place) -> Result<TierConfig, Failure> {
    let namespace = place.namespace.as_deref().map(str::parse).transpose();
    let namespace = namespace.map_err(Failure::misused)?;
    let change = |config: &mut TierConfig| {
        if let Some(url) = &place.database {
            config.cold.url = url.clone();
        }
        if let Some(url) = &place.redis {
            config.warm.url = Some(url.clone()).filter(|url| !url.is_empty());
        }
        if namespace.is_some() {
            config.cold.namespace = namespace;
        }
        // The truth is asked, nobody waits for news, and pruning is the nodes' work.
        config.cold.replica_url = None;
        config.cold.notify = false;
        config.cold.prune_interval = Duration::from_secs(365 * 24 * 60 * 60);
    };
    TierConfig::default()
        .overlaid_with(place.config.as_deref(), change)
        .map_err(Failure::misused)
}

/// The keys of the root that the operator gives, and of others that the nodes accept beside it while the
/// root is rotated.
pub(crate) fn keys(place: &Place) -> Result<TokenKeys, Failure> {
    let root = secret("SESSION_KEY", place.key_file.as_deref())?;
    let missing =
        "the root key is needed, which the nodes share: in SESSION_KEY, or by --key-file FILE";
    let root = root.ok_or_else(|| Failure::misused(missing))?;
    let other = |name, file: &Option<PathBuf>| {
        let secret = secret(name, file.as_deref())?;
        Ok::<_, Failure>(secret.as_ref().map(TokenKeys::new))
    };
    let mut keys = TokenKeys::new(&root);
    if let Some(next) = other("SESSION_KEY_NEXT", &place.next_key_file)? {
        keys = keys.announce_root(next).map_err(Failure::failed)?;
    }
    if let Some(old) = other("SESSION_KEY_RETIRED", &place.retired_key_file)? {
        keys = keys.retire_root(old).map_err(Failure::failed)?;
    }
    if let Some(old) = other("SESSION_KEY_LEAKED", &place.leaked_key_file)? {
        keys = keys.retire_leaked_root(old).map_err(Failure::failed)?;
    }
    Ok(keys)
}

/// A secret in a file, or else in a variable; none if neither is given.
fn secret(name: &str, file: Option<&Path>) -> Result<Option<SecretKey>, Failure> {
    let (origin, secret) = match file {
        Some(file) => {
            let read = std::fs::read(file);
            let failed = |error| format!("cannot read the key file {}: {error}", file.display());
            let secret = read.map_err(failed).map_err(Failure::failed)?;
            ("the key file", secret)
        }
        None => match std::env::var_os(name).filter(|key| !key.is_empty()) {
            Some(key) => (name, key.into_encoded_bytes()),
            None => return Ok(None),
        },
    };
    let secret = SecretKey::from_text(secret);
    let secret = secret.map_err(|error| Failure::failed(format_args!("{origin}: {error}")))?;
    Ok(Some(secret))
}

/// The tiers under these keys.
pub(crate) async fn open(config: TierConfig, keys: TokenKeys) -> Result<Tiers<Data>, Failure> {
    start(config, keys).await
}

/// Tiers for what needs no key: they seal nothing, and read nothing that is sealed.
pub(crate) async fn open_without_key(config: TierConfig) -> Result<Tiers<Data>, Failure> {
    start(config, TokenKeys::random()).await
}

/// The database, with its tables as they are.
pub(crate) async fn store(config: &TierConfig) -> Result<Arc<dyn ColdStore>, Failure> {
    cold::existing(&config.cold).await.map_err(|error| {
        let database = without_password(&config.cold.url);
        Failure::failed(format_args!("the database {database}: {}", error.reason))
    })
}

async fn start(config: TierConfig, keys: TokenKeys) -> Result<Tiers<Data>, Failure> {
    let store = store(&config).await?;
    let tiers = Tiers::builder(config, keys).store(store).advises(false);
    let tiers = tiers.start().await;
    tiers.map_err(Failure::failed)
}

/// Where Redis is, as it may be shown.
pub(crate) fn redis(config: &TierConfig) -> String {
    let url = config.warm.url.as_deref();
    url.map_or_else(|| "none".into(), without_password)
}

/// Whether Redis is named, but does not answer.
pub(crate) fn redis_is_down(tiers: &Tiers<Data>) -> bool {
    tiers.health().warm == TierState::Down
}
