//! The live view: one screen of 80×24, redrawn in place with plain ANSI; elsewhere one plain line a second.

use std::io::{self, IsTerminal as _, Write};
use std::time::Duration;

use super::tally::{Counts, Recent, RegionView};

/// Another screen, no cursor, no line wrap; and back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";
/// Columns used, of 80.
const WIDTH: usize = 79;
/// Regions shown; further ones are summed up.
const REGIONS: usize = 4;
/// Topologies shown beside manager-assignment.
const TOPOLOGIES: usize = 5;
/// Assignments shown.
const RECENT: usize = 2;
/// The time between two plain lines.
const PLAIN_EVERY: Duration = Duration::from_secs(1);

/// Everything that is shown.
#[derive(Debug, Clone, Default)]
pub(super) struct Screen {
    /// What runs, and how.
    pub(super) title: String,
    /// What it is doing: RUNNING, draining …
    pub(super) state: String,
    /// Lines about where to join in.
    pub(super) join_in: Vec<String>,
    pub(super) uptime: Duration,
    pub(super) counts: Counts,
    /// Per second, of the last seconds.
    pub(super) requests_per_second: f64,
    pub(super) assigned_per_second: f64,
    /// Of the last seconds.
    pub(super) p50_ms: Option<u64>,
    pub(super) p99_ms: Option<u64>,
    /// What the stand-ins of the providers have taken.
    pub(super) messages: String,
    pub(super) regions: Vec<RegionView>,
    pub(super) recent: Vec<Recent>,
    /// Every topology but manager-assignment, which the rest is about.
    pub(super) topologies: Vec<TopologyView>,
}

/// A topology to be shown.
#[derive(Debug, Clone, Default)]
pub(super) struct TopologyView {
    pub(super) name: String,
    pub(super) state: String,
    /// What it published.
    pub(super) counts: Vec<(String, u64)>,
}

/// Where the view is drawn; gives the terminal back when dropped.
pub(super) struct Display {
    is_live: bool,
    last_line_at: Option<Duration>,
}

impl Display {
    /// A live view where standard output is a terminal, else plain lines.
    pub(super) fn open() -> io::Result<Self> {
        let is_live = io::stdout().is_terminal();
        if is_live {
            write_out(ENTER)?;
        }
        Ok(Self { is_live, last_line_at: None })
    }

    /// Shows the screen; plain lines not more often than once a second.
    pub(super) fn show(&mut self, screen: &Screen) -> io::Result<()> {
        if self.is_live {
            let mut text = String::from("\x1b[H");
            for line in render(screen) {
                text.push_str(&line);
                text.push_str("\x1b[K\r\n");
            }
            // Whatever a log line has left below.
            text.push_str("\x1b[J");
            return write_out(&text);
        }
        if self.last_line_at.is_some_and(|last| screen.uptime < last + PLAIN_EVERY) {
            return Ok(());
        }
        self.last_line_at = Some(screen.uptime);
        write_out(&(plain_line(screen) + "\n"))
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        if self.is_live {
            // A terminal that is gone needs nothing back.
            let _ = write_out(LEAVE);
        }
    }
}

