//! Sessions of the blocking client over transports that only the tokio adapter has: HTTP/2 and QUIC. Each connection
//! has a thread that carries its bytes.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arcp_blocking::{Client, ClientError, Security, Target};
use arcp_proto::client::ClientConfig;
use arcp_tokio_adapter::open_lines;
use tokio::io::{AsyncWriteExt as _, copy, split};

use crate::adapter;

/// How long to wait for the last answers of a runtime after the client has closed.
const GOODBYE: Duration = Duration::from_secs(1);
/// The time between two looks whether all carriers have finished.
const LOOK: Duration = Duration::from_millis(2);

/// The threads that carry a connection, and some that have finished.
static CARRIERS: Mutex<Vec<JoinHandle<()>>> = Mutex::new(Vec::new());

/// Opens a session over the transport of the target.
///
/// # Errors
///
/// As [`Client::connect_with`].
pub fn connect(target: &Target, security: &Security, config: ClientConfig) -> Result<Client, ClientError> {
    match target {
        Target::WebSocket { .. } | Target::Unix(_) | Target::Program(_) => {
            Client::connect_with(target.clone(), security, config)
        }
        Target::Http2 { .. } | Target::Quic { .. } => {
            let (to, by) = (target.clone(), security.clone());
            Client::connect_over(target.clone(), security, move |timeout| open(&to, &by, timeout), config)
        }
    }
}

/// Waits until the last bytes of all connections were sent, at most for `patience`.
pub fn flush(patience: Duration) {
    let until = Instant::now() + patience;
    let carriers = std::mem::take(&mut *CARRIERS.lock().unwrap_or_else(PoisonError::into_inner));
    while Instant::now() < until && !carriers.iter().all(JoinHandle::is_finished) {
        std::thread::sleep(LOOK);
    }
}

fn open(target: &Target, security: &Security, timeout: Duration) -> io::Result<UnixStream> {
    let (near, far) = UnixStream::pair()?;
    far.set_nonblocking(true)?;
    let (target, security, (told, opened)) = (target.clone(), security.clone(), sync_channel(1));
    let carry = move || {
        if let Err(error) = carry(&target, &security, timeout, far, &told) {
            // If the caller has already been told that the connection is open, it sees the end of the stream instead.
            let _ = told.try_send(Err(error));
        }
    };
    let carrier = std::thread::Builder::new().name("arcp-bridge".to_string()).spawn(carry)?;
    let mut carriers = CARRIERS.lock().unwrap_or_else(PoisonError::into_inner);
    // Finished threads are dropped here: a client that reconnects often would collect them.
    carriers.retain(|carrier| !carrier.is_finished());
    carriers.push(carrier);
    drop(carriers);
    opened.recv().map_err(io::Error::other)??;
    Ok(near)
}

fn carry(
    target: &Target,
    security: &Security,
    timeout: Duration,
    far: UnixStream,
    told: &SyncSender<io::Result<()>>,
) -> io::Result<()> {
    adapter::runtime()?.block_on(async {
        let (mut from_runtime, mut to_runtime) = split(Box::pin(open_lines(target, security, timeout).await?));
        let (mut from_client, mut to_client) = tokio::net::UnixStream::from_std(far)?.into_split();
        let _ = told.send(Ok(()));
        let answers = tokio::spawn(async move {
            let _ = copy(&mut from_runtime, &mut to_client).await;
            to_client.shutdown().await
        });
        // The connection ends once the client has sent its last bytes, whether or not answers still come.
        let _ = copy(&mut from_client, &mut to_runtime).await;
        let _ = to_runtime.shutdown().await;
        let _ = tokio::time::timeout(GOODBYE, answers).await;
        Ok(())
    })
}
