//! hyper is the judge: the same input goes to hyper's HTTP/1 builder and to ours, and all that can be seen of both must
//! be the same, after each step.
//!
//! [`case`] says what a case is made of, [`request`] what a client sends, [`plan`] what the application does, as
//! [`service`] and [`body`] do it. [`wire`] is the IO, [`world`] polls one connection and nothing that was not woken,
//! [`run`] drives two of them and compares. What may differ is listed in [`run`] and in `docs/differences.md`, with the
//! test that shows it.
//!
//! What may differ, with the reasons in `docs/differences.md`:
//!
//! | difference | let pass by | shown by |
//! |---|---|---|
//! | a client that leaves while its request waits is noticed although bytes are buffered | `run::Pair::left_early` | `tests/http1_hang_up.rs` |
//! | how many bytes are read at a time | `case::Case::depends_on_reads`, `run::forget_failed_body` | here alone |
//! | hyper forgets a request behind a response that found no room | `run::POLLS_FOR_NOTHING` | [`regressions`] |
//! | a refused upgrade is forgotten | `run::forget_refused_upgrade`, `run::Pair::cut_short` | `tests/http1_upgrade.rs` |
//!
//! `DIFFERENTIAL_CASES` sets how many cases are run; with `CI` set the default is 10,000, otherwise 1,000.

#![allow(unreachable_pub)]
#![allow(
    clippy::needless_pass_by_ref_mut,
    clippy::unwrap_used,
    clippy::wrong_self_convention,
    reason = "it drives what it tests by that one's signatures, and a helper that fails fails its test"
)]

mod body;
mod case;
#[cfg(feature = "acceptor")]
mod crowd;
mod log;
mod plan;
mod regressions;
mod request;
mod run;
mod service;
mod shared;
#[cfg(feature = "acceptor")]
mod sockets;
mod wire;
mod world;

use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};

/// Enough to find most of what a change breaks, and quick. CI runs more.
const CASES_DEFAULT: u32 = 1_000;

#[test]
fn nothing_tells_ours_from_hyper() {
    check(|case| run::run(&case, None));
}

/// With a clock ours keeps hyper at hand while requests follow each other, until there is a pause.
#[test]
fn nothing_tells_ours_from_hyper_where_time_passes() {
    check(|case| {
        let clock = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
        let _entered = clock.enter();
        run::run(&case.after_brisk_requests(), Some(&clock))
    });
}

fn cases() -> u32 {
    std::env::var("DIFFERENTIAL_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES_DEFAULT)
}

fn check(run: impl Fn(case::Case) -> Result<(), TestCaseError>) {
    let config = Config { cases: cases(), max_shrink_iters: 20_000, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&case::case(), run);
    match result {
        Ok(()) => {}
        Err(TestError::Fail(reason, case)) => panic!("{reason}\nsmallest case: {case:?}"),
        Err(TestError::Abort(reason)) => panic!("{reason}"),
    }
}
