//! Opens the connections of a client.

#[cfg(feature = "stdio")]
mod program;
#[cfg(feature = "tls")]
mod tls;
mod unix;
#[cfg(feature = "websocket")]
mod websocket;

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;
#[cfg(feature = "websocket")]
use std::time::Instant;

use arcp_host::client::{Security, Target};
use arcp_host::framing::Framing;
#[cfg(feature = "websocket")]
use arcp_proto::secret::Secret;

#[cfg(feature = "tls")]
use self::tls::Tls;
#[cfg(feature = "websocket")]
use self::websocket::Channel;

/// How long a peer may take no bytes before a write fails.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);

/// An open transport.
pub(crate) struct Wire {
    pub(crate) reader: Box<dyn Read + Send>,
    pub(crate) writer: Box<dyn Write + Send>,
    pub(crate) framing: Framing,
    pub(crate) closer: Closer,
}

/// Closes a transport; its reader sees the end.
pub(crate) struct Closer(Box<dyn Fn() + Send>);

impl Closer {
    pub(crate) fn close(&self) {
        self.0();
    }
}

/// Opens transports to one target.
#[derive(Clone, Debug)]
pub(crate) struct Dialer {
    pub(crate) target: Target,
    /// The timeout of each attempt.
    timeout: Duration,
    frame_bytes: usize,
    #[cfg(feature = "tls")]
    tls: Option<Tls>,
    /// Another way to open a transport to the target.
    opener: Option<Opener>,
}

/// Opens streams with one frame per line.
#[derive(Clone)]
struct Opener(Arc<dyn Fn(Duration) -> io::Result<UnixStream> + Send + Sync>);

impl std::fmt::Debug for Opener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opener").finish_non_exhaustive()
    }
}

impl Dialer {
    /// # Errors
    ///
    /// If the target has TLS, and the files of the security cannot be used.
    #[cfg_attr(not(feature = "tls"), allow(unused_variables, reason = "only TLS is told whom to trust"))]
    pub(crate) fn new(
        target: Target,
        security: &Security,
        timeout: Duration,
        frame_bytes: usize,
    ) -> io::Result<Dialer> {
        Ok(Dialer {
            #[cfg(feature = "tls")]
            tls: Tls::to(&target, security)?,
            target,
            timeout,
            frame_bytes,
            opener: None,
        })
    }

    /// A dialer that opens its transports with `open`.
    pub(crate) fn over(
        target: Target,
        open: impl Fn(Duration) -> io::Result<UnixStream> + Send + Sync + 'static,
        timeout: Duration,
        frame_bytes: usize,
    ) -> Dialer {
        Dialer {
            target,
            timeout,
            frame_bytes,
            #[cfg(feature = "tls")]
            tls: None,
            opener: Some(Opener(Arc::new(open))),
        }
    }

    /// Opens a transport.
    pub(crate) fn dial(&self) -> io::Result<Wire> {
        if let Some(opener) = &self.opener {
            return lines(opener.0(self.timeout)?, self.frame_bytes);
        }
        match &self.target {
            #[cfg(feature = "websocket")]
            Target::WebSocket { host, port, path, .. } => {
                let until = Instant::now() + self.timeout;
                websocket::upgrade(self.channel(host, *port, until)?, host, *port, path, self.frame_bytes)
            }
            #[cfg(not(feature = "websocket"))]
            Target::WebSocket { .. } => Err(unsupported("websocket")),
            Target::Unix(path) => unix::connect(path, self.timeout, self.frame_bytes),
            Target::Http2 { .. } | Target::Quic { .. } => {
                let message = "HTTP/2 and QUIC are spoken by arcp-tokio-adapter";
                Err(io::Error::new(io::ErrorKind::Unsupported, message))
            }
            #[cfg(feature = "stdio")]
            Target::Program(command) => program::start(command, self.frame_bytes),
            #[cfg(not(feature = "stdio"))]
            Target::Program(_) => Err(unsupported("stdio")),
        }
    }

    /// The counts of a runtime; `None` if the principal of this token may not read them.
    #[cfg(feature = "websocket")]
    pub(crate) fn stats(&self, token: &Secret) -> io::Result<Option<String>> {
        let Target::WebSocket { host, port, .. } = &self.target else {
            return Ok(None);
        };
        let until = Instant::now() + self.timeout;
        let channel = self.channel(host, *port, until)?;
        websocket::stats(channel, host, *port, token, self.frame_bytes)
    }

    /// Connects, with TLS if the target has it.
    #[cfg(feature = "websocket")]
    fn channel(&self, host: &str, port: u16, until: Instant) -> io::Result<Channel> {
        match &self.target {
            #[cfg(feature = "tls")]
            Target::WebSocket { tls: true, .. } => {
                tls::open(self.tls.as_ref(), websocket::connect(host, port, until)?, until)
            }
            #[cfg(not(feature = "tls"))]
            Target::WebSocket { tls: true, .. } => Err(unsupported("tls")),
            Target::WebSocket { .. }
            | Target::Http2 { .. }
            | Target::Quic { .. }
            | Target::Unix(_)
            | Target::Program(_) => Channel::clear(websocket::connect(host, port, until)?, until),
        }
    }
}

/// A transport with one frame per line. A peer that does not read in time loses it.
fn lines(stream: UnixStream, frame_bytes: usize) -> io::Result<Wire> {
    stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
    let (reader, writer) = (stream.try_clone()?, stream.try_clone()?);
    Ok(Wire {
        reader: Box::new(reader),
        writer: Box::new(writer),
        framing: Framing::lines(frame_bytes),
        closer: Closer(Box::new(move || drop(stream.shutdown(Shutdown::Both)))),
    })
}

#[cfg(not(all(feature = "tls", feature = "stdio")))]
fn unsupported(feature: &str) -> io::Error {
    let message = format!("this program was built without the feature `{feature}` of arcp-blocking");
    io::Error::new(io::ErrorKind::Unsupported, message)
}

#[cfg(all(test, not(all(feature = "tls", feature = "stdio"))))]
mod tests {
    use super::*;

    #[test]
    fn a_transport_that_was_not_built_in_is_refused_with_the_name_of_its_feature() {
        for (url, feature, built) in [
            ("exec:true", "stdio", cfg!(feature = "stdio")),
            ("ws://127.0.0.1:1/", "websocket", cfg!(feature = "websocket")),
            ("wss://127.0.0.1:1/", "tls", cfg!(feature = "tls") || !cfg!(feature = "websocket")),
        ] {
            if built {
                continue;
            }
            let target: Target = url.parse().expect("it is still a target");
            let dialer = Dialer::new(target, &Security::default(), Duration::from_secs(1), 1024);
            let error = dialer.and_then(|dialer| dialer.dial()).expect_err("it cannot be opened");
            assert_eq!(error.kind(), io::ErrorKind::Unsupported, "{url}");
            assert!(error.to_string().contains(&format!("`{feature}`")), "{error}");
        }
    }
}
