//! A headless Chromium with its WebDriver, on a port of its own.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use fantoccini::{Client, ClientBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::json;

/// Everything that a test needs and nothing that talks to the outside.
const FLAGS: [&str; 10] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1000,700",
];

/// The driver takes a free port of IPv4 and then wants the same of IPv6, which somebody may have: it ends, and another
/// one has more luck.
const STARTS_MAX: usize = 10;

/// A driver and its browser, both killed when dropped.
pub(crate) struct Browser {
    driver: Child,
    /// Open for as long as the driver lives, which may want to print more.
    _stdout: BufReader<ChildStdout>,
    profile: PathBuf,
    port: u16,
}

// ===== impl Browser =====

impl Browser {
    /// Starts the driver, `chromedriver` on the path, and waits until it has printed its port.
    pub(crate) fn start() -> Self {
        (0..STARTS_MAX).find_map(|_| Self::try_start()).expect("chromedriver finds a port")
    }

    fn try_start() -> Option<Self> {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // A group of their own: the driver and the browsers that it starts.
            .process_group(0)
            .spawn()
            .expect("chromedriver is installed");
        let profile = std::env::temp_dir().join(format!("hyper-deferred-chromium-{}", driver.id()));
        let mut stdout = BufReader::new(driver.stdout.take().unwrap());
        let mut printed = String::new();
        let port = loop {
            printed.clear();
            if stdout.read_line(&mut printed).unwrap() == 0 {
                driver.wait().unwrap();
                return None;
            }
            if let Some((_, port)) = printed.split_once("successfully on port ") {
                break port.trim().trim_end_matches('.').parse().unwrap();
            }
        };
        Some(Self { driver, _stdout: stdout, profile, port })
    }

    /// A session with a fresh profile.
    pub(crate) async fn session(&self) -> Client {
        let mut args: Vec<String> = FLAGS.iter().map(|&flag| flag.to_owned()).collect();
        args.push(format!("--user-data-dir={}", self.profile.display()));
        let options = json!({ "goog:chromeOptions": { "args": args } });
        ClientBuilder::new(HttpConnector::new())
            .capabilities(options.as_object().unwrap().clone())
            .connect(&format!("http://127.0.0.1:{}", self.port))
            .await
            .expect("chromium starts")
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ended_already = kill_process_group(Pid::from_child(&self.driver), Signal::KILL);
        let _ended_already = self.driver.wait();
        let _never_made = std::fs::remove_dir_all(&self.profile);
    }
}
