use session_core::{ForeignToken, SecretKey, SessionId, Signed, TokenKeys, TokenKind};

#[test]
fn keys_of_two_namespaces_accept_find_and_open_nothing_of_each_others() {
    let root = SecretKey::random();
    let foreign = ForeignToken::new("https://idp.example", "jti").unwrap();
    let all = TokenKeys::new(&root);
    let (shop, blog) = (all.within("shop"), all.within("blog"));
    for (ours, theirs) in [(&shop, &blog), (&shop, &all), (&all, &blog)] {
        for kind in [TokenKind::Access, TokenKind::Refresh] {
            let token = ours.mint(kind, SessionId::random());
            assert!(ours.verify(&token) && !theirs.verify(&token));
            assert_ne!(ours.hash(&token), theirs.hash(&token));
            assert_ne!(
                ours.hash_foreign(kind, &foreign),
                theirs.hash_foreign(kind, &foreign)
            );
        }
        assert_ne!(ours.seal(&[b"a"], b"b"), theirs.seal(&[b"a"], b"b"));
    }
    // Every node of an application, and the same one tomorrow, has the same keys.
    let token = shop.mint(TokenKind::Access, SessionId::random());
    let again = TokenKeys::new(&root).within("shop");
    assert!(again.verify(&token));
    assert_eq!(again.hash(&token), shop.hash(&token));
}

#[test]
fn a_rotation_goes_on_within_a_namespace() {
    let (root, key) = (SecretKey::random(), SecretKey::random());
    let old = TokenKeys::new(&root);
    let token = old
        .within("shop")
        .mint(TokenKind::Access, SessionId::random());
    let announced = old.clone().announce(&key).within("shop");
    assert_eq!(announced.signed(&token), Some(Signed::Current));
    let rotated = old.rotate(&key).within("shop");
    assert_eq!(rotated.signed(&token), Some(Signed::Retired));
    let anew = rotated.resign(&token).unwrap();
    assert_eq!(announced.signed(&anew), Some(Signed::Announced));
}
