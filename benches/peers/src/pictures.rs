//! Pictures of the figures in `target/bench`, for the documentation.

use crate::report::{bench_dir, number, root};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::fmt::Write;
use std::path::Path;

/// A picture of what one subcommand measured.
struct Picture {
    subcommand: &'static str,
    title: &'static str,
    /// Heading, how a case begins and ends, metric.
    panels: &'static [(&'static str, &'static str, &'static str, &'static str)],
    bars: Bars,
}

/// What a bar is of.
#[derive(PartialEq)]
enum Bars {
    Engines,
    /// The third part of the case.
    Sessions,
}

const PICTURES: [Picture; 7] = [
    Picture {
        subcommand: "durable_commits",
        title: "Durable commits per second (more is better)",
        panels: &[
            ("1 writer", "commit/uniform/", "/w1", "commits_per_second"),
            (
                "16 writers",
                "commit/uniform/",
                "/w16",
                "commits_per_second",
            ),
            (
                "64 writers",
                "commit/uniform/",
                "/w64",
                "commits_per_second",
            ),
            (
                "64 writers, 1,000 hot sessions",
                "commit/hot/",
                "/w64",
                "commits_per_second",
            ),
        ],
        bars: Bars::Engines,
    },
    Picture {
        subcommand: "bytes",
        title: "Bytes written per commit of 337 bytes (less is better)",
        panels: &[
            ("1 writer", "commit/uniform/", "/w1", "bytes_per_commit"),
            ("16 writers", "commit/uniform/", "/w16", "bytes_per_commit"),
            ("64 writers", "commit/uniform/", "/w64", "bytes_per_commit"),
        ],
        bars: Bars::Engines,
    },
    Picture {
        subcommand: "reads",
        title: "Loads of a session and two packages per second (more is better)",
        panels: &[
            ("1 thread", "load-two/", "/w1", "loads_per_second"),
            ("2 threads", "load-two/", "/w2", "loads_per_second"),
        ],
        bars: Bars::Engines,
    },
    Picture {
        subcommand: "restart",
        title: "From the start to the first load after a kill, in ms (less is better)",
        panels: &[("16 writers killed", "open-after-kill/", "", "first_load_ms")],
        bars: Bars::Engines,
    },
    Picture {
        subcommand: "sweep",
        title: "Removing a tenth of the sessions (less is better)",
        panels: &[
            ("seconds", "sweep", "", "seconds_per_sweep"),
            (
                "longest commit meanwhile, ms",
                "sweep",
                "",
                "longest_commit_ms",
            ),
        ],
        bars: Bars::Engines,
    },
    Picture {
        subcommand: "http",
        title: "Requests per second of one axum handler (more is better)",
        panels: &[
            ("session read", "http-read/", "", "requests_per_second"),
            ("session written", "http-write/", "", "requests_per_second"),
        ],
        bars: Bars::Engines,
    },
    Picture {
        subcommand: "scale",
        title: "cloakroom as the number of sessions grows (less is better)",
        panels: &[
            ("commit, 1 writer, us", "scale/", "/w1", "commit_us"),
            ("commit, 64 writers, us", "scale/", "/w64", "commit_us"),
            ("load, us", "scale/", "/w1", "load_us"),
            ("open, ms", "scale/", "/w1", "open_ms"),
        ],
        bars: Bars::Sessions,
    },
];

/// Draws `docs/pictures/SUBCOMMAND.svg` of each JSON file that is there.
pub(crate) fn main() -> Result<()> {
    let folder = root()?.join("docs/pictures");
    std::fs::create_dir_all(&folder)?;
    let mut drawn = 0;
    for picture in &PICTURES {
        let json = bench_dir()?.join(format!("peers-{}.json", picture.subcommand));
        if !json.exists() {
            println!("{}: not measured yet", picture.subcommand);
            continue;
        }
        let path = folder.join(format!("{}.svg", picture.subcommand));
        let svg = picture
            .draw(&rows(&json)?)
            .with_context(|| format!("drawing {}", json.display()))?;
        std::fs::write(&path, svg)?;
        println!("written to {}", path.display());
        drawn += 1;
    }
    ensure!(drawn > 0, "nothing was measured yet");
    Ok(())
}

struct Row {
    case: String,
    engine: String,
    metric: String,
    value: f64,
}

