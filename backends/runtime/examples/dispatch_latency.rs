//! Measures what handing a loop to the pool costs: `cargo run --release -p qcc-runtime --example dispatch_latency`.

use std::hint::black_box;
use std::time::Instant;

use qcc_runtime::Pool;

fn main() {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    println!(
        "{cores} cores; nanoseconds a loop of one empty item a thread, median and 99th percentile of 100000"
    );
    for threads in 1..=cores.max(2) {
        let mut pool = match Pool::new(threads) {
            Ok(pool) => pool,
            Err(e) => return eprintln!("{e}"),
        };
        let mut times: Vec<u64> = (0..100_000)
            .map(|_| {
                let start = Instant::now();
                pool.parallel_for(threads as u64, 1, |worker, _, _| {
                    black_box(worker);
                });
                start.elapsed().as_nanos() as u64
            })
            .collect();
        times.sort_unstable();
        println!("{threads} threads: {:6} {:6}", times[times.len() / 2], times[times.len() * 99 / 100]);
        for pause in [20, 50, 100, 200, 400, 1000] {
            let mut times: Vec<u64> = (0..300)
                .map(|_| {
                    let start = Instant::now();
                    while start.elapsed().as_micros() < pause {}
                    let start = Instant::now();
                    pool.parallel_for(threads as u64, 1, |worker, _, _| {
                        black_box(worker);
                    });
                    start.elapsed().as_nanos() as u64
                })
                .collect();
            times.sort_unstable();
            println!(
                "    after {pause:4} µs of other work: {:6} {:6}",
                times[times.len() / 2],
                times[times.len() * 99 / 100]
            );
        }
    }
}
