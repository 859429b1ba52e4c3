//! The Dockerfile, which cannot be built here: held against the binaries, the pods and what the build reads.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tidewater_e2e::tidewater_binary;

use super::{of_kind, rendered, root};

fn dockerfile() -> String {
    std::fs::read_to_string(root().join("Dockerfile")).unwrap()
}

/// The lines of the stage of that name, those of the stages it is made from first.
fn stage(name: &str) -> String {
    let text = dockerfile();
    let of = |name: &str| -> Option<(String, String)> {
        let mut stages = text.split("\nFROM ").skip(1);
        let found = stages.find(|stage| {
            let first = stage.lines().next().unwrap_or_default();
            first.ends_with(&format!(" AS {name}"))
        })?;
        let (first, rest) = found.split_once('\n')?;
        Some((first.split(' ').next()?.to_owned(), rest.to_owned()))
    };
    let Some((from, own)) = of(name) else {
        return String::new();
    };
    format!("{}{own}", stage(&from))
}

/// Packages of Debian 12 with the libraries that a program may be linked to. What every Debian has is not listed.
const PACKAGES: [(&str, &str); 4] = [
    ("libssl.so.3", "libssl3"),
    ("libcrypto.so.3", "libssl3"),
    ("libsasl2.so.2", "libsasl2-2"),
    ("libz.so.1", "zlib1g"),
];
const EVERYWHERE: [&str; 5] = [
    "linux-vdso.so.1",
    "libgcc_s.so.1",
    "libm.so.6",
    "libc.so.6",
    "ld-linux",
];

#[test]
fn an_image_has_every_library_that_its_program_is_linked_to_and_no_more() -> Result<()> {
    let runtime = tidewater_binary()?;
    let operator = runtime.with_file_name("tidewater-operator");
    let mut needed = BTreeSet::new();
    for program in [runtime, operator] {
        let output = Command::new("ldd").arg(&program).output()?;
        ensure!(output.status.success(), "ldd {}", program.display());
        for line in String::from_utf8(output.stdout)?.lines() {
            let library = line.split_whitespace().next().context("an empty line")?;
            let name = library.rsplit('/').next().unwrap_or(library);
            if EVERYWHERE.iter().any(|known| name.starts_with(known)) {
                continue;
            }
            let package = PACKAGES.iter().find(|(library, _)| *library == name);
            let (_, package) =
                package.with_context(|| format!("no package is known for {name}"))?;
            needed.insert((*package).to_owned());
        }
    }
    // Loaded or run by name at run time: Kerberos and its kinit; certificates are read as files.
    let by_name = [
        "libsasl2-modules-gssapi-mit",
        "krb5-user",
        "ca-certificates",
    ];
    needed.extend(by_name.map(str::to_owned));
    for name in ["runtime", "operator"] {
        let stage = stage(name);
        let list = stage
            .split("--no-install-recommends")
            .nth(1)
            .context("no packages are installed")?;
        let installed: BTreeSet<String> = list
            .lines()
            .take_while(|line| !line.trim_start().starts_with("&&"))
            .flat_map(str::split_whitespace)
            .filter(|word| *word != "\\")
            .map(str::to_owned)
            .collect();
        assert_eq!(installed, needed, "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn an_image_runs_its_program_as_the_user_that_the_pods_are_given() -> Result<()> {
    for (name, program) in [("runtime", "tidewater"), ("operator", "tidewater-operator")] {
        let stage = stage(name);
        // The pods give arguments only.
        assert!(
            stage.contains(&format!("ENTRYPOINT [\"{program}\"]")),
            "{stage}"
        );
        assert!(stage.contains(&format!("/usr/local/bin/{program} /usr/local/bin/")));
        assert!(!stage.contains("CMD"), "{stage}");
        let users: Vec<&str> = stage
            .lines()
            .filter_map(|line| line.strip_prefix("USER "))
            .collect();
        assert_eq!(users, ["65532:65532"]);
    }
    let objects = rendered(&serde_json::json!({})).await?;
    let pod = &of_kind(&objects, "Deployment")[0]["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsUser"], 65532);
    assert_eq!(pod["containers"][0]["args"][0], "run");
    assert!(pod["containers"][0]["command"].is_null());
    let sinks = root().join("operator/src/controller/build/snapshots/least-sink.yaml");
    let sinks = std::fs::read_to_string(sinks)?;
    assert!(sinks.contains("runAsUser: 65532") && !sinks.contains("command:"));
    Ok(())
}

/// What the build leaves out of its context, as far as the file goes: names, `/**`, and exceptions.
fn left_out(path: &str) -> bool {
    let rules = std::fs::read_to_string(root().join(".dockerignore")).unwrap();
    let mut out = false;
    for rule in rules.lines().filter(|line| !line.starts_with('#')) {
        let (rule, leaves) = match rule.strip_prefix('!') {
            Some(rule) => (rule, false),
            None => (rule, true),
        };
        let folder = rule.trim_end_matches("/**");
        if path == folder || path.starts_with(&format!("{folder}/")) {
            out = leaves;
        }
    }
    out
}

#[test]
fn the_build_finds_in_its_context_every_file_that_the_programs_include() {
    assert!(left_out("docs/README.md") && left_out("charts/tidewater/Chart.yaml"));
    let mut included = 0;
    for package in ["crds", "operator", "sink-runtime"] {
        let mut folders = vec![root().join(package).join("src")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                // Tests stand at the end of a file, and are not part of the build.
                let (program, _) = text.split_once("#[cfg(test)]").unwrap_or((&text, ""));
                for call in program.split("include_str!(\"").skip(1) {
                    let file = call.split('"').next().unwrap();
                    let file = path.parent().unwrap().join(file).canonicalize().unwrap();
                    let base = root().canonicalize().unwrap();
                    let file = file.strip_prefix(base).unwrap().display().to_string();
                    let in_tests = path.ends_with("tests.rs");
                    assert!(in_tests || !left_out(&file), "{}: {file}", path.display());
                    included += 1;
                }
            }
        }
    }
    assert!(included > 0);
}
