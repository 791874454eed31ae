//! What one case consists of, and how cases are generated.

use std::fmt;

use http::Version;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::plan::{Answer, BodyStep, Plan, ReadBody, Size, Wait};
use super::request::input;
use super::wire::{End, WireSettings};

#[derive(Clone, Debug)]
pub struct Case {
    pub settings: Settings,
    pub mode: Mode,
    pub wire: WireSettings,
    /// Whether each poll has a waker of its own.
    pub fresh_wakers: bool,
    pub plans: Vec<Plan>,
    /// All that the client sends.
    pub input: Input,
    pub steps: Vec<Step>,
    /// What happens when the steps are over: the client leaves before the answers, or after them.
    pub leaves_first: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Plain,
    Upgrades,
    WithoutShutdown,
}

#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub half_close: bool,
    pub keep_alive: bool,
    pub pipeline_flush: bool,
    pub max_buf_size: Option<usize>,
    pub max_header_size: Option<usize>,
    pub max_headers: Option<usize>,
    pub title_case_headers: bool,
    pub preserve_header_case: bool,
    pub lenient: bool,
    pub writev: Option<bool>,
}

#[derive(Clone, PartialEq, Eq)]
pub struct Input(pub Vec<u8>);

#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// The client's next bytes arrive.
    Deliver(usize),
    /// All that is left of them.
    DeliverRest,
    /// The same, byte by byte.
    Trickle,
    End(End),
    /// So many more bytes can be written.
    Allow(usize),
    BreakWrites,
    /// Opens one of the gates that somebody waits at.
    Open(usize),
    /// The same from another thread.
    OpenElsewhere(usize),
    GracefulShutdown,
    PollForNothing,
    DropConnection,
    IntoParts,
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

/// What hyper reads at a time, or more.
pub const READ_BYTES_MIN: usize = 8192;

/// A window that is never full.
const WINDOW_WIDE: usize = usize::MAX / 2;

impl Case {
    /// One with hyper's defaults.
    pub fn new(input: impl Into<Vec<u8>>, plans: Vec<Plan>, steps: Vec<Step>) -> Self {
        Self {
            settings: Settings {
                half_close: false,
                keep_alive: true,
                pipeline_flush: false,
                max_buf_size: None,
                max_header_size: None,
                max_headers: None,
                title_case_headers: false,
                preserve_header_case: false,
                lenient: false,
                writev: None,
            },
            mode: Mode::Plain,
            wire: WireSettings { read_max: usize::MAX, vectored: true, buffer_max: 0, window: WINDOW_WIDE },
            fresh_wakers: true,
            plans,
            input: Input(input.into()),
            steps,
            leaves_first: false,
        }
    }

    /// The same after a few requests that come one right after the other and are answered at once.
    pub fn after_brisk_requests(mut self) -> Self {
        const GET: &str = "GET / HTTP/1.1\r\n\r\n";
        let Input(bytes) = &mut self.input;
        for _ in 0..3 {
            bytes.splice(..0, GET.bytes());
            self.plans.insert(0, Plan::new());
            self.steps.insert(0, Step::Deliver(GET.len()));
        }
        self
    }

    /// Whether there is more to read than is read at a time.
    pub fn has_short_reads(&self) -> bool {
        self.input.0.len() > READ_BYTES_MIN || self.wire.read_max < usize::MAX
    }

    /// Whether there may be blank lines before a head.
    pub fn has_blank_lines(&self) -> bool {
        let Input(bytes) = &self.input;
        let within = |line_ends: &[u8]| bytes.windows(line_ends.len()).any(|window| window == line_ends);
        bytes.starts_with(b"\r")
            || bytes.starts_with(b"\n")
            || within(b"\n\n")
            || within(b"\n\r\n\r")
            || within(b"\n\r\n\n")
    }

    /// Whether writes find no room before the driver makes some.
    pub fn has_narrow_window(&self) -> bool {
        self.wire.window < WINDOW_WIDE
    }

    /// Whether what is to be seen depends on how much is read at a time: how much of a body that is dropped early has
    /// been read, and is drained, when responses to pipelined requests are flushed, whether a head just as long as
    /// hyper's buffer is too long, whether one that is malformed, too, is found to be that first, and how much of a
    /// body has left hyper's buffer when the connection is taken apart.
    pub fn depends_on_reads(&self) -> bool {
        let early = self.plans.iter().any(|plan| !plan.reads_to_the_end());
        let limited = self.settings.max_buf_size.is_some() || self.settings.max_header_size.is_some();
        let taken_apart = matches!(self.steps.last(), Some(Step::IntoParts));
        self.has_short_reads() && (early || limited || taken_apart || self.settings.pipeline_flush)
    }
}

pub fn case() -> impl Strategy<Value = Case> {
    let wire = wire_settings();
    let plans = vec(plan(), 1..5);
    (settings(), mode(), wire, any::<bool>(), plans, input(), steps(), any::<bool>()).prop_map(
        |(settings, mode, wire, fresh_wakers, plans, input, steps, leaves_first)| Case {
            settings,
            mode,
            wire,
            fresh_wakers,
            plans,
            input: Input(input),
            steps,
            leaves_first,
        },
    )
}

fn mode() -> impl Strategy<Value = Mode> {
    prop_oneof![3 => Just(Mode::Plain), 3 => Just(Mode::Upgrades), 1 => Just(Mode::WithoutShutdown)]
}

fn rarely() -> impl Strategy<Value = bool> {
    prop::bool::weighted(0.1)
}

