//! Connections to Redis: one for commands, which all share, and one that hears.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use redis::aio::{MultiplexedConnection, PubSub, PubSubSink, PubSubStream};
use redis::{
    AsyncConnectionConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _,
    RedisConnectionInfo,
};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use super::broken::Broken;
use super::tier::Sent;
use crate::config::{ConfigError, WarmConfig};

/// A pair of connections, both of which have answered. Dropping it closes both.
pub(super) struct Link {
    pub(super) commands: MultiplexedConnection,
    /// Pings the hearing connection.
    pub(super) hearing: PubSubSink,
    pub(super) messages: PubSubStream,
    /// Ends when the server closes the connection for commands.
    pub(super) driver: AbortOnDropHandle<()>,
}

impl Link {
    pub(super) async fn open(target: &Target, channel: &str, sent: &Sent) -> Result<Self, Broken> {
        let commands = async {
            let config = AsyncConnectionConfig::new()
                // Each command has a deadline of ours; two timers would be one too many.
                .set_response_timeout(None)
                .set_pipeline_buffer_size(512);
            let stream = target.connect().await?;
            let (mut commands, driver) =
                MultiplexedConnection::new_with_config(&target.settings, stream, config).await?;
            let driver = AbortOnDropHandle::new(tokio::spawn(driver));
            // A stopped server's socket still accepts: only an answer counts.
            sent.ping.increment(1);
            redis::cmd("PING").exec_async(&mut commands).await?;
            Ok::<_, Broken>((commands, driver))
        };
        let hearing = async {
            let stream = target.connect().await?;
            let mut hearing = PubSub::new(&target.settings, stream).await?;
            sent.subscribe.increment(1);
            hearing.subscribe(channel).await?;
            Ok::<_, Broken>(hearing.split())
        };
        let ((commands, driver), (hearing, messages)) = tokio::try_join!(commands, hearing)?;
        Ok(Self {
            commands,
            hearing,
            messages,
            driver,
        })
    }
}

/// Where Redis is, and who we are there. Displayed as its address alone.
pub(super) struct Target {
    address: Address,
    settings: RedisConnectionInfo,
}

enum Address {
    Unix(PathBuf),
    Tcp {
        host: String,
        port: u16,
        tls: Option<(TlsConnector, ServerName<'static>)>,
    },
}

impl Target {
    pub(super) fn parse(config: &WarmConfig) -> Result<Self, ConfigError> {
        // The URL holds a password, perhaps at an odd place if it does not parse: never shown.
        let misfit = |reason: &str| {
            ConfigError::because(
                "warm.url",
                format_args!(
                    "{reason}; write redis://[user:password@]host[:port][/db], rediss://… for \
                     TLS, or unix:///path[?db=…&user=…&pass=…], with special characters of a \
                     password percent-encoded"
                ),
            )
        };
        let url = config.url.as_deref().unwrap_or_default();
        let info: ConnectionInfo = url
            .into_connection_info()
            .map_err(|_| misfit("the URL is not one of a Redis server"))?;
        let address = match info.addr().clone() {
            ConnectionAddr::Unix(path) => Address::Unix(path),
            ConnectionAddr::Tcp(host, port) => Address::Tcp {
                host,
                port,
                tls: None,
            },
            ConnectionAddr::TcpTls { insecure: true, .. } => {
                return Err(misfit(
                    "#insecure is not supported: name the server's authority in warm.ca_file",
                ));
            }
            ConnectionAddr::TcpTls { host, port, .. } => {
                let client = crate::tls::client(config.ca_file.as_deref())
                    .map_err(|error| ConfigError::because("warm.ca_file", error))?;
                let name = ServerName::try_from(host.clone())
                    .map_err(|_| misfit("no certificate can name such a host"))?;
                let tls = Some((TlsConnector::from(Arc::new(client)), name));
                Address::Tcp { host, port, tls }
            }
            _ => return Err(misfit("the URL is of a kind that is not supported")),
        };
        // Telling the server the driver's name would take one more permission.
        let settings = info.redis_settings().clone().set_skip_set_lib_name();
        Ok(Self { address, settings })
    }

    async fn connect(&self) -> io::Result<Box<dyn Socket>> {
        match &self.address {
            Address::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
            Address::Tcp { host, port, tls } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                Ok(match tls {
                    None => Box::new(stream),
                    Some((connector, name)) => {
                        Box::new(connector.connect(name.clone(), stream).await?)
                    }
                })
            }
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Address::Unix(path) => path.display().fmt(f),
            Address::Tcp { host, port, .. } => write!(f, "{host}:{port}"),
        }
    }
}

trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}
