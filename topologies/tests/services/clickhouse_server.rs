//! Debian's ClickHouse on loopback, in a folder of its own, that can be killed and started again.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;

use test_support::{DEADLINE, Process, Signal, wait_until};

/// A server; killed when dropped.
pub(crate) struct Server {
    folder: tempfile::TempDir,
    port: u16,
    process: Option<Process>,
}

impl Server {
    /// Starts one, and returns when it answers.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ports = free_ports(3);
        let path = folder.path().display();
        let mut config = String::from(
            "<yandex>\n<logger><level>warning</level><console>true</console></logger>\n",
        );
        for (name, port) in ["http_port", "tcp_port", "interserver_http_port"].iter().zip(&ports) {
            let _ = writeln!(config, "<{name}>{port}</{name}>");
        }
        let _ = write!(
            config,
            "<listen_host>127.0.0.1</listen_host><path>{path}/data/</path><tmp_path>{path}/scratch/</tmp_path>\n\
             <users_config>users.xml</users_config><default_profile>default</default_profile>\n\
             <default_database>default</default_database><mark_cache_size>10000000</mark_cache_size>\n</yandex>\n"
        );
        std::fs::write(folder.path().join("config.xml"), config).unwrap();
        std::fs::write(
            folder.path().join("users.xml"),
            "<yandex><profiles><default></default></profiles><users><default><password></password>\
             <networks><ip>127.0.0.1</ip></networks><profile>default</profile><quota>default</quota></default></users>\
             <quotas><default></default></quotas></yandex>\n",
        )
        .unwrap();
        let mut server = Self { folder, port: ports[0], process: None };
        server.restart();
        server
    }

    /// The port of its HTTP interface.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Kills it on the spot.
    pub(crate) fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.signal(Signal::Kill);
        process.wait(DEADLINE);
    }

    /// Starts it again on its folder.
    pub(crate) fn restart(&mut self) {
        let mut command = Command::new(program());
        command.current_dir(self.folder.path());
        command.arg(format!("--config-file={}", self.folder.path().join("config.xml").display()));
        self.process = Some(Process::start(command));
        wait_until("ClickHouse", DEADLINE, || self.try_query("SELECT 1").as_deref() == Some("1\n"));
    }

    /// What a query prints.
    pub(crate) fn query(&self, query: &str) -> String {
        self.try_query(query).unwrap_or_else(|| panic!("ClickHouse refused: {query}"))
    }

    fn try_query(&self, query: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(DEADLINE)).ok()?;
        let length = query.len();
        write!(stream, "POST / HTTP/1.0\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{query}")
            .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.contains(" 200 ").then(|| body.to_owned())
    }
}

/// Ports that differ: all are held until the last one is known.
fn free_ports(count: usize) -> Vec<u16> {
    let held: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    held.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}

fn program() -> PathBuf {
    let variable = "KSTREAMS_TEST_CLICKHOUSE";
    std::env::var_os(variable).map(PathBuf::from).unwrap_or_else(|| {
        panic!(
            "{variable} is not set: this test needs the program that `make test` fetches; by hand: the path of \
             a clickhouse-server, 18.16 or newer"
        )
    })
}
