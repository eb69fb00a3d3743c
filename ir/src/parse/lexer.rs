//! Tokens of MLIR text, as far as the generic form of the dialect uses them. The lexer works on demand: inside `tensor<4x8xf32>` the type
//! parser reads sizes character by character, since `0x8xf32` would otherwise start with a hexadecimal number.

use std::borrow::Cow;

use super::Failure;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `linear`, `qcc.name`, `true`
    Identifier,
    /// `12`, `0x1F`
    Integer,
    /// `1.0`, `2.5e-3`
    Float,
    /// `"text"`
    String,
    /// `%0`
    Percent,
    /// `^bb0`
    Caret,
    /// `#loc1`
    Hash,
    /// `!qcc.q`
    Bang,
    /// `->`
    Arrow,
    /// One of `( ) { } [ ] < > , : = - ?`
    Punctuation(u8),
    /// The end of the text.
    End,
}

/// A token and the bytes it covers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token {
    pub kind: Kind,
    pub start: usize,
    pub end: usize,
}

fn is_identifier(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'.')
}

/// The token at or after `start`.
pub(super) fn next_token(text: &str, start: usize) -> Result<Token, Failure> {
    let bytes = text.as_bytes();
    let start = skip_space(bytes, start);
    let token = |kind, end| Ok(Token { kind, start, end });
    let run = |from: usize, accept: fn(u8) -> bool| {
        from + bytes[from..].iter().position(|b| !accept(*b)).unwrap_or(bytes.len() - from)
    };
    let Some(&first) = bytes.get(start) else { return token(Kind::End, start) };
    match first {
        b'(' | b')' | b'{' | b'}' | b'[' | b']' | b'<' | b'>' | b',' | b':' | b'=' | b'?' => {
            token(Kind::Punctuation(first), start + 1)
        }
        b'-' if bytes.get(start + 1) == Some(&b'>') => token(Kind::Arrow, start + 2),
        b'-' => token(Kind::Punctuation(b'-'), start + 1),
        b'"' => token(Kind::String, string_end(text, start)?),
        b'%' | b'^' | b'#' | b'!' => {
            let end = match first {
                b'%' => run(start + 1, |b| is_identifier(b) || b == b'-'),
                _ => run(start + 1, is_identifier),
            };
            if end == start + 1 {
                return Err(Failure::new(start, format!("a name must follow `{}`", char::from(first))));
            }
            let kind = match first {
                b'%' => Kind::Percent,
                b'^' => Kind::Caret,
                b'#' => Kind::Hash,
                _ => Kind::Bang,
            };
            token(kind, end)
        }
        b'0'..=b'9' => {
            if first == b'0'
                && bytes.get(start + 1) == Some(&b'x')
                && bytes.get(start + 2).is_some_and(u8::is_ascii_hexdigit)
            {
                return token(Kind::Integer, run(start + 2, |b| b.is_ascii_hexdigit()));
            }
            let whole = run(start, |b| b.is_ascii_digit());
            if bytes.get(whole) != Some(&b'.') {
                return token(Kind::Integer, whole);
            }
            let fraction = run(whole + 1, |b| b.is_ascii_digit());
            let sign = match bytes.get(fraction..) {
                Some([b'e' | b'E', b'+' | b'-', d, ..]) if d.is_ascii_digit() => 2,
                Some([b'e' | b'E', d, ..]) if d.is_ascii_digit() => 1,
                _ => return token(Kind::Float, fraction),
            };
            token(Kind::Float, run(fraction + sign, |b| b.is_ascii_digit()))
        }
        b if b.is_ascii_alphabetic() || b == b'_' => token(Kind::Identifier, run(start, is_identifier)),
        _ => {
            let shown = text[start..].chars().next().unwrap_or(char::REPLACEMENT_CHARACTER);
            Err(Failure::new(start, format!("unexpected character {shown:?}")))
        }
    }
}

/// Skips white space and `//` comments.
fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    loop {
        match bytes.get(at) {
            Some(b' ' | b'\t' | b'\r' | b'\n') => at += 1,
            Some(b'/') if bytes.get(at + 1) == Some(&b'/') => {
                at = bytes[at..].iter().position(|b| *b == b'\n').map_or(bytes.len(), |n| at + n);
            }
            _ => return at,
        }
    }
}

fn string_end(text: &str, start: usize) -> Result<usize, Failure> {
    let bytes = text.as_bytes();
    let mut at = start + 1;
    loop {
        match bytes.get(at) {
            Some(b'"') => return Ok(at + 1),
            Some(b'\\') => at += 2,
            Some(b'\n') | None => return Err(Failure::new(start, "the string has no closing `\"`")),
            Some(_) => at += 1,
        }
    }
}

/// The text of a string token, escapes resolved.
pub(super) fn unescape(text: &str, token: Token) -> Result<Cow<'_, str>, Failure> {
    let body = &text[token.start + 1..token.end - 1];
    if !body.contains('\\') {
        return Ok(Cow::Borrowed(body));
    }
    let mut out = Vec::with_capacity(body.len());
    let mut bytes = body.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let hex = |b: u8| char::from(b).to_digit(16).map(|d| d as u8);
        out.push(match bytes.next() {
            Some(b'n') => b'\n',
            Some(b't') => b'\t',
            Some(b @ (b'"' | b'\\')) => b,
            Some(high) => match (hex(high), bytes.next().and_then(hex)) {
                (Some(high), Some(low)) => high << 4 | low,
                _ => return Err(Failure::new(token.start, "unknown escape in the string")),
            },
            None => return Err(Failure::new(token.start, "unknown escape in the string")),
        });
    }
    String::from_utf8(out)
        .map(Cow::Owned)
        .map_err(|_| Failure::new(token.start, "the string is not UTF-8 once its escapes are resolved"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<(Kind, &str)> {
        let mut at = 0;
        let mut all = Vec::new();
        loop {
            let token = next_token(text, at).expect(text);
            if token.kind == Kind::End {
                return all;
            }
            all.push((token.kind, &text[token.start..token.end]));
            at = token.end;
        }
    }

    #[test]
    fn tokens_are_those_of_mlir() {
        assert_eq!(
            kinds("%0:2 = \"a\\\"b\" // comment\n -1.5e-3 0x1F #loc1 -> 1.e5"),
            [
                (Kind::Percent, "%0"),
                (Kind::Punctuation(b':'), ":"),
                (Kind::Integer, "2"),
                (Kind::Punctuation(b'='), "="),
                (Kind::String, "\"a\\\"b\""),
                (Kind::Punctuation(b'-'), "-"),
                (Kind::Float, "1.5e-3"),
                (Kind::Integer, "0x1F"),
                (Kind::Hash, "#loc1"),
                (Kind::Arrow, "->"),
                (Kind::Float, "1.e5"),
            ]
        );
    }

    #[test]
    fn strings_resolve_their_escapes() {
        let text = r#""a\22b\\\C3\BC\n""#;
        let token = next_token(text, 0).expect("a string");
        assert_eq!(unescape(text, token).expect("valid"), "a\"b\\ü\n");
        for bad in [r#""\FF""#, r#""\zz""#, r#""\2""#] {
            let token = next_token(bad, 0).expect("a string");
            assert!(unescape(bad, token).is_err(), "{bad}");
        }
        assert!(next_token("\"open", 0).is_err());
        assert!(next_token("\"open\\", 0).is_err());
    }
}
