//! Cases that have told ours from hyper once.

use std::sync::atomic::Ordering;

use http::Version;

use super::case::{Case, Mode, Step};
use super::plan::{Answer, BodyStep, Plan, ReadBody, Size, Wait};
use super::run::run;
use super::wire::End;
use super::world::World;

const GET: &str = "GET / HTTP/1.1\r\n\r\n";

#[track_caller]
fn check(case: &Case) {
    run(case, None).unwrap_or_else(|error| panic!("{error}"));
}

/// The case, once for each position at which its input can be cut in two.
#[track_caller]
fn check_each_cut(case: &Case) {
    for at in 1..case.input.0.len() {
        let mut steps = vec![Step::Deliver(at)];
        steps.extend(&case.steps);
        check(&Case { steps, ..case.clone() });
    }
}

fn reading(read: ReadBody) -> Plan {
    Plan { read, ..Plan::gated() }
}

#[test]
fn a_body_is_not_over_because_all_that_has_come_is_read() {
    let chunked = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\nabc\r\n0\r\n\r\n";
    let sized = "POST / HTTP/1.1\r\ncontent-length: 6\r\n\r\nabcabc";
    for input in [chunked, sized] {
        for read in [ReadBody::All, ReadBody::AllAndKeep, ReadBody::Task, ReadBody::SomeAndKeep(2)] {
            let waits = Plan { wait_before: Wait::Yield, ..reading(read) };
            check_each_cut(&Case::new(input, vec![waits], vec![]));
        }
    }
}

#[test]
fn the_rest_of_a_body_that_is_dropped_half_way_is_no_request() {
    let chunked =
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n12\r\nGET / HTTP/1.1\r\n\r\n\r\n0\r\n\r\n";
    let sized = "POST / HTTP/1.1\r\ncontent-length: 21\r\n\r\nabcGET / HTTP/1.1\r\n\r\n";
    for input in [chunked, sized] {
        for read in [ReadBody::DropInCall, ReadBody::Drop, ReadBody::Some(1), ReadBody::DropByTask] {
            for wait_before in [Wait::No, Wait::Yield, Wait::Gate] {
                let plan = Plan { wait_before, ..reading(read) };
                check_each_cut(&Case::new(input, vec![plan], vec![Step::Open(0)]));
            }
        }
    }
}

#[test]
fn a_body_dropped_in_the_poll_after_its_first_part_is_not_over() {
    // The channel gives up its waker when a part is taken, and again when it is dropped.
    let input = "POST / HTTP/1.1\r\ncontent-length: 21\r\n\r\nabcGET / HTTP/1.1\r\n\r\n";
    let plan = Plan { wait_before: Wait::No, read: ReadBody::SomeThenYield(3), ..Plan::gated() };
    check_each_cut(&Case::new(input, vec![plan], vec![]));
}

#[test]
fn a_body_that_ends_after_its_response_is_told_so_with_the_next_request() {
    let input = format!("POST / HTTP/1.1\r\ncontent-length: 1\r\n\r\nx{GET}");
    let plan = Plan { read: ReadBody::Task, ..Plan::new() };
    check_each_cut(&Case::new(input, vec![plan], vec![Step::Deliver(1), Step::PollForNothing]));
}

#[test]
fn a_body_that_ends_while_its_response_finds_no_room_is_told_so_with_the_next_request() {
    // All of the response is with hyper, and its body does not know that it was the last part.
    let body = vec![BodyStep::Data(8151), BodyStep::Wait(Wait::No)];
    let Answer::Response { status, version, headers, .. } = answer(vec![]) else { unreachable!() };
    let answer = Answer::Response { status, version, headers, size: Size::Exact, body };
    let plan = Plan { read: ReadBody::Task, answer, ..Plan::new() };
    let input = format!("POST / HTTP/1.1\r\ncontent-length: 6\r\n\r\nabcdef{GET}");
    let head_len = input.find("abc").unwrap();
    for vectored in [false, true] {
        let steps = vec![Step::Deliver(head_len), Step::Deliver(6), Step::Allow(1 << 20)];
        let mut case = Case::new(input.clone(), vec![plan.clone()], steps);
        case.settings.max_buf_size = Some(8192);
        case.wire.window = 0;
        case.wire.vectored = vectored;
        check(&case);
    }
}

