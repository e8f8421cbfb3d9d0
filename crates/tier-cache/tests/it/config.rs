use std::time::Duration;

use tier_cache::{Promotion, Strictness, TierConfig};

use crate::support::logged;

fn error(toml: &str) -> String {
    TierConfig::from_toml(toml).unwrap_err().to_string()
}

#[test]
fn what_is_not_named_keeps_its_default() {
    assert_eq!(TierConfig::from_toml("").unwrap(), TierConfig::default());
    let config = TierConfig::from_toml(
        "[session]\nstrictness = 'version'\npromotion = { uses = { count = 3, window = '1m' } }",
    )
    .unwrap();
    assert_eq!(config.session.strictness, Strictness::Version);
    let window = Duration::from_secs(60);
    assert_eq!(
        config.session.promotion,
        Promotion::Uses { count: 3, window }
    );
    assert_eq!(config.hot, TierConfig::default().hot);
}

#[test]
fn the_defaults_can_be_written_down_and_read_again() {
    let written = toml::to_string(&TierConfig::default()).unwrap();
    assert_eq!(
        TierConfig::from_toml(&written).unwrap(),
        TierConfig::default()
    );
}

#[test]
fn a_wrong_value_is_named_with_its_key_and_what_is_allowed() {
    for (toml, named) in [
        ("[hot]\ncapacity = 'big'", ["hot.capacity", "big", "64MiB"]),
        ("[hot]\ncapacity = -1", ["hot.capacity", "-1", "64MiB"]),
        (
            "[fence]\npoll_interval = 5",
            ["fence.poll_interval", "5", "500ms"],
        ),
        (
            "[fence]\npoll_interval = '4s'",
            ["fence.poll_interval", "4s", "at most half"],
        ),
        (
            "[fence]\npoll_interval = '0s'",
            ["fence.poll_interval", "0s", "from 1ms"],
        ),
        (
            "[fence]\nstaleness_bound = '400d'",
            ["fence.staleness_bound", "1year", "to 366days"],
        ),
        (
            "[fence]\nmax_floors = 0",
            ["fence.max_floors", "0", "at least 2"],
        ),
        (
            "[cold]\npool_size = 0",
            ["cold.pool_size", "0", "from 1 to 10000"],
        ),
        (
            "[warm]\njitter = 1.5",
            ["warm.jitter", "1.5", "from 0 to 0.9"],
        ),
        (
            "[warm]\nprefix = 'a b'",
            ["warm.prefix", "a b", "64 characters"],
        ),
        (
            "[warm]\nholds = 'all'",
            ["warm.holds", "all", "`head`, `full`"],
        ),
        (
            "[session]\nstrictness = 'x'",
            ["session.strictness", "x", "`trust`"],
        ),
        (
            "[session]\nmax_data = '1GiB'",
            ["session.max_data", "1", "at most 16MiB"],
        ),
        (
            "[cold]\npol_size = 3",
            ["cold", "pol_size", "`pool_size` is meant"],
        ),
        ("[colds]\nurl = ''", ["section", "colds", "`cold` is meant"]),
        (
            "url = 'x'",
            ["section", "url", "belongs in [warm] or [cold]"],
        ),
        (
            "[hot]\nnonsense = 1",
            ["hot", "nonsense", "`capacity`, `ttl`"],
        ),
        (
            "[fence]\nidle_ttl = '1h'",
            ["fence", "idle_ttl", "belongs in [session]"],
        ),
        (
            "[session]\nstrictness = 'vesion'",
            ["session.strictness", "vesion", "`version` is meant"],
        ),
    ] {
        let error = error(toml);
        for part in named {
            assert!(error.contains(part), "{toml}: {part:?} is not in {error:?}");
        }
    }
}

