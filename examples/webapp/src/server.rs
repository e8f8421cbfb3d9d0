//! Connections: how many there may be, and how long each may take its time.
//!
//! `axum::serve` has no timer: a client that sends half a header, or reads no answer, holds its
//! connection, and the descriptor, for as long as it likes.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use rustix::process::{Resource, getrlimit};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;
use tower::ServiceExt as _;

/// How long a client may take for the header of a request, and may be idle before the next one. The
/// routes have a deadline of their own, which the body is counted in.
const HEADER: Duration = Duration::from_secs(15);
/// Bytes of a request's header that are read at most.
const HEADER_MAX: usize = 128 * 1024;
/// Descriptors that are kept for the database, Redis, files and the like.
const RESERVED: u64 = 64;
/// How long to wait when a connection could not be accepted: for descriptors to be freed.
const PAUSE: Duration = Duration::from_millis(100);

/// As many connections as were asked for, if the system lets the process have as many descriptors.
pub(crate) fn most_connections(wanted: usize) -> usize {
    let descriptors = getrlimit(Resource::Nofile).current;
    let allowed = descriptors.map_or(u64::MAX, |all| all.saturating_sub(RESERVED).max(8));
    wanted.min(usize::try_from(allowed).unwrap_or(usize::MAX))
}

/// Serves until `stop`; then takes no new connections, and returns when the requests under way are
/// answered. Who comes while there are as many as allowed waits in the system's queue.
///
/// A client that takes nothing of what is sent to it for `slow` loses its connection. hyper's own
/// timer does not see to that: it runs only while a header is awaited.
pub(crate) async fn serve(
    listener: TcpListener,
    app: Router,
    most: usize,
    slow: Duration,
    stop: impl Future<Output = ()>,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEADER)
        .max_buf_size(HEADER_MAX);
    let places = Arc::new(Semaphore::new(most));
    let connections = GracefulShutdown::new();
    let mut stop = pin!(stop);
    loop {
        let accept = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, (stream, peer)) = tokio::select! {
            () = &mut stop => break,
            (place, accepted) = accept => match accepted {
                Ok(accepted) => (place, accepted),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            },
        };
        let _ = stream.set_nodelay(true);
        let app = app.clone();
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            request
                .extensions_mut()
                .insert(ConnectInfo::<SocketAddr>(peer));
            let response = app.clone().oneshot(request.map(Body::new));
            async move { Ok::<_, Infallible>(response.await.unwrap_or_else(|never| match never {})) }
        });
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(slow));
        let connection = http.serve_connection(TokioIo::new(Box::pin(stream)), service);
        let connection = connections.watch(connection);
        tokio::spawn(async move {
            let _place = place;
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
        });
    }
    drop(listener);
    connections.shutdown().await;
}
