//! Tokens to a tree, with the precedence of Argo's engine, and the tree to a text that leaves the
//! evaluator no choice.
//!
//! The evaluator parses in its own way (`a ?? b > c`, chained comparisons, `not` before `+`) and
//! knows no types, so that every condition is read here first and handed on with brackets.

use super::ConditionError;
use super::lexer::{Token, tokens};

/// An expression.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    /// `result`, `#`, `#acc`, or what a `let` has named.
    Name(String),
    Array(Vec<Node>),
    Map(Vec<(String, Node)>),
    Unary(&'static str, Box<Node>),
    Binary(&'static str, Box<Node>, Box<Node>),
    Choice(Box<Node>, Box<Node>, Box<Node>),
    /// `of[at]` and `of.name`; true: nil when `of` is nil.
    Member(Box<Node>, Box<Node>, bool),
    Slice(Box<Node>, Option<Box<Node>>, Option<Box<Node>>),
    Call(String, Vec<Node>),
    Method(Box<Node>, String, Vec<Node>),
    /// What a function does with every value.
    Closure(Box<Node>),
    Let(String, Box<Node>, Box<Node>),
}

impl Node {
    /// The numbers in it.
    pub(super) fn numbers(&self, found: &mut Vec<f64>) {
        match self {
            #[expect(clippy::cast_precision_loss, reason = "a number to try, not to count")]
            Self::Int(value) => found.push(*value as f64),
            Self::Float(value) => found.push(*value),
            Self::Nil | Self::Bool(_) | Self::Text(_) | Self::Name(_) => {}
            Self::Array(items) | Self::Call(_, items) => {
                items.iter().for_each(|item| item.numbers(found));
            }
            Self::Map(entries) => entries.iter().for_each(|(_, value)| value.numbers(found)),
            Self::Unary(_, of) | Self::Closure(of) => of.numbers(found),
            Self::Binary(_, a, b) | Self::Member(a, b, _) | Self::Let(_, a, b) => {
                a.numbers(found);
                b.numbers(found);
            }
            Self::Choice(a, b, c) => [a, b, c].into_iter().for_each(|part| part.numbers(found)),
            Self::Slice(of, from, to) => {
                of.numbers(found);
                [from, to].into_iter().flatten().for_each(|end| end.numbers(found));
            }
            Self::Method(of, _, args) => {
                of.numbers(found);
                args.iter().for_each(|arg| arg.numbers(found));
            }
        }
    }
}

/// The deepest nesting, of brackets and of anything else that nests. The evaluator's parser tries
/// each `[` twice, so 12 levels of them are 4,096 tries.
const MAX_DEPTH: usize = 48;
const MAX_BRACKETS: usize = 12;

/// Operators in one condition.
const MAX_OPERATORS: usize = 128;

/// Functions whose last argument is asked of every value.
pub(super) const OVER_ALL: [&str; 15] = [
    "all",
    "any",
    "one",
    "none",
    "map",
    "filter",
    "find",
    "findIndex",
    "findLast",
    "findLastIndex",
    "count",
    "sum",
    "reduce",
    "groupBy",
    "sortBy",
];

/// Parses a condition.
pub(super) fn parse(text: &str) -> Result<Node, ConditionError> {
    let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0, brackets: 0, operators: 0 };
    let node = parser.expression(0)?;
    match parser.peek() {
        None => Ok(node),
        Some(token) => Err(parser.unexpected(&token.clone())),
    }
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
    brackets: usize,
    operators: usize,
}

type Parsed = Result<Node, ConditionError>;

