//! Ends sessions, and says by when every node refuses them.

use std::io;

use serde_json::json;
use session_core::Timestamp;
use tier_cache::{Receipt, Scope, TierConfig, Tiers, without_password};

use crate::cli::{Place, Revoke};
use crate::failure::Failure;
use crate::opening::{Data, config, keys, open, open_without_key, redis_is_down};
use crate::output::{note, print, rough};
use crate::shown::{self, Shown};

/// Which sessions to end.
enum Which {
    One(Shown),
    /// With what it is in words, if that is to be confirmed.
    All(Scope, Option<String>),
}

pub(crate) async fn run(place: &Place, asked: Revoke) -> Result<(), Failure> {
    let which = which(&asked).await?;
    let config = config(place)?;
    // Nodes believe what Redis tells only under the root key; of the database they hear anyway.
    let key = config.warm.url.as_ref().map(|_| keys(place)).transpose()?;
    if let (Which::One(Shown::Token(token)), Some(keys)) = (&which, &key)
        && !keys.verify(token)
    {
        return Err(Failure::failed(
            "the token's signature is not accepted: give the root key that the nodes have, or the \
             session's id in place of the token",
        ));
    }
    let database = named(&config);
    let tiers = match key {
        Some(key) => open(config, key).await?,
        None => open_without_key(config).await?,
    };
    if let Which::All(_, Some(what)) = &which
        && !asked.yes
    {
        confirm(format!("This ends {what} in {database}.")).await?;
    }
    let (receipt, nothing) = match which {
        Which::One(shown) => {
            let id = shown.id().expect("an id or a token of ours was read");
            let nothing = format!("session {id} is not there, or was revoked before");
            (tiers.revoke(id).await?, nothing)
        }
        Which::All(scope, _) => {
            let nothing = "no session that is meant was active".to_owned();
            (tiers.revoke_all(scope).await?, nothing)
        }
    };
    if redis_is_down(&tiers) {
        note("Redis is not reached: the nodes hear of it from the database");
    }
    tell(&tiers, &receipt, &nothing, &asked).await
}

async fn which(asked: &Revoke) -> Result<Which, Failure> {
    if let Some(session) = &asked.session {
        return Shown::read(session).await.map(Which::One);
    }
    if asked.user.is_none() && asked.before.is_none() && !asked.everyone {
        return Err(Failure::misused(
            "say which: a session's id, - with a token on standard input, --user, --before or \
             --everyone (--help says more)",
        ));
    }
    let mut scope = asked.user.map_or(Scope::everyone(), Scope::user);
    if let Some(id) = &asked.except {
        scope = scope.except(shown::id(id)?);
    }
    let mut what = "every session of every user and guest".to_owned();
    if let Some(before) = asked.before {
        let before = Timestamp::from(before);
        scope = scope.begun_before(before);
        what.push_str(&format!(" that began before {before}"));
    }
    Ok(Which::All(scope, asked.user.is_none().then_some(what)))
}

/// The database, and which application's it is there.
fn named(config: &TierConfig) -> String {
    let database = without_password(&config.cold.url);
    match &config.cold.namespace {
        Some(namespace) => format!("{database}, namespace {namespace}"),
        None => database,
    }
}

async fn confirm(what: String) -> Result<(), Failure> {
    note(format_args!("{what} Type yes to go on:"));
    let typed = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        io::stdin().read_line(&mut line).map(|_| line)
    });
    match typed.await {
        Ok(Ok(line)) if line.trim() == "yes" => Ok(()),
        _ => Err(Failure::failed(
            "not confirmed, so nothing was revoked (--yes does without)",
        )),
    }
}

async fn tell(
    tiers: &Tiers<Data>,
    receipt: &Receipt,
    nothing: &str,
    asked: &Revoke,
) -> Result<(), Failure> {
    let within = receipt.effective_within();
    let by = tiers.now().wall + within;
    if asked.wait {
        receipt.settled().await;
    }
    let revoked = receipt.revoked();
    if asked.json {
        let told = json!({
            "revoked": revoked,
            "effective_by": by,
            "effective_within_ms": within.as_millis() as u64,
        });
        return print(&format!("{told:#}"));
    }
    if revoked == 0 {
        return print(&format!("nothing to revoke: {nothing}"));
    }
    let (sessions, them) = match revoked {
        1 => ("session", "it"),
        _ => ("sessions", "them"),
    };
    let bound = rough(tiers.config().fence.staleness_bound);
    print(&format!(
        "revoked {revoked} {sessions}; every node refuses {them} by {by} at the latest, as the \
         staleness bound of {bound} has it"
    ))
}
