//! The domain's tests.

mod codec;
mod namespace;
mod ring;
mod token;

use session_core::Timestamp;

#[test]
fn timestamps_are_written_as_rfc_3339() {
    let time = Timestamp::from_unix_millis(1_700_000_000_123);
    assert_eq!(time.to_string(), "2023-11-14T22:13:20.123Z");
    assert_eq!(
        serde_json::to_string(&time).unwrap(),
        "\"2023-11-14T22:13:20.123Z\""
    );
}