/// Settings that cannot both hold, in the order of the table in docs/configuration.md: TOML, and what
/// the error says of both.
const PAIRS: [(&str, [&str; 2]); 19] = [
    (
        "[session]\nttl = '30d'\nmax_ttl = '24h'",
        ["session.ttl = 30days", "session.max_ttl = 1day"],
    ),
    (
        "[session]\nidle_ttl = '31d'",
        ["session.idle_ttl = 1month", "session.max_ttl = 30days"],
    ),
    (
        "[session]\nidle_ttl = '90s'",
        ["session.idle_ttl = 1m 30s", "session.touch_interval = 1m"],
    ),
    (
        "[session]\nidle_ttl = ''\ntouch_interval = '60d'",
        [
            "session.touch_interval = 1month",
            "session.max_ttl = 30days",
        ],
    ),
    (
        "[session]\nrefresh_grace = '13h'",
        ["session.refresh_grace = 13h", "session.ttl = 12h"],
    ),
    (
        "[session]\nwhen_full = 'refuse'",
        ["session.when_full = refuse", "session.max_per_user = none"],
    ),
    (
        "[session]\npromotion = { uses = { count = 2, window = '2h' } }",
        ["session.promotion.uses.window = 2h", "hot.ttl = 1h"],
    ),
    (
        "[fence]\npoll_interval = '3s'",
        ["fence.poll_interval = 3s", "fence.staleness_bound = 5s"],
    ),
    (
        "[cold]\ntombstone_retention = '4s'",
        [
            "cold.tombstone_retention = 4s",
            "fence.staleness_bound = 5s",
        ],
    ),
    (
        "[fence]\non_blind = { serve_for = '2h' }",
        ["fence.on_blind.serve_for = 2h", "hot.ttl = 1h"],
    ),
    (
        "[fence]\non_blind = { serve_for = '1m' }\n[session]\nstrictness = 'row'",
        ["fence.on_blind.serve_for = 1m", "session.strictness = row"],
    ),
    (
        "[cold]\nload_concurrency = 11",
        ["cold.load_concurrency = 11", "cold.pool_size = 10"],
    ),
    (
        "[cold]\nurl = 'sqlite:///a.db'\nreplica_url = 'postgres://b/c'",
        [
            "cold.replica_url = postgres://b/c",
            "cold.url = sqlite:///a.db",
        ],
    ),
    (
        "[cold]\nurl = 'postgres://a/c'\nreplica_url = 'sqlite:///b.db'",
        [
            "cold.replica_url = sqlite:///b.db",
            "cold.url = postgres://a/c",
        ],
    ),
    (
        "[cold]\nurl = 'sqlite://file:a.db'\nnamespace = 'shop'",
        ["cold.namespace = shop", "cold.url = sqlite://file:"],
    ),
    (
        "[cold]\nurl = 'sqlite:///a.db'\nca_file = '/ca.pem'",
        ["cold.ca_file = /ca.pem", "cold.url = sqlite:///a.db"],
    ),
    (
        "[cold]\nurl = 'postgres://a/c?sslmode=disable'\nca_file = '/ca.pem'",
        [
            "cold.ca_file = /ca.pem",
            "cold.url = postgres://a/c?sslmode=disable",
        ],
    ),
    (
        "[warm]\nurl = 'redis://a'\nca_file = '/ca.pem'",
        ["warm.ca_file = /ca.pem", "warm.url = redis://a"],
    ),
    (
        "[warm]\nurl = 'unix:///a.sock'\nca_file = '/ca.pem'",
        ["warm.ca_file = /ca.pem", "warm.url = unix:///a.sock"],
    ),
];

#[test]
fn settings_that_cannot_both_hold_are_refused_with_both_keys_and_values() {
    for (toml, both) in PAIRS {
        let error = error(toml);
        let (pair, remedy) = error.split_once(" cannot both hold: ").expect(&error);
        assert_eq!(pair.split(" and ").collect::<Vec<_>>().len(), 2, "{error}");
        for part in both {
            assert!(pair.contains(part), "{toml}: {part:?} is not in {error:?}");
        }
        assert!(remedy.len() > 20, "{error}");
    }
    // Each is in the documentation's table.
    let text = include_str!("../../../../docs/configuration.md");
    for (_, both) in PAIRS {
        let keys = both.map(|part| part.split(" = ").next().unwrap());
        let row = |line: &&str| keys.iter().all(|key| line.contains(&format!("`{key}`")));
        assert!(
            text.lines().any(|line| row(&line)),
            "{keys:?} is not documented"
        );
    }
    // What fits is not refused.
    for toml in [
        "[session]\nttl = '24h'\nmax_ttl = '24h'",
        "[session]\nidle_ttl = '2m'",
        "[session]\nwhen_full = 'refuse'\nmax_per_user = 3",
        "[cold]\npool_size = 1",
        "[fence]\non_blind = { serve_for = '1h' }",
        "[warm]\nurl = 'rediss://a'\nca_file = '/ca.pem'",
        "[cold]\nurl = 'postgres://a/c'\nca_file = '/ca.pem'",
    ] {
        TierConfig::from_toml(toml).unwrap();
    }
}

