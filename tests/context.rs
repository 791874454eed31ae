//! The context of a request: in force while its service works, carried elsewhere when told to, and never seen by another.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::Waker;

use bytes::Bytes;
use http::{Method, Request, Response, Version};
use http_body_util::{Empty, Full};
use hyper::service::{Service as _, service_fn};
use hyper_deferred::context::{
    self, Context, ContextFuture, InContextExt as _, Saved, TaskLocal, ThreadLocal, WithContext,
};
use hyper_deferred::{deferred, offload};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::{LocalSet, yield_now};

type Body = Empty<Bytes>;

#[tokio::test]
async fn a_service_sees_its_request_when_called_and_at_each_poll_and_nobody_sees_it_between() {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let log = seen.clone();
    let service = WithContext::new(service_fn(move |_request: Request<Body>| {
        log.borrow_mut().push(Context::current().map(|context| context.uri().to_string()));
        let log = log.clone();
        async move {
            for _ in 0..2 {
                log.borrow_mut().push(Context::current().map(|context| context.uri().to_string()));
                yield_now().await;
            }
            Ok::<_, Infallible>(Response::new(Body::new()))
        }
    }));

    let mut response = pin!(service.call(request("/a?b=c")));
    assert!(Context::current().is_none());
    while response.as_mut().poll(&mut noop()).is_pending() {
        assert!(Context::current().is_none());
    }
    assert!(Context::current().is_none());
    assert_eq!(*seen.borrow(), vec![Some("/a?b=c".to_owned()); 3]);
}

#[tokio::test]
async fn the_context_tells_what_came_in_the_head_and_from_where() {
    let peer = "192.0.2.7:4711".parse().unwrap();
    let service = WithContext::new(service_fn(|_request| async {
        let context = Context::current().unwrap();
        let told = format!(
            "{} {} {:?} {}",
            context.method(),
            context.uri(),
            context.version(),
            context.peer().map_or_else(|| "nobody".to_owned(), |peer| peer.to_string()),
        );
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(told))))
    }))
    .peer(peer);

    let (mut client, server) = tokio::io::duplex(4096);
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(hyper_util::rt::TokioIo::new(server), service);
    let talk = async {
        let head = b"PUT http://h.example/x?y HTTP/1.0\r\ncontent-length: 0\r\n\r\n";
        client.write_all(head).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let (_, answer) = tokio::join!(connection, talk);
    assert!(answer.ends_with("PUT http://h.example/x?y HTTP/1.0 192.0.2.7:4711"), "{answer}");
}

#[test]
fn ids_are_never_given_twice() {
    let ids = Mutex::new(std::collections::HashSet::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..1000).for_each(|_| assert!(ids.lock().unwrap().insert(context("/").id()))));
        }
    });
    assert_eq!(ids.into_inner().unwrap().len(), 4000);
}

#[test]
fn a_bound_closure_runs_in_the_requests_context_and_the_callers_is_back_afterwards() {
    let (kept, callers) = (context("/kept"), context("/caller"));
    kept.insert("a user");
    let closure = kept.bind(|| {
        let context = Context::current().unwrap();
        (context.uri().to_string(), context.get::<&str>())
    });
    callers.saved().enter(|| {
        assert_eq!(closure(), ("/kept".to_owned(), Some("a user")));
        assert_eq!(current_path().as_deref(), Some("/caller"));
    });
    assert_eq!(current_path(), None);
}

#[test]
fn a_bound_closure_that_panics_leaves_the_callers_context_in_force() {
    let closure = context("/kept").bind(|| panic!("on purpose"));
    context("/caller").saved().enter(|| {
        catch_unwind(AssertUnwindSafe(closure)).unwrap_err();
        assert_eq!(current_path().as_deref(), Some("/caller"));
    });
    assert_eq!(current_path(), None);
}

#[test]
fn saving_where_no_request_is_in_hand_restores_that_there_was_none() {
    let outside = Context::save();
    context("/a").saved().enter(|| {
        outside.enter(|| assert_eq!(current_path(), None));
        assert_eq!(current_path().as_deref(), Some("/a"));
    });
}

