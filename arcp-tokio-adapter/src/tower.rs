//! A server as a `tower` service of another HTTP server: it accepts upgrades.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll};

use http::{HeaderValue, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tower_service::Service;

use crate::server::Acceptor;

/// The most headers of one of our responses.
const HEADERS: usize = 16;

/// Accepts requests that become WebSockets, whatever path they were routed by, and hands the
/// streams to its server. Hosts and origins are judged as on a port of the server itself. The
/// address of the peer is taken from a [`SocketAddr`] in the request's extensions; peers without
/// one share the bounds for connections of unknown origin.
impl<B> Service<Request<B>> for Acceptor {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Ready<Result<Response<String>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let headers = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        let answer = response(&self.upgrades.judge_read(request.method().as_str(), headers));
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            let address = request.extensions().get::<SocketAddr>().map(SocketAddr::ip);
            tokio::spawn(take_over(hyper::upgrade::on(&mut request), self.clone(), address));
        }
        ready(Ok(answer))
    }
}

async fn take_over(upgrade: hyper::upgrade::OnUpgrade, acceptor: Acceptor, address: Option<IpAddr>) {
    // An upgrade that fails, or that comes after the end of the server, is dropped.
    if let Ok(upgraded) = upgrade.await {
        let _ = acceptor.websocket(TokioIo::new(upgraded), address).await;
    }
}

/// Parses a response that was written for a socket.
fn response(text: &str) -> Response<String> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut parsed = httparse::Response::new(&mut headers);
    let head = match parsed.parse(text.as_bytes()) {
        Ok(httparse::Status::Complete(head)) => head,
        // The response is our own, and so complete.
        Ok(httparse::Status::Partial) | Err(_) => text.len(),
    };
    let mut response = Response::new(text[head..].to_string());
    *response.status_mut() =
        parsed.code.and_then(|code| StatusCode::from_u16(code).ok()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for header in parsed.headers.iter() {
        if let (Ok(name), Ok(value)) = (header.name.parse::<http::HeaderName>(), HeaderValue::from_bytes(header.value))
        {
            response.headers_mut().append(name, value);
        }
    }
    response
}