#[test]
fn debug_shows_no_password() {
    let config = TierConfig::from_toml(
        "[warm]\nurl = 'redis://u:s3cret@h/'\n[cold]\nurl = 'postgres://u:s3cret@h/d?password=s3cret'",
    )
    .unwrap();
    let shown = format!("{config:?}");
    assert!(!shown.contains("s3cret"), "{shown}");
    assert!(shown.contains("redis://…@h/"), "{shown}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let error = TierConfig::load(Some(std::path::Path::new("/nowhere/at-all.toml")))
        .unwrap_err()
        .to_string();
    assert!(error.contains("/nowhere/at-all.toml"), "{error}");
}

/// The rows of the tables of docs/configuration.md: section, key, default as written.
fn documented() -> Vec<(String, String, String)> {
    let text = include_str!("../../../../docs/configuration.md");
    let mut section = String::new();
    let mut rows = Vec::new();
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("## `[") {
            section = heading.split(']').next().unwrap().to_owned();
        }
        let cells: Vec<_> = line.split(" | ").collect();
        if let [key, default, _, _] = cells[..]
            && let Some(key) = key.strip_prefix("| `")
        {
            let key = key.trim_end_matches('`').to_owned();
            rows.push((section.clone(), key, default.trim_matches('`').to_owned()));
        }
    }
    rows
}

#[test]
fn every_option_is_documented_with_its_true_default() {
    let rows = documented();
    let written = toml::Table::try_from(TierConfig::default()).unwrap();
    for (section, options) in &written {
        for key in options.as_table().unwrap().keys() {
            let there = rows.iter().any(|row| (&row.0, &row.1) == (section, key));
            assert!(there, "{section}.{key} is not documented");
        }
    }
    for (section, key, default) in rows {
        let value = match default.as_str() {
            // Options that have no value unless one is given.
            "in the state folder" => {
                let url = written[&section][&key].as_str().unwrap();
                assert!(url.ends_with("sessions.db"), "{url}");
                continue;
            }
            "none" | "the system's" => {
                assert!(written[&section].get(&key).is_none(), "{section}.{key}");
                continue;
            }
            bare if bare.parse::<f64>().is_ok() || bare.parse::<bool>().is_ok() => bare.to_owned(),
            text => format!("'{}'", text.trim_matches('"')),
        };
        let config = TierConfig::from_toml(&format!("[{section}]\n{key} = {value}"));
        let config = config.unwrap_or_else(|error| panic!("{section}.{key}: {error}"));
        assert_eq!(config, TierConfig::default(), "{section}.{key} = {value}");
    }
}

