use std::collections::HashSet;

use session_core::{Fingerprints, SessionId, Token, TokenKeys, TokenKind, WrittenToken};

/// All texts that differ from a token in one character after its kind, and the token.
fn neighbours(token: &str) -> Vec<String> {
    let kind = token.find('_').unwrap() + 1;
    let others = |at: usize| {
        let mut bytes = token.as_bytes().to_vec();
        let own = bytes[at];
        (0..=u8::MAX).filter_map(move |byte| {
            bytes[at] = byte;
            (byte != own && byte.is_ascii()).then(|| String::from_utf8(bytes.clone()).unwrap())
        })
    };
    let mut all: Vec<String> = (kind..token.len()).flat_map(others).collect();
    all.push(token.to_owned());
    all
}

#[test]
fn each_character_of_a_token_counts() {
    let fingerprints = Fingerprints::random();
    let token = TokenKeys::random().mint(TokenKind::Access, SessionId::random());
    let texts = neighbours(&token.expose());
    let of = |text: &String| {
        fingerprints
            .of(WrittenToken::access(text).unwrap())
            .halves()
    };
    let known: HashSet<[u64; 2]> = texts.iter().map(of).collect();
    assert_eq!(texts.len(), 64 * 127 + 1);
    assert_eq!(known.len(), texts.len());
    // Each half knows half of the stem, and all of the rest.
    for half in 0..2 {
        let halves: HashSet<u64> = known.iter().map(|halves| halves[half]).collect();
        assert_eq!(halves.len(), (8 + 48) * 127 + 1);
    }
}

#[test]
fn what_stands_in_another_place_is_another_token() {
    let fingerprints = Fingerprints::random();
    let token = TokenKeys::random().mint(TokenKind::Access, SessionId::random());
    let text = token.expose().to_string();
    let known = fingerprints.of(WrittenToken::access(&text).unwrap());
    for (first, second) in (4..Token::LEN).flat_map(|a| (4..a).map(move |b| (a, b))) {
        let mut bytes = text.clone().into_bytes();
        bytes.swap(first, second);
        let same = bytes == text.as_bytes();
        let other = fingerprints.of(WrittenToken::access(&bytes).unwrap());
        assert_eq!(other == known, same, "{first} and {second}");
    }
}
