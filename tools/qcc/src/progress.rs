//! Progress bars: one at a time, on stderr, for steps that report how far they are.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};

use indicatif::{ProgressBar, ProgressStyle};
use qcc_passes::{Progress, SilentProgress};

/// Bars if stderr is a terminal and they are wanted.
pub fn for_terminal(quiet: bool) -> Box<dyn Progress> {
    if quiet || !std::io::stderr().is_terminal() {
        return Box::new(SilentProgress);
    }
    Box::new(Bars(Mutex::new(None)))
}

/// The bar of the step that last reported.
struct Bars(Mutex<Option<(String, ProgressBar)>>);

impl Progress for Bars {
    fn report(&self, what: &str, done: usize, total: usize) {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((name, bar)) = current.as_ref()
            && name != what
        {
            bar.finish_and_clear();
            *current = None;
        }
        if done >= total {
            if let Some((_, bar)) = current.take() {
                bar.finish_and_clear();
            }
            return;
        }
        let (_, bar) = current.get_or_insert_with(|| (what.to_string(), bar(what, total)));
        // Threads may report out of order.
        bar.set_position(bar.position().max(done as u64));
    }
}

fn bar(what: &str, total: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}")
        .expect("invariant: the template is valid");
    ProgressBar::new(total as u64).with_style(style).with_message(what.to_string())
}
