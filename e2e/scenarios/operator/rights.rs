//! Who may do what, by the API server's own word.

use anyhow::Result;
use tidewater_e2e::{Lab, Namespace};

use super::*;

/// What `kubectl auth can-i` says.
async fn may(namespace: &Namespace<'_>, user: &str, what: &[&str]) -> bool {
    let user = format!("--as={user}");
    let arguments = [&["auth", "can-i", &user][..], what].concat();
    // It ends with a failure for a no.
    namespace
        .kubectl(&arguments)
        .await
        .is_ok_and(|said| said.trim() == "yes")
}

#[tokio::test]
async fn people_see_and_change_sinks_by_the_clusters_own_roles() -> Result<()> {
    let lab = Lab::shared().await?;
    let namespace = Box::pin(Box::pin(installed(lab)).await?.namespace()).await?;
    for (name, role) in [("vera", "view"), ("eduard", "edit")] {
        let (user, role) = (format!("--user={name}"), format!("--clusterrole={role}"));
        namespace
            .kubectl(&["create", "rolebinding", name, &user, &role])
            .await?;
    }
    let grown = await_until(WITHIN, "the roles have grown", async || {
        Ok(may(&namespace, "vera", &["list", "ks3"]).await
            && may(&namespace, "eduard", &["create", "icet"]).await)
    });
    Box::pin(grown).await?;
    for verb in ["create", "patch", "delete"] {
        assert!(!may(&namespace, "vera", &[verb, "ks3"]).await, "{verb}");
        assert!(may(&namespace, "eduard", &[verb, "ks3"]).await, "{verb}");
    }
    let scale = ["patch", "ks3", "--subresource=scale"];
    assert!(may(&namespace, "eduard", &scale).await);
    assert!(!may(&namespace, "vera", &scale).await);
    // What is true of a sink is the operator's to say.
    let status = ["patch", "ks3", "--subresource=status"];
    assert!(!may(&namespace, "eduard", &status).await);
    Ok(())
}

#[tokio::test]
async fn the_operator_may_do_its_work_and_nothing_beside_it() -> Result<()> {
    let lab = Lab::shared().await?;
    let namespace = Box::pin(Box::pin(installed(lab)).await?.namespace()).await?;
    let operator = format!("system:serviceaccount:{SYSTEM}:tidewater");
    let status = ["patch", "icet", "--subresource=status"];
    assert!(may(&namespace, &operator, &status).await);
    for does in [
        ["create", "deployments.apps"],
        ["watch", "secrets"],
        ["patch", "configmaps"],
    ] {
        assert!(may(&namespace, &operator, &does).await, "{does:?}");
    }
    for not in [
        ["create", "pods"],
        ["delete", "pods"],
        ["create", "secrets"],
        ["delete", "ks3"],
        ["create", "ks3"],
        ["update", "leases.coordination.k8s.io"],
        ["create", "serviceaccounts"],
        ["create", "rolebindings.rbac.authorization.k8s.io"],
        ["get", "nodes"],
        ["patch", "customresourcedefinitions.apiextensions.k8s.io"],
    ] {
        assert!(!may(&namespace, &operator, &not).await, "{not:?}");
    }
    // By which one who has little gets more.
    for not in [
        ["create", "pods", "--subresource=exec"],
        ["create", "serviceaccounts", "--subresource=token"],
        ["get", "nodes", "--subresource=proxy"],
        ["impersonate", "users", "--all-namespaces"],
        [
            "bind",
            "clusterroles.rbac.authorization.k8s.io",
            "--all-namespaces",
        ],
        [
            "escalate",
            "roles.rbac.authorization.k8s.io",
            "--all-namespaces",
        ],
    ] {
        assert!(!may(&namespace, &operator, &not).await, "{not:?}");
    }
    Ok(())
}
