use std::net::{Ipv4Addr, TcpListener};

use crate::Error;

/// How often a server is started anew because another program took its port first.
const ATTEMPTS: usize = 10;

/// Starts a server on a port of the loopback interface that nobody listened on a moment ago, and
/// on another one when somebody does by now.
pub(crate) fn with_free(mut start: impl FnMut(u16) -> Result<(), Error>) -> Result<(), Error> {
    let mut attempt = 1;
    loop {
        match start(free()?) {
            Err(error) if error.is_port_taken() && attempt < ATTEMPTS => attempt += 1,
            result => return result,
        }
    }
}

fn free() -> Result<u16, Error> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(Error::because("no free port on 127.0.0.1"))
}
