-- What analysts ask. Times are UTC; an action is the type of the event that was audited, and a duplicate of an event
-- changes no figure.

-- Each event once, with the details that the other views use.
CREATE VIEW IF NOT EXISTS {database}.events AS
SELECT
    kafka_topic,
    kafka_partition,
    kafka_offset,
    day,
    toDateTime(intDiv(timestamp_ms, 1000), 'UTC') AS at,
    timestamp_ms,
    event_type,
    entity,
    actor,
    action,
    request_id,
    contractor_id,
    details.value[indexOf(details.key, 'region')] AS region,
    details.value[indexOf(details.key, 'priority')] AS priority,
    details.value[indexOf(details.key, 'manager_id')] AS manager_id,
    details.value[indexOf(details.key, 'sla_deadline')] AS sla_deadline_ms,
    details.value[indexOf(details.key, 'to_status')] AS to_status,
    details.value[indexOf(details.key, 'channel')] AS channel,
    details.value[indexOf(details.key, 'notification_id')] AS notification_id
FROM {database}.audit_events FINAL;

-- A line for each request: when it was filed, first assigned and escalated; NULL where it was not.
CREATE VIEW IF NOT EXISTS {database}.request_times AS
SELECT
    request,
    filed_region AS region,
    assigned_priority AS priority,
    if(filed = 0, NULL, filed) AS filed_ms,
    if(assigned = 0, NULL, assigned) AS assigned_ms,
    if(escalated = 0, NULL, escalated) AS escalated_ms,
    if(deadline = 0, NULL, deadline) AS deadline_ms
FROM
(
    SELECT
        assumeNotNull(request_id) AS request,
        anyIf(region, action = 'request.created') AS filed_region,
        anyIf(priority, action = 'workflow.manager_assigned') AS assigned_priority,
        minIf(timestamp_ms, action = 'request.created') AS filed,
        minIf(timestamp_ms, action = 'workflow.manager_assigned') AS assigned,
        minIf(timestamp_ms, action = 'workflow.status_changed' AND to_status = 'escalated') AS escalated,
        maxIf(toInt64OrZero(sla_deadline_ms), action = 'workflow.manager_assigned') AS deadline
    FROM {database}.events
    WHERE request_id IS NOT NULL
    GROUP BY request
);

CREATE VIEW IF NOT EXISTS {database}.requests_per_region_and_day AS
SELECT
    day,
    region,
    uniqExactIf(request_id, action = 'request.created') AS filed,
    uniqExactIf(request_id, action = 'request.cancelled') AS cancelled
FROM {database}.events
WHERE action IN ('request.created', 'request.cancelled')
GROUP BY day, region;

-- Seconds from filing to the first assignment, by the day of filing.
CREATE VIEW IF NOT EXISTS {database}.assignment_times AS
SELECT
    toDate(toDateTime(intDiv(assumeNotNull(filed_ms), 1000), 'UTC'), 'UTC') AS day,
    region,
    priority,
    count() AS assigned,
    avg(seconds) AS mean_seconds,
    quantileExact(0.5)(seconds) AS p50_seconds,
    quantileExact(0.95)(seconds) AS p95_seconds,
    max(seconds) AS max_seconds
FROM
(
    SELECT
        filed_ms,
        region,
        priority,
        (assumeNotNull(assigned_ms) - assumeNotNull(filed_ms)) / 1000. AS seconds
    FROM {database}.request_times
    WHERE filed_ms IS NOT NULL AND assigned_ms IS NOT NULL
)
GROUP BY day, region, priority;

-- Requests that were escalated, or assigned after their deadline. late_seconds is NULL for those not assigned yet.
CREATE VIEW IF NOT EXISTS {database}.sla_breaches AS
SELECT
    request,
    region,
    priority,
    filed_ms,
    deadline_ms,
    assigned_ms,
    escalated_ms,
    (assigned_ms - deadline_ms) / 1000. AS late_seconds
FROM {database}.request_times
WHERE escalated_ms IS NOT NULL OR assigned_ms > deadline_ms;

CREATE VIEW IF NOT EXISTS {database}.notifications AS
SELECT
    day,
    channel,
    if(action = 'notification.failed', 'failed', 'sent') AS outcome,
    uniqExact(notification_id) AS notifications
FROM {database}.events
WHERE action LIKE 'notification.%'
GROUP BY day, channel, outcome;
