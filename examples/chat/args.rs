//! The command line.

use std::time::Duration;

pub(crate) const USAGE: &str = "\
A chat over parked requests.

Usage: chat [--host HOST] [--port PORT] [--wait SECONDS]

  --host HOST     the address to listen on [default: 127.0.0.1]
  --port PORT     the port, 0 for any that is free [default: 8080]
  --wait SECONDS  how long a poll is parked before it is answered with 204 [default: 25]
  --help          show this";

#[derive(Debug)]
pub(crate) struct Args {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) wait: Duration,
}

// ===== impl Args =====

impl Args {
    /// `None` when help was asked for.
    pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut parsed = Self { host: "127.0.0.1".to_owned(), port: 8080, wait: Duration::from_secs(25) };
        while let Some(arg) = args.next() {
            let (option, value) = match arg.split_once('=') {
                Some((option, value)) => (option, Some(value.to_owned())),
                None => (arg.as_str(), None),
            };
            let mut value = || value.clone().or_else(|| args.next()).ok_or(format!("{option} needs a value"));
            match option {
                "-h" | "--help" => return Ok(None),
                "--host" => parsed.host = value()?,
                "--port" => parsed.port = value()?.parse().map_err(|error| format!("--port: {error}"))?,
                "--wait" => {
                    let seconds: u32 = value()?.parse().map_err(|error| format!("--wait: {error}"))?;
                    parsed.wait = Duration::from_secs(seconds.into());
                }
                _ => return Err(format!("unknown argument {arg}")),
            }
        }
        Ok(Some(parsed))
    }
}
