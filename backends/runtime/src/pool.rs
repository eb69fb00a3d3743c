//! The thread pool: a loop over work items is cut into contiguous ranges, one a thread, known beforehand (static partition). Threads spin
//! for a while between loops and sleep after that, so loops in quick succession cost well under a microsecond and an idle model no CPU.
//! Nothing is allocated while it runs. The calling thread is worker 0.
//!
//! Each worker has a mailbox on cache lines of its own. The caller posts a job there and waits until the worker has taken the mark down;
//! workers without a part in a loop are not disturbed.

#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{JoinHandle, Thread};

use crate::RuntimeError;

/// How often a worker looks for a job before it sleeps: about a millisecond, longer than what lies between two steps or two tokens. Waking
/// a sleeping thread costs some 30 µs, a spinning one 0.1 µs (`examples/dispatch_latency.rs`).
const SPINS: u32 = 50_000;
/// The same where there are more threads than cores: a spinning worker then keeps another one from working.
const SPINS_OVERSUBSCRIBED: u32 = 100;
/// How often the caller looks for an end of the others before it lets the system run something else.
const SPINS_TO_YIELD: u32 = 2_000;

/// Nothing to do; the worker spins.
const IDLE: u32 = 0;
/// Nothing to do; the worker sleeps.
const ASLEEP: u32 = 1;
/// A job is posted, and not done yet.
const WORK: u32 = 2;
/// The worker shall end.
const EXIT: u32 = 3;

/// A range of a loop, and the loop's body behind a pointer.
#[derive(Clone, Copy)]
struct Job {
    call: unsafe fn(*const (), usize, u64, u64),
    body: *const (),
    begin: u64,
    end: u64,
}

#[repr(align(128))]
struct Mailbox {
    mark: AtomicU32,
    panicked: AtomicBool,
    /// Written by the caller while the mark is `IDLE` or `ASLEEP`, read by the worker while it is `WORK`.
    job: UnsafeCell<Option<Job>>,
}

// SAFETY: the mark says who may touch `job`, and changes with release and acquire ordering.
unsafe impl Sync for Mailbox {}
// SAFETY: `Job` holds a pointer to a body that is `Sync` and outlives the job (`Pool::parallel_for` waits for its end).
unsafe impl Send for Mailbox {}

struct Worker {
    mailbox: Arc<Mailbox>,
    thread: Thread,
    handle: Option<JoinHandle<()>>,
}

/// A fixed set of threads that share loops.
pub struct Pool {
    workers: Vec<Worker>,
}

impl Pool {
    /// A pool of so many threads, the calling one among them; 0 means one for each core this process may use.
    ///
    /// # Errors
    /// [`RuntimeError::Thread`] when the system refuses a thread.
    pub fn new(threads: usize) -> Result<Pool, RuntimeError> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let threads = if threads == 0 { cores } else { threads };
        let spins = if threads > cores { SPINS_OVERSUBSCRIBED } else { SPINS };
        // Workers started before a failing one end when the pool is dropped.
        let mut pool = Pool { workers: Vec::new() };
        for index in 1..threads {
            let mailbox = Arc::new(Mailbox {
                mark: AtomicU32::new(IDLE),
                panicked: AtomicBool::new(false),
                job: UnsafeCell::new(None),
            });
            let theirs = Arc::clone(&mailbox);
            let handle = std::thread::Builder::new()
                .name(format!("qcc-{index}"))
                .spawn(move || work(index, &theirs, spins))
                .map_err(|e| RuntimeError::Thread { index, reason: e.to_string() })?;
            pool.workers.push(Worker { mailbox, thread: handle.thread().clone(), handle: Some(handle) });
        }
        Ok(pool)
    }

    /// Number of threads, the caller's included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `body(worker, begin, end)` on ranges that cover `0..items`, each worker at most once, and returns when all are done.
    /// Every range but an only one has at least `grain` items; the caller's own range is the first.
    ///
    /// # Panics
    /// When the body panics, after all workers have ended.
    pub fn parallel_for<F: Fn(usize, u64, u64) + Sync>(&mut self, items: u64, grain: u64, body: F) {
        if items == 0 {
            return;
        }
        let parts = (items / grain.max(1)).clamp(1, self.threads() as u64);
        if parts == 1 {
            return body(0, 0, items);
        }
        let (share, rest) = (items / parts, items % parts);
        // The first `rest` ranges have one item more.
        let start = |part: u64| part * share + part.min(rest);
        let busy = Busy(&self.workers[..parts as usize - 1]);
        for (part, worker) in (1u64..).zip(busy.0) {
            let job = Job {
                call: call::<F>,
                body: (&raw const body).cast(),
                begin: start(part),
                end: start(part + 1),
            };
            // SAFETY: the worker's mark is not `WORK`: it was waited for when the last loop ended, and `&mut self` keeps others out.
            unsafe { *worker.mailbox.job.get() = Some(job) };
            worker.mailbox.panicked.store(false, Ordering::Relaxed);
            if worker.mailbox.mark.swap(WORK, Ordering::AcqRel) == ASLEEP {
                worker.thread.unpark();
            }
        }
        body(0, 0, start(1));
        drop(busy);
        let panicked =
            self.workers[..parts as usize - 1].iter().any(|w| w.mailbox.panicked.load(Ordering::Relaxed));
        assert!(!panicked, "a loop's body panicked on another thread");
    }
}