#[test]
fn a_bound_closure_may_be_called_again_with_an_argument() {
    let mut closure = context("/kept").saved().bind_with(|n: u32| (n + 1, current_path()));
    assert_eq!(closure(1), (2, Some("/kept".to_owned())));
    assert_eq!(closure(2), (3, Some("/kept".to_owned())));
    assert_eq!(current_path(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_future_in_context_sees_it_on_every_thread_and_while_it_is_dropped() {
    struct TellsWhenDropped(tokio::sync::mpsc::UnboundedSender<Option<String>>);
    impl Drop for TellsWhenDropped {
        fn drop(&mut self) {
            self.0.send(current_path()).unwrap();
        }
    }
    let (dropped, mut told) = tokio::sync::mpsc::unbounded_channel();
    let (waits, waiting) = tokio::sync::oneshot::channel();
    let saved = context("/spawned").saved();
    let task = tokio::spawn(
        async move {
            let _tells = TellsWhenDropped(dropped);
            for _ in 0..100 {
                assert_eq!(current_path().as_deref(), Some("/spawned"));
                yield_now().await;
            }
            waits.send(()).unwrap();
            std::future::pending::<()>().await;
        }
        .in_context(saved),
    );
    assert_eq!(current_path(), None);
    waiting.await.unwrap();
    task.abort();
    assert_eq!(told.recv().await.unwrap().as_deref(), Some("/spawned"));
}

#[tokio::test]
async fn a_spawned_task_has_no_context_unless_it_is_given_one() {
    let (bare, given) = context("/a").saved().enter(|| {
        (tokio::spawn(async { current_path() }), tokio::spawn(async { current_path() }.in_context(Context::save())))
    });
    assert_eq!(bare.await.unwrap(), None);
    assert_eq!(given.await.unwrap().as_deref(), Some("/a"));
}

#[tokio::test]
async fn a_continuation_kept_with_the_responder_runs_in_the_requests_context() {
    let (responder, reply) = deferred::<String>();
    let continuation = context("/poll").bind(move || responder.send(Response::new(current_path().unwrap())).is_ok());
    assert!(std::thread::spawn(continuation).join().unwrap());
    assert_eq!(reply.await.unwrap().into_body(), "/poll");
}

#[test]
fn a_context_keeps_none_of_the_buffer_that_its_uri_was_parsed_from() {
    let buffer = Bytes::from(format!("/short{}", " ".repeat(8192)).into_bytes());
    let uri = http::Uri::from_maybe_shared(buffer.slice(..6)).unwrap();
    let context = Context::new(Method::GET, uri, Version::HTTP_11);
    assert_eq!(context.uri(), "/short");
    assert!(buffer.is_unique(), "the context still refers to the connection's buffer");
}

#[test]
fn a_context_has_a_target_of_every_form_as_it_was() {
    for target in ["/", "/a?b=c", "*", "h.example:443", "http://h.example/x?y", "https://h.example:8443/"] {
        assert_eq!(context(target).uri().to_string(), target);
    }
}

#[test]
fn a_saved_context_is_two_words_and_a_services_future_grows_by_no_more() {
    type Inner = Pin<Box<dyn Future<Output = ()>>>;
    assert_eq!(size_of::<Saved>(), 16);
    assert_eq!(size_of::<ContextFuture<Inner>>(), size_of::<Inner>() + 16);
}

// ===== Locals of the application's own =====

thread_local! {
    static TENANT: RefCell<Option<u64>> = const { RefCell::new(None) };
}

tokio::task_local! {
    static LOCALE: u64;
}

/// The registry is the process's: every test of this file runs with these registered, or before they are.
fn register_locals() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        context::register(ThreadLocal::new(&TENANT));
        context::register(TaskLocal::new(&LOCALE, 0));
    });
}

#[tokio::test]
async fn registered_locals_are_saved_and_restored_with_the_context() {
    register_locals();
    TENANT.set(Some(1));
    let saved = LOCALE.sync_scope(10, Context::save);
    TENANT.set(Some(2));
    LOCALE.sync_scope(20, || {
        saved.enter(|| {
            assert_eq!((TENANT.with_borrow(|t| *t), LOCALE.get()), (Some(1), 10));
            TENANT.set(Some(3));
        });
        assert_eq!((TENANT.with_borrow(|t| *t), LOCALE.get()), (Some(2), 20));
        catch_unwind(AssertUnwindSafe(|| saved.enter(|| panic!("on purpose")))).unwrap_err();
        assert_eq!((TENANT.with_borrow(|t| *t), LOCALE.get()), (Some(2), 20));
        // What a former call had set is not there for the next.
        saved.enter(|| assert_eq!(TENANT.with_borrow(|t| *t), Some(1)));
    });
    std::thread::spawn(saved.bind(|| assert_eq!((TENANT.with_borrow(|t| *t), LOCALE.get()), (Some(1), 10))))
        .join()
        .unwrap();
    TENANT.set(None);
}

