//! What commands print.

use crate::failure::Outcome;
use crate::text::width;
use anstyle::Style;
use serde::Serialize;
use std::io::{self, Write};

/// For people, or for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Text,
    Json,
}

impl From<bool> for Form {
    fn from(is_json: bool) -> Self {
        if is_json { Self::Json } else { Self::Text }
    }
}

/// Prints a line to the standard output. Colours are left out where nobody sees them.
pub(crate) fn line(text: &str) -> Outcome<()> {
    let mut out = anstream::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()?;
    Ok(())
}

pub(crate) fn json(value: &impl Serialize) -> Outcome<()> {
    let text = serde_json::to_string(value).map_err(io::Error::from)?;
    line(&text)
}

/// Prints to the standard error.
pub(crate) fn error_line(text: &str) -> io::Result<()> {
    writeln!(anstream::stderr().lock(), "{text}")
}

const HEAD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();

pub(crate) fn heading(text: &str) -> String {
    format!("{HEAD}{text}{HEAD:#}")
}

pub(crate) fn dim(text: &str) -> String {
    format!("{DIM}{text}{DIM:#}")
}

/// Columns under a heading. Numbers are given in right columns.
pub(crate) struct Table {
    heads: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

impl Table {
    pub(crate) fn new(heads: &[(&'static str, Align)]) -> Self {
        Self {
            heads: heads.to_vec(),
            rows: Vec::new(),
        }
    }

    pub(crate) fn row(&mut self, cells: impl Into<Vec<String>>) {
        self.rows.push(cells.into());
    }

    pub(crate) fn print(&self) -> Outcome<()> {
        let heads: Vec<_> = self
            .heads
            .iter()
            .map(|(head, _)| (*head).to_owned())
            .collect();
        line(&heading(&self.format(&self.widths(), &heads)))?;
        self.print_rows()
    }

    /// Without the heading.
    pub(crate) fn print_rows(&self) -> Outcome<()> {
        let widths = self.widths();
        let mut rows = self.rows.iter();
        rows.try_for_each(|row| line(&self.format(&widths, row)))
    }

    fn widths(&self) -> Vec<usize> {
        let widths = self.heads.iter().enumerate().map(|(at, (head, _))| {
            let cells = self.rows.iter().filter_map(|row| row.get(at));
            cells.map(|cell| width(cell)).fold(head.len(), usize::max)
        });
        widths.collect()
    }

    fn format(&self, widths: &[usize], row: &[String]) -> String {
        let cells = row.iter().zip(widths).zip(&self.heads);
        let cells = cells.map(|((cell, wide), (_, align))| {
            let space = " ".repeat(wide.saturating_sub(width(cell)));
            match align {
                Align::Left => format!("{cell}{space}"),
                Align::Right => format!("{space}{cell}"),
            }
        });
        let cells: Vec<_> = cells.collect();
        cells.join("  ").trim_end().to_owned()
    }
}
