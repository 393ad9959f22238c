//! Conditions in CEL, the Common Expression Language.

mod cost;
mod values;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, LazyLock};

use cel::common::ast::IdedExpr;
use cel::extractors::This;
use cel::parser::Parser;
use cel::{Context, Env, Value};
use regex::Regex;

use self::cost::Uses;
pub use self::values::Unfit;
use super::Subject;
use super::condition::Needs;

/// The longest expression, in bytes.
const LONGEST: usize = 4096;
/// Expressions within each other.
const DEEPEST: u16 = 32;

static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// A checked expression.
pub(super) struct Cel {
    source: String,
    expression: IdedExpr,
    uses: Uses,
    /// By the text of the expression.
    regexes: Arc<HashMap<String, Regex>>,
}

/// Why an expression says neither yes nor no.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// What it looks at cannot be shown to it.
    #[error("CEL: {0}")]
    Unfit(#[from] Unfit),
    /// It asks for what is not there, compares what cannot be compared, or calculates what has no result.
    #[error("CEL: the expression has no result")]
    Evaluation,
    /// It has another result than true and false.
    #[error("CEL: the result is neither true nor false")]
    NoBool,
}

impl Cel {
    /// Reads an expression and bounds what it can cost; the error says what is wrong with it.
    pub(super) fn compile(source: &str) -> Result<Self, String> {
        if source.len() > LONGEST {
            return Err(format!("is longer than {LONGEST} bytes"));
        }
        cost::nesting(source)?;
        let parsed = Parser::new().max_recursion_depth(DEEPEST).parse(source);
        let expression = parsed.map_err(|errors| {
            let first = errors.errors.first().map_or("cannot be parsed", |error| error.msg.as_str());
            first.replace(char::is_control, " ")
        })?;
        let uses = cost::check(&expression)?;
        let mut regexes = HashMap::new();
        for pattern in &uses.patterns {
            regexes.insert(pattern.clone(), crate::pattern::anywhere(pattern).map_err(|e| format!("matches: {e}"))?);
        }
        Ok(Self { source: source.to_owned(), expression, uses, regexes: Arc::new(regexes) })
    }

    pub(super) fn needs(&self) -> Needs {
        Needs { path: self.uses.path, host: self.uses.request, address: self.uses.source }
    }

    pub(super) fn holds(&self, subject: &Subject<'_>) -> Result<bool, Error> {
        let mut context = Context::with_env(Arc::clone(&ENV));
        values::fill(&mut context, subject, &self.uses)?;
        let regexes = Arc::clone(&self.regexes);
        let matches = move |This(text): This<Arc<String>>, pattern: Arc<String>| {
            regexes.get(pattern.as_str()).is_some_and(|regex| regex.is_match(&text))
        };
        context.add_function("matches", matches).map_err(|_| Error::Evaluation)?;
        match Value::resolve(&self.expression, &context) {
            Ok(Value::Bool(holds)) => Ok(holds),
            Ok(_) => Err(Error::NoBool),
            // What the library says repeats values of the request.
            Err(_) => Err(Error::Evaluation),
        }
    }
}

impl fmt::Debug for Cel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Cel").field(&self.source).finish()
    }
}
