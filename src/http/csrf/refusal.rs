//! Why a request is refused, in words for the visitor.

use crate::error::{Error, ErrorKind};

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CsrfReason {
    OtherSite,
    NoToken,
    FormTooLong,
    NoSession,
    WrongToken,
}

impl CsrfReason {
    fn label(self) -> &'static str {
        match self {
            Self::OtherSite => "other_site",
            Self::NoToken => "no_token",
            Self::FormTooLong => "form_too_long",
            Self::NoSession => "no_session",
            Self::WrongToken => "wrong_token",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::OtherSite => {
                "This request was refused because it came from another site. \
                 Open this site itself and try again."
            }
            Self::NoToken => {
                "This request was refused because its form has no security token. \
                 Go back, reload the page and try again."
            }
            Self::FormTooLong => {
                "This request was refused because no security token was found at the beginning of its form."
            }
            Self::NoSession => {
                "This request was refused because your session has ended, or because your browser does not accept \
                 cookies from this site. Go back, reload the page and try again."
            }
            Self::WrongToken => {
                "This request was refused because its form belongs to an earlier session. \
                 Go back, reload the page and try again."
            }
        }
    }
}

impl From<CsrfReason> for Error {
    /// Counts the refusal, too.
    fn from(reason: CsrfReason) -> Self {
        metrics::counter!("cloakroom_csrf_refused_total", "reason" => reason.label()).increment(1);
        Self::new(ErrorKind::CsrfRefused, reason.text())
    }
}
