//! A server that is no Redis, where one was expected.

use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What it answers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Manner {
    /// Bytes that no protocol knows.
    Garbage,
    /// Well-formed replies of kinds that nobody asked for. It says that it is well when it is pinged.
    WrongKinds,
    /// The same, but a reply ends in its middle, and the connection with it.
    HalfReplies,
}

/// Gone when dropped.
pub(crate) struct Imposter {
    pub(crate) address: SocketAddr,
    listening: JoinHandle<()>,
}

impl Imposter {
    pub(crate) async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let listening = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // The end of a connection is its client's affair.
                tokio::spawn(async move { serve(manner, client).await.ok() });
            }
        });
        Self { address, listening }
    }
}

impl Drop for Imposter {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn serve(manner: Manner, client: TcpStream) -> std::io::Result<()> {
    let mut client = BufReader::new(client);
    while let Some(command) = read_command(&mut client).await? {
        let reply: &[u8] = match (manner, command[0].as_str()) {
            (Manner::Garbage, _) => b"\x00\xff\xfe nonsense \r\n$-7\r\n*99999999999999999999\r\n",
            (_, "PING") if command.len() == 1 => b"+PONG\r\n",
            (_, "PING") => b"*2\r\n$4\r\npong\r\n$0\r\n\r\n",
            (_, "SUBSCRIBE") => {
                let (len, name) = (command[1].len(), &command[1]);
                let reply = format!("*3\r\n$9\r\nsubscribe\r\n${len}\r\n{name}\r\n:1\r\n");
                client.write_all(reply.as_bytes()).await?;
                continue;
            }
            (Manner::WrongKinds, "GET") => b"*2\r\n:1\r\n+two\r\n",
            (Manner::WrongKinds, "SET") => b"*0\r\n",
            (Manner::WrongKinds, "INFO" | "DBSIZE") => b"$-1\r\n",
            (Manner::WrongKinds, _) => b":-7\r\n",
            (Manner::HalfReplies, _) => {
                client.write_all(b"$200\r\n\x01\x02\x03").await?;
                return Ok(());
            }
        };
        client.write_all(reply).await?;
    }
    Ok(())
}

/// The words of the next command, the first in upper case; nothing at the end.
async fn read_command(client: &mut BufReader<TcpStream>) -> std::io::Result<Option<Vec<String>>> {
    let mut line = String::new();
    if client.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let words: usize = number(&line);
    let mut command = Vec::new();
    for _ in 0..words {
        let mut length = String::new();
        client.read_line(&mut length).await?;
        let mut word = vec![0; number(&length) + 2];
        client.read_exact(&mut word).await?;
        let word = String::from_utf8_lossy(&word[..word.len() - 2]);
        command.push(word.into_owned());
    }
    command[0].make_ascii_uppercase();
    Ok(Some(command))
}

/// Of `*3` or `$14`.
fn number(line: &str) -> usize {
    line[1..].trim().parse().expect("clients are well-behaved")
}
