//! Streams of connections that carry others: HTTP/2 and QUIC.

use std::os::unix::net::UnixStream;
use std::sync::Arc;

use arcp_blocking::{Security, Target, Trust};
use arcp_host::tls::Certificates;
use arcp_tests::kept::Folder;
use arcp_tests::server::PATIENCE;

use crate::site::runtime;

/// A certificate in a folder, and how it is trusted.
pub fn certificates(folder: &Folder) -> (Arc<Certificates>, Security) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_string()]).expect("a certificate");
    let (certificate, key) = (folder.0.join("cert.pem"), folder.0.join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).expect("written");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
    let certificates = Certificates::read(&certificate, &key).expect("a pair");
    (Arc::new(certificates), Security { trust: Trust::Authorities(certificate), ..Security::default() })
}

/// The bytes of a stream of a connection of its own.
pub fn stream(target: &Target, security: &Security) -> UnixStream {
    let (near, far) = UnixStream::pair().expect("a pair");
    far.set_nonblocking(true).expect("set");
    let (target, security) = (target.clone(), security.clone());
    std::thread::spawn(move || {
        runtime().block_on(async {
            let opened = arcp_tokio_adapter::open_lines(&target, &security, PATIENCE).await;
            let mut stream = Box::pin(opened.expect("a stream"));
            let mut far = tokio::net::UnixStream::from_std(far).expect("a stream");
            let _ = tokio::io::copy_bidirectional(&mut stream, &mut far).await;
        });
    });
    near
}
