//! Expressions in CEL, the Common Expression Language, in the form in which Envoy takes them: parsed.

use cel::{
    common::ast::{EntryExpr, Expr as Node, IdedExpr, LiteralValue, operators},
    parser::Parser,
};
use envoy_types::pb::cel::expr::{
    Constant, Expr, ParsedExpr,
    constant::ConstantKind,
    expr::{
        Call, CreateList, CreateStruct, ExprKind, Ident, Select,
        create_struct::{Entry, entry::KeyKind},
    },
};

/// The longest expression, in bytes.
const LONGEST: usize = 4096;
/// Brackets within each other.
const DEEPEST: u16 = 32;
/// Characters that may make the tree of an expression deeper, into which parser and Envoy recurse.
const MOST_LINKS: usize = 256;
/// What an expression can look at while a request is judged.
const VARIABLES: [&str; 7] = ["connection", "destination", "filter_state", "metadata", "request", "source", "xds"];
/// What Envoy can call. Another function would make it refuse the whole listener.
const FUNCTIONS: [&str; 38] = [
    operators::CONDITIONAL,
    operators::LOGICAL_AND,
    operators::LOGICAL_OR,
    operators::LOGICAL_NOT,
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
    "uint",
    "double",
    "duration",
    "timestamp",
    "type",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getFullYear",
    "getHours",
    "getMinutes",
    "getMonth",
    "getSeconds",
];

/// Reads an expression. The error is a part of a sentence.
pub(crate) fn parse(source: &str) -> Result<ParsedExpr, String> {
    if source.len() > LONGEST {
        return Err(format!("is longer than {LONGEST} bytes"));
    }
    if is_deep(source) {
        return Err("is nested too deep".into());
    }
    let parsed = Parser::new().max_recursion_depth(DEEPEST).parse(source);
    let tree = parsed.map_err(|errors| {
        let first = errors.errors.first().map_or("cannot be parsed", |error| error.msg.as_str());
        format!("is no CEL: {}", first.replace(char::is_control, " "))
    })?;
    Ok(ParsedExpr { expr: Some(expression(&tree)?), source_info: None })
}

/// Texts count as well, for nothing here tells them from the rest.
fn is_deep(source: &str) -> bool {
    let (mut depth, mut deepest, mut links) = (0_u16, 0, 0);
    for byte in source.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth = depth.saturating_add(1),
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        links += usize::from(b".[+-*/%<>=!?&|".contains(&byte));
        deepest = depth.max(deepest);
    }
    deepest > DEEPEST || links > MOST_LINKS
}

fn expression(node: &IdedExpr) -> Result<Expr, String> {
    let kind = match &node.expr {
        Node::Literal(value) => ExprKind::ConstExpr(Constant { constant_kind: Some(constant(value)) }),
        Node::Ident(name) => {
            if !VARIABLES.contains(&name.as_str()) {
                return Err(format!("knows no {name}, only {}", VARIABLES.join(", ")));
            }
            ExprKind::IdentExpr(Ident { name: name.clone() })
        }
        Node::Select(select) => ExprKind::SelectExpr(Box::new(Select {
            operand: Some(Box::new(expression(&select.operand)?)),
            field: select.field.clone(),
            test_only: select.test,
        })),
        Node::Call(call) => {
            if !FUNCTIONS.contains(&call.func_name.as_str()) {
                return Err(format!("calls {}, which Envoy does not know", call.func_name));
            }
            let target = call.target.as_ref().map(|target| expression(target).map(Box::new));
            ExprKind::CallExpr(Box::new(Call {
                target: target.transpose()?,
                function: call.func_name.clone(),
                args: all(&call.args)?,
            }))
        }
        Node::List(list) => ExprKind::ListExpr(CreateList { elements: all(&list.elements)?, ..Default::default() }),
        Node::Map(map) => {
            let entries = map.entries.iter().map(|entry| {
                let EntryExpr::MapEntry(pair) = &entry.expr else { return Err("builds a message".to_owned()) };
                Ok(Entry {
                    id: id(entry.id),
                    value: Some(expression(&pair.value)?),
                    optional_entry: pair.optional,
                    key_kind: Some(KeyKind::MapKey(expression(&pair.key)?)),
                })
            });
            ExprKind::StructExpr(CreateStruct { entries: entries.collect::<Result<_, _>>()?, ..Default::default() })
        }
        Node::Comprehension(_) => return Err("loops over a list, which Envoy does not do".into()),
        Node::Struct(_) | Node::Unspecified => return Err("builds a message".into()),
    };
    Ok(Expr { id: id(node.id), expr_kind: Some(kind) })
}

fn all(nodes: &[IdedExpr]) -> Result<Vec<Expr>, String> {
    nodes.iter().map(expression).collect()
}

fn constant(value: &LiteralValue) -> ConstantKind {
    match value {
        LiteralValue::Boolean(value) => ConstantKind::BoolValue(*value.inner()),
        LiteralValue::Bytes(value) => ConstantKind::BytesValue(value.inner().to_vec()),
        LiteralValue::Double(value) => ConstantKind::DoubleValue(*value.inner()),
        LiteralValue::Int(value) => ConstantKind::Int64Value(*value.inner()),
        LiteralValue::Null => ConstantKind::NullValue(0),
        LiteralValue::String(value) => ConstantKind::StringValue(value.inner().to_owned()),
        LiteralValue::UInt(value) => ConstantKind::Uint64Value(*value.inner()),
    }
}

/// The parser counts them from one.
fn id(id: u64) -> i64 {
    i64::try_from(id).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_envoy_cannot_do_is_refused() {
        let deep = format!("{}true{}", "(".repeat(40), ")".repeat(40));
        let long = format!("true{}", " || true".repeat(200));
        for (source, why) in [
            ("request.path ==", "is no CEL"),
            ("", "is no CEL"),
            ("nosuch == 1", "knows no nosuch"),
            ("response.code == 200", "knows no response"),
            ("request.path.lowerAscii() == '/a'", "calls lowerAscii"),
            ("string(request.size) == '1'", "calls string"),
            ("[1].all(x, x == request.size)", "loops over a list"),
            ("google.rpc.Status{code: 1}.code == 1", "message"),
            (deep.as_str(), "nested"),
            (long.as_str(), "nested"),
            (" ".repeat(5000).as_str(), "longer"),
        ] {
            let error = parse(source).unwrap_err();
            assert!(error.contains(why), "{source}: {error}");
        }
    }

    #[test]
    fn a_test_for_a_field_asks_for_no_value() {
        let parsed = parse("has(request.headers.host) && request.path in ['/a']").unwrap();
        let ExprKind::CallExpr(and) = parsed.expr.unwrap().expr_kind.unwrap() else { panic!("no call") };
        assert_eq!(and.function, "_&&_");
        let Some(ExprKind::SelectExpr(has)) = &and.args[0].expr_kind else { panic!("no field") };
        assert!(has.test_only && has.field == "host");
    }
}
