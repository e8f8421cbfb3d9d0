//! One set of SQL types for both databases, so that one schema and one text of each query serve
//! PostgreSQL and SQLite alike.
//!
//! | here | PostgreSQL | SQLite |
//! |---|---|---|
//! | [`sql::Id`] | `uuid` | text, hyphenated |
//! | [`sql::Instant`] | `timestamptz` | integer, milliseconds since 1970 |
//! | [`sql::Json`] | `jsonb` | text |

#[cfg(feature = "postgres")]
use std::io::Write as _;

use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::serialize::{self, IsNull, Output, ToSql};
use diesel::sql_types::Binary;
use session_core::{KeyHash, Salt, SessionId, Timestamp};

/// The types as SQL knows them.
pub(super) mod sql {
    use diesel::query_builder::QueryId;
    use diesel::sql_types::SqlType;

    #[derive(Debug, Clone, Copy, SqlType, QueryId)]
    #[cfg_attr(
        feature = "postgres",
        diesel(postgres_type(oid = 2950, array_oid = 2951))
    )]
    #[cfg_attr(feature = "sqlite", diesel(sqlite_type(name = "Text")))]
    pub struct Id;

    #[derive(Debug, Clone, Copy, SqlType, QueryId)]
    #[cfg_attr(
        feature = "postgres",
        diesel(postgres_type(oid = 1184, array_oid = 1185))
    )]
    #[cfg_attr(feature = "sqlite", diesel(sqlite_type(name = "Long")))]
    pub struct Instant;

    #[derive(Debug, Clone, Copy, SqlType, QueryId)]
    #[cfg_attr(
        feature = "postgres",
        diesel(postgres_type(oid = 3802, array_oid = 3807))
    )]
    #[cfg_attr(feature = "sqlite", diesel(sqlite_type(name = "Text")))]
    pub struct Json;
}

#[derive(Debug, Clone, Copy, AsExpression, FromSqlRow)]
#[diesel(sql_type = sql::Id)]
pub(super) struct Id(pub(super) SessionId);

#[derive(Debug, Clone, Copy, AsExpression, FromSqlRow)]
#[diesel(sql_type = sql::Instant)]
pub(super) struct Time(pub(super) Timestamp);

/// JSON as text, unparsed: it is read straight into the application's type.
#[derive(Debug, Clone, AsExpression, FromSqlRow)]
#[diesel(sql_type = sql::Json)]
pub(super) struct Json(pub(super) Box<str>);

#[derive(Debug, Clone, Copy, AsExpression, FromSqlRow)]
#[diesel(sql_type = Binary)]
pub(super) struct Hash(pub(super) KeyHash);

#[derive(Debug, Clone, Copy, AsExpression, FromSqlRow)]
#[diesel(sql_type = Binary)]
pub(super) struct Salted(pub(super) Salt);

/// Hashes and salts alike.
fn sixteen(bytes: &[u8]) -> deserialize::Result<[u8; 16]> {
    let exactly = bytes.try_into();
    Ok(exactly.map_err(|_| format!("16 bytes are expected, not {}", bytes.len()))?)
}

#[cfg(feature = "postgres")]
mod postgres {
    use diesel::pg::data_types::PgTimestamp;
    use diesel::pg::{Pg, PgValue};
    use diesel::sql_types::{Timestamptz, Uuid};

    use super::*;

    /// 2000-01-01T00:00:00Z, from which PostgreSQL counts microseconds.
    const EPOCH_MILLIS: i64 = 946_684_800_000;

    /// What PostgreSQL's timestamps can say: from 4714 BC on, and before 294277 AD.
    const FIRST: i64 = -211_813_488_000_000_000;
    const END: i64 = 9_223_371_331_200_000_000;

