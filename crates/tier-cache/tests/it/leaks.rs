//! What leaks is not enough to forge a token: each leak is played, on each tier.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use session_core::{SecretKey, SessionId, Token, TokenKeys, TokenKind};
use tier_cache::{Error, Issued, Refusal, Tier, Tiers};

use crate::support::{Basket, Cold, Service};

const MAC_KEY: &[u8] = b"what an attacker knows in some of these tests";

fn mac_key() -> SecretKey {
    SecretKey::new(MAC_KEY).unwrap()
}

/// A service with a session, whose MAC key is not its root secret.
struct Victim {
    service: Service,
    issued: Issued<Basket>,
    /// Where the session was made, and is hot.
    home: Tiers<Basket>,
}

impl Victim {
    async fn new() -> Self {
        let service = Service::new(Cold::sqlite());
        let keys = service.keys().rotate(&mac_key());
        let home = Tiers::open(service.quiet(), keys).await.unwrap();
        let issued = home.login(tier_cache::Login::guest()).await.unwrap();
        Self {
            service,
            issued,
            home,
        }
    }

    fn keys(&self) -> &TokenKeys {
        self.home.keys()
    }

    /// A node where the session is in this tier and in none above it.
    async fn node(&self, tier: Tier) -> Tiers<Basket> {
        let mut config = self.service.quiet();
        match tier {
            Tier::Hot => return self.home.clone(),
            Tier::Warm => {}
            Tier::Cold => config.warm.url = None,
        }
        Tiers::open(config, self.keys().clone()).await.unwrap()
    }

    /// Tries the forged tokens on nodes of each tier, beside the true one.
    async fn refuses(&self, forged: &[Token], with: &Refusal) {
        for tier in [Tier::Hot, Tier::Warm, Tier::Cold] {
            for token in forged {
                let node = self.node(tier).await;
                let refusal = match token.kind() {
                    TokenKind::Access => node.find(token.clone()).await.unwrap_err(),
                    TokenKind::Refresh => match node.refresh(token).await.unwrap_err() {
                        Error::Refused(refusal) => refusal,
                        error => panic!("{error}"),
                    },
                };
                assert_eq!(refusal.to_string(), with.to_string(), "{tier}: {token:?}");
            }
            let node = self.node(tier).await;
            let found = node.find(self.issued.access.clone()).await.unwrap();
            assert_eq!(found.tier(), tier);
        }
    }

    /// All that the session's row holds in place of its tokens.
    fn leaked_row(&self) -> Leak {
        let row = self
            .service
            .cold
            .sql("SELECT id, lower(hex(access_jti)), lower(hex(refresh_token_hash)) FROM sessions");
        let columns: Vec<_> = row.trim().split('|').collect();
        let [id, access, refresh] = columns[..] else {
            panic!("{row}");
        };
        let bytes = |hex: &str| {
            let number = u128::from_str_radix(hex, 16).unwrap();
            number.to_be_bytes()
        };
        Leak {
            id: id.parse().unwrap(),
            hashes: [bytes(access), bytes(refresh)],
        }
    }
}

struct Leak {
    id: SessionId,
    hashes: [[u8; 16]; 2],
}

impl Leak {
    /// Tokens with what leaked in the place of secret and MAC.
    fn tokens(&self) -> Vec<Token> {
        let parts = [self.hashes[0], self.hashes[1], *self.id.as_bytes(), [0; 16]];
        let mut tokens = Vec::new();
        for prefix in ["sa1_", "sr1_"] {
            for secret in parts {
                for mac in parts {
                    let bytes = [*self.id.as_bytes(), secret, mac].concat();
                    let text = [prefix, &URL_SAFE_NO_PAD.encode(bytes)].concat();
                    tokens.push(Token::parse(&text).unwrap());
                }
            }
        }
        tokens
    }
}

const KINDS: [TokenKind; 2] = [TokenKind::Access, TokenKind::Refresh];

#[tokio::test(flavor = "multi_thread")]
async fn a_leaked_database_is_not_enough() {
    let victim = Victim::new().await;
    let leak = victim.leaked_row();
    assert_eq!(leak.id, victim.issued.session.id());
    let stored = victim.keys().hash(&victim.issued.access);
    assert_eq!(leak.hashes[0], *stored.as_bytes(), "the leak is a leak");

    let mut forged = leak.tokens();
    // Keys made of what leaked, and any others.
    let guessed = SecretKey::new(leak.hashes.concat()).unwrap();
    for keys in [TokenKeys::new(&guessed), TokenKeys::random()] {
        forged.extend(KINDS.map(|kind| keys.mint(kind, leak.id)));
    }
    victim.refuses(&forged, &Refusal::Forged).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaked_mac_key_is_not_enough() {
    let victim = Victim::new().await;
    let attacker = TokenKeys::with_mac_key(&SecretKey::random(), &mac_key());
    let id = victim.issued.session.id();
    let forged = attacker.mint(TokenKind::Access, id);
    assert!(victim.keys().verify(&forged));
    victim.refuses(&[forged], &Refusal::Replaced).await;
    // One that looks like a refresh token used twice would end the session.
    let forged = attacker.mint(TokenKind::Refresh, id);
    victim.refuses(&[forged], &Refusal::Forged).await;

    // Nor does it make sessions that are not there.
    let nobody = attacker.mint(TokenKind::Access, SessionId::random());
    victim.refuses(&[nobody], &Refusal::Unknown).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaked_database_and_a_leaked_mac_key_are_not_enough_together() {
    let victim = Victim::new().await;
    let leak = victim.leaked_row();
    for secret in leak.hashes {
        for (tag, prefix, refusal) in [
            (1, "sa1_", Refusal::Replaced),
            // The root signs these, too.
            (2, "sr1_", Refusal::Forged),
        ] {
            // As tokens are signed; that is no secret.
            let key = blake3::derive_key("session-core v1 token mac", MAC_KEY);
            let signed = [&[tag], &leak.id.as_bytes()[..], &secret].concat();
            let mac = blake3::keyed_hash(&key, &signed);
            let bytes = [&signed[1..], &mac.as_bytes()[..16]].concat();
            let text = [prefix, &URL_SAFE_NO_PAD.encode(bytes)].concat();
            let forged = Token::parse(&text).unwrap();
            assert_eq!(victim.keys().verify(&forged), tag == 1);
            victim.refuses(&[forged], &refusal).await;
        }
    }
}
