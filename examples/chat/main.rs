//! A small real chat over parked requests: `cargo run --release --example chat`, then open the printed
//! address in two windows.
//!
//! Everything that is said goes through one [topic](hyper_deferred::topic). `GET /topic` waits for it, as a long poll or as
//! server-sent events, whichever the client asks for; `POST /topic` takes `{"name": "Ann", "text": "Hello"}`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

mod args;
mod http;
mod room;

use std::io;
use std::process::ExitCode;

use hyper::service::service_fn;
use hyper_deferred::{Acceptor, ShutdownHandle};

use crate::args::{Args, USAGE};
use crate::room::Room;

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
    let room = Room::new(args.wait, args.events);
    acceptor.run(|| {
        tokio::task::spawn_local(shut_down_on_ctrl_c(shutdown));
        service_fn(move |request| http::answer(room.clone(), request))
    })
}

async fn shut_down_on_ctrl_c(shutdown: ShutdownHandle) {
    match tokio::signal::ctrl_c().await {
        Ok(()) => shutdown.shutdown(),
        Err(error) => eprintln!("chat: cannot listen for Ctrl-C: {error}"),
    }
}
