//! What the operator was told at start.

use std::collections::BTreeMap;

use crate::controller::table::CatalogIdentity;

/// The same for every resource.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Image for pods whose resource names none.
    pub runtime_image: String,
    /// Namespaces whose resources are reconciled; empty for all.
    pub namespaces: Vec<String>,
    /// Labels of the PodMonitors to make; `None` for no PodMonitors.
    pub pod_monitors: Option<BTreeMap<String, String>>,
    /// As whom catalogs are asked for resources that bring no keys.
    pub catalog_identity: CatalogIdentity,
}
