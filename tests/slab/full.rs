//! Answers for which there is no room, at clients that do not read.
//!
//! Over Unix sockets: such a one takes a write whole as long as it is not full, and then nothing. So it is known how many
//! answers it takes, which for TCP depends on what else the machine does.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_deferred::Acceptor;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::rows::{assert_told, get, telling};
use crate::support::{Client, PATIENCE, Watched, text};
use crate::unix::SocketPath;
use crate::upgrades::{ask, assert_echoes, echo_elsewhere, upgrading};

fn listen(path: &SocketPath) -> Acceptor {
    listen_with(path, None)
}

fn listen_with(path: &SocketPath, idle: Option<Duration>) -> Acceptor {
    let mut builder = hyper_deferred::server::conn::http1::Builder::new();
    builder.header_read_timeout(None).idle_timeout(idle);
    Acceptor::bind_unix(&path.0).unwrap().http1(&builder)
}

fn connect(path: &Path) -> Client {
    UnixStream::connect(path).unwrap().into()
}

/// Has answers sent that are not read, with `answer`, until one more would have no room. Returns how many that were.
fn fill(server: &Watched, path: &Path, client: &mut Client, mut answer: impl FnMut(&mut Client)) -> usize {
    let mut control = connect(path);
    let mut answer = |client: &mut Client, server: &Watched| {
        answer(client);
        // An answer to a later request is sent later.
        server.await_stats(&mut control, |stats| stats.parked == 0);
        assert_eq!(control.text("/now"), "now");
    };
    let mut probe = connect(path);
    let before = server.stats().graduated;
    let mut count = 0;
    while server.stats().graduated == before {
        answer(&mut probe, server);
        count += 1;
    }
    for _ in 1..count {
        answer(client, server);
    }
    count - 1
}

/// Asks for the answer that has no room, with what is to come `behind` it, and waits until that is known.
fn send_last(server: &Watched, control: &mut Client, client: &mut Client, behind: &str) {
    let graduated = server.stats().graduated;
    client.write(get("/last.") + behind);
    server.await_stats(control, |stats| stats.graduated == graduated + 1);
}

#[test]
fn they_come_in_their_order_when_there_is_room() {
    let path = SocketPath::new("full");
    let (sender, responders) = mpsc::channel();
    let server = Watched::run(|| listen(&path), || telling(sender));
    let mut control = connect(&path.0);
    let mut client = connect(&path.0);
    let count = fill(&server, &path.0, &mut client, |client| client.get("/filling."));
    send_last(&server, &mut control, &mut client, "");
    client.get("/behind.");
    client.get("/park");
    for _ in 0..count {
        assert_told(&mut client, "/filling.");
    }
    assert_told(&mut client, "/last.");
    assert_told(&mut client, "/behind.");
    responders.recv_timeout(PATIENCE).unwrap().send(text("woken")).unwrap();
    let head = client.read_head();
    assert_eq!(client.read_body(&head), b"woken");
    assert_eq!(client.text("/now"), "now");
    drop(client);
    server.await_rest(&mut control);
    drop(control);
    server.finish();
}

#[test]
fn a_request_that_waits_behind_one_is_answered() {
    let path = SocketPath::new("full-parked");
    let (sender, responders) = mpsc::channel();
    let server = Watched::run(|| listen(&path), || telling(sender));
    let mut control = connect(&path.0);
    for is_woken_first in [true, false] {
        let mut client = connect(&path.0);
        let count = fill(&server, &path.0, &mut client, |client| client.get("/filling."));
        send_last(&server, &mut control, &mut client, &(get("/park") + &get("/behind.")));
        let responder = responders.recv_timeout(PATIENCE).unwrap();
        let mut wake = Some(|| responder.send(text("woken")).unwrap());
        if is_woken_first {
            wake.take().unwrap()();
            assert_eq!(control.text("/now"), "now");
        }
        for _ in 0..count {
            assert_told(&mut client, "/filling.");
        }
        assert_told(&mut client, "/last.");
        if let Some(wake) = wake {
            // It waits in the slab again by now.
            server.await_stats(&mut control, |stats| (stats.active, stats.parked) == (0, 1));
            wake();
        }
        let head = client.read_head();
        assert_eq!(client.read_body(&head), b"woken");
        assert_told(&mut client, "/behind.");
        assert_eq!(client.text("/now"), "now");
        drop(client);
        server.await_rest(&mut control);
    }
    drop(control);
    server.finish();
}

