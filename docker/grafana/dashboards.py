#!/usr/bin/env python3
"""Writes the Grafana dashboards beside it from the table below; a test holds both together.

usage: dashboards.py [--check]

A dashboard is a list of rows, a row a title and its panels. Panels flow from left to right, three to a line unless they say otherwise.
Every query is limited by the variables; SEL is for metrics of a topology, INS for those of the process. Thresholds are the service's limits:
end-to-end latency below 100 ms at the 99th percentile, failed events below 0.01 %, recovery below 30 s.
"""
import json
import sys
from pathlib import Path

SEL = 'job="$application", app=~"$topology", instance=~"$instance"'
INS = 'job="$application", instance=~"$instance"'
FOLDER = Path(__file__).parent / "dashboards"

LATENCY_LIMIT_S = 0.1
RECOVERY_LIMIT_S = 30
FAILED_LIMIT = 0.0001


def rate(metric, by, more="", sel=SEL):
    """The growth of a counter a second, added up."""
    group = f"sum by ({by}) " if by else "sum"
    return f"{group}(rate({metric}{{{sel}{more}}}[$__rate_interval]))"


def total(metric, by, more="", sel=SEL, fold="sum"):
    """A gauge, added up."""
    group = f"{fold} by ({by}) " if by else fold
    return f"{group}({metric}{{{sel}{more}}})"


def quantile(share, metric, by="", more="", sel=SEL):
    """A quantile over all instances, from the buckets."""
    group = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, {rate(metric + '_bucket', group, more, sel)})"


def quantiles(metric, by="", sel=SEL):
    """Median, 95th and 99th percentile."""
    return [(quantile(share, metric, by, sel=sel), f"p{share * 100:g}") for share in (0.5, 0.95, 0.99)]


def panel(kind, title, about, unit, targets, limit=None, warn=None, good_above=None, **options):
    """One panel. `targets`: pairs of query and legend, or one query. `limit`: red from there on; `good_above`: red below it."""
    if isinstance(targets, str):
        targets = [(targets, "__auto")]
    if good_above is not None:
        steps = [("red", None), ("green", good_above)]
    else:
        steps = [("green", None)] + [("orange", warn)] * (warn is not None) + [("red", limit)] * (limit is not None)
    return dict(kind=kind, title=title, about=about, unit=unit, targets=targets, steps=steps, options=options)


def graph(*args, **options):
    return panel("timeseries", *args, **options)


def stat(*args, **options):
    return panel("stat", *args, width=4, height=4, **options)


def table(*args, **options):
    return panel("table", *args, **options)


def heatmap(*args, **options):
    return panel("heatmap", *args, **options)


def timeline(*args, **options):
    return panel("state-timeline", *args, width=12, **options)


FAILED_RATIO = (
    f'sum(increase(kstreams_dlq_records_total{{{SEL}}}[1h])) / '
    f'sum(increase(kstreams_topic_records_consumed_total{{{SEL}, internal="false"}}[1h]))'
)
E2E = "kstreams_record_e2e_latency_seconds"

