//! What no socket shows on demand: messages that find no connection, exact times, and bounds of thousands.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt as _;

use super::{Broker, Command, Job, Seq};
use crate::zeromq::body::ReplyBody;
use crate::zeromq::frames::{Frames, FromWorker, JobFrames, ReplyHead, Ticket, ToWorker};
use crate::zeromq::settings::{JOBS_PER_WORKER_MAX, Settings, WORKERS_MAX};
use crate::zeromq::socket::{Machine as _, Unsent, mailbox};
use crate::zeromq::stats::{Counters, WorkersStats};
use crate::{Deferred, deferred};

struct Bench {
    broker: Broker,
    counters: Arc<Counters>,
    now: Instant,
    submitted: u64,
}

impl Bench {
    fn new(settings: Settings) -> Self {
        let counters = Arc::<Counters>::default();
        let (commander, _mailbox) = mailbox().unwrap();
        let broker = Broker::new(settings, counters.clone(), commander);
        Self { broker, counters, now: Instant::now(), submitted: 0 }
    }

    fn submit(&mut self, method: Method) -> Deferred<ReplyBody> {
        let (responder, deferred) = deferred();
        let parts = http::Request::builder().method(method.clone()).body(()).unwrap().into_parts().0;
        let job = Job {
            seq: Seq(self.submitted),
            frames: JobFrames::new(&parts, Bytes::new()),
            is_head: false,
            repeatable: method.is_idempotent(),
            attempts: 0,
            responder: Some(responder),
            place: None,
        };
        self.submitted += 1;
        self.broker.command(Command::Submit(Box::new(job)), self.now);
        deferred
    }

    fn hears(&mut self, worker: &'static str, message: FromWorker) {
        let mut frames = message.encode();
        frames.insert(0, Bytes::from(worker));
        self.broker.received(frames, self.now);
    }

    /// Lets time pass, and gives what is sent thereupon but for heartbeats.
    fn after(&mut self, time: Duration) -> Vec<(Frames, ToWorker)> {
        self.now += time;
        self.broker.tick(self.now);
        std::iter::from_fn(|| self.broker.outgoing())
            .map(|frames| (frames.clone(), ToWorker::decode(&frames[1..]).unwrap()))
            .filter(|(_, message)| *message != ToWorker::Ping)
            .collect()
    }

    fn jobs(&mut self) -> Vec<(Frames, Ticket)> {
        let sent = self.after(Duration::ZERO).into_iter();
        sent.map(|(frames, message)| match message {
            ToWorker::Job(ticket, _) => (frames, ticket),
            other => panic!("{other:?} is no job"),
        })
        .collect()
    }

    fn stats(&self) -> WorkersStats {
        self.counters.snapshot()
    }
}

#[test]
fn a_job_that_finds_no_connection_goes_to_another_whatever_its_method() {
    let mut bench = Bench::new(Settings { retries_max: 0, ..Settings::default() });
    let reply = bench.submit(Method::POST);
    bench.hears("gone", FromWorker::Ready { jobs_max: 1 });
    let (frames, _) = bench.jobs().pop().unwrap();
    bench.broker.unsent(frames, Unsent::NoSuchPeer, bench.now);
    assert!(bench.jobs().is_empty());
    bench.hears("here", FromWorker::Ready { jobs_max: 1 });
    let (frames, ticket) = bench.jobs().pop().unwrap();
    assert_eq!(frames[0], "here");
    let head = ReplyHead { status: http::StatusCode::OK, headers: http::HeaderMap::new() };
    bench.hears("here", FromWorker::Reply(ticket, head, Bytes::from("done")));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let body = runtime.block_on(async { reply.await.unwrap().into_body().collect().await.unwrap().to_bytes() });
    assert_eq!(body, "done");
    let stats = bench.stats();
    assert_eq!((stats.workers_lost, stats.given_again, stats.given_up), (1, 0, 0), "it was never given to the first");
}

#[test]
fn a_job_whose_client_has_just_left_is_not_given_out() {
    let mut bench = Bench::new(Settings::default());
    drop(bench.submit(Method::GET));
    bench.hears("one", FromWorker::Ready { jobs_max: 1 });
    assert!(bench.jobs().is_empty(), "also before the broker is told");
}

#[test]
fn a_ping_that_finds_no_connection_loses_the_worker_and_its_job() {
    let mut bench = Bench::new(Settings::default());
    let _reply = bench.submit(Method::GET);
    bench.hears("gone", FromWorker::Ready { jobs_max: 1 });
    assert_eq!(bench.jobs().len(), 1);
    bench.broker.unsent(vec![Bytes::from("gone"), Bytes::from("PING")], Unsent::NoSuchPeer, bench.now);
    bench.hears("here", FromWorker::Ready { jobs_max: 1 });
    assert_eq!(bench.jobs().len(), 1);
    assert_eq!(bench.stats().given_again, 1);
}

