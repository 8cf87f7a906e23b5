//! The page docs/walk-through.md, command by command: each prints what the page says.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

use test_support::{DEADLINE, Process, Signal, wait_until};

const PAGE: &str = include_str!("../../docs/walk-through.md");

/// A command, and the lines that it shall print.
struct Step {
    command: String,
    wanted: Vec<String>,
}

/// What stands in the page's blocks of commands.
fn steps() -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    for line in PAGE.lines() {
        match line {
            "```console" => inside = true,
            "```" => inside = false,
            _ if !inside => {}
            _ => match (line.strip_prefix("$ "), steps.last_mut()) {
                (Some(command), _) => {
                    steps.push(Step { command: command.to_owned(), wanted: Vec::new() });
                }
                (None, Some(step)) => step.wanted.push(line.to_owned()),
                (None, None) => panic!("output before the first command: {line}"),
            },
        }
    }
    steps
}

/// Whether a line is as wanted: `…` stands for any text, and the widths of columns do not matter.
fn fits(line: &str, wanted: &str) -> bool {
    let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (line, wanted) = (plain(line), plain(wanted));
    let mut parts = wanted.split('…');
    let Some(mut rest) = parts.next().and_then(|first| line.strip_prefix(first)) else {
        return false;
    };
    for part in parts {
        match (part, rest.find(part)) {
            ("", _) => rest = "",
            (_, Some(at)) => rest = &rest[at + part.len()..],
            (_, None) => return false,
        }
    }
    rest.is_empty()
}

/// Whether the output has the wanted lines and no others, in whatever order: messages overtake each other.
fn is_as_wanted(output: &str, wanted: &[String]) -> bool {
    let mut lines: Vec<&str> = output.lines().collect();
    let all_found = wanted.iter().all(|wanted| {
        let found = lines.iter().position(|line| fits(line, wanted));
        found.map(|at| lines.remove(at)).is_some()
    });
    all_found && lines.is_empty()
}

fn run(script: &str) -> String {
    let output = Command::new("bash").args(["-c", script]).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    String::from_utf8(output.stdout).unwrap() + &errors
}

#[test]
fn every_command_of_the_page_prints_what_the_page_says() {
    let mut steps = steps();
    let start = steps.remove(0);
    let arguments = start.command.strip_prefix("make run ARGS=\"").unwrap();
    let arguments = arguments.strip_suffix('"').unwrap().split(' ');
    let mut command = Command::new(env!("CARGO_BIN_EXE_aggregator"));
    command.arg("dev").args(arguments);
    let mut app = Process::start(command);
    let line = app.wait_for_line("shell ", DEADLINE);
    let shell = line.split_once("shell").unwrap().1.trim().to_owned();
    let mut script = format!("shopt -s expand_aliases\n{shell}\n");
    assert!(steps.len() >= 10, "the page has commands");
    for Step { command, wanted } in steps {
        if command.starts_with(|first: char| first.is_ascii_uppercase()) {
            script += &format!("{command}\n");
            continue;
        }
        let whole = format!("{script}{command}\n");
        let mut last = run(&whole);
        // Questions are asked until all that follows from the events before has happened; an event is sent once.
        if command.starts_with("aggregator send") {
            assert!(is_as_wanted(&last, &wanted), "{command}\n{last}");
            continue;
        }
        let mut tell = Tell(command.clone(), String::new());
        wait_until(&command, DEADLINE, || {
            let is_good = is_as_wanted(&last, &wanted);
            if !is_good {
                last = run(&whole);
                tell.1.clone_from(&last);
            }
            is_good
        });
    }
    app.signal(Signal::Interrupt);
    assert_eq!(app.wait(DEADLINE).code(), Some(0), "{}", app.tail());
}

/// Says what a command printed last, where it was waited for in vain.
struct Tell(String, String);

impl Drop for Tell {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{} printed\n{}", self.0, self.1);
        }
    }
}

#[test]
fn a_page_that_says_something_else_is_noticed() {
    assert!(fits("a  7 b", "a … b") && fits("x", "x") && fits("id 5", "id …"));
    assert!(!fits("a 7 c", "a … b") && !fits("x y", "x") && !fits("", "x"));
    let wanted = ["a".to_owned(), "b …".to_owned()];
    assert!(is_as_wanted("b 1\na\n", &wanted));
    assert!(!is_as_wanted("b 1\na\na\n", &wanted) && !is_as_wanted("a\n", &wanted));
}
