//! The lab: a real Kafka broker, S3, Glue, an Iceberg REST catalog and a fault-injecting proxy on free loopback ports,
//! readers that share no code with Tidewater, and the means to run the `tidewater` binary against them.
//!
//! A scenario begins with [`Lab::shared`]. Scenarios run side by side on one set of servers, so each takes names of its
//! own ([`Lab::unique`], [`Lab::bucket`], [`Lab::topic`]) and starts a private server ([`KafkaServer::start`] and its
//! siblings) when it means to break one. [`Lab::cluster`] is Kubernetes, for those who ask.
//!
//! Everything listens on 127.0.0.1, and nothing outlives the process that started it.

mod cluster;
mod discretion;
mod install;
mod kubelet;
mod kubernetes;
mod lab;
mod measured;
mod os;
mod readers;
mod servers;
mod tidewater;
mod topic;
mod wait;
mod workload;

pub use cluster::{Cluster, ClusterAccess, Namespace};
pub use discretion::{RECORD_MARKER, ensure_discreet};
pub use install::Installation;
pub use kubelet::{Image, Images, Kubelet, KubeletOptions};
pub use lab::{Endpoints, Lab, S3Access};
pub use measured::{Usage, run_measured};
pub use os::free_port;
pub use readers::{DuckDb, IcebergCatalog, PyIceberg, java_data_files};
pub use servers::forwarder::{Forwarder, Passed};
pub use servers::iceberg_rest::{IcebergRest, IcebergRestOptions};
pub use servers::kafka::KafkaServer;
pub use servers::kafka::secured::{SASL_USER, SecuredKafka};
pub use servers::kubernetes::ControlPlane;
pub use servers::ministack::Ministack;
pub use servers::process::{Launch, Process};
pub use servers::s3::S3Server;
pub use servers::spoiler::{Spoil, Spoiler};
pub use servers::toxiproxy::{Proxy, Toxiproxy, ToxiproxyServer};
pub use tidewater::{Tidewater, operator_binary, tidewater_binary};
pub use topic::{Consumed, OpenTransaction, Outcome, Topic, delete_group};
pub use wait::await_until;
pub use workload::{
    COUNTRIES, FIRST_CREATED_MILLIS, FIRST_ORDER_ID, MILLIS_BETWEEN_ORDERS, Record, evenly, orders,
    orders_of_countries,
};
