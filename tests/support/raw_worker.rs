//! A worker that does exactly what a test says, through real libzmq.
#![allow(dead_code, reason = "each test needs a part of it")]

use std::time::Duration;

use tokio::task::spawn_blocking;

/// A test that waits for a message which never comes should fail, not hang.
const MESSAGE_WITHIN_MS: i32 = 20_000;

pub(crate) struct RawWorker {
    context: zmq::Context,
    socket: Option<zmq::Socket>,
}

impl RawWorker {
    /// Connects and says `READY`.
    pub(crate) fn ready(endpoint: &str) -> Self {
        let worker = Self::connect(endpoint);
        worker.send(&["READY"]);
        worker
    }

    pub(crate) fn connect(endpoint: &str) -> Self {
        let context = zmq::Context::new();
        let socket = context.socket(zmq::DEALER).unwrap();
        socket.set_rcvtimeo(MESSAGE_WITHIN_MS).unwrap();
        socket.set_linger(MESSAGE_WITHIN_MS).unwrap();
        socket.connect(endpoint).unwrap();
        Self { context, socket: Some(socket) }
    }

    pub(crate) fn send<T: AsRef<[u8]>>(&self, frames: &[T]) {
        let frames = frames.iter().map(|frame| frame.as_ref().to_vec());
        self.socket.as_ref().unwrap().send_multipart(frames, 0).unwrap();
    }

    pub(crate) fn reply(&self, ticket: &str, body: &str) {
        self.send(&["REPLY", ticket, "200", "", body]);
    }

    /// The next message that is no heartbeat.
    pub(crate) async fn receive(&mut self) -> Vec<String> {
        loop {
            let frames = self.receive_any().await;
            if frames[0] != "PING" {
                return frames;
            }
        }
    }

    /// The ticket and the target of the next message, which is a job.
    pub(crate) async fn job(&mut self) -> (String, String) {
        let frames = self.receive().await;
        assert_eq!(frames[0], "JOB", "{frames:?}");
        (frames[1].clone(), frames[3].clone())
    }

    /// The next message, on another thread: the test's own runs the service meanwhile.
    pub(crate) async fn receive_any(&mut self) -> Vec<String> {
        let socket = self.socket.take().unwrap();
        let (socket, frames) = spawn_blocking(move || {
            let frames = socket.recv_multipart(0);
            (socket, frames)
        })
        .await
        .unwrap();
        self.socket = Some(socket);
        let frames = frames.expect("a message within the time");
        frames.into_iter().map(|frame| String::from_utf8_lossy(&frame).into_owned()).collect()
    }

    /// Whether nothing but heartbeats comes within this time.
    pub(crate) async fn hears_nothing_for(&mut self, time: Duration) -> bool {
        self.socket.as_ref().unwrap().set_rcvtimeo(time.as_millis().try_into().unwrap()).unwrap();
        let socket = self.socket.take().unwrap();
        let (socket, heard) = spawn_blocking(move || {
            let until = std::time::Instant::now() + time;
            let mut heard = false;
            while std::time::Instant::now() < until && !heard {
                heard = socket.recv_multipart(0).is_ok_and(|frames| frames[0] != b"PING");
            }
            (socket, heard)
        })
        .await
        .unwrap();
        socket.set_rcvtimeo(MESSAGE_WITHIN_MS).unwrap();
        self.socket = Some(socket);
        !heard
    }

    /// Ends as a killed process does: the connection closes, and nothing is said.
    pub(crate) async fn die(mut self) {
        let socket = self.socket.take().unwrap();
        socket.set_linger(0).unwrap();
        spawn_blocking(move || drop((socket, self.context))).await.unwrap();
    }
}