#[test]
fn the_time_between_two_requests_begins_when_one_is_sent() {
    const IDLE: Duration = Duration::from_millis(200);
    let path = SocketPath::new("full-idle");
    let (sender, _responders) = mpsc::channel();
    let server = Watched::run(|| listen_with(&path, Some(IDLE)), || telling(sender));
    let mut control = connect(&path.0);
    let mut client = connect(&path.0);
    let count = fill(&server, &path.0, &mut client, |client| client.get("/filling."));
    send_last(&server, &mut control, &mut client, "");
    let begun = Instant::now();
    while begun.elapsed() < IDLE * 2 {
        assert_eq!(control.text("/now"), "now");
    }
    for _ in 0..count {
        assert_told(&mut client, "/filling.");
    }
    assert_told(&mut client, "/last.");
    client.expect_closed();
    drop((client, control));
    server.finish();
}

#[test]
fn a_client_that_leaves_without_reading_one_leaves_nothing_behind() {
    let path = SocketPath::new("full-gone");
    let (sender, responders) = mpsc::channel();
    let server = Watched::run(|| listen(&path), || telling(sender));
    let mut control = connect(&path.0);
    for behind in [String::new(), get("/park")] {
        let mut client = connect(&path.0);
        fill(&server, &path.0, &mut client, |client| client.get("/filling."));
        send_last(&server, &mut control, &mut client, &behind);
        drop(client);
        server.await_rest(&mut control);
    }
    drop((control, responders));
    server.finish();
}

/// Upgrades a connection of which the answer to that has no room, nor the one before.
fn upgrade_without_room(name: &str, use_it: impl FnOnce(OnUpgrade, &mut dyn FnMut() -> Client)) {
    // With the answer to the upgrade it is still kept for the end of the slice.
    let body = "x".repeat(3800);
    let path = SocketPath::new(name);
    let (make, upgrades, responders) = upgrading();
    let server = Watched::run(|| listen(&path), || service_fn(make()));
    let respond = || responders.recv_timeout(PATIENCE).unwrap().send(text(body.clone())).unwrap();
    let mut client = connect(&path.0);
    let count = fill(&server, &path.0, &mut client, |client| {
        client.get("/");
        respond();
    });
    client.get("/");
    ask(&mut client, "/");
    respond();
    let mut client = Some(client);
    use_it(upgrades.recv_timeout(PATIENCE).unwrap(), &mut || {
        let mut client = client.take().unwrap();
        for _ in 0..=count {
            let head = client.read_head();
            assert_eq!(client.read_body(&head), body.as_bytes());
        }
        assert_eq!(client.read_head().status, 101);
        client
    });
    server.finish();
}

#[test]
fn who_only_reads_what_is_upgraded_sends_the_answer_too() {
    upgrade_without_room("full-read", |upgrade, read_heads| {
        let echo = echo_elsewhere(upgrade);
        let mut client = read_heads();
        assert_echoes(&mut client, || ());
        client.shutdown(std::net::Shutdown::Write);
        assert_eq!(client.read_to_end(), b"");
        echo.join().unwrap();
    });
}

#[test]
fn who_writes_what_is_upgraded_goes_on_though_another_reads() {
    upgrade_without_room("full-write", |upgrade, read_heads| {
        let (wait, waiting) = mpsc::channel();
        let elsewhere = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (mut reader, mut writer) = tokio::io::split(TokioIo::new(upgrade.await.unwrap()));
                let writing = tokio::spawn(async move { writer.write_all(b"written").await });
                let reading = tokio::spawn(async move { reader.read(&mut [0; 10]).await.map(|len| (len, reader)) });
                // Both have been polled, the writer first.
                tokio::task::yield_now().await;
                wait.send(()).unwrap();
                writing.await.unwrap().unwrap();
                assert_eq!(reading.await.unwrap().unwrap().0, 4);
            });
        });
        waiting.recv_timeout(PATIENCE).unwrap();
        let mut client = read_heads();
        assert_eq!(client.read_exact(7), b"written");
        client.write("read");
        elsewhere.join().unwrap();
    });
}
