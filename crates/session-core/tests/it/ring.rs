use session_core::{SecretKey, SessionId, Signed, Token, TokenKeys, TokenKind};

fn mint(keys: &TokenKeys) -> Token {
    keys.mint(TokenKind::Access, SessionId::random())
}

#[test]
fn a_rotated_key_signs_and_the_old_ones_are_still_accepted() {
    let (old, new) = (SecretKey::random(), SecretKey::random());
    let before = TokenKeys::new(&old);
    let after = TokenKeys::new(&old).rotate(&new);
    let (early, late) = (mint(&before), mint(&after));
    assert!(after.verify(&early) && after.verify(&late));
    assert!(!before.verify(&late));
    assert_eq!(before.hash(&early), after.hash(&early));
}

#[test]
fn a_token_under_a_retired_key_is_signed_anew_and_its_hash_stays() {
    let (root, key) = (SecretKey::random(), SecretKey::random());
    let old = TokenKeys::new(&root);
    let keys = old.clone().rotate(&key);
    for kind in [TokenKind::Access, TokenKind::Refresh] {
        let token = old.mint(kind, SessionId::random());
        assert_eq!(keys.signed(&token), Some(Signed::Retired));
        let anew = keys.resign(&token).unwrap();
        assert_eq!(keys.signed(&anew), Some(Signed::Current));
        assert_eq!((anew.kind(), anew.id()), (kind, token.id()));
        assert_eq!(keys.hash(&anew), old.hash(&token));
        assert!(keys.resign(&anew).is_none());
    }
}

#[test]
fn only_what_a_retired_key_signed_is_signed_anew() {
    let keys = TokenKeys::random();
    assert!(keys.resign(&mint(&keys)).is_none());
    let forged = mint(&TokenKeys::random());
    assert!(keys.resign(&forged).is_none());
    let rotated = keys.rotate(&SecretKey::random());
    assert!(rotated.resign(&forged).is_none());
    assert_eq!(rotated.signed(&forged), None);
}

#[test]
fn while_nodes_rotate_one_after_the_other_none_refuses_what_another_signed() {
    let (root, key) = (SecretKey::random(), SecretKey::random());
    let steps = [
        TokenKeys::new(&root),
        TokenKeys::new(&root).announce(&key),
        TokenKeys::new(&root).rotate(&key),
        TokenKeys::with_mac_key(&root, &key),
    ];
    // Between any two steps, nodes of both are there.
    for [one, other] in [[0, 1], [1, 2]] {
        let (one, other) = (&steps[one], &steps[other]);
        assert!(one.verify(&mint(other)) && other.verify(&mint(one)));
    }
    // What was signed anew is not signed back: a cookie does not change with each request.
    let late = mint(&steps[2]);
    assert_eq!(steps[1].signed(&late), Some(Signed::Announced));
    assert!(steps[1].resign(&late).is_none());
    // At the end the root signs nothing.
    assert!(steps[3].verify(&late) && !steps[3].verify(&mint(&steps[0])));
    assert!(steps[2].verify(&mint(&steps[3])));
}

#[test]
fn several_keys_may_be_retired_and_announced_at_once() {
    let keys: Vec<_> = (0..5).map(|_| SecretKey::random()).collect();
    let ring = TokenKeys::with_mac_key(&keys[0], &keys[0])
        .rotate(&keys[1])
        .rotate(&keys[2])
        .announce(&keys[3])
        .announce(&keys[4]);
    let signed = keys.iter().map(|key| {
        let token = mint(&TokenKeys::with_mac_key(&keys[0], key));
        ring.signed(&token)
    });
    let expected = [
        Signed::Retired,
        Signed::Retired,
        Signed::Current,
        Signed::Announced,
        Signed::Announced,
    ];
    assert!(signed.eq(expected.map(Some)));
    assert_eq!(ring.signed(&mint(&ring)), Some(Signed::Current));
}

#[test]
fn a_key_that_was_announced_here_may_be_rotated_to_here() {
    let key = SecretKey::random();
    let keys = TokenKeys::random().announce(&key).rotate(&key);
    let token = mint(&keys);
    assert_eq!(keys.signed(&token), Some(Signed::Current));
    assert!(keys.resign(&token).is_none());
}
