//! Where the time of a hit goes: the whole, and what each of its parts takes alone.

use std::hint::black_box;
use std::sync::{Arc, Weak};
use std::time::Duration;

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue, Request};
use parking_lot::Mutex;
use session_core::{Fingerprints, Token, WrittenToken};
use tokio::runtime::Runtime;
use tower::util::MapRequest;
use tower::{Layer as _, service_fn};
use tower_session::{SessionLayer, TierConfig, Tiers};

use super::recipe::{bare, one_after_another, with_ours};
use super::{ROUNDS, SESSIONS, SLICE};
use crate::Failure;
use crate::chapter::Effort;
use crate::measure::{Measured, Run, measure as in_turn};
use crate::report::{Section, Table};
use crate::sessions::{Basket, Sessions, cookie};
use crate::spread::Spread;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// A service that finds no session.
    Bare,
    /// The same with the layer.
    Whole,
    /// A value put into the request's extensions.
    Extensions,
    /// A session found by its token.
    Tiers,
    Fingerprint,
    Slot,
    Clock,
    Moka,
    Cookie,
    References,
}

const PARTS: [Part; 10] = [
    Part::Bare,
    Part::Whole,
    Part::Extensions,
    Part::Tiers,
    Part::Fingerprint,
    Part::Slot,
    Part::Clock,
    Part::Moka,
    Part::Cookie,
    Part::References,
];

pub(super) fn measure(runtime: &Runtime, effort: Effort) -> Result<Section, Failure> {
    /// Of so many hits moka is told of one.
    const TOLD: f64 = 16.0;

    let shown = runtime.block_on(Shown::new())?;
    let mut runs = PARTS.map(|part| shown.run(part));
    let (rounds, slice) = (effort.of(ROUNDS, 3), effort.slice(SLICE));
    let measured = in_turn(&mut runs, rounds, slice);
    let of = |part: Part| -> &Measured { &measured[part as usize] };
    let over_bare = |part: Part| of(part).over(of(Part::Bare));

    let whole = over_bare(Part::Whole);
    let extensions = over_bare(Part::Extensions);
    let [tiers, fingerprint, slot, clock, cookie, references] = [
        Part::Tiers,
        Part::Fingerprint,
        Part::Slot,
        Part::Clock,
        Part::Cookie,
        Part::References,
    ]
    .map(|part| of(part).nanos.clone());
    let moka: Vec<f64> = of(Part::Moka).nanos.iter().map(|it| it / TOLD).collect();
    let of_tiers = left(&tiers, [&fingerprint, &slot, &clock, &moka]);
    let of_layer = left(&whole, [&extensions, &tiers, &cookie, &references]);

    let mut table = Table::new(["", "ns", "of the whole"]);
    let mut row = |name: &str, nanos: &[f64]| {
        let share = Spread::ratio(nanos, &whole).shown(2, "");
        let nanos = Spread::of(nanos.iter().copied());
        table.row([name.to_owned(), nanos.to_string(), share]);
    };
    row("**a hit**, over the bare service", &whole);
    row("the extensions take a value of 24 bytes", &extensions);
    row("the cookie is found in its header", &cookie);
    row("two references to what requests share", &references);
    row("the rest of the layer", &of_layer);
    row("**the tiers** find the session", &tiers);
    row("— the fingerprint of the token", &fingerprint);
    row("— a lock, and a reference to one of 1,000 out of it", &slot);
    row("— the clock", &clock);
    row("— one get of moka in sixteen hits", &moka);
    row("— the rest of the tiers", &of_tiers);
    Ok(Section::default().table("hot-layers", table))
}

/// What is left of the whole, round by round.
fn left<const N: usize>(whole: &[f64], parts: [&Vec<f64>; N]) -> Vec<f64> {
    let left =
        |(round, whole): (usize, &f64)| parts.iter().fold(*whole, |left, part| left - part[round]);
    whole.iter().enumerate().map(left).collect()
}

