//! What a catalog grants with a table: keys for its files, and where they are. Pure.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use iceberg_catalog_rest::StorageCredential;

/// Of the keys' life that is not used: uploads under way must not outlive them.
const RENEW_BEFORE: Duration = Duration::from_secs(5 * 60);
/// Of keys whose catalog tells no end.
const ASSUMED_LIFE: Duration = Duration::from_secs(15 * 60);

/// Of one answer of the catalog. Debug output would show keys, so there is none.
#[derive(Clone)]
pub(super) struct Grant {
    /// The server's configuration, the table's own over it.
    pub(super) config: HashMap<String, String>,
    /// Keys for parts of the store, each with its prefix.
    pub(super) credentials: Vec<StorageCredential>,
    pub(super) at: SystemTime,
}

/// Where files are, as far as the catalog says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) endpoint: Option<String>,
    pub(super) region: Option<String>,
    pub(super) path_style: bool,
}

/// Keys for one location.
#[derive(Clone)]
pub(super) struct Keys {
    pub(super) credentials: Credentials,
    pub(super) renew_at: SystemTime,
    ends: Option<SystemTime>,
}

impl Keys {
    pub(super) fn ended(&self, now: SystemTime) -> bool {
        self.ends.is_some_and(|end| now >= end)
    }
}

impl Grant {
    pub(super) fn place(&self, location: &str) -> Place {
        let of = self.of(location);
        Place {
            endpoint: of.get("s3.endpoint").map(str::to_owned),
            region: of
                .get("client.region")
                .or_else(|| of.get("s3.region"))
                .map(str::to_owned),
            path_style: of
                .get("s3.path-style-access")
                .is_some_and(|v| v.eq_ignore_ascii_case("true")),
        }
    }

    /// `None` when the catalog vends none for the location.
    pub(super) fn keys(&self, location: &str) -> Option<Keys> {
        let of = self.of(location);
        let (id, secret) = (of.get("s3.access-key-id")?, of.get("s3.secret-access-key")?);
        let ends = of
            .get("s3.session-token-expires-at-ms")
            .and_then(|text| text.parse().ok())
            .map(|millis| SystemTime::UNIX_EPOCH + Duration::from_millis(millis));
        let life = match ends {
            Some(end) => end.duration_since(self.at).unwrap_or_default(),
            None => ASSUMED_LIFE,
        };
        let token = of.get("s3.session-token").map(str::to_owned);
        Some(Keys {
            credentials: Credentials::new(id, secret, token, ends, "catalog"),
            renew_at: self.at + usable(life),
            ends,
        })
    }

    /// Where fresh keys are to be had without loading the table: a URL, or a path below the catalog's.
    pub(super) fn refresh_endpoint(&self) -> Option<&str> {
        let told = |key: &str| self.config.get(key).map(String::as_str);
        let off = told("client.refresh-credentials-enabled")
            .is_some_and(|v| v.eq_ignore_ascii_case("false"));
        told("client.refresh-credentials-endpoint").filter(|_| !off)
    }

    fn of<'a>(&'a self, location: &str) -> Granted<'a> {
        Granted {
            config: &self.config,
            vended: most_specific(&self.credentials, location),
        }
    }
}

struct Granted<'a> {
    config: &'a HashMap<String, String>,
    vended: Option<&'a StorageCredential>,
}

impl<'a> Granted<'a> {
    fn get(&self, key: &str) -> Option<&'a str> {
        self.vended
            .and_then(|v| v.config.get(key))
            .or_else(|| self.config.get(key))
            .map(String::as_str)
    }
}

/// The credential with the longest prefix of the location.
fn most_specific<'a>(
    credentials: &'a [StorageCredential],
    location: &str,
) -> Option<&'a StorageCredential> {
    credentials
        .iter()
        .filter(|c| location.starts_with(&c.prefix))
        .max_by_key(|c| c.prefix.len())
}