OVERVIEW = [
    ("Is it healthy?", [
        stat("Instances", "Processes that answer Prometheus. Fewer than deployed: one is down; see the runbook of KStreamsInstanceDown.", "none", f"sum(up{{{INS}}})", good_above=1),
        stat("Topologies running", "Share of topologies, over all instances, whose state is RUNNING. Below 100 %: some rebalance, or have failed.", "percentunit",
             f'sum(kstreams_client_state{{{SEL}, state="RUNNING"}}) / count(kstreams_topology_info{{{SEL}}})', good_above=1),
        stat("Latency p99", "99th percentile, over 5 minutes, from a record's event time to the commit of its results. The limit is 100 ms.", "s",
             f"histogram_quantile(0.99, sum by (le) (rate({E2E}_bucket{{{SEL}}}[5m])))", limit=LATENCY_LIMIT_S),
        stat("Oldest waiting record", "Age of the oldest record that has arrived and is not processed. The limit is 30 s.", "s", total("kstreams_consumer_lag_seconds", "", fold="max"), limit=RECOVERY_LIMIT_S),
        stat("Failed events, 1 h", "Share of the records read that became dead letters, were skipped or failed, over an hour. The limit is 0.01 %.", "percentunit", FAILED_RATIO, limit=FAILED_LIMIT),
        stat("Availability, 30 d", "Share of 30 days in which every topology ran on at least one instance. The target is 99.9 %.", "percentunit",
             f'min(avg_over_time((max by (app) (kstreams_client_state{{{SEL}, state="RUNNING"}}))[30d:30s]))', good_above=0.999),
        table("Firing alerts", "What fires now, and where. `Watchdog` always does; docs/runbook/ has a page for each.", "none",
              [('ALERTS{alertstate="firing"}', "")], width=12),
        timeline("States", "What each topology does on each instance; 1 for the state it is in.", "none", [(f'kstreams_client_state{{{SEL}}} == 1', "{{instance}} {{app}}: {{state}}")]),
        timeline("Stream threads", "Threads that run, and clients that have failed. A failed client needs a restart; the log says why.", "none",
                 [(total("kstreams_threads", "instance, app, state"), "{{instance}} {{app}}: {{state}}")]),
    ]),
    ("Traffic", [
        graph("Records read", "Records a second by topic, internal ones included.", "cps", [(rate("kstreams_topic_records_consumed_total", "topic"), "{{topic}}")]),
        graph("Records written", "Records a second by topic, changelogs included.", "cps", [(rate("kstreams_topic_records_produced_total", "topic"), "{{topic}}")]),
        graph("End-to-end latency", "From a record's event time to the commit of its results. The line is the limit of the 99th percentile, 100 ms.", "s", quantiles(E2E), limit=LATENCY_LIMIT_S),
        graph("Oldest waiting record by topic", "Age of the oldest record that has arrived and is not processed; 0: none waits. The line is at 30 s.", "s",
              [(total("kstreams_consumer_lag_seconds", "topic", fold="max"), "{{topic}}")], limit=RECOVERY_LIMIT_S),
        graph("Dead letters", "Records an hour that failed, by source topic. Each is in a dead-letter topic; see the dashboard of dead letters.", "short",
              [(f"sum by (topic) (increase(kstreams_dlq_records_total{{{SEL}}}[1h]))", "{{topic}}")], limit=1),
        graph("Rebalances", "Assignments an hour. Some with every deployment; many without one: instances come and go.", "short",
              [(f'sum by (app) (increase(kstreams_rebalances_total{{{SEL}, event="assigned"}}[1h]))', "{{app}}")]),
    ]),
    ("Commits and the process", [
        graph("Commit p99", "99th percentile of a commit, changelogs and the broker's answer included. It bounds the latency from below.", "s", [(quantile(0.99, "kstreams_commit_duration_seconds", "app"), "{{app}}")], limit=LATENCY_LIMIT_S),
        graph("Transactions", "Transactions a second by outcome. Aborts are worked off again; fenced: another instance has the tasks.", "cps", [(rate("kstreams_transactions_total", "outcome"), "{{outcome}}")]),
        graph("Processor time", "Cores that each instance uses.", "none", [(f"rate(process_cpu_seconds_total{{{INS}}}[$__rate_interval])", "{{instance}}")]),
        graph("Resident memory", "Memory of each instance: row caches, RocksDB, fetched records.", "bytes", [(f"process_resident_memory_bytes{{{INS}}}", "{{instance}}")]),
        graph("Open files", "Share of the files and sockets that the system allows. RocksDB keeps its table files open.", "percentunit", [(f"process_open_fds{{{INS}}} / process_max_fds{{{INS}}}", "{{instance}}")], limit=0.8),
        table("Versions", "What runs where. Different hashes of one topology: a roll-out is under way, or stuck.", "none",
              [(f"kstreams_topology_info{{{SEL}}}", ""), (f"kstreams_build_info{{{SEL}}}", "")]),
    ]),
]

