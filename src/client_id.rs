//! Client ids: made from the operating system's randomness, signed, and verified before anything is
//! looked up (C4.1, C4.2). Knows nothing of cookies, of sessions, or of where its secrets are kept.

mod key;

pub use key::ClientKey;

use crate::error::{Error, ErrorKind, Result};
use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::digest::Key;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use subtle::ConstantTimeEq as _;
#[cfg(any(feature = "cookie-containers", feature = "url-ids"))]
use zeroize::Zeroize as _;

/// 144 bits, where C4.1 asks for 128: together with the name and the tag they fill whole groups of
/// four base64 characters, so that an id has exactly one spelling.
const RANDOM_LEN: usize = 18;
/// The tag signs the random bytes and the name of the secret.
const SIGNED_LEN: usize = RANDOM_LEN + 1;
const TAG_LEN: usize = 32;
const RAW_LEN: usize = SIGNED_LEN + TAG_LEN;
const TEXT_LEN: usize = 68;

/// Separates the keys of adopted ids from those of signed ones, which are hashes of their text alone.
const ADOPTED_LABEL: &[u8] = b"cloakroom adopted id v1\0";
/// The longest id that is adopted.
const ADOPTED_MAX: usize = 256;

/// Separates the tags of ids from other data that the same secret may sign.
const LABEL: &[u8; 23] = b"cloakroom client id v1\0";

const _: () = {
    assert!(
        RAW_LEN.is_multiple_of(3) && RAW_LEN / 3 * 4 == TEXT_LEN,
        "no spare bits in the text"
    );
    assert!(
        LABEL.len() + SIGNED_LEN + 9 <= 64,
        "one block of SHA-256, its 9 bytes of padding included"
    );
};

/// The identity of a visitor: a secret that only the visitor's browser and the running request know.
///
/// An id is [issued](ClientIds::issue), [verified](ClientIds::verify), or [adopted](ClientIds::adopt) from somebody else
/// who makes ids. Its holder *is* the client. So an id is never logged, stored or serialized. `Debug` prints `ClientId(..)`, and the
/// store keeps only its [`key`](Self::key). Comparing two ids takes the same time wherever they differ.
///
/// Clones are cheap and share one state. To keep data per client in a map, use the key.
///
/// ```
/// use cloakroom::Store;
///
/// let store = Store::in_memory()?;
/// let id = store.client_ids().issue();
/// assert_eq!(format!("{id:?}"), "ClientId(..)");
/// let cookie = id.as_str().to_owned(); // for the visitor alone
/// let back = store.client_ids().verify(&cookie).expect("its signature is ours");
/// assert_eq!(back.key(), id.key());
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone)]
pub struct ClientId(Arc<ClientIdInner>);

struct ClientIdInner {
    id: IdBytes,
    key: OnceLock<ClientKey>,
    freshness: Freshness,
}

enum IdBytes {
    /// Signed by a secret of the store. ASCII.
    Signed([u8; TEXT_LEN]),
    /// Somebody else's.
    Adopted(Box<[u8]>),
}

/// Whether a session may be founded under an id (C4.8). Clones of an id share it; it tells nothing of the id.
#[derive(Clone, Debug)]
pub(crate) enum Freshness {
    /// It was issued, and this is true as long as it has founded none.
    Issued(Arc<AtomicBool>),
    Verified,
    /// It may found one whenever there is none.
    Adopted,
}

impl Freshness {
    fn issued() -> Self {
        Self::Issued(Arc::new(AtomicBool::new(true)))
    }

    pub(crate) fn is_fresh(&self) -> bool {
        match self {
            Self::Issued(fresh) => fresh.load(Ordering::Acquire),
            Self::Verified => false,
            Self::Adopted => true,
        }
    }
}

impl ClientId {
    fn new(id: IdBytes, freshness: Freshness) -> Self {
        Self(Arc::new(ClientIdInner {
            id,
            key: OnceLock::new(),
            freshness,
        }))
    }

