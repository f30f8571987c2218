//! How a client connects.

#[cfg(feature = "stdio")]
mod program;
#[cfg(feature = "websocket")]
mod websocket;

use std::io::{self, Read, Write};
use std::time::Duration;

use arcp_host::client::Target;
use arcp_host::framing::Framing;

/// An open transport.
pub(crate) struct Wire {
    pub(crate) reader: Box<dyn Read + Send>,
    pub(crate) writer: Box<dyn Write + Send>,
    pub(crate) framing: Framing,
    pub(crate) closer: Closer,
}

/// Ends a transport; whoever reads from it notices.
pub(crate) struct Closer(Box<dyn Fn() + Send>);

impl Closer {
    pub(crate) fn close(&self) {
        self.0();
    }
}

/// Opens the transport.
#[cfg_attr(not(feature = "websocket"), allow(unused_variables, reason = "only a network is waited for"))]
pub(crate) fn dial(target: &Target, timeout: Duration, frame_bytes: usize) -> io::Result<Wire> {
    match target {
        #[cfg(feature = "websocket")]
        Target::WebSocket { host, port, path } => websocket::dial(host, *port, path, timeout, frame_bytes),
        #[cfg(not(feature = "websocket"))]
        Target::WebSocket { .. } => Err(unsupported("websocket")),
        #[cfg(feature = "stdio")]
        Target::Program(command) => program::start(command, frame_bytes),
        #[cfg(not(feature = "stdio"))]
        Target::Program(_) => Err(unsupported("stdio")),
    }
}

#[cfg(not(all(feature = "websocket", feature = "stdio")))]
fn unsupported(feature: &str) -> io::Error {
    let message = format!("this program was built without the feature `{feature}` of arcp-blocking");
    io::Error::new(io::ErrorKind::Unsupported, message)
}

#[cfg(all(test, not(all(feature = "websocket", feature = "stdio"))))]
mod tests {
    use super::*;

    #[test]
    fn a_transport_that_was_not_built_in_is_refused_with_the_name_of_its_feature() {
        let other =
            if cfg!(feature = "websocket") { ("exec:true", "stdio") } else { ("ws://127.0.0.1:1/", "websocket") };
        let (text, feature) = other;
        let target: Target = text.parse().expect("it is still a target");
        let error = dial(&target, Duration::from_secs(1), 1024).expect_err("it cannot be opened");
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        assert!(error.to_string().contains(&format!("`{feature}`")), "{error}");
    }
}
