//! What each tier holds of a session, in words.

mod json;

use std::fmt::{Display, Write as _};
use std::time::Duration;

use session_core::{Standing, Timestamp, Token, TokenKeys, TokenKind, Version};
use tier_cache::cold::Row;
use tier_cache::{
    Admission, Gate, Inspection, TierConfig, Unreadable, WarmCopy, WarmFound, WarmKind, WarmPlace,
};

use crate::cli::{Inspect, Place};
use crate::failure::Failure;
use crate::list::device;
use crate::opening::{config, keys, open, redis};
use crate::output::{harmless, lineage, print, rough, when};
use crate::shown::Shown;

pub(crate) async fn run(place: &Place, asked: Inspect) -> Result<(), Failure> {
    let shown = match &asked.session {
        Some(session) => Shown::read(session).await?,
        None => {
            let kind = match asked.jti {
                true => TokenKind::Access,
                false => TokenKind::Refresh,
            };
            if !asked.jti && !asked.refresh {
                return Err(Failure::misused(
                    "say which: a session's id, - with a token on standard input, --jti or \
                     --refresh (--help says more)",
                ));
            }
            let issuer = asked.issuer.as_deref().unwrap_or_default();
            Shown::foreign(kind, issuer, asked.subject.as_deref()).await?
        }
    };
    let config = config(place)?;
    let tiers = open(config, keys(place)?).await?;
    let mut known = None;
    for key in shown.keys(tiers.keys()) {
        known = Some(tiers.inspect(key).await?).filter(is_known);
        if known.is_some() {
            break;
        }
    }
    let Some(seen) = known else {
        return Err(Failure::failed(match shown.id() {
            Some(id) => format!("no tier knows a session {id}"),
            None => "no tier knows a session of that key".to_owned(),
        }));
    };
    let token = match &shown {
        Shown::Token(token) => Some(TokenSeen::of(token, tiers.keys(), &seen)),
        Shown::Id(_) | Shown::Foreign(..) => None,
    };
    match asked.json {
        true => print(&format!("{:#}", json::of(&seen, token.as_ref()))),
        false => print(&text(&seen, token.as_ref(), tiers.config())),
    }
}

/// Whether any tier holds anything of the session, if only that it was deleted.
fn is_known(seen: &Inspection) -> bool {
    let warm = |copy: &WarmCopy| {
        matches!(
            copy.found,
            WarmFound::Record { .. } | WarmFound::Unreadable { .. }
        )
    };
    seen.row.is_some()
        || seen.gate.is_some_and(|gate| was_deleted(&gate))
        || seen.warm.iter().any(warm)
}

fn was_deleted(gate: &Gate) -> bool {
    gate.floor
        .is_some_and(|(floor, _)| floor == Version::DELETED)
}

/// What can be said of a token without showing any of it.
struct TokenSeen {
    kind: &'static str,
    /// Whether the root key signed it. A MAC key in its place is not known here.
    signed: bool,
    /// Whether it is the one that the session has now; `None` without a session.
    present: Option<bool>,
}

impl TokenSeen {
    fn of(token: &Token, keys: &TokenKeys, seen: &Inspection) -> Self {
        let (hash, signed) = (keys.hash(token), keys.verify(token));
        let head = seen.row.as_ref().map(|row| &row.head);
        let (kind, present) = match token.kind() {
            TokenKind::Access => ("access", head.map(|head| head.access == Some(hash))),
            TokenKind::Refresh => ("refresh", head.map(|head| head.refresh == Some(hash))),
        };
        Self {
            kind,
            signed,
            present,
        }
    }

    fn words(&self) -> String {
        let present = match self.present {
            Some(true) => "the one that the session has now",
            Some(false) => "not the one that the session has now: replaced, or never its own",
            None => "of a session that is not in the database",
        };
        let signed = match self.signed {
            true => "",
            false => {
                "; its signature is not of this root key: forged, of another service or namespace, \
                 or signed by a MAC key in its place"
            }
        };
        format!("an {} token, {present}{signed}", self.kind).replace("an refresh", "a refresh")
    }
}

