//! TLS of HTTP clients: by the OpenSSL that librdkafka links anyway, trusting the system's authorities or those of a file.
//!
//! Public, so that an application's own clients trust as the registry's does. Cold.

use std::path::Path;

use ureq::tls::{PemItem, RootCerts, TlsConfig, TlsProvider};

use crate::error::{Error, Result};

/// TLS for a client of `ureq`; `ca_file` is a PEM file with the authorities to trust, the system's where none is given.
///
/// # Errors
/// `Invalid` where the file cannot be read, or holds anything but certificates.
pub fn tls_config(ca_file: Option<&Path>) -> Result<TlsConfig> {
    let roots = match ca_file {
        Some(file) => RootCerts::from(certificates(file)?),
        None => RootCerts::PlatformVerifier,
    };
    Ok(TlsConfig::builder().provider(TlsProvider::NativeTls).root_certs(roots).build())
}

fn certificates(file: &Path) -> Result<Vec<ureq::tls::Certificate<'static>>> {
    let wanted = || {
        format!(
            "cannot read the authorities of \"{}\", wanted a file with certificates as PEM",
            file.display()
        )
    };
    let text = std::fs::read(file).map_err(|error| Error::invalid(wanted()).with_source(error))?;
    let mut certificates = Vec::new();
    for item in ureq::tls::parse_pem(&text) {
        match item.map_err(|error| Error::invalid(wanted()).with_source(error))? {
            PemItem::Certificate(certificate) => certificates.push(certificate),
            _ => return Err(Error::invalid(format!("{}: found something else", wanted()))),
        }
    }
    match certificates.is_empty() {
        true => Err(Error::invalid(format!("{}: found none", wanted()))),
        false => Ok(certificates),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_refused_by_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "no certificate").unwrap();
        for path in [file.path(), Path::new("/nonexistent/ca.pem")] {
            let error = tls_config(Some(path)).unwrap_err();
            assert!(error.message().contains(&path.display().to_string()), "{error}");
            assert!(error.message().contains("wanted a file with certificates as PEM"), "{error}");
        }
        tls_config(None).unwrap();
    }
}
