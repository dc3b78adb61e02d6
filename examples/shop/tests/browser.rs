//! The shop in real browsers: two of one user, a server that is killed in between, a keyboard, and sizes and colours.
//!
//! Needs Chromium and its driver (Debian: `chromium`, `chromium-driver`). Without the driver the tests say so and pass,
//! unless `CLOAKROOM_BROWSER=required` is set. `CLOAKROOM_BROWSER=none` leaves them out. With
//! `CLOAKROOM_SCREENSHOTS=FOLDER` they keep pictures.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

#[path = "support/driver.rs"]
#[allow(dead_code, reason = "the test uses some of it")]
mod driver;
#[path = "../../../tests/support/server.rs"]
#[allow(dead_code, reason = "the test uses some of it")]
mod server;
#[path = "support/visitor.rs"]
#[allow(dead_code, reason = "the test uses some of it")]
mod visitor;

use driver::{Driver, Look, Visitor};
use fantoccini::key::Key;
use visitor::start;

#[tokio::test]
async fn two_browsers_of_one_user_and_a_server_that_is_killed() {
    let Some(driver) = Driver::start() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), "127.0.0.1:0", &[]);
    let shop = server.address().to_owned();
    let desk = driver.visitor(&shop, Look::Desk).await;
    let phone = driver.visitor(&shop, Look::Phone).await;

    // A cart from before the login is kept by it. The message is shown once.
    desk.open("/").await;
    desk.press("Put into the cart: Darjeeling, 100 g").await;
    desk.sees("Darjeeling, 100 g: put into your cart.").await;
    desk.open("/").await;
    assert!(!desk.text().await.contains("put into your cart."));
    desk.enter("/register", "Register", "ann").await;
    phone.enter("/login", "Log in", "ann").await;
    desk.open("/devices").await;
    desk.sees("this one").await;
    desk.sees("Log out there").await;

    // Hostile text stays text.
    let hostile = "<img src=x onerror=document.title=1>";
    phone.open("/devices").await;
    phone.type_into("label", hostile).await;
    phone.press("Rename").await;
    phone.sees("This device has its name.").await;
    for visitor in [&desk, &phone] {
        visitor.open("/devices").await;
        visitor.sees(hostile).await;
        assert_eq!(visitor.script("document.images.length").await, 0);
    }

    server.kill();
    let server = start(folder.path(), &shop, &[]);
    desk.open("/cart").await;
    desk.sees("1 × Darjeeling, 100 g").await;
    desk.sees("Log out ann").await;
    phone.open("/devices").await;
    phone.sees("Log out there").await;

    // One logs the other out, whose open page notices it.
    phone.open("/live").await;
    phone.sees("connected").await;
    desk.open("/devices").await;
    desk.press("Log out there").await;
    desk.sees("That device is logged out.").await;
    phone.sees("your session has ended").await;
    server.kill();
    let _server = start(folder.path(), &shop, &[]);
    phone.open("/devices").await;
    phone.sees("Remember me").await;
    assert!(!phone.text().await.contains("Log out ann"));
    desk.open("/devices").await;
    desk.sees("this one").await;
    assert!(!desk.text().await.contains("Log out there"));

    desk.press("Log out ann").await;
    desk.sees("You are logged out").await;
    desk.open("/cart").await;
    desk.sees("It is empty.").await;
    close([desk, phone]).await;
}

#[tokio::test]
async fn an_open_page_follows_the_cart_and_the_login_of_another_tab() {
    let Some(driver) = Driver::start() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), "127.0.0.1:0", &[]);
    let visitor = driver.visitor(server.address(), Look::Desk).await;
    visitor.open("/").await;
    visitor.press("Put into the cart: A spoon").await;
    visitor.sees("1 in your cart").await;
    visitor.open("/live").await;
    visitor.sees("connected").await;
    // Another tab of the same browser logs in, which changes the session's id, and puts something into the cart.
    let first = visitor.browser.window().await.unwrap();
    let second = visitor.browser.new_window(true).await.unwrap();
    visitor
        .browser
        .switch_to_window(second.handle)
        .await
        .unwrap();
    visitor.enter("/register", "Register", "ann").await;
    visitor.press("Put into the cart: A spoon").await;
    visitor.sees("2 in your cart").await;
    visitor.browser.switch_to_window(first).await.unwrap();
    visitor.sees("2 in your cart").await;
    visitor.sees("connected").await;
    close([visitor]).await;
}

