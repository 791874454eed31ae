//! Random histories of a queue against a naive model: each value goes to exactly one, in order, or comes back.
#![cfg(feature = "queue")]
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hyper_deferred::Queue;
use hyper_deferred::queue::{Builder, LeaseId, Leasing, Take, Taken};
use proptest::prelude::*;
use tokio::runtime::Runtime;

const VALUES_MAX: usize = 8;
const DELIVERIES_MAX: u32 = 3;
// Half a second before the end of the tenth: time passes in whole seconds here.
const LEASE: Duration = Duration::from_millis(9500);
const LEASE_SECONDS: u64 = 10;
const REQUESTS: usize = 6;

#[derive(Clone, Debug)]
enum Op {
    Push,
    Take(usize),
    Lease(usize),
    /// The client goes: its request, or the value that it was given, is dropped.
    HangUp(usize),
    /// The client comes for its value.
    Fetch(usize),
    Accept(usize),
    Confirm(usize),
    Release(usize),
    Advance(u64),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let request = || 0..REQUESTS;
    let op = prop_oneof![
        6 => Just(Op::Push),
        4 => request().prop_map(Op::Take),
        4 => request().prop_map(Op::Lease),
        4 => request().prop_map(Op::HangUp),
        6 => request().prop_map(Op::Fetch),
        2 => request().prop_map(Op::Accept),
        2 => (0..8_usize).prop_map(Op::Confirm),
        2 => (0..8_usize).prop_map(Op::Release),
        2 => (0..12_u64).prop_map(Op::Advance),
    ];
    prop::collection::vec(op, 1..150)
}

enum Request {
    Take(Pin<Box<Take<u32>>>),
    Lease(Pin<Box<Leasing<u32>>>),
    Taken(Taken<u32>),
}

/// A value of the model: its number and how often it was leased.
type Value = (u32, u32);

#[derive(Default)]
struct Model {
    values: VecDeque<Value>,
    line: VecDeque<usize>,
    given: BTreeMap<usize, Value>,
    /// With the second at which they end.
    leased: Vec<(LeaseId, Value, u64)>,
    dead: Vec<Value>,
    held: usize,
    now: u64,
}

impl Model {
    fn hand(&mut self, value: Value) {
        match self.line.pop_front() {
            Some(request) => {
                self.given.insert(request, value);
            }
            None => {
                let place = self.values.iter().position(|other| other.0 > value.0).unwrap_or(self.values.len());
                self.values.insert(place, value);
            }
        }
    }

    fn come_back(&mut self, value: Value) {
        if value.1 >= DELIVERIES_MAX {
            self.held -= 1;
            self.dead.push(value);
        } else {
            self.hand(value);
        }
    }
}

struct World {
    runtime: Runtime,
    queue: Queue<u32>,
    dead: Arc<Mutex<Vec<Value>>>,
    requests: Vec<Option<Request>>,
    model: Model,
    next: u32,
    done: Vec<u32>,
}

