//! HTTP/2: a session is a `POST` whose request and response bodies have one frame per line.

mod calm;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arcp_host::client::{HTTP2, bracketed};
use arcp_host::http::{LINES, refused};
use arcp_host::server::{CarrierEnd, keep_alive};
use arcp_host::tls::Certificates;
use arcp_proto::limits::Limits;
use bytes::Bytes;
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream, SendStream, client, server};
use http::{HeaderValue, Request, Response, StatusCode, header};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::CertificateDer;

use self::calm::Counted;
use crate::carrier::{Carrier, first};
use crate::server::Acceptor;
use crate::socket::ByteStream;

/// The largest accepted list of headers, and the most that is read of an answer that refuses a session, in bytes.
const HEADER_BYTES: u32 = 16 << 10;
/// The most reset streams that are remembered, or that wait to be seen.
const RESET_STREAMS: usize = 16;
/// How long reset streams are remembered, because frames for them may be on their way.
const RESET_FOR: Duration = Duration::from_secs(1);
/// The most bytes that a stream is given at once.
const WRITE_BYTES: usize = 16 << 10;
/// The most unread bytes of a client's stream.
const CLIENT_WINDOW: u32 = 1 << 20;
/// How long the last frames of a connection may take to be sent.
const GOODBYE: Duration = Duration::from_secs(2);
/// The pause in accepting after the system could give no connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves a port until the server has ended.
pub(crate) async fn serve(listener: TcpListener, tls: Option<Arc<Certificates>>, acceptor: Acceptor) {
    while let Ok(accepted) = first(acceptor.ended(), listener.accept()).await {
        let Ok((socket, peer)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let _ = socket.set_nodelay(true);
        let _ = keep_alive(&socket);
        // Further connections wait in the backlog.
        let Some(carrier) = Carrier::admit(&acceptor, peer.ip(), tls.is_some()).await else {
            return;
        };
        tokio::spawn(carry(socket, tls.clone(), carrier));
    }
}

async fn carry(socket: TcpStream, tls: Option<Arc<Certificates>>, mut carrier: Carrier) {
    match tls {
        None => streams(socket, Vec::new(), &mut carrier).await,
        Some(certificates) => {
            let handshake = TlsAcceptor::from(certificates.config_for(HTTP2)).accept(socket);
            if let Ok(Ok(stream)) = carrier.unless_ended(handshake).await {
                carrier.is_secure().await;
                let session = stream.get_ref().1;
                let shown = session.peer_certificates().unwrap_or_default();
                let shown = shown.iter().map(|shown| shown.clone().into_owned()).collect();
                // A client that negotiates no protocol may mean another one.
                if session.alpn_protocol() == Some(HTTP2) {
                    streams(stream, shown, &mut carrier).await;
                }
            }
        }
    }
    carrier.gone().await;
}

/// Hands streams over to the server until the connection ends.
async fn streams<T>(io: T, certificates: Vec<CertificateDer<'static>>, carrier: &mut Carrier)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let limits = &carrier.acceptor.ports.limits;
    let io = Counted::new(io, limits.stream.empty_frames);
    let spent = io.spent();
    let handshake = settings(limits).handshake(io);
    let Ok(Ok(mut connection)) = carrier.unless_ended(handshake).await else {
        return;
    };
    if carrier.was_told().is_some() {
        connection.graceful_shutdown();
    }
    loop {
        let accept = poll_fn(|cx| match connection.poll_accept(cx) {
            Poll::Pending if spent.is_so() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
            Poll::Ready(accepted) => Poll::Ready(Some(accepted)),
        });
        let accepted = match first(carrier.told(), accept).await {
            Ok(Some(accepted)) => Ok(accepted),
            Ok(None) => Err(Some(CarrierEnd::TooMany)),
            Err(told) => Err(told),
        };
        match accepted {
            Ok(Some(Ok((request, respond)))) => open(request, respond, &certificates, carrier).await,
            // The connection has already sent the reason, if it could.
            Ok(Some(Err(_)) | None) => return,
            Err(Some(CarrierEnd::Stopping)) => connection.graceful_shutdown(),
            Err(Some(CarrierEnd::TooMany | CarrierEnd::Failed)) => {
                return shut_down(connection, Reason::ENHANCE_YOUR_CALM).await;
            }
            Err(Some(CarrierEnd::Late) | None) => return shut_down(connection, Reason::NO_ERROR).await,
        }
    }
}

fn settings(limits: &Limits) -> server::Builder {
    let mut builder = server::Builder::new();
    builder
        .max_concurrent_streams(limits.stream.streams_per_connection)
        .initial_window_size(limits.stream.stream_bytes)
        // With this, one stream that is not read does not block the others.
        .initial_connection_window_size(
            limits.stream.stream_bytes.saturating_mul(limits.stream.streams_per_connection).min(i32::MAX as u32),
        )
        .max_send_buffer_size(limits.stream.stream_bytes as usize)
        .max_header_list_size(HEADER_BYTES)
        .max_concurrent_reset_streams(RESET_STREAMS)
        .max_pending_accept_reset_streams(RESET_STREAMS)
        .max_local_error_reset_streams(Some(RESET_STREAMS))
        .reset_stream_duration(RESET_FOR);
    builder
}

/// Ends the connection with a reason; waits a bounded time until it is sent.
async fn shut_down<T: AsyncRead + AsyncWrite + Unpin>(mut connection: Connection<T, Bytes>, why: Reason) {
    connection.abrupt_shutdown(why);
    let _ = tokio::time::timeout(GOODBYE, poll_fn(|cx| connection.poll_closed(cx))).await;
}

/// Judges a request: makes a stream of it, or refuses it.
async fn open(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    certificates: &[CertificateDer<'static>],
    carrier: &Carrier,
) {
    let (parts, body) = request.into_parts();
    let headers = parts.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let authority = parts.uri.authority().map(http::uri::Authority::as_str);
    let upgrades = &carrier.acceptor.upgrades;
    let mut response = Response::new(());
    match upgrades.judge_stream(parts.method.as_str(), parts.uri.path(), authority, headers) {
        Ok(()) => {
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(LINES));
            // If the peer is gone, no stream is needed.
            if let Ok(send) = respond.send_response(response, false) {
                carrier.opened(Stream::new(send, body, None), certificates.to_vec(), None).await;
            }
        }
        Err((status, why)) => {
            *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
            if status == 405 {
                response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
            }
            if let Ok(mut send) = respond.send_response(response, false) {
                let _ = send.send_data(Bytes::from(format!("{why}\n")), true);
            }
            carrier.refused().await;
        }
    }
}

/// Opens a stream on a new connection, over a transport to the server.
pub(crate) async fn dial(
    io: impl ByteStream,
    host: &str,
    port: u16,
    path: &str,
    tls: bool,
) -> io::Result<impl ByteStream> {
    let scheme = if tls { "https" } else { "http" };
    let uri = format!("{scheme}://{}:{port}{path}", bracketed(host));
    let request = Request::post(uri).header(header::CONTENT_TYPE, LINES).body(()).map_err(io::Error::other)?;
    let mut builder = client::Builder::new();
    builder.enable_push(false).initial_window_size(CLIENT_WINDOW).initial_connection_window_size(CLIENT_WINDOW);
    builder.max_header_list_size(HEADER_BYTES).max_send_buffer_size(CLIENT_WINDOW as usize);
    let (requests, connection) = builder.handshake(Box::pin(io)).await.map_err(failed)?;
    let (kept, dropped) = oneshot::channel::<()>();
    tokio::spawn(first(connection, async {
        let _ = dropped.await;
        tokio::time::sleep(GOODBYE).await;
    }));
    let (response, send) = requests.ready().await.map_err(failed)?.send_request(request, false).map_err(failed)?;
    let response = response.await.map_err(failed)?;
    let (status, mut body) = (response.status(), response.into_body());
    if status == StatusCode::OK {
        return Ok(Stream::new(send, body, Some(kept)));
    }
    let mut said = Vec::new();
    while said.len() < HEADER_BYTES as usize
        && let Some(Ok(data)) = body.data().await
    {
        let _ = body.flow_control().release_capacity(data.len());
        said.extend_from_slice(&data);
    }
    let said = String::from_utf8_lossy(&said);
    Err(refused(status.as_u16(), &said))
}

fn failed(error: h2::Error) -> io::Error {
    if error.is_io() {
        error.into_io().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into())
    } else {
        io::Error::other(error)
    }
}

