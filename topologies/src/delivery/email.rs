//! E-mail over SMTP. Connections are kept open and shared by the threads of the channel.

use std::time::Duration;

use kstreams::telemetry::TRACEPARENT;
use kstreams::{Error, Result};
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MessageBuilder};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::{self, PoolConfig};
use lettre::{Message as Mail, SmtpTransport, Transport as _};

use crate::recipients::Address;

use super::courier::Carrier;
use super::rules::{Parcel, Reason, Verdict};
use super::settings::{EmailSettings, Encryption};
use super::templates::Text;

/// An SMTP server.
pub(super) struct Smtp {
    transport: SmtpTransport,
    from: Mailbox,
}

impl Smtp {
    /// A server as the settings describe it; connects with the first message.
    ///
    /// # Errors
    /// `Invalid` for a sender that is no address, or a certificate that cannot be read.
    pub(super) fn new(settings: &EmailSettings) -> Result<Self> {
        let from: Mailbox = settings.from.parse().map_err(|error| {
            let found = &settings.from;
            Error::invalid(format!(
                "setting delivery.email.from: found \"{found}\", wanted an address such as Service <noreply@example.org>"
            ))
            .with_source(error)
        })?;
        let tls = match settings.encryption {
            Encryption::None => Tls::None,
            Encryption::Starttls => Tls::Required(parameters(settings)?),
            Encryption::Tls => Tls::Wrapper(parameters(settings)?),
        };
        let pool = PoolConfig::new().max_size(u32::try_from(settings.concurrency).unwrap_or(1));
        let mut builder = SmtpTransport::builder_dangerous(&settings.host)
            .port(settings.port)
            .tls(tls)
            .timeout(Some(Duration::from_millis(settings.timeout_ms)))
            .pool_config(pool);
        if !settings.username.is_empty() {
            let (name, password) = (settings.username.clone(), settings.password.clone());
            builder = builder.credentials(Credentials::new(name, password));
        }
        Ok(Self { transport: builder.build(), from })
    }

    fn mail(&self, parcel: &Parcel, text: &Text) -> std::result::Result<(Mail, String), String> {
        let Address::Email(to) = &parcel.address else {
            return Err(format!("found another address than one of e-mail: {:?}", parcel.address));
        };
        let to: Mailbox = match to.parse::<lettre::Address>() {
            Ok(address) => Mailbox::new(None, address),
            Err(error) => return Err(format!("the e-mail address is none: {error}")),
        };
        let id = format!("<{}@{}>", parcel.message.id, self.from.email.domain());
        let mut builder = MessageBuilder::new()
            .from(self.from.clone())
            .to(to)
            .subject(&text.subject)
            .message_id(Some(id.clone()))
            .header(AutoSubmitted)
            .header(ContentType::TEXT_PLAIN);
        if let Some(context) = &parcel.message.trace {
            let name = HeaderName::new_from_ascii_str(TRACEPARENT);
            builder = builder.raw_header(HeaderValue::new(name, context.to_string()));
        }
        let mail = builder
            .body(text.text.clone())
            .map_err(|error| format!("cannot write the mail: {error}"))?;
        Ok((mail, id))
    }
}

fn parameters(settings: &EmailSettings) -> Result<TlsParameters> {
    let refuse = |error| {
        Error::invalid("setting delivery.email: cannot set up encryption").with_source(error)
    };
    let mut builder = TlsParameters::builder(settings.host.clone());
    if !settings.ca_file.is_empty() {
        let place = format!("setting delivery.email.ca_file: \"{}\"", settings.ca_file);
        let pem = std::fs::read(&settings.ca_file).map_err(|error| {
            Error::invalid(format!("{place} cannot be read")).with_source(error)
        })?;
        let certificate = Certificate::from_pem(&pem).map_err(|error| {
            Error::invalid(format!("{place} is no certificate in PEM")).with_source(error)
        })?;
        builder = builder.add_root_certificate(certificate);
    }
    builder.build().map_err(refuse)
}

impl Carrier for Smtp {
    fn send(&self, parcel: &Parcel, text: &Text) -> Verdict {
        let (mail, id) = match self.mail(parcel, text) {
            Ok(mail) => mail,
            Err(error) => return Verdict::Refused(error),
        };
        match self.transport.send(&mail) {
            Ok(_) => Verdict::Sent(Some(id)),
            Err(error) => verdict(&error),
        }
    }
}

fn verdict(error: &smtp::Error) -> Verdict {
    let code = error.status().map(|code| code.to_string().parse::<u16>().unwrap_or(0));
    let text = match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    judge(code, text)
}

/// What a reply code means; `None` where there was no answer.
fn judge(code: Option<u16>, error: String) -> Verdict {
    let reason = match code {
        // Login: wrong settings, or the server's trouble; never the message's fault.
        None | Some(530 | 534 | 535 | 538) => Reason::Unreachable,
        Some(421 | 454) => Reason::Provider,
        Some(400..=499) => Reason::Message,
        Some(_) => return Verdict::Refused(error),
    };
    Verdict::Later { reason, error, retry_after_ms: None }
}

/// `Auto-Submitted: auto-generated` (RFC 3834), so that nobody's out-of-office answers.
#[derive(Clone)]
struct AutoSubmitted;

impl lettre::message::header::Header for AutoSubmitted {
    fn name() -> lettre::message::header::HeaderName {
        lettre::message::header::HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(
        _: &str,
    ) -> std::result::Result<Self, Box<dyn std::error::Error + Send + Sync + 'static>> {
        Ok(Self)
    }

    fn display(&self) -> lettre::message::header::HeaderValue {
        lettre::message::header::HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reply_codes_say_whose_fault_it_is() {
        let reason = |code| match judge(code, String::new()) {
            Verdict::Later { reason, .. } => Some(reason),
            Verdict::Sent(_) | Verdict::Refused(_) => None,
        };
        for code in [None, Some(535), Some(530)] {
            assert_eq!(reason(code), Some(Reason::Unreachable), "{code:?}");
        }
        assert_eq!(reason(Some(421)), Some(Reason::Provider));
        assert_eq!([450, 451, 452].map(|c| reason(Some(c))), [Some(Reason::Message); 3]);
        assert_eq!([550, 552, 554].map(|c| reason(Some(c))), [None; 3]);
    }

    #[test]
    fn a_wrong_sender_is_told_at_start() {
        let settings = EmailSettings { from: "nobody".into(), ..EmailSettings::default() };
        let error = Smtp::new(&settings).err().unwrap().to_string();
        assert!(error.contains("delivery.email.from: found \"nobody\""), "{error}");
        let settings = EmailSettings { ca_file: "/nowhere".into(), ..EmailSettings::default() };
        let error = Smtp::new(&settings).err().unwrap().to_string();
        assert!(error.contains("delivery.email.ca_file"), "{error}");
    }
}
