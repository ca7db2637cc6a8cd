//! A tree-walking evaluator of the Common Expression Language over the parser of the `cel` crate.
//!
//! That crate's own interpreter cannot construct messages (`Object.spec{...}`), which is what a
//! mutating policy returns. Macros arrive expanded to comprehensions. Expressions are not
//! type-checked: what the API server refuses when a policy is created fails here when it is
//! evaluated. There is no cost budget, no authorizer and no unsigned integer.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use cel::{
    common::ast::{
        CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedEntryExpr, IdedExpr, LiteralValue,
        SelectExpr, StructExpr, operators,
    },
    parser::Parser,
};
use serde_json::{Map, Value};

use super::{functions, value::Val};

/// Why an expression has no value, in the API server's words where it has any.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct EvalError {
    message: String,
}

impl EvalError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }

    pub(crate) fn overload() -> Self {
        Self::new("no such overload")
    }

    pub(crate) fn no_key(key: &str) -> Self {
        Self::new(format!("no such key: {key}"))
    }
}

/// A parsed expression.
pub(crate) type Program = Arc<IdedExpr>;

/// Parsed expressions by their text: a policy is evaluated for every write, and parsing costs more
/// than evaluating. Cleared when full, so that foreign policies cannot make it grow without end.
static PROGRAMS: LazyLock<Mutex<BTreeMap<String, Result<Program, EvalError>>>> =
    LazyLock::new(Mutex::default);
const PROGRAMS_MAX: usize = 1024;

/// Parses an expression, or finds it parsed.
pub(crate) fn parse(source: &str) -> Result<Program, EvalError> {
    let mut programs = PROGRAMS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(program) = programs.get(source) {
        return program.clone();
    }
    let program = Parser::new()
        .enable_optional_syntax(true)
        .parse(source)
        .map(Arc::new)
        .map_err(|error| EvalError::new(format!("compilation failed: {error}")));
    if programs.len() >= PROGRAMS_MAX {
        programs.clear();
    }
    programs.insert(source.to_owned(), program.clone());
    program
}

/// What an expression can name: the roots (`object`, `request`...) and the policy's variables, each
/// of which is evaluated when first named and then remembered.
pub(crate) struct Env<'a> {
    roots: BTreeMap<&'static str, Val<'a>>,
    variables: &'a BTreeMap<&'a str, &'a str>,
    known: RefCell<BTreeMap<&'a str, Result<Val<'a>, EvalError>>>,
    open: RefCell<BTreeSet<&'a str>>,
}

/// Of an expression that is no policy's.
pub(crate) static NO_VARIABLES: BTreeMap<&str, &str> = BTreeMap::new();

impl<'a> Env<'a> {
    /// The environment of one expression.
    pub(crate) fn new(
        roots: impl IntoIterator<Item = (&'static str, Val<'a>)>,
        variables: &'a BTreeMap<&'a str, &'a str>,
    ) -> Self {
        let roots = roots.into_iter().collect();
        Self { roots, variables, known: RefCell::default(), open: RefCell::default() }
    }

