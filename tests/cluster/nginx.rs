//! The real nginx with the real nginx.conf: only names and ports are other ones.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::support::LONG;

const CONF: &str = include_str!("../../nginx.conf");
const WHAT_TO_INSTALL: &str = "the cluster tests need nginx with its stream module (Debian: apt install nginx libnginx-mod-stream)";

/// Each line of its standard input is a signal for nginx. Ends, with nginx, when its standard input ends: when the test process does.
const WATCHMAN: &str = r#"
trap '' INT TERM HUP
"$1" -e stderr -c "$2/nginx.conf" -g "daemon off; pid $2/pid;" >"$2/log" 2>&1 &
nginx=$!
while read -r signal; do kill "-$signal" $nginx; done
kill -TERM $nginx
wait $nginx
"#;

/// A running balancer.
pub struct Nginx {
    pub port: u16,
    directory: tempfile::TempDir,
    watchman: Child,
    input: Option<ChildStdin>,
}

/// A port that was free a moment ago: agents advertise the balancer before there is one. It is none of those that the system gives to who asks for any.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let from = std::process::id().wrapping_mul(16);
    let mut ports = (0..20_000).map(|_| 12_000 + (from.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 18_000) as u16);
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a free port")
}

impl Nginx {
    /// Balances `port` over `agents`.
    pub fn start(port: u16, agents: &[String]) -> Nginx {
        let directory = tempfile::Builder::new().prefix("yaks-nginx").tempdir().expect("a directory");
        write(directory.path(), port, agents);
        let mut command = Command::new("sh");
        command.args(["-c", WATCHMAN, "watchman"]).arg(program()).arg(directory.path()).stdin(Stdio::piped()).stdout(Stdio::null());
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut watchman = command.spawn().expect("a shell");
        let input = watchman.stdin.take();
        let nginx = Nginx { port, directory, watchman, input };
        nginx.wait();
        nginx
    }

    /// Other agents from now on; connections stay where they are.
    pub fn balance(&mut self, agents: &[String]) {
        write(self.directory.path(), self.port, agents);
        writeln!(self.input.as_mut().expect("running"), "HUP").expect("the watchman lives");
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    fn wait(&self) {
        let deadline = Instant::now() + LONG;
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < deadline, "nginx does not listen:\n{}\n{WHAT_TO_INSTALL}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.watchman.wait();
    }
}

fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = [PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")];
    let found = std::env::split_paths(&path).chain(usual).map(|directory| directory.join("nginx")).find(|program| program.is_file());
    found.expect(WHAT_TO_INSTALL)
}

/// The line of one agent, once for each that there is, and the port; nothing else is changed.
fn write(directory: &Path, port: u16, agents: &[String]) {
    let line = CONF.lines().find(|line| line.contains("agent1:9092")).expect("nginx.conf names agent1:9092");
    let servers: Vec<String> = agents.iter().map(|address| line.replace("agent1:9092", address)).collect();
    let lines = CONF.lines().filter(|line| !line.contains("agent2:9092"));
    let lines = lines.map(|l| if l == line { servers.join("\n") } else { l.replace("listen 9092", &format!("listen 127.0.0.1:{port}")) });
    std::fs::write(directory.join("nginx.conf"), lines.collect::<Vec<_>>().join("\n") + "\n").expect("a file");
}