/// The two bodies of a request.
struct Stream {
    send: SendStream<Bytes>,
    body: RecvStream,
    /// Received bytes that were not read. The window is enlarged again as they are read.
    unread: Bytes,
    /// Keeps the connection open, if it has only this stream.
    _kept: Option<oneshot::Sender<()>>,
}

impl Stream {
    fn new(send: SendStream<Bytes>, body: RecvStream, kept: Option<oneshot::Sender<()>>) -> Stream {
        Stream { send, body, unread: Bytes::new(), _kept: kept }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.unread.is_empty() {
            match self.body.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) => self.unread = data,
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(failed(error))),
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
        }
        let n = self.unread.len().min(buffer.remaining());
        buffer.put_slice(&self.unread.split_to(n));
        Poll::Ready(self.body.flow_control().release_capacity(n).map_err(failed))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wanted = bytes.len().min(WRITE_BYTES);
        self.send.reserve_capacity(wanted);
        while self.send.capacity() == 0 {
            match self.send.poll_capacity(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(failed(error))),
                Poll::Ready(None) => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                Poll::Pending => return Poll::Pending,
            }
        }
        let n = wanted.min(self.send.capacity());
        self.send.send_data(Bytes::copy_from_slice(&bytes[..n]), false).map_err(failed)?;
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.send.send_data(Bytes::new(), true).map_err(failed))
    }
}