/// How strongly an operator of two sides binds, as in Argo's engine.
fn binds(word: &str) -> Option<(u16, &'static str)> {
    Some(match word {
        "|" => (0, "|"),
        "or" | "||" => (10, "or"),
        "and" | "&&" => (15, "and"),
        "==" => (20, "=="),
        "!=" => (20, "!="),
        "<" => (20, "<"),
        ">" => (20, ">"),
        "<=" => (20, "<="),
        ">=" => (20, ">="),
        "in" => (20, "in"),
        "matches" => (20, "matches"),
        "contains" => (20, "contains"),
        "startsWith" => (20, "startsWith"),
        "endsWith" => (20, "endsWith"),
        "+" => (30, "+"),
        "-" => (30, "-"),
        "*" => (60, "*"),
        "/" => (60, "/"),
        "%" => (60, "%"),
        "**" | "^" => (100, "**"),
        "??" => (500, "??"),
        _ => return None,
    })
}

fn compares(operator: &str) -> bool {
    matches!(operator, "<" | ">" | "<=" | ">=")
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn is(&self, sign: &str) -> bool {
        match self.peek() {
            Some(Token::Sign(found)) => *found == sign,
            Some(Token::Word(found)) => found == sign,
            _ => false,
        }
    }

    fn eat(&mut self, sign: &str) -> bool {
        let found = self.is(sign);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, sign: &str) -> Result<(), ConditionError> {
        if self.eat(sign) {
            return Ok(());
        }
        match self.peek() {
            Some(token) => Err(self.unexpected(&token.clone())),
            None => Err(ConditionError::Syntax(format!("ends where {sign:?} is expected"))),
        }
    }

    fn unexpected(&self, token: &Token) -> ConditionError {
        let text = match token {
            Token::Int(value) => value.to_string(),
            Token::Float(value) => value.to_string(),
            Token::Text(text) => format!("{text:?}"),
            Token::Word(word) => word.clone(),
            Token::Sign(".." | "...") => {
                return ConditionError::Unbounded("ranges (`..`) are not allowed in conditions");
            }
            Token::Sign(sign) => (*sign).to_owned(),
        };
        ConditionError::Syntax(format!("unexpected {text}"))
    }

    fn deeper<T>(
        &mut self,
        inner: impl FnOnce(&mut Self) -> Result<T, ConditionError>,
    ) -> Result<T, ConditionError> {
        if self.depth >= MAX_DEPTH {
            return Err(ConditionError::Unbounded("the condition is nested deeper than 48"));
        }
        self.depth += 1;
        let parsed = inner(self);
        self.depth -= 1;
        parsed
    }

    fn bracket<T>(
        &mut self,
        inner: impl FnOnce(&mut Self) -> Result<T, ConditionError>,
    ) -> Result<T, ConditionError> {
        if self.brackets >= MAX_BRACKETS {
            return Err(ConditionError::Unbounded("brackets are nested deeper than 12"));
        }
        self.brackets += 1;
        let parsed = inner(self);
        self.brackets -= 1;
        parsed
    }

    fn operator(&mut self) -> Result<(), ConditionError> {
        self.operators += 1;
        if self.operators > MAX_OPERATORS {
            return Err(ConditionError::Unbounded("more than 128 operators in one condition"));
        }
        Ok(())
    }

    fn expression(&mut self, least: u16) -> Parsed {
        self.deeper(|parser| {
            if least == 0 && parser.eat("let") {
                return parser.naming();
            }
            if least == 0 && parser.eat("if") {
                return parser.branches();
            }
            let mut left = parser.primary()?;
            while let Some((binding, operator, negated)) = parser.infix(least) {
                parser.operator()?;
                left = parser.right_of(left, binding, operator)?;
                if negated {
                    left = Node::Unary("not", Box::new(left));
                }
            }
            if least == 0 && parser.eat("?") {
                parser.operator()?;
                return parser.choice(left);
            }
            Ok(left)
        })
    }

    /// The operator that comes, when it binds at least so strongly. Moves past it.
    fn infix(&mut self, least: u16) -> Option<(u16, &'static str, bool)> {
        let negated = self.is("not");
        let word = match self.tokens.get(self.at + usize::from(negated))? {
            Token::Word(word) => word.as_str(),
            Token::Sign(sign) => sign,
            _ => return None,
        };
        let (binding, operator) = binds(word)?;
        let negatable =
            matches!(operator, "in" | "matches" | "contains" | "startsWith" | "endsWith");
        if binding < least || (negated && !negatable) {
            return None;
        }
        self.at += 1 + usize::from(negated);
        Some((binding, operator, negated))
    }

    fn right_of(&mut self, left: Node, binding: u16, operator: &'static str) -> Parsed {
        match operator {
            "|" => {
                let Some(Token::Word(name)) = self.peek().cloned() else {
                    return self.expect("a function").map(|()| left);
                };
                self.at += 1;
                self.expect("(")?;
                return self.call(name, Some(left)).and_then(|call| self.postfix(call));
            }
            "**" => {
                let right = self.expression(binding)?;
                return Ok(Node::Binary(operator, Box::new(left), Box::new(right)));
            }
            _ => {}
        }
        let mut right = self.expression(binding + 1)?;
        let mut node = Node::Binary(operator, Box::new(left), Box::new(right.clone()));
        // `a < b < c` is `a < b and b < c`.
        while compares(operator)
            && let Some(Token::Sign(sign)) = self.peek()
            && compares(sign)
            && let Some((binding, next)) = binds(sign)
        {
            self.at += 1;
            self.operator()?;
            let further = self.expression(binding + 1)?;
            let pair = Node::Binary(next, Box::new(right), Box::new(further.clone()));
            node = Node::Binary("and", Box::new(node), Box::new(pair));
            right = further;
        }
        Ok(node)
    }

    fn naming(&mut self) -> Parsed {
        let Some(Token::Word(name)) = self.peek().cloned() else {
            return self.expect("a name").map(|()| Node::Nil);
        };
        self.at += 1;
        self.expect("=")?;
        let value = self.expression(0)?;
        self.expect(";")?;
        let body = self.expression(0)?;
        Ok(Node::Let(name, Box::new(value), Box::new(body)))
    }

    fn branches(&mut self) -> Parsed {
        let condition = self.expression(0)?;
        self.expect("{")?;
        let yes = self.bracket(|parser| parser.expression(0))?;
        self.expect("}")?;
        self.expect("else")?;
        let no = if self.eat("if") {
            self.deeper(Self::branches)?
        } else {
            self.expect("{")?;
            let no = self.bracket(|parser| parser.expression(0))?;
            self.expect("}")?;
            no
        };
        Ok(Node::Choice(Box::new(condition), Box::new(yes), Box::new(no)))
    }

    /// After `?`. `a ?: b` is `a ? a : b`.
    fn choice(&mut self, condition: Node) -> Parsed {
        let yes = if self.is(":") { condition.clone() } else { self.expression(0)? };
        self.expect(":")?;
        let no = self.expression(0)?;
        Ok(Node::Choice(Box::new(condition), Box::new(yes), Box::new(no)))
    }

    fn primary(&mut self) -> Parsed {
        for (sign, operator, binding) in
            [("not", "not", 50), ("!", "not", 50), ("-", "-", 90), ("+", "+", 90)]
        {
            if self.eat(sign) {
                self.operator()?;
                let of = self.expression(binding)?;
                return Ok(Node::Unary(operator, Box::new(of)));
            }
        }
        if self.eat("(") {
            let inner = self.bracket(|parser| parser.expression(0))?;
            self.expect(")")?;
            return self.postfix(inner);
        }
        if self.is(".") {
            // `.name` inside of a closure is `#.name`.
            return self.postfix(Node::Name("#".to_owned()));
        }
        let node = self.secondary()?;
        self.postfix(node)
    }

    fn secondary(&mut self) -> Parsed {
        let Some(token) = self.peek().cloned() else {
            return Err(ConditionError::Syntax("unexpected end of the condition".to_owned()));
        };
        self.at += 1;
        Ok(match token {
            Token::Int(value) => Node::Int(value),
            Token::Float(value) => Node::Float(value),
            Token::Text(text) => Node::Text(text),
            Token::Word(word) => match word.as_str() {
                "true" => Node::Bool(true),
                "false" => Node::Bool(false),
                "nil" => Node::Nil,
                "let" | "if" | "else" | "in" | "and" | "or" => {
                    return Err(self.unexpected(&Token::Word(word)));
                }
                _ if self.eat("(") => return self.call(word, None),
                _ => Node::Name(word),
            },
            Token::Sign("[") => {
                let items = self.bracket(|parser| parser.list("]", Self::argument))?;
                Node::Array(items)
            }
            Token::Sign("{") => Node::Map(self.bracket(|parser| parser.list("}", Self::entry))?),
            token @ Token::Sign(_) => return Err(self.unexpected(&token)),
        })
    }

    fn argument(&mut self) -> Parsed {
        self.expression(0)
    }

    fn entry(&mut self) -> Result<(String, Node), ConditionError> {
        let key = match self.peek().cloned() {
            Some(Token::Word(key) | Token::Text(key)) => key,
            Some(Token::Int(key)) => key.to_string(),
            _ => return self.expect("a key").map(|()| (String::new(), Node::Nil)),
        };
        self.at += 1;
        self.expect(":")?;
        Ok((key, self.expression(0)?))
    }

    /// Items up to `end`, a comma behind the last one allowed.
    fn list<T>(
        &mut self,
        end: &str,
        item: fn(&mut Self) -> Result<T, ConditionError>,
    ) -> Result<Vec<T>, ConditionError> {
        let mut items = Vec::new();
        while !self.eat(end) {
            items.push(item(self)?);
            if !self.eat(",") {
                self.expect(end)?;
                break;
            }
        }
        Ok(items)
    }

    /// After the `(` of a call. A pipe gives the first argument.
    fn call(&mut self, name: String, first: Option<Node>) -> Parsed {
        let over_all = OVER_ALL.contains(&name.as_str());
        let mut args: Vec<Node> = first.into_iter().collect();
        self.bracket(|parser| {
            while !parser.eat(")") {
                let closure = over_all && args.len() == 1;
                let arg = match closure && parser.eat("{") {
                    true => {
                        let body = parser.expression(0)?;
                        parser.expect("}")?;
                        body
                    }
                    false => parser.expression(0)?,
                };
                args.push(if closure { Node::Closure(Box::new(arg)) } else { arg });
                if !parser.eat(",") {
                    parser.expect(")")?;
                    break;
                }
            }
            Ok(())
        })?;
        Ok(Node::Call(name, args))
    }

    fn postfix(&mut self, mut node: Node) -> Parsed {
        loop {
            let optional = self.is("?.");
            if self.eat(".") || self.eat("?.") {
                if optional && self.eat("[") {
                    node = self.index(node, true)?;
                    continue;
                }
                let Some(Token::Word(name)) = self.peek().cloned() else {
                    return self.expect("a field's name").map(|()| node);
                };
                self.at += 1;
                node = if self.eat("(") {
                    let args = self.bracket(|parser| parser.list(")", Self::argument))?;
                    Node::Method(Box::new(node), name, args)
                } else {
                    Node::Member(Box::new(node), Box::new(Node::Text(name)), optional)
                };
            } else if self.eat("[") {
                node = self.index(node, false)?;
            } else {
                return Ok(node);
            }
        }
    }

    fn index(&mut self, of: Node, optional: bool) -> Parsed {
        self.bracket(|parser| {
            let from = if parser.is(":") { None } else { Some(Box::new(parser.expression(0)?)) };
            if let Some(at) = from.clone()
                && parser.eat("]")
            {
                return Ok(Node::Member(Box::new(of), at, optional));
            }
            parser.expect(":")?;
            let to = if parser.is("]") { None } else { Some(Box::new(parser.expression(0)?)) };
            parser.expect("]")?;
            Ok(Node::Slice(Box::new(of), from, to))
        })
    }
}
