//! Which PostgreSQL server a URL names, and how one speaks to it: encrypted or not, with which settings,
//! and what to do where it does not let one in.

use std::error::Error;
use std::fmt;
use std::net::IpAddr;

use diesel::result::{ConnectionError, Error as DieselError};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::sql::Unreached;
use crate::config::ColdConfig;
use crate::error::StoreError;

/// The parameters that tokio-postgres reads in a URL.
const PARAMETERS: &str = "user, password, dbname, options, application_name, sslmode, sslnegotiation, host, hostaddr, \
    port, connect_timeout, tcp_user_timeout, keepalives, keepalives_idle, keepalives_interval, keepalives_retries, \
    target_session_attrs, channel_binding and load_balance_hosts";

/// The servers that `url` names, which stands under `key`.
pub(super) fn target(key: &str, url: &str, config: &ColdConfig) -> Result<Config, StoreError> {
    let bad =
        |reason: &dyn fmt::Display| StoreError::permanent("open", format_args!("{key}: {reason}"));
    let mut target: Config = known_sslmode(url)
        .map_err(|reason| bad(&reason))?
        .parse()
        .map_err(|error| bad(&unparsed(&error)))?;
    if target.get_hosts().is_empty() && target.get_hostaddrs().is_empty() {
        return Err(bad(
            &"it names no host: write postgres://user@host/database, or for a server on this machine \
              postgres://user@/database?host=/var/run/postgresql",
        ));
    }
    encrypt(&mut target, url.contains("sslmode="));
    if target.get_application_name().is_none() {
        target.application_name("tier-cache");
    }
    target.options(settings(config, target.get_options().unwrap_or_default()));
    target.connect_timeout(config.connect_timeout);
    target.tcp_user_timeout(config.connect_timeout + config.statement_timeout);
    Ok(target)
}

/// What a client trusts who speaks TLS.
pub(super) fn tls(config: &ColdConfig) -> Result<MakeRustlsConnect, StoreError> {
    let client = crate::tls::client(config.ca_file.as_deref())
        .map_err(|error| StoreError::permanent("open", format_args!("cold.ca_file: {error}")))?;
    Ok(MakeRustlsConnect::new(client))
}

/// The URL with its `sslmode` in the words of tokio-postgres, whose `require` checks the certificate and
/// the host's name here, as libpq's `verify-full` does.
fn known_sslmode(url: &str) -> Result<String, String> {
    let Some((start, query)) = url.split_once('?') else {
        return Ok(url.to_owned());
    };
    let mut parameters = Vec::new();
    for parameter in query.split('&') {
        parameters.push(match parameter.split_once('=') {
            Some(("sslmode", "verify-full" | "verify-ca")) => "sslmode=require",
            Some(("sslmode", mode)) if !matches!(mode, "disable" | "prefer" | "require") => {
                return Err(format!(
                    "sslmode={mode} is not supported: write disable (no TLS), or require or verify-full (TLS, and the \
                     server's certificate is checked)"
                ));
            }
            Some(("sslrootcert", _)) => {
                return Err("sslrootcert is not read: set cold.ca_file to that file".to_owned());
            }
            _ => parameter,
        });
    }
    Ok(format!("{start}?{}", parameters.join("&")))
}

fn unparsed(error: &tokio_postgres::Error) -> String {
    let reason = with_sources(error);
    match reason.contains("unknown option") {
        true => format!("{reason}; the parameters of a URL may be {PARAMETERS}"),
        false => format!("{reason}; write postgres://user:password@host:port/database"),
    }
}

/// TLS is required of every server that is not on this machine, unless `sslmode=disable` is written. A
/// server that declines TLS may be another one than meant.
fn encrypt(target: &mut Config, is_written: bool) {
    let all_here = target.get_hosts().iter().all(is_here)
        && target.get_hostaddrs().iter().all(IpAddr::is_loopback);
    match target.get_ssl_mode() {
        SslMode::Disable | SslMode::Require => {}
        _ if !all_here => drop(target.ssl_mode(SslMode::Require)),
        _ if !is_written => drop(target.ssl_mode(SslMode::Disable)),
        _ => {}
    }
}

fn is_here(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => {
            let address = name.trim_matches(['[', ']']).parse();
            name == "localhost" || address.is_ok_and(|address: IpAddr| address.is_loopback())
        }
        _ => true,
    }
}

/// What a connection asks for, so that defaults of the role, the database or the server change nothing.
/// What the URL asks for holds in place of ours.
fn settings(config: &ColdConfig, of_url: &str) -> String {
    let millis = config.statement_timeout.as_millis();
    let mut settings = format!(
        "-c statement_timeout={millis} -c lock_timeout={millis} \
         -c idle_in_transaction_session_timeout={millis} \
         -c default_transaction_isolation=read\\ committed -c row_security=on \
         -c search_path=\"$user\",public {of_url}"
    );
    if let Some(namespace) = &config.namespace {
        // Nothing after it: tables that are missing there shall not be found elsewhere.
        settings.push_str(&format!(" -c search_path={namespace}"));
    }
    settings
}

