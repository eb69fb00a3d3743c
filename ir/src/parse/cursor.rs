//! The cursor: the text, the token at hand, and the few questions every part of the parser asks of them.

use std::borrow::Cow;
use std::collections::HashMap;

use super::lexer::{Kind, Token, next_token, unescape};
use super::{Failure, MAX_DEPTH};
use crate::attribute::Str;

pub(super) type Outcome<T> = Result<T, Failure>;

pub(super) struct Cursor<'a> {
    pub text: &'a str,
    pub token: Token,
    depth: usize,
    /// Location aliases: where their definitions start, and what they were found to mean.
    pub aliases: HashMap<&'a str, usize>,
    pub resolved: HashMap<&'a str, Str>,
}

impl<'a> Cursor<'a> {
    pub fn new(text: &'a str) -> Outcome<Cursor<'a>> {
        let token = next_token(text, 0)?;
        Ok(Cursor { text, token, depth: 0, aliases: find_aliases(text), resolved: HashMap::new() })
    }

    /// The text of the token at hand.
    pub fn lexeme(&self) -> &'a str {
        &self.text[self.token.start..self.token.end]
    }

    pub fn fail<T>(&self, message: impl Into<String>) -> Outcome<T> {
        Err(Failure::new(self.token.start, message))
    }

    /// A failure that says what should stand here instead.
    pub fn expected<T>(&self, what: &str) -> Outcome<T> {
        match self.token.kind {
            Kind::End => self.fail(format!("expected {what}, but the text ends")),
            _ => {
                let mut shown: String = self.lexeme().chars().take(40).collect();
                if shown.len() < self.lexeme().len() {
                    shown.push('…');
                }
                self.fail(format!("expected {what}, found `{shown}`"))
            }
        }
    }

    /// Takes the token at hand.
    pub fn advance(&mut self) -> Outcome<Token> {
        let token = self.token;
        self.token = next_token(self.text, token.end)?;
        Ok(token)
    }

    /// Goes to another place in the text.
    pub fn jump(&mut self, to: usize) -> Outcome<()> {
        self.token = next_token(self.text, to)?;
        Ok(())
    }

    pub fn at(&self, punctuation: u8) -> bool {
        self.token.kind == Kind::Punctuation(punctuation)
    }

    pub fn at_word(&self, word: &str) -> bool {
        self.token.kind == Kind::Identifier && self.lexeme() == word
    }

    /// Takes a punctuation mark if it is at hand.
    pub fn accept(&mut self, punctuation: u8) -> Outcome<bool> {
        let here = self.at(punctuation);
        if here {
            self.advance()?;
        }
        Ok(here)
    }

    pub fn expect(&mut self, punctuation: u8) -> Outcome<Token> {
        if self.at(punctuation) {
            return self.advance();
        }
        self.expected(&format!("`{}`", char::from(punctuation)))
    }

    pub fn expect_kind(&mut self, kind: Kind, what: &str) -> Outcome<Token> {
        if self.token.kind == kind { self.advance() } else { self.expected(what) }
    }

    /// Takes a word if it is at hand.
    pub fn accept_word(&mut self, word: &str) -> Outcome<bool> {
        let here = self.at_word(word);
        if here {
            self.advance()?;
        }
        Ok(here)
    }

    pub fn expect_word(&mut self, word: &str) -> Outcome<()> {
        if self.accept_word(word)? { Ok(()) } else { self.expected(&format!("`{word}`")) }
    }

    pub fn string(&mut self, what: &str) -> Outcome<Cow<'a, str>> {
        let token = self.expect_kind(Kind::String, what)?;
        unescape(self.text, token)
    }

    /// A decimal integer without sign that fits `i64`.
    pub fn natural(&mut self, what: &str) -> Outcome<i64> {
        let text = self.lexeme();
        match (self.token.kind, text.parse::<i64>()) {
            (Kind::Integer, Ok(n)) => self.advance().map(|_| n),
            (Kind::Integer, Err(_)) => self.fail(format!("`{text}` is not a decimal 64-bit integer")),
            _ => self.expected(what),
        }
    }

    /// Items with commas between them up to (and with) `close`; the opening mark has been taken.
    pub fn list(&mut self, close: u8, mut item: impl FnMut(&mut Self) -> Outcome<()>) -> Outcome<()> {
        if self.accept(close)? {
            return Ok(());
        }
        loop {
            item(self)?;
            if self.accept(close)? {
                return Ok(());
            }
            if !self.accept(b',')? {
                return self.expected(&format!("`,` or `{}`", char::from(close)));
            }
        }
    }

    /// Runs a part of the grammar that may contain itself; deep nesting is refused, since the stack is finite.
    pub fn nested<T>(&mut self, part: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<T> {
        if self.depth >= MAX_DEPTH {
            return self.fail(format!("nested more than {MAX_DEPTH} deep"));
        }
        self.depth += 1;
        let result = part(self);
        self.depth -= 1;
        result
    }
}

/// Where each `#name = loc(…)` line says its location. Strings hold no line breaks, so no line inside one can look like a definition.
fn find_aliases(text: &str) -> HashMap<&str, usize> {
    let mut aliases = HashMap::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let body = line.trim_start();
        if body.starts_with('#')
            && let Some((name, rest)) = body.split_once('=')
            && rest.trim_start().starts_with("loc")
        {
            aliases.insert(name.trim_end(), start + (line.len() - rest.len()));
        }
        start += line.len();
    }
    aliases
}