    /// Parses and evaluates.
    pub(crate) fn evaluate(&self, source: &str) -> Result<Val<'a>, EvalError> {
        self.eval(&*parse(source)?, &Locals::Empty)
    }

    fn variable(&self, name: &str) -> Result<Val<'a>, EvalError> {
        if let Some(known) = self.known.borrow().get(name) {
            return known.clone();
        }
        let found = self.variables.get_key_value(name);
        let (&name, source) = found.ok_or_else(|| EvalError::no_key(name))?;
        if !self.open.borrow_mut().insert(name) {
            return Err(EvalError::new(format!("variable {name:?} refers to itself")));
        }
        let value = self.evaluate(source).map_err(|error| {
            EvalError::new(format!("composited variable {name:?} fails to evaluate: {error}"))
        });
        self.open.borrow_mut().remove(name);
        self.known.borrow_mut().insert(name, value.clone());
        value
    }

    pub(crate) fn eval(
        &self,
        expr: &IdedExpr,
        locals: &Locals<'a, '_>,
    ) -> Result<Val<'a>, EvalError> {
        match &expr.expr {
            Expr::Literal(literal) => literal_value(literal),
            Expr::Ident(name) => self.ident(name, locals),
            Expr::Select(select) => self.select(select, locals),
            Expr::Call(call) => self.call(call, locals),
            Expr::List(list) => {
                let mut elements = Vec::with_capacity(list.elements.len());
                for (at, element) in list.elements.iter().enumerate() {
                    match self.eval(element, locals)? {
                        Val::Optional(inner) if list.optional_indices.contains(&at) => {
                            elements.extend(inner.map(|inner| *inner));
                        }
                        value => elements.push(value),
                    }
                }
                Ok(Val::list(elements))
            }
            Expr::Map(map) => self.map(&map.entries, locals),
            Expr::Struct(message) => self.message(message, locals),
            Expr::Comprehension(fold) => self.comprehension(fold, locals),
            Expr::Unspecified => Err(EvalError::new("empty expression")),
        }
    }

    fn ident(&self, name: &str, locals: &Locals<'a, '_>) -> Result<Val<'a>, EvalError> {
        if let Some(value) = locals.get(name) {
            return value;
        }
        self.roots
            .get(name)
            .cloned()
            .or_else(|| functions::type_named(name).map(Val::Type))
            .ok_or_else(|| EvalError::new(format!("undeclared reference to '{name}'")))
    }

    fn is_variables(&self, expr: &IdedExpr, locals: &Locals<'a, '_>) -> bool {
        matches!(&expr.expr, Expr::Ident(name) if name == "variables" && locals.get(name).is_none())
    }

    fn select(&self, select: &SelectExpr, locals: &Locals<'a, '_>) -> Result<Val<'a>, EvalError> {
        let field = select.field.as_str();
        if self.is_variables(&select.operand, locals) {
            if select.test {
                return Ok(Val::from(self.variables.contains_key(field)));
            }
            return self.variable(field);
        }
        let operand = self.eval(&select.operand, locals)?;
        let optional = matches!(operand, Val::Optional(_));
        let found = operand.field(field)?;
        match (select.test, optional) {
            (true, _) => Ok(Val::from(found.is_some())),
            (false, true) => Ok(Val::Optional(found.map(Box::new))),
            (false, false) => found.ok_or_else(|| EvalError::no_key(field)),
        }
    }

    fn map(
        &self,
        entries: &[IdedEntryExpr],
        locals: &Locals<'a, '_>,
    ) -> Result<Val<'a>, EvalError> {
        let mut map = Map::new();
        for entry in entries {
            let EntryExpr::MapEntry(entry_expr) = &entry.expr else {
                return Err(EvalError::new("a map holds entries, not fields"));
            };
            let key = self.eval(&entry_expr.key, locals)?;
            let key = key.as_str().ok_or_else(|| EvalError::new("map keys must be strings"))?;
            let value = match self.eval(&entry_expr.value, locals)? {
                Val::Optional(None) if entry_expr.optional => continue,
                value => value,
            };
            map.insert(key.to_owned(), value.into_json()?);
        }
        Ok(Val::from(Value::Object(map)))
    }

    fn message(&self, message: &StructExpr, locals: &Locals<'a, '_>) -> Result<Val<'a>, EvalError> {
        let type_name = message.type_name.trim_start_matches('.').to_owned();
        let is_object = type_name == "Object" || type_name.starts_with("Object.");
        if !is_object && type_name != "JSONPatch" {
            return Err(EvalError::new(format!("undeclared reference to '{type_name}'")));
        }
        let mut fields = BTreeMap::new();
        for entry in &message.entries {
            let EntryExpr::StructField(field) = &entry.expr else {
                return Err(EvalError::new("a message holds fields, not entries"));
            };
            let known = ["op", "path", "from", "value"].contains(&field.field.as_str());
            if !is_object && !known {
                return Err(EvalError::new(format!("undefined field '{}'", field.field)));
            }
            match self.eval(&field.value, locals)? {
                Val::Optional(None) if field.optional => {}
                Val::Optional(Some(value)) if field.optional => {
                    fields.insert(field.field.clone(), *value);
                }
                value => {
                    fields.insert(field.field.clone(), value);
                }
            }
        }
        Ok(Val::Message { type_name, fields })
    }

    /// Macros (`all`, `exists`, `map`, `filter`...) are folds over a list or over the keys of a
    /// map.
    fn comprehension(
        &self,
        fold: &ComprehensionExpr,
        locals: &Locals<'a, '_>,
    ) -> Result<Val<'a>, EvalError> {
        let range = self.eval(&fold.iter_range, locals)?.range()?;
        // An error in one element is absorbed when another decides `all` or `exists`, so that the
        // accumulator is a result and not a value.
        let mut accumulator = self.eval(&fold.accu_init, locals);
        for element in range {
            let outer = Locals::Bound { name: &fold.accu_var, value: accumulator, outer: locals };
            let inner = Locals::Bound { name: &fold.iter_var, value: Ok(element), outer: &outer };
            let go_on = self.eval(&fold.loop_cond, &inner).map(|value| value.as_bool());
            if go_on == Ok(Some(false)) {
                let Locals::Bound { value, .. } = outer else {
                    return Err(EvalError::overload());
                };
                accumulator = value;
                break;
            }
            accumulator = self.eval(&fold.loop_step, &inner);
        }
        let bound = Locals::Bound { name: &fold.accu_var, value: accumulator, outer: locals };
        self.eval(&fold.result, &bound)
    }

    fn call(&self, call: &CallExpr, locals: &Locals<'a, '_>) -> Result<Val<'a>, EvalError> {
        match (call.func_name.as_str(), call.args.as_slice()) {
            (operators::LOGICAL_AND, [left, right]) => self.logic(left, right, locals, false),
            (operators::LOGICAL_OR, [left, right]) => self.logic(left, right, locals, true),
            (operators::CONDITIONAL, [condition, yes, no]) => {
                let chosen = self.eval(condition, locals)?;
                let chosen = chosen.as_bool().ok_or_else(EvalError::overload)?;
                self.eval(if chosen { yes } else { no }, locals)
            }
            (operators::NOT_STRICTLY_FALSE, [operand]) => {
                let value = self.eval(operand, locals);
                Ok(Val::from(!matches!(value, Ok(value) if value.as_bool() == Some(false))))
            }
            (operators::IN, [_, container]) if self.is_variables(container, locals) => {
                Err(EvalError::overload())
            }
            (name, args) => {
                let mut values = Vec::with_capacity(args.len() + 1);
                let space = call.target.as_deref().and_then(|target| match &target.expr {
                    Expr::Ident(name) if functions::is_namespace(name) => Some(name.as_str()),
                    _ => None,
                });
                if let (Some(target), None) = (call.target.as_deref(), space) {
                    values.push(self.eval(target, locals)?);
                }
                for arg in args {
                    values.push(self.eval(arg, locals)?);
                }
                functions::call(space, name, call.target.is_some(), values)
            }
        }
    }

    /// `&&` and `||` are commutative: one deciding side absorbs the other's error.
    fn logic(
        &self,
        left: &IdedExpr,
        right: &IdedExpr,
        locals: &Locals<'a, '_>,
        decides: bool,
    ) -> Result<Val<'a>, EvalError> {
        let boolean = |value: Val<'a>| value.as_bool().ok_or_else(EvalError::overload);
        let left = self.eval(left, locals).and_then(boolean);
        if left == Ok(decides) {
            return Ok(Val::from(decides));
        }
        let right = self.eval(right, locals).and_then(boolean);
        if right == Ok(decides) {
            return Ok(Val::from(decides));
        }
        left.and(right).map(Val::from)
    }
}

