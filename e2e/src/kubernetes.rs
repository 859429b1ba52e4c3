//! Clients of the API server, and watches that outlive it.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use futures::{Stream, StreamExt, TryStream};
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::utils::{Backoff, WatchStreamExt};

/// A client by a kubeconfig alone, whatever the environment says.
pub(crate) async fn client(kubeconfig: &Path) -> Result<Client> {
    let file = Kubeconfig::read_from(kubeconfig)?;
    let mut config =
        kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    config.connect_timeout = Some(Duration::from_secs(5));
    config.proxy_url = None;
    Ok(Client::try_from(config)?)
}

/// Tries again for ever, twice a second: the API server of a lab comes back in seconds.
struct Steady;

impl Iterator for Steady {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(Duration::from_millis(500))
    }
}

impl Backoff for Steady {
    fn reset(&mut self) {}
}

/// A watch without its errors.
pub(crate) fn patient<S, T, E>(watch: S) -> impl Stream<Item = T> + Send + use<S, T, E>
where
    S: Stream<Item = Result<T, E>> + TryStream<Ok = T, Error = E> + Send,
    T: Send,
    E: Send,
{
    watch
        .backoff(Steady)
        .filter_map(|item| std::future::ready(item.ok()))
}
