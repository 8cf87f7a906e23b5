//! Stands between the sink and ClickHouse, and holds an insert back at a moment that a kill by itself would hardly ever hit.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use test_support::{DEADLINE, wait_until};

/// Where an insert is held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    /// The server has half of the rows.
    Request,
    /// The server has them all, and has said so; the sink does not know.
    Answer,
}

#[derive(Default)]
struct State {
    /// How, and at which insert from now on.
    plan: Option<(Hold, usize)>,
    is_holding: bool,
}

/// A proxy on a port of its own; each request has a connection of its own.
pub(crate) struct Proxy {
    port: u16,
    state: Arc<Mutex<State>>,
}

impl Proxy {
    /// To a server on this machine.
    pub(crate) fn start(server: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::<Mutex<State>>::default();
        let shared = state.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let state = shared.clone();
                // What fails is a broken connection, as either side sees it.
                std::thread::spawn(move || serve(client, server, &state));
            }
        });
        Self { port, state }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Holds an insert back, the first one from now on where `number` is 1.
    pub(crate) fn hold(&self, hold: Hold, number: usize) {
        *self.state.lock().unwrap() = State { plan: Some((hold, number)), is_holding: false };
    }

    /// Returns when it is held back.
    pub(crate) fn wait(&self) {
        wait_until("an insert to be held back", DEADLINE, || self.state.lock().unwrap().is_holding);
    }

    /// Drops what is held back: no answer comes.
    pub(crate) fn release(&self) {
        *self.state.lock().unwrap() = State::default();
    }
}

fn serve(mut client: TcpStream, server: u16, state: &Mutex<State>) -> std::io::Result<()> {
    let (head, body) = read_request(&mut client)?;
    let hold = if head.contains("query=INSERT") { is_due(state) } else { None };
    let mut upstream = TcpStream::connect((Ipv4Addr::LOCALHOST, server))?;
    let head = head.replacen("\r\n", "\r\nConnection: close\r\n", 1);
    upstream.write_all(head.as_bytes())?;
    if hold == Some(Hold::Request) {
        upstream.write_all(&body[..body.len() / 2])?;
        hold_back(state);
        return Ok(());
    }
    upstream.write_all(&body)?;
    let mut answer = Vec::new();
    upstream.read_to_end(&mut answer)?;
    if hold == Some(Hold::Answer) {
        hold_back(state);
        return Ok(());
    }
    client.write_all(&answer)
}

/// Whether the insert is the one, and what is to be done with it.
fn is_due(state: &Mutex<State>) -> Option<Hold> {
    let mut state = state.lock().unwrap();
    let (hold, number) = state.plan?;
    state.plan = (number > 1).then_some((hold, number - 1));
    (number == 1).then_some(hold)
}

fn hold_back(state: &Mutex<State>) {
    state.lock().unwrap().is_holding = true;
    wait_until("the release", DEADLINE, || !state.lock().unwrap().is_holding);
}

fn read_request(client: &mut TcpStream) -> std::io::Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 16_384];
    loop {
        let count = client.read(&mut buffer)?;
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&buffer[..count]);
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end + 4]).into_owned();
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
        });
        if bytes.len() >= end + 4 + length.unwrap_or(0) {
            return Ok((head, bytes.split_off(end + 4)));
        }
    }
}
