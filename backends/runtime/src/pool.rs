//! The thread pool: a loop over work items is cut into contiguous ranges, one a thread, the same every time, so that a thread finds in its
//! caches what it wrote in the loop before. A thread takes its range in pieces, larger ones first; one that has nothing left takes pieces
//! from the far end of another's. A thread that the system holds up thus delays a loop by one piece, or not at all if it had not begun.
//! Who computes an item does not change it.
//!
//! Parts stay with threads, not with cores: tying threads to cores, the caller's too, made mamba-1.4b in int4 decode 1.03 times and a model
//! in the caches 0.98 times as fast (2 Zen 5 cores, medians of 4 alternating runs that spread more), and is not the caller's to undo.
//!
//! Threads spin for a while between loops and sleep after that, so loops in quick succession cost well under a microsecond and an idle
//! model no CPU. Nothing is allocated while it runs. The calling thread is worker 0.
//!
//! Each worker has a mailbox on cache lines of its own. The caller posts a job there, does its share, and then takes the job back from
//! workers that have not begun and waits for those that have.

#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
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
/// A job is posted, and the worker has not seen it yet.
const POSTED: u32 = 2;
/// The worker does the job.
const WORK: u32 = 3;
/// The worker shall end.
const EXIT: u32 = 4;

/// At most so many units are taken in one piece at the end of a range: less is not worth the trip.
const LAST_PIECE: u64 = 2;

/// A worker's share of a loop, behind a pointer.
#[derive(Clone, Copy)]
struct Job {
    call: unsafe fn(*const (), usize),
    share: *const (),
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

/// The units of a worker's range that nobody has taken yet: begin in the upper half, end in the lower one.
#[repr(align(128))]
struct Range(AtomicU64);

impl Range {
    fn set(&self, begin: u64, end: u64) {
        // Workers see it because the mark that they wait for is set after it.
        self.0.store(begin << 32 | end, Ordering::Relaxed);
    }