    /// Returns the id: 68 characters of `A`-`Z`, `a`-`z`, `0`-`9`, `-` and `_`, safe in a cookie and in a URL. An
    /// [adopted](ClientIds::adopt) id may be any text, and is `""` here if it is not UTF-8: see
    /// [`as_bytes`](Self::as_bytes).
    ///
    /// This is the secret. Put it only into the visitor's cookie. To tell clients apart in a log, print the
    /// [`key`](Self::key).
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// Returns the bytes of the id, which are the secret.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0.id {
            IdBytes::Signed(text) => text,
            IdBytes::Adopted(bytes) => bytes,
        }
    }

    /// Returns the key under which the store knows this client: the first 16 bytes of SHA-256 of the id, which begins
    /// with a label if the id is adopted. It is computed once and shared by clones.
    #[must_use]
    pub fn key(&self) -> ClientKey {
        *self.0.key.get_or_init(|| match &self.0.id {
            IdBytes::Signed(text) => ClientKey::of(text),
            IdBytes::Adopted(bytes) => ClientKey::of(&[ADOPTED_LABEL, bytes].concat()),
        })
    }

    /// Whether somebody else made it, so that it cannot be replaced by another one.
    pub(crate) fn is_adopted(&self) -> bool {
        matches!(self.0.id, IdBytes::Adopted(_))
    }

    /// Whether this process issued it. False if it was read from a request.
    pub(crate) fn is_own(&self) -> bool {
        matches!(self.0.freshness, Freshness::Issued(_))
    }

    /// Whether a session may be founded under this id.
    pub(crate) fn is_fresh(&self) -> bool {
        self.0.freshness.is_fresh()
    }

    pub(crate) fn freshness(&self) -> Freshness {
        self.0.freshness.clone()
    }

    /// Notes, for all clones, that a session was founded under this id. Returns whether nobody has noted that before.
    pub(crate) fn take_freshness(&self) -> bool {
        match &self.0.freshness {
            Freshness::Issued(fresh) => fresh.swap(false, Ordering::AcqRel),
            Freshness::Verified | Freshness::Adopted => true,
        }
    }

    /// What tells whether the id has founded a session before. `None` if that is no reason against another one.
    pub(crate) fn founder(&self) -> Option<Freshness> {
        (!self.is_adopted()).then(|| self.freshness())
    }

    /// Notes, for all clones, that a session was founded under this id.
    pub(crate) fn mark_used(&self) {
        if let Freshness::Issued(fresh) = &self.0.freshness {
            fresh.store(false, Ordering::Release);
        }
    }
}

impl PartialEq for ClientId {
    fn eq(&self, other: &Self) -> bool {
        let same_kind = self.is_adopted() == other.is_adopted();
        same_kind && bool::from(self.as_bytes().ct_eq(other.as_bytes()))
    }
}

impl Eq for ClientId {}

impl Hash for ClientId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientId(..)")
    }
}

/// What ids are signed with: 32 random bytes, and the byte that names them in every id.
///
/// The name only saves trying secrets that cannot fit; it is no secret and need not be unique.
#[derive(Clone)]
pub(crate) struct Secret {
    name: u8,
    key: [u8; 32],
}

impl Secret {
    /// A new secret from the operating system's randomness.
    ///
    /// # Errors
    ///
    /// [`Io`](ErrorKind::Io) if the operating system has none.
    pub(crate) fn generate(name: u8) -> Result<Self> {
        Ok(Self::from_key(name, random()?))
    }

    /// A secret that was stored, or that the application gave.
    pub(crate) fn from_key(name: u8, key: [u8; 32]) -> Self {
        Self { name, key }
    }

