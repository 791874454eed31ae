//! A handler's response as messages: whole, or in parts as fast as the client takes them.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use http::response::Parts;
use http_body::Body;
use http_body_util::BodyExt as _;
use tokio::sync::Semaphore;

use super::link::LinkCommand;
use crate::BoxError;
use crate::zeromq::frames::{FromWorker, ReplyHead, Ticket};
use crate::zeromq::socket::Commander;

/// The longest part of a reply that is cut: long enough that a message costs little of it, short enough that eight of
/// them for each slow client are no burden.
const PART_BYTES_MAX: usize = 64 * 1024;

pub(super) struct Reply {
    ticket: Ticket,
    frame_bytes_max: usize,
    credit: Arc<Semaphore>,
    commander: Commander<LinkCommand>,
}

impl Reply {
    pub(super) fn new(
        ticket: Ticket,
        frame_bytes_max: usize,
        credit: Arc<Semaphore>,
        commander: Commander<LinkCommand>,
    ) -> Self {
        Self { ticket, frame_bytes_max, credit, commander }
    }

    pub(super) async fn send<F, B, E>(self, response: F)
    where
        F: Future<Output = Result<Response<B>, E>>,
        B: Body<Data = Bytes>,
        B::Error: Into<BoxError>,
        E: Into<BoxError>,
    {
        let sent = match response.await {
            Ok(response) => self.send_response(response).await,
            Err(error) => Err(error.into()),
        };
        if let Err(error) = sent {
            self.command(FromWorker::Failed(self.ticket, Bytes::from(error.to_string())));
        }
    }

    async fn send_response<B>(&self, response: Response<B>) -> Result<(), BoxError>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        let (Parts { status, headers, .. }, body) = response.into_parts();
        let head = ReplyHead { status, headers };
        let fits = body.size_hint().exact().is_some_and(|bytes| bytes <= self.frame_bytes_max as u64);
        if fits {
            let body = body.collect().await.map_err(Into::into)?.to_bytes();
            self.command(FromWorker::Reply(self.ticket, head, body));
            return Ok(());
        }
        self.command(FromWorker::Head(self.ticket, head));
        let mut body = pin!(body);
        while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
            // Trailers are not in the protocol.
            let Ok(data) = frame.map_err(Into::into)?.into_data() else { continue };
            self.send_parts(data).await?;
        }
        self.command(FromWorker::End(self.ticket));
        Ok(())
    }

    async fn send_parts(&self, mut data: Bytes) -> Result<(), BoxError> {
        while !data.is_empty() {
            let part = data.split_to(data.len().min(PART_BYTES_MAX).min(self.frame_bytes_max.max(1)));
            // Given back by the server's `MORE`.
            self.credit.acquire().await?.forget();
            self.command(FromWorker::Part(self.ticket, part));
        }
        Ok(())
    }

    fn command(&self, message: FromWorker) {
        let _thread_has_ended = self.commander.command(LinkCommand::Send(message));
    }
}
