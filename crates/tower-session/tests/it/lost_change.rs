//! Changes of the cookie that no layer writes.

use std::convert::Infallible;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use http::header::SET_COOKIE;
use http::{Request, Response};
use tower::{Layer, ServiceBuilder, ServiceExt as _, service_fn};
use tower_session::{CookieChange, SessionLayer};
use tracing::subscriber::DefaultGuard;

use crate::support::{Bed, request};

/// What is logged by this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn start() -> (Self, DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing::Level::WARN)
            .with_writer(move || writer.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    /// The lines since the last call.
    fn lines(&self) -> Vec<String> {
        let text = std::mem::take(&mut *self.0.lock().unwrap());
        let text = String::from_utf8(text).unwrap();
        text.lines().map(Into::into).collect()
    }
}

/// A handler that asks for this.
async fn asks(change: CookieChange) -> Result<Response<()>, Infallible> {
    let mut response = Response::new(());
    response.extensions_mut().insert(change);
    Ok(response)
}

#[tokio::test]
async fn a_change_that_no_layer_writes_is_warned_of_once() {
    let bed = Bed::new().await;
    let issued = bed.guest().await;
    let (log, _guard) = Log::start();

    let set = CookieChange::set(&issued);
    let bare = {
        let set = set.clone();
        service_fn(move |_: Request<()>| asks(set.clone()))
    };
    let response = bare.clone().oneshot(request(&[])).await.unwrap();
    assert!(response.headers().get(SET_COOKIE).is_none());
    // The client has got it by now; two clones are still here.
    drop(response);
    assert_eq!(log.lines(), [""; 0]);
    drop((bare, set));
    let lines = log.lines();
    let [warning] = &lines[..] else {
        panic!("{lines:?}");
    };
    let id = issued.session.id().to_string();
    for part in [
        "WARN",
        &id,
        "CookieChange::set",
        "put a SessionLayer around",
    ] {
        assert!(warning.contains(part), "{warning}");
    }
    assert!(!warning.contains("sa1_"), "{warning}");

    let clear = asks(CookieChange::clear()).await;
    drop(clear);
    let lines = log.lines();
    assert!(
        lines.len() == 1 && lines[0].contains("CookieChange::clear"),
        "{lines:?}"
    );
}

#[tokio::test]
async fn a_change_that_a_layer_writes_is_not_warned_of() {
    let bed = Bed::new().await;
    let issued = bed.guest().await;
    let (log, _guard) = Log::start();
    let layer = SessionLayer::new(bed.tiers.clone());
    for change in [CookieChange::set(&issued), CookieChange::clear()] {
        let handler = service_fn(move |_: Request<()>| asks(change.clone()));
        let nested = ServiceBuilder::new()
            .layer(layer.clone())
            .layer(layer.clone().sources([]))
            .service(handler);
        for _ in 0..2 {
            let response = nested.clone().oneshot(request(&[])).await.unwrap();
            assert!(response.headers().contains_key(SET_COOKIE));
        }
    }
    assert_eq!(log.lines(), [""; 0]);

    // What stands between handler and layer, and gives another response.
    let lost = layer.layer(service_fn(|_: Request<()>| async {
        drop(asks(CookieChange::clear()).await);
        Ok::<_, Infallible>(Response::new(()))
    }));
    lost.oneshot(request(&[])).await.unwrap();
    assert_eq!(log.lines().len(), 1);
}
