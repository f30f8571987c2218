//! The adapter that `arcp serve` uses: blocking threads, or tokio (`--tokio`).

use std::io;

use arcp_blocking::{Host, HostError, Listen, Listener, Server, ServerConfig, ServerHandle, Stopped, stdio};
use arcp_proto::id::Principal;
use tokio::runtime::{Builder, Runtime};

use crate::parent::Parent;

/// A server that has read its store.
pub enum Served {
    /// Of `arcp-blocking`.
    Blocking(Server),
    /// Of `arcp-tokio-adapter`.
    Tokio(Runtime, arcp_tokio_adapter::Server),
}

/// Binds the server to its listeners and reads the store.
///
/// # Errors
///
/// As [`Server::on`].
pub fn serve(bound: Vec<Listener>, config: &ServerConfig, host: Host, tokio: bool) -> Result<Served, HostError> {
    if !tokio {
        return Server::on(bound, config, host).map(Served::Blocking);
    }
    let runtime = runtime()?;
    let server = runtime.block_on(arcp_tokio_adapter::Server::on(bound, config, host))?;
    Ok(Served::Tokio(runtime, server))
}

impl Served {
    /// The places where the server listens.
    pub fn places(&self) -> &[Listen] {
        match self {
            Served::Blocking(server) => server.places(),
            Served::Tokio(_, server) => server.places(),
        }
    }

    /// A handle with which other threads control the server.
    pub fn handle(&self) -> ServerHandle {
        match self {
            Served::Blocking(server) => server.handle(),
            Served::Tokio(_, server) => server.handle(),
        }
    }

    /// Serves until the server is told to stop.
    ///
    /// # Errors
    ///
    /// As [`Server::run`].
    pub fn run(self) -> Result<Stopped, HostError> {
        match self {
            Served::Blocking(server) => server.run(),
            Served::Tokio(runtime, server) => runtime.block_on(server.run()),
        }
    }
}

/// Serves the parent process on stdin and stdout until it closes them or a signal comes.
///
/// # Errors
///
/// As [`stdio::serve`].
pub fn serve_stdio(host: Host, peer: Option<Principal>, tokio: bool) -> Result<(), HostError> {
    let parent = Parent::new()?;
    if !tokio {
        return stdio::serve(host, peer, parent, io::stdout());
    }
    let runtime = runtime()?;
    let served = runtime.block_on(async {
        let pipes = tokio::io::join(parent.into_async()?, tokio::io::stdout());
        arcp_tokio_adapter::serve(host, peer, pipes).await
    });
    // A blocking read of stdin cannot be cancelled: it ends with the program.
    runtime.shutdown_background();
    served
}

/// A tokio runtime of one thread, because the server is one task.
pub fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}
