//! Committing a request's session before the request ends.

use super::Session;
use crate::error::Result;
use crate::transaction::CommitProspect;

impl Session {
    /// Commits what the request did so far, and goes on in a new transaction: for a handler that does something afterwards
    /// which takes long, or which must not happen unless the changes are durable, such as a payment.
    ///
    /// The handler gets the error if the commit fails. Then nothing of the changes was stored
    /// ([`OutcomeUnknown`](crate::ErrorKind::OutcomeUnknown) aside), and they are gone from the new transaction too.
    ///
    /// This session and all handles of the request belong to the new transaction then, which sees the store anew: values
    /// that were read before may have changed. While this runs, they give [`Closed`](crate::ErrorKind::Closed), and they
    /// stay so if the future is dropped before it ends. A commit that was queued by then completes all the same, and the
    /// response waits for it and carries its cookies. Savepoints set before are gone.
    ///
    /// From the call on, the request is not run again after a conflict, whatever [`Rerun`](crate::http::Rerun) says. After
    /// it, the request holds no turn: others of the same visitor go ahead, and a later conflict is answered with 503.
    /// The response carries the session's cookie even if its status aborts the rest, unless the session has ended
    /// meanwhile. (If the handler panics, there is no response of the layer to carry it.)
    ///
    /// ```
    /// # #[cfg(feature = "axum")] {
    /// use axum::{Router, routing::post};
    /// use cloakroom::{Error, Session, Store, http::SessionLayer};
    ///
    /// async fn pay() -> Result<&'static str, Error> {
    ///     Ok("receipt 7") // takes long
    /// }
    ///
    /// async fn order(session: Session) -> Result<String, Error> {
    ///     let order = session.pkg("shop.order");
    ///     order.insert("state", "paying")?;
    ///     session.commit_now().await?; // durable before the payment begins
    ///     let receipt = pay().await?;
    ///     order.insert("state", "paid")?;
    ///     Ok(receipt.to_owned())
    /// }
    ///
    /// let app: Router = Router::new()
    ///     .route("/order", post(order))
    ///     .layer(SessionLayer::new(Store::in_memory()?));
    /// # }
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`commit`](crate::Transaction::commit); [`NotAdmitted`](crate::ErrorKind::NotAdmitted) and
    /// [`MissingClientId`](crate::ErrorKind::MissingClientId) if the layer's settings refuse the session that would be
    /// created, the latter also if a session that a URL or a form found would have an owner; [`Closed`](crate::ErrorKind::Closed) after the response was made, or while another call of this runs;
    /// [`Unsupported`](crate::ErrorKind::Unsupported) for a session that no layer made.
    pub fn commit_now(&self) -> impl Future<Output = Result<()>> + Send + use<> {
        let (txn, subject) = (self.txn.clone(), self.subject);
        // Boxed: a handler's future holds it, and few handlers use it.
        Box::pin(async move { txn.commit_now(subject).await })
    }
}

impl CommitProspect for Session {
    fn founds(&mut self) -> Result<bool> {
        // A transaction that has ended founds nothing.
        let founds = self.with(|state| Ok(state.founds(self.subject)));
        founds.unwrap_or(Ok(false))
    }

    #[cfg(feature = "url-ids")]
    fn has_owner(&mut self) -> Result<bool> {
        Ok(self.owner()?.is_some())
    }
}
