//! A server as a service of another HTTP server, which passes it upgrades.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll};

use http::{HeaderValue, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tower_service::Service;

use crate::server::Acceptor;

/// The most headers in an answer of ours.
const HEADERS: usize = 16;

/// Accepts requests that become WebSockets, on whatever path they were routed, and hands the streams over to the
/// server. Hosts and origins are judged as on a port of its own.
///
/// The peer's address is taken from a [`SocketAddr`] in the request's extensions. Without one, the peer shares the
/// bounds of all peers of unknown origin.
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
    // If the peer is gone, or the server has ended, the stream is dropped.
    if let Ok(upgraded) = upgrade.await {
        let _ = acceptor.websocket(TokioIo::new(upgraded), address).await;
    }
}

/// Makes an HTTP response of the text that the server would write to a socket.
fn response(text: &str) -> Response<String> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut parsed = httparse::Response::new(&mut headers);
    let head = match parsed.parse(text.as_bytes()) {
        Ok(httparse::Status::Complete(head)) => head,
        // Cannot happen: the text is our own.
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
