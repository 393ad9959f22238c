//! What an expression may cost: checked once, when it is compiled, so that no request can make it dear.
//!
//! Steps are counted as if every list had the most elements that one may have, and nothing may grow within a loop. What is left
//! is linear in the request, which is bounded itself.

use std::collections::BTreeSet;

use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators};

use super::values;

/// Steps of an evaluation.
const MOST_STEPS: u64 = 100_000;
/// Texts that are put together.
const MOST_SUMS: u64 = 16;
/// Brackets within each other.
const DEEPEST: usize = 32;
/// Characters that may make the tree of an expression deeper. The parser recurses into it, with two MiB of stack for 1500.
const MOST_LINKS: usize = 512;
/// Depth of the tree, into which evaluation recurses.
const TALLEST: usize = 100;
/// Where macros gather their result. Nobody can write this name.
const GATHERED: &str = "@result";

/// All that an expression may call.
const FUNCTIONS: [&str; 27] = [
    operators::CONDITIONAL,
    operators::LOGICAL_AND,
    operators::LOGICAL_OR,
    operators::LOGICAL_NOT,
    operators::NOT_STRICTLY_FALSE,
    operators::ADD,
    operators::SUBSTRACT,
    operators::MULTIPLY,
    operators::DIVIDE,
    operators::MODULO,
    operators::NEGATE,
    operators::EQUALS,
    operators::NOT_EQUALS,
    operators::GREATER,
    operators::GREATER_EQUALS,
    operators::LESS,
    operators::LESS_EQUALS,
    operators::INDEX,
    operators::IN,
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "matches",
    "int",
    "double",
    "string",
];

/// What an expression looks at.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is one variable, used or not")]
pub(super) struct Uses {
    pub(super) request: bool,
    pub(super) path: bool,
    pub(super) headers: bool,
    pub(super) claims: bool,
    pub(super) auth: bool,
    pub(super) source: bool,
    pub(super) body: bool,
    /// Regular expressions.
    pub(super) patterns: BTreeSet<String>,
}

/// Bounds how deep the parser may recurse, without knowing texts from the rest: they count as well.
pub(super) fn nesting(source: &str) -> Result<(), String> {
    let (mut depth, mut links): (usize, usize) = (0, 0);
    for byte in source.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        links += usize::from(b".[+-*/%<>=!?".contains(&byte));
        if depth > DEEPEST || links > MOST_LINKS {
            return Err("is nested too deep".to_owned());
        }
    }
    Ok(())
}

/// Says what the expression looks at, if its cost is bounded.
pub(super) fn check(expression: &IdedExpr) -> Result<Uses, String> {
    let mut walk = Walk { uses: Uses::default(), bound: Vec::new(), sums: 0, depth: 0 };
    let steps = walk.steps(expression)?;
    if steps > MOST_STEPS {
        return Err(format!("may take {steps} steps, and at most {MOST_STEPS} are allowed; loop over less"));
    }
    if walk.sums > MOST_SUMS {
        return Err(format!("adds more than {MOST_SUMS} times"));
    }
    Ok(walk.uses)
}

struct Walk {
    uses: Uses,
    /// Variables of the loops around.
    bound: Vec<String>,
    sums: u64,
    depth: usize,
}

impl Walk {
    fn steps(&mut self, expression: &IdedExpr) -> Result<u64, String> {
        self.depth += 1;
        if self.depth > TALLEST {
            return Err("is nested too deep".to_owned());
        }
        let steps = self.within(expression)?.saturating_add(1);
        self.depth -= 1;
        Ok(steps)
    }

