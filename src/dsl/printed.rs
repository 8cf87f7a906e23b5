//! Records printed for people: to standard output or to a file.

use std::fmt::Display;
use std::fs::File;
use std::io::{BufWriter, Write, stdout};
use std::sync::{Arc, Mutex, PoisonError};

use super::params::Named;
use super::stream::KStream;
use crate::error::{Error, Result};
use crate::processor::{Processor, ProcessorContext, ProcessorSupplier};
use crate::record::Record;

type Mapper<K, V> = Arc<dyn Fn(&K, &V) -> String + Send + Sync>;

/// How and where [`KStream::print`] prints: a line `[label]: key, value` a record. Source: `Printed`.
pub struct Printed<K, V> {
    /// `None`: standard output.
    file: Option<Arc<Mutex<BufWriter<File>>>>,
    mapper: Mapper<K, V>,
    label: Option<String>,
    name: Option<String>,
}

impl<K: Display + 'static, V: Display + 'static> Printed<K, V> {
    /// Prints to standard output, a line at once.
    pub fn to_sys_out() -> Self {
        Self::new(None, Arc::new(|key, value| format!("{key}, {value}")))
    }

    /// Prints to a file, which is emptied first and written whole when the tasks are closed.
    ///
    /// # Errors
    /// `Invalid` where the file cannot be written.
    pub fn to_file(path: &str) -> Result<Self> {
        Ok(Self::new(Some(create(path)?), Arc::new(|key, value| format!("{key}, {value}"))))
    }
}

impl<K, V> Printed<K, V> {
    fn new(file: Option<Arc<Mutex<BufWriter<File>>>>, mapper: Mapper<K, V>) -> Self {
        Self { file, mapper, label: None, name: None }
    }

    /// Prints what `mapper` makes of each record to standard output; for types without a text of their own.
    pub fn to_sys_out_with(mapper: impl Fn(&K, &V) -> String + Send + Sync + 'static) -> Self {
        Self::new(None, Arc::new(mapper))
    }

    /// As [`to_sys_out_with`](Self::to_sys_out_with), to a file.
    ///
    /// # Errors
    /// As [`to_file`](Self::to_file).
    pub fn to_file_with(
        path: &str,
        mapper: impl Fn(&K, &V) -> String + Send + Sync + 'static,
    ) -> Result<Self> {
        Ok(Self::new(Some(create(path)?), Arc::new(mapper)))
    }

    /// Begins each line with this label; without one it is the name of the node that is printed.
    pub fn with_label(mut self, label: &str) -> Self {
        self.label = Some(label.to_owned());
        self
    }

    /// Makes the text of a record.
    pub fn with_key_value_mapper(
        mut self,
        mapper: impl Fn(&K, &V) -> String + Send + Sync + 'static,
    ) -> Self {
        self.mapper = Arc::new(mapper);
        self
    }

    /// Names the node.
    pub fn with_name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }
}

fn create(path: &str) -> Result<Arc<Mutex<BufWriter<File>>>> {
    let file = File::create(path)
        .map_err(|e| Error::invalid(format!("cannot print to file \"{path}\"")).with_source(e))?;
    Ok(Arc::new(Mutex::new(BufWriter::new(file))))
}

impl<K: Clone + Send + 'static, V: Clone + Send + 'static> KStream<K, V> {
    /// Prints each record, and ends there. For debugging: the output is no part of a commit. Source: `KStream.print`.
    pub fn print(&self, printed: Printed<K, V>) {
        let Printed { file, mapper, label, name } = printed;
        let label: Arc<str> = label.unwrap_or_else(|| self.name.to_string()).into();
        let named = name.as_deref().map(Named::new).unwrap_or_default();
        let supplier = Supplier { file, mapper, label };
        let name = self.plan.borrow_mut().node_name(named.0.as_ref(), "KSTREAM-PRINTER-");
        self.then_called::<(), (), _>(name, supplier, Vec::new(), (None, None), false);
    }
}

struct Supplier<K, V> {
    file: Option<Arc<Mutex<BufWriter<File>>>>,
    mapper: Mapper<K, V>,
    label: Arc<str>,
}

impl<K: 'static, V: 'static> ProcessorSupplier<K, V, (), ()> for Supplier<K, V> {
    type Processor = Printer<K, V>;

    fn get(&self) -> Printer<K, V> {
        let (file, mapper, label) = (self.file.clone(), self.mapper.clone(), self.label.clone());
        Printer { file, mapper, label }
    }
}

/// Source: `KStreamPrint`, `PrintForeachAction`; like Java's `PrintWriter`, it goes on where printing fails.
struct Printer<K, V> {
    file: Option<Arc<Mutex<BufWriter<File>>>>,
    mapper: Mapper<K, V>,
    label: Arc<str>,
}

impl<K: 'static, V: 'static> Processor<K, V, (), ()> for Printer<K, V> {
    fn process(
        &mut self,
        record: Record<K, V>,
        _: &mut ProcessorContext<'_, '_, (), ()>,
    ) -> Result<()> {
        let text = (self.mapper)(&record.key, &record.value);
        let label = &self.label;
        let printed = match &self.file {
            None => writeln!(stdout().lock(), "[{label}]: {text}"),
            Some(file) => {
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                writeln!(file, "[{label}]: {text}")
            }
        };
        if let Err(error) = printed {
            tracing::debug!(label = %label, error = %error, "record could not be printed");
        }
        Ok(())
    }

    fn close(&mut self) {
        if let Some(file) = &self.file
            && let Err(error) = file.lock().unwrap_or_else(PoisonError::into_inner).flush()
        {
            tracing::warn!(label = %self.label, error = %error, "printed records were not written whole");
        }
    }
}
