//! What probes and lifecycle hooks do: ask an HTTP path, open a connection, run a command. The error says what failed.

use std::net::Ipv4Addr;
use std::time::Duration;

use k8s_openapi::api::core::v1::{
    ContainerPort, HTTPGetAction, LifecycleHandler, Probe, TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::sandbox::Sandbox;

/// A running container, as its handlers reach it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) address: Ipv4Addr,
    pub(super) ports: &'a [ContainerPort],
    pub(super) sandbox: &'a Sandbox,
    pub(super) pid: u32,
    pub(super) http: &'a reqwest::Client,
}

/// The client of probes: no pool, no redirects, and no question who a container is, as a kubelet's.
pub(super) fn client() -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder()
        .no_proxy()
        .pool_max_idle_per_host(0)
        .redirect(reqwest::redirect::Policy::none())
        .tls_built_in_root_certs(false)
        .danger_accept_invalid_certs(true)
        .user_agent("kube-probe/1.36")
        .build()
}

impl Target<'_> {
    /// One try of a probe.
    pub(super) async fn probe(self, probe: &Probe) -> Result<(), String> {
        let limit = Duration::from_secs(seconds(probe.timeout_seconds, 1));
        let once = async {
            if let Some(http) = &probe.http_get {
                self.http(http).await
            } else if let Some(tcp) = &probe.tcp_socket {
                self.tcp(tcp).await
            } else if let Some(exec) = &probe.exec {
                self.exec(exec.command.as_deref().unwrap_or_default()).await
            } else {
                Ok(())
            }
        };
        timeout(limit, Box::pin(once))
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {limit:?}")))
    }

    /// A hook, to its end.
    pub(super) async fn hook(self, hook: &LifecycleHandler) -> Result<(), String> {
        if let Some(exec) = &hook.exec {
            self.exec(exec.command.as_deref().unwrap_or_default()).await
        } else if let Some(http) = &hook.http_get {
            self.http(http).await
        } else if let Some(sleep) = &hook.sleep {
            let time = Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0));
            tokio::time::sleep(time).await;
            Ok(())
        } else {
            Ok(())
        }
    }

    async fn http(self, action: &HTTPGetAction) -> Result<(), String> {
        let host = action
            .host
            .clone()
            .unwrap_or_else(|| self.address.to_string());
        let scheme = action.scheme.as_deref().unwrap_or("HTTP").to_lowercase();
        let port = self.port(&action.port)?;
        let path = action
            .path
            .as_deref()
            .unwrap_or("/")
            .trim_start_matches('/');
        let mut request = self.http.get(format!("{scheme}://{host}:{port}/{path}"));
        for header in action.http_headers.iter().flatten() {
            request = request.header(&header.name, &header.value);
        }
        let status = request
            .send()
            .await
            .map_err(|error| chain(&error))?
            .status();
        if status.is_success() || status.is_redirection() {
            Ok(())
        } else {
            Err(format!(
                "HTTP probe failed with statuscode: {}",
                status.as_u16()
            ))
        }
    }

    async fn tcp(self, action: &TCPSocketAction) -> Result<(), String> {
        let host = action
            .host
            .clone()
            .unwrap_or_else(|| self.address.to_string());
        let port = self.port(&action.port)?;
        let stream = TcpStream::connect((host, port)).await;
        stream.map(drop).map_err(|error| error.to_string())
    }

    async fn exec(self, command: &[String]) -> Result<(), String> {
        let output = self.sandbox.exec(self.pid, command).output().await;
        let output = output.map_err(|error| error.to_string())?;
        if output.status.success() {
            return Ok(());
        }
        let said = [output.stdout, output.stderr].concat();
        Err(format!(
            "{}: {}",
            output.status,
            String::from_utf8_lossy(&said).trim()
        ))
    }

    fn port(self, port: &IntOrString) -> Result<u16, String> {
        let number = match port {
            IntOrString::Int(number) => Some(*number),
            IntOrString::String(name) => {
                let named = |port: &&ContainerPort| port.name.as_deref() == Some(name);
                let port = self.ports.iter().find(named);
                port.map(|port| port.container_port)
                    .or_else(|| name.parse().ok())
            }
        };
        number
            .and_then(|number| u16::try_from(number).ok())
            .ok_or_else(|| format!("no port {port:?}"))
    }
}

/// A number of seconds, with its default when it is absent.
pub(super) fn seconds(given: Option<i32>, default: u64) -> u64 {
    given
        .and_then(|seconds| u64::try_from(seconds).ok())
        .unwrap_or(default)
}

fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
