//! Time that goes on while input is silent, for operators that send final results.
//!
//! Kafka Streams has no such thing: the last windows of a topic stay open until its next record. With
//! [`idle_timeout`](crate::StreamsConfig::idle_timeout) an operator's stream time moves on with the wall clock once all input of its task has been silent
//! for so long: by the time that has passed since the silence began.

use std::time::Duration;

use crate::processor::{ProcessorContext, PunctuationType};
use crate::time::Timestamp;

/// Looking for silence never comes more often.
const INTERVAL_MIN: Duration = Duration::from_millis(5);

/// An operator's view of the silence.
#[derive(Debug, Default)]
pub(super) struct IdleTime {
    /// When the silence began, and the operator's stream time then.
    began: Option<(Timestamp, Timestamp)>,
}

impl IdleTime {
    /// Has the operator's `punctuate` called often enough.
    pub(super) fn schedule<K, V>(context: &mut ProcessorContext<'_, '_, K, V>) {
        if let Some(timeout) = context.idle_timeout() {
            let interval = (timeout / 4).max(INTERVAL_MIN);
            context.schedule(interval, PunctuationType::WallClockTime);
        }
    }

    /// The stream time to go on to; `stream_time` is the operator's. `None`: there is no silence, or too short a one.
    pub(super) fn advance<K, V>(
        &mut self,
        stream_time: Timestamp,
        context: &ProcessorContext<'_, '_, K, V>,
    ) -> Option<Timestamp> {
        let (timeout, since) = (context.idle_timeout()?, context.silent_since()?);
        if stream_time == Timestamp::MIN {
            return None; // before the operator's first record
        }
        let (_, then) = *match self.began {
            Some((began, _)) if began != since => self.began.insert((since, stream_time)),
            _ => self.began.get_or_insert((since, stream_time)),
        };
        let silence = context.current_system_time().since(since);
        (silence >= timeout).then(|| then + silence)
    }
}
