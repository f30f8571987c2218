//! What `arcp serve` moves bytes with: threads, or tokio (`--tokio`).

use std::io;
use std::net::{SocketAddr, TcpListener};

use arcp_blocking::{Host, HostError, Port, Server, ServerConfig, ServerHandle, Stopped, stdio};
use arcp_proto::id::Principal;
use tokio::runtime::{Builder, Runtime};

/// A port that is bound.
pub enum Bound {
    /// By `arcp-blocking`.
    Blocking(Port),
    /// For `arcp-tokio-adapter`.
    Tokio(Runtime, TcpListener),
}

/// A server that has read its store.
pub enum Served {
    /// Of `arcp-blocking`.
    Blocking(Server),
    /// Of `arcp-tokio-adapter`.
    Tokio(Runtime, arcp_tokio_adapter::Server),
}

impl Bound {
    /// Binds it.
    ///
    /// # Errors
    ///
    /// If it cannot be had.
    pub fn bind(listen: SocketAddr, tokio: bool) -> io::Result<Bound> {
        if !tokio {
            return Port::bind(listen).map(Bound::Blocking);
        }
        let listener = TcpListener::bind(listen)?;
        listener.set_nonblocking(true)?;
        Ok(Bound::Tokio(runtime()?, listener))
    }

    /// Reads the store.
    ///
    /// # Errors
    ///
    /// As [`Server::on`].
    pub fn serve(self, config: &ServerConfig, host: Host) -> Result<Served, HostError> {
        match self {
            Bound::Blocking(port) => Server::on(port, config, host).map(Served::Blocking),
            Bound::Tokio(runtime, listener) => {
                let server = runtime.block_on(async {
                    let listener = tokio::net::TcpListener::from_std(listener)?;
                    arcp_tokio_adapter::Server::on(listener, config, host).await
                })?;
                Ok(Served::Tokio(runtime, server))
            }
        }
    }
}

impl Served {
    /// The address it is bound to.
    pub fn address(&self) -> io::Result<SocketAddr> {
        match self {
            Served::Blocking(server) => Ok(server.address()),
            Served::Tokio(_, server) => server.address(),
        }
    }

    /// What tells it what to do.
    pub fn handle(&self) -> ServerHandle {
        match self {
            Served::Blocking(server) => server.handle(),
            Served::Tokio(_, server) => server.handle(),
        }
    }

    /// Serves until it is told to stop.
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

/// Serves the parent process until it leaves.
///
/// # Errors
///
/// As [`stdio::serve`].
pub fn serve_stdio(host: Host, peer: Option<Principal>, tokio: bool) -> Result<(), HostError> {
    if !tokio {
        return stdio::serve(host, peer, io::stdin(), io::stdout());
    }
    let runtime = runtime()?;
    let served = runtime.block_on(async {
        let pipes = tokio::io::join(tokio::io::stdin(), tokio::io::stdout());
        arcp_tokio_adapter::serve(host, peer, pipes).await
    });
    // A read of stdin that has begun ends with the program.
    runtime.shutdown_background();
    served
}

/// One thread: the server is one task.
fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}
