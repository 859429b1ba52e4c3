use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::*;
use crate::kubelet::fields::Fields;
use crate::kubelet::objects::{Data, Objects};
use crate::kubelet::volumes::Tokens;

fn data(pairs: &[(&str, &str)]) -> Option<Data> {
    let pairs = pairs.iter();
    Some(
        pairs
            .map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()))
            .collect(),
    )
}

/// The files of a volume, as path, contents and mode.
fn made(volume: Value, owner: Owner) -> Result<Vec<(String, String, u32)>, String> {
    let mut volume = volume;
    volume["name"] = json!("v");
    let volume: Volume = serde_json::from_value(volume).unwrap();
    let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}})).unwrap();
    let objects = Objects::from([
        (
            Reference::config_map("settings"),
            data(&[("a.yaml", "1"), ("b", "2")]),
        ),
        (
            Reference::secret("lake"),
            data(&[("id", "x"), ("key", "y")]),
        ),
        (Reference::secret("gone"), None),
    ]);
    let wanted = TokenRequestFor {
        audience: None,
        seconds: 3600,
    };
    let tokens = Tokens::from([(wanted, "token".to_owned())]);
    let contents = Contents {
        fields: Fields {
            pod: &pod,
            node: "lab-0",
            address: Ipv4Addr::new(127, 127, 0, 1),
        },
        objects: &objects,
        tokens: &tokens,
    };
    let files = files(&volume, &contents, owner)?;
    let described = |(path, file): (PathBuf, File)| {
        let contents = String::from_utf8(file.contents).unwrap();
        (path.display().to_string(), contents, file.mode)
    };
    Ok(files.into_iter().map(described).collect())
}

fn file(path: &str, contents: &str, mode: u32) -> (String, String, u32) {
    (path.to_owned(), contents.to_owned(), mode)
}

#[test]
fn a_config_map_gives_a_file_for_each_key_and_items_choose_and_name_them() {
    let all = json!({"configMap": {"name": "settings"}});
    let expected = vec![file("a.yaml", "1", 0o644), file("b", "2", 0o644)];
    assert_eq!(made(all, Owner::default()), Ok(expected));
    let chosen = json!({"configMap": {"name": "settings", "defaultMode": 0o400, "items": [
        {"key": "b", "path": "deep/er"}, {"key": "a.yaml", "path": "a", "mode": 0o600},
    ]}});
    let expected = vec![file("a", "1", 0o600), file("deep/er", "2", 0o400)];
    assert_eq!(made(chosen, Owner::default()), Ok(expected));
}

#[test]
fn projections_lie_side_by_side() {
    let projected = json!({"projected": {"defaultMode": 0o440, "sources": [
        {"secret": {"name": "lake", "items": [{"key": "id", "path": "lake/id"}]}},
        {"secret": {"name": "gone", "optional": true}},
        {"downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
        {"serviceAccountToken": {"path": "token"}},
    ]}});
    let owner = Owner {
        user: Some(65532),
        group: None,
    };
    let expected = vec![
        file("lake/id", "x", 0o440),
        file("name", "p", 0o440),
        file("token", "token", 0o600),
    ];
    assert_eq!(made(projected, owner), Ok(expected));
}

#[test]
fn a_group_may_read_what_the_owner_may() {
    let owner = Owner {
        user: None,
        group: Some(2000),
    };
    let secret = json!({"secret": {"secretName": "lake", "defaultMode": 0o400}});
    let expected = vec![file("id", "x", 0o440), file("key", "y", 0o440)];
    assert_eq!(made(secret, owner), Ok(expected));
}

#[test]
fn what_is_missing_or_leads_out_is_refused() {
    for (volume, expected) in [
        (
            json!({"secret": {"secretName": "gone"}}),
            "secret \"gone\" not found",
        ),
        (
            json!({"secret": {"secretName": "unread"}}),
            "secret \"unread\" not found",
        ),
        (
            json!({"secret": {"secretName": "lake", "items": [{"key": "z", "path": "z"}]}}),
            "non-existent key: z",
        ),
        (
            json!({"secret": {"secretName": "lake", "items": [{"key": "id", "path": "../z"}]}}),
            "leads out",
        ),
    ] {
        let error = made(volume, Owner::default()).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}
