//! What Glue's errors mean for a caller.

use aws_sdk_glue::error::{ProvideErrorMetadata, SdkError};

use crate::catalog::{CatalogError, CommitError};
use crate::store::BoxError;

/// An error by what it says about the request.
#[derive(Debug)]
pub(in crate::catalog) enum Fault {
    Missing,
    Exists,
    /// Another writer was first.
    Conflict,
    Denied(BoxError),
    Refused(BoxError),
    /// Not taken; later it may be.
    Throttled(BoxError),
    /// Nothing was sent.
    Unsent(BoxError),
    /// Sent, and no answer that settles it.
    Unanswered(BoxError),
}

impl Fault {
    pub(in crate::catalog) fn of<E>(error: SdkError<E>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        if matches!(error, SdkError::ConstructionFailure(_)) {
            return Self::Unsent(error.into());
        }
        let SdkError::ServiceError(service) = &error else {
            return Self::Unanswered(error.into());
        };
        let code = service.err().code().unwrap_or_default().to_owned();
        let status = service.raw().status().as_u16();
        match code.as_str() {
            "EntityNotFoundException" => Self::Missing,
            "AlreadyExistsException" => Self::Exists,
            "ConcurrentModificationException" | "VersionMismatchException" => Self::Conflict,
            "AccessDeniedException"
            | "AccessDenied"
            | "UnrecognizedClientException"
            | "InvalidClientTokenId"
            | "InvalidSignatureException"
            | "SignatureDoesNotMatch"
            | "IncompleteSignature"
            | "MissingAuthenticationToken"
            | "OptInRequired"
            | "GlueEncryptionException" => Self::Denied(error.into()),
            // Short-lived credentials are renewed: the next request may pass.
            "ExpiredTokenException"
            | "ExpiredToken"
            | "RequestExpired"
            | "Throttling"
            | "ThrottlingException"
            | "ThrottledException"
            | "RequestThrottledException"
            | "TooManyRequestsException"
            | "RequestLimitExceeded"
            | "ResourceNotReadyException" => Self::Throttled(error.into()),
            "InternalServiceException"
            | "InternalFailure"
            | "ServiceUnavailable"
            | "OperationTimeoutException"
            | "FederationSourceRetryableException" => Self::Unanswered(error.into()),
            _ if status == 429 => Self::Throttled(error.into()),
            _ if status >= 500 => Self::Unanswered(error.into()),
            _ if status == 401 || status == 403 => Self::Denied(error.into()),
            _ => Self::Refused(error.into()),
        }
    }

    pub(in crate::catalog) fn unanswered(what: &'static str) -> Self {
        Self::Unanswered(what.into())
    }

    /// Nothing was changed, for sure.
    pub(in crate::catalog) fn certain(&self) -> bool {
        !matches!(self, Self::Unanswered(_))
    }

    pub(in crate::catalog) fn into_catalog_error(
        self,
        operation: &'static str,
        table: &str,
    ) -> CatalogError {
        let table = table.to_owned();
        match self {
            Self::Missing => CatalogError::NoSuchTable { table },
            Self::Exists => CatalogError::TableExists { table },
            Self::Conflict => CatalogError::Unavailable {
                operation,
                source: "another writer was first".into(),
            },
            Self::Denied(source) => CatalogError::Denied { operation, source },
            Self::Refused(source) => CatalogError::Refused { operation, source },
            Self::Throttled(source) | Self::Unsent(source) | Self::Unanswered(source) => {
                CatalogError::Unavailable { operation, source }
            }
        }
    }

    pub(in crate::catalog) fn into_commit_error(self, table: &str) -> CommitError {
        match self {
            Self::Conflict => CommitError::Conflict,
            Self::Unanswered(source) => CommitError::Unknown(source),
            Self::Throttled(source) | Self::Unsent(source) => CommitError::Unavailable(source),
            other => CommitError::Refused(other.into_catalog_error("update table", table)),
        }
    }
}