    pub(crate) fn key(&self) -> &[u8; 32] {
        &self.key
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A key that is derived from a secret. It is overwritten when it is dropped.
#[cfg(any(feature = "cookie-containers", feature = "url-ids"))]
pub(crate) type DerivedKey = zeroize::Zeroizing<[u8; TAG_LEN]>;

/// Issues and verifies client ids.
///
/// The newest secret signs new ids. Older secrets verify their ids until they are retired. Verification makes no
/// look-up and takes no lock.
///
/// The text of an id is base64url without padding, of 51 bytes: 18 random bytes, one byte that names the secret, and
/// an HMAC-SHA-256 of a label and those 19 bytes. It has 68 characters and only one valid spelling.
///
/// ```
/// use cloakroom::Store;
///
/// let store = Store::in_memory()?;
/// let ids = store.client_ids();
/// let id = ids.issue();
/// assert!(ids.verify(id.as_str()).is_some());
/// assert!(ids.verify("a guess").is_none());
/// assert!(ids.verify(&id.as_str()[1..]).is_none());
/// # Ok::<(), cloakroom::Error>(())
/// ```
pub struct ClientIds {
    signers: ArcSwap<Signers>,
    #[cfg(feature = "torture")]
    guessable: Option<std::sync::atomic::AtomicU64>,
}

/// Why a text is no id. Only the metrics show it; the client is not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    /// It does not have the form of an id.
    Garbled,
    /// It names a secret that is not in use, as ids of retired secrets do.
    Retired,
    /// The secret that it names did not sign it.
    Forged,
}

impl Refused {
    fn count(self) {
        let reason = match self {
            Self::Garbled => "garbled",
            Self::Retired => "retired",
            Self::Forged => "forged",
        };
        metrics::counter!("cloakroom_refused_ids_total", "reason" => reason).increment(1);
    }
}

/// Never empty, by its shape.
struct Signers {
    issuing: Signer,
    older: Vec<Signer>,
}

impl ClientIds {
    /// Issues with `issuing`; verifies with it and with `older`. Where several secrets bear one name,
    /// each of them is tried.
    pub(crate) fn new(issuing: Secret, older: Vec<Secret>) -> Self {
        Self {
            signers: ArcSwap::from_pointee(Signers::new(&issuing, &older)),
            #[cfg(feature = "torture")]
            guessable: None,
        }
    }

    /// For the fault harness: ids that are the same in every run.
    #[cfg(feature = "torture")]
    pub(crate) fn guessable(self, seed: Option<u64>) -> Self {
        Self {
            guessable: seed.map(Into::into),
            ..self
        }
    }

    /// What makes an id unlike all others.
    fn random(&self) -> Result<[u8; RANDOM_LEN]> {
        #[cfg(feature = "torture")]
        if let Some(count) = &self.guessable {
            let count = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let digest = <Sha256 as sha2::Digest>::digest(count.to_le_bytes());
            let mut bytes = [0; RANDOM_LEN];
            bytes
                .iter_mut()
                .zip(digest)
                .for_each(|(to, from)| *to = from);
            return Ok(bytes);
        }
        random()
    }

    /// Replaces all secrets in use. After a rotation, the former issuing secret is one of `older`. After a retirement,
    /// `older` lacks some. From now on, ids are issued and verified with these secrets.
    pub(crate) fn replace(&self, issuing: Secret, older: Vec<Secret>) {
        self.signers.store(Arc::new(Signers::new(&issuing, &older)));
    }

