//! Where the root key comes from, which all instances of one service must share.

use std::env;
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;
use tower_session::tier_cache::ColdConfig;
use tower_session::{SecretKey, TokenKeys};

use crate::Failure;
use crate::accounts::Accounts;
use crate::files;

/// The root key, and where it is from in words.
///
/// Without `SESSION_KEY` a random one is made once and kept where every instance finds it that
/// could share a session with this one:
///
/// * SQLite is one file on one machine: the key is in a file beside it that only its owner reads.
/// * PostgreSQL is all that two instances are sure to share, so the key is in a table there: with a
///   file on each machine the second instance would refuse the tokens of the first. What that
///   costs: who reads the whole database gets past the MAC that keeps forged tokens from causing
///   I/O, and, if able to write to Redis as well, could seal a record there. A token still cannot
///   be made of it, since the database holds only hashes of the tokens' random secrets. A demo
///   may choose so; a service that matters sets `SESSION_KEY`. With `cold.migrate = false` it must,
///   since no table is made then.
pub(crate) async fn root(
    accounts: &Accounts,
    database: &ColdConfig,
) -> Result<(SecretKey, String), Failure> {
    if let Some(text) = env::var_os("SESSION_KEY") {
        let key = SecretKey::from_text(text.into_encoded_bytes())
            .map_err(|error| format!("SESSION_KEY: {error}"))?;
        return Ok((key, "SESSION_KEY".into()));
    }
    let (text, origin) = match accounts {
        Accounts::Postgres(_) if !database.migrate => {
            return Err("SESSION_KEY is not set, and with cold.migrate = false no table is made to keep a \
                 key in: set it to 32 random bytes or more, the same on all instances; a key that an \
                 earlier start kept is in the table webapp_secrets"
                .into());
        }
        Accounts::Postgres(_) => {
            let text = accounts.keep_secret(random_text()?).await.map_err(|error| {
                format!(
                    "cannot keep a key in the table webapp_secrets: {error}; set SESSION_KEY to 32 \
                     random bytes or more, the same on all instances, or give the role CREATE on \
                     the schema"
                )
            })?;
            (text, "the database's table webapp_secrets".into())
        }
        Accounts::Sqlite(_) => {
            let path = beside(&database.url);
            let text = kept_in(&path)
                .map_err(|error| format!("cannot keep a key in {}: {error}", path.display()))?;
            (text, path.display().to_string())
        }
    };
    let key = SecretKey::from_text(text).map_err(|error| format!("{origin}: {error}"))?;
    Ok((key, origin))
}

/// The keys of the root, and of others that are accepted beside it while it is rotated:
/// `SESSION_KEY_NEXT`, `SESSION_KEY_RETIRED`, and after a leak `SESSION_KEY_LEAKED`.
pub(crate) fn keys(root: &SecretKey) -> Result<TokenKeys, Failure> {
    let other = |name: &str| {
        let Some(text) = env::var_os(name).filter(|text| !text.is_empty()) else {
            return Ok::<_, Failure>(None);
        };
        let key = SecretKey::from_text(text.into_encoded_bytes());
        let key = key.map_err(|error| format!("{name}: {error}"))?;
        Ok(Some(TokenKeys::new(&key)))
    };
    let mut keys = TokenKeys::new(root);
    if let Some(next) = other("SESSION_KEY_NEXT")? {
        keys = keys.announce_root(next)?;
    }
    if let Some(old) = other("SESSION_KEY_RETIRED")? {
        keys = keys.retire_root(old)?;
    }
    if let Some(old) = other("SESSION_KEY_LEAKED")? {
        keys = keys.retire_leaked_root(old)?;
    }
    Ok(keys)
}

fn beside(database: &str) -> PathBuf {
    let path = database.strip_prefix("sqlite://").unwrap_or(database);
    format!("{path}.key").into()
}

/// The text in the file, which is made, whole or not at all, if it is not there; whoever comes
/// second reads what the first has written.
fn kept_in(path: &Path) -> Result<String, Failure> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        read => {
            files::check_key(path)?;
            return Ok(read?);
        }
    }
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    // Readable by its owner alone from the first moment.
    let mut file = NamedTempFile::new_in(folder)?;
    writeln!(file, "{}", random_text()?)?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Err(error) if error.error.kind() != ErrorKind::AlreadyExists => Err(error.error.into()),
        _ => {
            files::check_key(path)?;
            Ok(fs::read_to_string(path)?)
        }
    }
}

/// 32 random bytes as hexadecimal text, which would do as `SESSION_KEY` too.
fn random_text() -> Result<String, Failure> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("webapp.db.key");
        let first = kept_in(&path).unwrap();
        assert_eq!(first.trim().len(), 64);
        assert_eq!(kept_in(&path).unwrap(), first);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let refused = kept_in(&path).unwrap_err().to_string();
        assert!(refused.contains("chmod 600"), "{refused}");
    }

    #[test]
    fn a_key_of_somebody_else_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("webapp.db.key");
        kept_in(&path).unwrap();
        if std::os::unix::fs::chown(&path, Some(12_345), None).is_err() {
            // Only root can give a file away.
            return;
        }
        let refused = kept_in(&path).unwrap_err().to_string();
        assert!(refused.contains("belongs to user 12345"), "{refused}");
    }
}
