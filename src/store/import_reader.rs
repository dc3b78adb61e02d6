//! Reads an export line by line.

use super::export_lines::ExportLine;
use crate::error::{Error, ErrorKind, Result};
use std::io::{BufRead, BufReader, Read};

pub(super) struct LineReader<R> {
    reader: BufReader<R>,
    line: Vec<u8>,
    longest: usize,
    /// The number of the last line that was read, from 1 on.
    pub(super) number: u64,
    /// The length of that line.
    pub(super) len: usize,
}

impl<R: Read> LineReader<R> {
    pub(super) fn new(reader: R, longest: usize) -> Self {
        Self {
            reader: BufReader::new(reader),
            line: Vec::new(),
            longest,
            number: 0,
            len: 0,
        }
    }

    /// The next line. `None` at the end of the input.
    pub(super) fn next(&mut self) -> Result<Option<ExportLine>> {
        self.line.clear();
        let mut limited = (&mut self.reader).take((self.longest as u64).saturating_add(1));
        let read = limited.read_until(b'\n', &mut self.line);
        self.len = read.map_err(|error| {
            Error::new(ErrorKind::Io, "the export cannot be read").with_source(error)
        })?;
        if self.len == 0 {
            return Ok(None);
        }
        self.number += 1;
        if self.len > self.longest {
            let why = format!(
                "the line is longer than {} bytes; ImportSettings::max_line accepts more",
                self.longest
            );
            return Err(Error::new(ErrorKind::TooLarge, why));
        }
        match serde_json::from_slice(&self.line) {
            Ok(line) => Ok(Some(line)),
            // The parser's own words could repeat a value.
            Err(error) => {
                let why = format!(
                    "the line is no line of an export, at column {}",
                    error.column()
                );
                Err(Error::new(ErrorKind::InvalidInput, why))
            }
        }
    }
}

/// The error of an export that cannot be imported as it is.
pub(super) fn invalid(why: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, why)
}