/// Short-lived keys keep half their life, so that they are used at all.
fn usable(life: Duration) -> Duration {
    life.saturating_sub(RENEW_BEFORE).max(life / 2)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn map(entries: &[(&str, &str)]) -> HashMap<String, String> {
        entries
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    fn grant(config: &[(&str, &str)], credentials: &[(&str, &str)]) -> Grant {
        let vended = |(prefix, id): &(&str, &str)| StorageCredential {
            prefix: (*prefix).to_owned(),
            config: map(&[("s3.access-key-id", id), ("s3.secret-access-key", "hush")]),
        };
        Grant {
            config: map(config),
            credentials: credentials.iter().map(vended).collect(),
            at: SystemTime::UNIX_EPOCH + Duration::from_secs(1000),
        }
    }

    #[test]
    fn the_most_specific_vended_credential_is_used_and_the_tables_own_config_without_one() {
        let config = [
            ("s3.access-key-id", "table"),
            ("s3.secret-access-key", "hush"),
        ];
        let all = [
            ("s3://lake", "wide"),
            ("s3://lake/sales", "narrow"),
            ("s3://other", "other"),
        ];
        let grant = grant(&config, &all);
        for (location, id) in [
            ("s3://lake/sales/orders", "narrow"),
            ("s3://lake/letters", "wide"),
            ("s3://elsewhere/x", "table"),
        ] {
            let keys = grant.keys(location).unwrap();
            assert_eq!(keys.credentials.access_key_id(), id, "{location}");
        }
        assert!(
            super::tests::grant(&[], &all)
                .keys("s3://elsewhere")
                .is_none()
        );
    }

    #[test]
    fn keys_are_asked_for_again_five_minutes_before_their_end_or_at_half_their_life() {
        let renewed = |ends_at_second: u64| {
            let ends = (ends_at_second * 1000).to_string();
            let config = [
                ("s3.access-key-id", "id"),
                ("s3.secret-access-key", "hush"),
                ("s3.session-token", "token"),
                ("s3.session-token-expires-at-ms", &ends),
            ];
            let grant = grant(&config, &[]);
            let keys = grant.keys("s3://lake/t").unwrap();
            let end = grant.at + Duration::from_secs(ends_at_second.saturating_sub(1000));
            assert!(!keys.ended(end - Duration::from_millis(1)));
            assert!(keys.ended(end));
            keys.renew_at.duration_since(grant.at).unwrap().as_secs()
        };
        assert_eq!((renewed(4600), renewed(1100), renewed(1000)), (3300, 50, 0));

        let endless = [("s3.access-key-id", "id"), ("s3.secret-access-key", "hush")];
        let keys = grant(&endless, &[]).keys("s3://lake/t").unwrap();
        let life = keys.renew_at.duration_since(SystemTime::UNIX_EPOCH);
        assert_eq!(life.unwrap().as_secs(), 1000 + 10 * 60);
        assert!(!keys.ended(SystemTime::now()));
    }

    #[test]
    fn the_place_of_files_is_told_as_every_catalog_tells_it() {
        let told = [
            ("s3.endpoint", "http://store:9000"),
            ("s3.region", "eu-west-1"),
            ("s3.path-style-access", "True"),
        ];
        let place = Place {
            endpoint: Some("http://store:9000".to_owned()),
            region: Some("eu-west-1".to_owned()),
            path_style: true,
        };
        assert_eq!(grant(&told, &[]).place("s3://lake/t"), place);
        let other = [("client.region", "us-east-2"), ("s3.region", "eu-west-1")];
        let place = grant(&other, &[]).place("s3://lake/t");
        assert_eq!(place.region.as_deref(), Some("us-east-2"));
    }

    #[test]
    fn a_refresh_endpoint_that_is_switched_off_is_not_asked() {
        let told = ("client.refresh-credentials-endpoint", "v1/keys");
        let off = ("client.refresh-credentials-enabled", "false");
        assert_eq!(grant(&[told], &[]).refresh_endpoint(), Some("v1/keys"));
        assert_eq!(grant(&[told, off], &[]).refresh_endpoint(), None);
    }
}
