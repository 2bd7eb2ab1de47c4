//! For tests of both kinds, beside the sources and in `tests`.

use std::net::{TcpListener, TcpStream};

/// A port of this machine where nobody listens, and nobody can while this lives: a connection's own end has it.
pub struct ClosedPort {
    _connection: (TcpListener, TcpStream),
    /// `127.0.0.1:<port>`.
    pub address: String,
}

impl ClosedPort {
    pub fn take() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let stream = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
        let address = stream.local_addr().expect("an address").to_string();
        Self { _connection: (listener, stream), address }
    }
}
