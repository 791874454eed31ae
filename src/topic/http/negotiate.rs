//! What a request asks for: how to be answered, where to begin, how long to wait.

use std::str::FromStr;
use std::time::Duration;

use http::header::{ACCEPT, HeaderName, IF_NONE_MATCH};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::super::{Cursor, ParseCursorError};
use super::Refusal;

/// The media type of server-sent events (WHATWG HTML, section 9.2).
pub(super) const EVENT_STREAM: &str = "text/event-stream";

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const PREFER: HeaderName = HeaderName::from_static("prefer");

/// How the client wants to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaks {
    LongPoll,
    Events,
}

/// Where the client wants to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    Latest,
    Oldest,
    After(Cursor),
}

/// Chooses by `Accept` (RFC 9110 section 12.5.1): events only for who names them, and at least as gladly as the rest.
pub(super) fn accept(headers: &HeaderMap, content_type: &HeaderValue) -> Result<Speaks, Refusal> {
    // What programs say is one media type, and not worth taking apart.
    let mut lines = headers.get_all(ACCEPT).into_iter();
    match (lines.next(), lines.next()) {
        (None, _) => return Ok(Speaks::LongPoll),
        (Some(only), None) if only == content_type => return Ok(Speaks::LongPoll),
        _ => {}
    }
    let mut ranges = list(headers, &ACCEPT).peekable();
    if ranges.peek().is_none() {
        return Ok(Speaks::LongPoll);
    }
    let own = content_type.to_str().unwrap_or_default();
    let own = own.split(';').next().unwrap_or_default().trim();
    let (mut events, mut long_poll) = (Quality::default(), Quality::default());
    for range in ranges {
        let (range, parameters) = range.split_once(';').unwrap_or((range, ""));
        let weight = weight(parameters);
        long_poll.consider(specificity(range.trim(), own), weight);
        events.consider(specificity(range.trim(), EVENT_STREAM), weight);
    }
    // Who takes anything, as curl does, has not asked for a stream that never ends.
    if events.specificity == NAMED && events.weight > 0 && events.weight >= long_poll.weight {
        Ok(Speaks::Events)
    } else if long_poll.weight > 0 {
        Ok(Speaks::LongPoll)
    } else {
        Err(Refusal::new(StatusCode::NOT_ACCEPTABLE, format_args!("there is {own} and {EVENT_STREAM} here")))
    }
}

// How closely a media range names a media type: `*/*`, `type/*`, `type/subtype`.
const ANY: u8 = 1;
const SAME_TYPE: u8 = 2;
const NAMED: u8 = 3;

/// The weight that the closest range gives to a media type.
#[derive(Default)]
struct Quality {
    specificity: u8,
    weight: u16,
}

impl Quality {
    fn consider(&mut self, specificity: u8, weight: u16) {
        if specificity > self.specificity {
            *self = Self { specificity, weight };
        }
    }
}

fn specificity(range: &str, own: &str) -> u8 {
    if range == "*/*" {
        ANY
    } else if range.eq_ignore_ascii_case(own) {
        NAMED
    } else if range
        .strip_suffix("/*")
        .is_some_and(|kind| own.split_once('/').is_some_and(|(own_kind, _)| kind.eq_ignore_ascii_case(own_kind)))
    {
        SAME_TYPE
    } else {
        0
    }
}

/// The weight in thousandths, as RFC 9110 section 12.4.2 has three digits for it; 1 when it is not said, or is unreadable.
fn weight(parameters: &str) -> u16 {
    const WHOLE: u16 = 1000;
    let weight = parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("q").then_some(value.trim())
    });
    let Some((whole, digits)) = weight.map(|weight| weight.split_once('.').unwrap_or((weight, ""))) else {
        return WHOLE;
    };
    match (whole, format!("{digits:0<3}").get(..3).map(u16::from_str)) {
        ("0", Some(Ok(thousandths))) => thousandths,
        _ => WHOLE,
    }
}