#[test]
#[expect(clippy::result_large_err, reason = "the jail's own error")]
fn the_environment_goes_over_the_file() {
    figment::Jail::expect_with(|jail| {
        jail.create_file("s.toml", "[hot]\nttl = '5m'\n[cold]\npool_size = 3")?;
        jail.set_env("SESSION_COLD__POOL_SIZE", "7");
        jail.set_env("SESSION_FENCE__STALENESS_BOUND", "9s");
        jail.set_env("SESSION_KEY", "the application's own");
        let config = TierConfig::load(Some("s.toml".as_ref())).expect("it loads");
        assert_eq!(config.hot.ttl, Duration::from_secs(300));
        assert_eq!(config.cold.pool_size, 7);
        assert_eq!(config.fence.staleness_bound, Duration::from_secs(9));
        jail.set_env("SESSION_WARM__URL", "");
        jail.set_env("SESSION_HOT__CAPACITY", "1048576");
        let config = TierConfig::load(None).expect("it loads");
        assert_eq!(config.warm.url, None);
        assert_eq!(config.hot.capacity, tier_cache::ByteSize::mib(1));
        // A secret under a wrong key is not quoted back.
        jail.set_env("SESSION_COLD__POOL_SIZE", "postgres://u:s3cret@h/d");
        let error = TierConfig::load(None).unwrap_err().to_string();
        assert!(
            error.contains("pool_size") || error.contains("POOL_SIZE"),
            "{error}"
        );
        assert!(
            !error.contains("s3cret") && error.contains("…@h/d"),
            "{error}"
        );
        jail.set_env("SESSION_COLD__POOL_SIZE", "many");
        let error = TierConfig::load(None).unwrap_err().to_string();
        assert!(error.to_lowercase().contains("pool_size"), "{error}");
        assert!(error.contains("many"), "{error}");
        Ok(())
    });
}

#[test]
#[expect(clippy::result_large_err, reason = "the jail's own error")]
fn a_variable_that_looks_like_an_option_is_refused_and_the_name_is_told() {
    figment::Jail::expect_with(|jail| {
        for own in ["SESSION_KEY", "SESSION_MANAGER", "SESSION_SECRET"] {
            jail.set_env(own, "somebody's own");
        }
        let (log, loaded) = logged(|| TierConfig::load(None));
        assert_eq!(loaded.expect("it loads"), TierConfig::default());
        let lines: Vec<_> = log
            .lines()
            .filter(|line| line.contains("SESSION_"))
            .collect();
        let [line] = lines[..] else {
            panic!("one line for all of them: {log}");
        };
        assert!(
            line.contains("DEBUG") && !line.contains("somebody"),
            "{line}"
        );
        for own in ["SESSION_KEY", "SESSION_MANAGER", "SESSION_SECRET"] {
            assert!(line.contains(own), "{line}");
        }
        jail.set_env("SESSION_FENCE_STALENESS_BOUND", "1s");
        jail.set_env("SESSION_COLD_URL", "postgres://u:s3cret@h/d");
        let error = TierConfig::load(None).unwrap_err().to_string();
        for named in [
            "SESSION_FENCE_STALENESS_BOUND is not read: SESSION_FENCE__STALENESS_BOUND is meant",
            "SESSION_COLD_URL is not read: SESSION_COLD__URL is meant",
        ] {
            assert!(error.contains(named), "{error}");
        }
        assert!(!error.contains("s3cret"), "{error}");
        // What a program sets itself does not excuse a variable that nobody reads.
        let set = TierConfig::default().overlaid_with(None, |config| config.cold.pool_size = 3);
        assert!(set.is_err());
        Ok(())
    });
}

#[test]
#[expect(clippy::result_large_err, reason = "the jail's own error")]
fn an_error_names_the_file_or_the_variable() {
    figment::Jail::expect_with(|jail| {
        jail.create_file("s.toml", "[hot]\nttl = 'soon'")?;
        let error = TierConfig::load(Some("s.toml".as_ref()))
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("hot.ttl (s.toml): \"soon\""), "{error}");
        jail.set_env("SESSION_HOT__TTL", "later");
        let error = TierConfig::load(Some("s.toml".as_ref()))
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("hot.ttl (SESSION_HOT__TTL): \"later\""),
            "{error}"
        );
        Ok(())
    });
}

#[test]
#[expect(clippy::result_large_err, reason = "the jail's own error")]
fn an_application_has_defaults_of_its_own() {
    figment::Jail::expect_with(|jail| {
        jail.create_file("s.toml", "[cold]\npool_size = 7")?;
        let mut defaults = TierConfig::default();
        defaults.cold.url = "sqlite://app.db".into();
        defaults.cold.pool_size = 3;
        let config = defaults
            .overlaid(Some("s.toml".as_ref()))
            .expect("it loads");
        assert_eq!(config.cold.url, "sqlite://app.db");
        assert_eq!(config.cold.pool_size, 7);
        Ok(())
    });
}
