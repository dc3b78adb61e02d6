//! What a request sends: the fields of a form, of a JSON object, or of its query.

use crate::failure::Failure;
use axum::body::{Body, to_bytes};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};

/// The largest form.
const MAX_FORM: usize = 64 * 1024;

/// The fields of a form, of a JSON object, or of the query.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields(Vec<(String, String)>);

impl Fields {
    /// The first field of this name, without white space around it. An empty one counts as missing.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let mut fields = self.0.iter();
        let found = fields.find(|(field, _)| field == name);
        found
            .map(|(_, value)| value.trim())
            .filter(|it| !it.is_empty())
    }

    /// Whether there is a field of this name, empty or not, and its exact value.
    pub(crate) fn exact(&self, name: &str) -> Option<&str> {
        let mut fields = self.0.iter();
        let found = fields.find(|(field, _)| field == name);
        found.map(|(_, value)| &**value)
    }

    /// The exact text of a field, which a form of ours may have encoded: browsers change line breaks and NUL in the values
    /// of fields.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        match self.exact(&format!("{name}_encoded")) {
            Some(encoded) => {
                let pair = format!("it={encoded}");
                let mut pairs = form_urlencoded::parse(pair.as_bytes());
                pairs.next().map(|(_, text)| text.into_owned())
            }
            None => self.exact(name).map(str::to_owned),
        }
    }

    /// The parts of a query, or of a form's content (WHATWG URL, `application/x-www-form-urlencoded`).
    pub(crate) fn of_form(bytes: &[u8]) -> Self {
        let pairs = form_urlencoded::parse(bytes);
        Self(pairs.into_owned().collect())
    }

    fn of_json(bytes: &[u8]) -> Result<Self, Failure> {
        use serde_json::Value;
        let object: serde_json::Map<String, Value> = serde_json::from_slice(bytes)
            .map_err(|error| Failure::bad_request(format!("A JSON object is expected: {error}")))?;
        let mut fields = Vec::with_capacity(object.len());
        for (name, value) in object {
            let text = match value {
                Value::Null => continue,
                Value::String(text) => text,
                Value::Bool(_) | Value::Number(_) => value.to_string(),
                Value::Array(_) | Value::Object(_) => {
                    let text =
                        format!("The value of {name:?} must be a string, a number or a boolean.");
                    return Err(Failure::bad_request(text));
                }
            };
            fields.push((name, text));
        }
        Ok(Self(fields))
    }
}

/// The fields of the content of a request.
pub(crate) async fn read_fields(head: &Parts, body: Body) -> Result<Fields, Failure> {
    let bytes = to_bytes(body, MAX_FORM).await.map_err(|_| {
        let text = "A form holds at most 64 KiB.";
        Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "That is too much", text)
    })?;
    let kind = head.headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    match kind.split(';').next().unwrap_or_default().trim() {
        "application/json" => Fields::of_json(&bytes),
        "application/x-www-form-urlencoded" => Ok(Fields::of_form(&bytes)),
        _ if bytes.is_empty() => Ok(Fields::default()),
        _ => {
            let text = "Send a form or a JSON object.";
            Err(Failure::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "The request was not understood",
                text,
            ))
        }
    }
}
