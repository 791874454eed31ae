//! Very many requests that park and hang up while nobody publishes: nothing of them stays.
#![cfg(all(target_os = "linux", feature = "acceptor"))]
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod support;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use hyper_deferred::Acceptor;
use socket2::{Domain, Socket, Type};
use support::{Client, ServerProcess, Waiters, assert_nothing_held, await_waiting, is_server, run_until_interrupted};

const ROUND: usize = 500;
/// After so many the allocator has what it needs.
const WARM_UP_ROUNDS: usize = 20;
/// What may be more after the warm-up: what an allocator moves about, and less than its smallest piece for one request
/// in eight of a million.
const GROWTH_BYTES_MAX: u64 = 4_000_000;

#[test]
#[ignore = "the server of the other test, which runs it in a process of its own"]
fn server() {
    if is_server("server") {
        let waiters = Waiters::default();
        let served = waiters.clone();
        let acceptor = Acceptor::bind("127.0.0.1:0").unwrap();
        let stats = acceptor.stats();
        run_until_interrupted(acceptor, || served);
        println!("\n{} wait", waiters.waiting());
        println!("{} hung up", stats.snapshot().hung_up);
        assert_nothing_held(&stats.snapshot());
    }
}

#[test]
fn fifty_thousand_that_park_and_hang_up_leave_nothing_behind() {
    park_and_hang_up(50_000, 1_000_000);
}

#[test]
#[ignore = "takes a minute or two, and finds what leaks in one of ten cases"]
fn a_million_that_park_and_hang_up_leave_nothing_behind() {
    park_and_hang_up(1_000_000, GROWTH_BYTES_MAX);
}

fn park_and_hang_up(count: usize, growth_bytes_max: u64) {
    let server = ServerProcess::spawn("server");
    let mut control = Client::connect(server.addr);
    let mut before = None;
    for round in 0..count / ROUND {
        if round == WARM_UP_ROUNDS {
            before = Some((resident_bytes(server.id()), descriptors(server.id())));
        }
        let mut clients: Vec<_> = (0..ROUND).map(|_| Client::from(connect_from(round, server.addr))).collect();
        for client in &mut clients {
            client.get("/");
        }
        await_waiting(&mut control, ROUND);
        for (number, client) in clients.into_iter().enumerate() {
            // One half hangs up with a reset, the other in order.
            if number % 2 == 0 {
                client.reset();
            }
        }
        await_waiting(&mut control, 0);
    }
    let (bytes, open) = before.unwrap();
    let grown = resident_bytes(server.id()).saturating_sub(bytes);
    assert!(grown < growth_bytes_max, "{grown} bytes more than the {bytes} before");
    assert_eq!(descriptors(server.id()), open);
    server.interrupt();
    let (status, output) = server.wait();
    assert_eq!(status.code(), Some(0), "{output}");
    assert!(output.contains("\n0 wait"), "{output}");
    assert!(output.contains(&format!("\n{count} hung up")), "{output}");
}

// ===== helpers =====

/// Connects from an address of the round's own: those who hang up in order keep their port for a minute.
fn connect_from(round: usize, server: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let host = u8::try_from(2 + round % 200).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0)).into()).unwrap();
    socket.connect(&server.into()).unwrap();
    socket.into()
}

/// The memory that is the process's own, and not a file's.
fn resident_bytes(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

fn descriptors(process: u32) -> usize {
    fs::read_dir(format!("/proc/{process}/fd")).unwrap().count()
}
