//! What the kernel tells of the server: its memory and its processor time.

use std::time::Duration;
use std::{fs, io, thread};

use rustix::process::{Pid, Signal, kill_process};

/// A process that is looked at from outside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process(pub(crate) u32);

/// The server is at rest when it has not run for this long. The clock of a running thread moves with the scheduler's
/// tick, which is 10 ms at the most.
const REST: Duration = Duration::from_millis(12);

/// A process that does not run. It goes on when this is dropped.
#[derive(Debug)]
pub(crate) struct Stopped(Process);

impl Process {
    /// Stops it, as a shell does with Ctrl-Z: what is sent to it meanwhile waits in its sockets.
    pub(crate) fn stop(self) -> io::Result<Stopped> {
        self.signal(Signal::STOP)?;
        Ok(Stopped(self))
    }

    fn signal(self, signal: Signal) -> io::Result<()> {
        let pid = i32::try_from(self.0).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(kill_process(pid, signal)?)
    }

    /// Bytes of private memory in use: `RssAnon`, without the pages of the program's own file.
    pub(crate) fn anonymous_bytes(self) -> io::Result<u64> {
        self.status_bytes("RssAnon:")
    }

    /// All resident bytes, which is what the peak counts.
    pub(crate) fn resident_bytes(self) -> io::Result<u64> {
        self.status_bytes("VmRSS:")
    }

    /// The most that [`resident_bytes`](Self::resident_bytes) has been since [`reset_peak`](Self::reset_peak).
    pub(crate) fn peak_bytes(self) -> io::Result<u64> {
        self.status_bytes("VmHWM:")
    }

    pub(crate) fn reset_peak(self) -> io::Result<()> {
        // proc_pid_clear_refs(5): 5 sets the peak to what is resident now.
        fs::write(format!("/proc/{}/clear_refs", self.0), "5")
    }

    /// The time that its threads have run for, to the nanosecond; `/proc/<pid>/stat` counts in ticks.
    pub(crate) fn cpu(self) -> io::Result<Duration> {
        let mut nanos = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.0))? {
            let schedstat = fs::read_to_string(task?.path().join("schedstat"))?;
            nanos += number(schedstat.split_whitespace().next())?;
        }
        Ok(Duration::from_nanos(nanos))
    }

    /// Waits until it does nothing any more.
    pub(crate) fn settle(self) -> io::Result<()> {
        let mut before = self.cpu()?;
        // A minute, after which it will never rest.
        for _ in 0..5000 {
            thread::sleep(REST);
            let now = self.cpu()?;
            if now == before {
                return Ok(());
            }
            before = now;
        }
        Err(io::Error::other("the server does not come to rest"))
    }

    fn status_bytes(self, field: &str) -> io::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        Ok(number(line.and_then(|line| line.split_whitespace().next()))? * 1024)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // One that has gone meanwhile is found out by whoever asks it next.
        let _gone = self.0.signal(Signal::CONT);
    }
}

fn number(text: Option<&str>) -> io::Result<u64> {
    text.and_then(|text| text.parse().ok()).ok_or_else(|| io::Error::other("the kernel's answer is not understood"))
}
