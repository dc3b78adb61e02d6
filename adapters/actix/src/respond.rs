//! Responses that tell the session layer something.

use actix_web::{HttpRequest, HttpResponse, Responder};
use cloakroom::http::{Abort, FlashMessage};
use http::Extensions;

use crate::answer::AnswerExtensions;

/// A response with a message for the page that the visitor sees next. The middleware stores the message when it commits.
///
/// ```
/// use actix_web::{Responder, web::Redirect};
/// use cloakroom::http::FlashMessage;
/// use cloakroom_actix::WithFlash;
///
/// async fn save() -> impl Responder {
///     let message = FlashMessage::success("Your address was saved.");
///     WithFlash(message, Redirect::to("/account").see_other())
/// }
/// # drop(actix_web::web::resource("/").to(save));
/// ```
///
/// It needs no session argument. A response that does not commit stores no message.
#[derive(Clone, Debug)]
pub struct WithFlash<R>(
    /// The message.
    pub FlashMessage,
    /// The response.
    pub R,
);

impl<R: Responder> Responder for WithFlash<R> {
    type Body = R::Body;

    fn respond_to(self, request: &HttpRequest) -> HttpResponse<R::Body> {
        let mut response = self.1.respond_to(request);
        tell(&mut response, |extensions| self.0.attach_to(extensions));
        response
    }
}

/// A response whose request's transaction aborts, whatever its status.
///
/// ```
/// use actix_web::Responder;
/// use cloakroom_actix::{Aborting, Error, Session};
///
/// async fn preview(session: Session) -> Result<impl Responder, Error> {
///     let n = session.pkg("cart").update("items", |n: Option<u64>| n.unwrap_or(0) + 1)?;
///     Ok(Aborting(format!("This would make {n} items.")))
/// }
/// # drop(actix_web::web::resource("/").to(preview));
/// ```
///
/// What [`commit_now`](cloakroom::Session::commit_now) stored before stays.
#[derive(Clone, Debug)]
pub struct Aborting<R>(
    /// The response.
    pub R,
);

impl<R: Responder> Responder for Aborting<R> {
    type Body = R::Body;

    fn respond_to(self, request: &HttpRequest) -> HttpResponse<R::Body> {
        let mut response = self.0.respond_to(request);
        tell(&mut response, |extensions| {
            extensions.insert(Abort);
        });
        response
    }
}

/// Changes the extensions that the session layer reads.
fn tell<B>(response: &mut HttpResponse<B>, change: impl FnOnce(&mut Extensions)) {
    let mut extensions = response.extensions_mut();
    let present = extensions.remove::<AnswerExtensions>();
    let mut present = present.map_or_else(Extensions::new, |AnswerExtensions(it)| it);
    change(&mut present);
    extensions.insert(AnswerExtensions(present));
}
