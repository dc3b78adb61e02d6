//! The shop in real browsers: two of one user, and a server that is killed in between.
//!
//! Needs Chromium and its driver (Debian: `chromium`, `chromium-driver`). Without the driver the test says so and passes,
//! unless `CLOAKROOM_BROWSER=required` is set. `CLOAKROOM_BROWSER=none` leaves it out.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

#[path = "../../../tests/support/server.rs"]
#[allow(dead_code, reason = "the test uses some of it")]
mod server;

use fantoccini::wd::Capabilities;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::json;
use server::Server;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Chromium's driver, running.
struct Driver {
    child: Child,
    url: String,
}

impl Driver {
    /// `None` if there is no driver.
    fn start() -> Option<Self> {
        let mut child = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| {
            let line = line.unwrap();
            let (_, port) = line.rsplit_once("successfully on port ")?;
            Some(port.trim_end_matches('.').to_owned())
        });
        // The driver must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let url = format!("http://127.0.0.1:{}", port.expect("the driver's port"));
        Some(Self { child, url })
    }

    /// A browser with a profile of its own.
    async fn browser(&self) -> Client {
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
        ];
        let mut capabilities = Capabilities::new();
        capabilities.insert(
            "goog:chromeOptions".to_owned(),
            json!({ "args": arguments }),
        );
        let mut builder = ClientBuilder::new(HttpConnector::new());
        let connecting = builder.capabilities(capabilities).connect(&self.url);
        let client = connecting.await.expect("a browser");
        client.set_window_size(390, 844).await.unwrap();
        client
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A visitor of the shop.
struct Visitor {
    browser: Client,
    shop: String,
}

impl Visitor {
    async fn open(&self, path: &str) {
        let url = format!("http://{}{path}", self.shop);
        self.browser.goto(&url).await.unwrap();
    }

    async fn type_into(&self, id: &str, text: &str) {
        let field = self.browser.find(Locator::Id(id)).await.unwrap();
        field.send_keys(text).await.unwrap();
    }

    /// Presses the first button or link whose text or label is this, and waits for the next page.
    async fn press(&self, text: &str) {
        let xpath = format!(
            "//main//button[normalize-space()='{text}' or @aria-label='{text}'] | //nav//button[normalize-space()='{text}']"
        );
        let button = self.browser.find(Locator::XPath(&xpath)).await;
        button
            .unwrap_or_else(|e| panic!("{text}: {e}"))
            .click()
            .await
            .unwrap();
    }

    /// What the page shows; nothing while it is replaced by the next one.
    async fn text(&self) -> String {
        match self.browser.find(Locator::Css("body")).await {
            Ok(body) => body.text().await.unwrap_or_default(),
            Err(_) => String::new(),
        }
    }

    /// Waits until the page has this text.
    async fn sees(&self, text: &str) {
        for _ in 0..600 {
            if self.text().await.contains(text) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("no {text:?} in: {}", self.text().await);
    }

    /// Loads a page of the user until it asks for the login. For ten seconds after a session has ended, a request
    /// under its id cannot begin another one, as a form does.
    async fn is_asked_to_log_in(&self) {
        for _ in 0..60 {
            self.open("/devices").await;
            let text = self.text().await;
            assert!(
                !text.contains("Your devices") && !text.contains("Log out ann"),
                "{text}"
            );
            if text.contains("Remember me") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        panic!("{}", self.text().await);
    }

    async fn enter(&self, page: &str, button: &str) {
        self.open(page).await;
        self.type_into("name", "ann").await;
        self.type_into("password", "correct horse").await;
        let remember = self
            .browser
            .find(Locator::Css("input[name=remember]"))
            .await;
        remember.unwrap().click().await.unwrap();
        self.press(button).await;
        self.sees("Welcome, ann.").await;
    }
}

/// Starts the shop at an address; port 0 is any free one.
fn start(folder: &Path, address: &str) -> Server {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shop"));
    command.args(["--listen", address, "--data"]);
    Server::spawn(command.arg(folder))
}

#[tokio::test]
async fn two_browsers_of_one_user_and_a_server_that_is_killed() {
    let wanted = std::env::var("CLOAKROOM_BROWSER").unwrap_or_default();
    let driver = (wanted != "none").then(Driver::start).flatten();
    let Some(driver) = driver else {
        assert_ne!(wanted, "required", "chromedriver is not installed");
        eprintln!("\n*** NOT TESTED: there is no chromedriver (Debian: chromium-driver) ***\n");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), "127.0.0.1:0");
    let shop = server.address().to_owned();
    let visitor = async || Visitor {
        browser: driver.browser().await,
        shop: shop.clone(),
    };
    let (desk, phone) = (visitor().await, visitor().await);

    // A cart from before the login is kept by it. The message is shown once.
    desk.open("/").await;
    desk.press("Put Darjeeling, 100 g into the cart").await;
    desk.sees("Darjeeling, 100 g: put into your cart.").await;
    desk.open("/").await;
    assert!(!desk.text().await.contains("put into your cart."));
    desk.enter("/register", "Register").await;
    phone.enter("/login", "Log in").await;
    desk.open("/devices").await;
    desk.sees("this one").await;
    desk.sees("Log out there").await;

    // A page that stays open follows the cart.
    desk.open("/live").await;
    desk.sees("1 in your cart").await;
    desk.sees("connected").await;

    server.kill();
    let server = start(folder.path(), &shop);
    desk.open("/cart").await;
    desk.sees("1 × Darjeeling, 100 g").await;
    desk.sees("Log out ann").await;
    phone.open("/devices").await;
    phone.sees("Log out there").await;

    // One logs the other out.
    desk.open("/devices").await;
    desk.press("Log out there").await;
    desk.sees("That device is logged out.").await;
    server.kill();
    let _server = start(folder.path(), &shop);
    phone.is_asked_to_log_in().await;
    desk.open("/devices").await;
    desk.sees("this one").await;
    assert!(!desk.text().await.contains("Log out there"));

    // Hostile text stays text.
    desk.press("Log out ann").await;
    desk.sees("Register").await;
    desk.open("/cart").await;
    desk.sees("It is empty.").await;
    for visitor in [desk, phone] {
        visitor.browser.close().await.unwrap();
    }
}
