//! No text, however damaged, makes `qcc opt` panic or hang: 2000 seeded mutations of the test files (`MUTATIONS=n` makes n), each under the
//! flags of a `RUN:` line.

use std::time::{Duration, Instant};

use qcc_test::execute::{PANICKED, qcc};
use qcc_test::mutate::{Random, mutate};

use crate::suites::{TestFile, files};

const MUTATIONS: u64 = 2000;
const LONGEST: Duration = Duration::from_secs(5);

pub fn check() -> Result<(), String> {
    let mut texts = Vec::new();
    for file in files().iter().filter(|f| f.name.ends_with(".mlir")) {
        texts.push((file.name.clone(), file.text()?, commands(file)?));
    }
    let mut accepted = 0;
    let mutations = std::env::var("MUTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(MUTATIONS);
    for seed in 0..mutations {
        let mut random = Random::new(seed);
        let (name, text, commands) = &texts[random.below(texts.len())];
        let other = &texts[random.below(texts.len())].1;
        let mutated = mutate(text.as_bytes(), other.as_bytes(), &mut random);
        let mut words = commands.get(random.below(commands.len() + 1)).cloned().unwrap_or_default();
        if words.is_empty() {
            words.extend(["qcc", "opt", "--verify-each", "--canonicalize"].map(String::from));
        }
        let start = Instant::now();
        let output = qcc(&words, &mutated, false);
        let seconds = start.elapsed();
        let stderr = String::from_utf8_lossy(&output.stderr);
        let problem = match output.code {
            PANICKED => "panics".to_string(),
            0 | 1 if seconds > LONGEST => format!("takes {seconds:?}"),
            1 if stderr.trim().is_empty() => "fails without a message".into(),
            0 | 1 => {
                accepted += u64::from(output.code == 0);
                continue;
            }
            code => format!("ends with {code}"),
        };
        return Err(format!("mutation {seed} of {name}: {} {problem}\n{stderr}", words.join(" ")));
    }
    // Mutations that are all refused at once would test the first lines of the parser only.
    if accepted * 20 < mutations { Err(format!("only {accepted} mutations parse")) } else { Ok(()) }
}

/// The `qcc opt` commands of a file that succeed, reading standard input.
fn commands(file: &TestFile) -> Result<Vec<Vec<String>>, String> {
    let mut all = Vec::new();
    for command in file.script()?.into_iter().flat_map(|line| line.pipes).flatten() {
        let stdin = |word: String| if word.ends_with(&file.name) { "-".into() } else { word };
        let words: Vec<String> = command.words.into_iter().map(stdin).collect();
        if words.starts_with(&["qcc".into(), "opt".into()]) {
            all.push(words);
        }
    }
    Ok(all)
}
