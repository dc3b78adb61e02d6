//! What commands print.

use crate::failure::Outcome;
use crate::text::{json_escaped, short, width};
use anstyle::Style;
use serde::Serialize;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

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

/// Whether the reader of the standard output has gone.
static IS_UNREAD: AtomicBool = AtomicBool::new(false);

/// Whether the reader of the standard output has gone. Commands that print until somebody ends them end then.
pub(crate) fn is_unread() -> bool {
    IS_UNREAD.load(Ordering::Relaxed)
}

/// Prints a line to the standard output. Colours are left out where nobody sees them.
pub(crate) fn line(text: &str) -> Outcome<()> {
    let mut out = anstream::stdout().lock();
    let printed = writeln!(out, "{text}").and_then(|()| out.flush());
    unless_unread(printed)
}

/// Prints a line of JSON, with all characters escaped that could act on a terminal. Nothing is left out of it.
pub(crate) fn json(value: &impl Serialize) -> Outcome<()> {
    let text = serde_json::to_string(value).map_err(io::Error::from)?;
    let mut out = io::stdout().lock();
    let printed = writeln!(out, "{}", json_escaped(&text)).and_then(|()| out.flush());
    unless_unread(printed)
}

/// Prints a text as it is.
pub(crate) fn as_it_is(text: &[u8]) -> Outcome<()> {
    let mut out = io::stdout().lock();
    unless_unread(out.write_all(text).and_then(|()| out.flush()))
}

/// A reader that goes away has seen enough. The command goes on, so that its exit code is that of what it finds.
fn unless_unread(printed: io::Result<()>) -> Outcome<()> {
    match printed {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            IS_UNREAD.store(true, Ordering::Relaxed);
            Ok(())
        }
        printed => Ok(printed?),
    }
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

/// No column is cut to less: that of the longest heading of those that are.
const NARROWEST: usize = 9;

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

    /// Cuts the cells of these columns until the table fits into the terminal, if it is printed to one.
    pub(crate) fn fit(&mut self, columns: &[usize]) {
        let terminal = terminal_size::terminal_size_of(io::stdout());
        if let Some((terminal_size::Width(most), _)) = terminal {
            self.fit_into(usize::from(most), columns);
        }
    }

    fn fit_into(&mut self, most: usize, columns: &[usize]) {
        let mut widths = self.widths();
        let gaps = 2 * widths.len().saturating_sub(1);
        let flexible = |widths: &[usize]| {
            let wide = columns
                .iter()
                .filter_map(|at| Some((*at, *widths.get(*at)?)));
            wide.max_by_key(|(_, wide)| *wide)
                .filter(|(_, wide)| *wide > NARROWEST)
        };
        while widths.iter().sum::<usize>() + gaps > most
            && let Some((at, _)) = flexible(&widths)
        {
            widths
                .iter_mut()
                .skip(at)
                .take(1)
                .for_each(|wide| *wide -= 1);
        }
        for row in &mut self.rows {
            for at in columns {
                if let (Some(cell), Some(wide)) = (row.get_mut(*at), widths.get(*at)) {
                    *cell = short(cell, *wide);
                }
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_cut_in_its_flexible_columns_until_it_fits() {
        let left = |head| (head, Align::Left);
        let mut table = Table::new(&[left("KEY"), left("OWNER"), left("LABEL")]);
        table.row(["k".repeat(32), "o".repeat(30), "l".repeat(20)]);
        table.fit_into(70, &[1, 2]);
        let widths = table.widths();
        assert_eq!(widths.iter().sum::<usize>() + 4, 70);
        assert_eq!(widths.first(), Some(&32));
        table.fit_into(10, &[1, 2]);
        assert_eq!(table.widths(), [32, NARROWEST, NARROWEST]);
    }
}
