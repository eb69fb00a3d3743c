//! Regular expressions as LLVM reads them (POSIX extended, line by line) in the language of the `regex` crates.

/// The same expression; one that LLVM would read differently is refused.
pub(super) fn translate(posix: &str) -> Result<String, String> {
    let mut out = String::with_capacity(posix.len());
    let mut chars = posix.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c) if c.is_ascii_alphanumeric() => {
                    return Err(format!("FileCheck knows no `\\{c}`; use a class such as `[0-9]`"));
                }
                Some(c) => out.extend(['\\', c]),
                None => return Err(format!("`{posix}` ends with a backslash")),
            },
            '[' => {
                out.push('[');
                if chars.next_if_eq(&'^').is_some() {
                    // No class reaches over a line's end.
                    out.push_str("^\\n");
                }
                if chars.next_if_eq(&']').is_some() {
                    out.push_str("\\]");
                }
                loop {
                    match chars.next() {
                        None => return Err(format!("`[` is not closed in `{posix}`")),
                        Some(']') => break,
                        Some('[') if chars.peek() == Some(&':') => {
                            out.push('[');
                            for c in chars.by_ref() {
                                out.push(c);
                                if c == ']' {
                                    break;
                                }
                            }
                        }
                        Some(c @ ('[' | '\\' | '&' | '~')) => out.extend(['\\', c]),
                        Some(c) => out.push(c),
                    }
                }
                out.push(']');
            }
            c => out.push(c),
        }
    }
    Ok(out)
}
