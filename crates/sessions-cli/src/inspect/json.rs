//! The same for machines. No hash of a key and no application data is in it.

use serde_json::{Value, json};
use tier_cache::cold::Row;
use tier_cache::{Admission, Inspection, Unreadable, WarmCopy, WarmFound, WarmKind, WarmPlace};

use super::{TokenSeen, standing, was_deleted, word};
use crate::output::lineage;

pub(super) fn of(seen: &Inspection, token: Option<&TokenSeen>) -> Value {
    let token = token.map(
        |token| json!({ "kind": token.kind, "signed": token.signed, "present": token.present }),
    );
    let gate = seen.gate.map(|gate| {
        json!({
            "lineage": gate.lineage.map(lineage),
            "since": gate.since,
            "floor": gate.floor.map(|(version, change)| json!({
                "version": version,
                "change": change,
            })),
            "deleted": was_deleted(&gate),
        })
    });
    let warm: Vec<Value> = seen.warm.iter().map(copy).collect();
    json!({
        "at": seen.at,
        "session": seen.id,
        "token": token,
        "database": {
            "mark": seen.mark,
            "lineage": lineage(seen.lineage),
            "row": seen.row.as_ref().map(|row| self::row(row, seen)),
        },
        "redis": warm,
        "gate": gate,
    })
}

fn row(row: &Row, seen: &Inspection) -> Value {
    let head = &row.head;
    let (word, since) = standing(row, seen.at);
    json!({
        "standing": word,
        "since": since,
        "version": head.version,
        "change": row.changed_at,
        "user": head.user,
        "device": row.body.device,
        "created_at": row.body.created_at,
        "authenticated_at": head.authenticated_at,
        "assurance": head.assurance,
        "last_seen_at": head.last_seen_at,
        "expires_at": head.expires_at,
        "idle_seconds": head.idle_ttl.map(|ttl| ttl.as_secs()),
        "revoked_at": head.revoked_at,
    })
}

fn copy(copy: &WarmCopy) -> Value {
    let place = match copy.place {
        WarmPlace::Session => "session",
        WarmPlace::Access => "access",
        _ => "refresh",
    };
    let ttl = |ttl: Option<std::time::Duration>| ttl.map(|ttl| ttl.as_millis() as u64);
    match &copy.found {
        WarmFound::Record {
            kind,
            standing,
            version,
            as_of,
            bytes,
            ttl: kept,
            ..
        } => json!({
            "place": place,
            "found": "record",
            "kind": match kind {
                WarmKind::Head => "head",
                WarmKind::Full => "full",
                _ => "tombstone",
            },
            "standing": standing.map(word),
            "version": version,
            "as_of": as_of,
            "bytes": bytes,
            "ttl_ms": ttl(*kept),
            "admission": copy.admission.map(admission),
        }),
        WarmFound::Unreadable { why, ttl: kept, .. } => json!({
            "place": place,
            "found": "unreadable",
            "why": match why {
                Unreadable::Form => "form",
                Unreadable::Lineage => "lineage",
                Unreadable::Seal => "seal",
                _ => "content",
            },
            "ttl_ms": ttl(*kept),
        }),
        WarmFound::Unanswered(reason) => json!({
            "place": place,
            "found": "unanswered",
            "why": reason,
        }),
        _ => json!({ "place": place, "found": "nothing" }),
    }
}

fn admission(admission: Admission) -> &'static str {
    match admission {
        Admission::Admitted => "admitted",
        Admission::Blind => "blind",
        Admission::OtherLineage => "other-lineage",
        Admission::BelowFloor => "below-floor",
        _ => "before-since",
    }
}