TASKS = [
    ("Placement", [
        table("Tasks", "Every task with its instance, thread and state; a task twice: a rebalance is under way.", "none", [(f"kstreams_task_info{{{SEL}}}", "")], width=12, height=10),
        graph("Tasks by instance", "Tasks of each instance. Far from even: see which instance has just come.", "short", [(total("kstreams_tasks", "instance"), "{{instance}}")], width=12, height=10, stack=True),
        graph("Tasks by state", "Restoring and suspended tasks do not process; retrying ones wait for something outside, a registry for example.", "short", [(total("kstreams_tasks", "state"), "{{state}}")], stack=True),
        graph("Moved tasks", "Tasks that came and went with assignments, an hour.", "short", [(f"sum by (direction) (increase(kstreams_tasks_moved_total{{{SEL}}}[1h]))", "{{direction}}")]),
        graph("Stream time behind", "How far each task's stream time is behind the wall clock. It stands while no record comes.", "s",
              [(f"time() - kstreams_task_stream_time_seconds{{{SEL}}}", "{{app}} {{task}}")]),
    ]),
    ("Threads", [
        graph("Where the time goes", "Share of the threads' time by phase. Much idle: there is room. Much commit: raise commit.interval.ms. Much poll: the brokers are slow.", "percentunit",
              [(f'{rate("kstreams_thread_time_seconds_total", "phase")} / ignoring (phase) group_left sum(rate(kstreams_thread_time_seconds_total{{{SEL}}}[$__rate_interval]))', "{{phase}}")], stack=True),
        graph("Busy threads", "Share of each thread's time that is not idle. At 100 % it is the limit: add threads or instances.", "percentunit",
              [(rate("kstreams_thread_time_seconds_total", "instance, app, thread", ', phase!="idle"'), "{{instance}} {{app}} {{thread}}")], warn=0.7, limit=0.9),
        graph("Phases p99", "99th percentile of one turn's phase. A long process phase delays commits.", "s", [(quantile(0.99, "kstreams_thread_phase_duration_seconds", "phase"), "{{phase}}")], limit=1),
        graph("Commits", "Commits a second by what made them due.", "cps", [(rate("kstreams_commits_total", "trigger"), "{{trigger}}")]),
        graph("Commit duration", "Quantiles of a commit.", "s", quantiles("kstreams_commit_duration_seconds"), limit=LATENCY_LIMIT_S),
        graph("Transaction p99", "99th percentile from a transaction's first record to its end. Near transaction.timeout.ms (10 s) the broker aborts it.", "s",
              [(quantile(0.99, "kstreams_transaction_duration_seconds", "outcome"), "{{outcome}}")], warn=1, limit=5),
        graph("Failures", "Failures that ended a client, by kind, an hour. Each is an error in the log, and needs a restart.", "short",
              [(f"sum by (app, reason) (increase(kstreams_thread_failures_total{{{SEL}}}[1h]))", "{{app}} {{reason}}")], limit=1),
    ]),
    ("Work", [
        graph("Records by task", "Records a second of each task. Uneven within a subtopology: keys are skewed.", "cps", [(rate("kstreams_task_records_processed_total", "app, task"), "{{app}} {{task}}")]),
        graph("Records by thread", "Records a second of each thread.", "cps", [(rate("kstreams_thread_records_processed_total", "instance, app, thread"), "{{instance}} {{app}} {{thread}}")]),
        graph("Record duration p99", "99th percentile of a record's way through its subtopology.", "s", [(quantile(0.99, "kstreams_process_duration_seconds", "app, subtopology"), "{{app}} {{subtopology}}")], limit=0.01),
        graph("Buffered records", "Records that have arrived and wait. Full queues (buffered.records.per.partition): processing is the limit.", "short", [(total("kstreams_task_buffered_records", "app, task"), "{{app}} {{task}}")]),
        graph("Buffered bytes", "Bytes of the records that wait.", "bytes", [(total("kstreams_task_buffered_bytes", "app"), "{{app}}")]),
        graph("Busiest nodes", "Records a second given to the 15 busiest nodes.", "cps", [(f'topk(15, {rate("kstreams_node_records_total", "app, node")})', "{{app}} {{node}}")]),
        graph("Resting tasks", "Rests an hour of tasks whose record met an error that goes away by itself.", "short",
              [(f"sum by (app) (increase(kstreams_task_backoffs_total{{{SEL}}}[1h]))", "{{app}}")], warn=1),
        graph("Dropped records", "Records an hour that an operator or a store dropped, by reason: late, expired, null key and so on.", "short",
              [(f"sum by (app, reason) (increase(kstreams_records_dropped_total{{{SEL}}}[1h])) or vector(0)", "{{app}} {{reason}}")]),
        graph("Failed punctuations", "Punctuations an hour that failed and were undone; the schedule goes on.", "short",
              [(f"sum by (app, node) (increase(kstreams_punctuation_failures_total{{{SEL}}}[1h])) or vector(0)", "{{app}} {{node}}")], limit=1),
    ]),
]

LAG = [
    ("Lag", [
        graph("Lag by topic", "Records on the broker that are not processed yet.", "short", [(total("kstreams_consumer_lag_records", "topic"), "{{topic}}")], limit=10_000),
        graph("Lag by partition", "The 20 partitions that are furthest behind. One alone: a hot key or a stuck task.", "short",
              [(f'topk(20, {total("kstreams_consumer_lag_records", "app, topic, partition")})', "{{app}} {{topic}}-{{partition}}")], limit=10_000),
        graph("Oldest waiting record", "Age of the oldest record that has arrived and is not processed, by topic. The line is at 30 s.", "s",
              [(total("kstreams_consumer_lag_seconds", "topic", fold="max"), "{{topic}}")], limit=RECOVERY_LIMIT_S),
        graph("Committed lag", "Records whose results are not committed yet. Far above the lag: commits do not get through.", "short", [(total("kstreams_consumer_committed_lag_records", "topic"), "{{topic}}")], limit=10_000),
        graph("Read and processed", "Records a second read from the brokers and taken through subtopologies.", "cps",
              [(rate("kstreams_topic_records_consumed_total", ""), "read"), (rate("kstreams_task_records_processed_total", ""), "processed")]),
        graph("Time to catch up", "Lag by the rate at which it shrinks; nothing where it grows or there is none.", "s",
              [(f'({total("kstreams_consumer_lag_records", "app")} / -deriv(sum by (app) (kstreams_consumer_lag_records{{{SEL}}})[5m:10s]) > 0) or vector(0)', "{{app}}")], limit=300),
        graph("Partition skew", "Records a second of a topic's busiest partition's task, over the average: 1 is even.", "none",
              [(f'max by (app) ({rate("kstreams_task_records_processed_total", "app, task")}) / avg by (app) ({rate("kstreams_task_records_processed_total", "app, task")})', "{{app}}")], warn=5),
    ]),
    ("Latency", [
        heatmap("End-to-end latency", "How many records had which latency, from event time to the commit of the results.", "s", [(rate(E2E + "_bucket", "le"), "{{le}}")], width=12),
        graph("End-to-end p99 by subtopology", "99th percentile by subtopology. The line is the limit, 100 ms.", "s", [(quantile(0.99, E2E, "app, subtopology"), "{{app}} {{subtopology}}")], limit=LATENCY_LIMIT_S, width=12),
        graph("Within the limit", "Share of records whose results were committed within 100 ms. 99 % is the target.", "percentunit",
              [(f'{rate(E2E + "_bucket", "app", ", le=" + chr(34) + "0.1" + chr(34))} / {rate(E2E + "_count", "app")}', "{{app}}")], good_above=0.99),
        graph("Lateness p99", "How far records lie behind stream time, 99th percentile. Above a window's grace they are dropped.", "s", [(quantile(0.99, "kstreams_record_lateness_seconds", "app"), "{{app}}")]),
        graph("Commit interval", "Seconds between two commits of a thread, on average: the largest part of the latency under load.", "s",
              [(f'count by (app) (kstreams_thread_time_seconds_total{{{SEL}, phase="commit"}}) / {rate("kstreams_commits_total", "app")}', "{{app}}")], limit=1),
    ]),
]

