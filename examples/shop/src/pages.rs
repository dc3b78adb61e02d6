//! Templates, and what each page shows of the visitor.

use crate::answers::ShopError;
use crate::app::Shop;
use axum::extract::{FromRef, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use cloakroom::Session;
use cloakroom::http::{CsrfToken, Flash};
use cloakroom::minijinja::{add_path, csrf_input, messages};
use minijinja::{Environment, Value, context};
use std::sync::Arc;

#[derive(Clone)]
pub(crate) struct Pages(Arc<Environment<'static>>);

impl FromRef<Shop> for Pages {
    fn from_ref(shop: &Shop) -> Self {
        shop.pages.clone()
    }
}

impl Pages {
    pub(crate) fn new() -> Result<Self, minijinja::Error> {
        let mut pages = Environment::new();
        for (name, source) in [
            ("base.html", include_str!("templates/base.html")),
            ("bye.html", include_str!("templates/bye.html")),
            ("cart.html", include_str!("templates/cart.html")),
            ("devices.html", include_str!("templates/devices.html")),
            ("error.html", include_str!("templates/error.html")),
            ("live.html", include_str!("templates/live.html")),
            ("login.html", include_str!("templates/login.html")),
            ("password.html", include_str!("templates/password.html")),
            ("register.html", include_str!("templates/register.html")),
            ("shelf.html", include_str!("templates/shelf.html")),
        ] {
            pages.add_template(name, source)?;
        }
        add_path(&mut pages);
        Ok(Self(Arc::new(pages)))
    }

    /// The page of an error. It knows no session: the session may be what failed.
    pub(crate) fn error(&self, status: StatusCode, title: &str, text: &str) -> String {
        let page = self.0.get_template("error.html");
        let content = context! { status => status.as_u16(), title, text };
        let html = page.and_then(|page| page.render(content));
        html.unwrap_or_else(|_| title.to_owned())
    }
}

/// What a page needs of its request, as an extractor.
pub(crate) struct Page {
    pages: Pages,
    session: Session,
    /// Only a session has one: so a page that is merely looked at founds none.
    csrf: Option<CsrfToken>,
    path: String,
}

impl FromRequestParts<Shop> for Page {
    type Rejection = cloakroom::Error;

    async fn from_request_parts(parts: &mut Parts, shop: &Shop) -> Result<Self, Self::Rejection> {
        let session = <Session as FromRequestParts<Shop>>::from_request_parts(parts, shop).await?;
        let csrf = if session.exists()? {
            Some(CsrfToken::from_request_parts(parts, shop).await?)
        } else {
            None
        };
        Ok(Self {
            pages: shop.pages.clone(),
            session,
            csrf,
            path: parts.uri.path().to_owned(),
        })
    }
}

impl Page {
    /// Renders a page: its content, with the waiting messages, the visitor's name and the CSRF token. Templates read the
    /// session itself as `session`.
    pub(crate) fn show(&self, name: &str, content: Value) -> Result<Response, ShopError> {
        let user = self.session.owner()?;
        let is_logged_in = user.is_some();
        let visitor = context! {
            messages => messages(&Flash::of(&self.session))?,
            csrf => self.csrf.as_ref().map_or(Value::UNDEFINED, csrf_input),
            session => cloakroom::minijinja::session(&self.session),
            path => self.path.clone(),
            user,
        };
        let page = self.pages.0.get_template(name)?;
        let html = Html(page.render(context! { ..content, ..visitor })?);
        // Whose device it is next must not see it by the button "back".
        if is_logged_in {
            Ok(([(header::CACHE_CONTROL, "no-store")], html).into_response())
        } else {
            Ok(html.into_response())
        }
    }

    /// Shows a form again that has a problem. The content has it as `error`.
    pub(crate) fn show_again(
        &self,
        status: StatusCode,
        name: &str,
        content: Value,
    ) -> Result<Response, ShopError> {
        let mut response = self.show(name, content)?;
        *response.status_mut() = status;
        Ok(response)
    }
}
