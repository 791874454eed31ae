//! Several workers of which one fails. Alone in its process, whose descriptors it limits.
#![cfg(all(target_os = "linux", feature = "acceptor"))]
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod support;

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use hyper_deferred::Acceptor;
use rustix::process::{Resource, getrlimit, setrlimit};
use support::{PATIENCE, Park, descriptors};

const WORKERS: usize = 3;
/// More than the descriptors that a worker needs.
const EACH_MAX: usize = 20;

#[test]
fn all_workers_end_when_one_of_them_has_no_descriptors_left() {
    // The first runtime of a process opens what all of them share: a pair of sockets for signals.
    drop(tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap());
    let before = descriptors();
    let limit = getrlimit(Resource::Nofile);
    let mut ended_others = false;
    for spare in 0.. {
        assert!(spare < WORKERS * EACH_MAX, "it never begins");
        let acceptor = Acceptor::bind("127.0.0.1:0").unwrap();
        let shutdown = acceptor.shutdown_handle();
        let (done, returned) = mpsc::channel();
        let mut low = limit;
        // Reading their list takes one more.
        low.current = Some((descriptors() - 1 + spare) as u64);
        setrlimit(Resource::Nofile, low).unwrap();
        thread::spawn(move || {
            let (park, _responders, _outcomes) = Park::new();
            let made = AtomicUsize::new(0);
            let ended = acceptor.run_workers(NonZeroUsize::new(WORKERS).unwrap(), || {
                if made.fetch_add(1, Ordering::Relaxed) + 1 == WORKERS {
                    shutdown.shutdown();
                }
                park.clone()
            });
            done.send((ended, made.into_inner())).unwrap();
        });
        let (ended, made) = returned.recv_timeout(PATIENCE).expect("those that have begun end");
        setrlimit(Resource::Nofile, limit).unwrap();
        assert_eq!(descriptors(), before);
        match ended {
            Ok(()) => {
                assert!(ended_others, "one has always failed before another had begun");
                return;
            }
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::MFILE.raw_os_error()));
                ended_others |= made > 0;
            }
        }
    }
}