STORES = [
    ("Contents", [
        graph("Keys", "About how many keys each store has, over all instances.", "short", [(total("kstreams_rocksdb_estimate_num_keys", "app, store"), "{{app}} {{store}}")]),
        graph("Table files", "Bytes on disk by store: live ones, and those that readers pin beside them.", "bytes", [(total("kstreams_rocksdb_sst_bytes", "kind"), "{{kind}}")]),
        graph("Largest stores", "The ten largest stores on disk.", "bytes", [(f"""topk(10, {total("kstreams_rocksdb_sst_bytes", "app, store", ', kind="live"')})""", "{{app}} {{store}}")]),
        graph("State folder", "Bytes of files in the state folders, by instance.", "bytes", [(total("kstreams_state_dir_bytes", "instance"), "{{instance}}")]),
        graph("Free disk", "Bytes free where the state folder lies.", "bytes", [(total("kstreams_state_dir_free_bytes", "instance", fold="min"), "{{instance}}")], good_above=5 * 2**30),
        graph("Free disk in 4 hours", "By the trend of the last hour. Below 0: the disk will be full; the alert KStreamsStateDirWillFill fires.", "bytes",
              [(f"min by (instance) (predict_linear(kstreams_state_dir_free_bytes{{{SEL}}}[1h], 4 * 3600))", "{{instance}}")], good_above=0),
    ]),
    ("Use", [
        graph("Operations", "Operations a second by kind.", "cps", [(rate("kstreams_store_operations_total", "op"), "{{op}}")]),
        graph("Operations by store", "The ten busiest stores.", "cps", [(f'topk(10, {rate("kstreams_store_operations_total", "app, store")})', "{{app}} {{store}}")]),
        graph("Row cache hits", "Share of single reads that found their row in memory. Low and busy: raise row_cache_max_bytes.", "percentunit",
              [(f"""{rate("kstreams_row_cache_requests_total", "app", ', result="hit"')} / {rate("kstreams_row_cache_requests_total", "app")}""", "{{app}}")]),
        graph("Row cache", "Bytes of rows in memory.", "bytes", [(total("kstreams_row_cache_bytes", "app"), "{{app}}")]),
        graph("Record caches", "Bytes of the record caches, which hold updates of tables back until the commit (statestore.cache.max.bytes).", "bytes", [(total("kstreams_cache_bytes", "app, store"), "{{app}} {{store}}")]),
        graph("Record cache hits", "Share of an operator's look-ups that its record cache answers.", "percentunit",
              [(f"""{rate("kstreams_cache_requests_total", "app", ', result="hit"')} / {rate("kstreams_cache_requests_total", "app")}""", "{{app}}")]),
        graph("Record cache evictions", "Entries a second that had no room: their changes are forwarded early, one by one.", "cps", [(rate("kstreams_cache_evictions_total", "app, store"), "{{app}} {{store}}")]),
        graph("Uncommitted rows", "Bytes that the next commits write.", "bytes", [(total("kstreams_store_uncommitted_bytes", "app"), "{{app}}")], limit=32 * 2**20),
    ]),
    ("RocksDB", [
        graph("Memory", "What RocksDB holds: block cache, memtables, indexes outside it. Memtables are charged to the cache.", "bytes",
              [(total("kstreams_rocksdb_block_cache_bytes", "", ', kind="usage"'), "block cache"), (total("kstreams_rocksdb_memtable_bytes", "", ', kind="all"'), "memtables"), (total("kstreams_rocksdb_table_readers_bytes", ""), "table readers")]),
        graph("Block cache", "Use and capacity of the cache that all stores of a topology share.", "bytes", [(total("kstreams_rocksdb_block_cache_bytes", "kind"), "{{kind}}")]),
        graph("Memtables", "Bytes of memtables by kind.", "bytes", [(total("kstreams_rocksdb_memtable_bytes", "kind"), "{{kind}}")]),
        graph("Pending compaction", "Bytes that compactions have yet to rewrite. Growing without end: the disk is too slow.", "bytes", [(total("kstreams_rocksdb_pending_compaction_bytes", "app"), "{{app}}")], limit=2**30),
        graph("Compactions and flushes", "What runs and what waits.", "short",
              [(total("kstreams_rocksdb_running_compactions", ""), "running compactions"), (total("kstreams_rocksdb_compaction_pending", ""), "waiting compactions"),
               (total("kstreams_rocksdb_running_flushes", ""), "running flushes"), (total("kstreams_rocksdb_flush_pending", ""), "waiting flushes")]),
        graph("Immutable memtables", "Memtables that wait to be flushed.", "short", [(total("kstreams_rocksdb_immutable_memtables", "app"), "{{app}}")]),
        graph("Live versions", "Versions of the trees that readers keep alive; more than one a store: long scans.", "short", [(total("kstreams_rocksdb_live_versions", "app"), "{{app}}")]),
        stat("Background errors", "Errors of flushes and compactions. Any: the disk is full or broken.", "none", total("kstreams_rocksdb_background_errors", ""), limit=1),
    ]),
]

