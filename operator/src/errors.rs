//! How the operator's own errors are treated: one table from kind to retry class, fault, category and advice, as the
//! runtime has one. What is wrong with a resource is no error but a condition; see `conditions`.

use tidewater_runtime::errors::{Class, Fault, Retry};

macro_rules! classes {
    ($($name:ident = $retry:ident, $fault:ident, $reason:literal, $advice:literal;)*) => {
        $(pub const $name: Class =
            Class { retry: Retry::$retry, fault: Fault::$fault, reason: $reason, advice: $advice };)*
        /// The whole table, for the reference page and the metrics.
        pub const ALL: &[Class] = &[$($name),*];
    };
}

/// The table. Reasons are the categories of `tidewater_operator_reconcile_errors_total`.
pub mod class {
    use super::{Class, Fault, Retry};
    classes! {
        API_UNREACHABLE = Backoff, External, "ApiUnreachable", "check the API server and the network to it";
        API_DENIED = Backoff, User, "ApiDenied", "grant the operator's ServiceAccount what the chart's roles grant";
        API_CONFLICT = Backoff, External, "ApiConflict", "somebody changed the object meanwhile; it is looked at again";
        OBJECT_REFUSED = Never, User, "ObjectRefused", "correct the resource as the API server's message says";
        NAME_CONFLICT = Never, User, "NameConflict", "rename the resource, or delete the object that is in its way";
        LEASE_LOST = Never, External, "LeaseLost", "another operator leads now; this one starts afresh and waits";
        INTERNAL = Backoff, Internal, "Internal", "report it with the log";
    }
}

/// The class of what the client of the API server reports.
pub fn of_client(error: &kube::Error) -> Class {
    match error {
        kube::Error::Api(status) => match status.code {
            400 | 422 => class::OBJECT_REFUSED,
            401 | 403 => class::API_DENIED,
            404 | 409 | 410 => class::API_CONFLICT,
            _ => class::API_UNREACHABLE,
        },
        kube::Error::SerdeError(_) | kube::Error::BuildRequest(_) => class::INTERNAL,
        _ => class::API_UNREACHABLE,
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn an_answer_of_the_api_server_is_classed_by_its_code() {
        let of = |code| {
            let status = Status::failure("no", "Reason").with_code(code).boxed();
            of_client(&kube::Error::Api(status)).reason
        };
        assert_eq!(of(422), "ObjectRefused");
        assert_eq!(of(403), "ApiDenied");
        assert_eq!(of(409), "ApiConflict");
        assert_eq!(of(500), "ApiUnreachable");
        assert_eq!(of(429), "ApiUnreachable");
    }
}