fn settings() -> impl Strategy<Value = Settings> {
    let sizes = (
        prop::option::weighted(0.3, Just(8192)),
        prop::option::weighted(0.1, 10_usize..400),
        prop::option::weighted(0.1, 0_usize..6),
        prop::option::weighted(0.3, any::<bool>()),
    );
    let half_close = prop::bool::weighted(0.25);
    (half_close, prop::bool::weighted(0.9), prop::bool::weighted(0.15), rarely(), rarely(), rarely(), sizes).prop_map(
        |(half_close, keep_alive, pipeline_flush, title_case_headers, preserve_header_case, lenient, sizes)| {
            let (max_buf_size, max_header_size, max_headers, writev) = sizes;
            Settings {
                half_close,
                keep_alive,
                pipeline_flush,
                max_buf_size,
                max_header_size,
                max_headers,
                title_case_headers,
                preserve_header_case,
                lenient,
                writev,
            }
        },
    )
}

fn wire_settings() -> impl Strategy<Value = WireSettings> {
    let read_max = prop_oneof![6 => Just(usize::MAX), 1 => 1_usize..40];
    let buffer_max = prop_oneof![3 => Just(0), 1 => 1_usize..100, 1 => Just(20_000)];
    let window = prop_oneof![4 => Just(WINDOW_WIDE), 1 => 0_usize..300];
    (read_max, any::<bool>(), buffer_max, window).prop_map(|(read_max, vectored, buffer_max, window)| WireSettings {
        read_max,
        vectored,
        buffer_max,
        window,
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => prop_oneof![1_usize..12, 1_usize..200, 1_usize..4000].prop_map(Step::Deliver),
        3 => Just(Step::DeliverRest),
        1 => Just(Step::Trickle),
        12 => any::<usize>().prop_map(Step::Open),
        1 => any::<usize>().prop_map(Step::OpenElsewhere),
        6 => prop_oneof![1_usize..20, 1_usize..2000, Just(1 << 20)].prop_map(Step::Allow),
        1 => prop_oneof![4 => Just(End::Eof), 1 => Just(End::Reset)].prop_map(Step::End),
        1 => Just(Step::GracefulShutdown),
        2 => Just(Step::PollForNothing),
    ];
    let last = prop_oneof![
        20 => Just(None),
        1 => Just(Some(Step::DropConnection)),
        1 => Just(Some(Step::IntoParts)),
        1 => Just(Some(Step::BreakWrites)),
    ];
    (vec(step, 0..40), last).prop_map(|(mut steps, last)| {
        steps.extend(last);
        steps
    })
}

fn wait() -> impl Strategy<Value = Wait> {
    prop_oneof![3 => Just(Wait::No), 1 => Just(Wait::Yield), 3 => Just(Wait::Gate)]
}

fn plan() -> impl Strategy<Value = Plan> {
    let read = prop_oneof![
        2 => Just(ReadBody::DropInCall),
        1 => Just(ReadBody::Drop),
        2 => Just(ReadBody::Keep),
        1 => Just(ReadBody::PollOnce),
        1 => (1_usize..100).prop_map(ReadBody::Some),
        1 => (1_usize..100).prop_map(ReadBody::SomeThenYield),
        1 => (1_usize..100).prop_map(ReadBody::SomeAndKeep),
        4 => Just(ReadBody::All),
        1 => Just(ReadBody::AllAndKeep),
        1 => Just(ReadBody::Task),
        1 => Just(ReadBody::DropByTask),
    ];
    (read, wait(), wait(), any::<bool>(), any::<bool>(), rarely(), answer()).prop_map(
        |(read, wait_before, wait_after, keep_parts, take_upgrade, keep_wakers, answer)| Plan {
            read,
            wait_before,
            wait_after,
            keep_parts,
            take_upgrade,
            keep_wakers,
            answer,
        },
    )
}

fn answer() -> impl Strategy<Value = Answer> {
    let status = prop_oneof![
        20 => Just(200_u16),
        3 => Just(101),
        4 => select(vec![201, 204, 304, 404, 500, 599, 999]),
        1 => select(vec![100, 102, 103]),
    ];
    let version = prop_oneof![20 => Just(Version::HTTP_11), 2 => Just(Version::HTTP_10), 1 => Just(Version::HTTP_2)];
    let header = prop_oneof![
        4 => Just(("x-header", "value".to_owned())),
        1 => select(vec!["close", "keep-alive", "upgrade", "Close, x", "x, Keep-Alive"]).prop_map(|value| ("connection", value.to_owned())),
        1 => Just(("upgrade", "websocket".to_owned())),
        1 => select(vec!["chunked", "gzip"]).prop_map(|value| ("transfer-encoding", value.to_owned())),
        2 => select(vec!["x-checksum", "x-checksum, x-other", "x-nothing"]).prop_map(|value| ("trailer", value.to_owned())),
        1 => Just(("date", "today".to_owned())),
    ];
    let size = prop_oneof![
        3 => Just(Size::Unknown),
        3 => Just(Size::Exact),
        1 => Just(Size::Header(0)),
        1 => (-5_i64..6).prop_map(Size::Header),
    ];
    let response = (status, version, vec(header, 0..3), size, body())
        .prop_map(|(status, version, headers, size, body)| Answer::Response { status, version, headers, size, body });
    prop_oneof![30 => response, 1 => Just(Answer::Error)]
}

fn body() -> impl Strategy<Value = Vec<BodyStep>> {
    let len = prop_oneof![8 => 0_usize..60, 2 => 1000_usize..20_000, 1 => Just(500_000)];
    let step = prop_oneof![
        8 => len.prop_map(BodyStep::Data),
        3 => wait().prop_map(BodyStep::Wait),
    ];
    let end = prop_oneof![8 => Just(None), 2 => Just(Some(BodyStep::Trailers)), 1 => Just(Some(BodyStep::Error))];
    (vec(step, 0..5), end).prop_map(|(mut steps, end)| {
        steps.extend(end);
        steps
    })
}
