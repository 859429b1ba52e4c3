//! What a pod is given, and how it ends.

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use serde_json::json;
use tidewater_e2e::{Lab, await_until};

use super::{
    WITHIN, container, finished, is_ready, nothing, phase, process, script, web, web_pods,
};

#[tokio::test]
async fn a_container_that_crashed_is_started_again_in_its_pod() -> Result<()> {
    let cluster = Lab::shared().await?.cluster().await?;
    let namespace = cluster.namespace().await?;
    namespace.apply(&web(1, nothing()).to_string()).await?;
    namespace
        .await_condition("deployment/web", "Available", WITHIN)
        .await?;
    let pod = web_pods(&namespace).await?.remove(0);
    let killed = Command::new("kill")
        .args(["-9", &process(&pod)?.to_string()])
        .status()?;
    assert!(killed.success());

    let again = |pod: &Pod| container(pod).is_some_and(|c| c.ready && c.restart_count == 1);
    let name = pod.metadata.name.clone().unwrap_or_default();
    let after = namespace
        .await_that::<Pod>(&name, "restarted", WITHIN, again)
        .await?;
    assert_eq!(after.metadata.uid, pod.metadata.uid);
    let last = container(&after).and_then(|container| container.last_state.clone());
    let last = last.and_then(|state| state.terminated).unwrap();
    assert_eq!((last.exit_code, last.signal), (137, Some(9)));
    Ok(())
}

#[tokio::test]
async fn restarts_follow_the_policy_and_wait_longer_each_time() -> Result<()> {
    let cluster = Lab::shared().await?.cluster().await?;
    let namespace = cluster.namespace().await?;
    let fails_twice = "echo try >>/work/tries; [ $(wc -l </work/tries) = 3 ] || exit 3";
    let work = json!({"volumes": [{"name": "work", "emptyDir": {}}], "restartPolicy": "OnFailure"});
    let mount = json!({"volumeMounts": [{"name": "work", "mountPath": "/work"}]});
    namespace
        .apply(&script("retries", fails_twice, work, mount).to_string())
        .await?;
    let crashing = json!({"restartPolicy": "Always"});
    namespace
        .apply(&script("crashes", "exit 1", crashing, json!({})).to_string())
        .await?;
    namespace
        .apply(&script("fails", "exit 4", json!({}), json!({})).to_string())
        .await?;

    let backs_off =
        |pod: &Pod| super::waits(pod).is_some_and(|(reason, _)| reason == "CrashLoopBackOff");
    namespace
        .await_that::<Pod>("crashes", "backs off", WITHIN, backs_off)
        .await?;
    let (retries, _) = finished(&namespace, "retries").await?;
    assert_eq!(phase(&retries), "Succeeded");
    assert_eq!(
        container(&retries).map(|container| container.restart_count),
        Some(2)
    );
    let (fails, _) = finished(&namespace, "fails").await?;
    assert_eq!(phase(&fails), "Failed");
    let ended = container(&fails).and_then(|container| container.state.clone());
    assert_eq!(
        ended
            .and_then(|state| state.terminated)
            .map(|ended| ended.exit_code),
        Some(4)
    );
    Ok(())
}

#[tokio::test]
async fn a_deleted_pod_may_finish_its_work_and_is_killed_when_it_takes_too_long() -> Result<()> {
    let lab = Lab::shared().await?;
    let cluster = lab.cluster().await?;
    let namespace = cluster.namespace().await?;
    let outside = lab.scratch()?;
    let volumes = json!([{"name": "out", "hostPath": {"path": outside}}]);
    let mount = json!({"volumeMounts": [{"name": "out", "mountPath": "/out"}]});
    let polite = "trap 'sleep 1; echo done >/out/polite; exit 0' TERM; echo up >/out/up; while :; do sleep 0.1; done";
    let spec = json!({"volumes": volumes, "terminationGracePeriodSeconds": 60});
    namespace
        .apply(&script("polite", polite, spec, mount.clone()).to_string())
        .await?;
    let deaf =
        "trap 'echo heard >/out/deaf' TERM; echo up >/out/up-too; while :; do sleep 0.1; done";
    let spec = json!({"volumes": volumes, "terminationGracePeriodSeconds": 2});
    namespace
        .apply(&script("deaf", deaf, spec, mount).to_string())
        .await?;

    await_until(WITHIN, "both run", async || {
        Ok(outside.join("up").exists() && outside.join("up-too").exists())
    })
    .await?;
    let running = namespace.api::<Pod>().await?.get("deaf").await?;
    namespace
        .kubectl(&["delete", "pods", "--all", "--timeout=100s"])
        .await?;
    assert_eq!(std::fs::read_to_string(outside.join("polite"))?, "done\n");
    assert_eq!(std::fs::read_to_string(outside.join("deaf"))?, "heard\n");
    assert!(!Path::new(&format!("/proc/{}", process(&running)?)).exists());
    Ok(())
}

