//! The API of Tidewater: the kinds `KafkaS3Sink` and `IcebergTable` of group `tidewater.dev/v1alpha1`. Types, defaults
//! and the rules that the API server checks; no I/O. What a cluster installs is [`definitions`].

#![allow(
    unreachable_pub,
    reason = "KubeSchema makes a hidden copy of every public struct with rules, and copies its `pub`"
)]

mod autoscaling;
mod catalog;
mod chart;
mod client_properties;
mod dataset;
mod definition;
mod generate;
mod glue;
mod parquet;
mod pod;
mod quantity;
mod reference;
mod secret;
mod sinks;
mod source;
mod status;
mod store;
mod value;

pub use autoscaling::AutoscalingSpec;
pub use catalog::*;
pub use client_properties::CLIENT_PROPERTIES;
pub use dataset::*;
pub use definition::{definition, definitions};
pub use generate::{Generated, generated};
pub use glue::*;
pub use parquet::*;
pub use pod::{ImagePullPolicy, Opaque, PodSpec, SecretName};
pub use quantity::{ByteSize, QuantityError, TimeSpan};
pub use secret::*;
pub use sinks::*;
pub use source::*;
pub use status::*;
pub use store::*;
pub use value::*;

/// API version of both kinds.
pub const API_VERSION: &str = "tidewater.dev/v1alpha1";
