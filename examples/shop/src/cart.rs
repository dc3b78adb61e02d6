//! The shelf and the cart.

use crate::answers::ShopError;
use crate::pages::Page;
use axum::extract::Form;
use axum::response::{IntoResponse, Redirect, Response};
use cloakroom::http::FlashMessage;
use cloakroom::{Package, Pkg};
use minijinja::context;
use minijinja::value::Serde;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const SHELF: [(&str, &str, u32); 4] = [
    ("tea", "Darjeeling, 100 g", 690),
    ("cup", "A cup for it", 950),
    ("pot", "A pot for four", 3400),
    ("spoon", "A spoon", 320),
];

/// The visitor's cart: how many of each article.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Cart {
    articles: BTreeMap<String, u32>,
}

impl Package for Cart {
    const ID: &'static str = "shop.cart";
}

impl Cart {
    pub(crate) fn count(&self) -> u32 {
        self.articles
            .values()
            .fold(0, |sum, n| sum.saturating_add(*n))
    }
}

#[derive(Serialize)]
struct Line {
    id: &'static str,
    name: &'static str,
    price: String,
    count: u32,
}

fn lines(cart: &Cart) -> Vec<Line> {
    let line = |(id, name, cents): &(&'static str, &'static str, u32)| Line {
        id,
        name,
        price: euros(u64::from(*cents)),
        count: cart.articles.get(*id).copied().unwrap_or(0),
    };
    SHELF.iter().map(line).collect()
}

fn euros(cents: u64) -> String {
    format!("{}.{:02} €", cents / 100, cents % 100)
}

fn sum(cart: &Cart) -> u64 {
    let cost = |(id, _, cents): &(&str, &str, u32)| {
        let count = cart.articles.get(*id).copied().unwrap_or(0);
        u64::from(*cents) * u64::from(count)
    };
    SHELF.iter().map(cost).sum()
}

#[derive(Deserialize)]
pub(crate) struct Article {
    id: String,
}

impl Article {
    fn name(&self) -> Option<&'static str> {
        let found = SHELF.iter().find(|(id, _, _)| *id == self.id);
        found.map(|(_, name, _)| *name)
    }
}

/// The template reads the cart from the session by itself.
pub(crate) async fn shelf(page: Page) -> Result<Response, ShopError> {
    let content = context! { articles => Serde(lines(&Cart::default())) };
    page.show("shelf.html", content)
}

pub(crate) async fn show(page: Page, cart: Pkg<Cart>) -> Result<Response, ShopError> {
    let articles = lines(&cart).into_iter().filter(|line| line.count > 0);
    let content = context! {
        articles => Serde(articles.collect::<Vec<_>>()),
        sum => euros(sum(&cart)),
    };
    page.show("cart.html", content)
}

pub(crate) async fn add(
    mut cart: Pkg<Cart>,
    Form(article): Form<Article>,
) -> Result<Response, ShopError> {
    let Some(name) = article.name() else {
        let message = FlashMessage::error("There is no such article.");
        return Ok((message, Redirect::to("/")).into_response());
    };
    cart.update(|cart| {
        let count = cart.articles.entry(article.id.clone()).or_default();
        *count = count.saturating_add(1).min(99);
    })?;
    let message = FlashMessage::success(format!("{name}: put into your cart."));
    Ok((message, Redirect::to("/")).into_response())
}

pub(crate) async fn remove(
    mut cart: Pkg<Cart>,
    Form(article): Form<Article>,
) -> Result<Response, ShopError> {
    cart.update(|cart| {
        cart.articles.remove(&article.id);
    })?;
    Ok((FlashMessage::info("Taken out."), Redirect::to("/cart")).into_response())
}