RESTORATION = [
    ("Rebalances", [
        graph("Group events", "Answers of the group protocol, an hour: assigned, revoked, lost (thrown out), fenced (a commit was refused).", "short",
              [(f"sum by (event) (increase(kstreams_rebalances_total{{{SEL}}}[1h]))", "{{event}}")]),
        graph("Rebalance duration", "From the first task that stops to the moment when all process. The line is the limit of recovery, 30 s.", "s", quantiles("kstreams_rebalance_duration_seconds"), limit=RECOVERY_LIMIT_S),
        graph("Since the last rebalance", "How long ago each instance's last rebalance ended.", "s", [(f"time() - max by (instance, app) (kstreams_last_rebalance_timestamp_seconds{{{SEL}}})", "{{instance}} {{app}}")]),
        graph("Moved tasks", "Tasks that came and went by instance, an hour.", "short", [(f"sum by (instance, direction) (increase(kstreams_tasks_moved_total{{{SEL}}}[1h]))", "{{instance}} {{direction}}")]),
        timeline("Rebalancing", "1 while an instance's topology does not process all its tasks. Longer than 30 s: the alert KStreamsRecoveryTooSlow.", "none",
                 [(f'kstreams_client_state{{{SEL}, state="REBALANCING"}}', "{{instance}} {{app}}")], limit=1),
    ]),
    ("Restoration", [
        graph("Restoring tasks", "Tasks whose stores are being read back.", "short", [(total("kstreams_tasks", "instance, app", ', state="restoring"'), "{{instance}} {{app}}")]),
        graph("Records left", "Changelog records that stores still lack; 0: none is restored.", "short", [(f'{total("kstreams_restore_remaining_records", "app, store")} or vector(0)', "{{app}} {{store}}")]),
        graph("Restored records", "Changelog records a second.", "cps", [(rate("kstreams_restore_records_total", "app"), "{{app}}")]),
        graph("Restored bytes", "Bytes a second applied to stores.", "Bps", [(rate("kstreams_restore_bytes_total", "app"), "{{app}}")]),
        graph("Time left", "Records left by the rate of restoration.", "s",
              [(f'({total("kstreams_restore_remaining_records", "app")} / (sum by (app) (rate(kstreams_restore_records_total{{{SEL}}}[1m])) > 0)) or vector(0)', "{{app}}")], limit=RECOVERY_LIMIT_S),
        graph("Restoration duration", "Of a task. The line is the limit of recovery, 30 s.", "s", quantiles("kstreams_restore_duration_seconds"), limit=RECOVERY_LIMIT_S),
    ]),
]

