use session_core::{ForeignToken, SecretKey, SessionId, Token, TokenKeys, TokenKind};

#[test]
fn a_token_survives_being_written_and_read() {
    let keys = TokenKeys::random();
    for kind in [TokenKind::Access, TokenKind::Refresh] {
        let token = keys.mint(kind, SessionId::random());
        let text = token.expose();
        assert_eq!(text.len(), Token::LEN);
        let read = Token::parse(&text).unwrap();
        assert_eq!((read.kind(), read.id()), (kind, token.id()));
        assert!(keys.verify(&read));
        assert_eq!(keys.hash(&read), keys.hash(&token));
    }
}

#[test]
fn an_access_token_does_not_pass_as_a_refresh_token() {
    let keys = TokenKeys::random();
    let text = keys.mint(TokenKind::Access, SessionId::random()).expose();
    let renamed = text.replacen("sa1_", "sr1_", 1);
    assert!(!keys.verify(&Token::parse(&renamed).unwrap()));
}

#[test]
fn debug_shows_no_secret() {
    let keys = TokenKeys::random();
    let token = keys.mint(TokenKind::Access, SessionId::random());
    let secret = &token.expose()[30..];
    let shown = format!("{token:?} {keys:?} {:?}", keys.hash(&token));
    assert!(!shown.contains(&secret[..8]), "{shown}");
    assert!(shown.contains(&token.id().to_string()));
}

#[test]
fn a_foreign_key_is_told_from_a_minted_one() {
    let keys = TokenKeys::random();
    let token = keys.mint(TokenKind::Access, SessionId::random());
    assert!(!keys.hash(&token).is_foreign());
    let foreign = ForeignToken::new("https://idp.example", "jti-1").unwrap();
    let jti = keys.hash_foreign(TokenKind::Access, &foreign);
    assert!(jti.is_foreign());
    assert_ne!(jti, keys.hash_foreign(TokenKind::Refresh, &foreign));
}

#[test]
fn a_short_key_is_refused_with_what_is_needed() {
    let error = SecretKey::new("short").unwrap_err().to_string();
    assert!(
        error.contains("5 bytes") && error.contains("at least 32"),
        "{error}"
    );
}
