//! Programs that a test starts: the application, and Python as the foreign client.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::broker::required_variable;
use crate::wait::wait_until;

/// Lines of a program's output that a failure message shows.
const TAIL_LINES: usize = 30;

/// What a test sends to a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Ctrl-C.
    Interrupt,
    /// The polite end.
    Terminate,
    /// The end without a chance to react.
    Kill,
    /// Stops the program without ending it, as a long pause of the machine would.
    Stop,
    /// Lets a stopped program go on.
    Continue,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Signal::Interrupt => "INT",
            Signal::Terminate => "TERM",
            Signal::Kill => "KILL",
            Signal::Stop => "STOP",
            Signal::Continue => "CONT",
        }
    }
}

/// A running program whose output is kept line by line. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts a program; standard output and standard error are kept together.
    ///
    /// ```no_run
    /// # use std::process::Command;
    /// # let (binary, config_file) = ("", "");
    /// let mut command = Command::new(binary); // env!("CARGO_BIN_EXE_aggregator")
    /// command.args(["run", "--config", config_file]);
    /// let mut app = test_support::Process::start(command);
    /// app.wait_for_line("state is running", test_support::DEADLINE);
    /// app.signal(test_support::Signal::Kill);
    /// assert!(!app.wait(test_support::DEADLINE).success());
    /// ```
    ///
    /// # Panics
    /// When the program cannot be started.
    pub fn start(command: Command) -> Process {
        Process::start_reading(command, Stdio::null())
    }

    /// As [`start`](Self::start), for a program that is told what to do by [`write_line`](Self::write_line).
    ///
    /// # Panics
    /// When the program cannot be started.
    pub fn start_for_commands(command: Command) -> Process {
        Process::start_reading(command, Stdio::piped())
    }

    fn start_reading(mut command: Command, input: Stdio) -> Process {
        command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
        let lines = Arc::new(Mutex::new(Vec::new()));
        let mut readers = Vec::new();
        if let Some(output) = child.stdout.take() {
            readers.push(keep_lines(output, Arc::clone(&lines)));
        }
        if let Some(output) = child.stderr.take() {
            readers.push(keep_lines(output, Arc::clone(&lines)));
        }
        Process { child, lines, readers }
    }

    /// Writes a line to the program's standard input.
    ///
    /// # Panics
    /// When it reads none, or has ended.
    pub fn write_line(&mut self, line: &str) {
        let input = self.child.stdin.as_mut().expect("the program was started for commands");
        writeln!(input, "{line}").expect("the program reads its input");
    }

    /// Gives the process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal. One to a program that has ended does nothing.
    ///
    /// # Panics
    /// When the system's `kill` cannot be run.
    pub fn signal(&mut self, signal: Signal) {
        if self.exit_status().is_some() {
            return;
        }
        // The shell's own `kill`: a call of the C library would need unsafe code.
        let script = "kill -s \"$0\" \"$1\"";
        let id = self.id().to_string();
        let status = Command::new("sh").args(["-c", script, signal.name(), &id]).status();
        assert!(status.expect("a shell can be run").success(), "cannot send {signal:?} to {id}");
    }

    /// Gives the exit status when the program has ended.
    ///
    /// # Panics
    /// When the system does not know the program.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the child is ours")
    }

    /// Waits for the program's end; afterwards [`lines`](Self::lines) is complete.
    ///
    /// # Panics
    /// When it has not ended within `deadline`.
    pub fn wait(&mut self, deadline: Duration) -> ExitStatus {
        self.check_while_waiting("the program's end", deadline, |this| {
            this.exit_status().is_some()
        });
        for reader in self.readers.drain(..) {
            reader.join().expect("a reader of lines does not panic");
        }
        self.exit_status().expect("the loop above saw the end")
    }

    /// Gives the lines written so far.
    pub fn lines(&self) -> Vec<String> {
        lock(&self.lines).clone()
    }

    /// Waits for a line that contains `text`, and gives it.
    ///
    /// # Panics
    /// When there is none within `deadline` or before the program ends; shows the last lines.
    pub fn wait_for_line(&mut self, text: &str, deadline: Duration) -> String {
        let find = |this: &Self| lock(&this.lines).iter().find(|l| l.contains(text)).cloned();
        self.check_while_waiting(&format!("a line with \"{text}\""), deadline, |this| {
            let ended =
                this.exit_status().is_some() && this.readers.iter().all(|r| r.is_finished());
            let found = find(this).is_some();
            assert!(found || !ended, "no line with \"{text}\":\n{}", this.tail());
            found
        });
        find(self).expect("the loop above saw the line")
    }

    /// Gives the last lines, for the message of a failed assertion.
    pub fn tail(&self) -> String {
        let lines = lock(&self.lines);
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }

    /// As [`wait_until`], but shows the program's last lines when the deadline passes.
    fn check_while_waiting(
        &mut self,
        what: &str,
        deadline: Duration,
        mut condition: impl FnMut(&mut Self) -> bool,
    ) {
        let show = ShowOnPanic(Arc::clone(&self.lines));
        wait_until(what, deadline, || condition(self));
        drop(show);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails only when the program has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Prints the kept lines when a wait panics: without them nobody knows why.
struct ShowOnPanic(Arc<Mutex<Vec<String>>>);

impl Drop for ShowOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let lines = lock(&self.0);
            let tail = &lines[lines.len().saturating_sub(TAIL_LINES)..];
            eprintln!("the program's last lines:\n{}", tail.join("\n"));
        }
    }
}

