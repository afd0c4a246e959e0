//! Progress of long steps: a bar or spinner on a terminal, plain lines otherwise.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::Duration;

/// A step of unknown length. Prints its name at once; the end is marked when it is dropped.
#[derive(Debug)]
pub struct Step {
    bar: Option<ProgressBar>,
}

impl Step {
    /// Begins a step.
    pub fn new(name: &str) -> Self {
        if !std::io::stderr().is_terminal() {
            eprintln!("  {name}");
            return Self { bar: None };
        }
        let bar = ProgressBar::new_spinner()
            .with_style(style("  {spinner} {msg} ({elapsed})"))
            .with_message(name.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar: Some(bar) }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
            eprintln!("  {} ({:.1} s)", bar.message(), bar.elapsed().as_secs_f32());
        }
    }
}

/// A step of known length in bytes.
#[derive(Debug)]
pub struct Bar {
    bar: Option<ProgressBar>,
}

impl Bar {
    /// Begins a step.
    pub fn new(name: &str, bytes: u64) -> Self {
        if !std::io::stderr().is_terminal() {
            eprintln!("  {name} ({} MB)", bytes / 1_000_000);
            return Self { bar: None };
        }
        let style = style("  {msg} {bar:30} {bytes}/{total_bytes} ({eta})");
        Self { bar: Some(ProgressBar::new(bytes).with_style(style).with_message(name.to_owned())) }
    }

    /// So many more bytes are done.
    pub fn add(&self, bytes: u64) {
        if let Some(bar) = &self.bar {
            bar.inc(bytes);
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("templates are constants of this file")
}
