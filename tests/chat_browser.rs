//! Two windows of a real browser chat with each other.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

#[path = "support/browser.rs"]
mod browser;
#[path = "support/chat.rs"]
mod chat;

use std::time::Duration;

use fantoccini::elements::Element;
use fantoccini::key::Key;
use fantoccini::wd::WindowHandle;
use fantoccini::{Client, Locator};

use crate::browser::Browser;
use crate::chat::Chat;

/// How soon what is typed in one window is to be seen in the other.
const SOON: Duration = Duration::from_secs(1);

/// For what has a pace of its own: back-off, the list of people, the first load of the page.
const LATER: Duration = Duration::from_secs(20);

#[tokio::test]
#[ignore = "needs chromium and chromedriver: apt-get install chromium chromium-driver"]
async fn a_message_appears_in_the_other_window_within_a_second() {
    let chat = Chat::start(0);
    let browser = Browser::start();
    let (ann, ben) = two_windows(&browser, &chat).await;

    ann.say("Hello Ben").await;
    ben.sees_message("Ann", "Hello Ben", SOON).await;
    ben.say("Hello Ann").await;
    ann.sees_message("Ben", "Hello Ann", SOON).await;

    for window in [&ann, &ben] {
        for name in ["Ann", "Ben"] {
            window.sees(&format!("//*[@id='people']//span[starts-with(., '{name}')]"), LATER).await;
        }
        window.sees("//*[@id='parked'][. = '2 requests parked now']", LATER).await;
    }
}

#[tokio::test]
#[ignore = "needs chromium and chromedriver: apt-get install chromium chromium-driver"]
async fn chatting_goes_on_in_both_windows_after_the_server_was_restarted() {
    let chat = Chat::start(0);
    let browser = Browser::start();
    let (ann, ben) = two_windows(&browser, &chat).await;
    ann.say("Before").await;
    ben.sees_message("Ann", "Before", SOON).await;

    let port = chat.addr.port();
    chat.kill();
    for window in [&ann, &ben] {
        window.sees("//*[@id='status'][. = 'Reconnecting…']", LATER).await;
    }
    ann.say("Meanwhile").await;
    ann.sees("//*[@id='notice'][starts-with(., 'Not sent')]", LATER).await;

    let _chat = Chat::start(port);
    for window in [&ann, &ben] {
        window.sees("//*[@id='status'][. = 'Connected']", LATER).await;
        window.sees("//li[. = 'The server was restarted']", SOON).await;
        window.sees_message("Ann", "Before", SOON).await;
    }
    ann.press_enter().await;
    ben.sees_message("Ann", "Meanwhile", SOON).await;
    ben.say("Afterwards").await;
    ann.sees_message("Ben", "Afterwards", SOON).await;
}

#[tokio::test]
#[ignore = "needs chromium and chromedriver: apt-get install chromium chromium-driver"]
async fn markup_in_a_message_is_shown_and_not_run() {
    let chat = Chat::start(0);
    let browser = Browser::start();
    let (ann, ben) = two_windows(&browser, &chat).await;
    for text in ["<script>document.title = 1</script>", "<img src=x onerror=document.title=1>", "<b>&amp;</b>"] {
        ann.say(text).await;
        ben.sees_message("Ann", text, SOON).await;
        ann.sees_message("Ann", text, SOON).await;
    }
    ben.take_name("<script>document.title = 2</script>").await;
    ann.sees("//*[@id='people']//span[. = '<script>document.title = 2</script>']", LATER).await;
    for window in [&ann, &ben] {
        window.front().await;
        assert_eq!(window.client.title().await.unwrap(), "Chat");
        let inside = window.client.find_all(Locator::Css(":is(#messages, #people) :is(script, img, .text *)")).await;
        assert!(inside.unwrap().is_empty(), "a message became an element");
    }
}

// ===== helpers =====

/// One of the windows. The driver drives the one in front, so each step brings its own there first.
struct Window {
    client: Client,
    handle: WindowHandle,
}

async fn two_windows(browser: &Browser, chat: &Chat) -> (Window, Window) {
    let client = browser.session().await;
    let first = client.window().await.unwrap();
    let second = client.new_window(false).await.unwrap().handle;
    let ann = Window { client: client.clone(), handle: first };
    let ben = Window { client, handle: second };
    for (window, name) in [(&ann, "Ann"), (&ben, "Ben")] {
        window.front().await;
        window.client.goto(&format!("http://{}/", chat.addr)).await.unwrap();
        window.sees("//*[@id='status'][. = 'Connected']", LATER).await;
        window.take_name(name).await;
    }
    (ann, ben)
}

impl Window {
    async fn front(&self) {
        self.client.switch_to_window(self.handle.clone()).await.unwrap();
    }

    async fn element(&self, id: &str) -> Element {
        self.front().await;
        self.client.find(Locator::Id(id)).await.unwrap()
    }

    async fn take_name(&self, name: &str) {
        let [control, null, enter] = [Key::Control, Key::Null, Key::Enter].map(char::from);
        let keys = format!("{control}a{null}{name}{enter}");
        self.element("name").await.send_keys(&keys).await.unwrap();
        let typed = self.element("text").await.prop("value").await.unwrap();
        assert_eq!(typed.as_deref(), Some(""), "the key that ends the name is no part of a message");
    }

    async fn say(&self, text: &str) {
        self.element("text").await.send_keys(text).await.unwrap();
        self.press_enter().await;
    }

    async fn press_enter(&self) {
        self.element("text").await.send_keys(&char::from(Key::Enter).to_string()).await.unwrap();
    }

    async fn sees_message(&self, name: &str, text: &str, within: Duration) {
        self.sees(&format!("//li[.//b = '{name}']/p[. = '{text}']"), within).await;
    }

    async fn sees(&self, xpath: &str, within: Duration) {
        self.front().await;
        let often = Duration::from_millis(10);
        let seen = self.client.wait().at_most(within).every(often).for_element(Locator::XPath(xpath)).await;
        assert!(seen.is_ok(), "{xpath} is not in the page after {within:?}: {seen:?}");
    }
}
