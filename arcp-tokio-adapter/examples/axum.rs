//! An ARCP runtime inside an axum application, at `/arcp` beside its own pages.
//!
//! ```text
//! cargo run -p arcp-tokio-adapter --features tower --example axum    # prints its URL and a token
//! arcp submit echo --input '"hi"' --url ws://127.0.0.1:PORT/arcp --token TOKEN
//! ```

#![allow(clippy::print_stderr, reason = "its URL and its token are told once, at the start")]

use std::error::Error;
use std::io;

use arcp_host::agent::{AgentError, AsyncContext, Outcome};
use arcp_host::auth::BearerTokens;
use arcp_host::registry::Registry;
use arcp_proto::id::Principal;
use arcp_proto::json::Json;
use arcp_proto::runtime::Config;
use arcp_proto::secret::Secret;
use arcp_tokio_adapter::{Host, Server, ServerConfig};
use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;

async fn echo(job: AsyncContext, input: Json) -> Result<Outcome, AgentError> {
    job.status("echoing", None).await?;
    Ok(Outcome::Json(input))
}

/// The application, and the server that runs beside it.
pub async fn application(token: Secret) -> Result<(Router, Server), Box<dyn Error>> {
    let mut registry = Registry::default();
    registry.add_async("echo", None, echo);
    let mut tokens = BearerTokens::default();
    tokens.add(&token, Principal::new("owner").ok_or_else(|| io::Error::other("no name"))?);
    let host = Host::new(Config::new("axum", "1.0.0"), registry).with_authenticator(tokens);

    let server = Server::without_port(&ServerConfig::new(([127, 0, 0, 1], 0).into()), host).await?;
    let router = Router::new().route("/", get(|| async { "a page" })).route_service("/arcp", server.acceptor());
    Ok((router, server))
}

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let token = arcp_host::entropy::token()?;
        let (router, server) = application(Secret::new(token.clone())).await?;
        tokio::spawn(server.run());
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        eprintln!("READY ws://{}/arcp --token {token}", listener.local_addr()?);
        Ok(axum::serve(listener, router).await?)
    })
}