    fn within(&mut self, expression: &IdedExpr) -> Result<u64, String> {
        let within = match &expression.expr {
            Expr::Literal(_) => 0,
            Expr::Ident(name) => {
                // Without a field behind it, it is all of it.
                self.variable(name)?;
                self.uses.path |= name == "request";
                self.uses.headers |= name == "request";
                0
            }
            Expr::Select(select) => match &select.operand.expr {
                Expr::Ident(name) if name == "request" && !self.bound.contains(name) => {
                    self.uses.request = true;
                    self.uses.path |= select.field == "path";
                    self.uses.headers |= select.field == "headers";
                    if !values::REQUEST.contains(&select.field.as_str()) {
                        return Err(format!(
                            "`request` has no `{}`, only {}",
                            select.field,
                            values::REQUEST.join(", ")
                        ));
                    }
                    0
                }
                _ => self.steps(&select.operand)?,
            },
            Expr::Call(call) => self.call(call)?,
            Expr::Comprehension(comprehension) => self.comprehension(comprehension)?,
            Expr::List(list) => {
                self.constant(&list.elements)?;
                self.all(&list.elements)?
            }
            Expr::Map(map) => {
                let mut steps: u64 = 0;
                for entry in &map.entries {
                    let EntryExpr::MapEntry(entry) = &entry.expr else { return Err("builds a message".to_owned()) };
                    self.constant([&entry.key, &entry.value])?;
                    steps = steps.saturating_add(self.steps(&entry.key)?).saturating_add(self.steps(&entry.value)?);
                }
                steps
            }
            Expr::Struct(_) | Expr::Unspecified => return Err("builds a message".to_owned()),
        };
        Ok(within)
    }

    fn variable(&mut self, name: &str) -> Result<(), String> {
        if name == GATHERED || self.bound.iter().any(|bound| bound == name) {
            return Ok(());
        }
        let used = match name {
            "request" => &mut self.uses.request,
            "claims" => &mut self.uses.claims,
            "auth" => &mut self.uses.auth,
            "source" => &mut self.uses.source,
            "body" => &mut self.uses.body,
            _ => return Err(format!("knows no `{name}`, only auth, body, claims, request and source")),
        };
        *used = true;
        Ok(())
    }

    fn call(&mut self, call: &CallExpr) -> Result<u64, String> {
        let name = call.func_name.as_str();
        if !FUNCTIONS.contains(&name) {
            return Err(format!("calls `{name}`, which is not known"));
        }
        if name == operators::ADD {
            if let [Expr::Ident(gathered), Expr::List(list)] =
                call.args.iter().map(|arg| &arg.expr).collect::<Vec<_>>()[..]
                && gathered == GATHERED
            {
                // A macro's own list, of as many elements as it has looked at.
                return self.all(&list.elements);
            }
            let counts =
                matches!(call.args.first(), Some(IdedExpr { expr: Expr::Ident(name), .. }) if name == GATHERED);
            if !counts && !self.bound.is_empty() {
                return Err("adds within a loop".to_owned());
            }
            self.sums += 1;
        }
        if name == "matches" {
            self.pattern(call)?;
        }
        let target = call.target.as_ref().map_or(Ok(0), |target| self.steps(target))?;
        Ok(target.saturating_add(self.all(&call.args)?))
    }

    fn pattern(&mut self, call: &CallExpr) -> Result<(), String> {
        match call.args.last().map(|last| &last.expr) {
            Some(Expr::Literal(LiteralValue::String(pattern))) => {
                self.uses.patterns.insert(pattern.inner().to_owned());
                Ok(())
            }
            _ => Err("`matches` takes a regular expression that stands in the rule".to_owned()),
        }
    }

    fn comprehension(&mut self, comprehension: &ComprehensionExpr) -> Result<u64, String> {
        let range = self.steps(&comprehension.iter_range)?;
        let times = match &comprehension.iter_range.expr {
            Expr::List(list) => list.elements.len() as u64,
            _ => values::LONGEST_LIST as u64,
        };
        let before = self.bound.len();
        self.bound.push(comprehension.iter_var.clone());
        self.bound.extend(comprehension.iter_var2.clone());
        let each = self.steps(&comprehension.loop_cond)?.saturating_add(self.steps(&comprehension.loop_step)?);
        self.bound.truncate(before);
        Ok(range.saturating_add(times.saturating_mul(each)))
    }

    /// Lists within loops are made of what stands in the rule, so that they do not grow from loop to loop.
    fn constant<'a>(&self, elements: impl IntoIterator<Item = &'a IdedExpr>) -> Result<(), String> {
        let literal = |element: &IdedExpr| matches!(element.expr, Expr::Literal(_));
        let constant = self.bound.is_empty() || elements.into_iter().all(literal);
        if constant { Ok(()) } else { Err("builds a list or a map within a loop".to_owned()) }
    }

    fn all(&mut self, expressions: &[IdedExpr]) -> Result<u64, String> {
        expressions.iter().try_fold(0u64, |sum, expression| Ok(sum.saturating_add(self.steps(expression)?)))
    }
}
