//! Text to tokens: numbers, strings, words and signs of the condition language.

use super::ConditionError;

/// One token.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Int(i64),
    Float(f64),
    Text(String),
    /// A name, `#`, `#acc`, `#index` or a word such as `and`.
    Word(String),
    Sign(&'static str),
}

/// Longer ones first.
const SIGNS: [&str; 32] = [
    "...", "**", "==", "!=", "<=", ">=", "&&", "||", "??", "?.", "..", "::", "(", ")", "[", "]",
    "{", "}", "+", "-", "*", "/", "%", "^", "<", ">", "!", "?", ":", ",", ".", "|",
];

/// Splits a text.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, ConditionError> {
    let mut found = Vec::new();
    let mut rest = text;
    loop {
        rest = past_blanks(rest);
        let Some(first) = rest.chars().next() else { return Ok(found) };
        let second = rest.chars().nth(1);
        let number = first.is_ascii_digit()
            || (first == '.' && second.is_some_and(|c| c.is_ascii_digit()) && !joins(&found));
        let (token, tail) = match first {
            '"' | '\'' | '`' => quoted(rest, first)?,
            _ if number => self::number(rest)?,
            ';' => (Token::Sign(";"), rest.get(1..).unwrap_or_default()),
            '=' if second != Some('=') => (Token::Sign("="), rest.get(1..).unwrap_or_default()),
            '#' | '_' | '$' | 'a'..='z' | 'A'..='Z' => word(rest),
            _ => {
                let sign = SIGNS.into_iter().find(|sign| rest.starts_with(sign));
                let sign = sign.ok_or_else(|| wrong(format!("unexpected {first:?}")))?;
                (Token::Sign(sign), rest.get(sign.len()..).unwrap_or_default())
            }
        };
        found.push(token);
        rest = tail;
    }
}

/// Whether a dot after these tokens takes a member, so that `x.5` is no number.
fn joins(before: &[Token]) -> bool {
    match before.last() {
        Some(Token::Word(_) | Token::Text(_)) => true,
        Some(Token::Sign(sign)) => matches!(*sign, ")" | "]"),
        Some(Token::Int(_) | Token::Float(_)) | None => false,
    }
}

fn past_blanks(text: &str) -> &str {
    let mut rest = text.trim_start();
    loop {
        let next = match rest.get(..2) {
            Some("//") => rest.split_once('\n').map_or("", |(_, tail)| tail),
            Some("/*") => rest.split_once("*/").map_or("", |(_, tail)| tail),
            _ => return rest,
        };
        rest = next.trim_start();
    }
}

fn wrong(message: String) -> ConditionError {
    ConditionError::Syntax(message)
}

fn word(text: &str) -> (Token, &str) {
    let own = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$';
    let end = text.char_indices().skip(1).find(|(_, c)| !own(*c)).map_or(text.len(), |(i, _)| i);
    let (word, tail) = text.split_at(end);
    (Token::Word(word.to_owned()), tail)
}

fn number(text: &str) -> Result<(Token, &str), ConditionError> {
    let mut end = 0;
    let mut before = ' ';
    for (i, c) in text.char_indices() {
        let exponent = matches!(c, '+' | '-') && matches!(before, 'e' | 'E');
        let dot = c == '.' && !text.get(i + 1..).is_some_and(|tail| tail.starts_with('.'));
        let hex = text.starts_with("0x") || text.starts_with("0X");
        if !(c.is_ascii_alphanumeric() || c == '_' || dot || (exponent && !hex)) {
            break;
        }
        end = i + c.len_utf8();
        before = c;
    }
    let (own, tail) = text.split_at(end);
    let digits = own.replace('_', "");
    let radix = |prefix: &str, radix| {
        let digits = digits.to_ascii_lowercase();
        i64::from_str_radix(digits.strip_prefix(prefix)?, radix).ok()
    };
    let whole = digits.parse::<i64>().ok();
    let whole = whole.or_else(|| radix("0x", 16)).or_else(|| radix("0o", 8));
    if let Some(whole) = whole.or_else(|| radix("0b", 2)) {
        return Ok((Token::Int(whole), tail));
    }
    match digits.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok((Token::Float(value), tail)),
        _ => Err(wrong(format!("{own:?} is no number"))),
    }
}

fn quoted(text: &str, quote: char) -> Result<(Token, &str), ConditionError> {
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((i, c)) = chars.next() {
        if c == quote {
            let tail = text.get(i + c.len_utf8()..).unwrap_or_default();
            return Ok((Token::Text(value), tail));
        }
        if c != '\\' || quote == '`' {
            value.push(c);
            continue;
        }
        let escape = chars.next().map(|(_, c)| c);
        value.push(match escape {
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some(c @ ('\\' | '"' | '\'' | '/' | '`')) => c,
            Some('u') => {
                let code: String = chars.by_ref().take(4).map(|(_, c)| c).collect();
                let code = u32::from_str_radix(&code, 16).ok().and_then(char::from_u32);
                code.ok_or_else(|| wrong("\\u needs four hexadecimal digits".to_owned()))?
            }
            _ => return Err(wrong("unknown escape in a text".to_owned())),
        });
    }
    Err(wrong(format!("a text does not end: {quote}")))
}