/// Sessions that are hot, and how a request shows each.
struct Shown {
    tiers: Tiers<Basket>,
    tokens: Vec<String>,
    cookies: Arc<[String]>,
}

impl Shown {
    async fn new() -> Result<Self, Failure> {
        let (sessions, mut tokens) = Sessions::with_tokens(SESSIONS);
        let mut config = TierConfig::default();
        config.hot.ttl = Duration::from_secs(12 * 60 * 60);
        let tiers = sessions.cached(config).await?;
        fastrand::shuffle(&mut tokens);
        Ok(Self {
            tiers,
            cookies: tokens.iter().map(cookie).collect(),
            tokens: tokens.iter().map(|it| it.expose().to_string()).collect(),
        })
    }

    fn run(&self, part: Part) -> Run {
        let cookies = || Arc::clone(&self.cookies);
        match part {
            Part::Bare => one_after_another(service_fn(bare), cookies(), || ()),
            Part::Whole => {
                let layer = SessionLayer::new(self.tiers.clone());
                one_after_another(layer.layer(service_fn(with_ours)), cookies(), || ())
            }
            Part::Extensions => {
                let put = |mut request: Request<()>| {
                    request.extensions_mut().insert(black_box([1_u64; 3]));
                    request
                };
                one_after_another(MapRequest::new(service_fn(bare), put), cookies(), || ())
            }
            Part::Tiers => {
                let tiers = self.tiers.clone();
                for token in &self.tokens {
                    let token = Token::parse(token).expect("it is one");
                    drop(tiers.try_hot(&token.into()));
                }
                each(self.tokens.clone(), move |token| {
                    let token = WrittenToken::access(token.as_str()).expect("it is one");
                    black_box(tiers.try_known(token).expect("it is hot"));
                })
            }
            Part::Fingerprint => {
                let fingerprints = Fingerprints::random();
                each(self.tokens.clone(), move |token| {
                    let token = WrittenToken::access(token.as_str()).expect("it is one");
                    black_box(fingerprints.of(token));
                })
            }
            Part::Slot => {
                let slots: Vec<_> = (0..SESSIONS).map(|_| Slot::new()).collect();
                each(slots, |slot| drop(black_box(slot.reference())))
            }
            Part::Clock => {
                let tiers = self.tiers.clone();
                Box::new(move || {
                    black_box(tiers.now());
                })
            }
            Part::Moka => super::curve::moka(SESSIONS),
            Part::Cookie => {
                let headers = self.cookies.iter().map(|cookie| {
                    let value = HeaderValue::from_str(cookie).expect("it is one");
                    HeaderMap::from_iter([(COOKIE, value)])
                });
                each(headers.collect(), |headers| {
                    let values = headers.get_all(COOKIE).iter();
                    let pairs =
                        values.flat_map(|value| value.as_bytes().split(|&byte| byte == b';'));
                    black_box(
                        pairs
                            .filter(|pair| pair.starts_with(b"__Host-session="))
                            .count(),
                    );
                })
            }
            Part::References => {
                let shared = [Arc::new(1_u64), Arc::new(2)];
                Box::new(move || drop(black_box(shared.clone())))
            }
        }
    }
}

/// The same with one after another.
fn each<T: Send + 'static>(all: Vec<T>, mut with: impl FnMut(&T) + Send + 'static) -> Run {
    let mut next = 0;
    Box::new(move || {
        next = (next + 1) % all.len();
        with(&all[next]);
    })
}

/// The least that a place needs which others may change meanwhile.
struct Slot {
    place: Mutex<Weak<Value>>,
    _held: Arc<Value>,
}

type Value = [u64; 50];

impl Slot {
    fn new() -> Self {
        let held = Arc::new([1; 50]);
        Self {
            place: Mutex::new(Arc::downgrade(&held)),
            _held: held,
        }
    }

    fn reference(&self) -> Option<Arc<Value>> {
        self.place.lock().upgrade()
    }
}
