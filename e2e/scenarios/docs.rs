//! The pages under `docs/` against the repository: no server needed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

struct Page {
    path: PathBuf,
    text: String,
}

/// `[text](target)`, with the number of its line.
struct Link<'a> {
    line: usize,
    text: &'a str,
    target: &'a str,
}

impl Page {
    fn read(path: PathBuf) -> Self {
        let text = std::fs::read_to_string(&path).unwrap();
        Self { path, text }
    }

    fn links(&self) -> impl Iterator<Item = Link<'_>> {
        self.text.lines().enumerate().flat_map(|(number, line)| {
            line.match_indices("](").filter_map(move |(middle, _)| {
                let text = &line[line[..middle].rfind('[')? + 1..middle];
                let target = &line[middle + 2..];
                let target = &target[..target.find(')')?];
                Some(Link {
                    line: number + 1,
                    text,
                    target,
                })
            })
        })
    }

    fn resolve(&self, target: &str) -> PathBuf {
        self.path.parent().unwrap().join(target)
    }

    /// The anchors that its headings have on the usual renderers.
    fn anchors(&self) -> BTreeSet<String> {
        let headings = self.text.lines().filter(|line| line.starts_with('#'));
        headings
            .map(|heading| {
                let words = heading.trim_start_matches('#').trim().to_lowercase();
                let kept = words
                    .chars()
                    .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
                kept.map(|c| if c == ' ' { '-' } else { c }).collect()
            })
            .collect()
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn pages_below(folder: &Path, found: &mut Vec<Page>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            pages_below(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(Page::read(path));
        }
    }
}

fn promises() -> Page {
    Page::read(root().join("docs/promises.md"))
}

/// Whether `source` has a test of this name that is run.
fn has_test(source: &str, name: &str) -> bool {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let declaration = format!("fn {name}(");
    lines.iter().enumerate().any(|(number, line)| {
        let attributes = lines[..number]
            .iter()
            .rev()
            .take_while(|line| line.starts_with("#["));
        let (mut test, mut ignored) = (false, false);
        for line in attributes {
            ignored |= line.starts_with("#[ignore");
            test |= line.contains("test");
        }
        line.contains(&declaration) && test && !ignored
    })
}

#[test]
fn a_test_that_is_not_run_guards_nothing() {
    let source = "#[test]\nfn runs() {}\n#[tokio::test]\n#[ignore = \"long\"]\nasync fn waits() {}\nfn helps() {}";
    assert!(has_test(source, "runs"));
    assert!(!has_test(source, "waits") && !has_test(source, "helps"));
}

