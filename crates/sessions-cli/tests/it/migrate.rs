//! Tables are brought to the newest version by the command, or by the SQL that it prints.

use tier_cache::Login;

use crate::support::{Service, command, contains, on_both, told};

on_both!(
    a_service_that_migrates_nothing_starts_after_the_command,
    the_printed_sql_makes_the_same_tables,
    tables_of_the_release_before_are_brought_up_to_date_by_the_printed_sql,
    nothing_is_printed_that_a_pipe_would_run_twice,
);

/// Everything that the database says of its schema.
fn schema(service: &Service) -> String {
    service.schema()
}

async fn a_service_that_migrates_nothing_starts_after_the_command(service: Service) {
    let refused = service.node_that_migrates_nothing().await.unwrap_err();
    contains(
        &refused.to_string(),
        &["sessions migrate", "cold.migrate = true"],
    );
    let told = service.run(&["migrate"]);
    contains(
        told.done(),
        &["applied", "2026-11-24-000000_tiered_sessions"],
    );
    let node = service.node_that_migrates_nothing().await.unwrap();
    node.login(Login::guest()).await.unwrap();
    contains(service.run(&["migrate"]).done(), &["nothing to do"]);
}

async fn the_printed_sql_makes_the_same_tables(service: Service) {
    let printed = service.run(&["migrate", "--print"]).done().to_owned();
    // Asked of no database, and for one that need not be there.
    let all = service.run(&["migrate", "--print", "--all"]);
    assert_eq!(all.done(), printed);
    service.sql(&printed);
    let by_hand = schema(&service);
    assert_eq!(service.run(&["migrate"]).done().trim(), nothing(&service));
    let node = service.node_that_migrates_nothing().await.unwrap();
    node.login(Login::guest()).await.unwrap();

    let other = service.another();
    other.run(&["migrate"]).done();
    assert_eq!(schema(&other), by_hand);
}

async fn tables_of_the_release_before_are_brought_up_to_date_by_the_printed_sql(service: Service) {
    let printed = service.run(&["migrate", "--print"]).done().to_owned();
    let (before, newest) = printed.split_once("\n-- 2026-11-30").unwrap();
    service.sql(&format!("{before}\nCOMMIT;"));
    let pending = service.run(&["migrate", "--print"]).done().to_owned();
    assert!(pending.ends_with(newest), "{pending}");
    assert!(!pending.contains("CREATE TABLE users"), "{pending}");
    service.sql(&pending);
    service.node_that_migrates_nothing().await.unwrap();
}

async fn nothing_is_printed_that_a_pipe_would_run_twice(service: Service) {
    service.run(&["migrate"]).done();
    let printed = service.run(&["migrate", "--print"]);
    let printed = printed.done();
    assert!(printed.starts_with("-- nothing to do"), "{printed}");
    service.sql(printed);
}

fn nothing(service: &Service) -> String {
    let url = service.url();
    let database = tier_cache::without_password(&url);
    format!("nothing to do: the tables in {database} are at the version of this release")
}

#[test]
fn a_namespace_is_a_schema_in_the_printed_sql() {
    let service = Service::on_postgres();
    let args = ["migrate", "--namespace", "shop"];
    let printed = service.run(&[&args[..], &["--print"]].concat());
    service.sql(printed.done());
    contains(service.run(&args).done(), &["nothing to do"]);
    contains(service.run(&["migrate"]).done(), &["applied"]);
}

#[test]
fn all_needs_no_database_but_its_kind() {
    let printed = told(
        command(&["migrate", "--print", "--all"])
            .env("SESSION_COLD__URL", "postgres://nobody@127.0.0.1:1/nothing"),
        "",
    );
    contains(printed.done(), &["CREATE TABLE users", "COMMIT;"]);
    let refused = told(
        command(&["migrate"]).env("SESSION_COLD__URL", "mysql://nobody@127.0.0.1/nothing"),
        "",
    );
    contains(refused.failed(1), &["cold.url must be postgres://"]);
}