#[tokio::test]
async fn a_purchase_and_a_login_by_the_keyboard_alone() {
    let Some(driver) = Driver::start() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), "127.0.0.1:0", &[]);
    let visitor = driver.visitor(server.address(), Look::Desk).await;
    let enter = Key::Enter.to_string();
    visitor.open("/").await;
    visitor.tab_to("Skip to the content").await;
    visitor.keys(&enter).await;
    visitor.tab_to("Put into the cart: A cup for it").await;
    visitor.keys(&enter).await;
    visitor.sees("A cup for it: put into your cart.").await;
    visitor.tab_to("Register").await;
    visitor.keys(&enter).await;
    visitor.sees("8 to 128 characters.").await;
    visitor.tab_to("name").await;
    visitor.keys("ann").await;
    visitor.tab_to("password").await;
    visitor.keys("correct horse").await;
    visitor.keys(&enter).await;
    visitor.sees("Welcome, ann.").await;
    visitor.tab_to("Log out ann").await;
    visitor.keys(&enter).await;
    visitor.sees("You are logged out").await;
    visitor.tab_to("Log in").await;
    visitor.keys(&enter).await;
    visitor.sees("Remember me").await;
    visitor.tab_to("name").await;
    visitor.keys("ann").await;
    visitor.tab_to("password").await;
    visitor.keys("wrong horse").await;
    visitor.keys(&enter).await;
    // The focus is where the problem is.
    visitor.sees("The name or the password is wrong.").await;
    assert_eq!(
        visitor.script("document.activeElement.id").await,
        "password"
    );
    visitor.keys("correct horse").await;
    visitor.keys(&enter).await;
    visitor.sees("Welcome, ann.").await;
    close([visitor]).await;
}

#[tokio::test]
async fn every_page_fits_a_phone_and_a_desk_in_light_and_dark() {
    let Some(driver) = Driver::start() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), "127.0.0.1:0", &[]);
    let looks = [
        ("phone", Look::Phone, 320),
        ("desk", Look::Desk, 1280),
        ("phone-dark", Look::DarkPhone, 320),
        ("desk-dark", Look::DarkDesk, 1280),
    ];
    for (number, (picture, look, width)) in looks.into_iter().enumerate() {
        let is_dark = picture.ends_with("dark");
        let visitor = driver.visitor(server.address(), look).await;
        visitor.open("/register").await;
        assert_eq!(visitor.script("innerWidth").await, width);
        let dark = "matchMedia('(prefers-color-scheme: dark)').matches";
        assert_eq!(visitor.script(dark).await, is_dark, "{picture}");
        let ground = "getComputedStyle(document.body).backgroundColor";
        let wanted = if is_dark {
            "rgb(21, 20, 15)"
        } else {
            "rgb(246, 243, 236)"
        };
        assert_eq!(visitor.script(ground).await, wanted, "{picture}");
        visitor.fits(&format!("{picture}-register")).await;
        visitor.type_into("name", "a name").await;
        visitor.type_into("password", "correct horse").await;
        visitor.press("Register").await;
        visitor.sees("A name has").await;
        visitor.fits(&format!("{picture}-refused")).await;
        // The longest name there is: nothing breaks it but the style.
        let name = format!("{number}{}", "m".repeat(39));
        visitor.enter("/register", "Register", &name).await;
        visitor.press("Put into the cart: A pot for four").await;
        visitor.sees("A pot for four: put into your cart.").await;
        visitor.fits(&format!("{picture}-shelf")).await;
        visitor.open("/devices").await;
        visitor.type_into("label", &"w".repeat(40)).await;
        visitor.press("Rename").await;
        visitor.sees("This device has its name.").await;
        visitor.fits(&format!("{picture}-devices")).await;
        for page in ["cart", "live", "password", "login", "nowhere"] {
            visitor.open(&format!("/{page}")).await;
            visitor.fits(&format!("{picture}-{page}")).await;
        }
        close([visitor]).await;
    }
}

async fn close(visitors: impl IntoIterator<Item = Visitor>) {
    for visitor in visitors {
        visitor.browser.close().await.unwrap();
    }
}
