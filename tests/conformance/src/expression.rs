//! The expressions of `kstreams-case/1`: what stands for the user's lambdas.

use serde_json::Value as Json;

use crate::build::BuildError;
use crate::value::{HALF, Value};

/// A parsed expression.
#[derive(Debug)]
pub enum Expression {
    /// `$k`, `$v` and so on.
    Variable(String),
    /// A literal.
    Literal(Value),
    /// A function and its arguments.
    Call(Function, Vec<Expression>),
}

/// The functions, as the format names them.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)] // the names are the documentation
pub enum Function {
    Concat,
    Upper,
    Len,
    Str,
    Long,
    Substr,
    Split,
    Add,
    Sub,
    Mul,
    Mod,
    Min,
    Max,
    If,
    And,
    Or,
    Not,
    IsNull,
    Eq,
    Ne,
    Gt,
    Ge,
    Lt,
    Le,
    Contains,
    Starts,
}

const FUNCTIONS: &[(&str, Function)] = &[
    ("concat", Function::Concat),
    ("upper", Function::Upper),
    ("len", Function::Len),
    ("str", Function::Str),
    ("long", Function::Long),
    ("substr", Function::Substr),
    ("split", Function::Split),
    ("add", Function::Add),
    ("sub", Function::Sub),
    ("mul", Function::Mul),
    ("mod", Function::Mod),
    ("min", Function::Min),
    ("max", Function::Max),
    ("if", Function::If),
    ("and", Function::And),
    ("or", Function::Or),
    ("not", Function::Not),
    ("is_null", Function::IsNull),
    ("eq", Function::Eq),
    ("ne", Function::Ne),
    ("gt", Function::Gt),
    ("ge", Function::Ge),
    ("lt", Function::Lt),
    ("le", Function::Le),
    ("contains", Function::Contains),
    ("starts", Function::Starts),
];

impl Expression {
    /// Parses an expression of a case file.
    pub fn parse(json: &Json) -> Result<Self, BuildError> {
        let literal = |json: &Json| {
            let wrong = || {
                BuildError::Invalid(format!(
                    "found literal {json}, wanted text, integer, boolean or null"
                ))
            };
            Value::from_json(json).map(Self::Literal).ok_or_else(wrong)
        };
        if let Some(name) = json.as_str().filter(|text| text.starts_with('$')) {
            return Ok(Self::Variable(name.to_owned()));
        }
        let Some(object) = json.as_object() else { return literal(json) };
        let (Some((name, arguments)), 1) = (object.iter().next(), object.len()) else {
            return Err(BuildError::Invalid(format!(
                "found expression {json}, wanted one function"
            )));
        };
        if name == "lit" {
            return literal(arguments);
        }
        let known = FUNCTIONS.iter().find(|(known, _)| known == name);
        let (_, function) =
            known.ok_or_else(|| BuildError::Unsupported(format!("function {name}")))?;
        let arguments = match arguments.as_array() {
            Some(list) => list.iter().map(Self::parse).collect::<Result<_, _>>()?,
            None => vec![Self::parse(arguments)?],
        };
        Ok(Self::Call(*function, arguments))
    }

    /// The expression's value with these variables.
    ///
    /// # Panics
    /// Where the expression does not fit its values (`add` of text), as Java's throws; the engine handles it as any failure of a lambda.
    pub fn evaluate(&self, variables: &[(&str, &Value)]) -> Value {
        match self {
            Self::Literal(value) => value.clone(),
            Self::Variable(name) => {
                let found = variables.iter().find(|(known, _)| known == name);
                found.map(|(_, value)| (*value).clone()).unwrap_or_else(|| {
                    panic!("there is no variable {name} here, only {variables:?}")
                })
            }
            Self::Call(function, arguments) => call(*function, arguments, variables),
        }
    }
}

