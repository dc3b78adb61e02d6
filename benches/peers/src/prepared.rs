//! The engines of a run, each with its sessions in a folder of its own.

use crate::engine::{Engine, Peer, Site};
use crate::engines;
use crate::report::{Report, bench_dir};
use crate::settings::Settings;
use anyhow::{Context, Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub(crate) struct PreparedEngine {
    pub(crate) peer: &'static dyn Peer,
    pub(crate) site: Site,
}

impl PreparedEngine {
    pub(crate) fn name(&self) -> &'static str {
        self.peer.name()
    }

    /// The engine, and how long opening took.
    pub(crate) fn open(&self) -> Result<(Box<dyn Engine>, Duration)> {
        let start = Instant::now();
        let engine = self
            .peer
            .open(&self.site)
            .with_context(|| format!("opening {}", self.name()))?;
        Ok((engine, start.elapsed()))
    }
}

pub(crate) struct PreparedEngines {
    pub(crate) prepared: Vec<PreparedEngine>,
    /// Gone with the engines.
    _folder: TempDir,
}

impl PreparedEngines {
    /// Makes the sessions of all engines that are wanted and can run; notes which cannot.
    pub(crate) fn make(
        peers: &[&'static dyn Peer],
        sessions: usize,
        report: &mut Report,
    ) -> Result<Self> {
        let folder = Self::folder()?;
        let bar = progress(peers.len() as u64);
        let mut prepared = Vec::new();
        for peer in peers {
            let name = peer.name();
            bar.set_message(format!("{name}: making {sessions} sessions"));
            bar.tick();
            if let Some(how) = peer.missing() {
                report.note(format!("{name} was left out: {how}"));
                bar.suspend(|| eprintln!("{name} is left out: {how}"));
            } else {
                let site = Site {
                    folder: folder.path().join(name),
                    sessions,
                };
                std::fs::create_dir(&site.folder)?;
                peer.make(&site)
                    .with_context(|| format!("making the sessions of {name}"))?;
                let peer = *peer;
                prepared.push(PreparedEngine { peer, site });
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        ensure!(!prepared.is_empty(), "no engine can run");
        Ok(Self {
            prepared,
            _folder: folder,
        })
    }

    /// For the files of one run.
    pub(crate) fn folder() -> Result<TempDir> {
        let mut builder = tempfile::Builder::new();
        Ok(builder.prefix("peers-").tempdir_in(bench_dir()?)?)
    }

    /// Of the engines that the settings want.
    pub(crate) fn of(settings: &Settings, report: &mut Report) -> Result<Self> {
        let peers = engines::named(&settings.engines)?;
        Self::make(&peers, settings.sessions(), report)
    }

    /// Says under the tables what the engines are.
    pub(crate) fn introduce(&self, report: &mut Report) {
        for peer in &self.prepared {
            let (name, about, counted) = (peer.name(), peer.peer.about(), peer.peer.counted());
            report.note(format!("{name:<24} {about}; bytes by {counted}"));
        }
    }
}

/// A bar that only moves between measurements.
pub(crate) fn progress(steps: u64) -> ProgressBar {
    let bar = ProgressBar::new(steps);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {eta:>5} {msg}") {
        bar.set_style(style);
    }
    bar
}
