//! S3 options, AWS access and folders → the plan's. Pure.

use std::time::Duration;

use tidewater_crds::{
    AssumeRoleSpec, ByteSize, Checksum as ChecksumSpec, CredentialsSpec, EncryptionSpec,
    EncryptionType, S3Options, TimeSpan, TimeoutsSpec,
};

use super::problem::Checks;
use super::secrets::{Secrets, resolve_from};
use super::{AssumeRole, AwsCredentials, Checksum, Encryption, S3Access, S3Plan, SinkId, Timeouts};

/// S3 refuses smaller parts, except the last.
const LEAST_PART: u64 = 5 << 20;
/// S3 refuses larger parts.
const GREATEST_PART: u64 = 5 << 30;

/// Who asks, and where problems go.
pub(super) struct Asking<'a> {
    pub secrets: &'a dyn Secrets,
    pub sink: &'a SinkId,
    pub memory_budget: usize,
}

/// Parts of one upload, a twentieth fewer than S3's 10 000: the last rows of a file may take it past its size.
const PARTS: u64 = 9_500;
/// A file's upload is unfinished for as long as the file is open, and the rule of the bucket that is advised removes
/// unfinished uploads after 7 days. The last day is for the commit.
const LONGEST_OPEN: Duration = Duration::from_secs(6 * 24 * 3600);

/// A file has to fit the parts of its upload.
pub(super) fn check_parts(checks: &mut Checks, field: &str, size: ByteSize, part: (&str, usize)) {
    let (name, part) = (part.0, part.1 as u64);
    if size.as_u64() > part.saturating_mul(PARTS) {
        let remedy = format!(
            "an upload has {PARTS} parts of {name} ({}Mi) at most: give less, or raise {name}",
            part >> 20
        );
        checks.add(field, size, remedy);
    }
}

/// No file may be open for longer than its upload lives.
pub(super) fn check_open(checks: &mut Checks, field: &str, span: TimeSpan) {
    if span.duration() > LONGEST_OPEN {
        let remedy = "give 6 days (144h) or less: the upload of an open file is unfinished, and buckets remove                       unfinished uploads, by the rule that is advised after 7 days";
        checks.add(field, span, remedy);
    }
}

pub(super) fn s3(
    checks: &mut Checks,
    asking: &Asking<'_>,
    path: &str,
    options: &S3Options<'_>,
    bucket: String,
    prefix: String,
) -> S3Plan {
    let part_size = options.part_size;
    if !(LEAST_PART..=GREATEST_PART).contains(&part_size.as_u64()) {
        checks.add(
            format!("{path}.partSize"),
            part_size,
            "give 5Mi to 5Gi: S3 refuses other parts",
        );
    }
    let concurrency = options.upload_concurrency as usize;
    if part_size.as_usize().saturating_mul(concurrency) > asking.memory_budget {
        let remedy = "that many parts of partSize are more than spec.pod.memoryBudget: lower one, or raise the budget";
        checks.add(format!("{path}.uploadConcurrency"), concurrency, remedy);
    }
    for (key, value) in options.tags {
        let legal = |text: &str| {
            text.chars()
                .all(|c| c.is_alphanumeric() || " +-=._:/@".contains(c))
        };
        let fits = (1..=128).contains(&key.chars().count()) && value.chars().count() <= 256;
        if !fits || !legal(key) || !legal(value) || key.starts_with("aws:") {
            let remedy = "S3 takes keys of 1 to 128 and values of up to 256 letters, digits, spaces and + - = . _ : / @";
            checks.add(format!("{path}.tags[\"{key}\"]"), value, remedy);
        }
    }
    S3Plan {
        bucket,
        prefix,
        access: access(
            checks,
            asking,
            path,
            AccessSpec {
                region: options.region,
                endpoint: options.endpoint,
                path_style: options.path_style,
                credentials: options.credentials,
                assume_role: options.assume_role,
            },
        ),
        conditional_writes: true,
        encryption: encryption(checks, path, options.encryption),
        storage_class: options.storage_class.map(str::to_owned),
        tags: options.tags.clone(),
        checksum: match options.checksum {
            ChecksumSpec::Crc32 => Checksum::Crc32,
            ChecksumSpec::Crc32c => Checksum::Crc32c,
            ChecksumSpec::Crc64Nvme => Checksum::Crc64Nvme,
            ChecksumSpec::Sha256 => Checksum::Sha256,
            ChecksumSpec::None => Checksum::None,
        },
        part_size: part_size.as_usize(),
        upload_concurrency: concurrency,
        timeouts: timeouts(checks, path, options.timeouts),
    }
}

/// How an AWS service is reached, from whichever spec says so.
pub(super) struct AccessSpec<'a> {
    pub region: Option<&'a str>,
    pub endpoint: Option<&'a str>,
    pub path_style: bool,
    pub credentials: Option<&'a CredentialsSpec>,
    pub assume_role: Option<&'a AssumeRoleSpec>,
}

