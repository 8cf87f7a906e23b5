//! What goes wrong in a run, decided by its seed before it begins.

use std::time::Duration;

use fastrand::Rng;

/// A call of the engine to one of its ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Abort,
    Acknowledge,
    Admin,
    Assign,
    Begin,
    Commit,
    Committed,
    Deliver,
    Drain,
    EndTransaction,
    Flush,
    Init,
    Join,
    Leave,
    Offsets,
    Poll,
    Send,
    SendOffsets,
    StoreOpen,
    StoreWrite,
    Wait,
}

impl Call {
    /// Those at which a fault is worth most, and how often they come about in a run.
    const STRUCK: [(Self, u32); 15] = [
        (Self::Acknowledge, 6),
        (Self::Commit, 40),
        (Self::Committed, 8),
        (Self::Deliver, 150),
        (Self::Drain, 400),
        (Self::EndTransaction, 40),
        (Self::Flush, 40),
        (Self::Init, 4),
        (Self::Join, 4),
        (Self::Poll, 200),
        (Self::Send, 150),
        (Self::SendOffsets, 40),
        (Self::StoreOpen, 6),
        (Self::StoreWrite, 60),
        (Self::Wait, 150),
    ];

    /// Whether it goes over the network.
    pub(crate) fn is_remote(self) -> bool {
        use Call::{
            Abort, Admin, Commit, Committed, Deliver, EndTransaction, Flush, Init, Offsets,
            SendOffsets,
        };
        matches!(
            self,
            Abort
                | Admin
                | Commit
                | Committed
                | Deliver
                | EndTransaction
                | Flush
                | Init
                | Offsets
                | SendOffsets
        )
    }
}

/// Whether a fault strikes before or after a call has done its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    Before,
    After,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The process is killed; it starts anew after a while.
    Crash,
    /// The process stands still, as on SIGSTOP, and goes on afterwards.
    Freeze(Duration),
    /// This one thread stands still.
    Stall(Duration),
    /// The host reaches no broker.
    Disconnect(Duration),
    /// The client is closed in order; it starts anew after a while.
    Stop,
}

/// A fault at the n-th call of a kind.
#[derive(Debug, Clone)]
pub(crate) struct Trigger {
    pub(crate) call: Call,
    pub(crate) moment: Moment,
    pub(crate) countdown: u32,
    pub(crate) fault: Fault,
}

/// All that goes wrong in a run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    pub(crate) triggers: Vec<Trigger>,
    /// Faults at a moment, on a host.
    pub(crate) timed: Vec<(Duration, usize, Fault)>,
    /// Of a thousand remote calls, so many fail with an error that goes away by itself.
    pub(crate) errors_per_mille: u32,
    /// Of a thousand answers, so many come so late that the request is sent again.
    pub(crate) late_per_mille: u32,
    /// Of a thousand deliveries, so many fail for good.
    pub(crate) failed_deliveries_per_mille: u32,
    /// Of a thousand openings, so many find a damaged store.
    pub(crate) damaged_per_mille: u32,
    /// Longest write of a store.
    pub(crate) disk_ms_max: u64,
    /// Longest time a marker is under way.
    pub(crate) marker_ms_max: u64,
    /// After this moment nothing new goes wrong.
    pub(crate) until: Duration,
}

impl Faults {
    /// Nothing goes wrong.
    pub(crate) fn none() -> Self {
        Self { marker_ms_max: 5, disk_ms_max: 1, ..Self::default() }
    }

    pub(crate) fn of_seed(rng: &mut Rng, hosts: usize, until: Duration) -> Self {
        let triggers = (0..rng.usize(0..5)).map(|_| Trigger::of_seed(rng)).collect();
        let timed = (0..rng.usize(0..5)).map(|_| {
            let at = Duration::from_millis(rng.u64(300..until.as_millis() as u64));
            (at, rng.usize(0..hosts), fault(rng))
        });
        let timed = timed.collect();
        let mut sometimes = |most: u32| if rng.bool() { rng.u32(0..=most) } else { 0 };
        Self {
            triggers,
            timed,
            errors_per_mille: sometimes(30),
            late_per_mille: sometimes(20),
            failed_deliveries_per_mille: sometimes(5),
            damaged_per_mille: sometimes(50),
            disk_ms_max: 1 + u64::from(sometimes(100)),
            marker_ms_max: 2 + u64::from(sometimes(800)),
            until,
        }
    }
}

fn fault(rng: &mut Rng) -> Fault {
    let long = Duration::from_millis(rng.u64(100..8_000));
    match rng.u32(0..10) {
        0..=2 => Fault::Crash,
        3..=4 => Fault::Freeze(long),
        5 => Fault::Stall(long),
        6 => Fault::Disconnect(long),
        _ => Fault::Stop,
    }
}

impl Trigger {
    fn of_seed(rng: &mut Rng) -> Self {
        let (call, often) = Call::STRUCK[rng.usize(0..Call::STRUCK.len())];
        let long = Duration::from_millis(rng.u64(100..8_000));
        let fault = match rng.u32(0..10) {
            0..=4 => Fault::Crash,
            5..=6 => Fault::Freeze(long),
            7..=8 => Fault::Stall(long),
            _ => Fault::Disconnect(long),
        };
        let moment = if rng.bool() { Moment::Before } else { Moment::After };
        Self { call, moment, countdown: rng.u32(1..=often), fault }
    }
}
