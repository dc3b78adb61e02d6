//! Logging in and out, and the label of a session.

use super::Session;
use crate::client_id::ClientId;
use crate::error::Result;
use crate::storage::merge::check_name;
use crate::transaction::{TxnState, clients_of};
use chrono::{DateTime, Utc};

impl Session {
    /// Logs the owner in: gives the client a new id, as [`rotate`](Self::rotate) does, sets the owner, and notes the
    /// time as that of the authentication. If there is no session, this creates one under the new id.
    ///
    /// The session keeps its data, for example the cart that a visitor filled before. If it may be another owner's, end
    /// it first by [`destroy`](Self::destroy).
    ///
    /// The owner belongs to the session in all its containers. So the visitor stays logged in until the session has expired
    /// in the last of them. To bound this, set [`max_lifetime`](crate::ContainerSettings::max_lifetime) on each container
    /// that the session can live in: it counts from the log-in, also where the session begins in a container later.
    ///
    /// ```
    /// use cloakroom::Store;
    ///
    /// let store = Store::in_memory()?;
    /// let visitor = store.client_ids().issue();
    /// store.transact(|txn| txn.session(&visitor)?.pkg("cart").insert("tea", 2))?;
    ///
    /// // After the password was checked:
    /// let id = store.transact(|txn| {
    ///     let session = txn.session(&visitor)?;
    ///     session.set_label("Firefox on Linux")?;
    ///     session.log_in("ann")
    /// })?;
    ///
    /// let txn = store.begin()?;
    /// let session = txn.session(&id)?;
    /// assert_eq!(session.owner()?.as_deref(), Some("ann"));
    /// assert!(session.authenticated_at()?.is_some());
    /// assert_eq!(session.pkg("cart").get("tea")?, Some(2));
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`TooLarge`](crate::ErrorKind::TooLarge) if the owner exceeds the limit of names;
    /// [`NotAdmitted`](crate::ErrorKind::NotAdmitted) if the owner has
    /// [as many sessions as one may have](crate::StoreBuilder::max_sessions_per_owner); otherwise as for
    /// [`rotate`](Self::rotate).
    pub fn log_in(&self, owner: &str) -> Result<ClientId> {
        check_name("the owner", owner, self.txn.limits())?;
        self.with(|state| state.log_in(self.subject, owner))
    }

    /// [`log_in`](Self::log_in) as a future, which makes no thread of a runtime wait. The two differ only with a
    /// [limit of sessions per owner](crate::StoreBuilder::max_sessions_per_owner) on storage that is reached over a
    /// network: there, the sessions of the owner are fetched first.
    ///
    /// # Errors
    ///
    /// As for [`log_in`](Self::log_in).
    pub fn log_in_async(
        &self,
        owner: &str,
    ) -> impl Future<Output = Result<ClientId>> + Send + use<> {
        let (session, owner) = (self.clone(), owner.to_owned());
        async move {
            let (txn, subject) = (&session.txn, session.subject);
            check_name("the owner", &owner, txn.limits())?;
            txn.fetch(Some(subject)).await?;
            let looked = session.with(|state| state.look_for_login(subject))?;
            let others = match looked {
                Some(snapshot) => clients_of(snapshot.owned(&owner).await?),
                None => Vec::new(),
            };
            txn.fetch_by_key(&others).await?;
            session.with(|state| state.log_in_beside(subject, &owner, &others))
        }
    }

    /// Logs the owner out: ends the session in all containers, as [`destroy`](Self::destroy) does.
    ///
    /// # Errors
    ///
    /// As for [`exists`](Self::exists).
    pub fn log_out(&self) -> Result<()> {
        self.destroy()
    }

    /// Returns the owner that [`log_in`](Self::log_in) or [`set_owner`](Self::set_owner) set. `None` if there is none, if the
    /// log-in is older than [`max_lifetime`](crate::ContainerSettings::max_lifetime) of every container that the session
    /// is live in, or if there is no session. Counts as an access, but not as a read.
    ///
    /// # Errors
    ///
    /// As for [`exists`](Self::exists).
    pub fn owner(&self) -> Result<Option<String>> {
        let owner = self.with(|state| state.owner(self.subject))?;
        Ok(owner.map(|owner| owner.to_string()))
    }

    /// Returns when [`log_in`](Self::log_in) was last called for the session: to ask for the password again before
    /// something important. `None` if it never was, if the log-in is over as for [`owner`](Self::owner), or if there is no
    /// session. Counts as an access, but not as a read.
    ///
    /// # Errors
    ///
    /// As for [`exists`](Self::exists).
    pub fn authenticated_at(&self) -> Result<Option<DateTime<Utc>>> {
        let at = self.with(|state| state.authenticated_at(self.subject))?;
        Ok(at.map(|at| at.to_datetime()))
    }

    /// Sets the text for this session in a list of the owner's devices, for example the browser's name. An empty label
    /// removes it. It is never taken from the request by itself. If there is no session, a label creates one, [as a
    /// timeout does](Self::set_timeout).
    ///
    /// # Errors
    ///
    /// [`TooLarge`](crate::ErrorKind::TooLarge) if the label exceeds the limit of names, 255 bytes unless set otherwise;
    /// otherwise as for [`exists`](Self::exists).
    pub fn set_label(&self, label: &str) -> Result<()> {
        check_name("the label", label, self.txn.limits())?;
        self.with(|state| {
            if label.is_empty() {
                state.take_back(self.subject)?.label = Some(None);
            } else {
                state.give(self.subject)?.label = Some(Some(label.into()));
            }
            Ok(())
        })
    }

    /// Returns the label that [`set_label`](Self::set_label) set. Counts as an access, but not as a read.
    ///
    /// # Errors
    ///
    /// As for [`exists`](Self::exists).
    pub fn label(&self) -> Result<Option<String>> {
        let label = self.with(|state| state.label(self.subject))?;
        Ok(label.map(|label| label.to_string()))
    }

    /// Ends all other sessions of this session's owner, for example after a change of the password, and returns how many
    /// end with the commit of this transaction. It ends those that this transaction sees. If one of them is renewed
    /// meanwhile, the commit gives [`Conflict`](crate::ErrorKind::Conflict). Without an owner this ends none.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](crate::ErrorKind::Corrupt) if one of them cannot be read; then none is ended. Otherwise as for
    /// [`exists`](Self::exists).
    pub fn end_others(&self) -> Result<u64> {
        self.with(|state| state.end_others(self.subject))
    }

    /// [`end_others`](Self::end_others) as a future, which makes no thread of a runtime wait.
    ///
    /// # Errors
    ///
    /// As for [`end_others`](Self::end_others).
    pub fn end_others_async(&self) -> impl Future<Output = Result<u64>> + Send + use<> {
        let session = self.clone();
        async move {
            session.txn.fetch(Some(session.subject)).await?;
            let look = |state: &mut TxnState| {
                let owner = state.owner(session.subject)?;
                Ok((owner, state.snapshot.clone()))
            };
            let (Some(owner), Some(snapshot)) = session.with(look)? else {
                return Ok(0);
            };
            let clients = clients_of(snapshot.owned(&owner).await?);
            session.txn.fetch_by_key(&clients).await?;
            session.with(|state| state.end_of_owner(session.subject, &owner, &clients))
        }
    }
}