fn rows(json: &Path) -> Result<Vec<Row>> {
    let rows: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(json)?)?;
    let row = |row: &Value| {
        let text = |name| Some(row.get(name)?.as_str()?.to_owned());
        Some(Row {
            case: text("case")?,
            engine: text("engine")?,
            metric: text("metric")?,
            value: row.get("value")?.as_f64()?,
        })
    };
    rows.iter()
        .map(row)
        .collect::<Option<_>>()
        .context("not rows of ours")
}

const LEFT: usize = 165;
const PANEL: usize = 225;
const BAR: usize = 22;
const TOP: usize = 70;

impl Picture {
    fn draw(&self, rows: &[Row]) -> Result<String> {
        let panels = self.panels.iter().map(|(heading, begin, end, metric)| {
            let bars: Vec<(String, f64)> = rows
                .iter()
                .filter(|row| row.metric == *metric)
                .filter(|row| row.case.starts_with(begin) && row.case.ends_with(end))
                .filter(|row| self.bars == Bars::Engines || row.engine == "cloakroom")
                .map(|row| (self.label(row), row.value))
                .collect();
            (*heading, bars)
        });
        // Of some cases only, perhaps.
        let panels: Vec<_> = panels.filter(|(_, bars)| !bars.is_empty()).collect();
        let mut labels: Vec<&str> = Vec::new();
        for (label, _) in panels.iter().flat_map(|(_, bars)| bars) {
            if !labels.contains(&label.as_str()) {
                labels.push(label);
            }
        }
        // The title needs room, too.
        let width = (LEFT + PANEL * panels.len() + 10).max(self.title.len() * 9 + 30);
        let height = TOP + BAR * labels.len() + 15;
        let mut svg = String::new();
        write!(
            svg,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
             width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"{width}\" height=\"{height}\" rx=\"6\" fill=\"#ffffff\"/>\n\
             <text x=\"15\" y=\"26\" font-size=\"15\" font-weight=\"bold\">{}</text>\n",
            self.title
        )?;
        for (n, label) in labels.iter().enumerate() {
            let (x, y) = (LEFT - 8, TOP + BAR * n + 15);
            let weight = if *label == "cloakroom" {
                "bold"
            } else {
                "normal"
            };
            writeln!(
                svg,
                "<text x=\"{x}\" y=\"{y}\" text-anchor=\"end\" font-weight=\"{weight}\">{label}</text>"
            )?;
        }
        for (n, (heading, bars)) in panels.iter().enumerate() {
            panel(&mut svg, LEFT + PANEL * n, heading, &labels, bars)?;
        }
        svg.push_str("</svg>\n");
        Ok(svg)
    }

    fn label(&self, row: &Row) -> String {
        match self.bars {
            Bars::Engines => row.engine.clone(),
            Bars::Sessions => {
                let sessions = row.case.split('/').nth(2).unwrap_or_default();
                let count = sessions.parse().map_or(sessions.to_owned(), number);
                format!("{count} sessions")
            }
        }
    }
}

/// Bars from zero, each with its figure.
fn panel(
    svg: &mut String,
    x: usize,
    heading: &str,
    labels: &[&str],
    bars: &[(String, f64)],
) -> Result<()> {
    const FIGURE: f64 = 60.0;
    let longest = bars.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    writeln!(
        svg,
        "<text x=\"{x}\" y=\"54\" fill=\"#555555\">{heading}</text>"
    )?;
    for (n, label) in labels.iter().enumerate() {
        let Some((_, value)) = bars.iter().find(|(name, _)| name == label) else {
            continue;
        };
        let room = PANEL as f64 - FIGURE - 10.0;
        let width = (value / longest * room).max(1.0);
        let (y, text) = (TOP + BAR * n, number(*value));
        let colour = match *label {
            "cloakroom" => "#b5482a",
            // What the others are measured against.
            "log" | "axum" => "#b8b8b8",
            _ => "#6f93b5",
        };
        let (after, line) = (x as f64 + width + 5.0, y + 15);
        writeln!(
            svg,
            "<rect x=\"{x}\" y=\"{}\" width=\"{width:.1}\" height=\"16\" fill=\"{colour}\"/>\n\
             <text x=\"{after:.1}\" y=\"{line}\">{text}</text>",
            y + 3
        )?;
    }
    Ok(())
}
