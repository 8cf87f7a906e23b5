//! A way to the schema registry that can be cut.

use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Passes connections on to the registry while it is up.
pub(crate) struct RegistryProxy {
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    is_down: bool,
    open: Vec<TcpStream>,
}

impl RegistryProxy {
    /// Listens on a free port. `registry`: `http://host:port/path`.
    pub(crate) fn start(registry: &str) -> Self {
        let (host, path) = registry.strip_prefix("http://").unwrap().split_once('/').unwrap();
        let (host, state) = (host.to_owned(), Arc::<Mutex<State>>::default());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let url = format!("http://{}/{path}", listener.local_addr().unwrap());
        let shared = state.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let mut state = shared.lock().unwrap();
                if state.is_down {
                    continue;
                }
                let Ok(server) = TcpStream::connect(&host) else { continue };
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    std::thread::spawn(move || copy(from, to));
                }
                state.open.extend([client, server]);
            }
        });
        Self { url, state }
    }

    /// Cuts every connection, and takes no new ones.
    pub(crate) fn cut(&self) {
        let mut state = self.state.lock().unwrap();
        state.is_down = true;
        for stream in state.open.drain(..) {
            // One that the other side has closed is gone already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Until either side is gone.
fn copy(mut from: TcpStream, mut to: TcpStream) {
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Both);
}