#[test]
fn every_test_that_a_promise_names_exists() {
    let pages = [("docs/promises.md", 50), ("docs/threat-model.md", 5)];
    let mut broken = Vec::new();
    for (file, least) in pages {
        let page = Page::read(root().join(file));
        let mut named = 0;
        for link in page.links().filter(|link| link.target.ends_with(".rs")) {
            named += 1;
            let name = link.text.trim_matches('`');
            let source = std::fs::read_to_string(page.resolve(link.target)).unwrap_or_default();
            if !has_test(&source, name) {
                let (line, target) = (link.line, link.target);
                broken.push(format!("{file}:{line}: no test {name} in {target}"));
            }
        }
        assert!(named > least, "only {named} tests are named in {file}");
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_promise_names_a_test() {
    let promises = promises();
    let (promised, _) = promises.text.split_once("\n# Not promised").unwrap();
    for section in promised.split("\n## ").skip(1) {
        // Of its own the section itself, and each paragraph that begins with what it promises.
        for claim in section.split("\n**") {
            let title = claim.lines().next().unwrap();
            assert!(claim.contains(".rs)"), "\"{title}\" names no test");
        }
    }
}

#[test]
fn every_link_of_the_pages_leads_somewhere() {
    let mut pages = Vec::new();
    for page in ["README.md", "CHANGELOG.md", "e2e/README.md"] {
        pages.push(Page::read(root().join(page)));
    }
    pages_below(&root().join("docs"), &mut pages);
    let mut broken = Vec::new();
    for page in &pages {
        for link in page.links().filter(|link| !link.target.contains("://")) {
            let (file, anchor) = link.target.split_once('#').unwrap_or((link.target, ""));
            let path = if file.is_empty() {
                page.path.clone()
            } else {
                page.resolve(file)
            };
            let found =
                path.exists() && (anchor.is_empty() || Page::read(path).anchors().contains(anchor));
            if !found {
                broken.push(format!(
                    "{}:{}: {}",
                    page.path.display(),
                    link.line,
                    link.target
                ));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// First cells of the tables' rows, where they are code.
fn named_in_tables(page: &Page) -> BTreeSet<String> {
    let rows = page
        .text
        .lines()
        .filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|rest| Some(rest.split_once("` |")?.0.to_owned()))
        .collect()
}

#[test]
fn every_reason_of_a_condition_and_every_alert_has_a_section_that_says_what_to_do() {
    let reasons = named_in_tables(&Page::read(root().join("docs/reference/conditions.md")));
    assert!(reasons.len() > 40, "only {} reasons", reasons.len());
    let alerts = std::fs::read_to_string(root().join("charts/tidewater/alerts.yaml")).unwrap();
    let alerts = alerts
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "));
    let wanted: BTreeSet<String> = reasons
        .into_iter()
        .chain(alerts.map(str::to_owned))
        .collect();

    let operations = Page::read(root().join("docs/operations.md"));
    let sections: Vec<(&str, &str)> = operations
        .text
        .split("\n### ")
        .skip(1)
        .filter_map(|section| section.split_once('\n'))
        .collect();
    let found: BTreeSet<String> = sections
        .iter()
        .map(|(title, _)| (*title).to_owned())
        .collect();
    assert_eq!(found.len(), sections.len(), "a section stands there twice");
    assert_eq!(found, wanted);
    for (title, text) in sections {
        let words = text.split_once("**Means**").map(|(_, words)| words.trim());
        assert!(words.is_some_and(|words| words.len() > 20), "{title}");
    }
    // The alerts lead there.
    let rules = std::fs::read_to_string(root().join("charts/tidewater/alerts.yaml")).unwrap();
    let anchors = operations.anchors();
    for line in rules.lines().filter(|line| line.contains("runbook_url")) {
        let (_, anchor) = line.split_once('#').unwrap();
        assert!(anchors.contains(anchor), "{line}");
    }
}

/// The text of the blocks of a language.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let start = format!("\n```{language}\n");
    let rest = text.split(start.as_str()).skip(1);
    rest.filter_map(|rest| Some(rest.split_once("\n```")?.0))
        .collect()
}

#[test]
fn every_block_of_yaml_and_json_in_the_pages_is_that() {
    let mut pages = vec![Page::read(root().join("README.md"))];
    pages_below(&root().join("docs"), &mut pages);
    let mut seen = 0;
    for page in &pages {
        for block in blocks(&page.text, "json") {
            let read: Result<serde_json::Value, _> = serde_json::from_str(block);
            assert!(read.is_ok(), "{}: {read:?}\n{block}", page.path.display());
            seen += 1;
        }
        for block in blocks(&page.text, "yaml") {
            let read: Result<serde_yaml_ng::Value, _> = serde_yaml_ng::from_str(block);
            assert!(read.is_ok(), "{}: {read:?}\n{block}", page.path.display());
            seen += 1;
        }
    }
    assert!(seen > 4, "only {seen} blocks");
}

#[test]
fn the_index_of_the_pages_leads_to_each_of_them() {
    let index = Page::read(root().join("docs/README.md"));
    let named: BTreeSet<PathBuf> = index
        .links()
        .filter_map(|link| index.resolve(link.target).canonicalize().ok())
        .collect();
    let mut pages = Vec::new();
    pages_below(&root().join("docs"), &mut pages);
    for page in pages {
        let path = page.path.canonicalize().unwrap();
        let decision = path
            .parent()
            .is_some_and(|folder| folder.ends_with("decisions"));
        let itself = path.ends_with("docs/README.md");
        assert!(
            named.contains(&path) || decision || itself,
            "{}",
            path.display()
        );
    }
}
