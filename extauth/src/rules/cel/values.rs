//! What an expression sees of a request and of who sent it.

use std::collections::HashMap;

use cel::{Context, Value};
use envoy_types::pb::google::protobuf::Value as ProtoValue;
use envoy_types::pb::google::protobuf::value::Kind;

use super::cost::Uses;
use crate::rules::{Subject, claim};

/// Elements of one list or map.
pub(super) const LONGEST_LIST: usize = 1024;
/// Bytes of one text.
const LONGEST_TEXT: usize = 16 * 1024;
/// Bytes of a request's body.
const LONGEST_BODY: usize = 64 * 1024;
/// All lists, maps and scalars together.
const MOST_VALUES: usize = 8192;

/// Fields of `request`.
pub(super) const REQUEST: [&str; 6] = ["method", "host", "path", "query", "headers", "time"];

/// Why a request cannot be shown to an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Longer lists or texts than are looked at.
    #[error("there is too much to look at")]
    Size,
    /// Envoy did not send all of the body.
    #[error("the body is not complete")]
    Body,
}

/// Shows the expression what it uses.
pub(super) fn fill(context: &mut Context<'_, '_>, subject: &Subject<'_>, uses: &Uses) -> Result<(), Unfit> {
    let mut room = Room(MOST_VALUES);
    if uses.request {
        context.add_variable_from_value("request", request(subject, uses, &mut room)?);
    }
    if uses.claims {
        let claims =
            claim::claims(subject.metadata, None).next().map(|claims| room.fields(&claims.fields)).transpose()?;
        context.add_variable_from_value("claims", claims.unwrap_or_default());
    }
    if uses.auth {
        let mut auth = room.fields(subject.metadata)?;
        auth.insert("method".to_owned(), subject.method.into());
        context.add_variable_from_value("auth", auth);
    }
    if uses.source {
        let address = subject.address.map(|address| ("address".to_owned(), Value::from(address.to_string())));
        context.add_variable_from_value("source", address.into_iter().collect::<HashMap<_, _>>());
    }
    if uses.body {
        let body = subject.check.whole_body().ok_or(Unfit::Body)?;
        if body.len() > LONGEST_BODY {
            return Err(Unfit::Size);
        }
        context.add_variable_from_value("body", body);
    }
    Ok(())
}

fn request(subject: &Subject<'_>, uses: &Uses, room: &mut Room) -> Result<HashMap<String, Value>, Unfit> {
    let query = subject.check.target().split_once('?').map_or("", |(_, query)| query);
    let mut fields = HashMap::from([
        ("method".to_owned(), room.text(subject.check.method())?),
        ("host".to_owned(), room.text(subject.host.as_deref().unwrap_or_default())?),
        ("query".to_owned(), room.text(query)?),
        ("time".to_owned(), Value::Int(i64::try_from(subject.check.now()).unwrap_or(i64::MAX))),
    ]);
    if let Some(path) = &subject.path {
        fields.insert("path".to_owned(), room.text(path)?);
    }
    if uses.headers {
        let mut headers: HashMap<String, Vec<Value>> = HashMap::new();
        for (name, value) in subject.check.headers() {
            let values = headers.entry(name.to_ascii_lowercase()).or_default();
            for value in value.split(',').map(str::trim) {
                values.push(room.text(value)?);
            }
            if values.len() > LONGEST_LIST {
                return Err(Unfit::Size);
            }
        }
        if headers.len() > LONGEST_LIST {
            return Err(Unfit::Size);
        }
        fields.insert("headers".to_owned(), headers.into());
    }
    Ok(fields)
}

/// How many more values there may be.
struct Room(usize);

impl Room {
    fn take(&mut self) -> Result<(), Unfit> {
        self.0 = self.0.checked_sub(1).ok_or(Unfit::Size)?;
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<Value, Unfit> {
        self.take()?;
        if text.len() > LONGEST_TEXT { Err(Unfit::Size) } else { Ok(text.into()) }
    }

    fn fields(&mut self, fields: &HashMap<String, ProtoValue>) -> Result<HashMap<String, Value>, Unfit> {
        if fields.len() > LONGEST_LIST {
            return Err(Unfit::Size);
        }
        fields.iter().map(|(name, value)| Ok((name.clone(), self.value(value)?))).collect()
    }

    fn value(&mut self, value: &ProtoValue) -> Result<Value, Unfit> {
        self.take()?;
        Ok(match &value.kind {
            None | Some(Kind::NullValue(_)) => Value::Null,
            Some(Kind::BoolValue(value)) => Value::Bool(*value),
            Some(Kind::NumberValue(number)) => Value::Float(*number),
            Some(Kind::StringValue(text)) => self.text(text)?,
            Some(Kind::ListValue(list)) if list.values.len() > LONGEST_LIST => return Err(Unfit::Size),
            Some(Kind::ListValue(list)) => {
                list.values.iter().map(|value| self.value(value)).collect::<Result<Vec<_>, _>>()?.into()
            }
            Some(Kind::StructValue(fields)) => self.fields(&fields.fields)?.into(),
        })
    }
}
