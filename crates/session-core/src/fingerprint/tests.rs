use std::collections::HashSet;

use super::*;
use crate::{TokenKeys, TokenKind};

/// By each method, whichever is this machine's.
fn all() -> [Fingerprints; 2] {
    [Method::pmac(), Method::blake3()].map(Fingerprints)
}

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
    let token = TokenKeys::random().mint(TokenKind::Access, SessionId::random());
    let texts = neighbours(&token.expose());
    assert_eq!(texts.len(), 64 * 127 + 1);
    for fingerprints in all() {
        let of = |text: &String| {
            let text = WrittenToken::access(text).unwrap();
            fingerprints.of(text).halves()
        };
        let known: HashSet<[u64; 2]> = texts.iter().map(of).collect();
        assert_eq!(known.len(), texts.len());
        // Each half knows half of the stem, and all of the rest.
        for half in 0..2 {
            let halves: HashSet<u64> = known.iter().map(|halves| halves[half]).collect();
            assert_eq!(halves.len(), (8 + 48) * 127 + 1);
        }
    }
}

#[test]
fn blocks_that_change_places_make_another_token() {
    let blocks = ["a", "b", "c"].map(|block| block.repeat(16));
    let mut texts = HashSet::new();
    for first in &blocks {
        for second in &blocks {
            for third in &blocks {
                texts.insert(format!("sa1_0123456789abcdef{first}{second}{third}"));
            }
        }
    }
    for fingerprints in all() {
        let of = |text| fingerprints.of(WrittenToken::access(text).unwrap());
        let known: HashSet<[u64; 2]> = texts.iter().map(|text| of(text).halves()).collect();
        assert_eq!(known.len(), 27);
    }
}

#[test]
fn characters_that_change_places_make_another_token() {
    let token = TokenKeys::random().mint(TokenKind::Access, SessionId::random());
    let text = token.expose().to_string();
    for fingerprints in all() {
        let known = fingerprints.of(WrittenToken::access(&text).unwrap());
        for (first, second) in (4..Token::LEN).flat_map(|a| (4..a).map(move |b| (a, b))) {
            let mut bytes = text.clone().into_bytes();
            bytes.swap(first, second);
            let same = bytes == text.as_bytes();
            let other = fingerprints.of(WrittenToken::access(&bytes).unwrap());
            assert_eq!(other == known, same, "{first} and {second}");
        }
    }
}

/// By its definition, a block after the other.
#[test]
fn it_is_the_mac_of_its_blocks() {
    let Method::Pmac(pmac) = Method::pmac() else {
        unreachable!("it is one");
    };
    let blocks: Blocks = [
        *b"the first block.",
        *b"and another one.",
        *b"the last of them",
    ];
    let encrypt = |block: u128| {
        let mut block = Block::from(block.to_le_bytes());
        pmac.cipher.encrypt_block(&mut block);
        u128::from_le_bytes(block.into())
    };
    let [first, second, last] = blocks.map(u128::from_le_bytes);
    let [one, two, three] = *pmac.offsets;
    let sum = encrypt(first ^ one) ^ encrypt(second ^ two) ^ last ^ three;
    assert_eq!(pmac.of(&blocks), encrypt(sum));
}