    impl FromSql<sql::Id, Pg> for Id {
        fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
            let uuid = <uuid::Uuid as FromSql<Uuid, Pg>>::from_sql(value)?;
            Ok(Self(uuid.into()))
        }
    }

    impl ToSql<sql::Id, Pg> for Id {
        fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
            out.write_all(self.0.as_bytes())?;
            Ok(IsNull::No)
        }
    }

    impl FromSql<sql::Instant, Pg> for Time {
        fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
            let PgTimestamp(micros) = FromSql::<Timestamptz, Pg>::from_sql(value)?;
            // 'infinity' and '-infinity' are the ends of the range; they stay there.
            let millis = match micros {
                i64::MAX | i64::MIN => micros,
                _ => micros.div_euclid(1000).saturating_add(EPOCH_MILLIS),
            };
            Ok(Self(Timestamp::from_unix_millis(millis)))
        }
    }

    impl ToSql<sql::Instant, Pg> for Time {
        fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
            let millis = self.0.unix_millis().saturating_sub(EPOCH_MILLIS);
            // What is out of its range is '-infinity' or 'infinity' there.
            let micros = match millis.saturating_mul(1000) {
                early if early < FIRST => i64::MIN,
                late if late >= END => i64::MAX,
                micros => micros,
            };
            ToSql::<Timestamptz, Pg>::to_sql(&PgTimestamp(micros), &mut out.reborrow())
        }
    }

    impl FromSql<sql::Json, Pg> for Json {
        fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
            match value.as_bytes() {
                [1, text @ ..] => Ok(Self(std::str::from_utf8(text)?.into())),
                _ => Err("jsonb of an unknown version".into()),
            }
        }
    }

    impl ToSql<sql::Json, Pg> for Json {
        fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
            out.write_all(&[1])?;
            out.write_all(self.0.as_bytes())?;
            Ok(IsNull::No)
        }
    }

    impl FromSql<Binary, Pg> for Hash {
        fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
            Ok(Self(KeyHash::from_bytes(sixteen(value.as_bytes())?)))
        }
    }

    impl FromSql<Binary, Pg> for Salted {
        fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
            Ok(Self(Salt::from_bytes(sixteen(value.as_bytes())?)))
        }
    }

    impl ToSql<Binary, Pg> for Salted {
        fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
            out.write_all(self.0.as_bytes())?;
            Ok(IsNull::No)
        }
    }

    impl ToSql<Binary, Pg> for Hash {
        fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
            out.write_all(self.0.as_bytes())?;
            Ok(IsNull::No)
        }
    }
}

#[cfg(feature = "sqlite")]
mod sqlite {
    use diesel::sql_types::{BigInt, Text};
    use diesel::sqlite::{Sqlite, SqliteValue};

    use super::*;

    impl FromSql<sql::Id, Sqlite> for Id {
        fn from_sql(value: SqliteValue<'_, '_, '_>) -> deserialize::Result<Self> {
            let text = <String as FromSql<Text, Sqlite>>::from_sql(value)?;
            Ok(Self(text.parse()?))
        }
    }

    impl ToSql<sql::Id, Sqlite> for Id {
        fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Sqlite>) -> serialize::Result {
            out.set_value(self.0.to_string());
            Ok(IsNull::No)
        }
    }

    impl FromSql<sql::Instant, Sqlite> for Time {
        fn from_sql(value: SqliteValue<'_, '_, '_>) -> deserialize::Result<Self> {
            let millis = <i64 as FromSql<BigInt, Sqlite>>::from_sql(value)?;
            Ok(Self(Timestamp::from_unix_millis(millis)))
        }
    }

    impl ToSql<sql::Instant, Sqlite> for Time {
        fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Sqlite>) -> serialize::Result {
            out.set_value(self.0.unix_millis());
            Ok(IsNull::No)
        }
    }

    impl FromSql<sql::Json, Sqlite> for Json {
        fn from_sql(value: SqliteValue<'_, '_, '_>) -> deserialize::Result<Self> {
            let text = <String as FromSql<Text, Sqlite>>::from_sql(value)?;
            Ok(Self(text.into()))
        }
    }

    impl ToSql<sql::Json, Sqlite> for Json {
        fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Sqlite>) -> serialize::Result {
            out.set_value(&*self.0);
            Ok(IsNull::No)
        }
    }

    impl FromSql<Binary, Sqlite> for Hash {
        fn from_sql(value: SqliteValue<'_, '_, '_>) -> deserialize::Result<Self> {
            let bytes = <Vec<u8> as FromSql<Binary, Sqlite>>::from_sql(value)?;
            Ok(Self(KeyHash::from_bytes(sixteen(&bytes)?)))
        }
    }

    impl FromSql<Binary, Sqlite> for Salted {
        fn from_sql(value: SqliteValue<'_, '_, '_>) -> deserialize::Result<Self> {
            let bytes = <Vec<u8> as FromSql<Binary, Sqlite>>::from_sql(value)?;
            Ok(Self(Salt::from_bytes(sixteen(&bytes)?)))
        }
    }

    impl ToSql<Binary, Sqlite> for Salted {
        fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Sqlite>) -> serialize::Result {
            out.set_value(&self.0.as_bytes()[..]);
            Ok(IsNull::No)
        }
    }

    impl ToSql<Binary, Sqlite> for Hash {
        fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Sqlite>) -> serialize::Result {
            out.set_value(&self.0.as_bytes()[..]);
            Ok(IsNull::No)
        }
    }
}
