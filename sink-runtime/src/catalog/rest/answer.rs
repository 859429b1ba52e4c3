//! What a REST catalog's answers mean. Pure.

use bytes::Bytes;
use iceberg_catalog_rest::ErrorModel;
use reqwest::StatusCode;
use serde::Deserialize;

use crate::catalog::{CatalogError, CommitError};
use crate::store::BoxError;

/// Of a server's message in ours.
const MESSAGE_CHARS: usize = 1024;

#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

/// The protocol's names for what is not there. A 404 without them is a gateway's, or of a path that nobody serves: taking
/// the table for missing would be a guess.
const MISSING: [&str; 2] = ["NoSuchTable", "NoSuchNamespace"];

#[derive(Deserialize)]
struct Wrapper {
    error: ErrorModel,
}

impl Answer {
    fn model(&self) -> Option<ErrorModel> {
        let wrapper = serde_json::from_slice::<Wrapper>(&self.body);
        wrapper.ok().map(|wrapper| wrapper.error)
    }

    /// Whether the catalog says that the table or its namespace does not exist.
    pub(super) fn is_missing(&self) -> bool {
        let named = |model: ErrorModel| MISSING.iter().any(|name| model.r#type.starts_with(name));
        self.status == StatusCode::NOT_FOUND && self.model().is_some_and(named)
    }

    /// Status and, where the answer is the protocol's, its own words. Nothing of another body is repeated: who writes a
    /// resource would read by it what answers in the network of whoever acts on it.
    fn told(&self) -> BoxError {
        let words = match self.model() {
            Some(error) => format!("{}: {}", error.r#type, error.message),
            None if self.status.is_redirection() => {
                "it redirects, which is not followed: set spec.catalog.rest.uri to where the catalog is".to_owned()
            }
            None => "without an error of the Iceberg REST protocol: spec.catalog.rest.uri may name something else".to_owned(),
        };
        let words: String = words.chars().take(MESSAGE_CHARS).collect();
        format!("{}: {words}", self.status).into()
    }

    /// Of anything but a commit.
    pub(super) fn error(&self, operation: &'static str, table: &str) -> CatalogError {
        let source = self.told();
        match self.status.as_u16() {
            404 if self.is_missing() => CatalogError::NoSuchTable {
                table: table.to_owned(),
            },
            401 | 403 | 419 => CatalogError::Denied { operation, source },
            404 | 408 | 429 | 500.. => CatalogError::Unavailable { operation, source },
            _ => CatalogError::Refused { operation, source },
        }
    }

    /// Of a table's creation, refused. `located`: a location was asked for.
    pub(super) fn not_created(&self, table: &str, located: bool) -> CatalogError {
        match self.error("create table", table) {
            CatalogError::Refused { operation, source } if !located => CatalogError::Refused {
                operation,
                source: format!(
                    "{source}; no location was asked for: where the catalog wants one, set spec.location"
                )
                .into(),
            },
            error => error,
        }
    }

    /// Of a commit. Only what the protocol says is certain counts as certain.
    pub(super) fn into_commit(self, table: &str) -> Result<(), CommitError> {
        let operation = "commit table";
        match self.status.as_u16() {
            200..=299 => match serde_json::from_slice::<serde_json::Value>(&self.body) {
                Ok(body) if body.get("metadata").is_some() => Ok(()),
                // Not a catalog's answer: some gateway's.
                _ => Err(CommitError::Unknown(self.told())),
            },
            409 => Err(CommitError::Conflict),
            // Whoever does not know the path has done nothing.
            404 if !self.is_missing() => Err(CommitError::Unavailable(self.told())),
            429 | 503 => Err(CommitError::Unavailable(self.told())),
            408 | 500.. | 100..=199 | 300..=399 => Err(CommitError::Unknown(self.told())),
            _ => Err(CommitError::Refused(self.error(operation, table))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &'static str) -> Answer {
        Answer {
            status: StatusCode::from_u16(status).unwrap_or_default(),
            body: Bytes::from_static(body.as_bytes()),
        }
    }

    fn commit(status: u16, body: &'static str) -> String {
        match answer(status, body).into_commit("ns.t") {
            Ok(()) => "done".to_owned(),
            Err(CommitError::Conflict) => "conflict".to_owned(),
            Err(CommitError::Unknown(_)) => "unknown".to_owned(),
            Err(CommitError::Unavailable(_)) => "unavailable".to_owned(),
            Err(CommitError::Refused(e)) => match e {
                CatalogError::NoSuchTable { .. } => "missing".to_owned(),
                CatalogError::Denied { .. } => "denied".to_owned(),
                _ => "refused".to_owned(),
            },
        }
    }

    #[test]
    fn a_table_that_a_catalog_does_not_make_without_a_location_is_told_with_the_field() {
        let body = r#"{"error":{"message":"Location is required","type":"BadRequestException","code":400}}"#;
        let said = |status: u16, located: bool| {
            let error = answer(status, body).not_created("ns.t", located);
            crate::errors::OneLine(&error).to_string()
        };
        let without = said(400, false);
        for words in ["Location is required", "set spec.location"] {
            assert!(without.contains(words), "{without}");
        }
        for (status, located) in [(400, true), (503, false), (403, false)] {
            let other = said(status, located);
            assert!(!other.contains("spec.location"), "{status}: {other}");
        }
    }

    #[test]
    fn every_answer_to_a_commit_has_its_meaning() {
        assert_eq!(
            commit(200, r#"{"metadata-location":"l","metadata":{}}"#),
            "done"
        );
        assert_eq!(commit(200, "<html>sign in</html>"), "unknown");
        assert_eq!(commit(409, "{}"), "conflict");
        for status in [500, 502, 504, 408] {
            assert_eq!(commit(status, "{}"), "unknown", "{status}");
        }
        for status in [503, 429] {
            assert_eq!(commit(status, "{}"), "unavailable", "{status}");
        }
        for status in [400, 406, 422] {
            assert_eq!(commit(status, "{}"), "refused", "{status}");
        }
        for status in [401, 403] {
            assert_eq!(commit(status, "{}"), "denied", "{status}");
        }
    }

    #[test]
    fn only_the_protocols_own_words_say_that_a_table_is_missing() {
        let missing = [
            r#"{"error":{"message":"no","type":"NoSuchTableException","code":404}}"#,
            r#"{"error":{"message":"no","type":"NoSuchNamespaceException","code":404}}"#,
        ];
        for body in missing {
            assert_eq!(commit(404, body), "missing", "{body}");
            let error = answer(404, body).error("load table", "ns.t");
            assert!(
                matches!(error, CatalogError::NoSuchTable { .. }),
                "{error:?}"
            );
        }
        let others = [
            "",
            "{}",
            "<html>404 page not found</html>",
            r#"{"timestamp":"x","status":404,"error":"Not Found","path":"/v1"}"#,
            r#"{"error":{"message":"no warehouse","type":"NotFoundException","code":404}}"#,
        ];
        for body in others {
            assert_eq!(commit(404, body), "unavailable", "{body}");
            let error = answer(404, body).error("load table", "ns.t");
            assert!(
                matches!(error, CatalogError::Unavailable { .. }),
                "{error:?}"
            );
        }
        // Elsewhere the words are no such thing.
        assert_eq!(commit(400, missing[0]), "refused");
    }

    #[test]
    fn the_servers_words_are_kept_and_bounded() {
        let told = answer(
            400,
            r#"{"error":{"message":"no such field","type":"BadRequestException","code":400}}"#,
        )
        .told();
        assert_eq!(
            told.to_string(),
            "400 Bad Request: BadRequestException: no such field"
        );
        let mut long = answer(500, "");
        let words = "x".repeat(3_000_000);
        let error = format!(r#"{{"error":{{"message":"{words}","type":"T","code":500}}}}"#);
        long.body = error.into();
        let told = long.told().to_string();
        assert!(
            told.contains("T: xxx") && told.len() < 1100,
            "{}",
            told.len()
        );
    }

    #[test]
    fn nothing_of_an_answer_that_is_not_the_protocols_is_repeated() {
        for body in [
            "SECRET-BODY",
            r#"{"Code":"Success","Token":"SECRET-BODY"}"#,
            r#"{"error":"SECRET-BODY"}"#,
            "<html>SECRET-BODY</html>",
        ] {
            for status in [200, 302, 400, 401, 404, 418, 500] {
                let said = answer(status, body).told().to_string();
                assert!(!said.contains("SECRET"), "{status}: {said}");
                assert!(said.starts_with(&status.to_string()), "{said}");
            }
        }
    }
}
