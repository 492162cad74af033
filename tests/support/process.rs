//! Programs as processes that tell what they do, a line at a time.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// A process and what its lines have come to so far. Killed when dropped; when this test dies its standard input ends.
pub struct Process<Told> {
    child: Child,
    told: Arc<Mutex<Told>>,
    reader: Option<JoinHandle<()>>,
}

impl<Told: Default + Send + 'static> Process<Told> {
    pub fn start(mut command: Command, note: fn(&mut Told, &str)) -> Process<Told> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a program");
        let told = Arc::new(Mutex::new(Told::default()));
        let (noted, lines) = (Arc::clone(&told), BufReader::new(child.stdout.take().expect("piped")));
        let reader = std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                note(&mut noted.lock().expect("not poisoned"), &line);
            }
        });
        Process { child, told, reader: Some(reader) }
    }

    pub fn told<Answer>(&self, look: impl FnOnce(&mut Told) -> Answer) -> Answer {
        look(&mut self.told.lock().expect("not poisoned"))
    }

    /// Its standard input ends: the program is to end in good order.
    pub fn end_input(&mut self) {
        drop(self.child.stdin.take());
    }

    /// How it ended, if it has; then all it told is noted.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().expect("a child")?;
        self.reader.take().map(JoinHandle::join);
        Some(status)
    }

    /// Waits for its end; then all it told is noted.
    pub fn wait(&mut self) -> ExitStatus {
        let status = self.child.wait().expect("reaped");
        self.reader.take().map(JoinHandle::join);
        status
    }

    /// SIGKILL; what it told to the last counts.
    pub fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.wait();
    }
}

impl<Told> Drop for Process<Told> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
