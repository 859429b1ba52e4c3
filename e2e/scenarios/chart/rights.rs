//! The rules that the chart grants the operator are those that the page on security lists, and none beside them.

use std::collections::BTreeSet;

use super::*;

/// Group, resource and verb, and the one name that it is good for, or none.
type Right = (String, String, String, String);

/// Where the kinds are that the page calls by their names alone.
fn group(resource: &str) -> &'static str {
    match resource.split('/').next().unwrap_or_default() {
        "kafkas3sinks" | "icebergtables" => "tidewater.dev",
        "deployments" => "apps",
        "poddisruptionbudgets" => "policy",
        "horizontalpodautoscalers" => "autoscaling",
        "podmonitors" => "monitoring.coreos.com",
        "events" => "events.k8s.io",
        "leases" => "coordination.k8s.io",
        _ => "",
    }
}

/// The rows of the page's table: kinds, verbs.
fn documented(own_lease: &str) -> Result<BTreeSet<Right>> {
    let page = std::fs::read_to_string(root().join("docs/security.md"))?;
    let (_, section) = page
        .split_once("## The operator's rights\n")
        .context("no section on rights")?;
    let (_, table) = section.split_once("|---|---|---|\n").context("no table")?;
    let mut rights = BTreeSet::new();
    let mut kinds: Vec<String> = Vec::new();
    let mut verbs = "";
    for row in table.lines().take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let (on, may) = (cells[1], cells[2]);
        let named: Vec<String> = on
            .split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect();
        let part = on.strip_prefix("their ").and(named.first());
        kinds = match part {
            Some(part) => kinds.iter().map(|kind| format!("{kind}/{part}")).collect(),
            // `events` of `events.k8s.io`: the second is a group.
            None => named
                .into_iter()
                .filter(|name| !name.contains('.'))
                .collect(),
        };
        if may != "the same" {
            verbs = may;
        }
        for (clause, name) in verbs.split(';').map(|clause| {
            let own = clause.strip_suffix(" of its own one");
            (own.unwrap_or(clause), own.map_or("", |_| own_lease))
        }) {
            let words = clause.split([',', ' ']);
            for verb in words.filter(|word| !word.is_empty() && *word != "and") {
                for kind in &kinds {
                    let right = (group(kind), kind.as_str(), verb, name);
                    rights.insert(owned(right));
                }
            }
        }
    }
    Ok(rights)
}

fn owned((group, resource, verb, name): (&str, &str, &str, &str)) -> Right {
    let owned = str::to_owned;
    (owned(group), owned(resource), owned(verb), owned(name))
}

/// What the roles say that are bound to the operator's account.
fn granted(objects: &[Value]) -> BTreeSet<Right> {
    let bindings = [
        of_kind(objects, "ClusterRoleBinding"),
        of_kind(objects, "RoleBinding"),
    ]
    .concat();
    let mut rights = BTreeSet::new();
    for binding in bindings {
        let of_binding = |role: &&Value| {
            role["kind"] == binding["roleRef"]["kind"]
                && role["metadata"]["name"] == binding["roleRef"]["name"]
                && role["metadata"]["namespace"] == binding["metadata"]["namespace"]
        };
        let role = objects.iter().find(of_binding);
        let rules = role.map(|role| role["rules"].as_array().into_iter().flatten());
        for rule in rules.into_iter().flatten() {
            let texts = |field: &str| -> Vec<&str> {
                let all = rule[field].as_array().into_iter().flatten();
                all.filter_map(Value::as_str).collect()
            };
            let names = match texts("resourceNames") {
                names if names.is_empty() => vec![""],
                names => names,
            };
            // A right that is no right to a resource is shown as one that the page cannot list.
            for url in texts("nonResourceURLs") {
                rights.insert(owned(("", url, "any", "")));
            }
            for group in texts("apiGroups") {
                for resource in texts("resources") {
                    for verb in texts("verbs") {
                        for name in &names {
                            rights.insert(owned((group, resource, verb, name)));
                        }
                    }
                }
            }
        }
    }
    rights
}

#[tokio::test]
async fn the_operator_may_do_what_the_page_on_security_lists_and_nothing_beside_it() -> Result<()> {
    let monitors = json!({"metrics": {"podMonitors": {"enabled": true}}});
    for (values, with_monitors) in [
        (json!({}), false),
        (monitors, true),
        (everything(), true),
        (json!({"watchNamespaces": ["shop"]}), false),
    ] {
        let objects = rendered(&values).await?;
        let operator = of_kind(&objects, "Deployment")[0];
        let name = operator["metadata"]["name"].as_str().context("a name")?;
        let mut wanted = documented(name)?;
        wanted.retain(|(_, kind, ..)| with_monitors || kind != "podmonitors");
        assert!(wanted.len() > 40, "{wanted:#?}");
        let granted = granted(&objects);
        let beyond: Vec<_> = granted.difference(&wanted).collect();
        let missing: Vec<_> = wanted.difference(&granted).collect();
        assert!(
            beyond.is_empty() && missing.is_empty(),
            "{values}\nbeyond the page: {beyond:#?}\nnot granted: {missing:#?}"
        );
    }
    Ok(())
}