ERRORS = [
    ("Dead letters", [
        stat("Failed events, 1 h", "Share of the records read that failed, over an hour. The limit is 0.01 %.", "percentunit", FAILED_RATIO, limit=FAILED_LIMIT),
        stat("Dead letters, 24 h", "Records set aside within a day. `aggregator dlq list` shows them.", "short", f'sum(increase(kstreams_dlq_records_total{{{SEL}, disposition="dlq"}}[24h]))', limit=1),
        graph("By source topic", "Records an hour that failed, by source topic.", "short", [(f"sum by (app, topic) (increase(kstreams_dlq_records_total{{{SEL}}}[1h]))", "{{app}} {{topic}}")], limit=1),
        graph("By stage", "Where they failed: deserialize (bytes or contract), process (the topology), produce (too large).", "short", [(f"sum by (stage) (increase(kstreams_dlq_records_total{{{SEL}}}[1h]))", "{{stage}}")], limit=1),
        graph("By decision", "What the handlers decided: dlq, skip, fail.", "short", [(f"sum by (disposition) (increase(kstreams_dlq_records_total{{{SEL}}}[1h]))", "{{disposition}}")], limit=1),
        graph("Retries", "Repeated attempts, a second, at records that failed in a processor (processing_retries).", "cps", [(rate("kstreams_retries_total", "app, topic"), "{{app}} {{topic}}")]),
        table("Worst topics, 24 h", "Failed records within a day by application, topic and stage.", "short",
              [(f"topk(20, sum by (app, topic, stage) (increase(kstreams_dlq_records_total{{{SEL}}}[24h])))", "")], width=12),
    ]),
    ("Other errors", [
        graph("Aborted transactions", "Share of transactions that did not commit. Their records are worked off again.", "percentunit",
              [(f"""{rate("kstreams_transactions_total", "app", ', outcome!="commit"')} / {rate("kstreams_transactions_total", "app")}""", "{{app}}")], limit=0.01),
        graph("Unknown event types", "Events a second of a type that this version does not know; producers may be newer.", "cps",
              [(f'{rate("svc_unknown_events_total", "app, topic", sel=INS)} or vector(0)', "{{app}} {{topic}}")], warn=0.001),
        graph("Failed clients", "Failures that ended a client, an hour.", "short", [(f"sum by (app, reason) (increase(kstreams_thread_failures_total{{{SEL}}}[1h]))", "{{app}} {{reason}}")], limit=1),
        graph("Refused completions", "Finished work, an hour, that became a dead letter, by reason.", "short",
              [(f"sum by (reason) (increase(svc_hr_completions_refused_total{{{INS}}}[1h])) or vector(0)", "{{reason}}")], limit=1),
    ]),
    ("Schema registry", [
        graph("Requests", "Requests a second by outcome. While it is unreachable, tasks that need a schema wait.", "cps", [(rate("kstreams_schema_registry_requests_total", "outcome", sel=INS), "{{outcome}}")]),
        graph("Request p99", "99th percentile of a request, all addresses tried.", "s", [(quantile(0.99, "kstreams_schema_registry_request_duration_seconds", "op", sel=INS), "{{op}}")], limit=1),
    ]),
]

BUSINESS = [
    ("Requests", [
        graph("Requests by region", "Requests filed a minute. The service is made for 1,000 a minute and more.", "short", [(f'60 * {rate("svc_requests_created_total", "region", sel=INS)}', "{{region}}")], stack=True),
        graph("Requests by priority", "Requests filed a minute, by priority.", "short", [(f'60 * {rate("svc_requests_created_total", "priority", sel=INS)}', "{{priority}}")], stack=True),
        graph("Waiting requests", "Requests that wait for a manager. Growing: managers or capacity lack; `aggregator waiting` lists them.", "short", [(f"sum(svc_requests_waiting{{{INS}}})", "waiting")], warn=100),
        graph("Assignments", "Managers assigned a minute: the first time, and again.", "short", [(f'60 * {rate("svc_manager_assignments_total", "outcome", sel=INS)}', "{{outcome}}")]),
        graph("Assignment duration", "From request.created to workflow.manager_assigned. The line is the limit of the 99th percentile, 100 ms.", "s", quantiles("svc_assignment_duration_seconds", sel=INS), limit=LATENCY_LIMIT_S),
        graph("Within 30 s", "Share of first assignments within 30 s of the request.", "percentunit",
              [(f"""{rate("svc_assignment_duration_seconds_bucket", "", ', le="30"', sel=INS)} / {rate("svc_assignment_duration_seconds_count", "", sel=INS)}""", "within 30 s")], good_above=0.99),
        graph("SLA breaches", "Requests, an hour, that were not assigned within the SLA of their priority.", "short", [(f"sum by (sla) (increase(svc_sla_breaches_total{{{INS}}}[1h]))", "{{sla}}")], limit=1),
    ]),
    ("Contractors and documents", [
        graph("Access decisions", "Decisions a minute on contractors' assignments.", "short", [(f'60 * {rate("svc_access_checks_total", "result", sel=INS)}', "{{result}}")]),
        graph("Decision p99", "99th percentile from the assignment to the decision; one waits up to 10 minutes for a verification.", "s", [(quantile(0.99, "svc_access_check_duration_seconds", sel=INS), "p99")], limit=600),
        graph("Revoked grants", "Open grants revoked a minute, by reason.", "short", [(f'60 * {rate("svc_access_revoked_total", "reason", sel=INS)}', "{{reason}}")]),
        graph("Documents", "Contracts and documents made a minute.", "short",
              [(f'60 * {rate("svc_hr_documents_total", "type", sel=INS)}', "{{type}}"), (f'60 * {rate("svc_hr_contracts_total", "", sel=INS)}', "contract")]),
        graph("Closed paperwork", "Requests a minute whose act is signed and whose order is paid, and signatures and payments without effect.", "short",
              [(f'60 * {rate("svc_hr_paperwork_closed_total", "", sel=INS)}', "closed"), (f'60 * {rate("svc_hr_unmatched_total", "reason", sel=INS)}', "no effect: {{reason}}")]),
        graph("Paperwork duration", "Median from the documents' creation to the closing.", "s", [(quantile(0.5, "svc_hr_paperwork_duration_seconds", sel=INS), "p50")], warn=7 * 86400),
    ]),
    ("Notifications and audit", [
        graph("Notifications made", "Notifications a minute by channel, or why there is none.", "short", [(f'60 * {rate("svc_notifications_total", "outcome", sel=INS)}', "{{outcome}}")]),
        graph("Messages settled", "Messages a minute by channel and outcome.", "short", [(f'60 * {rate("svc_delivery_messages_total", "channel, outcome", sel=INS)}', "{{channel}} {{outcome}}")]),
        graph("Delivered", "Share of settled messages that were sent, over an hour. The target is 99.99 %.", "percentunit",
              [(f'(sum(increase(svc_delivery_messages_total{{{INS}, outcome="sent"}}[1h])) / sum(increase(svc_delivery_messages_total{{{INS}}}[1h]) > 0)) or vector(1)', "sent")], good_above=0.9999),
        graph("Delivery p99", "99th percentile from a command to the settlement of its message.", "s", [(quantile(0.99, "svc_delivery_duration_seconds", "channel", sel=INS), "{{channel}}")], limit=RECOVERY_LIMIT_S),
        graph("Outbox", "Messages not settled, and those with a provider.", "short", [(f"sum(svc_delivery_outbox_messages{{{INS}}})", "not settled"), (f"sum by (channel) (svc_delivery_in_flight_messages{{{INS}}})", "with {{channel}}")], warn=1000),
        timeline("Channels in trouble", "1 while a channel's circuit is open or a pause is kept; the other channels go on.", "none", [(f"max by (channel) (svc_delivery_degraded{{{INS}}})", "{{channel}}")], limit=1),
        graph("Providers' answers", "Answers a second by channel and result.", "cps", [(rate("svc_delivery_attempts_total", "channel, result", sel=INS), "{{channel}} {{result}}")]),
        graph("Audit events", "Audit events published a second, by type.", "cps", [(rate("svc_audit_events_total", "event_type", sel=INS), "{{event_type}}")]),
        graph("Events read", "Events a second by topology and type.", "cps", [(rate("svc_events_total", "event_type", sel=INS), "{{event_type}}")]),
    ]),
]

