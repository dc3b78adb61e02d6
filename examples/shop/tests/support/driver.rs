//! Real browsers, and what a visitor does in them.

use fantoccini::key::Key;
use fantoccini::wd::Capabilities;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use std::io::{self, BufRead, BufReader, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Chromium's driver, running.
pub(crate) struct Driver {
    child: Child,
    url: String,
}

/// The screen of a browser, and the scheme of colours that its user prefers.
pub(crate) enum Look {
    Phone,
    Desk,
    DarkPhone,
    DarkDesk,
    /// A desk, where pages run no scripts.
    WithoutScripts,
}

impl Look {
    fn options(&self) -> Value {
        let mut arguments = vec![
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--window-size=1280,900",
        ];
        if matches!(self, Self::DarkPhone | Self::DarkDesk) {
            arguments.push("--blink-settings=preferredColorScheme=0");
        }
        if let Self::WithoutScripts = self {
            let blocked = json!({ "profile.managed_default_content_settings.javascript": 2 });
            return json!({ "args": arguments, "prefs": blocked });
        }
        let metrics = json!({ "width": 320, "height": 800, "pixelRatio": 2.0 });
        match self {
            Self::Phone | Self::DarkPhone => json!({
                "args": arguments,
                "mobileEmulation": { "deviceMetrics": metrics },
            }),
            Self::Desk | Self::DarkDesk | Self::WithoutScripts => json!({ "args": arguments }),
        }
    }
}

impl Driver {
    /// `None` if there is no driver, or none is wanted.
    pub(crate) fn start() -> Option<Self> {
        let wanted = std::env::var("CLOAKROOM_BROWSER").unwrap_or_default();
        let driver = (wanted != "none").then(Self::spawn).flatten();
        if driver.is_none() {
            assert_ne!(wanted, "required", "chromedriver is not installed");
            eprintln!("\n*** NOT TESTED: there is no chromedriver (Debian: chromium-driver) ***\n");
        }
        driver
    }

    fn spawn() -> Option<Self> {
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

    /// A visitor whose browser has a profile of its own.
    pub(crate) async fn visitor(&self, shop: &str, look: Look) -> Visitor {
        let mut capabilities = Capabilities::new();
        capabilities.insert("goog:chromeOptions".to_owned(), look.options());
        let mut builder = ClientBuilder::new(HttpConnector::new());
        let connecting = builder.capabilities(capabilities).connect(&self.url);
        Visitor {
            browser: connecting.await.expect("a browser"),
            shop: shop.to_owned(),
        }
    }
}

impl Driver {
    /// Asks the driver to end. It ends its browsers first, which a kill would leave behind.
    fn shut_down(&self) -> io::Result<()> {
        let address = self.url.trim_start_matches("http://");
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(
            stream,
            "GET /shutdown HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
        )?;
        io::copy(&mut stream, &mut io::sink())?;
        Ok(())
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if self.shut_down().is_err() {
            drop(self.child.kill());
        }
        drop(self.child.wait());
    }
}

/// A visitor of the shop.
pub(crate) struct Visitor {
    pub(crate) browser: Client,
    shop: String,
}

impl Visitor {
    pub(crate) async fn open(&self, path: &str) {
        let url = format!("http://{}{path}", self.shop);
        self.browser.goto(&url).await.unwrap();
    }

    pub(crate) async fn type_into(&self, id: &str, text: &str) {
        let field = self.browser.find(Locator::Id(id)).await.unwrap();
        field.clear().await.unwrap();
        field.send_keys(text).await.unwrap();
    }

    /// Presses the first button whose text or label is this or begins with it and a colon, once the page has it.
    pub(crate) async fn press(&self, text: &str) {
        let xpath = format!(
            "//button[normalize-space()='{text}' or @aria-label='{text}' or starts-with(@aria-label, '{text}:')]"
        );
        let wait = self.browser.wait().at_most(Duration::from_secs(30));
        let button = wait.for_element(Locator::XPath(&xpath)).await;
        let button = button.unwrap_or_else(|e| panic!("{text}: {e}"));
        button.click().await.unwrap();
    }

    /// What the page shows; nothing while it is replaced by the next one.
    pub(crate) async fn text(&self) -> String {
        match self.browser.find(Locator::Css("body")).await {
            Ok(body) => body.text().await.unwrap_or_default(),
            Err(_) => String::new(),
        }
    }

    /// Waits until the page has this text.
    pub(crate) async fn sees(&self, text: &str) {
        for _ in 0..600 {
            if self.text().await.contains(text) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("no {text:?} in: {}", self.text().await);
    }

    pub(crate) async fn script(&self, script: &str) -> Value {
        let script = format!("return {script}");
        self.browser.execute(&script, vec![]).await.unwrap()
    }

    pub(crate) async fn enter(&self, page: &str, button: &str, name: &str) {
        self.open(page).await;
        self.type_into("name", name).await;
        self.type_into("password", "correct horse").await;
        let remember = Locator::Css("input[name=remember]");
        let remember = self.browser.find(remember).await.unwrap();
        remember.click().await.unwrap();
        self.press(button).await;
        self.sees(&format!("Welcome, {name}.")).await;
    }

    /// Types into what has the focus.
    pub(crate) async fn keys(&self, keys: &str) {
        let focused = self.browser.active_element().await.unwrap();
        focused.send_keys(keys).await.unwrap();
    }

    /// Goes on by the key Tab until this has the focus: by its text, its label or its id. The focus is visible.
    pub(crate) async fn tab_to(&self, name: &str) {
        let focused = "[document.activeElement.textContent.trim(), document.activeElement.ariaLabel, document.activeElement.id]";
        for _ in 0..40 {
            self.keys(&Key::Tab.to_string()).await;
            let names = self.script(focused).await;
            if names.as_array().unwrap().iter().any(|it| it == name) {
                let style = "getComputedStyle(document.activeElement).outlineStyle";
                assert_eq!(self.script(style).await, "solid", "{name}");
                return;
            }
        }
        panic!("the key Tab does not reach {name:?}");
    }

    /// Checks that the page needs no scrolling to the side; keeps a picture of it, if a folder is set.
    pub(crate) async fn fits(&self, picture: &str) {
        let sizes = "[document.documentElement.scrollWidth, innerWidth]";
        let sizes = self.script(sizes).await;
        let [content, window] = sizes.as_array().unwrap().as_slice() else {
            panic!("{sizes}");
        };
        assert!(content.as_u64() <= window.as_u64(), "{picture}: {sizes}");
        if let Ok(folder) = std::env::var("CLOAKROOM_SCREENSHOTS") {
            let file = format!("{folder}/{picture}.png");
            std::fs::write(file, self.browser.screenshot().await.unwrap()).unwrap();
        }
    }
}
