use std::collections::HashMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::Error;
use crate::error::OrFail;

/// A way to a server that can be cut and led elsewhere while clients are connected.
///
/// It listens on a free port of 127.0.0.1 and passes on what comes, both ways. Each client has a
/// connection of its own to the server. Dropping it closes them all.
pub struct Relay {
    address: SocketAddr,
    state: Arc<State>,
    listening: Option<JoinHandle<()>>,
}

/// Where a [`Relay`] leads: an address, or the path of a unix socket.
#[derive(Clone, Debug)]
pub enum Target {
    /// A server on TCP.
    Tcp(SocketAddr),
    /// A server on a unix socket.
    Socket(PathBuf),
}

impl Relay {
    /// Listens, and leads to `target`, which need not be there yet.
    ///
    /// # Panics
    ///
    /// When there is no free port.
    #[track_caller]
    pub fn to(target: impl Into<Target>) -> Self {
        Self::listen(target.into()).or_fail()
    }

    /// Where clients are to connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Silences the way as a network does that loses every packet: connections stay open, new ones
    /// are accepted, and nothing gets through, not even the end of a connection.
    ///
    /// What a side has sent and the other has not seen yet waits.
    pub fn cut(&self) {
        self.state.lock().cut = true;
    }

    /// Undoes [`cut`](Self::cut): what waited gets through.
    pub fn mend(&self) {
        self.state.lock().cut = false;
        self.state.changed.notify_all();
    }

    /// Holds back for so long what comes from the server, as a slow way does: each answer comes so much
    /// later, the next one only after it. Zero undoes it.
    pub fn delay(&self, by: Duration) {
        self.state.lock().delay = by;
    }

    /// Closes all connections that it has accepted, also those that are cut, and leads new ones to
    /// `target`.
    pub fn redirect(&self, target: impl Into<Target>) {
        let mut way = self.state.lock();
        way.target = target.into();
        way.close_all();
        self.state.changed.notify_all();
    }

    fn listen(target: Target) -> Result<Self, Error> {
        let failed = "cannot listen on 127.0.0.1";
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(Error::because(failed))?;
        let address = listener.local_addr().map_err(Error::because(failed))?;
        let state = Arc::new(State {
            way: Mutex::new(Way {
                target,
                cut: false,
                delay: Duration::ZERO,
                over: false,
                open: HashMap::new(),
                accepted: 0,
            }),
            changed: Condvar::new(),
        });
        let listening = thread::spawn({
            let state = Arc::clone(&state);
            move || state.accept(&listener)
        });
        Ok(Self {
            address,
            state,
            listening: Some(listening),
        })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let mut way = self.state.lock();
        way.over = true;
        way.close_all();
        drop(way);
        self.state.changed.notify_all();
        // It waits for a client: here is one.
        let _ = TcpStream::connect(self.address);
        if let Some(listening) = self.listening.take() {
            let _ = listening.join();
        }
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Target {
    fn connect(&self) -> io::Result<TcpStream> {
        match self {
            Self::Tcp(address) => TcpStream::connect(address),
            // To read, write and shut down, the system does not ask which kind of stream it is.
            Self::Socket(path) => UnixStream::connect(path).map(|it| OwnedFd::from(it).into()),
        }
    }
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl From<PathBuf> for Target {
    fn from(socket: PathBuf) -> Self {
        Self::Socket(socket)
    }
}

impl From<&Path> for Target {
    fn from(socket: &Path) -> Self {
        Self::Socket(socket.to_owned())
    }
}

struct State {
    way: Mutex<Way>,
    /// Told when what is cut is to be looked at again.
    changed: Condvar,
}

struct Way {
    target: Target,
    cut: bool,
    /// How long an answer is held back.
    delay: Duration,
    /// Set when the relay is dropped.
    over: bool,
    /// Both ends of each connection, by its number, to close them. Who is not in here is closed.
    open: HashMap<u64, Vec<TcpStream>>,
    accepted: u64,
}

impl State {
    /// Returns when the relay is dropped and every connection has ended.
    fn accept(&self, listener: &TcpListener) {
        thread::scope(|connections| {
            for client in listener.incoming() {
                let mut way = self.lock();
                if way.over {
                    return;
                }
                let Ok(client) = client else { continue };
                let Ok(end) = client.try_clone() else {
                    continue;
                };
                way.accepted += 1;
                let id = way.accepted;
                way.open.insert(id, vec![end]);
                drop(way);
                connections.spawn(move || {
                    // A server that is not there is an end at once.
                    let _ = self.serve(id, &client);
                    self.lock().open.remove(&id);
                });
            }
        });
    }

    fn serve(&self, id: u64, client: &TcpStream) -> io::Result<()> {
        let Some(way) = self.pass(id) else {
            return Ok(());
        };
        let target = way.target.clone();
        drop(way);
        let server = target.connect()?;
        match self.lock().open.get_mut(&id) {
            Some(ends) => ends.push(server.try_clone()?),
            None => return Ok(()),
        }
        client.set_nodelay(true)?;
        thread::scope(|there_and_back| {
            there_and_back.spawn(|| self.carry(id, client, &server, || Duration::ZERO));
            self.carry(id, &server, client, || self.lock().delay);
        });
        Ok(())
    }

    /// Passes on what comes from one side until it ends, and then the end.
    fn carry(
        &self,
        id: u64,
        mut from: &TcpStream,
        mut to: &TcpStream,
        delay: impl Fn() -> Duration,
    ) {
        let mut buffer = [0; 16 * 1024];
        loop {
            let read = from.read(&mut buffer).unwrap_or(0);
            thread::sleep(delay());
            if self.pass(id).is_none() {
                return;
            }
            if read == 0 || to.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
        let _ = from.shutdown(Shutdown::Read);
    }

    /// Waits until the way is not cut; nothing if the connection is closed meanwhile.
    fn pass(&self, id: u64) -> Option<MutexGuard<'_, Way>> {
        let blocked = |way: &mut Way| way.cut && way.open.contains_key(&id);
        let way = self.changed.wait_while(self.lock(), blocked);
        let way = way.unwrap_or_else(PoisonError::into_inner);
        way.open.contains_key(&id).then_some(way)
    }

    fn lock(&self) -> MutexGuard<'_, Way> {
        // Each change of it is made at once.
        self.way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Way {
    fn close_all(&mut self) {
        for (_, ends) in self.open.drain() {
            for end in ends {
                let _ = end.shutdown(Shutdown::Both);
            }
        }
    }
}