CLUSTER = [
    ("Cluster", [
        stat("Brokers", "Brokers that the cluster's metadata lists.", "none", total("kstreams_cluster_brokers", "", fold="min"), good_above=1),
        stat("Under-replicated partitions", "Partitions of the application's topics with fewer replicas in sync than they have. Above 0: a broker is down or behind.", "none", total("kstreams_cluster_under_replicated_partitions", "", fold="max"), limit=1),
        stat("Offline partitions", "Partitions without a leader: nothing can be read or written there.", "none", total("kstreams_cluster_offline_partitions", "", fold="max"), limit=1),
        graph("Replication", "Partitions under-replicated and offline, by application.", "short",
              [(total("kstreams_cluster_under_replicated_partitions", "app", fold="max"), "{{app}} under-replicated"), (total("kstreams_cluster_offline_partitions", "app", fold="max"), "{{app}} offline")], limit=1),
    ]),
    ("Clients", [
        graph("Bytes read", "Bytes a second read, by topic.", "Bps", [(rate("kstreams_topic_consumed_bytes_total", "topic"), "{{topic}}")]),
        graph("Bytes written", "Bytes a second written, by topic, before compression.", "Bps", [(rate("kstreams_topic_produced_bytes_total", "topic"), "{{topic}}")]),
        graph("Internal traffic", "Share of the bytes written that go to repartition topics and changelogs.", "percentunit",
              [(f"""{rate("kstreams_topic_produced_bytes_total", "app", ', internal="true"')} / {rate("kstreams_topic_produced_bytes_total", "app")}""", "{{app}}")]),
        graph("Transactions", "Transactions a second by outcome.", "cps", [(rate("kstreams_transactions_total", "app, outcome"), "{{app}} {{outcome}}")]),
        graph("Poll time", "Share of the threads' time spent taking over records.", "percentunit", [(f"""{rate("kstreams_thread_time_seconds_total", "app", ', phase="poll"')} / {rate("kstreams_thread_time_seconds_total", "app")}""", "{{app}}")]),
        graph("Schema registry", "Requests a second by outcome.", "cps", [(rate("kstreams_schema_registry_requests_total", "op, outcome", sel=INS), "{{op}} {{outcome}}")]),
    ]),
    ("Process", [
        graph("Threads", "Threads of each instance; librdkafka has one for each broker and client.", "short", [(f"process_threads{{{INS}}}", "{{instance}}")]),
        graph("Up for", "Time since each instance started.", "s", [(f"time() - process_start_time_seconds{{{INS}}}", "{{instance}}")]),
        graph("Virtual memory", "Address space of each instance.", "bytes", [(f"process_virtual_memory_bytes{{{INS}}}", "{{instance}}")]),
    ]),
]

DASHBOARDS = {
    "overview": ("Overview", OVERVIEW),
    "tasks": ("Tasks and threads", TASKS),
    "lag": ("Lag and latency", LAG),
    "stores": ("Stores and RocksDB", STORES),
    "restoration": ("Restoration and rebalance", RESTORATION),
    "errors": ("Dead letters and errors", ERRORS),
    "business": ("Business", BUSINESS),
    "cluster": ("Cluster and clients", CLUSTER),
}

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