fn call(function: Function, arguments: &[Expression], variables: &[(&str, &Value)]) -> Value {
    let argument = |index: usize| {
        arguments.get(index).map_or(Value::Null, |argument| argument.evaluate(variables))
    };
    let is_true = |argument: &Expression| argument.evaluate(variables).is_true();
    let truth = Value::Boolean;
    match function {
        Function::If => return argument(if argument(0).is_true() { 1 } else { 2 }),
        Function::And => return truth(arguments.iter().all(is_true)),
        Function::Or => return truth(arguments.iter().any(is_true)),
        Function::Concat => {
            let texts = arguments.iter().map(|argument| argument.evaluate(variables).to_string());
            return Value::Text(texts.collect());
        }
        Function::Not => return truth(!argument(0).is_true()),
        Function::IsNull => return truth(argument(0) == Value::Null),
        Function::Eq => return truth(argument(0) == argument(1)),
        Function::Ne => return truth(argument(0) != argument(1)),
        _ => {}
    }
    let (first, second) = (argument(0), argument(1));
    let is_null = first == Value::Null || (arguments.len() > 1 && second == Value::Null);
    match function {
        Function::Gt | Function::Ge | Function::Lt | Function::Le if is_null => truth(false),
        Function::Contains | Function::Starts if is_null => truth(false),
        Function::Gt => truth(compare(&first, &second).is_gt()),
        Function::Ge => truth(compare(&first, &second).is_ge()),
        Function::Lt => truth(compare(&first, &second).is_lt()),
        Function::Le => truth(compare(&first, &second).is_le()),
        Function::Contains => truth(first.to_string().contains(&second.to_string())),
        Function::Starts => truth(first.to_string().starts_with(&second.to_string())),
        _ if is_null => Value::Null,
        Function::Upper => Value::Text(first.to_string().to_uppercase()),
        Function::Len => {
            let units = first.to_string().encode_utf16().count();
            Value::Integer(i64::try_from(units).unwrap_or(i64::MAX))
        }
        Function::Str => Value::Text(first.to_string()),
        Function::Long => Value::Integer(
            first.to_string().trim().parse().unwrap_or_else(|_| panic!("{first} is no integer")),
        ),
        Function::Substr => substring(&first, &second, &argument(2)),
        Function::Split => {
            let index = usize::try_from(integer(&argument(2))).unwrap_or(usize::MAX);
            let (text, separator) = (first.to_string(), second.to_string());
            split(&text, &separator).into_iter().nth(index).unwrap_or(Value::Null)
        }
        Function::Add => Value::Integer(integer(&first).wrapping_add(integer(&second))),
        Function::Sub => Value::Integer(integer(&first).wrapping_sub(integer(&second))),
        Function::Mul => Value::Integer(integer(&first).wrapping_mul(integer(&second))),
        Function::Mod => {
            let (value, divisor) = (integer(&first), integer(&second));
            let rest = value.wrapping_rem(divisor);
            let below = rest != 0 && (rest < 0) != (divisor < 0);
            Value::Integer(if below { rest + divisor } else { rest })
        }
        Function::Min => Value::Integer(integer(&first).min(integer(&second))),
        Function::Max => Value::Integer(integer(&first).max(integer(&second))),
        Function::Concat
        | Function::If
        | Function::And
        | Function::Or
        | Function::Not
        | Function::IsNull
        | Function::Eq
        | Function::Ne => unreachable!("answered above"),
    }
}

fn integer(value: &Value) -> i64 {
    match value {
        Value::Integer(value) => *value,
        other => panic!("found {other:?}, wanted an integer"),
    }
}

/// By Java's units: UTF-16, each end cut to the text's length.
fn substring(text: &Value, from: &Value, to: &Value) -> Value {
    let units: Vec<u16> = text.to_string().encode_utf16().collect();
    let end = |value: &Value| usize::try_from(integer(value)).unwrap_or(0).min(units.len());
    let decoded = char::decode_utf16(units[end(from)..end(to)].iter().copied());
    Value::Text(decoded.map(|unit| unit.unwrap_or(HALF)).collect())
}

/// By Java's rules: an empty separator stands between every two UTF-16 units and after the last.
pub(crate) fn split(text: &str, separator: &str) -> Vec<Value> {
    if text.is_empty() {
        return vec![Value::from("")];
    }
    if !separator.is_empty() {
        return text.split(separator).map(Value::from).collect();
    }
    let units = text.encode_utf16().map(|unit| char::from_u32(unit.into()).unwrap_or(HALF));
    units.map(String::from).chain([String::new()]).map(Value::Text).collect()
}

/// Integers as numbers, everything else as text.
fn compare(first: &Value, second: &Value) -> std::cmp::Ordering {
    match (first, second) {
        (Value::Integer(first), Value::Integer(second)) => first.cmp(second),
        // By UTF-16 units, as Java does.
        _ => first.to_string().encode_utf16().cmp(second.to_string().encode_utf16()),
    }
}