#[test]
fn the_deadline_and_the_longest_wait_are_kept_to_the_instant() {
    let (deadline, wait_max) = (Duration::from_secs(5), Duration::from_secs(7));
    let mut bench =
        Bench::new(Settings { deadline, wait_max, heartbeat: Duration::from_secs(100), ..Settings::default() });
    let instant = Duration::from_nanos(1);
    let _given = bench.submit(Method::POST);
    bench.hears("one", FromWorker::Ready { jobs_max: 1 });
    assert_eq!(bench.jobs().len(), 1);
    let _waits = bench.submit(Method::POST);
    assert!(bench.after(deadline - instant).is_empty());
    assert!(matches!(bench.after(instant)[..], [(_, ToWorker::Cancel(_))]));
    assert_eq!(bench.stats().given_up, 1);
    bench.after(wait_max - deadline - instant);
    assert_eq!((bench.stats().refused, bench.stats().queued), (0, 1));
    bench.after(instant);
    assert_eq!((bench.stats().refused, bench.stats().queued), (1, 0));
}

#[test]
fn a_retried_job_stands_where_it_stood() {
    let mut bench = Bench::new(Settings::default());
    let _first = bench.submit(Method::GET);
    bench.hears("one", FromWorker::Ready { jobs_max: 1 });
    let lost = bench.jobs().pop().unwrap().0;
    let _second = bench.submit(Method::PUT);
    bench.broker.unsent(vec![lost[0].clone(), Bytes::from("PING")], Unsent::NoSuchPeer, bench.now);
    bench.hears("two", FromWorker::Ready { jobs_max: 2 });
    let methods: Vec<_> = bench.jobs().into_iter().map(|(frames, _)| frames[3].clone()).collect();
    assert_eq!(methods, ["GET", "PUT"]);
}

#[test]
fn workers_that_take_several_jobs_are_given_them_in_turns() {
    let mut bench = Bench::new(Settings::default());
    bench.hears("one", FromWorker::Ready { jobs_max: 2 });
    bench.hears("two", FromWorker::Ready { jobs_max: 2 });
    let _replies: Vec<_> = (0..4).map(|_| bench.submit(Method::GET)).collect();
    let workers: Vec<_> = bench.jobs().into_iter().map(|(frames, _)| frames[0].clone()).collect();
    assert_eq!(workers, ["one", "two", "one", "two"]);
}

#[test]
fn a_worker_that_owes_an_answer_is_not_free_whatever_else_it_says() {
    let mut bench = Bench::new(Settings::default());
    bench.hears("one", FromWorker::Ready { jobs_max: 1 });
    let gone = bench.submit(Method::GET);
    let (_, ticket) = bench.jobs().pop().unwrap();
    drop(gone);
    bench.broker.command(Command::Gone(Seq(0)), bench.now);
    let _next = bench.submit(Method::GET);
    bench.hears("one", FromWorker::Ready { jobs_max: 1 });
    assert!(matches!(bench.after(Duration::ZERO)[..], [(_, ToWorker::Cancel(_))]));
    bench.hears("one", FromWorker::Failed(ticket, Bytes::new()));
    assert_eq!(bench.jobs().len(), 1);
}

#[test]
fn workers_and_their_jobs_are_bounded() {
    let mut bench = Bench::new(Settings::default());
    let names: Vec<&'static str> = (0..=WORKERS_MAX).map(|n| &*n.to_string().leak()).collect();
    for name in &names {
        bench.hears(name, FromWorker::Ready { jobs_max: 1 });
    }
    bench.after(Duration::ZERO);
    assert_eq!(bench.stats().workers, WORKERS_MAX as u64);

    let mut bench = Bench::new(Settings::default());
    bench.hears("greedy", FromWorker::Ready { jobs_max: usize::MAX });
    let _replies: Vec<_> = (0..=JOBS_PER_WORKER_MAX).map(|_| bench.submit(Method::GET)).collect();
    assert_eq!(bench.jobs().len(), JOBS_PER_WORKER_MAX);
    assert_eq!(bench.stats().queued, 1);
}

#[test]
fn nothing_is_kept_of_jobs_that_are_over() {
    let mut bench = Bench::new(Settings::default());
    bench.hears("one", FromWorker::Ready { jobs_max: 1 });
    for _ in 0..100 {
        let _reply = bench.submit(Method::GET);
        let (_, ticket) = bench.jobs().pop().unwrap();
        bench.hears("one", FromWorker::Failed(ticket, Bytes::new()));
        let gone = bench.submit(Method::GET);
        let (_, ticket) = bench.jobs().pop().unwrap();
        drop(gone);
        bench.broker.command(Command::Gone(Seq(bench.submitted - 1)), bench.now);
        bench.hears("one", FromWorker::Failed(ticket, Bytes::new()));
        bench.after(Duration::ZERO);
    }
    assert!(bench.broker.jobs.is_spotless());
    assert_eq!(bench.stats().late, 0);
}
