//! From a container's description to its process: image, user, variables, command, mounts.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::Container;

use super::PodContext;
use super::running::{Described, Running};
use crate::kubelet::environment;
use crate::kubelet::expansion::expand;
use crate::kubelet::fields::Fields;
use crate::kubelet::images::Image;
use crate::kubelet::logs;
use crate::kubelet::objects::{self, Objects};
use crate::kubelet::sandbox::{Identity, Mount, Sandbox};

/// Why a container does not start, as its status says it.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Refused {
    fn config(message: String) -> Self {
        Refused {
            reason: "CreateContainerConfigError",
            message,
        }
    }

    fn run(error: impl std::fmt::Display) -> Self {
        Refused {
            reason: "RunContainerError",
            message: error.to_string(),
        }
    }
}

pub(super) async fn start(
    pod: &PodContext,
    container: &Container,
    restarts: u32,
) -> Result<Running, Refused> {
    let reference = container.image.as_deref().unwrap_or("");
    let image = pod.kubelet.options.images.find(reference);
    let image = image.map_err(|message| Refused {
        reason: "ImagePullBackOff",
        message,
    })?;
    let spec = pod.pod.spec.as_ref();
    let security = spec.and_then(|spec| spec.security_context.as_ref());
    let identity = Identity::of(security, container.security_context.as_ref(), image.user);
    let identity = identity.map_err(Refused::config)?;
    let variables = variables(pod, container).await?;

    let message = pod.folder.join("messages").join(&container.name);
    make_message(&message).map_err(Refused::run)?;
    let sandbox = Sandbox {
        layer: pod.folder.join("layers").join(&container.name),
        mounts: mounts(pod, container, image, &variables, &message).map_err(Refused::config)?,
        identity,
        working_folder: container
            .working_dir
            .clone()
            .unwrap_or_else(|| "/".to_owned()),
        command: command(container, image, &variables).map_err(Refused::config)?,
        variables,
        log: logs::file(&pod.logs, &container.name, restarts),
    };
    let grace = spec.and_then(|spec| spec.termination_grace_period_seconds);
    let grace = grace.and_then(|seconds| u64::try_from(seconds).ok());
    let child = sandbox
        .start()
        .map_err(|error| Refused::run(format!("{error:#}")))?;
    let policy = container.termination_message_policy.as_deref();
    let described = Described {
        sandbox,
        address: pod.address,
        http: pod.kubelet.http.clone(),
        grace: Duration::from_secs(grace.unwrap_or(30)),
        message,
        message_of_log: policy == Some("FallbackToLogsOnError"),
    };
    Ok(Running::of(child, described))
}

async fn variables(
    pod: &PodContext,
    container: &Container,
) -> Result<BTreeMap<String, String>, Refused> {
    let kubelet = &pod.kubelet;
    let namespace = pod.pod.metadata.namespace.as_deref().unwrap_or("default");
    let mut found = Objects::new();
    for reference in objects::of_variables(container) {
        let data = objects::fetch(&kubelet.client, namespace, &reference).await;
        let data = data.map_err(|error| Refused::config(error.to_string()))?;
        found.insert(reference, data);
    }
    let fields = Fields {
        pod: &pod.pod,
        node: &kubelet.options.node,
        address: pod.address,
    };
    environment::variables(container, fields, &found, &kubelet.options.server)
        .map_err(Refused::config)
}

/// The container's command takes the place of the image's, its arguments follow either.
fn command(
    container: &Container,
    image: &Image,
    variables: &BTreeMap<String, String>,
) -> Result<Vec<String>, String> {
    let expanded = |word: &String| expand(word, |name| variables.get(name).cloned());
    let own = container.command.iter().flatten().map(expanded);
    let mut words: Vec<String> = own.collect();
    if words.is_empty() {
        words.clone_from(&image.entrypoint);
    }
    words.extend(container.args.iter().flatten().map(expanded));
    if words.is_empty() {
        return Err("no command specified".to_owned());
    }
    Ok(words)
}

/// Outer paths first: a mount within another has to come after it.
fn mounts(
    pod: &PodContext,
    container: &Container,
    image: &Image,
    variables: &BTreeMap<String, String>,
    message: &Path,
) -> Result<Vec<Mount>, String> {
    let files = image.files.iter().map(|(file, path)| Mount {
        source: file.clone(),
        path: path.clone(),
        writable: false,
    });
    let mut mounts: Vec<Mount> = files.collect();
    for mount in container.volume_mounts.iter().flatten() {
        let part = match &mount.sub_path_expr {
            Some(expression) => Some(expand(expression, |name| variables.get(name).cloned())),
            None => mount.sub_path.clone(),
        };
        let (source, writable) = pod.volumes.source(&pod.pod, &mount.name, part.as_deref())?;
        mounts.push(Mount {
            source,
            path: mount.mount_path.clone(),
            writable: writable && mount.read_only != Some(true),
        });
    }
    let path = container.termination_message_path.clone();
    mounts.push(Mount {
        source: message.to_owned(),
        path: path.unwrap_or_else(|| "/dev/termination-log".to_owned()),
        writable: true,
    });
    mounts.sort_by_key(|mount| mount.path.matches('/').count());
    if let Some(odd) = mounts.iter().find(|mount| !is_plain(mount)) {
        return Err(format!(
            "mount path \"{}\" is not absolute, or has a tab",
            odd.path
        ));
    }
    Ok(mounts)
}

fn is_plain(mount: &Mount) -> bool {
    mount.path.starts_with('/') && !mount.path.contains('\t')
}

/// An empty file that any user may write to.
fn make_message(file: &PathBuf) -> std::io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(file, "")?;
    fs::set_permissions(file, fs::Permissions::from_mode(0o666))
}
