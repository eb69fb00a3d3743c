//! Execution of scripts: `qcc` and `FileCheck` in this process, everything else as a program. As under lit, a pipe fails when any command
//! of it does.

use std::cell::RefCell;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Stdio;
use std::rc::Rc;

use crate::filecheck::{self, Options};
use crate::script::{Command, Errors, Line, Pipe};

/// The code of a process that panicked.
pub const PANICKED: i32 = 101;

/// What a command did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Exit code.
    pub code: i32,
    /// What it wrote, unless that went to a file.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error, unless that went elsewhere.
    pub stderr: Vec<u8>,
}

/// Runs all lines of a script.
///
/// # Errors
/// The first line that failed, with what it wrote.
pub fn run(script: &[Line]) -> Result<(), String> {
    for line in script {
        for pipe in &line.pipes {
            let output = run_pipe(pipe)?;
            if output.code != 0 {
                return Err(format!(
                    "RUN line {} failed with exit code {}: {}\n{}{}",
                    line.number,
                    output.code,
                    line.text,
                    String::from_utf8_lossy(&output.stdout),
                    String::from_utf8_lossy(&output.stderr)
                ));
            }
        }
    }
    Ok(())
}

/// Runs a pipe; the exit code is the first that is not 0, standard error that of all commands.
///
/// # Errors
/// When a command cannot be run.
pub fn run_pipe(pipe: &Pipe) -> Result<Output, String> {
    let mut whole = Output::default();
    for command in pipe {
        let output = run_command(command, std::mem::take(&mut whole.stdout))?;
        whole.code = if whole.code == 0 { output.code } else { whole.code };
        whole.stdout = output.stdout;
        whole.stderr.extend(output.stderr);
    }
    Ok(whole)
}

fn run_command(command: &Command, input: Vec<u8>) -> Result<Output, String> {
    let input = match &command.input {
        Some(file) => std::fs::read(file).map_err(|e| format!("cannot read `{file}`: {e}"))?,
        None => input,
    };
    let inverted = command.words.iter().take_while(|w| *w == "not").count();
    let words = &command.words[inverted..];
    let program = words.first().ok_or("`not` needs a command")?;
    let joined = command.errors == Errors::Output;
    let mut output = match program.as_str() {
        "qcc" => qcc(words, &input, joined),
        "FileCheck" => file_check(&words[1..], &input),
        _ => spawn(words, &input, joined)?,
    };
    if inverted % 2 == 1 {
        // A crash is no failure that a test may ask for.
        output.code = match output.code {
            0 => 1,
            PANICKED => PANICKED,
            _ => 0,
        };
    }
    let to_file = |file: &str, bytes: &mut Vec<u8>| {
        std::fs::write(file, std::mem::take(bytes)).map_err(|e| format!("cannot write `{file}`: {e}"))
    };
    if let Some(file) = &command.output {
        to_file(file, &mut output.stdout)?;
    }
    if let Errors::File(file) = &command.errors {
        to_file(file, &mut output.stderr)?;
    }
    Ok(output)
}

/// A stream that several writers share.
#[derive(Clone, Default)]
struct Shared(Rc<RefCell<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs `qcc` in this process, the program's name first among the words; `joined` sends standard error to standard output.
pub fn qcc(words: &[String], mut input: &[u8], joined: bool) -> Output {
    let (stdout, stderr) = (Shared::default(), Shared::default());
    let (mut out, mut err) = (stdout.clone(), if joined { stdout.clone() } else { stderr.clone() });
    let mut streams = qcc::Streams { stdin: &mut input, stdout: &mut out, stderr: &mut err };
    let run = AssertUnwindSafe(|| qcc::run(words.iter().map(Into::into), &mut streams));
    let code = catch_unwind(run).map_or(PANICKED, i32::from);
    Output { code, stdout: stdout.0.take(), stderr: stderr.0.take() }
}

fn file_check(arguments: &[String], input: &[u8]) -> Output {
    match try_file_check(arguments, input) {
        Ok(()) => Output::default(),
        Err(message) => Output { code: 1, stderr: message.into_bytes(), ..Output::default() },
    }
}

fn try_file_check(arguments: &[String], input: &[u8]) -> Result<(), String> {
    let mut options = Options::default();
    let (mut file, mut input_file) = (None, None);
    for argument in arguments {
        let flag = argument.trim_start_matches('-');
        match flag.split_once('=') {
            _ if flag.len() == argument.len() => file = Some(argument),
            Some(("check-prefix" | "check-prefixes", names)) => {
                options.prefixes = names.split(',').map(Into::into).collect();
            }
            Some(("input-file", name)) => input_file = Some(name),
            None if flag == "allow-empty" => options.allow_empty = true,
            _ => return Err(format!("FileCheck: `{argument}` is not supported here\n")),
        }
    }
    let file = file.ok_or("FileCheck: a file with directives is missing\n")?;
    let read =
        |name: &str| std::fs::read(name).map_err(|e| format!("FileCheck: cannot read `{name}`: {e}\n"));
    let directives = String::from_utf8_lossy(&read(file)?).into_owned();
    let bytes = input_file.map(read).transpose()?;
    let input = String::from_utf8_lossy(bytes.as_deref().unwrap_or(input));
    filecheck::check(&directives, &input, &options).map_err(|m| m.render(file, &directives, &input))
}

fn spawn(words: &[String], input: &[u8], joined: bool) -> Result<Output, String> {
    let fail = |e: io::Error| format!("cannot run `{}`: {e}", words[0]);
    let mut child = std::process::Command::new(&words[0])
        .args(&words[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(fail)?;
    let mut stdin = child.stdin.take();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || {
            // A program that stops reading is judged by its exit code.
            let _ = stdin.take().map(|mut stdin| stdin.write_all(input));
        });
        child.wait_with_output()
    });
    let mut output = output.map_err(fail)?;
    if joined {
        output.stdout.append(&mut output.stderr);
    }
    Ok(Output {
        code: output.status.code().unwrap_or(PANICKED),
        stdout: output.stdout,
        stderr: output.stderr,
    })
}
