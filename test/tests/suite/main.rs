//! All suites: one test a file with `RUN:` lines, and a few over all files at once.

mod dumps;
mod filecheck;
mod mutations;
mod suites;

use libtest_mimic::{Arguments, Failed, Trial};

fn main() {
    let arguments = Arguments::from_args();
    let mut trials: Vec<Trial> = suites::files()
        .into_iter()
        .map(|test| Trial::test(test.name.clone(), move || Ok(test.run()?)))
        .collect();
    trials.push(Trial::test("dumps::stock_mlir_opt_prints_them_back", || failed(dumps::check())));
    trials.push(Trial::test("mutations::no_text_makes_opt_panic", || failed(mutations::check())));
    trials.push(Trial::test("filecheck::answers_are_those_of_llvm", || failed(filecheck::check())));
    libtest_mimic::run(&arguments, trials).exit();
}

fn failed(outcome: Result<(), String>) -> Result<(), Failed> {
    outcome.map_err(Failed::from)
}
