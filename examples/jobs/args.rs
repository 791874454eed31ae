//! The command line.

pub(crate) const USAGE: &str = "\
A queue of jobs over parked requests.

Usage: jobs [--port PORT] [--demo]
       jobs --worker HOST:PORT

  --port PORT         the port, 0 for any that is free [default: 8090]
  --demo              start three workers, kill one in the middle of a job, end when all is done
  --worker HOST:PORT  be a worker of the server there
  --help              show this";

#[derive(Debug)]
pub(crate) struct Args {
    pub(crate) port: u16,
    pub(crate) mode: Mode,
}

#[derive(Debug)]
pub(crate) enum Mode {
    Server,
    Demo,
    Worker { addr: String },
}

// ===== impl Args =====

impl Args {
    /// `None` when help was asked for.
    pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut parsed = Self { port: 8090, mode: Mode::Server };
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} needs a value"));
            match arg.as_str() {
                "-h" | "--help" => return Ok(None),
                "--port" => parsed.port = value()?.parse().map_err(|error| format!("--port: {error}"))?,
                "--demo" => parsed.mode = Mode::Demo,
                "--worker" => parsed.mode = Mode::Worker { addr: value()? },
                _ => return Err(format!("unknown argument {arg}")),
            }
        }
        Ok(Some(parsed))
    }
}
