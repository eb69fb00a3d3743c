//! Logs: their level (`-v`, `-q`, `QCC_LOG`), where they go, and the Chrome trace.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::Dispatch;
use tracing_chrome::{ChromeLayerBuilder, FlushGuard};
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};

use crate::Failure;
use crate::cli::Cli;

/// The environment variable with a filter in the syntax of `tracing-subscriber`, e.g. `debug` or `qcc_passes=trace`.
const VARIABLE: &str = "QCC_LOG";

/// What receives logs and spans, and what writes the trace's end when dropped.
///
/// # Errors
/// When `QCC_LOG` is no filter or the trace cannot be written.
pub fn subscriber(
    cli: &Cli,
    writer: impl for<'w> MakeWriter<'w> + Send + Sync + 'static,
) -> Result<(Dispatch, Option<FlushGuard>), Failure> {
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_ansi(false)
        .without_time()
        .with_target(false)
        .with_filter(filter(cli)?);
    let (trace, guard) = cli.trace.as_deref().map(chrome).transpose()?.unzip();
    let trace = trace.map(|layer| layer.with_filter(tracing::level_filters::LevelFilter::DEBUG));
    Ok((tracing_subscriber::registry().with(lines).with(trace).into(), guard))
}

fn filter(cli: &Cli) -> Result<EnvFilter, Failure> {
    let level = match (cli.quiet, cli.verbose) {
        (true, _) => "error",
        (false, 1) => "info",
        (false, 2) => "debug",
        (false, 3..) => "trace",
        (false, 0) => match std::env::var(VARIABLE) {
            Ok(text) => {
                return EnvFilter::try_new(&text).map_err(|e| {
                    Failure::input(format!("{VARIABLE}={text}: {e}; use e.g. `info` or `qcc_passes=debug`"))
                });
            }
            Err(_) => "warn",
        },
    };
    Ok(EnvFilter::new(level))
}

fn chrome<S>(path: &Path) -> Result<(tracing_chrome::ChromeLayer<S>, FlushGuard), Failure>
where
    S: tracing::Subscriber + for<'span> tracing_subscriber::registry::LookupSpan<'span> + Send + Sync,
{
    let file = File::create(path).map_err(|e| Failure::file(path, format!("cannot write the trace: {e}")))?;
    Ok(ChromeLayerBuilder::new().writer(BufWriter::new(file)).include_args(true).build())
}

/// Lines kept for later.
#[derive(Clone, Default)]
pub struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    /// Takes what was written so far.
    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for Lines {
    type Writer = Lines;

    fn make_writer(&'w self) -> Lines {
        self.clone()
    }
}
