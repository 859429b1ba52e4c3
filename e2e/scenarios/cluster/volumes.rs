//! Files that pods are given.

use std::path::Path;

use anyhow::Result;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use tidewater_e2e::{Lab, await_until};

use super::{WITHIN, address, finished, is_ready, page, script, waits, web, web_pods};

#[tokio::test]
async fn config_maps_and_secrets_are_files_that_change_while_the_pod_runs() -> Result<()> {
    let cluster = Lab::shared().await?.cluster().await?;
    let namespace = cluster.namespace().await?;
    let settings = |value: &str| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"},
            "data": {"a.yaml": value, "b": "same"}})
    };
    let secret = |value: &str| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "lake"}, "stringData": {"key": value}});
    let apply = async |object: Value| namespace.apply(&object.to_string()).await;
    apply(settings("one")).await?;
    apply(secret("first")).await?;
    let folder = json!({"name": "www", "projected": {"sources": [
        {"configMap": {"name": "settings"}},
        {"secret": {"name": "lake", "items": [{"key": "key", "path": "lake/key"}]}},
        {"downwardAPI": {"items": [{"path": "pod", "fieldRef": {"fieldPath": "metadata.labels['app']"}}]}},
    ]}});
    apply(web(1, folder)).await?;
    namespace
        .await_condition("deployment/web", "Available", WITHIN)
        .await?;
    let pod = web_pods(&namespace).await?.remove(0);
    let address = address(&pod).unwrap();
    for (path, expected) in [
        ("a.yaml", "one"),
        ("b", "same"),
        ("lake/key", "first"),
        ("pod", "web"),
    ] {
        assert_eq!(page(address, path).await?.1, expected, "{path}");
    }

    apply(settings("two")).await?;
    apply(secret("second")).await?;
    await_until(WITHIN, "both have changed", async || {
        let (map, key) = (
            page(address, "a.yaml").await?.1,
            page(address, "lake/key").await?.1,
        );
        Ok(map == "two" && key == "second")
    })
    .await?;
    assert!(!Path::new("/www").exists(), "nothing of it outside the pod");
    Ok(())
}

#[tokio::test]
async fn a_pod_waits_for_what_it_lacks_and_says_what_it_is() -> Result<()> {
    let cluster = Lab::shared().await?.cluster().await?;
    let namespace = cluster.namespace().await?;
    let spec = json!({"volumes": [{"name": "lake", "secret": {"secretName": "lake"}}]});
    let own = json!({"volumeMounts": [{"name": "lake", "mountPath": "/etc/tidewater-secrets", "readOnly": true}]});
    namespace
        .apply(&script("mounts", "cat /etc/tidewater-secrets/key", spec, own).to_string())
        .await?;
    let own = json!({"env": [{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "lake", "key": "key"}}}]});
    namespace
        .apply(&script("reads", "echo $KEY", json!({}), own).to_string())
        .await?;
    let stranger = json!({"image": "registry.example/stranger:1"});
    namespace
        .apply(&script("pulls", "true", json!({}), stranger).to_string())
        .await?;

    for (name, reason, part) in [
        ("mounts", "ContainerCreating", "secret \"lake\" not found"),
        (
            "reads",
            "CreateContainerConfigError",
            "secret \"lake\" not found",
        ),
        ("pulls", "ImagePullBackOff", "stranger"),
    ] {
        let told = |pod: &Pod| waits(pod).is_some_and(|(r, m)| r == reason && m.contains(part));
        namespace
            .await_that::<Pod>(name, "says what it lacks", WITHIN, told)
            .await?;
    }
    namespace
        .kubectl(&[
            "create",
            "secret",
            "generic",
            "lake",
            "--from-literal=key=abc",
        ])
        .await?;
    assert_eq!(finished(&namespace, "mounts").await?.1, "abc");
    assert_eq!(finished(&namespace, "reads").await?.1, "abc\n");
    Ok(())
}

#[tokio::test]
async fn the_token_of_a_pod_is_its_service_accounts() -> Result<()> {
    let cluster = Lab::shared().await?.cluster().await?;
    let namespace = cluster.namespace().await?;
    namespace
        .kubectl(&["create", "serviceaccount", "reader"])
        .await?;
    let ask = r#"
import json, os, ssl, urllib.request
folder = "/var/run/secrets/kubernetes.io/serviceaccount/"
url = "https://{KUBERNETES_SERVICE_HOST}:{KUBERNETES_SERVICE_PORT}".format(**os.environ)
review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
request = urllib.request.Request(
    url + "/apis/authentication.k8s.io/v1/selfsubjectreviews", json.dumps(review).encode(),
    {"Authorization": "Bearer " + open(folder + "token").read(), "Content-Type": "application/json"})
opener = urllib.request.build_opener(
    urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=folder + "ca.crt")))
print(open(folder + "namespace").read(), json.load(opener.open(request))["status"]["userInfo"]["username"])
"#;
    let own = json!({"command": ["python3", "-c", ask]});
    let spec = json!({"serviceAccountName": "reader", "securityContext": {"runAsUser": 65532}});
    namespace
        .apply(&script("asks", "", spec, own).to_string())
        .await?;
    let (_, log) = finished(&namespace, "asks").await?;
    let name = namespace.name();
    assert_eq!(log, format!("{name} system:serviceaccount:{name}:reader\n"));
    Ok(())
}

#[tokio::test]
async fn containers_share_empty_folders_and_see_parts_of_volumes() -> Result<()> {
    let cluster = Lab::shared().await?.cluster().await?;
    let namespace = cluster.namespace().await?;
    namespace
        .kubectl(&[
            "create",
            "configmap",
            "settings",
            "--from-literal=a=1",
            "--from-literal=b=2",
        ])
        .await?;
    let shared = json!({"name": "shared", "mountPath": "/shared"});
    let spec = json!({
        "volumes": [{"name": "shared", "emptyDir": {}}, {"name": "settings", "configMap": {"name": "settings"}}],
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 1,
    });
    let own = json!({"volumeMounts": [shared, {"name": "settings", "mountPath": "/etc/one.conf", "subPath": "b"}]});
    let write = "cat /etc/one.conf >/shared/said; sleep 1000";
    let mut pod = script("pair", write, spec, own);
    let reader = json!({
        "name": "reader", "image": "host:dev", "command": ["/bin/sh", "-c", "sleep 1000"],
        "volumeMounts": [shared],
        "readinessProbe": {"exec": {"command": ["grep", "-x", "2", "/shared/said"]}, "periodSeconds": 1},
    });
    pod["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .insert(0, reader);
    namespace.apply(&pod.to_string()).await?;
    namespace
        .await_that::<Pod>("pair", "reads what the other wrote", WITHIN, is_ready)
        .await?;
    Ok(())
}
