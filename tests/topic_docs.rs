//! What `docs/topics.md` tells clients to do, done as it stands there.
#![cfg(all(feature = "acceptor", feature = "json"))]
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

#[path = "support/browser.rs"]
mod browser;
#[path = "support/serve.rs"]
mod support;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use fantoccini::{Client, Locator};
use form_urlencoded::parse;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_deferred::topic::http::{Builder, TopicBody, TopicService};
use hyper_deferred::{Topic, Topics, topic};
use serde_json::{Value, json};

use crate::browser::Browser;
use crate::support::{Served, serve};

const DOCS: &str = include_str!("../docs/topics.md");

/// For the first load of a page, and the browser's coming back.
const LATER: Duration = Duration::from_secs(20);

/// The blocks of code in `language`, in their order.
fn blocks(language: &str) -> Vec<&'static str> {
    let begin = format!("```{language}\n");
    DOCS.split(&*begin).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

/// The server that the docs speak of, and the pages that try the scripts.
struct Site {
    topic: Topic<Value>,
    rooms: Topics<Value>,
    served: Served,
}

impl Site {
    fn serve() -> Self {
        let topic = topic::Builder::new(topic::Json).history_count_max(3).build();
        let rooms = topic::Builder::new(topic::Json).registry(100, Duration::from_secs(3600));
        let one = Builder::new(topic.clone()).retry(Duration::from_millis(100)).publish_json(1000).build();
        let opened = rooms.clone();
        let several = Builder::find_several(move |request| {
            let query = request.uri.query().unwrap_or_default().as_bytes();
            let names = parse(query).filter(|(key, _)| key == "room").map(|(_, name)| name.into_owned());
            Ok(names.map(|name| (name.clone(), opened.open(&name).unwrap())).collect())
        });
        let several = several.build();
        Self {
            topic,
            rooms,
            served: serve(move || service_fn(move |request| answer(one.clone(), several.clone(), request))),
        }
    }

    /// Runs a line of shell, with this server in the place of the one that it names.
    fn shell(&self, line: &str) -> Command {
        assert!(line.starts_with("curl ") && line.contains("http://localhost:8080/"), "{line}");
        let line = line
            .replace("curl ", "exec curl --silent --max-time 20 ")
            .replace("localhost:8080", &self.served.addr.to_string());
        let mut shell = Command::new("sh");
        shell.args(["-c", &line]).stdin(Stdio::null());
        shell
    }

    fn output(&self, line: &str) -> String {
        let output = self.shell(line).output().unwrap();
        assert!(output.status.success(), "{line}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The first line of a stream that begins with `begin`.
    fn streams(&self, line: &str, begin: &str, publish: impl FnOnce()) -> String {
        let mut curl = self.shell(line).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(curl.stdout.take().unwrap()).lines().map(Result::unwrap);
        lines.find(|line| line.starts_with("id: ")).unwrap();
        publish();
        let found = lines.find(|line| line.starts_with(begin)).unwrap();
        curl.kill().unwrap();
        curl.wait().unwrap();
        found
    }
}

async fn answer(
    one: TopicService<Value>,
    several: TopicService<Value>,
    request: Request<Incoming>,
) -> Result<Response<TopicBody<Value>>, std::convert::Infallible> {
    let [long_poll, events] = <[&str; 2]>::try_from(blocks("js")).unwrap();
    let page = |script: String| {
        let text = format!(
            "<!doctype html><title>docs</title><ol></ol><script>\n\
             const show = text => document.querySelector('ol').append(Object.assign(document.createElement('li'), {{ textContent: text }}));\n\
             const url = '/topic', onMissed = missed => show(`missed ${{missed}}`);\n\
             const onMessages = messages => messages.forEach(message => show(JSON.stringify(message)));\n\
             {script}</script>"
        );
        let response = Response::builder().header("content-type", "text/html; charset=utf-8");
        response.body(TopicBody::from(bytes::Bytes::from(text))).unwrap()
    };
    match request.uri().path() {
        "/topic" => Service::call(&one, request).await,
        "/topics" => Service::call(&several, request).await,
        "/long_poll" => Ok(page(format!("{long_poll}\nfollow(url, onMessages, onMissed);"))),
        "/events" => Ok(page(events.to_owned())),
        _ => Ok(Response::builder().status(404).body(TopicBody::default()).unwrap()),
    }
}

#[test]
fn the_lines_for_curl_do_what_is_said_beside_them() {
    let site = Site::serve();
    let [one, several] = <[&str; 2]>::try_from(blocks("sh")).unwrap();
    let [latest, after, oldest, stream, publish] = <[&str; 5]>::try_from(one.lines().collect::<Vec<_>>()).unwrap();
    let answer = site.output(latest);
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
    assert!(answer.contains(&format!("\netag: \"{}\"\r\n", site.topic.latest())), "{answer}");
    let answer = site.output(publish);
    assert_eq!(answer, format!("{{\"cursor\":\"{}\",\"waiting\":0}}\n", site.topic.latest()));
    let said = r#"[{"text":"hello"}]"#;
    let answer = site.output(oldest);
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(said), "{answer}");
    // The cursor that stands there is from another life.
    let answer = site.output(after);
    assert!(answer.contains("\ntopic-missed: unknown\r\n") && answer.ends_with(said), "{answer}");
    let data = site.streams(stream, "data: ", || {
        site.topic.publish(json!("news")).unwrap();
    });
    assert_eq!(data, r#"data: "news""#);

    let [latest, after, stream] = <[&str; 3]>::try_from(several.lines().collect::<Vec<_>>()).unwrap();
    let answer = site.output(latest);
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
    site.rooms.get("kitchen").unwrap().publish(json!("tea")).unwrap();
    let answer = site.output(after);
    let news = json!([
        { "topic": "garden", "missed": null, "messages": [] },
        { "topic": "kitchen", "missed": null, "messages": ["tea"] },
    ]);
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    assert_eq!(serde_json::from_str::<Value>(body).unwrap(), news);
    let data = site.streams(stream, "data: ", || {
        site.rooms.get("kitchen").unwrap().publish(json!("cake")).unwrap();
    });
    assert_eq!(data, r#"data: {"topic":"kitchen","message":"cake"}"#);
}

#[tokio::test]
#[ignore = "needs chromium and chromedriver: apt-get install chromium chromium-driver"]
async fn the_scripts_follow_a_topic_in_a_browser() {
    let browser = Browser::start();
    let page = browser.session().await;
    for path in ["long_poll", "events"] {
        let site = Site::serve();
        page.goto(&format!("http://{}/{path}", site.served.addr)).await.unwrap();
        while site.topic.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        for message in [json!("one"), json!({ "two": [2] }), json!("three\nlines")] {
            site.topic.publish(message).unwrap();
        }
        shows(&page, &[r#""one""#, r#"{"two":[2]}"#, r#""three\nlines""#]).await;
    }
    page.close().await.unwrap();
}

/// Waits until the page shows these lines, and no others.
async fn shows(page: &Client, expected: &[&str]) {
    let last = format!("//li[{}]", expected.len());
    page.wait().at_most(LATER).for_element(Locator::XPath(&last)).await.unwrap();
    let mut shown = Vec::new();
    for item in page.find_all(Locator::Css("li")).await.unwrap() {
        shown.push(item.text().await.unwrap());
    }
    assert_eq!(shown, expected);
}
