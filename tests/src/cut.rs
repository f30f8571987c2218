//! A proxy between clients and a server that counts bytes, and cuts connections after a given number of bytes.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

/// A proxy. It runs for as long as the process.
#[derive(Clone, Debug)]
pub struct Carrier {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

/// How many bytes were carried in each direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// From clients to the server.
    pub up: u64,
    /// From the server to clients.
    pub down: u64,
}

#[derive(Debug)]
struct State {
    to: SocketAddr,
    carried: Carried,
    most: Carried,
    is_cut: bool,
}

impl Carrier {
    /// A proxy for this server.
    ///
    /// # Panics
    ///
    /// If no port is free.
    pub fn to(server: SocketAddr) -> Carrier {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let most = Carried { up: u64::MAX, down: u64::MAX };
        let state = State { to: server, carried: Carried::default(), most, is_cut: false };
        let address = listener.local_addr().expect("an address");
        let carrier = Carrier { address, state: Arc::new(Mutex::new(state)) };
        let own = carrier.clone();
        std::thread::spawn(move || listener.incoming().flatten().for_each(|client| own.carry(client)));
        carrier
    }

    /// The URL for clients.
    pub fn url(&self) -> String {
        format!("ws://{}/arcp", self.address)
    }

    /// Cuts all connections and refuses new ones, once this many more bytes were carried in either direction.
    pub fn cut_after(&self, more: Carried) {
        self.with(|state| {
            let Carried { up, down } = state.carried;
            state.most = Carried { up: up.saturating_add(more.up), down: down.saturating_add(more.down) };
        });
    }

    /// Whether it has cut the connections.
    pub fn is_cut(&self) -> bool {
        self.with(|state| state.is_cut)
    }

    /// Carries again, to this server, and cuts nothing.
    pub fn mend(&self, server: SocketAddr) {
        self.with(|state| {
            (state.to, state.is_cut) = (server, false);
            state.most = Carried { up: u64::MAX, down: u64::MAX };
        });
    }

    /// The bytes carried so far.
    pub fn carried(&self) -> Carried {
        self.with(|state| state.carried)
    }

    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn carry(&self, client: TcpStream) {
        let to = self.with(|state| Some(state.to).filter(|_| !state.is_cut));
        let Some(server) = to.and_then(|to| TcpStream::connect(to).ok()) else {
            return;
        };
        for is_up in [true, false] {
            let ends = [client.try_clone(), server.try_clone()].map(|end| end.expect("it is open"));
            let (own, [client, server]) = (self.clone(), ends);
            let (from, into) = if is_up { (client, server) } else { (server, client) };
            std::thread::spawn(move || own.pump(is_up, from, into));
        }
    }

    /// Carries one direction of a connection, until an end is closed or the connection is cut.
    fn pump(&self, is_up: bool, mut from: TcpStream, mut into: TcpStream) {
        let mut buffer = vec![0; 16 << 10];
        loop {
            let bytes = from.read(&mut buffer).unwrap_or(0);
            let goes_on = bytes > 0
                && self.with(|state| {
                    let carried = if is_up { &mut state.carried.up } else { &mut state.carried.down };
                    *carried += bytes as u64;
                    state.is_cut |= state.carried.up > state.most.up || state.carried.down > state.most.down;
                    !state.is_cut
                });
            if !goes_on || into.write_all(&buffer[..bytes]).is_err() {
                let _ = (from.shutdown(Shutdown::Both), into.shutdown(Shutdown::Both));
                return;
            }
        }
    }
}
