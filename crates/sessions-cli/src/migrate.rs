//! Brings the tables to the newest version, or prints the SQL for it.

use tier_cache::{StoreError, cold, without_password};

use crate::cli::{Migrate, Place};
use crate::failure::Failure;
use crate::opening::config;
use crate::output::print;

pub(crate) async fn run(place: &Place, asked: Migrate) -> Result<(), Failure> {
    let config = config(place)?.cold;
    let database = without_password(&config.url);
    let failed = |error: StoreError| {
        Failure::failed(format_args!("the database {database}: {}", error.reason))
    };
    if asked.all {
        return print(cold::all_migrations(&config).map_err(failed)?.trim_end());
    }
    if asked.print {
        let pending = cold::pending_migrations(&config).await.map_err(failed)?;
        return print(match pending.trim_end() {
            "" => "-- nothing to do: the tables are at the version of this release",
            pending => pending,
        });
    }
    let applied = cold::migrate(&config).await.map_err(failed)?;
    print(&match &applied[..] {
        [] => format!("nothing to do: the tables in {database} are at the version of this release"),
        names => format!("applied to {database}: {}", names.join(", ")),
    })
}
