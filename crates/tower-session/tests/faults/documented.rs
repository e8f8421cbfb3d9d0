//! The documentation names each row.

/// The names of the tests in a file of this suite.
fn rows(source: &str) -> Vec<&str> {
    let tests = source.split("#[tokio::test").skip(1);
    tests
        .map(|test| {
            let (_, name) = test.split_once("async fn ").expect("a test is a function");
            name.split('(').next().expect("it has a name")
        })
        .collect()
}

#[test]
fn each_row_is_in_the_table_of_failures() {
    let table = include_str!("../../../../docs/failures.md");
    let files = [
        include_str!("redis.rs"),
        include_str!("database.rs"),
        include_str!("both.rs"),
        include_str!("node.rs"),
    ];
    let rows: Vec<&str> = files.iter().flat_map(|file| rows(file)).collect();
    assert!(rows.len() > 20, "{rows:?}");
    for row in rows {
        assert!(table.contains(&format!("`{row}`")), "{row} is not in it");
    }
}
