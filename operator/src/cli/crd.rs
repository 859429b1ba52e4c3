//! `tidewater-operator crd`: the definitions as YAML, for `kubectl apply --server-side -f -`.

use std::process::ExitCode;

use anyhow::Context;

pub(super) fn print() -> anyhow::Result<ExitCode> {
    let files = tidewater_crds::generated().map_err(|error| anyhow::anyhow!("{error}"));
    let files = files.context("make the definitions")?;
    for file in files {
        if file.path.starts_with("crds/") {
            print!("---\n{}", file.text);
        }
    }
    Ok(ExitCode::SUCCESS)
}