#[tokio::test]
async fn a_service_finds_at_its_next_poll_what_it_set_in_a_registered_local_and_others_do_not() {
    register_locals();
    let service = Rc::new(WithContext::new(service_fn(|_request: Request<Body>| async {
        assert_eq!(TENANT.with_borrow(|t| *t), None);
        let own = Context::current().unwrap().id();
        TENANT.set(Some(own));
        for _ in 0..3 {
            yield_now().await;
            assert_eq!(TENANT.with_borrow(|t| *t), Some(own));
        }
        Ok::<_, Infallible>(Response::new(Body::new()))
    })));
    let (a, b) = tokio::join!(service.call(request("/a")), service.call(request("/b")));
    assert!(a.is_ok() && b.is_ok());
    assert_eq!(TENANT.with_borrow(|t| *t), None);
}

// ===== Isolation =====

/// What one request checks wherever it runs: everything that can be seen there is its own.
#[derive(Clone, Debug)]
struct Own {
    id: u64,
}

impl Own {
    fn check(&self) {
        let context = Context::current().expect("a request is in hand");
        assert_eq!(context.id(), self.id);
        assert_eq!(context.uri().path(), format!("/{}", context.get::<Number>().unwrap().0));
        assert_eq!(TENANT.with_borrow(|tenant| *tenant), Some(self.id));
    }
}

#[derive(Clone, Copy)]
struct Number(u64);

/// One of 1,000: awaits, spawns, offloads, panics elsewhere and here, and enters others' contexts, in an order of its own.
async fn wander(mut random: u64, other: Saved, done: Arc<Mutex<Vec<u64>>>) {
    let context = Context::current().unwrap();
    let own = Own { id: context.id() };
    context.insert(Number(context.uri().path()[1..].parse().unwrap()));
    TENANT.set(Some(own.id));
    for _ in 0..8 {
        own.check();
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let elsewhere = own.clone();
        match (random >> 33) % 6 {
            0 => yield_now().await,
            1 => {
                let task = async move {
                    elsewhere.check();
                    yield_now().await;
                    elsewhere.check();
                };
                tokio::spawn(task.in_context(Context::save())).await.unwrap();
            }
            2 => offload(move || elsewhere.check()).await.unwrap(),
            3 => {
                let panicked = offload(move || {
                    elsewhere.check();
                    panic!("on purpose")
                });
                assert!(panicked.await.unwrap_err().is_panic());
            }
            4 => {
                let inside = AssertUnwindSafe(|| {
                    other.enter(|| {
                        assert_ne!(Context::current().map(|context| context.id()), Some(elsewhere.id));
                        Context::current().unwrap().saved().enter(|| panic!("on purpose"));
                    });
                });
                catch_unwind(inside).unwrap_err();
            }
            _ => {
                let bare = tokio::spawn(async { current_path() }).await.unwrap();
                assert_eq!(bare, None, "a task that was given no context sees one");
            }
        }
    }
    own.check();
    done.lock().unwrap().push(own.id);
    if random % 3 == 0 {
        panic!("on purpose");
    }
}

#[test]
fn none_of_1000_interleaved_requests_ever_sees_anothers_context() {
    const REQUESTS: u64 = 1000;
    register_locals();
    // 400 panics on purpose would bury the one that matters.
    std::panic::set_hook(Box::new(|info| {
        if info.payload().downcast_ref() != Some(&"on purpose") {
            eprintln!("{info}");
        }
    }));
    let done = Arc::new(Mutex::new(Vec::new()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let panicked = LocalSet::new().block_on(&runtime, async {
        let log = done.clone();
        let service = Rc::new(WithContext::new(service_fn(move |request: Request<Body>| {
            let seed = request.uri().path()[1..].parse().unwrap();
            let wander = wander(seed, context("/other").saved(), log.clone());
            async {
                wander.await;
                Ok::<_, Infallible>(Response::new(Body::new()))
            }
        })));
        let requests = (0..REQUESTS).map(|n| {
            let request = request(&format!("/{n}"));
            let service = service.clone();
            tokio::task::spawn_local(async move { service.call(request).await })
        });
        let mut panicked = 0;
        for task in requests.collect::<Vec<_>>() {
            panicked += u64::from(task.await.is_err());
            assert_eq!(current_path(), None);
            assert_eq!(TENANT.with_borrow(|tenant| *tenant), None);
        }
        panicked
    });
    let _ = std::panic::take_hook();
    let mut ids = std::mem::take(&mut *done.lock().unwrap());
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len() as u64, REQUESTS, "each reached its end, with an id of its own");
    assert!((200..500).contains(&panicked), "{panicked} ended with their panic");
}

// ===== Helpers =====

fn context(path: &str) -> Context {
    Context::new(Method::GET, path.parse().unwrap(), Version::HTTP_11)
}

fn request(path: &str) -> Request<Body> {
    Request::builder().uri(path).body(Body::new()).unwrap()
}

fn current_path() -> Option<String> {
    Context::current().map(|context| context.uri().to_string())
}

fn noop() -> std::task::Context<'static> {
    std::task::Context::from_waker(Waker::noop())
}
