//! A container's process: its mount namespace, its user, its command.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::{Capabilities, PodSecurityContext, SecurityContext};

use crate::os;

const SCRIPT: &str = include_str!("sandbox.sh");

/// Something of this machine that a container sees at a path of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) source: PathBuf,
    pub(super) path: String,
    pub(super) writable: bool,
}

/// Who a container runs as, and what it may do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) user: u32,
    pub(super) group: u32,
    pub(super) groups: Vec<u32>,
    /// As setpriv writes them: `-all,+net_bind_service`.
    pub(super) capabilities: Option<String>,
    pub(super) no_new_privileges: bool,
    pub(super) read_only_root: bool,
}

impl Identity {
    /// The container's settings win over the pod's, and those over the image's user. The error is for the user.
    pub(super) fn of(
        pod: Option<&PodSecurityContext>,
        container: Option<&SecurityContext>,
        image_user: Option<u32>,
    ) -> Result<Identity, String> {
        let number = |id: i64| u32::try_from(id).map_err(|_| format!("{id} is no user or group"));
        let asked =
            |container: Option<i64>, pod: Option<i64>| container.or(pod).map(number).transpose();
        let (pod, container) = (
            pod.cloned().unwrap_or_default(),
            container.cloned().unwrap_or_default(),
        );
        let user = asked(container.run_as_user, pod.run_as_user)?;
        let group = asked(container.run_as_group, pod.run_as_group)?;
        let user = user.or(image_user).unwrap_or(0);
        if container.run_as_non_root.or(pod.run_as_non_root) == Some(true) && user == 0 {
            return Err("container has runAsNonRoot and image will run as root".to_owned());
        }
        let mut groups = Vec::new();
        for id in pod
            .supplemental_groups
            .into_iter()
            .flatten()
            .chain(pod.fs_group)
        {
            groups.push(number(id)?);
        }
        Ok(Identity {
            user,
            // An image names user and group together; a user that the image does not know has the group 0.
            group: group.unwrap_or(if image_user == Some(user) { user } else { 0 }),
            groups,
            capabilities: container.capabilities.as_ref().and_then(bounding_set),
            no_new_privileges: container.allow_privilege_escalation == Some(false),
            read_only_root: container.read_only_root_filesystem == Some(true),
        })
    }

    /// The words before a command that make it run so.
    fn words(&self) -> Vec<String> {
        let mut words = vec![
            "setpriv".to_owned(),
            format!("--reuid={}", self.user),
            format!("--regid={}", self.group),
        ];
        if self.groups.is_empty() {
            words.push("--clear-groups".to_owned());
        } else {
            let groups: Vec<String> = self.groups.iter().map(u32::to_string).collect();
            words.push(format!("--groups={}", groups.join(",")));
        }
        if let Some(capabilities) = &self.capabilities {
            words.push("--inh-caps=-all".to_owned());
            words.push(format!("--bounding-set={capabilities}"));
        }
        if self.no_new_privileges {
            words.push("--no-new-privs".to_owned());
        }
        // Another user would forget it: the kernel clears it with the change.
        words.push("--pdeathsig=KILL".to_owned());
        words.push("--".to_owned());
        words
    }
}

fn bounding_set(capabilities: &Capabilities) -> Option<String> {
    let named = |sign: char| {
        move |name: &String| {
            let name = name.to_lowercase();
            format!("{sign}{}", name.strip_prefix("cap_").unwrap_or(&name))
        }
    };
    let dropped = capabilities.drop.iter().flatten().map(named('-'));
    let added = capabilities.add.iter().flatten().map(named('+'));
    let all: Vec<String> = dropped.chain(added).collect();
    (!all.is_empty()).then(|| all.join(","))
}

/// Everything a process is started with.
#[derive(Debug)]
pub(super) struct Sandbox {
    /// An empty folder for the writable layer.
    pub(super) layer: PathBuf,
    pub(super) mounts: Vec<Mount>,
    pub(super) identity: Identity,
    pub(super) variables: BTreeMap<String, String>,
    pub(super) working_folder: String,
    pub(super) command: Vec<String>,
    pub(super) log: PathBuf,
}

