//! Figures of a run: a line of JSON for machines, a table for people. MB are 10^6 bytes.

use serde::Serialize;
use tidewater_e2e::Usage;

/// What one case is judged by. Times are of the whole process, from its start to its end.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figures {
    pub(crate) case: String,
    pub(crate) records_per_s: f64,
    /// Of record values read.
    pub(crate) mb_per_s: f64,
    pub(crate) cpu_s_per_million: f64,
    pub(crate) peak_rss_mb: f64,
    pub(crate) files: Option<usize>,
    pub(crate) median_file_mb: Option<f64>,
    pub(crate) commits: Option<u64>,
    pub(crate) rows: Option<u64>,
    /// Records a second, as a part of the control's.
    pub(crate) control_ratio: f64,
    /// The same without start and end of the process: from the first record to the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) steady_records_per_s: Option<f64>,
    pub(crate) wall_s: f64,
    pub(crate) user_s: f64,
    pub(crate) system_s: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rss_limit_mb: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rss_within_limit: Option<bool>,
}

impl Figures {
    /// Of a process that read `records` records with values of `bytes` bytes, where the control read `control` records
    /// a second.
    pub(crate) fn new(
        case: &str,
        usage: &Usage,
        records: u64,
        bytes: u64,
        control: Option<f64>,
    ) -> Figures {
        let rate = records as f64 / usage.wall_seconds;
        let cpu = usage.user_seconds + usage.system_seconds;
        Figures {
            case: case.to_owned(),
            records_per_s: rate.round(),
            mb_per_s: rounded(megabytes(bytes) / usage.wall_seconds),
            cpu_s_per_million: rounded(cpu / (records as f64 / 1e6)),
            peak_rss_mb: rounded(megabytes(usage.peak_rss_bytes)),
            files: None,
            median_file_mb: None,
            commits: None,
            rows: None,
            control_ratio: rounded(rate / control.unwrap_or(rate)),
            steady_records_per_s: None,
            wall_s: rounded(usage.wall_seconds),
            user_s: rounded(usage.user_seconds),
            system_s: rounded(usage.system_seconds),
            rss_limit_mb: None,
            rss_within_limit: None,
        }
    }

    pub(crate) fn with_files(mut self, mut sizes: Vec<u64>) -> Figures {
        sizes.sort_unstable();
        self.files = Some(sizes.len());
        self.median_file_mb = sizes
            .get(sizes.len() / 2)
            .map(|median| rounded(megabytes(*median)));
        self
    }

    pub(crate) fn with_rss_limit(mut self, limit: Option<u64>) -> Figures {
        self.rss_limit_mb = limit.map(|limit| rounded(megabytes(limit)));
        self.rss_within_limit = self.rss_limit_mb.map(|limit| self.peak_rss_mb <= limit);
        self
    }
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// The table, one line a case.
pub(crate) fn table(all: &[Figures]) -> String {
    let mut text = format!(
        "{:<20}{:>11}{:>10}{:>8}{:>9}{:>8}{:>8}{:>9}{:>9}{:>11}{:>9}\n",
        "case",
        "records/s",
        "steady/s",
        "MB/s",
        "CPU s/M",
        "RSS MB",
        "files",
        "median",
        "commits",
        "rows",
        "control"
    );
    for figures in all {
        let steady = figures.steady_records_per_s;
        text += &format!(
            "{:<20}{:>11.0}{:>10}{:>8.1}{:>9.2}{:>8.0}{:>8}{:>9}{:>9}{:>11}{:>9.2}\n",
            figures.case,
            figures.records_per_s,
            shown(steady.map(|steady| format!("{steady:.0}"))),
            figures.mb_per_s,
            figures.cpu_s_per_million,
            figures.peak_rss_mb,
            shown(figures.files),
            shown(figures.median_file_mb.map(|median| format!("{median:.2}"))),
            shown(figures.commits),
            shown(figures.rows),
            figures.control_ratio,
        );
        if figures.rss_within_limit == Some(false) {
            text += &format!(
                "{:<20}peak RSS above {:.0} MB\n",
                "",
                figures.rss_limit_mb.unwrap_or_default()
            );
        }
    }
    text
}

fn shown(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}
