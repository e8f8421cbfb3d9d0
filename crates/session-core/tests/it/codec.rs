//! What is true of every token and of every text.

use proptest::prelude::*;
use session_core::{SecretKey, SessionId, Token, TokenKeys, TokenKind};

/// The characters of a written token; and some that look like them in other encodings.
const CHARACTERS: &str = "[A-Za-z0-9_+/=. \u{0}\u{e9}-]";

fn keys() -> TokenKeys {
    TokenKeys::new(&SecretKey::new([7; 32]).unwrap())
}

fn kinds() -> impl Strategy<Value = TokenKind> {
    prop_oneof![Just(TokenKind::Access), Just(TokenKind::Refresh)]
}

prop_compose! {
    fn tokens()(kind in kinds(), id in any::<[u8; 16]>()) -> Token {
        keys().mint(kind, SessionId::from_bytes(id))
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(token in tokens()) {
        let text = token.expose();
        prop_assert_eq!(text.len(), Token::LEN);
        prop_assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'));
        let read = Token::parse(&text).unwrap();
        prop_assert_eq!((read.kind(), read.id()), (token.kind(), token.id()));
        prop_assert_eq!(read.expose(), text);
        prop_assert_eq!(keys().hash(&read), keys().hash(&token));
        prop_assert!(keys().verify(&read));
    }

    #[test]
    fn every_changed_character_is_noticed_with_no_io(
        token in tokens(),
        at in 0..Token::LEN,
        to in CHARACTERS,
    ) {
        let mut text = token.expose().to_string();
        prop_assume!(text[at..=at] != to);
        text.replace_range(at..=at, &to);
        let accepted = Token::parse(&text).is_ok_and(|token| keys().verify(&token));
        prop_assert!(!accepted, "character {} may be changed", at);
    }

    #[test]
    fn every_character_more_or_less_is_noticed(
        token in tokens(),
        at in 0..Token::LEN,
        before in 0..=Token::LEN,
        more in CHARACTERS,
    ) {
        let text = token.expose().to_string();
        let mut longer = text.clone();
        longer.insert_str(before, &more);
        prop_assert!(Token::parse(&longer).is_err());
        let mut shorter = text;
        shorter.remove(at);
        prop_assert!(Token::parse(&shorter).is_err());
    }

    #[test]
    fn parsing_never_panics(text in any::<String>(), near in "s[ar]1_\\PC{0,80}") {
        let _ = Token::parse(&text);
        let _ = Token::parse(&near);
    }

    /// So no two texts are the same token.
    #[test]
    fn what_parses_is_what_would_be_written(body in "[A-Za-z0-9_-]{64}") {
        for prefix in ["sa1_", "sr1_"] {
            let text = [prefix, &body].concat();
            let token = Token::parse(&text).unwrap();
            let written = token.expose();
            prop_assert_eq!(written.as_str(), &text);
        }
    }
}
