//! Writes the generated files (`generate`), or says whether they are up to date (`check`).

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let command = std::env::args().nth(1);
    match run(command.as_deref()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Option<&str>) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut stale = 0;
    for file in tidewater_crds::generated()? {
        let path = root.join(file.path);
        if std::fs::read_to_string(&path).is_ok_and(|text| text == file.text) {
            continue;
        }
        match command {
            Some("generate") => {
                if let Some(folder) = path.parent() {
                    std::fs::create_dir_all(folder)?;
                }
                std::fs::write(&path, file.text)?;
                println!("wrote {}", file.path);
            }
            Some("check") => {
                println!(
                    "{} is out of date: run `tidewater-crds generate`",
                    file.path
                );
                stale += 1;
            }
            _ => return Err("usage: tidewater-crds generate|check".into()),
        }
    }
    Ok(if stale == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