fn keep_lines(
    output: impl Read + Send + 'static,
    lines: Arc<Mutex<Vec<String>>>,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            lock(&lines).push(String::from_utf8_lossy(&line).into_owned());
        }
    })
}

fn lock(lines: &Mutex<Vec<String>>) -> MutexGuard<'_, Vec<String>> {
    lines.lock().expect("no thread panics while it holds the lines")
}

/// Gives the Python interpreter that has the packages of `tests/requirements.txt`.
///
/// # Panics
/// When the environment does not name one.
pub fn python() -> PathBuf {
    required_variable("KSTREAMS_TEST_PYTHON").into()
}

/// Gives the folder with the programs `prometheus` and `promtool`.
///
/// # Panics
/// When the environment does not name one.
pub fn prometheus_folder() -> PathBuf {
    required_variable("KSTREAMS_TEST_PROMETHEUS").into()
}

/// Runs a Python script to its end and gives what it wrote to standard output. The script finds the
/// services in the same environment variables as the test.
///
/// # Panics
/// When it fails; shows its standard error.
pub fn run_python(script: &Path, arguments: &[impl AsRef<OsStr>]) -> String {
    let output = Command::new(python()).arg(script).args(arguments).output();
    let output = output.expect("the Python interpreter can be run");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{} ended with {}:\n{errors}",
        script.display(),
        output.status
    );
    String::from_utf8(output.stdout).expect("the script writes UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait::DEADLINE;

    fn shell(script: &str) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::start(command)
    }

    #[test]
    fn output_is_kept_and_the_exit_status_given() {
        let mut process = shell("echo one; echo two >&2; exit 3");
        assert_eq!(process.wait(DEADLINE).code(), Some(3));
        let mut lines = process.lines();
        lines.sort();
        assert_eq!(lines, ["one", "two"]);
    }

    #[test]
    fn a_program_reads_what_it_is_told() {
        let mut command = Command::new("sh");
        command.args(["-c", "read line; echo \"heard $line\""]);
        let mut process = Process::start_for_commands(command);
        process.write_line("a word");
        process.wait_for_line("heard a word", DEADLINE);
        assert!(process.wait(DEADLINE).success());
    }

    #[test]
    fn a_signal_reaches_the_program() {
        let mut process =
            shell("trap 'echo stopped; exit 0' TERM; echo ready; while :; do :; done");
        process.wait_for_line("ready", DEADLINE);
        process.signal(Signal::Terminate);
        assert!(process.wait(DEADLINE).success());
        assert!(process.lines().contains(&"stopped".to_owned()));
    }

    #[test]
    #[should_panic(expected = "no line with \"never\"")]
    fn an_ended_program_is_not_waited_for() {
        shell("echo something else").wait_for_line("never", DEADLINE);
    }
}