#[tokio::test]
async fn variables_come_from_all_that_a_pod_may_name() -> Result<()> {
    let cluster = Lab::shared().await?.cluster().await?;
    let namespace = cluster.namespace().await?;
    namespace
        .kubectl(&[
            "create",
            "configmap",
            "settings",
            "--from-literal=level=info",
        ])
        .await?;
    namespace
        .kubectl(&[
            "create",
            "secret",
            "generic",
            "lake",
            "--from-literal=key=abc",
        ])
        .await?;
    let field = |path: &str| json!({"fieldRef": {"fieldPath": path}});
    let own = json!({
        "resources": {"limits": {"memory": "64Mi"}},
        "envFrom": [{"prefix": "APP_", "configMapRef": {"name": "settings"}}],
        "env": [
            {"name": "POD", "valueFrom": field("metadata.name")},
            {"name": "NODE", "valueFrom": field("spec.nodeName")},
            {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "lake", "key": "key"}}},
            {"name": "LEVEL", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "level"}}},
            {"name": "MEMORY", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory"}}},
            {"name": "ALL", "value": "$(POD) $(KEY) $(NONE)"},
        ],
        "args": ["sh", "$(KEY)"],
        "workingDir": "/etc",
    });
    let print = r#"echo "$ALL/$NODE/$LEVEL/$APP_level/$MEMORY/$1 in $PWD""#;
    namespace
        .apply(&script("env", print, json!({}), own).to_string())
        .await?;
    let (pod, log) = finished(&namespace, "env").await?;
    let node = pod.spec.and_then(|spec| spec.node_name).unwrap_or_default();
    assert_eq!(
        log,
        format!("env abc $(NONE)/{node}/info/info/67108864/abc in /etc\n")
    );
    Ok(())
}

#[tokio::test]
async fn a_restricted_pod_is_nobody_on_a_root_that_it_cannot_write_to() -> Result<()> {
    let cluster = Lab::shared().await?.cluster().await?;
    let namespace = cluster.namespace().await?;
    namespace
        .kubectl(&[
            "label",
            "namespace",
            namespace.name(),
            "pod-security.kubernetes.io/enforce=restricted",
        ])
        .await?;
    let spec = json!({
        "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "fsGroup": 2000,
            "seccompProfile": {"type": "RuntimeDefault"}},
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    });
    let own = json!({
        "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    });
    let look = "id -u; id -G; grep CapBnd /proc/self/status; touch /etc/x /dev/x; touch /tmp/x && stat -c %g /tmp/x; pwd";
    namespace
        .apply(&script("nobody", look, spec, own).to_string())
        .await?;
    let (_, log) = finished(&namespace, "nobody").await?;
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines[0], "65532", "{log}");
    assert_eq!(lines[1], "0 2000", "{log}");
    assert_eq!(lines[2], "CapBnd:\t0000000000000000", "{log}");
    assert_eq!(log.matches("touch: cannot touch").count(), 2, "{log}");
    assert_eq!(&lines[lines.len() - 2..], ["2000", "/"], "{log}");
    assert!(!Path::new("/etc/x").exists());
    Ok(())
}

#[tokio::test]
async fn init_containers_run_in_order_and_before_the_others() -> Result<()> {
    let cluster = Lab::shared().await?.cluster().await?;
    let namespace = cluster.namespace().await?;
    let mount = json!([{"name": "work", "mountPath": "/work"}]);
    let step = |name: &str, script: &str| json!({"name": name, "image": "host:dev", "command": ["/bin/sh", "-c", script], "volumeMounts": mount});
    let spec = json!({
        "volumes": [{"name": "work", "emptyDir": {}}],
        "initContainers": [step("first", "sleep 0.5; echo first >>/work/order"), step("second", "echo second >>/work/order")],
    });
    let own = json!({"volumeMounts": mount});
    namespace
        .apply(&script("ordered", "cat /work/order", spec, own).to_string())
        .await?;
    let (pod, log) = finished(&namespace, "ordered").await?;
    assert_eq!(
        (phase(&pod), log.as_str()),
        ("Succeeded", "first\nsecond\n")
    );
    Ok(())
}