#[test]
fn a_malformed_head_that_comes_in_parts_is_refused_when_hyper_refuses_it() {
    let inputs = [
        "GET / HTTP/2.0\r\n\r\n",
        "G\0T / HTTP/1.1\r\n\r\n",
        "GET  / HTTP/1.1\r\nhost: a\r\n\r\n",
        "\r\n\r\nGET / HTTP/1.1\r\nno colon\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\nG\0T / HTTP/1.1\r\nhost: a",
    ];
    for input in inputs {
        for plan in [Plan::new(), Plan::gated()] {
            check_each_cut(&Case::new(input, vec![plan.clone()], vec![]));
            check_each_cut(&Case::new(input, vec![plan.clone()], vec![Step::End(End::Eof)]));
            check(&Case::new(input, vec![plan.clone()], vec![Step::Trickle]));
            check(&Case::new(input, vec![plan.clone()], vec![Step::Trickle, Step::Open(0), Step::End(End::Eof)]));
            let mut bytewise = Case::new(input, vec![plan], vec![]);
            bytewise.wire.read_max = 1;
            check_each_cut(&bytewise);
        }
    }
}

#[test]
fn a_request_that_just_meets_the_limits_on_heads_is_answered() {
    let inputs = [
        "A / HTTP/1.1\n\n",
        "A * HTTP/1.1\nconnection:close\n\n",
        "A / HTTP/1.0\nconnection:keep-alive\nte:trailers\n\n",
        "HEAD / HTTP/1.1\nte:trailers\n\n",
    ];
    for input in inputs {
        for leaves_first in [false, true] {
            let steps = vec![Step::GracefulShutdown];
            let mut case = Case::new(input.repeat(2), vec![Plan::gated()], steps);
            case.leaves_first = leaves_first;
            case.settings.max_header_size = Some(input.len());
            case.settings.max_headers = Some(input.matches(':').count());
            check_each_cut(&case);
            case.steps.clear();
            check_each_cut(&case);
        }
    }
}

#[test]
fn a_shutdown_of_the_io_that_has_to_wait_is_waited_for() {
    let mut case = Case::new(GET, vec![Plan::new()], vec![]);
    case.settings.keep_alive = false;
    case.wire.buffer_max = 20_000;
    for window in 30..100 {
        case.wire.window = window;
        check(&case);
    }
}

#[test]
fn a_head_as_long_as_the_limit_is_refused() {
    let long = |len: usize| format!("GET / HTTP/1.1\r\nx-long: {}", "v".repeat(len));
    for len in [8192 - 25, 8192 - 24, 8192 - 23, 9000, 20_000] {
        let steps = vec![Step::Deliver(100), Step::Deliver(8000), Step::Deliver(92), Step::PollForNothing];
        check(&Case::new(long(len), vec![Plan::new()], steps.clone()));
        check(&Case::new(format!("{}\r\n\r\n{GET}", long(len)), vec![Plan::new()], steps.clone()));
        check(&Case::new(format!("{GET}{}\r\n\r\n{GET}", long(len)), vec![Plan::gated()], steps.clone()));
        let mut limited = Case::new(format!("{}\r\n\r\n", long(len)), vec![Plan::new()], steps);
        limited.settings.max_header_size = Some(8100);
        check(&limited);
    }
}

#[test]
fn a_malformed_head_after_an_old_request_is_refused_in_its_version() {
    let input = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nG@T / HTTP/1.1\r\n\r\n";
    for plan in [Plan::new(), Plan::gated()] {
        check_each_cut(&Case::new(input, vec![plan], vec![Step::Open(0)]));
    }
}

#[test]
fn an_old_connect_with_an_upgrade_is_answered_as_connect() {
    for line in ["CONNECT / HTTP/1.0", "CONNECT host:443 HTTP/1.1"] {
        let input = format!("{line}\r\nupgrade: websocket\r\n\r\nearly");
        for mode in [Mode::Plain, Mode::Upgrades, Mode::WithoutShutdown] {
            let mut case = Case::new(input.clone(), vec![Plan { take_upgrade: true, ..Plan::gated() }], vec![]);
            case.mode = mode;
            check_each_cut(&case);
        }
    }
}

#[test]
fn a_client_that_leaves_behind_a_stray_byte_while_its_upgrade_waits_is_noticed() {
    for stray in ["", "x", GET] {
        for line in ["CONNECT host:443 HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nupgrade: websocket\r\n\r\n"] {
            let steps = vec![Step::DeliverRest, Step::End(End::Eof), Step::Open(0)];
            check(&Case::new(format!("{line}{stray}"), vec![Plan::gated()], steps));
        }
    }
}

#[test]
fn a_client_that_leaves_is_noticed_though_the_response_before_finds_no_room() {
    let plan = Plan {
        wait_before: Wait::Gate,
        read: ReadBody::Drop,
        answer: answer(vec![BodyStep::Data(1000)]),
        ..Plan::new()
    };
    let input = "POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\nabPOST / HTTP/1.1\r\ncontent-length: 20\r\n\r\nab";
    for vectored in [false, true] {
        let steps = vec![Step::DeliverRest, Step::Open(0), Step::End(End::Eof)];
        let mut case = Case::new(input, vec![plan.clone()], steps);
        case.wire.window = 0;
        case.wire.vectored = vectored;
        check(&case);
        check_each_cut(&case);
    }
}

