//! The tokens that one request presents in its URL or its form. Knows no session.

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{HeaderMap, Uri, request};
use http_body::Body;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use super::form::FormEncoding;
use super::proxies::VisitorAddress;
use super::proxies::origin::{RequestSource, source_of};
use super::replay::Replay;
use super::transport::{IdCarrier, IdTransport};
use super::url_tokens::{
    TokenContext, TokenPlace, UrlTokens, id_of, names_unknown_secret, split_query,
};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::store::Store;

const REFERRER_POLICY: HeaderName = HeaderName::from_static("referrer-policy");

/// A token that was accepted: its transport, and the text of its id.
type AcceptedToken = (IdCarrier, String);

/// The tokens of one request, and the facts that its response needs about them.
#[derive(Default)]
pub(super) struct PresentedTokens {
    /// The tokens of the URL, in the order of their transports.
    found: Vec<(Arc<dyn IdTransport>, Vec<u8>)>,
    is_in_url: bool,
    /// The transport of a form that may have a token.
    form: Option<Arc<dyn IdTransport>>,
    /// The accepted token, or the error that prevented the check.
    accepted: OnceLock<Result<AcceptedToken>>,
    /// Whether the page got a token.
    was_given: AtomicBool,
}

impl PresentedTokens {
    /// Takes the tokens out of a request's URL, so that no service inside the layer sees them there. axum's `OriginalUri`
    /// in the extensions may still have them. If the request presents an id in another way, the tokens are not read.
    pub(super) fn take(
        request: &mut request::Parts,
        transports: &[Arc<dyn IdTransport>],
        others: OtherIds,
    ) -> Self {
        let of = |place| {
            let with_rules = transports.iter().filter_map(|it| Some((it, it.tokens()?)));
            with_rules.filter(move |(_, rules)| rules.place == place)
        };
        let mut tokens = Self::default();
        if let Some(query) = request.uri.query() {
            let names: Vec<_> = of(TokenPlace::Query)
                .map(|(_, it)| it.name.clone())
                .collect();
            let (rest, values) = split_query(query, &names);
            tokens.is_in_url = values.iter().any(Option::is_some);
            if tokens.is_in_url {
                let found = of(TokenPlace::Query).zip(values);
                let found = found.filter_map(|((it, _), value)| Some((Arc::clone(it), value?)));
                tokens.found = found.collect();
                request.uri = with_query(&request.uri, &rest);
            }
        }
        let is_form = || FormEncoding::of(&request.headers) == Some(FormEncoding::Url);
        if !request.method.is_safe() && is_form() {
            tokens.form = of(TokenPlace::Form).next().map(|(it, _)| Arc::clone(it));
        }
        // Without an address, none is accepted. Nor is one from another site, which would choose the visitor's session.
        if others == OtherIds::Presented
            || request.extensions.get::<VisitorAddress>().is_none()
            || source_of(request, &[]) == RequestSource::OtherSite
        {
            (tokens.found, tokens.form) = (Vec::new(), None);
        }
        tokens
    }

    /// Whether there are tokens, or a form that may have one.
    pub(super) fn are_there(&self) -> bool {
        !self.found.is_empty() || self.form.is_some()
    }

    /// Finds the first token that is valid. A form is read only if the URL has none.
    pub(super) async fn read<B: Body<Data = Bytes>>(
        &self,
        store: &Store,
        visitor: &VisitorAddress,
        now: Timestamp,
        body: &mut Replay<B>,
    ) {
        for (transport, token) in &self.found {
            if self.accept(store, visitor, now, transport, token).await {
                return;
            }
        }
        let Some((transport, rules)) = self.form.as_ref().and_then(|it| Some((it, it.tokens()?)))
        else {
            return;
        };
        let read = body.read_ahead(rules.form_limit, |bytes, end| {
            let value = FormEncoding::Url.find(&rules.name, bytes, end);
            value.map(<[u8]>::to_vec)
        });
        if let Some(token) = read.await {
            self.accept(store, visitor, now, transport, &token).await;
        }
    }

    /// Checks one token. Returns whether the search is over.
    async fn accept(
        &self,
        store: &Store,
        visitor: &VisitorAddress,
        now: Timestamp,
        transport: &Arc<dyn IdTransport>,
        token: &[u8],
    ) -> bool {
        let ids = store.client_ids();
        if names_unknown_secret(ids, token)
            && let Err(error) = store.learn_secrets().await
        {
            let _ = self.accepted.set(Err(error));
            return true;
        }
        let context = TokenContext {
            store: store.identity(),
            ip: visitor.ip,
        };
        match id_of(ids, token, context, now) {
            Ok(id) => {
                let carrier = IdCarrier::Other(Arc::clone(transport));
                let _ = self.accepted.set(Ok((carrier, id)));
                true
            }
            Err(refused) => {
                metrics::counter!("cloakroom_refused_ids_total", "reason" => refused.reason())
                    .increment(1);
                false
            }
        }
    }

    pub(super) fn accepted(&self) -> Option<&AcceptedToken> {
        self.accepted.get()?.as_ref().ok()
    }

    /// Returns the error that prevented the check of a token, if there was one.
    pub(super) fn check(&self) -> Result<()> {
        match self.accepted.get() {
            Some(Err(error)) => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// Notes that the page got a token.
    pub(super) fn give(&self) {
        self.was_given.store(true, Ordering::Relaxed);
    }

    pub(super) fn were_given(&self) -> bool {
        self.was_given.load(Ordering::Relaxed)
    }

    /// Keeps the URL out of `Referer`, also in requests to this site. A policy of the handler that does so stays.
    pub(super) fn hide_url(&self, response: &mut HeaderMap) {
        let strict = ["no-referrer", "strict-origin", "origin"];
        let is_strict = |field: &HeaderValue| strict.iter().any(|policy| field == policy);
        let mut policies = response.get_all(REFERRER_POLICY).iter();
        let is_safe = policies.next().is_some_and(is_strict) && policies.next().is_none();
        if self.is_in_url && !is_safe {
            response.insert(REFERRER_POLICY, HeaderValue::from_static("strict-origin"));
        }
    }
}

/// Whether a request presents an id in another way: by a cookie or by another transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OtherIds {
    Presented,
    Absent,
}

/// The rules of the layer's transport for this place.
pub(super) fn rules_for(
    transports: &[Arc<dyn IdTransport>],
    place: TokenPlace,
) -> Option<&UrlTokens> {
    let mut rules = transports.iter().filter_map(|it| it.tokens());
    rules.find(|rules| rules.place == place)
}

/// Returns the URI with `query`, which is a part of the URI's own query.
fn with_query(uri: &Uri, query: &str) -> Uri {
    let path = uri.path();
    let text = match query {
        "" => path.to_owned(),
        query => format!("{path}?{query}"),
    };
    let mut parts = uri.clone().into_parts();
    match PathAndQuery::try_from(text) {
        Ok(path) => parts.path_and_query = Some(path),
        Err(_) => return uri.clone(),
    }
    Uri::from_parts(parts).unwrap_or_else(|_| uri.clone())
}