#[tokio::test]
async fn probes_decide_when_a_pod_is_ready_and_when_it_is_started_again() -> Result<()> {
    let cluster = Lab::shared().await?.cluster().await?;
    let namespace = cluster.namespace().await?;
    let there = |file: &str| json!({"exec": {"command": ["test", "-e", file]}, "periodSeconds": 1, "failureThreshold": 1});
    let own = json!({
        "startupProbe": {"exec": {"command": ["test", "-e", "/tmp/started"]}, "periodSeconds": 1, "failureThreshold": 60},
        "readinessProbe": there("/signs/ready"),
        "livenessProbe": there("/tmp/started"),
        "volumeMounts": [{"name": "signs", "mountPath": "/signs"}],
    });
    let lab = Lab::shared().await?;
    let signs = lab.scratch()?;
    let spec = json!({
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 1,
        "volumes": [{"name": "signs", "hostPath": {"path": signs}}],
    });
    let hangs_once = "sleep 1; touch /tmp/started; [ -e /signs/hung ] || { until [ -e /signs/hang ]; do sleep 0.1; done; touch /signs/hung; rm /tmp/started; }; sleep 1000";
    namespace
        .apply(&script("probed", hangs_once, spec, own).to_string())
        .await?;
    let started = |pod: &Pod| container(pod).is_some_and(|c| c.started == Some(true));
    let pod = namespace
        .await_that::<Pod>("probed", "started", WITHIN, started)
        .await?;
    assert!(!is_ready(&pod));
    std::fs::write(signs.join("ready"), "")?;
    namespace
        .await_that::<Pod>("probed", "ready", WITHIN, is_ready)
        .await?;
    std::fs::remove_file(signs.join("ready"))?;
    let unready = |pod: &Pod| !is_ready(pod);
    namespace
        .await_that::<Pod>("probed", "not ready", WITHIN, unready)
        .await?;

    std::fs::write(signs.join("ready"), "")?;
    std::fs::write(signs.join("hang"), "")?;
    let again = |pod: &Pod| container(pod).is_some_and(|c| c.ready && c.restart_count == 1);
    let pod = namespace
        .await_that::<Pod>("probed", "started again", WITHIN, again)
        .await?;
    let last = container(&pod).and_then(|container| container.last_state.clone());
    let message = last
        .and_then(|state| state.terminated?.message)
        .unwrap_or_default();
    assert!(message.contains("Liveness probe failed"), "{message}");
    Ok(())
}

#[tokio::test]
async fn logs_are_read_followed_and_kept_over_a_restart() -> Result<()> {
    let cluster = Lab::shared().await?.cluster().await?;
    let namespace = cluster.namespace().await?;
    let talks = "if [ -e /work/again ]; then echo second; sleep 1000; fi; touch /work/again; echo one; sleep 0.5; echo two; exit 1";
    let spec = json!({"restartPolicy": "Always", "terminationGracePeriodSeconds": 1,
        "volumes": [{"name": "work", "emptyDir": {}}]});
    let own = json!({"volumeMounts": [{"name": "work", "mountPath": "/work"}]});
    namespace
        .apply(&script("talks", talks, spec, own).to_string())
        .await?;
    let again =
        |pod: &Pod| container(pod).is_some_and(|c| c.restart_count == 1 && c.started == Some(true));
    namespace
        .await_that::<Pod>("talks", "second run", WITHIN, again)
        .await?;
    assert_eq!(
        namespace.kubectl(&["logs", "talks", "--previous"]).await?,
        "one\ntwo\n"
    );
    assert_eq!(
        namespace
            .kubectl(&["logs", "talks", "--previous", "--tail=1"])
            .await?,
        "two\n"
    );
    await_until(WITHIN, "the second run has spoken", async || {
        Ok(namespace.log("talks").await? == "second\n")
    })
    .await?;

    namespace
        .apply(&script("short", "echo a; sleep 1; echo b", json!({}), json!({})).to_string())
        .await?;
    let begun = |pod: &Pod| !matches!(phase(pod), "" | "Pending");
    namespace
        .await_that::<Pod>("short", "begun", WITHIN, begun)
        .await?;
    assert_eq!(
        namespace.kubectl(&["logs", "--follow", "short"]).await?,
        "a\nb\n"
    );
    Ok(())
}

#[tokio::test]
async fn a_namespace_goes_away_with_its_pods() -> Result<()> {
    let cluster = Lab::shared().await?.cluster().await?;
    let namespace = cluster.namespace().await?;
    namespace.apply(&web(1, nothing()).to_string()).await?;
    namespace
        .await_condition("deployment/web", "Available", WITHIN)
        .await?;
    let pod = web_pods(&namespace).await?.remove(0);
    let pid = process(&pod)?;
    cluster
        .kubectl(&["delete", "namespace", namespace.name(), "--timeout=110s"])
        .await?;
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    let pods = namespace
        .api::<Pod>()
        .await?
        .list(&ListParams::default())
        .await?;
    assert_eq!(pods.items.len(), 0);
    Ok(())
}