fn write_out(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn ms(value: Option<u64>) -> String {
    value.map_or("-".to_owned(), |ms| format!("{ms} ms"))
}

/// One line, for logs and pipes.
fn plain_line(screen: &Screen) -> String {
    let Counts {
        requests, assigned, waiting, escalated, cancelled, dead_letters, duplicates, ..
    } = &screen.counts;
    format!(
        "{:>4} s  {}: {requests} requests ({:.0}/s), {assigned} assigned, {waiting} waiting, {escalated} escalated, \
         {cancelled} cancelled, {dead_letters} dead letters, {duplicates} duplicates, p50 {}, p99 {}",
        screen.uptime.as_secs(),
        screen.state.to_lowercase(),
        screen.requests_per_second,
        ms(screen.p50_ms),
        ms(screen.p99_ms),
    )
}

/// The screen's lines, each of at most [`WIDTH`] columns.
fn render(screen: &Screen) -> Vec<String> {
    let counts = &screen.counts;
    let seconds = screen.uptime.as_secs();
    let mut lines = vec![format!(
        "{:02}:{:02}  {}  {}",
        seconds / 60,
        seconds % 60,
        screen.state,
        screen.title
    )];
    lines.extend(screen.join_in.iter().cloned());
    let pair = |left: &str, count: u64, rate: Option<f64>, right: &str, other: u64| {
        let rate = rate.map_or(String::new(), |rate| format!("{rate:.0}/s"));
        format!("{left:<13}{count:>10}  {rate:>9}      {right:<13}{other:>10}")
    };
    let (requests, assigned) = (screen.requests_per_second, screen.assigned_per_second);
    lines.push(pair(
        "requests in",
        counts.requests,
        Some(requests),
        "duplicates",
        counts.duplicates,
    ));
    lines.push(pair(
        "assigned",
        counts.assigned,
        Some(assigned),
        "dead letters",
        counts.dead_letters,
    ));
    lines.push(pair("waiting", counts.waiting, None, "escalated", counts.escalated));
    lines.push(pair("cancelled", counts.cancelled, None, "completed", counts.completed));
    lines.push(format!(
        "latency       p50 {:>8}  p99 {:>8}   created -> assigned, last seconds",
        ms(screen.p50_ms),
        ms(screen.p99_ms)
    ));
    lines.push(format!(
        "{:<14}{:>9}{:>9}{:>11}{:>10}",
        "region", "managers", "open", "capacity", "waiting"
    ));
    let (shown, rest) = screen.regions.split_at(screen.regions.len().min(REGIONS));
    for region in shown {
        let RegionView { name, managers, open, capacity, waiting, .. } = region;
        let name: String = name.chars().take(13).collect();
        lines.push(format!("{name:<14}{managers:>9}{open:>9}{capacity:>11}{waiting:>10}"));
    }
    if !rest.is_empty() {
        let waiting: i64 = rest.iter().map(|region| region.waiting).sum();
        lines.push(format!("{:<43}{waiting:>10}", format!("{} more", rest.len())));
    }
    for TopologyView { name, state, counts } in screen.topologies.iter().take(TOPOLOGIES) {
        let counts: Vec<String> =
            counts.iter().map(|(what, count)| format!("{what} {count}")).collect();
        let state = if state == "RUNNING" { String::new() } else { format!("{state}  ") };
        lines.push(format!("{name:<19} {state}{}", counts.join("  ")));
    }
    lines.push(screen.messages.clone());
    lines.push(format!("{:<55}Ctrl-C stops and sums up", "last assignments"));
    for recent in screen.recent.iter().rev().take(RECENT) {
        let Recent { request_id, manager_id, region, priority, attempt, latency_ms } = recent;
        let latency = latency_ms.map_or(String::new(), |ms| format!("{ms} ms"));
        lines.push(format!(
            "request {request_id:<10} {priority} {region:<12} manager {manager_id:<5} attempt {attempt:<3} {latency:>9}"
        ));
    }
    lines.into_iter().map(|line| line.chars().take(WIDTH).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Priority;

    fn topology() -> TopologyView {
        TopologyView {
            name: "contractor-access".to_owned(),
            state: "RUNNING".to_owned(),
            counts: vec![("access_granted".to_owned(), 1_234), ("x".repeat(99), 1)],
        }
    }

    fn screen() -> Screen {
        let recent = Recent {
            request_id: 1_234_567,
            manager_id: 17,
            region: "mountains".to_owned(),
            priority: Priority::P2,
            attempt: 1,
            latency_ms: Some(23),
        };
        let region =
            RegionView { name: "mountains".repeat(5), capacity: 99, ..RegionView::default() };
        Screen {
            title: "seed 7, 500 requests/s".repeat(9),
            state: "RUNNING".to_owned(),
            join_in: vec!["kcat".to_owned(); 3],
            uptime: Duration::from_secs(75),
            counts: Counts { requests: 1_000_000, ..Counts::default() },
            regions: vec![region; 9],
            recent: vec![recent; 4],
            topologies: vec![topology(); 9],
            messages: "messages sent 7   last: email to a@example.org: ".repeat(3),
            p99_ms: Some(61),
            ..Screen::default()
        }
    }

    #[test]
    fn the_screen_fits_a_terminal_of_80_by_24() {
        let lines = render(&screen());
        assert!(lines.len() <= 24, "{} lines", lines.len());
        assert!(lines.iter().all(|line| line.chars().count() <= WIDTH), "{lines:#?}");
        assert!(lines[0].starts_with("01:15  RUNNING"));
        assert!(lines.iter().any(|line| line.starts_with("requests in     1000000")), "{lines:#?}");
        let topology = "contractor-access   access_granted 1234";
        assert!(lines.iter().any(|line| line.starts_with(topology)), "{lines:#?}");
    }

    #[test]
    fn a_plain_line_has_all_counts() {
        let line = plain_line(&screen());
        for part in ["75 s", "running", "1000000 requests", "0 dead letters", "p50 -", "p99 61 ms"]
        {
            assert!(line.contains(part), "{line}");
        }
    }
}