    /// Returns a new id, under which one session may be created.
    ///
    /// # Panics
    ///
    /// If the operating system provides no random bytes, which cannot happen on supported platforms after boot. A
    /// guessable id is never returned.
    #[must_use]
    #[allow(
        clippy::expect_used,
        reason = "without randomness there is no id that could be handed out"
    )]
    pub fn issue(&self) -> ClientId {
        let random = self.random().expect("the operating system has randomness");
        let signers = self.signers.load();
        let text = signers.issuing.sign(random);
        ClientId::new(IdBytes::Signed(text), Freshness::issued())
    }

    /// Takes an id that somebody else made, as it is: for adapters of other session layers, which choose the ids of
    /// their records, and for ids that a front server hands out.
    ///
    /// A session may be created under it whenever there is none, unless one has [ended a moment
    /// ago](crate::StoreBuilder::tombstone_lifetime). The store does not verify it. The software that chooses ids must
    /// make them impossible to guess, and must tell each id to its visitor alone. Such an id never equals an issued id,
    /// even if the bytes are the same. [`rotate`](crate::Session::rotate) gives
    /// [`Unsupported`](ErrorKind::Unsupported), as the store cannot give the client another one.
    ///
    /// ```
    /// use cloakroom::Store;
    ///
    /// let store = Store::in_memory()?;
    /// let id = store.client_ids().adopt(&0x2a_u128.to_be_bytes())?;
    /// store.transact(|txn| txn.session(&id)?.pkg("cart").insert("tea", 2))?;
    /// assert!(store.session_info(id.key())?.is_some());
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) unless it has 1 to 256 bytes.
    pub fn adopt(&self, id: &[u8]) -> Result<ClientId> {
        if !(1..=ADOPTED_MAX).contains(&id.len()) {
            let detail = format!(
                "an adopted id has 1 to {ADOPTED_MAX} bytes, not {}",
                id.len()
            );
            return Err(Error::new(ErrorKind::InvalidInput, detail));
        }
        Ok(ClientId::new(
            IdBytes::Adopted(id.into()),
            Freshness::Adopted,
        ))
    }

    /// Returns the id that `text` spells, if a secret in use signed it.
    ///
    /// Any other text, forged, truncated, over-long or garbled, gives `None` and never panics. The cost is one HMAC;
    /// the time does not depend on where a forged tag is wrong. An id that verifies does not necessarily have a
    /// session. Failures are counted by the metric `cloakroom_refused_ids_total`.
    ///
    /// This knows the secrets that this process knows. If other processes use the same storage, one of them may have
    /// [made](crate::Store::rotate_secret) another one: [`Store::verify`](crate::Store::verify) learns of it, and so does
    /// the next transaction that begins.
    #[must_use]
    pub fn verify(&self, text: &str) -> Option<ClientId> {
        self.verify_bytes(text.as_bytes())
    }

    fn check(&self, text: &[u8; TEXT_LEN]) -> Result<(), Refused> {
        let raw = decoded(text)?;
        let (signed, tag) = raw
            .split_first_chunk::<SIGNED_LEN>()
            .ok_or(Refused::Garbled)?;
        self.signers.load().verify(signed, tag)
    }

    /// A key that is derived from the newest secret for a purpose, and the name of that secret.
    #[cfg(any(feature = "cookie-containers", feature = "url-ids"))]
    pub(crate) fn newest_key(&self, purpose: &[u8]) -> (u8, DerivedKey) {
        let signers = self.signers.load();
        let signer = &signers.issuing;
        (signer.name, signer.derive(purpose))
    }

    /// The keys that are derived for a purpose from the secrets of this name.
    #[cfg(any(feature = "cookie-containers", feature = "url-ids"))]
    pub(crate) fn keys_of(&self, secret: u8, purpose: &[u8]) -> Vec<DerivedKey> {
        let signers = self.signers.load();
        let named = signers.named(secret);
        named.map(|signer| signer.derive(purpose)).collect()
    }

    /// Whether a secret of this name is in use.
    #[cfg(any(feature = "cookie-containers", feature = "url-ids"))]
    pub(crate) fn knows(&self, secret: u8) -> bool {
        let signers = self.signers.load();
        let mut all = std::iter::once(&signers.issuing).chain(&signers.older);
        all.any(|signer| signer.name == secret)
    }

    /// Whether a text has the form of an id, but names a secret that is not in use.
    pub(crate) fn names_unknown_secret(&self, text: &[u8]) -> bool {
        let raw = <&[u8; TEXT_LEN]>::try_from(text).map(decoded);
        matches!(raw, Ok(Ok(raw)) if self.signers.load().named(raw[RANDOM_LEN]).next().is_none())
    }

    /// [`verify`](Self::verify) for the bytes of a `Cookie` field, which need not be text.
    #[must_use]
    pub fn verify_bytes(&self, text: &[u8]) -> Option<ClientId> {
        let text = <&[u8; TEXT_LEN]>::try_from(text).map_err(|_| Refused::Garbled);
        match text.and_then(|text| self.check(text).map(|()| *text)) {
            Ok(text) => Some(ClientId::new(IdBytes::Signed(text), Freshness::Verified)),
            Err(refused) => {
                refused.count();
                None
            }
        }
    }
}