def variable(name, label, query, many):
    return {
        "name": name, "label": label, "type": "query", "datasource": DATASOURCE, "definition": query,
        "query": {"query": query, "refId": name}, "refresh": 2, "sort": 1,
        "multi": many, "includeAll": many, "allValue": ".*" if many else None,
        "current": {"text": "All", "value": "$__all"} if many else {},
    }


VARIABLES = [
    {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "current": {}},
    variable("application", "Application", "label_values(kstreams_build_info, job)", False),
    variable("topology", "Topology", 'label_values(kstreams_topology_info{job="$application"}, app)', True),
    variable("instance", "Instance", 'label_values(kstreams_build_info{job="$application"}, instance)', True),
]


def options(kind):
    """What a kind of panel needs to look as it should."""
    reduce = {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}}
    return {
        "timeseries": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}},
        "stat": {**reduce, "colorMode": "background", "graphMode": "area"},
        "table": {"showHeader": True},
        "heatmap": {"calculate": False, "yAxis": {"unit": "s"}, "color": {"mode": "scheme", "scheme": "Spectral"}},
        "state-timeline": {"mergeValues": True, "showValue": "never"},
    }[kind]


def target(kind, index, expr, legend):
    one = {"refId": chr(ord("A") + index), "datasource": DATASOURCE, "expr": expr, "legendFormat": legend, "editorMode": "code"}
    if kind == "table":
        return {**one, "format": "table", "instant": True, "range": False}
    return {**one, "format": "heatmap" if kind == "heatmap" else "time_series", "instant": False, "range": True}


def drawn(panel, number, x, y):
    kind, opts = panel["kind"], panel["options"]
    custom = {}
    if kind == "timeseries":
        custom = {"fillOpacity": 10, "lineWidth": 1, "showPoints": "never", "stacking": {"mode": "normal" if opts.get("stack") else "none"},
                  "thresholdsStyle": {"mode": "line" if len(panel["steps"]) > 1 else "off"}}
    result = {
        "id": number, "type": kind, "title": panel["title"], "description": panel["about"], "datasource": DATASOURCE,
        "gridPos": {"x": x, "y": y, "w": opts.get("width", 8), "h": opts.get("height", 8)},
        "fieldConfig": {"defaults": {"unit": panel["unit"], "custom": custom, "thresholds": {
            "mode": "absolute", "steps": [{"color": color, "value": value} for color, value in panel["steps"]]}}, "overrides": []},
        "options": options(kind),
        "targets": [target(kind, index, expr, legend) for index, (expr, legend) in enumerate(panel["targets"])],
    }
    if kind == "table":
        result["transformations"] = [{"id": "organize", "options": {"excludeByName": {"Time": True, "__name__": True, "job": True}}}]
    return result


def placed(rows):
    """Panels from left to right; a new line where the next one does not fit, below the tallest of the line."""
    panels, number, y = [], 1, 0
    for title, members in rows:
        panels.append({"id": number, "type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}})
        number, x, y, tallest = number + 1, 0, y + 1, 0
        for member in members:
            width, height = member["options"].get("width", 8), member["options"].get("height", 8)
            if x + width > 24:
                x, y, tallest = 0, y + tallest, 0
            panels.append(drawn(member, number, x, y))
            number, x, tallest = number + 1, x + width, max(tallest, height)
        y += tallest
    return panels


def dashboard(uid, title, rows):
    link = {"type": "dashboards", "title": "kstreams", "tags": ["kstreams"], "asDropdown": True, "includeVars": True, "keepTime": True}
    deployments = {
        "name": "Deployments", "enable": True, "datasource": DATASOURCE, "iconColor": "blue", "titleFormat": "{{app}} {{topology_hash}}",
        "expr": f"kstreams_topology_info{{{SEL}}} unless kstreams_topology_info{{{SEL}}} offset 1m",
    }
    return {
        "uid": f"kstreams-{uid}", "title": f"kstreams: {title}", "tags": ["kstreams"], "schemaVersion": 39, "version": 1, "editable": False,
        "timezone": "browser", "refresh": "10s", "time": {"from": "now-1h", "to": "now"}, "links": [link],
        "annotations": {"list": [deployments]}, "templating": {"list": VARIABLES}, "panels": placed(rows),
    }


def main():
    check, stale = sys.argv[1:] == ["--check"], []
    if sys.argv[1:] and not check:
        sys.exit(__doc__)
    FOLDER.mkdir(exist_ok=True)
    wanted = {f"{uid}.json": json.dumps(dashboard(uid, *rest), indent=1, ensure_ascii=False) + "\n" for uid, rest in DASHBOARDS.items()}
    for name, text in wanted.items():
        path = FOLDER / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
            if not check:
                path.write_text(text, encoding="utf-8")
    stale += [path.name for path in FOLDER.glob("*.json") if path.name not in wanted]
    if check and stale:
        sys.exit(f"out of date: {', '.join(stale)}; run docker/grafana/dashboards.py")


if __name__ == "__main__":
    main()