/// The cursor of the request. Headers come before the query: a client that follows them leaves its URL as it was.
pub(super) fn start(parts: &Parts) -> Result<Start, Refusal> {
    let bad = |error: ParseCursorError| Refusal::new(StatusCode::BAD_REQUEST, error);
    let header = |name| parts.headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or("\u{0}"));
    if let Some(tag) = header(IF_NONE_MATCH).filter(|tag| *tag != "*") {
        // A proxy that compresses makes a tag weak (RFC 9110 section 8.8.1): it is still the same cursor.
        let tag = tag.trim();
        let tag = tag.strip_prefix("W/").unwrap_or(tag);
        let tag = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).unwrap_or(tag);
        return tag.parse().map(Start::After).map_err(bad);
    }
    if let Some(id) = header(LAST_EVENT_ID).filter(|id| !id.is_empty()) {
        return id.parse().map(Start::After).map_err(bad);
    }
    let Some(query) = parts.uri.query() else { return Ok(Start::Latest) };
    match form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "since") {
        None => Ok(Start::Latest),
        Some((_, since)) if since == "latest" => Ok(Start::Latest),
        Some((_, since)) if since == "oldest" => Ok(Start::Oldest),
        Some((_, since)) => since.parse().map(Start::After).map_err(bad),
    }
}

/// How long the client would like to wait: `Prefer: wait=N` (RFC 7240 section 4.3). What cannot be read is no preference
/// (section 2).
pub(super) fn prefer_wait(headers: &HeaderMap) -> Option<Duration> {
    list(headers, &PREFER).find_map(|preference| {
        let preference = preference.split(';').next()?;
        let (name, value) = preference.split_once('=')?;
        if !name.trim().eq_ignore_ascii_case("wait") {
            return None;
        }
        let seconds = value.trim().trim_matches('"');
        seconds.bytes().all(|byte| byte.is_ascii_digit()).then_some(())?;
        // Digits that fit into nothing ask for longer than anyone will wait.
        (!seconds.is_empty()).then(|| Duration::from_secs(seconds.parse().unwrap_or(u64::MAX)))
    })
}

/// The members of a list header (RFC 9110 section 5.6.1), over all of its lines. None of the values that are looked for
/// here has a comma in quotes.
fn list<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|member| !member.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(accept: &str) -> Result<Speaks, StatusCode> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().unwrap());
        super::accept(&headers, &HeaderValue::from_static("application/json")).map_err(|refusal| refusal.status())
    }

    #[test]
    fn events_go_only_to_who_names_them() {
        assert_eq!(accepted("text/event-stream"), Ok(Speaks::Events));
        assert_eq!(accepted("Text/Event-Stream, */*;q=0.1"), Ok(Speaks::Events));
        assert_eq!(accepted("application/json, text/event-stream"), Ok(Speaks::Events));
        assert_eq!(accepted("*/*"), Ok(Speaks::LongPoll));
        assert_eq!(accepted("text/*, application/json;q=0.5"), Ok(Speaks::LongPoll));
        assert_eq!(accepted("text/event-stream;q=0.5, application/json"), Ok(Speaks::LongPoll));
        assert_eq!(accepted("text/event-stream;q=0, */*"), Ok(Speaks::LongPoll));
        assert_eq!(accepted("text/html,application/xhtml+xml,*/*;q=0.8"), Ok(Speaks::LongPoll));
    }

    #[test]
    fn all_lines_of_a_list_count() {
        let mut headers = HeaderMap::new();
        headers.append(ACCEPT, "application/json".parse().unwrap());
        headers.append(ACCEPT, EVENT_STREAM.parse().unwrap());
        assert_eq!(super::accept(&headers, &HeaderValue::from_static("application/json")).ok(), Some(Speaks::Events));
    }

    #[test]
    fn what_is_not_there_is_not_acceptable() {
        assert_eq!(accepted("text/html"), Err(StatusCode::NOT_ACCEPTABLE));
        assert_eq!(accepted("*/*;q=0"), Err(StatusCode::NOT_ACCEPTABLE));
        assert_eq!(accepted("application/json;q=0.000, */*"), Err(StatusCode::NOT_ACCEPTABLE));
    }

    #[test]
    fn a_wait_is_read_out_of_all_preferences() {
        let wait = |prefer: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(PREFER, prefer.parse().unwrap());
            prefer_wait(&headers).map(|wait| wait.as_secs())
        };
        assert_eq!(wait("wait=10"), Some(10));
        assert_eq!(wait("respond-async, Wait = \"7\"; x=y"), Some(7));
        assert_eq!(wait("wait=99999999999999999999999"), Some(u64::MAX));
        assert_eq!(wait("wait=0"), Some(0));
        assert_eq!(wait("wait"), None);
        assert_eq!(wait("wait="), None);
        assert_eq!(wait("wait=-1"), None);
        assert_eq!(wait("wait=soon"), None);
    }
}
