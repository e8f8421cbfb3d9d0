use std::panic::AssertUnwindSafe;

use testbed::SqliteFile;

use crate::panic_of;

#[test]
fn a_file_keeps_what_is_written_and_goes_with_its_value() {
    let file = SqliteFile::create();
    file.sql("PRAGMA journal_mode = WAL; CREATE TABLE t (a, b); INSERT INTO t VALUES (1, 'x');");
    assert_eq!(file.sql("SELECT a, b FROM t; SELECT 2;"), "1|x\n2");
    assert_eq!(file.url(), format!("sqlite://{}", file.path().display()));

    let path = file.path().to_owned();
    drop(file);
    assert!(!path.exists() && !path.parent().unwrap().exists());
}

#[test]
fn a_wrong_statement_fails_the_test() {
    let file = SqliteFile::create();
    let message = panic_of(AssertUnwindSafe(|| drop(file.sql("SELECT * FROM nowhere"))));
    assert!(message.contains("no such table: nowhere"), "{message}");
}
