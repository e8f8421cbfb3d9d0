use http::StatusCode;
use tower::{Layer, service_fn};
use tower_session::{SessionCookie, SessionId, SessionLayer, TokenKeys, TokenKind};

use crate::support::{Bed, Seen, inner, request_of_bytes, seen};

type Headers = Vec<(&'static str, Vec<u8>)>;

#[tokio::test]
async fn whatever_is_no_token_of_ours_is_a_401_and_causes_no_io() {
    let bed = Bed::new().await;
    let issued = bed.guest().await;
    let layer = SessionLayer::new(bed.restarted().await).required();
    let mut service = layer.layer(service_fn(inner));
    let valid = issued.access.expose().to_string();

    let pair = |value: &[u8]| [SessionCookie::NAME.as_bytes(), b"=", value].concat();
    let cookie = |value: &[u8]| vec![("cookie", pair(value))];
    let bearer = |value: &[u8]| vec![("authorization", [b"Bearer ", value].concat())];
    let forged = TokenKeys::random().mint(TokenKind::Access, issued.session.id());
    let unknown = TokenKeys::random().mint(TokenKind::Access, SessionId::random());
    let mut bad: Vec<Headers> = Vec::new();
    for value in [
        &b""[..],
        b"\xff\xfe\xfd",
        b"null",
        b"sa1_",
        &valid.as_bytes()[..valid.len() - 1],
        format!("{valid}x").as_bytes(),
        format!("{valid}\u{0}").replace('\0', "%00").as_bytes(),
        valid.to_uppercase().as_bytes(),
        valid.replacen("sa1_", "sr1_", 1).as_bytes(),
        issued.refresh.expose().as_bytes(),
        forged.expose().as_bytes(),
        unknown.expose().as_bytes(),
        "A".repeat(100_000).as_bytes(),
        "☃".repeat(17).as_bytes(),
    ] {
        bad.push(cookie(value));
        bad.push(bearer(value));
    }
    // Which of two is the client's own?
    let other = bed.guest().await.access.expose().to_string();
    for other in [other.as_str(), "", "x"] {
        let two = [pair(valid.as_bytes()), pair(other.as_bytes())];
        bad.push(vec![("cookie", two.join(&b"; "[..]))]);
        bad.push(two.into_iter().map(|pair| ("cookie", pair)).collect());
    }
    let twice = [bearer(valid.as_bytes()), bearer(valid.as_bytes())];
    bad.push(twice.concat());
    bad.push(vec![("authorization", b"Bearer".to_vec())]);
    bad.push(vec![("cookie", b";;;=;a;\xff=\xff".to_vec())]);
    bad.push(vec![("authorization", b"Basic YTpi".to_vec())]);
    bad.push(vec![(
        "authorization",
        b"\xff\xff\xff\xff\xff\xff\xff".to_vec(),
    )]);
    bad.push(vec![(
        "authorization",
        format!("Bearer{valid}").into_bytes(),
    )]);

    let before = bed.store.calls();
    for headers in bad {
        let shown: Vec<_> = headers
            .iter()
            .map(|(name, value)| (*name, &value[..]))
            .collect();
        let answered = seen(&mut service, request_of_bytes(&shown)).await;
        let expected = Seen::Answered(StatusCode::UNAUTHORIZED);
        let text = String::from_utf8_lossy(shown[0].1);
        assert_eq!(answered, expected, "{}: {:.80}", shown[0].0, text);
    }
    assert_eq!(bed.store.calls(), before);
}

#[tokio::test]
async fn a_good_token_is_found_among_strange_company() {
    let bed = Bed::new().await;
    let issued = bed.guest().await;
    let mut service = SessionLayer::new(bed.tiers.clone()).layer(service_fn(inner));
    let valid = issued.access.expose().to_string();
    let name = SessionCookie::NAME;
    let good: [Headers; 9] = [
        vec![("cookie", format!("a=b; {name}={valid}; c=d").into_bytes())],
        vec![("cookie", format!("{name}=\"{valid}\"").into_bytes())],
        vec![("cookie", format!("; ;;{name} = {valid} ;").into_bytes())],
        vec![(
            "cookie",
            [b"x=\xff; ", format!("{name}={valid}").as_bytes()].concat(),
        )],
        vec![
            ("cookie", b"a=b".to_vec()),
            ("cookie", format!("{name}={valid}").into_bytes()),
        ],
        vec![("authorization", format!("bEARER   {valid} ").into_bytes())],
        // Twice the same says nothing else.
        vec![(
            "cookie",
            format!("{name}={valid}; a=b; {name}=\"{valid}\"").into_bytes(),
        )],
        vec![("cookie", format!("{name}={valid}").into_bytes()); 3],
        // Another scheme is somebody else's; the cookie is ours.
        vec![
            ("authorization", b"Basic YTpi".to_vec()),
            ("cookie", format!("{name}={valid}").into_bytes()),
        ],
    ];
    for headers in good {
        let shown: Vec<_> = headers
            .iter()
            .map(|(name, value)| (*name, &value[..]))
            .collect();
        let found = seen(&mut service, request_of_bytes(&shown)).await;
        assert!(matches!(found, Seen::Session(..)), "{found:?}: {shown:?}");
    }
}

#[tokio::test]
async fn unknown_and_expired_sessions_are_a_401() {
    let bed = Bed::new().await;
    let layer = SessionLayer::new(bed.tiers.clone()).required();
    let mut service = layer.layer(service_fn(inner));
    let expected = Seen::Answered(StatusCode::UNAUTHORIZED);

    let unknown = bed.keys.mint(TokenKind::Access, SessionId::random());
    assert_eq!(
        seen(&mut service, crate::support::cookie(&unknown)).await,
        expected
    );

    let login = tower_session::Login::guest().ttl(std::time::Duration::from_millis(1));
    match bed.tiers.login(login).await {
        Ok(expired) => loop {
            // It is over in a moment.
            if seen(&mut service, crate::support::cookie(&expired.access)).await == expected {
                break;
            }
        },
        Err(error) => assert!(error.to_string().contains("expired"), "{error}"),
    }
}
