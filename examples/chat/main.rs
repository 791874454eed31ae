//! A small real chat over parked requests: `cargo run --release --example chat`, then open the printed address in two
//! windows.
//!
//! `GET /poll?since=N` waits until there is something newer than N, or 25 seconds (204); `POST /say` takes
//! `{"name": "Ann", "text": "Hello"}`. All state lives in one thread, in one [`Room`](room::Room) without locks.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

mod args;
mod http;
mod room;

use std::cell::RefCell;
use std::io;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_deferred::{Acceptor, ShutdownHandle};

use crate::args::{Args, USAGE};
use crate::room::{Room, SharedRoom};

/// How often the others are told of people who came or went: a crowd that arrives at once is told of once.
const PEOPLE_TOLD_EVERY: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let args = match Args::parse(std::env::args().skip(1)) {
        Ok(Some(args)) => args,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("chat: {error}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match serve(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chat: cannot serve on {} port {}: {error}", args.host, args.port);
            ExitCode::FAILURE
        }
    }
}

fn serve(args: &Args) -> io::Result<()> {
    let acceptor = Acceptor::bind((args.host.as_str(), args.port))?;
    println!("chat: open http://{}/ in two windows, Ctrl-C ends it", acceptor.local_addr()?);

    let shutdown = acceptor.shutdown_handle();
    let wait = args.wait;
    acceptor.run(|| {
        let room = Rc::new(RefCell::new(Room::new()));
        tokio::task::spawn_local(shut_down_on_ctrl_c(shutdown));
        tokio::task::spawn_local(tell_of_people(room.clone()));
        service_fn(move |request| http::answer(room.clone(), wait, request))
    })
}

async fn shut_down_on_ctrl_c(shutdown: ShutdownHandle) {
    match tokio::signal::ctrl_c().await {
        Ok(()) => shutdown.shutdown(),
        Err(error) => eprintln!("chat: cannot listen for Ctrl-C: {error}"),
    }
}

async fn tell_of_people(room: SharedRoom) {
    let mut interval = tokio::time::interval(PEOPLE_TOLD_EVERY);
    loop {
        interval.tick().await;
        room.borrow_mut().tell_of_people();
    }
}