    /// Takes a piece: half of what is left. The owner takes it from the front, others from the back.
    fn take(&self, front: bool) -> Option<(u64, u64)> {
        let mut seen = self.0.load(Ordering::Relaxed);
        loop {
            let (begin, end) = (seen >> 32, seen & u64::from(u32::MAX));
            let left = end.saturating_sub(begin);
            if left == 0 {
                return None;
            }
            let piece = (left / 2).max(LAST_PIECE).min(left);
            let (taken, rest) = if front {
                ((begin, begin + piece), (begin + piece) << 32 | end)
            } else {
                ((end - piece, end), begin << 32 | (end - piece))
            };
            // Only the numbers matter, not what else a thread has written: the mark orders that.
            match self.0.compare_exchange_weak(seen, rest, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(taken),
                Err(now) => seen = now,
            }
        }
    }
}

/// A fixed set of threads that share loops.
pub struct Pool {
    workers: Vec<Worker>,
    /// One for each thread.
    ranges: Vec<Range>,
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
        let ranges = (0..threads).map(|_| Range(AtomicU64::new(0))).collect();
        let mut pool = Pool { workers: Vec::new(), ranges };
        for index in 1..threads {
            let mailbox = Arc::new(Mailbox {
                // Until the thread has started.
                mark: AtomicU32::new(WORK),
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
        // What a thread allocates when it starts is allocated before the first loop, not in the midst of a later one.
        drop(Busy(&pool.workers));
        Ok(pool)
    }

    /// Number of threads, the caller's included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `body(worker, begin, end)` on ranges that cover `0..items` and returns when all are done. A worker may be called several
    /// times, one after the other. Ranges have at least `grain` items, or all.
    ///
    /// # Panics
    /// When the body panics, after all workers have ended.
    pub fn parallel_for<F: Fn(usize, u64, u64) + Sync>(&mut self, items: u64, grain: u64, body: F) {
        if items == 0 {
            return;
        }
        // Counted in units, so that two numbers fit into one atomic.
        let unit = grain.max(items / u64::from(u32::MAX) + 1);
        let units = (items / unit).max(1);
        let parts = units.min(self.threads() as u64);
        if parts == 1 {
            return body(0, 0, items);
        }
        let (share, rest) = (units / parts, units % parts);
        // The first `rest` ranges have one unit more.
        let start = |part: u64| part * share + part.min(rest);
        let parts = parts as usize;
        let ranges = &self.ranges[..parts];
        for (part, range) in (0u64..).zip(ranges) {
            range.set(start(part), start(part + 1));
        }
        let share = |worker: usize| {
            for turn in 0..parts {
                let range = &ranges[(worker + turn) % parts];
                while let Some((begin, end)) = range.take(turn == 0) {
                    body(worker, begin * unit, if end == units { items } else { end * unit });
                }
            }
        };
        let busy = Busy(&self.workers[..parts - 1]);
        for worker in busy.0 {
            post(worker, &share);
        }
        share(0);
        drop(busy);
        let panicked = self.workers[..parts - 1].iter().any(|w| w.mailbox.panicked.load(Ordering::Relaxed));
        assert!(!panicked, "a loop's body panicked on another thread");
    }
}

/// Gives a worker its share of a loop. The caller takes it back, or waits for it, before `share` ends ([`Busy`]).
fn post<F: Fn(usize) + Sync>(worker: &Worker, share: &F) {
    let job = Job { call: call::<F>, share: (&raw const *share).cast() };
    // SAFETY: the worker's mark is `IDLE` or `ASLEEP`: `Busy` waited for that when the last loop ended, and `&mut Pool` keeps others out.
    unsafe { *worker.mailbox.job.get() = Some(job) };
    worker.mailbox.panicked.store(false, Ordering::Relaxed);
    if worker.mailbox.mark.swap(POSTED, Ordering::AcqRel) == ASLEEP {
        worker.thread.unpark();
    }
}

/// Workers that run a loop whose body the caller's frame holds: leaving the frame, even by a panic, waits for them.
struct Busy<'a>(&'a [Worker]);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        for worker in self.0 {
            let mark = &worker.mailbox.mark;
            // A worker that has not begun never will.
            if mark.compare_exchange(POSTED, IDLE, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                continue;
            }
            let mut spins = 0;
            while mark.load(Ordering::Acquire) == WORK {
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
/// `share` points to an `F` that lives until this returns.
unsafe fn call<F: Fn(usize) + Sync>(share: *const (), worker: usize) {
    // SAFETY: as the caller promises.
    let share = unsafe { &*share.cast::<F>() };
    share(worker);
}

/// The life of a worker.
fn work(index: usize, mailbox: &Mailbox, spins: u32) {
    // Fails when the pool is dropped already.
    let _ = mailbox.mark.compare_exchange(WORK, IDLE, Ordering::AcqRel, Ordering::Acquire);
    while wait(&mailbox.mark, spins) != EXIT {
        // SAFETY: the mark is `WORK`, so the caller has written the job and leaves it alone until the mark changes.
        let job = unsafe { *mailbox.job.get() };
        let job = job.expect("invariant: a job is posted before the mark is set");
        // SAFETY: the caller keeps the share alive until the mark is taken down.
        let run = || unsafe { (job.call)(job.share, index) };
        if catch_unwind(AssertUnwindSafe(run)).is_err() {
            mailbox.panicked.store(true, Ordering::Relaxed);
        }
        mailbox.mark.store(IDLE, Ordering::Release);
    }
}

/// Waits for a job and takes it, which makes the mark `WORK`, or for `EXIT`. Returns the mark.
fn wait(mark: &AtomicU32, spins: u32) -> u32 {
    let mut left = spins;
    loop {
        match mark.load(Ordering::Acquire) {
            EXIT => return EXIT,
            POSTED => {
                // Fails when the caller took the job back.
                if mark.compare_exchange(POSTED, WORK, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                    return WORK;
                }
            }
            ASLEEP => std::thread::park(),
            _ if left > 0 => {
                left -= 1;
                std::hint::spin_loop();
            }
            // From here on whoever posts a job sees `ASLEEP` and wakes this thread.
            _ => {
                if mark.compare_exchange(IDLE, ASLEEP, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                    left = spins;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn ranges_keep_to_the_grain() {
        let mut pool = Pool::new(4).unwrap();
        for (items, grain) in [(10, 3), (10, 100), (2, 1), (1000, 1), (u64::MAX, u64::MAX / 3), (u64::MAX, 1)]
        {
            let covered = AtomicU64::new(0);
            pool.parallel_for(items, grain, |_, begin, end| {
                assert!(end - begin >= grain.min(items));
                covered.fetch_add(end - begin, Ordering::Relaxed);
            });
            assert_eq!(covered.into_inner(), items);
        }
    }

    #[test]
    fn others_finish_the_range_of_a_worker_that_is_held_up() {
        let mut pool = Pool::new(2).unwrap();
        for held in [0, 1] {
            // The first item of a range waits until all others, the rest of that range too, are done.
            let (done, waits) = (AtomicU64::new(0), AtomicU64::new(0));
            pool.parallel_for(64, 1, |worker, begin, end| {
                let first = if held == 0 { 0 } else { 32 };
                if begin == first && worker == held {
                    waits.fetch_add(1, Ordering::Relaxed);
                    let others = 64 - (end - begin);
                    while done.load(Ordering::Acquire) < others {
                        std::thread::yield_now();
                    }
                }
                done.fetch_add(end - begin, Ordering::AcqRel);
            });
            assert_eq!(done.into_inner(), 64);
            assert!(waits.into_inner() <= 1);
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
                pool.parallel_for(3, 1, |_, begin, end| {
                    assert!(!(begin..end).any(|item| bad.contains(&item)), "expected");
                });
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
