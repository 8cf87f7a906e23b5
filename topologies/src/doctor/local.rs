//! This machine: the state folder, its disk, its clock, and the providers that messages are handed to.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use kstreams::Timestamp;
use ureq::http::Uri;

use super::{Findings, Patient};
use crate::catalog::CATALOG;

/// Until when something at an address must have taken a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

pub(super) fn look(patient: &Patient<'_>, findings: &mut Findings) {
    folder(patient, findings);
    clock(patient, findings);
    providers(patient, findings);
}

fn folder(patient: &Patient<'_>, findings: &mut Findings) {
    let folder = &*patient.settings.kafka.state_dir;
    let about = folder.display().to_string();
    if let Err(error) = try_write(folder) {
        let found = format!("found it not writable ({error}), wanted read and write access");
        let cure = "give the program's user the folder, or set kafka.state_dir";
        return findings.fail("state", &about, found, cure);
    }
    findings.ok("state", &about, "writable");
    // A running instance of ours holds its folders, as it should.
    let is_running = answers(&patient.settings.http.bind).is_ok();
    for spec in CATALOG {
        let own = folder.join(patient.settings.application_id(spec.name));
        if is_locked(&own.join("process")) && !is_running {
            let found = format!(
                "another process holds it, and nothing answers at http.bind \"{}\"",
                patient.settings.http.bind
            );
            let cure = "stop that process (`fuser` names it), or give this instance a kafka.state_dir of its own";
            findings.warn("state", &own.display().to_string(), found, cure);
        }
    }
    disk(patient, folder, &about, findings);
}

/// Makes the folder, as the engine would, and a file in it.
fn try_write(folder: &Path) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    let probe = folder.join(format!(".doctor-{}", std::process::id()));
    fs::write(&probe, b"")?;
    fs::remove_file(&probe)
}

/// Whether a process holds the folder of an application; see `runtime/state_dir.rs` of the engine.
fn is_locked(file: &Path) -> bool {
    let open: std::io::Result<File> = OpenOptions::new().read(true).write(true).open(file);
    open.is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

fn disk(patient: &Patient<'_>, folder: &Path, about: &str, findings: &mut Findings) {
    let wanted = patient.settings.doctor.disk_free_min_bytes;
    match fs4::available_space(folder) {
        Ok(free) if free >= wanted => findings.ok("disk", about, format!("{free} bytes free")),
        Ok(free) => {
            let found =
                format!("found {free} bytes free, wanted {wanted} (doctor.disk_free_min_bytes)");
            let cure = "make room: stores are restored from their changelogs, so folders of applications that no longer run may go";
            findings.fail("disk", about, found, cure);
        }
        Err(error) => findings.warn(
            "disk",
            about,
            format!("cannot be asked: {error}"),
            "look by hand with df",
        ),
    }
}

/// Compares with the registry's clock. That of brokers cannot be asked; records from the future are looked for in the samples.
fn clock(patient: &Patient<'_>, findings: &mut Findings) {
    // Where the registry does not answer, its own line says so.
    let Ok(Some(text)) = patient.registry.date() else { return };
    let about = &patient.settings.schema_registry.url;
    let Some(theirs) = http_date(&text) else {
        let found = format!("found the date \"{text}\", wanted one as HTTP writes it");
        return findings.warn("clock", about, found, "see what answers at that address");
    };
    let ours = patient.clock.now();
    let apart_ms = (ours.as_millis() - theirs.as_millis()).abs();
    let max_ms = patient.settings.doctor.clock_skew_max_ms;
    // The header has whole seconds.
    if apart_ms.cast_unsigned() <= max_ms + 1_000 {
        return findings.ok("clock", about, format!("{apart_ms} ms from ours, to a second"));
    }
    let found = format!(
        "found it {apart_ms} ms {} ours, wanted at most {max_ms} (doctor.clock_skew_max_ms)",
        if theirs < ours { "behind" } else { "ahead of" }
    );
    let cure = "set both clocks by one NTP server (`chronyc tracking`): deadlines, escalations and joins go by them";
    findings.fail("clock", about, found, cure);
}

fn http_date(text: &str) -> Option<Timestamp> {
    let since = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(Timestamp::from_millis(i64::try_from(since.as_millis()).ok()?))
}

/// Those that are set, by whether they take a connection: nothing is sent.
fn providers(patient: &Patient<'_>, findings: &mut Findings) {
    let delivery = &patient.settings.delivery;
    let email = &delivery.email;
    let mut wanted = Vec::new();
    if !email.host.is_empty() {
        wanted.push(("delivery.email", format!("{}:{}", email.host, email.port)));
    }
    let telegram = if delivery.telegram.token.is_empty() { "" } else { &*delivery.telegram.url };
    let urls = [
        ("delivery.telegram.url", telegram),
        ("delivery.sms.url", &*delivery.sms.url),
        ("clickhouse.url", &*patient.settings.clickhouse.url),
    ];
    let set = urls.into_iter().filter(|(_, url)| !url.is_empty());
    wanted.extend(set.map(|(name, url)| (name, address(url).unwrap_or_default())));
    for (name, address) in wanted {
        match answers(&address) {
            Ok(()) => findings.ok("provider", name, format!("\"{address}\" takes connections")),
            Err(error) => {
                let found = format!("found nothing at \"{address}\" ({error})");
                let cure = "start it or correct the setting; until then what is for it waits and is tried again";
                findings.warn("provider", name, found, cure);
            }
        }
    }
}

/// `host:port` of a URL.
fn address(url: &str) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    let default = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    Some(format!("{}:{}", uri.host()?, uri.port_u16().unwrap_or(default)))
}

/// Whether something takes connections at `host:port`.
pub(super) fn answers(address: &str) -> std::io::Result<()> {
    let mut last = std::io::Error::other("no such address");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(_) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_of_urls() {
        assert_eq!(address("https://api.telegram.org").unwrap(), "api.telegram.org:443");
        assert_eq!(address("http://127.0.0.1:8123/x").unwrap(), "127.0.0.1:8123");
        assert_eq!(address("nothing at all"), None);
    }

    #[test]
    fn dates_are_read_as_http_writes_them() {
        let date = http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(date, Timestamp::from_millis(784_111_777_000));
        assert_eq!(http_date("yesterday"), None);
    }
}
