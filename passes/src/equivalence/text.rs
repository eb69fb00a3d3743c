//! Reads the text of rule files: atoms and parenthesised lists, with the lines they stand on.

/// An atom or a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tree {
    Atom(usize, String),
    List(usize, Vec<Tree>),
}

/// How deep lists may nest.
const MAX_DEPTH: usize = 32;

impl Tree {
    pub(super) fn line(&self) -> usize {
        match self {
            Tree::Atom(line, _) | Tree::List(line, _) => *line,
        }
    }

    pub(super) fn atom(&self) -> Option<&str> {
        match self {
            Tree::Atom(_, text) => Some(text),
            Tree::List(..) => None,
        }
    }

    /// The first element of a list, if it is an atom.
    pub(super) fn head(&self) -> Option<&str> {
        match self {
            Tree::List(_, items) => items.first()?.atom(),
            Tree::Atom(..) => None,
        }
    }

    /// What follows the head.
    pub(super) fn operands(&self) -> &[Tree] {
        match self {
            Tree::List(_, items) => items.get(1..).unwrap_or(&[]),
            Tree::Atom(..) => &[],
        }
    }
}

/// All trees of a text; the error is a line and what is wrong there.
pub(super) fn read(text: &str) -> Result<Vec<Tree>, (usize, String)> {
    // Lists that are open, innermost last; the first is the text itself.
    let mut open: Vec<(usize, Vec<Tree>)> = vec![(1, Vec::new())];
    for (number, line) in text.lines().enumerate() {
        let number = number + 1;
        let code = line.split(';').next().unwrap_or("");
        let spaced = code.replace('(', " ( ").replace(')', " ) ");
        for token in spaced.split_whitespace() {
            match token {
                "(" if open.len() > MAX_DEPTH => return Err((number, "lists nest too deeply".into())),
                "(" => open.push((number, Vec::new())),
                ")" => {
                    let (start, items) = open.pop().expect("invariant: the text itself stays open");
                    let Some((_, outer)) = open.last_mut() else {
                        return Err((number, "`)` without `(`".into()));
                    };
                    outer.push(Tree::List(start, items));
                }
                atom => {
                    let (_, items) = open.last_mut().expect("invariant: the text itself stays open");
                    items.push(Tree::Atom(number, atom.to_string()));
                }
            }
        }
    }
    match (open.pop(), open.is_empty()) {
        (Some((_, trees)), true) => Ok(trees),
        (Some((line, _)), false) => Err((line, "`(` is not closed".into())),
        (None, _) => Ok(Vec::new()),
    }
}
