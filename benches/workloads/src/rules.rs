//! The workloads' decisions, free of Kafka and of the engine.

use kstreams::{Error, Result};

use crate::avro::Text;
use crate::events::{
    AccessDecision, Assignment, MANAGERS, ManagerAssigned, ManagerLoads, Request, Verification,
};

/// W1: gives the request to the least loaded manager of its region (the lowest index wins a tie) and adds the
/// request's weight, 5 − priority, to that manager's load.
///
/// # Errors
/// `BadRecord` for a region that is not `region-NNN`.
pub(crate) fn assign_manager(
    request: Request,
    state: &mut ManagerLoads,
) -> Result<ManagerAssigned> {
    let region_number = region_number(&request.region)?;
    let mut chosen = 0;
    for index in 1..MANAGERS {
        if state.loads[index] < state.loads[chosen] {
            chosen = index;
        }
    }
    state.loads[chosen] += i64::from(5 - request.priority);
    Ok(ManagerAssigned {
        timestamp_ms: request.timestamp_ms,
        correlation_id: request.correlation_id,
        request_id: request.request_id,
        manager_id: region_number * MANAGERS as i64 + chosen as i64,
        region: request.region,
        priority: request.priority,
    })
}

/// The state of a region that has none yet.
pub(crate) fn no_loads(region: &Text) -> ManagerLoads {
    ManagerLoads { region: region.clone(), loads: [0; MANAGERS] }
}

/// W2: access is granted to contractors whose latest status is "verified".
pub(crate) fn decide_access(
    assignment: &Assignment,
    verification: Option<&Verification>,
) -> AccessDecision {
    AccessDecision {
        granted: verification.is_some_and(|v| v.status.as_bytes() == b"verified"),
        timestamp_ms: assignment.timestamp_ms,
        correlation_id: assignment.correlation_id.clone(),
        request_id: assignment.request_id,
        contractor_id: assignment.contractor_id,
        reason: verification.map_or_else(|| Text::from("unknown"), |v| v.status.clone()),
    }
}

/// The `NNN` of `region-NNN`.
fn region_number(region: &Text) -> Result<i64> {
    std::str::from_utf8(region.as_bytes())
        .ok()
        .and_then(|name| name.strip_prefix("region-"))
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| Error::bad_record(format!("found region {region:?}, wanted region-NNN")))
}
