//! Logs, set up once at start: lines for people or JSON, on standard error, so that standard output is the commands' own.

use std::io::{self, IsTerminal as _, Write};

use kstreams::{Error, Result};
use tracing_subscriber::EnvFilter;

use crate::mask::Mask;
use crate::settings::{LogFormat, LogSettings};

/// Begins to log; `mask` hides what no line may show.
///
/// # Errors
/// `Invalid` for a level that is none, or when called twice.
pub fn init(settings: &LogSettings, mask: Mask) -> Result<()> {
    let filter = EnvFilter::try_new(&settings.level).map_err(|error| {
        Error::invalid(format!(
            "setting log.level: found \"{}\", wanted error, warn, info, debug, trace, or directives such as info,kstreams=debug",
            settings.level
        ))
        .with_source(error)
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || Masked(mask.clone(), io::stderr()));
    let set = match settings.format {
        LogFormat::Human => builder.with_ansi(io::stderr().is_terminal()).try_init(),
        // Fields beside the message, not below it: that is where log searches look.
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    set.map_err(|error| Error::invalid(format!("logs are set up already: {error}")))
}

/// A writer behind a mask. The subscriber writes each line in one piece.
struct Masked<W>(Mask, W);

impl<W: Write> Write for Masked<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        self.1.write_all(self.0.text(&text).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.1.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_shows_neither_secrets_nor_personal_data() {
        let (kept, mask) = (Kept::default(), Mask::new(["hunter2".to_owned()]));
        let to = kept.clone();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .with_writer(move || Masked(mask.clone(), to.clone()))
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(error = "550 ada@example.org", "login with hunter2 for +79123456789");
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains("\"login with ******** for ***\""), "{text}");
        assert!(text.contains("\"550 ***\"") && text.ends_with("}\n"), "{text}");
    }
}