impl World {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let dead = Arc::new(Mutex::new(Vec::new()));
        let buried = dead.clone();
        let queue = Builder::new(VALUES_MAX)
            .deliveries_max(DELIVERIES_MAX)
            .dead_letter(move |letter| buried.lock().unwrap().push((letter.value, letter.deliveries)))
            .build();
        let requests = (0..REQUESTS).map(|_| None).collect();
        Self { runtime, queue, dead, requests, model: Model::default(), next: 0, done: Vec::new() }
    }

    fn run(&mut self, op: &Op) {
        match *op {
            Op::Push => self.push(),
            Op::Take(request) if self.requests[request].is_none() => {
                self.requests[request] = Some(Request::Take(Box::pin(self.queue.take())));
                self.stand_in_line(request);
            }
            Op::Lease(request) if self.requests[request].is_none() => {
                self.requests[request] = Some(Request::Lease(Box::pin(self.queue.lease(LEASE))));
                self.stand_in_line(request);
            }
            Op::Fetch(request) => self.fetch(request),
            Op::HangUp(request) => self.hang_up(request),
            Op::Accept(request) => self.accept(request),
            Op::Confirm(lease) => self.confirm(lease),
            Op::Release(lease) => self.release(lease),
            Op::Advance(seconds) => self.advance(seconds),
            Op::Take(_) | Op::Lease(_) => {}
        }
        assert_eq!(self.queue.len(), self.model.values.len());
        assert_eq!(self.queue.waiting(), self.model.line.len() + self.unfetched());
        assert_eq!(self.queue.held(), self.model.held);
        assert_eq!(*self.dead.lock().unwrap(), self.model.dead);
    }

    /// Values that were given to a request which has not come for them.
    fn unfetched(&self) -> usize {
        self.model.given.keys().filter(|request| !matches!(self.requests[**request], Some(Request::Taken(_)))).count()
    }

    fn push(&mut self) {
        let pushed = self.queue.push(self.next);
        if self.model.held == VALUES_MAX {
            assert_eq!(pushed.unwrap_err().0, self.next, "a full queue hands the value back");
        } else {
            pushed.unwrap();
            self.model.held += 1;
            self.model.hand((self.next, 0));
            self.next += 1;
        }
    }

    fn stand_in_line(&mut self, request: usize) {
        match self.model.values.pop_front() {
            Some(value) => {
                self.model.given.insert(request, value);
            }
            None => self.model.line.push_back(request),
        }
        self.fetch(request);
    }

    fn fetch(&mut self, request: usize) {
        let _entered = self.runtime.enter();
        let mut cx = Context::from_waker(Waker::noop());
        let given = self.model.given.get(&request).copied();
        match self.requests[request].take() {
            None => {}
            Some(Request::Taken(taken)) => self.requests[request] = Some(Request::Taken(taken)),
            Some(Request::Take(mut take)) => match (take.as_mut().poll(&mut cx), given) {
                (Poll::Pending, None) => self.requests[request] = Some(Request::Take(take)),
                (Poll::Ready(taken), Some((number, _))) => {
                    assert_eq!(*taken, number);
                    self.requests[request] = Some(Request::Taken(taken));
                }
                (polled, given) => panic!("polled to {polled:?}, should have been given {given:?}"),
            },
            Some(Request::Lease(mut lease)) => match (lease.as_mut().poll(&mut cx), given) {
                (Poll::Pending, None) => self.requests[request] = Some(Request::Lease(lease)),
                (Poll::Ready(lease), Some((number, deliveries))) => {
                    assert_eq!((*lease, lease.deliveries()), (number, deliveries + 1));
                    self.model.given.remove(&request);
                    let end = self.model.now + LEASE_SECONDS;
                    self.model.leased.push((lease.keep(), (number, deliveries + 1), end));
                }
                (polled, given) => panic!("polled to {polled:?}, should have been given {given:?}"),
            },
        }
    }

    fn hang_up(&mut self, request: usize) {
        self.model.line.retain(|other| *other != request);
        if let Some(value) = self.model.given.remove(&request) {
            self.model.hand(value);
        }
        self.requests[request] = None;
    }

    fn accept(&mut self, request: usize) {
        if let Some(Request::Taken(taken)) = self.requests[request].take_if(|taken| matches!(taken, Request::Taken(_)))
        {
            let number = taken.into_inner();
            assert_eq!(self.model.given.remove(&request).unwrap().0, number);
            self.model.held -= 1;
            self.done.push(number);
        }
    }

    fn confirm(&mut self, lease: usize) {
        if lease < self.model.leased.len() {
            let (id, (number, _), _) = self.model.leased.remove(lease);
            self.queue.confirm(id).unwrap();
            self.queue.confirm(id).unwrap_err();
            self.model.held -= 1;
            self.done.push(number);
        }
    }

    fn release(&mut self, lease: usize) {
        if lease < self.model.leased.len() {
            let (id, value, _) = self.model.leased.remove(lease);
            self.queue.release(id).unwrap();
            self.queue.confirm(id).unwrap_err();
            self.model.come_back(value);
        }
    }

    fn advance(&mut self, seconds: u64) {
        // One second after another, so that leases end one after another in both worlds.
        for _ in 0..seconds {
            self.runtime.block_on(async {
                for _ in 0..10 {
                    tokio::time::advance(Duration::from_millis(100)).await;
                    tokio::task::yield_now().await;
                }
            });
            self.model.now += 1;
            let now = self.model.now;
            let (mut ended, leased): (Vec<_>, Vec<_>) =
                std::mem::take(&mut self.model.leased).into_iter().partition(|(_, _, end)| *end <= now);
            self.model.leased = leased;
            ended.sort_by_key(|(_, (number, _), _)| *number);
            for (id, value, _) in ended {
                self.model.come_back(value);
                self.queue.confirm(id).unwrap_err();
            }
        }
    }

    /// Everything that was pushed is done, dead or still there: once.
    fn account(mut self) {
        for request in 0..REQUESTS {
            self.hang_up(request);
        }
        let mut all = self.done;
        all.extend(self.model.dead.iter().map(|(number, _)| number));
        all.extend(self.model.leased.iter().map(|(_, (number, _), _)| number));
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(taken) = Pin::new(&mut self.queue.take()).poll(&mut cx) {
            all.push(taken.into_inner());
        }
        all.sort_unstable();
        assert_eq!(all, (0..self.next).collect::<Vec<_>>());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_queue_does_what_its_model_does(ops in ops()) {
        let mut world = World::new();
        for op in &ops {
            world.run(op);
        }
        world.account();
    }
}