impl Sandbox {
    /// Starts the process. It is the leader of a group of its own, and dies with this process.
    pub(super) fn start(&self) -> Result<Child> {
        fs::create_dir_all(&self.layer)?;
        let parent = self.log.parent().context("the log has no folder")?;
        fs::create_dir_all(parent)?;
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)?;
        let mut command = Command::new("unshare");
        command
            .args([
                "--mount",
                "--propagation",
                "slave",
                "/bin/sh",
                "-c",
                SCRIPT,
                "sandbox",
            ])
            .arg(&self.layer)
            .arg(access(!self.identity.read_only_root))
            .args(self.mounts.iter().map(mount_word))
            .arg("--")
            .args(inside(
                &self.identity,
                &self.variables,
                &self.working_folder,
            ))
            .args(&self.command)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        os::spawn_bound(command).context("start 'unshare'")
    }

    /// A command within the namespace of the running process, as its user, with its variables.
    pub(super) fn exec(&self, pid: u32, words: &[String]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new("nsenter");
        command
            .args(["--target", &pid.to_string(), "--mount", "--root", "--"])
            .args(inside(
                &self.identity,
                &self.variables,
                &self.working_folder,
            ))
            .args(words)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }
}

/// The words that make what follows them run with these variables, in this folder, as this user.
fn inside(
    identity: &Identity,
    variables: &BTreeMap<String, String>,
    working_folder: &str,
) -> Vec<String> {
    // setpriv first: it is looked for in this machine's folders, the command in those of the container's PATH.
    let mut words = identity.words();
    words.extend(["env", "--ignore-environment"].map(str::to_owned));
    words.push(format!("--chdir={working_folder}"));
    words.extend(
        variables
            .iter()
            .map(|(name, value)| format!("{name}={value}")),
    );
    words
}

fn access(writable: bool) -> &'static str {
    if writable { "rw" } else { "ro" }
}

fn mount_word(mount: &Mount) -> OsString {
    let mut word = OsString::from(&mount.source);
    word.push("\t");
    word.push(&mount.path);
    word.push("\t");
    word.push(access(mount.writable));
    word
}

/// Removes the folder of a layer; the layer itself went with its namespace.
pub(super) fn discard(layer: &Path) {
    // Whatever is left is gone with the lab's folder.
    let _ = fs::remove_dir(layer);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn identity(pod: Value, container: Value, image: Option<u32>) -> Result<Identity, String> {
        let pod: PodSecurityContext = serde_json::from_value(pod).unwrap();
        let container: SecurityContext = serde_json::from_value(container).unwrap();
        Identity::of(Some(&pod), Some(&container), image)
    }

    #[test]
    fn the_container_says_who_it_runs_as_else_the_pod_else_the_image() {
        let user = |identity: Result<Identity, String>| identity.map(|i| (i.user, i.group));
        let (one, none) = (json!({"runAsUser": 1}), json!({}));
        assert_eq!(
            user(identity(one.clone(), json!({"runAsUser": 2}), Some(3))),
            Ok((2, 0))
        );
        assert_eq!(user(identity(one, none.clone(), Some(3))), Ok((1, 0)));
        assert_eq!(
            user(identity(none.clone(), none.clone(), Some(3))),
            Ok((3, 3))
        );
        assert_eq!(user(identity(none.clone(), none, None)), Ok((0, 0)));
    }

    #[test]
    fn root_is_refused_to_who_must_not_be_root() {
        let strict = json!({"runAsNonRoot": true});
        assert!(
            identity(strict.clone(), json!({}), None)
                .unwrap_err()
                .contains("runAsNonRoot")
        );
        assert!(identity(strict, json!({}), Some(65532)).is_ok());
    }

    #[test]
    fn capabilities_are_taken_away_and_given_back_by_name() {
        let restricted = json!({
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
        });
        let words = identity(json!({"fsGroup": 5}), restricted, Some(7))
            .unwrap()
            .words();
        for word in [
            "--bounding-set=-all,+net_bind_service",
            "--no-new-privs",
            "--groups=5",
        ] {
            assert!(words.iter().any(|found| found == word), "{word}: {words:?}");
        }
    }
}