/// How a row stands, with the instant since which, where there is one.
fn standing(row: &Row, now: Timestamp) -> (&'static str, Option<Timestamp>) {
    let head = &row.head;
    let standing = head.standing(now);
    let since = match standing {
        Standing::Valid => None,
        Standing::Revoked => head.revoked_at,
        Standing::Expired => Some(head.expires_at),
        Standing::Idle => head.idle_ttl.map(|ttl| head.last_seen_at + ttl),
    };
    (word(standing), since)
}

fn word(standing: Standing) -> &'static str {
    match standing {
        Standing::Valid => "active",
        Standing::Revoked => "revoked",
        Standing::Expired => "expired",
        Standing::Idle => "idle",
    }
}

/// A report of names and values.
struct Report(String);

impl Report {
    fn heading(&mut self, text: impl Display) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{text}");
    }

    fn line(&mut self, name: &str, value: impl Display) {
        let _ = writeln!(self.0, "  {name:<13} {value}");
    }
}

fn text(seen: &Inspection, token: Option<&TokenSeen>, config: &TierConfig) -> String {
    let mut report = Report(String::new());
    match seen.id {
        Some(id) => report.heading(format_args!("session {id}, looked at {}", seen.at)),
        None => report.heading(format_args!("no session, looked at {}", seen.at)),
    }
    if let Some(token) = token {
        report.line("shown", token.words());
    }
    cold(&mut report, seen);
    warm(&mut report, seen, config);
    report.heading(
        "hot: the tiers of other processes cannot be seen from here; a node drops the session",
    );
    report.heading(format_args!(
        "     at once when it hears of a change, and within {} in any case (fence.staleness_bound)",
        rough(config.fence.staleness_bound)
    ));
    report.0
}

fn cold(report: &mut Report, seen: &Inspection) {
    let now = seen.at;
    let mark = format!("{}, lineage {}", seen.mark, lineage(seen.lineage));
    let Some(row) = &seen.row else {
        report.heading(match seen.gate {
            Some(gate) if was_deleted(&gate) => "database: deleted, which left a trace",
            _ => "database: no such session",
        });
        if let Some((Version::DELETED, change)) = seen.gate.and_then(|gate| gate.floor) {
            report.line("last change", format_args!("number {change}"));
        }
        report.line("mark now", mark);
        return;
    };
    let head = &row.head;
    report.heading(match standing(row, now) {
        ("revoked", None) => "database: switched off, or its user is".to_owned(),
        ("idle", Some(since)) => {
            format!("database: not used for too long since {}", when(since, now))
        }
        (word, Some(since)) => format!("database: {word} {}", when(since, now)),
        (word, None) => format!("database: {word}"),
    });
    report.line(
        "version",
        format_args!("{}, by change number {}", head.version, row.changed_at),
    );
    report.line("mark now", mark);
    match &head.user {
        Some(user) => report.line(
            "user",
            format_args!(
                "{}, {} <{}>",
                user.id,
                harmless(&user.username),
                harmless(&user.email)
            ),
        ),
        None => report.line("user", "none: a guest"),
    }
    let device = device(&row.body.device);
    if !device.is_empty() {
        report.line("device", device);
    }
    report.line("began", when(row.body.created_at, now));
    report.line("logged in", when(head.authenticated_at, now));
    report.line("last seen", when(head.last_seen_at, now));
    report.line("expires", when(head.expires_at, now));
    if let Some(ttl) = head.idle_ttl {
        report.line("idle", format_args!("after {} without use", rough(ttl)));
    }
}

