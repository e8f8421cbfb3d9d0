//! How hard a secret is to guess.

use std::collections::HashSet;

/// So many bits, estimated from above: a byte counts as one of those that stand in the secret's
/// alphabet, unless it goes on as bytes before it did.
pub(crate) fn bits(secret: &[u8]) -> f64 {
    /// For all bytes together that could be foretold.
    const FORETOLD: f64 = 8.0;
    /// For a letter of a word, roughly what Shannon found for English (1951).
    const OF_WORD: f64 = 1.5;
    let alphabet = alphabet(secret);
    let each = f64::from(alphabet).log2();
    let mut pairs = HashSet::new();
    let (mut bits, mut foretold) = (0.0, 0.0_f64);
    for (at, byte) in secret.iter().enumerate() {
        let is_new = at == 0 || pairs.insert((secret[at - 1], *byte));
        match is_new && !in_row(secret, at) {
            false => foretold += 0.5,
            true if alphabet != HEXADECIMAL && in_word(secret, at) => bits += OF_WORD.min(each),
            true => bits += each,
        }
    }
    bits + foretold.min(FORETOLD)
}

/// Whether a byte follows two before it as the second of these follows the first: `abc`, `321`, `xxx`.
fn in_row(secret: &[u8], at: usize) -> bool {
    let step = |at: usize| i16::from(secret[at]) - i16::from(secret[at - 1]);
    at >= 2 && step(at) == step(at - 1) && step(at).abs() <= 1
}

const HEXADECIMAL: u32 = 16;

/// How many bytes could stand at each place, going by the kinds of those that do.
fn alphabet(secret: &[u8]) -> u32 {
    let any = |is: fn(&u8) -> bool| secret.iter().any(is);
    if any(|byte| !byte.is_ascii_graphic() && *byte != b' ') {
        return 256;
    }
    let hexadecimal = secret.iter().all(u8::is_ascii_hexdigit);
    let mixed = any(u8::is_ascii_uppercase) && any(u8::is_ascii_lowercase);
    if hexadecimal && !mixed && any(u8::is_ascii_digit) && any(u8::is_ascii_alphabetic) {
        return HEXADECIMAL;
    }
    let some = |is: fn(&u8) -> bool, count: u32| if any(is) { count } else { 0 };
    some(u8::is_ascii_lowercase, 26)
        + some(u8::is_ascii_uppercase, 26)
        + some(u8::is_ascii_digit, 10)
        + some(|byte| !byte.is_ascii_alphanumeric(), 2)
}

/// Whether a letter stands among at least three of the same case, or a sign between such.
fn in_word(secret: &[u8], at: usize) -> bool {
    const SHORTEST: usize = 3;
    let case: fn(&u8) -> bool = match secret[at] {
        byte if byte.is_ascii_lowercase() => u8::is_ascii_lowercase,
        byte if byte.is_ascii_uppercase() => u8::is_ascii_uppercase,
        // Between words.
        b' ' | b'-' | b'_' | b'.' | b',' => return true,
        _ => return false,
    };
    let start = secret[..at]
        .iter()
        .rposition(|byte| !case(byte))
        .map_or(0, |before| before + 1);
    let end = secret[at..]
        .iter()
        .position(|byte| !case(byte))
        .map_or(secret.len(), |after| at + after);
    end - start >= SHORTEST
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SecretKey;

    fn is_weak(secret: impl AsRef<[u8]>) -> bool {
        SecretKey::new(secret.as_ref()).unwrap().is_weak()
    }

    #[test]
    fn no_random_key_is_taken_for_a_weak_one() {
        for _ in 0..5000 {
            let key = SecretKey::random();
            let bytes = key.exposed();
            let hexadecimal: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let mut base64 = [0; 43];
            base64::Engine::encode_slice(
                &base64::engine::general_purpose::URL_SAFE_NO_PAD,
                bytes,
                &mut base64,
            )
            .unwrap();
            for secret in [
                bytes,
                hexadecimal.as_bytes(),
                &hexadecimal.as_bytes()[..32],
                &base64[..],
            ] {
                assert!(
                    !is_weak(secret),
                    "{:?}: {}",
                    String::from_utf8_lossy(secret),
                    bits(secret)
                );
            }
        }
    }

    #[test]
    fn repetitions_rows_and_words_are_weak() {
        for secret in [
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa".to_owned(),
            "00000000000000000000000000000000".to_owned(),
            "x".repeat(1000),
            "abcabcabcabcabcabcabcabcabcabcabc".to_owned(),
            "abcdefghijklmnopqrstuvwxyz0123456789".to_owned(),
            "0123456789abcdef0123456789abcdef".to_owned(),
            "secret-secret-secret-secret-secret-1".to_owned(),
            "changeme-changeme-changeme-changeme".to_owned(),
            "please change this secret key in production".to_owned(),
            "the quick brown fox jumps over the lazy dog".to_owned(),
            "passwordpasswordpasswordpassword".to_owned(),
            "my-secret-session-key-for-production".to_owned(),
        ] {
            assert!(is_weak(&secret), "{secret}: {}", bits(secret.as_bytes()));
        }
        assert!(is_weak([0; 32]) && is_weak([7; 64]));
    }
}