#[test]
fn a_shutdown_between_requests_closes_whatever_has_come_of_the_next() {
    let long = format!("GET / HTTP/1.1\r\nx-long: {}", "v".repeat(9000));
    for next in ["", "G", "GET / HTTP/1.1\r\n", &long] {
        for pipeline_flush in [false, true] {
            let mut case = Case::new(format!("{GET}{next}"), vec![Plan::new()], vec![]);
            case.settings.pipeline_flush = pipeline_flush;
            case.steps = vec![Step::DeliverRest, Step::GracefulShutdown];
            check(&case);
            case.steps = vec![Step::Deliver(GET.len()), Step::DeliverRest, Step::GracefulShutdown];
            check(&case);
        }
    }
}

#[test]
fn a_shutdown_before_the_first_request_waits_for_what_has_begun() {
    for begun in ["", "G", "GET / HTTP/1.1\r\n", GET] {
        for plan in [Plan::new(), Plan::gated()] {
            let steps = vec![Step::Deliver(begun.len()), Step::GracefulShutdown, Step::DeliverRest];
            check(&Case::new(GET.repeat(2), vec![plan], steps));
        }
    }
}

#[test]
fn a_shutdown_does_not_drop_the_refusal_of_a_malformed_head() {
    let input = format!("{GET}{GET}G@T / HTTP/1.1\r\n\r\n");
    let mut case = Case::new(input, vec![Plan::new()], vec![Step::Trickle, Step::GracefulShutdown, Step::Allow(50)]);
    for window in 70..130 {
        case.wire.window = window;
        check(&case);
    }
}

#[test]
fn the_end_of_a_body_is_flushed_before_the_connection_rests() {
    for pipeline_flush in [false, true] {
        let body = vec![BodyStep::Data(5), BodyStep::Wait(Wait::Gate)];
        let plan = Plan { answer: answer(body), ..Plan::new() };
        // Its end comes while a part of the next head is buffered, for which hyper may put flushing off.
        let steps = vec![Step::Deliver(GET.len()), Step::Deliver(8), Step::Open(0)];
        let mut case = Case::new(GET.repeat(2), vec![plan], steps);
        case.settings.pipeline_flush = pipeline_flush;
        check(&case);
        for window in 60..110 {
            case.wire.window = window;
            check_each_cut(&case);
        }
    }
}

fn answer(body: Vec<BodyStep>) -> Answer {
    Answer::Response { status: 200, version: Version::HTTP_11, headers: Vec::new(), size: Size::Unknown, body }
}

#[test]
fn a_request_with_both_lengths_is_the_last_wherever_it_stands() {
    let both = [
        "POST / HTTP/1.1\r\ncontent-length: 9\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\nContent-Length: 9\r\n\r\n0\r\n\r\n",
    ];
    for both in both {
        for input in [format!("{both}{GET}"), format!("{GET}{both}{GET}")] {
            check_each_cut(&Case::new(input, vec![Plan::gated()], vec![]));
        }
        // Read ahead of hyper, because the body before it is not.
        let input = format!("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n{both}");
        for read in [ReadBody::PollOnce, ReadBody::Keep, ReadBody::Drop] {
            let case = Case::new(input.clone(), vec![reading(read), Plan::gated()], vec![]);
            check_each_cut(&case);
            check_each_cut(&Case { steps: vec![Step::Deliver(1)], ..case });
        }
    }
}

#[test]
fn a_request_that_hyper_forgets_behind_a_full_window_is_answered() {
    // The head of the second response is buffered as a list, for which hyper does not ask the third for its own; and
    // when there is room again it does not either.
    let plan = Plan { read: ReadBody::Drop, answer: answer(vec![BodyStep::Data(0)]), ..Plan::new() };
    let post = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\nc\r\n0\r\n\r\n";
    let mut case =
        Case::new(format!("{GET}{post}{GET}"), vec![Plan::new(), plan], vec![Step::DeliverRest, Step::Allow(1 << 20)]);
    case.wire.window = 38;
    let mut ours = World::ours(&case);
    ours.wire.deliver(&case.input.0);
    ours.settle().unwrap();
    assert_eq!(ours.shared.calls(), 3);
    ours.wire.allow(1 << 20);
    ours.settle().unwrap();
    assert_eq!(ours.shared.waiting.load(Ordering::Relaxed), 0);
    check(&case);
}