/// The names that comprehensions bind, innermost first.
pub(crate) enum Locals<'a, 's> {
    Empty,
    Bound { name: &'s str, value: Result<Val<'a>, EvalError>, outer: &'s Locals<'a, 's> },
}

impl<'a> Locals<'a, '_> {
    fn get(&self, wanted: &str) -> Option<Result<Val<'a>, EvalError>> {
        match self {
            Locals::Empty => None,
            Locals::Bound { name, value, .. } if *name == wanted => Some(value.clone()),
            Locals::Bound { outer, .. } => outer.get(wanted),
        }
    }
}

fn literal_value<'a>(literal: &LiteralValue) -> Result<Val<'a>, EvalError> {
    match literal {
        LiteralValue::Boolean(flag) => Ok(Val::from(*flag.inner())),
        LiteralValue::Int(number) => Ok(Val::from(*number.inner())),
        LiteralValue::Double(number) => Ok(Val::from(*number.inner())),
        LiteralValue::String(text) => Ok(Val::from(text.inner())),
        LiteralValue::Null => Ok(Val::null()),
        LiteralValue::UInt(_) => Err(EvalError::new("unsigned integers are not supported here")),
        LiteralValue::Bytes(_) => Err(EvalError::new("bytes are not supported here")),
    }
}
