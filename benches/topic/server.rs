//! The servers, of which each process is one: a single thread with a `LocalSet`, that publishes on its own loop.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_deferred::topic::http::Builder;
use hyper_deferred::topic::{self, Json};
use hyper_deferred::{Responder, Topic, deferred};

use crate::hub::{Hub, Message, on_acceptor, on_hyper, topic_number};
use crate::plain;
use crate::scenario::{Scenario, Variant};

pub(crate) fn run(scenario: Scenario, variant: Variant) {
    let topics = scenario.topics();
    match variant {
        Variant::Topic | Variant::TopicOnHyper => serve_topics(topics, variant),
        Variant::Broadcast => plain::serve_broadcast(topics),
        Variant::Watch => plain::serve_watch(topics),
        Variant::Deferred => serve_deferred(),
    }
}

fn serve_topics(count: usize, variant: Variant) {
    let topics: Vec<Topic<Message>> =
        (0..count).map(|_| topic::Builder::new(Json).history_count_max(plain::CAPACITY).build()).collect();
    let hub = topics.clone();
    let make = move || {
        Builder::find(move |request| {
            let topic = topic_number(request.uri.path());
            Ok(topics[topic].clone())
        })
        .wait(Duration::from_secs(300))
        .heartbeat(Duration::from_secs(300))
        .build()
    };
    match variant {
        Variant::Topic => on_acceptor(make, hub),
        _ => on_hyper(make, hub),
    }
}

impl Hub for Vec<Topic<Message>> {
    fn topics(&self) -> usize {
        self.len()
    }

    fn publish(&self, topic: usize, message: Message) {
        self[topic].publish(message).unwrap();
    }

    fn waiting(&self) -> usize {
        self.iter().map(Topic::waiting).sum()
    }
}

type Parked = Rc<std::cell::RefCell<Vec<Responder<Full<Bytes>>>>>;

fn serve_deferred() {
    let parked = Parked::default();
    let parking = parked.clone();
    let make = move || {
        service_fn(move |_: Request<Incoming>| {
            let (responder, deferred) = deferred();
            parking.borrow_mut().push(responder);
            deferred
        })
    };
    on_acceptor(make, parked);
}

impl Hub for Parked {
    fn topics(&self) -> usize {
        0
    }

    fn publish(&self, _: usize, _: Message) {}

    fn waiting(&self) -> usize {
        self.borrow().len()
    }
}