/// Workers that run a loop whose body the caller's frame holds: leaving the frame, even by a panic, waits for them.
struct Busy<'a>(&'a [Worker]);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        for worker in self.0 {
            let mut spins = 0;
            while worker.mailbox.mark.load(Ordering::Acquire) == WORK {
                if spins < SPINS_TO_YIELD {
                    spins += 1;
                    std::hint::spin_loop();
                } else {
                    std::thread::yield_now();
                }
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            worker.mailbox.mark.store(EXIT, Ordering::Release);
            worker.thread.unpark();
            if let Some(handle) = worker.handle.take() {
                // A worker contains its panics, so there is nothing to learn from the result.
                let _ = handle.join();
            }
        }
    }
}

/// # Safety
/// `body` points to an `F` that lives until this returns.
unsafe fn call<F: Fn(usize, u64, u64) + Sync>(body: *const (), worker: usize, begin: u64, end: u64) {
    // SAFETY: as the caller promises.
    let body = unsafe { &*body.cast::<F>() };
    body(worker, begin, end);
}

/// The life of a worker.
fn work(index: usize, mailbox: &Mailbox, spins: u32) {
    loop {
        match wait(&mailbox.mark, spins) {
            WORK => {
                // SAFETY: the mark is `WORK`, so the caller has written the job and leaves it alone until the mark changes.
                let job = unsafe { *mailbox.job.get() };
                let job = job.expect("invariant: a job is posted before the mark is set");
                // SAFETY: the caller keeps the body alive until the mark is taken down.
                let run = || unsafe { (job.call)(job.body, index, job.begin, job.end) };
                if catch_unwind(AssertUnwindSafe(run)).is_err() {
                    mailbox.panicked.store(true, Ordering::Relaxed);
                }
                mailbox.mark.store(IDLE, Ordering::Release);
            }
            _ => return,
        }
    }
}

/// Waits until the mark is `WORK` or `EXIT` and returns it.
fn wait(mark: &AtomicU32, spins: u32) -> u32 {
    for _ in 0..spins {
        let seen = mark.load(Ordering::Acquire);
        if seen != IDLE {
            return seen;
        }
        std::hint::spin_loop();
    }
    // From here on whoever posts a job sees `ASLEEP` and wakes this thread.
    if let Err(seen) = mark.compare_exchange(IDLE, ASLEEP, Ordering::AcqRel, Ordering::Acquire) {
        return seen;
    }
    loop {
        let seen = mark.load(Ordering::Acquire);
        if seen != ASLEEP {
            return seen;
        }
        std::thread::park();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    #[test]
    fn many_small_loops_touch_every_item_once() {
        for threads in [1, 2, 5] {
            let mut pool = Pool::new(threads).unwrap();
            assert_eq!(pool.threads(), threads);
            let seen: Vec<AtomicU32> = (0..97).map(|_| AtomicU32::new(0)).collect();
            for round in 0..3000u32 {
                let items = u64::from(round) % 98;
                pool.parallel_for(items, 1 + u64::from(round) % 7, |worker, begin, end| {
                    assert!(worker < threads && begin < end);
                    for i in begin..end {
                        seen[i as usize].fetch_add(1, Ordering::Relaxed);
                    }
                });
                for (i, count) in seen.iter().enumerate() {
                    assert_eq!(
                        count.swap(0, Ordering::Relaxed),
                        u32::from((i as u64) < items),
                        "item {i} of {items}"
                    );
                }
            }
        }
    }

    #[test]
    fn ranges_keep_to_the_grain_and_workers_differ() {
        let mut pool = Pool::new(4).unwrap();
        for (items, grain, parts) in
            [(10, 3, 3), (10, 100, 1), (2, 1, 2), (1000, 1, 4), (u64::MAX, u64::MAX / 3, 3)]
        {
            let (calls, covered, workers) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
            pool.parallel_for(items, grain, |worker, begin, end| {
                assert!(end - begin >= grain.min(items));
                calls.fetch_add(1, Ordering::Relaxed);
                covered.fetch_add(end - begin, Ordering::Relaxed);
                assert_eq!(workers.fetch_or(1 << worker, Ordering::Relaxed) & (1 << worker), 0);
            });
            assert_eq!((calls.into_inner(), covered.into_inner()), (parts, items));
        }
    }

    #[test]
    fn sleeping_workers_wake() {
        let mut pool = Pool::new(3).unwrap();
        for _ in 0..5 {
            std::thread::sleep(std::time::Duration::from_millis(20));
            let sum = AtomicU64::new(0);
            pool.parallel_for(30, 1, |_, begin, end| {
                sum.fetch_add((begin..end).sum(), Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), 435);
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let mut pool = Pool::new(3).unwrap();
        for bad in [&[0][..], &[1], &[2], &[0, 1, 2]] {
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                pool.parallel_for(3, 1, |worker, _, _| assert!(!bad.contains(&worker), "expected"));
            }));
            assert!(outcome.is_err());
        }
        let count = AtomicU64::new(0);
        pool.parallel_for(3, 1, |_, begin, end| {
            count.fetch_add(end - begin, Ordering::Relaxed);
        });
        assert_eq!(count.into_inner(), 3);
    }
}
