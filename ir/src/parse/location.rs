//! MLIR locations, reduced to what the IR keeps: the name of a source.

use super::Failure;
use super::cursor::{Cursor, Outcome};
use super::lexer::Kind;
use crate::attribute::Str;

impl Cursor<'_> {
    /// ` loc(…)` after an operation or argument, if it is there; unknown is the empty name.
    pub(super) fn trailing_location(&mut self) -> Outcome<Str> {
        if self.at_word("loc") { self.location() } else { Ok("".into()) }
    }

    /// `loc(…)`
    pub(super) fn location(&mut self) -> Outcome<Str> {
        self.expect_word("loc")?;
        self.expect(b'(')?;
        let name = self.location_body()?;
        self.expect(b')')?;
        Ok(name)
    }

    fn location_body(&mut self) -> Outcome<Str> {
        self.nested(|c| match (c.token.kind, c.lexeme()) {
            (Kind::Hash, _) => c.location_alias(),
            (Kind::String, _) => c.named_location(),
            (Kind::Identifier, "unknown") => c.advance().map(|_| "".into()),
            (Kind::Identifier, "callsite") => c.call_site(),
            (Kind::Identifier, "fused") => c.fused_location(),
            _ => c.expected("a location: a string, `unknown`, `callsite`, `fused` or an alias"),
        })
    }

    /// `callsite(callee at caller)`
    fn call_site(&mut self) -> Outcome<Str> {
        self.advance()?;
        self.expect(b'(')?;
        let callee = self.location_body()?;
        self.expect_word("at")?;
        let caller = self.location_body()?;
        self.expect(b')')?;
        Ok(if callee.is_empty() { caller } else { callee })
    }

    /// `fused<metadata>[a, b]`: the first name there is.
    fn fused_location(&mut self) -> Outcome<Str> {
        self.advance()?;
        if self.accept(b'<')? {
            self.attribute()?;
            self.expect(b'>')?;
        }
        self.expect(b'[')?;
        let mut name: Str = "".into();
        self.list(b']', |c| {
            let part = c.location_body()?;
            if name.is_empty() {
                name = part;
            }
            Ok(())
        })?;
        Ok(name)
    }

    /// `"name"`, `"name"(child)`, or `"file":line:column` with an optional range.
    fn named_location(&mut self) -> Outcome<Str> {
        let name = self.string("a name")?;
        if self.accept(b'(')? {
            self.location_body()?;
            self.expect(b')')?;
            return Ok(name.into());
        }
        if !self.accept(b':')? {
            return Ok(name.into());
        }
        let line = self.natural("a line number")?;
        self.expect(b':')?;
        let column = self.natural("a column number")?;
        if self.accept_word("to")? {
            if !self.at(b':') {
                self.natural("a line number")?;
            }
            self.expect(b':')?;
            self.natural("a column number")?;
        }
        Ok(format!("{name}:{line}:{column}").into())
    }

    fn location_alias(&mut self) -> Outcome<Str> {
        let alias = self.lexeme();
        let token = self.token;
        if !self.resolved.contains_key(alias) {
            let Some(&definition) = self.aliases.get(alias) else {
                return self.fail(format!("the location alias `{alias}` is not defined"));
            };
            self.jump(definition)?;
            let name = self
                .location()
                .map_err(|f| Failure { message: format!("in the alias `{alias}`: {}", f.message), ..f })?;
            self.resolved.insert(alias, name);
            self.jump(token.start)?;
        }
        self.advance()?;
        Ok(self.resolved[alias].clone())
    }
}