pub(super) fn access(
    checks: &mut Checks,
    asking: &Asking<'_>,
    path: &str,
    spec: AccessSpec<'_>,
) -> S3Access {
    if let Some(endpoint) = spec.endpoint {
        check_url(checks, &format!("{path}.endpoint"), endpoint);
    }
    let credentials = spec
        .credentials
        .map_or(AwsCredentials::DefaultChain, |spec| {
            let path = format!("{path}.credentials");
            let mut value = |name: &str, from| {
                resolve_from(checks, asking.secrets, &format!("{path}.{name}"), from)
            };
            AwsCredentials::Static {
                access_key_id: value("accessKeyId", &spec.access_key_id),
                secret_access_key: value("secretAccessKey", &spec.secret_access_key),
                session_token: spec
                    .session_token
                    .as_ref()
                    .map(|from| value("sessionToken", from)),
            }
        });
    S3Access {
        region: spec.region.map(str::to_owned),
        endpoint: spec.endpoint.map(str::to_owned),
        path_style: spec.path_style,
        credentials,
        assume_role: spec.assume_role.map(|role| AssumeRole {
            role_arn: role.role_arn.clone(),
            external_id: role.external_id.clone(),
            // AWS takes 64 characters; a resource's name may be longer.
            session_name: role
                .session_name
                .clone()
                .unwrap_or_else(|| asking.sink.0.chars().take(64).collect()),
        }),
    }
}

fn encryption(checks: &mut Checks, path: &str, spec: &EncryptionSpec) -> Encryption {
    if spec.type_ != EncryptionType::SseKms {
        for (name, given) in [
            ("keyId", spec.key_id.is_some()),
            ("bucketKey", spec.bucket_key.is_some()),
        ] {
            if given {
                let remedy = "goes with type: SseKms only: change the type, or remove it";
                checks.add(format!("{path}.encryption.{name}"), "", remedy);
            }
        }
    }
    match spec.type_ {
        EncryptionType::BucketDefault => Encryption::BucketDefault,
        EncryptionType::SseS3 => Encryption::SseS3,
        EncryptionType::SseKms => Encryption::SseKms {
            key_id: spec.key_id.clone(),
            bucket_key: spec.bucket_key.unwrap_or(true),
        },
    }
}

pub(super) fn timeouts(checks: &mut Checks, path: &str, spec: &TimeoutsSpec) -> Timeouts {
    for (name, span) in [("connect", spec.connect), ("attempt", spec.attempt)] {
        if span.duration().is_zero() {
            checks.add(format!("{path}.timeouts.{name}"), span, "give more than 0s");
        }
    }
    Timeouts {
        connect: spec.connect.duration(),
        attempt: spec.attempt.duration(),
        max_attempts: spec.max_attempts,
    }
}

pub(super) fn check_url(checks: &mut Checks, field: &str, url: &str) {
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"));
    let host = rest
        .unwrap_or_default()
        .split('/')
        .next()
        .unwrap_or_default();
    let port_fits = match host.rsplit_once(':') {
        Some((_, port)) if !port.ends_with(']') => port.parse::<u16>().is_ok(),
        _ => true,
    };
    if url.contains(['?', '#']) {
        // What is appended would not be the path's; and a query may carry a token.
        checks.add(field, "", "give the URL without a query or fragment");
    } else if host.is_empty() || url.contains(char::is_whitespace) || !port_fits {
        checks.add(field, url, "give a URL such as https://host:port");
    } else if host.contains('@') {
        // The part before it may be a password.
        checks.add(
            field,
            "",
            "give the URL without user and password: credentials come from a Secret",
        );
    }
}

pub(super) fn check_bucket(checks: &mut Checks, field: &str, bucket: &str) {
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
    let outer = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let address =
        bucket.split('.').count() == 4 && bucket.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if !(3..=63).contains(&bucket.len())
        || !bucket.bytes().all(legal)
        || !outer(bucket.bytes().next())
        || !outer(bucket.bytes().last())
        || bucket.contains("..")
        || address
    {
        let remedy = "not a bucket's name: 3 to 63 lower case letters, digits, '-' and '.', with a letter or digit at each end";
        checks.add(field, bucket, remedy);
    }
}

/// Folders of a store: nothing that leads out of it, or that two stores would read differently.
pub(super) fn check_prefix(checks: &mut Checks, field: &str, prefix: &str) {
    if prefix.starts_with('/') || prefix.ends_with('/') {
        checks.add(field, prefix, "give it without slashes at its ends");
    } else if prefix.split('/').any(|part| matches!(part, "." | "..")) {
        checks.add(field, prefix, "remove the parts \".\" and \"..\"");
    } else if prefix.contains("//") {
        checks.add(field, prefix, "remove the empty parts");
    } else if prefix.chars().any(|c| c.is_control() || c == '\\') {
        checks.add(field, prefix, "remove backslashes and control characters");
    } else if prefix.split('/').any(|part| part == "_tidewater") {
        checks.add(
            field,
            prefix,
            "\"_tidewater\" is where progress is kept; choose another name",
        );
    }
}

/// Bucket and prefix of `s3://bucket/prefix`.
pub(super) fn s3_location(
    checks: &mut Checks,
    field: &str,
    location: &str,
) -> Option<(String, String)> {
    let rest = location
        .strip_prefix("s3://")
        .or_else(|| location.strip_prefix("s3a://"))?;
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    check_bucket(checks, field, bucket);
    check_prefix(checks, field, prefix);
    Some((bucket.to_owned(), prefix.to_owned()))
}

/// One problem that stands for everything a build without `cloud` cannot do there.
pub(super) fn needs_cloud(checks: &mut Checks, field: &str, what: &str) {
    if !cfg!(feature = "cloud") {
        let remedy = format!("this build has no {what}: use one with feature \"cloud\"");
        checks.add(field, "", remedy);
    }
}
