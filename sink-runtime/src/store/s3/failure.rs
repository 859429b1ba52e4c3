//! What an error of the SDK means, from status and error code. Nothing of a request (headers, signatures) is kept.

use std::error::Error;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::RequestId;

use super::BoxError;
use crate::store::StoreError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Precondition,
    /// 409: another conditional request was under way; nothing changed.
    Raced,
    NoSuchKey,
    NoSuchUpload,
    NoSuchBucket,
    Denied,
    /// Turned away before anything was done.
    Throttled,
    /// No answer, or one that does not tell whether the request was carried out.
    Ambiguous,
    /// 501: the server does not know what was asked for.
    NotImplemented,
    Refused,
}

#[derive(Debug)]
pub(super) struct Failure {
    pub(super) kind: Kind,
    source: BoxError,
}

/// A service's own words.
#[derive(Debug, thiserror::Error)]
#[error("{status} {code}: {message} (request id {request_id})")]
struct Answer {
    status: u16,
    code: String,
    message: String,
    request_id: String,
}

impl Failure {
    pub(super) fn ambiguous(why: &'static str) -> Self {
        Self {
            kind: Kind::Ambiguous,
            source: why.into(),
        }
    }

    pub(super) fn of<E>(error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        let SdkError::ServiceError(service) = error else {
            let kind = match error {
                _ if crate::aws::lacks_credentials(error) => Kind::Denied,
                SdkError::ConstructionFailure(_) => Kind::Refused,
                _ => Kind::Ambiguous,
            };
            return Self {
                kind,
                source: crate::errors::OneLine(error).to_string().into(),
            };
        };
        let status = service.raw().status().as_u16();
        let code = service.err().code().unwrap_or_default();
        Self {
            kind: judge(status, code),
            source: Box::new(Answer {
                status,
                code: code.to_owned(),
                message: service.err().message().unwrap_or("no message").to_owned(),
                request_id: error.request_id().unwrap_or("none").to_owned(),
            }),
        }
    }

    pub(super) fn into_source(self) -> BoxError {
        self.source
    }

    /// For idempotent operations: not knowing whether it happened only means to do it again.
    pub(super) fn into_error(self, operation: &'static str, key: &str, bucket: &str) -> StoreError {
        let (key, source) = (key.to_owned(), self.source);
        match self.kind {
            Kind::Precondition => StoreError::Conflict { key },
            Kind::NoSuchBucket => StoreError::NoSuchRoot {
                root: bucket.to_owned(),
            },
            Kind::Denied => StoreError::Denied {
                operation,
                key,
                source,
            },
            Kind::Throttled | Kind::Ambiguous | Kind::Raced => StoreError::Unavailable {
                operation,
                key,
                source,
            },
            Kind::NoSuchUpload => StoreError::Vanished { key },
            Kind::NoSuchKey | Kind::NotImplemented | Kind::Refused => StoreError::Refused {
                operation,
                key,
                source,
            },
        }
    }
}

/// Codes first: they say more than the status, where a server sends them (a HEAD's answer has none).
fn judge(status: u16, code: &str) -> Kind {
    match code {
        "PreconditionFailed" => Kind::Precondition,
        "ConditionalRequestConflict" | "OperationAborted" => Kind::Raced,
        "NoSuchKey" | "NotFound" => Kind::NoSuchKey,
        "NoSuchUpload" => Kind::NoSuchUpload,
        "NoSuchBucket" => Kind::NoSuchBucket,
        "SlowDown"
        | "Throttling"
        | "ThrottlingException"
        | "TooManyRequests"
        | "TooManyRequestsException"
        | "RequestLimitExceeded"
        | "BandwidthLimitExceeded" => Kind::Throttled,
        // Sent with status 400; the client fetches new credentials, or sends again.
        "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" => Kind::Throttled,
        "RequestTimeout" => Kind::Ambiguous,
        "NotImplemented" => Kind::NotImplemented,
        // versitygw's, with status 404.
        "XAdminUserNotFound" => Kind::Denied,
        _ => match status {
            412 => Kind::Precondition,
            // With another code than those above the answer is not about the object: taking it for absent would be
            // a guess.
            404 if code.is_empty() => Kind::NoSuchKey,
            401 | 403 => Kind::Denied,
            408 => Kind::Ambiguous,
            429 => Kind::Throttled,
            501 => Kind::NotImplemented,
            // An error inside a 200 is an S3 answer to long copies and completions.
            200 | 500.. => Kind::Ambiguous,
            _ => Kind::Refused,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_means_what_the_writer_may_do_next() {
        for (status, code, kind) in [
            (412, "PreconditionFailed", Kind::Precondition),
            (412, "", Kind::Precondition),
            (409, "ConditionalRequestConflict", Kind::Raced),
            (404, "NoSuchBucket", Kind::NoSuchBucket),
            (404, "NoSuchKey", Kind::NoSuchKey),
            (404, "", Kind::NoSuchKey),
            (404, "NoSuchUpload", Kind::NoSuchUpload),
            (404, "NoSuchWebsiteConfiguration", Kind::Refused),
            (404, "XAdminUserNotFound", Kind::Denied),
            (403, "AccessDenied", Kind::Denied),
            (403, "", Kind::Denied),
            (401, "Unauthorized", Kind::Denied),
            (503, "SlowDown", Kind::Throttled),
            (429, "", Kind::Throttled),
            (400, "ExpiredToken", Kind::Throttled),
            (503, "ServiceUnavailable", Kind::Ambiguous),
            (500, "InternalError", Kind::Ambiguous),
            (200, "InternalError", Kind::Ambiguous),
            (502, "", Kind::Ambiguous),
            (400, "RequestTimeout", Kind::Ambiguous),
            (501, "NotImplemented", Kind::NotImplemented),
            (400, "EntityTooSmall", Kind::Refused),
            (301, "PermanentRedirect", Kind::Refused),
            (409, "ObjectParentIsFile", Kind::Refused),
        ] {
            assert_eq!(judge(status, code), kind, "{status} {code}");
        }
    }
}