/// A failure to connect to the servers of the URL under `key`, with what to do about it.
pub(super) fn not_connected(key: &str, error: &tokio_postgres::Error) -> ConnectionError {
    let reason = with_sources(error);
    let code = error.code();
    let remedy = match code {
        Some(&SqlState::INVALID_PASSWORD) => "check the user and the password in cold.url",
        Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION) => {
            "check the user in cold.url, and the server's pg_hba.conf"
        }
        Some(&SqlState::INVALID_CATALOG_NAME) => {
            "check the database's name in cold.url, or create it: CREATE DATABASE … ENCODING 'UTF8'"
        }
        Some(&SqlState::INSUFFICIENT_PRIVILEGE) => "GRANT CONNECT ON DATABASE … TO the role",
        Some(&SqlState::TOO_MANY_CONNECTIONS) => {
            let text = "raise the server's max_connections, or lower cold.pool_size of all nodes";
            return ConnectionError::BadConnection(format!("{reason}; {text}"));
        }
        None if reason.contains("does not support TLS") => {
            "switch TLS on at the server; or, if nobody can listen on the way there, write sslmode=disable in cold.url"
        }
        None if reason.contains("invalid peer certificate") => {
            "set cold.ca_file to the authority that signed the server's certificate, and name the host as the \
             certificate does"
        }
        _ => return ConnectionError::BadConnection(reason),
    };
    let unreached = Unreached(format!("{reason}; {}", remedy.replace("cold.url", key)));
    ConnectionError::CouldntSetupConfiguration(DieselError::QueryBuilderError(Box::new(unreached)))
}

/// An error with what caused it, since the outermost says only "error performing TLS handshake".
pub(super) fn with_sources(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> Result<Config, String> {
        target("cold.url", url, &ColdConfig::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn every_host_and_address_that_is_not_here_must_speak_tls() {
        for (url, mode) in [
            ("postgres://a@localhost/b", SslMode::Disable),
            ("postgres://a@127.0.0.1/b", SslMode::Disable),
            ("postgres://a@127.5.0.1/b", SslMode::Disable),
            ("postgres://a@[::1]/b", SslMode::Disable),
            ("postgres://a@/b?host=/tmp", SslMode::Disable),
            ("postgres://a@localhost/b?sslmode=prefer", SslMode::Prefer),
            (
                "postgres://a@localhost/b?sslmode=verify-full",
                SslMode::Require,
            ),
            ("postgres://a@db.example/b", SslMode::Require),
            ("postgres://a@10.0.0.1/b", SslMode::Require),
            ("postgres://a@db.example/b?sslmode=prefer", SslMode::Require),
            (
                "postgres://a@db.example/b?sslmode=disable",
                SslMode::Disable,
            ),
            (
                "postgres://a@db.example/b?sslmode=verify-ca",
                SslMode::Require,
            ),
            ("postgres://a@localhost,db.example/b", SslMode::Require),
            // A local name for a server elsewhere.
            (
                "postgres://a@localhost/b?hostaddr=10.0.0.1",
                SslMode::Require,
            ),
            ("postgres://a@/b?hostaddr=10.0.0.1", SslMode::Require),
            (
                "postgres://a@localhost/b?hostaddr=127.0.0.1",
                SslMode::Disable,
            ),
        ] {
            assert_eq!(parsed(url).unwrap().get_ssl_mode(), mode, "{url}");
        }
    }

    #[test]
    fn a_url_that_cannot_be_used_is_told_what_to_write() {
        for (url, reason) in [
            (
                "postgres://a@db/b?sslmode=allow",
                "sslmode=allow is not supported: write disable",
            ),
            (
                "postgres://a@db/b?sslrootcert=/ca.pem",
                "sslrootcert is not read: set cold.ca_file",
            ),
            (
                "postgres://a@db/b?sslcert=/c.pem",
                "unknown option `sslcert`; the parameters",
            ),
            (
                "postgres:///b",
                "it names no host: write postgres://user@host/database",
            ),
            (
                "postgres://a@db:port/b",
                "write postgres://user:password@host:port/database",
            ),
        ] {
            let told = parsed(url).unwrap_err();
            assert!(
                told.contains("cold.url: ") && told.contains(reason),
                "{url}: {told}"
            );
        }
    }

    #[test]
    fn settings_of_the_url_hold_in_place_of_ours() {
        let target = parsed("postgres://a@localhost/b?options=-c%20search_path%3Dshop").unwrap();
        let settings = target.get_options().unwrap();
        let ours = settings.find("search_path=\"$user\",public").unwrap();
        assert!(
            ours < settings.find("search_path=shop").unwrap(),
            "{settings}"
        );
    }
}
