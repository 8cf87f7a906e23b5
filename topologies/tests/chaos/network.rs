//! The network between one process and the brokers, which can be cut: nothing is closed, nothing arrives.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

/// Whether it is cut, and a way to wait until it is not.
type Line = Arc<(Mutex<bool>, Condvar)>;

/// One proxy for each broker.
pub(crate) struct Network {
    /// The brokers as they are reached through it.
    pub(crate) bootstrap: String,
    line: Line,
}

impl Network {
    /// `ports`: where each broker listens, and where the proxy has to, because the broker advertises it.
    pub(crate) fn start(ports: &[(u16, u16)]) -> Self {
        let line = Line::default();
        for (broker, advertised) in ports.iter().copied() {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, advertised)).unwrap();
            let line = line.clone();
            std::thread::spawn(move || {
                for client in listener.incoming().map_while(Result::ok) {
                    let line = line.clone();
                    // A broker that is down refuses; the client sees its connection end.
                    std::thread::spawn(move || connect(client, broker, &line));
                }
            });
        }
        let addresses: Vec<_> = ports.iter().map(|(_, port)| format!("127.0.0.1:{port}")).collect();
        Self { bootstrap: addresses.join(","), line }
    }

    /// From now on nothing arrives.
    pub(crate) fn cut(&self) {
        *self.line.0.lock().unwrap() = true;
    }

    /// What was under way arrives, late.
    pub(crate) fn heal(&self) {
        *self.line.0.lock().unwrap() = false;
        self.line.1.notify_all();
    }
}

fn connect(client: TcpStream, broker: u16, line: &Line) -> std::io::Result<()> {
    wait_until_whole(line);
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, broker))?;
    for (from, to) in [(&client, &server), (&server, &client)] {
        let (from, to, line) = (from.try_clone()?, to.try_clone()?, line.clone());
        std::thread::spawn(move || copy(from, to, &line));
    }
    Ok(())
}

/// Until either side is gone.
fn copy(mut from: TcpStream, mut to: TcpStream, line: &Line) {
    let mut buffer = [0; 65_536];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        wait_until_whole(line);
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    // The other direction ends with this one; one that is closed already cannot be closed again.
    let _ = (to.shutdown(Shutdown::Both), from.shutdown(Shutdown::Both));
}

fn wait_until_whole(line: &Line) {
    let (is_cut, healed) = &**line;
    drop(healed.wait_while(is_cut.lock().unwrap(), |is_cut| *is_cut).unwrap());
}
