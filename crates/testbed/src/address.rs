use std::fmt::Write;

/// `text` as it may stand in any part of a URL.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("a String takes all that is written to it");
        }
    }
    encoded
}

/// As [`encode`], and fit for the part before the host, where a slash would end it.
pub(crate) fn encode_credential(text: &str) -> String {
    encode(text).replace('/', "%2F")
}
