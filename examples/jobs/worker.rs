//! A worker: asks for a job, does it, confirms it, and asks again.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// What a job takes here.
const WORK: Duration = Duration::from_millis(300);

pub(crate) fn run(addr: &str) -> Result<(), Box<dyn Error>> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work(addr))
}

async fn work(addr: &str) -> Result<(), Box<dyn Error>> {
    let stream = TcpStream::connect(addr).await?;
    let (mut server, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let me = std::process::id();
    loop {
        let response = ask(&mut server, "GET", "/jobs").await?;
        if response.status() != StatusCode::OK {
            continue;
        }
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (lease, deliveries) = (header("lease").ok_or("a job without a lease")?, header("deliveries"));
        let job = String::from_utf8_lossy(&response.into_body()).into_owned();
        println!("worker {me}: begins {job}, delivery {}", deliveries.unwrap_or_default());
        tokio::time::sleep(WORK).await;
        let done = ask(&mut server, "POST", &format!("/leases/{lease}")).await?;
        match done.status() {
            StatusCode::NO_CONTENT => println!("worker {me}: has done {job}"),
            _ => println!("worker {me}: was too late with {job}"),
        }
    }
}

async fn ask(
    server: &mut SendRequest<Empty<Bytes>>,
    method: &str,
    path: &str,
) -> Result<Response<Bytes>, Box<dyn Error>> {
    server.ready().await?;
    let request = Request::builder().method(method).uri(path).header("host", "jobs").body(Empty::new())?;
    let (head, body) = server.send_request(request).await?.into_parts();
    Ok(Response::from_parts(head, body.collect().await?.to_bytes()))
}
