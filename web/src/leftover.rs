//! What a request's body still holds when its answer is made.
//!
//! A request that is refused early (no token, a bad header) has a body that nobody read. HTTP/1 can then only close the
//! connection, and a client that is still sending sees it break instead of the answer. So a little of it is read and
//! thrown away; of a large one not much, and not for long. In: a request, whose body is replaced by one that can be taken
//! back. Must not touch bodies while a handler reads them.

use axum::{
    body::{Body, BodyDataStream, HttpBody as _},
    extract::Request,
};
use futures::{StreamExt as _, stream};
use std::{
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
    time::Duration,
};

/// As much as any body that is no image may have.
const BYTES: usize = crate::BODY_LIMIT_BYTES;

/// A client that is at it sends the rest within this.
const PATIENCE: Duration = Duration::from_secs(1);

/// The rest of a body.
#[derive(Debug)]
pub(crate) struct Leftover(Option<Arc<Mutex<BodyDataStream>>>);

impl Leftover {
    /// Keeps a hand on the request's body.
    pub(crate) fn of(request: Request) -> (Self, Request) {
        if request.body().is_end_stream() {
            return (Self(None), request);
        }
        let (parts, body) = request.into_parts();
        let shared = Arc::new(Mutex::new(body.into_data_stream()));
        let lent = Arc::clone(&shared);
        let body = stream::poll_fn(move |context| match lent.lock() {
            Ok(mut body) => body.poll_next_unpin(context),
            Err(_) => Poll::Ready(None),
        });
        (Self(Some(shared)), Request::from_parts(parts, Body::from_stream(body)))
    }

    /// Reads what is left, within bounds. For when the answer is made.
    pub(crate) async fn drain(self) {
        let Some(body) = self.0 else { return };
        let mut left = BYTES;
        let drained = async {
            while let Some(Ok(chunk)) = std::future::poll_fn(|context| {
                body.lock().unwrap_or_else(PoisonError::into_inner).poll_next_unpin(context)
            })
            .await
            {
                left = left.saturating_sub(chunk.len());
                if left == 0 {
                    break;
                }
            }
        };
        if tokio::time::timeout(PATIENCE, drained).await.is_err() {
            tracing::debug!("a client dawdles with a body that nobody wants");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A body of `count` chunks, and how many of them were read.
    fn body(count: usize) -> (Request, Arc<AtomicUsize>) {
        let read = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&read);
        let chunks = (0..count).map(move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
            Ok::<_, std::convert::Infallible>(Bytes::from_static(&[0; 64 << 10]))
        });
        (Request::new(Body::from_stream(stream::iter(chunks))), read)
    }

    #[tokio::test]
    async fn a_little_is_read_to_its_end_and_much_is_not() {
        for (count, expected) in [(0, 0), (3, 3), (100, 16)] {
            let (request, read) = body(count);
            let (leftover, request) = Leftover::of(request);
            drop(request);
            leftover.drain().await;
            assert_eq!(read.load(Ordering::Relaxed), expected, "of {count}");
        }
    }

    #[tokio::test]
    async fn what_the_handler_reads_is_all_there() {
        let (leftover, request) = Leftover::of(body(3).0);
        let bytes = axum::body::to_bytes(request.into_body(), usize::MAX).await.unwrap();
        assert_eq!(bytes.len(), 3 * (64 << 10));
        leftover.drain().await;
    }
}
