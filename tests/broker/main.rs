//! Claims about a real Kafka cluster and schema registry. Run by `make test`.

mod reader;
mod runtime;
