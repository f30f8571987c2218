//! Connections that carry sessions as streams: the messages between their tasks and the server's task.

use std::future::{Future, poll_fn};
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use arcp_host::framing::Beside;
use arcp_host::server::{CarrierEnd, Origin, ServerConfig, ServerLoop};
use arcp_host::tls::Certificates;
use arcp_proto::id::ConnId;
use arcp_proto::limits::Limits;
use arcp_proto::runtime::Config;
use tokio::sync::{oneshot, watch};
use tokio_rustls::rustls::pki_types::CertificateDer;

use crate::readiness::Readiness;
use crate::server::{Acceptor, Arrival};
use crate::socket::{ByteStream, Polled};

/// The time between two looks whether there is room for another connection.
const LOOK: Duration = Duration::from_millis(100);

/// The settings of ports with such connections.
#[derive(Debug)]
pub(crate) struct Ports {
    certificates: Option<Arc<Certificates>>,
    pub(crate) limits: Limits,
}

impl Ports {
    pub(crate) fn new(server: &ServerConfig, core: &Config) -> Ports {
        Ports { certificates: server.tls.clone(), limits: core.limits.clone() }
    }

    /// The certificate and key of a port with TLS. The configuration has been checked for them.
    pub(crate) fn certificates(&self) -> io::Result<Arc<Certificates>> {
        self.certificates.clone().ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }
}

/// A message of a carrier's task to the server.
pub(crate) enum News {
    Came {
        address: IpAddr,
        has_tls: bool,
        end: watch::Sender<Option<CarrierEnd>>,
        answer: oneshot::Sender<Option<ConnId>>,
    },
    Secure(ConnId),
    Stream {
        carrier: ConnId,
        certificates: Vec<CertificateDer<'static>>,
        stream: Pin<Box<dyn ByteStream>>,
        beside: Option<Beside>,
    },
    #[cfg(feature = "http2")]
    Refused(ConnId),
    Gone(ConnId),
}

impl News {
    pub(crate) fn hear(self, serving: &mut ServerLoop<Polled>, readiness: &Arc<Readiness>) {
        match self {
            News::Came { address, has_tls, end, answer } => {
                let conn = serving.carry(Origin::Address(address), has_tls, move |why| _ = end.send(Some(why)));
                if let Err(Some(conn)) = answer.send(conn) {
                    serving.carrier_is_gone(conn);
                }
            }
            News::Secure(conn) => serving.carrier_is_secure(conn),
            News::Stream { carrier, certificates, stream, beside } => {
                let socket = |conn| Ok(Polled::new(stream, readiness.waker(conn)));
                serving.open_on(carrier, certificates, beside, socket);
            }
            #[cfg(feature = "http2")]
            News::Refused(conn) => serving.stream_failed(conn),
            News::Gone(conn) => serving.carrier_is_gone(conn),
        }
    }
}

/// A connection that the server has admitted.
pub(crate) struct Carrier {
    conn: ConnId,
    pub(crate) acceptor: Acceptor,
    end: watch::Receiver<Option<CarrierEnd>>,
}

impl Carrier {
    /// Waits until the server has room for a connection; `None` if the server has ended.
    pub(crate) async fn admit(acceptor: &Acceptor, address: IpAddr, has_tls: bool) -> Option<Carrier> {
        loop {
            let (sender, end) = watch::channel(None);
            let (answer, answered) = oneshot::channel();
            let came = News::Came { address, has_tls, end: sender, answer };
            acceptor.hand(Arrival::OfCarrier(came)).await.ok()?;
            if let Some(conn) = answered.await.ok()? {
                return Some(Carrier { conn, acceptor: acceptor.clone(), end });
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Runs the future until it is done, or the connection must end at once.
    pub(crate) async fn unless_ended<T>(&mut self, doing: impl Future<Output = T>) -> Result<T, CarrierEnd> {
        let ended = async {
            loop {
                match self.told().await {
                    Some(CarrierEnd::Stopping) => {}
                    Some(why) => return why,
                    None => return CarrierEnd::Stopping,
                }
            }
        };
        first(ended, doing).await
    }

    /// Runs the future until it is done, or the connection must end, at once or by draining.
    #[cfg(feature = "quic")]
    pub(crate) async fn unless_told<T>(&mut self, doing: impl Future<Output = T>) -> Result<T, CarrierEnd> {
        if let Some(why) = self.was_told() {
            return Err(why);
        }
        first(self.told(), doing).await.map_err(|why| why.unwrap_or(CarrierEnd::Stopping))
    }

    /// The last message of the server about the connection's end.
    pub(crate) fn was_told(&self) -> Option<CarrierEnd> {
        *self.end.borrow()
    }

    /// The next message of the server about the connection's end; `None` if the server is gone.
    pub(crate) async fn told(&mut self) -> Option<CarrierEnd> {
        self.end.changed().await.ok()?;
        *self.end.borrow_and_update()
    }

    pub(crate) async fn is_secure(&self) {
        self.say(News::Secure(self.conn)).await;
    }

    #[cfg(feature = "http2")]
    pub(crate) async fn refused(&self) {
        self.say(News::Refused(self.conn)).await;
    }

    pub(crate) async fn opened(
        &self,
        stream: impl ByteStream,
        certificates: Vec<CertificateDer<'static>>,
        beside: Option<Beside>,
    ) {
        let stream: Pin<Box<dyn ByteStream>> = Box::pin(stream);
        self.say(News::Stream { carrier: self.conn, certificates, stream, beside }).await;
    }

    pub(crate) async fn gone(self) {
        self.say(News::Gone(self.conn)).await;
    }

    /// Sends a message to the server, unless it has ended.
    async fn say(&self, news: News) {
        let _ = self.acceptor.hand(Arrival::OfCarrier(news)).await;
    }
}

/// The outcome of the future that is done first; of `one` if both are.
pub(crate) async fn first<A, B>(one: impl Future<Output = A>, other: impl Future<Output = B>) -> Result<B, A> {
    let (mut one, mut other) = (pin!(one), pin!(other));
    poll_fn(|cx| match one.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Err(done)),
        Poll::Pending => other.as_mut().poll(cx).map(Ok),
    })
    .await
}