fn warm(report: &mut Report, seen: &Inspection, config: &TierConfig) {
    if config.warm.url.is_none() {
        report.heading("Redis: none is named, by --redis, SESSION_WARM__URL or --config");
    }
    for copy in &seen.warm {
        let place = match copy.place {
            WarmPlace::Session => "Redis",
            WarmPlace::Access => "Redis, under its foreign access key",
            _ => "Redis, under its foreign refresh key",
        };
        match &copy.found {
            WarmFound::Unanswered(reason) => {
                report.heading(format_args!(
                    "{place}: not to be asked ({}): {reason}",
                    redis(config)
                ));
            }
            WarmFound::Nothing => {
                report.heading(format_args!("{place}: nothing, so nodes ask the database"))
            }
            WarmFound::Unreadable { why, ttl, .. } => {
                report.heading(format_args!("{place}: something that no node reads"));
                report.line("why", unreadable(*why));
                report.line("kept for", kept(*ttl));
                report.line("a fresh node", "asks the database, and replaces it");
            }
            WarmFound::Record {
                kind,
                standing,
                version,
                as_of,
                bytes,
                ttl,
                ..
            } => {
                report.heading(format_args!("{place}: {}", self::kind(*kind)));
                report.line("version", against(*version, seen.row.as_ref()));
                report.line(
                    "as of",
                    format_args!("mark {as_of}, of the database's lineage"),
                );
                report.line("kept for", format_args!("{}, {bytes} bytes", kept(*ttl)));
                let gate = seen.gate.as_ref().zip(copy.admission);
                if let Some((gate, admission)) = gate {
                    let words = verdict(admission, gate, *standing, *version, as_of);
                    report.line("a fresh node", words);
                }
            }
            _ => report.heading(format_args!("{place}: unknown")),
        }
    }
}

/// A record's version beside the database's.
fn against(version: Version, row: Option<&Row>) -> String {
    match row.map(|row| row.head.version) {
        Some(now) if version == now => format!("{version}, as in the database"),
        Some(now) if version < now => format!("{version}, older than the database's {now}"),
        Some(_) => format!("{version}, newer than what was read of the database just before"),
        None => format!("{version}, of a row that is not there"),
    }
}

fn verdict(
    admission: Admission,
    gate: &Gate,
    standing: Option<Standing>,
    version: Version,
    as_of: &impl Display,
) -> String {
    match (admission, gate.floor) {
        (Admission::Admitted, _) => match standing {
            None => "believes it, and refuses the session".to_owned(),
            Some(Standing::Valid) => {
                "believes it: no change is known that it does not have".to_owned()
            }
            Some(_) => {
                "asks the database: by the record's own times the session is over, and a no \
                is not believed of a cache"
                    .to_owned()
            }
        },
        (Admission::BelowFloor, Some((Version::DELETED, change))) => format!(
            "refuses it: the session was deleted, by change number {change}; it asks the database"
        ),
        (Admission::BelowFloor, Some((floor, change))) => format!(
            "refuses it: version {version} lies below the floor {floor}, which change number \
             {change} raised; it asks the database"
        ),
        (Admission::BeforeSince, _) => format!(
            "refuses it: its mark {as_of} lies before {}, since which the node knows every change, \
             so it may lack one that the node does not know either; it asks the database",
            gate.since
        ),
        (Admission::Blind, _) => {
            "refuses it: the feed of changes has not been heard, so nothing cached is believed"
                .to_owned()
        }
        (Admission::OtherLineage, _) => {
            "refuses it: the database's lineage has just changed, and all that was cached is \
             dropped"
                .to_owned()
        }
        _ => "refuses it".to_owned(),
    }
}

fn kind(kind: WarmKind) -> &'static str {
    match kind {
        WarmKind::Head => "a head (what authentication needs)",
        WarmKind::Full => "a full record (the whole session)",
        WarmKind::Tombstone => "a tombstone (the session was revoked)",
        _ => "a record",
    }
}

fn unreadable(why: Unreadable) -> &'static str {
    match why {
        Unreadable::Form => "it has not the form of a record: somebody else's, or damaged",
        Unreadable::Lineage => {
            "it is of another lineage of the database, as before a restore or failover; or of \
             another release's format"
        }
        Unreadable::Seal => {
            "its seal does not match: another root key or namespace than given here wrote it, or \
             it was moved, damaged or forged; or it is of another lineage"
        }
        _ => "it is sealed, but written by a release that this one does not understand",
    }
}

fn kept(ttl: Option<Duration>) -> String {
    ttl.map_or_else(|| "an unknown time".into(), rough)
}