/// The bytes that a text spells.
fn decoded(text: &[u8; TEXT_LEN]) -> Result<[u8; RAW_LEN], Refused> {
    let mut raw = [0; RAW_LEN];
    match URL_SAFE_NO_PAD.decode_slice(text, &mut raw) {
        Ok(RAW_LEN) => Ok(raw),
        _ => Err(Refused::Garbled),
    }
}

impl fmt::Debug for ClientIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientIds").finish_non_exhaustive()
    }
}

impl Signers {
    fn new(issuing: &Secret, older: &[Secret]) -> Self {
        Self {
            issuing: Signer::new(issuing),
            older: older.iter().map(Signer::new).collect(),
        }
    }

    fn named(&self, name: u8) -> impl Iterator<Item = &Signer> {
        let all = std::iter::once(&self.issuing).chain(&self.older);
        all.filter(move |signer| signer.name == name)
    }

    fn verify(&self, signed: &[u8; SIGNED_LEN], tag: &[u8]) -> Result<(), Refused> {
        let [.., name] = *signed;
        let mut refused = Refused::Retired;
        for signer in self.named(name) {
            if signer.tag(signed).ct_eq(tag).into() {
                return Ok(());
            }
            refused = Refused::Forged;
        }
        Err(refused)
    }
}

/// A secret, made ready: the key's own two compressions are done, which leaves two for each tag.
struct Signer {
    name: u8,
    keyed: Hmac<Sha256>,
}

impl Signer {
    fn new(secret: &Secret) -> Self {
        // HMAC fills a short key up with zeros to one block; this is that block.
        let mut block = Key::<Hmac<Sha256>>::default();
        block
            .iter_mut()
            .zip(secret.key)
            .for_each(|(to, from)| *to = from);
        Self {
            name: secret.name,
            keyed: Hmac::new(&block),
        }
    }

    fn tag(&self, signed: &[u8]) -> [u8; TAG_LEN] {
        let mut hmac = self.keyed.clone();
        hmac.update(LABEL);
        hmac.update(signed);
        hmac.finalize().into_bytes().into()
    }

    /// A key for a purpose, which no id is signed with: no purpose begins as [`LABEL`] does.
    #[cfg(any(feature = "cookie-containers", feature = "url-ids"))]
    fn derive(&self, purpose: &[u8]) -> DerivedKey {
        let mut hmac = self.keyed.clone();
        hmac.update(purpose);
        let mut tag = hmac.finalize().into_bytes();
        let key = DerivedKey::new(tag.into());
        tag.as_mut_slice().zeroize();
        key
    }

    /// The text of an id.
    #[allow(
        clippy::expect_used,
        reason = "the lengths are constants, which are checked above"
    )]
    fn sign(&self, random: [u8; RANDOM_LEN]) -> [u8; TEXT_LEN] {
        let mut raw = [0; RAW_LEN];
        let (signed, tag) = raw.split_at_mut(SIGNED_LEN);
        let (to, name) = signed.split_at_mut(RANDOM_LEN);
        to.copy_from_slice(&random);
        name.fill(self.name);
        tag.copy_from_slice(&self.tag(signed));
        let mut text = [0; TEXT_LEN];
        let written = URL_SAFE_NO_PAD.encode_slice(raw, &mut text);
        written.expect("the text has room for the bytes");
        text
    }
}

pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| {
        Error::new(ErrorKind::Io, "the operating system has no randomness").with_source(error)
    })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
