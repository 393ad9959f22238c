//! What a person reads whose settings cannot be used.

use clap::{
    Command,
    error::{ContextKind, ContextValue, ErrorKind},
};

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value is not what the setting takes.
    #[error("{name} cannot be `{value}`: {message}")]
    Value {
        /// The variable.
        name: String,
        /// What was given.
        value: String,
        /// What to say instead.
        message: String,
    },
    /// A secret is not what the setting takes.
    #[error("{name} cannot be used: {message}")]
    Secret {
        /// The variable.
        name: String,
        /// What to say instead.
        message: String,
    },
    /// Settings that do not go together, or that are not honoured.
    #[error("{name} is refused: {reason}")]
    Refused {
        /// The variable.
        name: &'static str,
        /// Why, and what to do.
        reason: String,
    },
    /// The arguments cannot be read, or ask for help.
    #[error(transparent)]
    Arguments(clap::Error),
}

impl Error {
    pub(super) fn refused(name: &'static str, reason: impl Into<String>) -> Self {
        Self::Refused { name, reason: reason.into() }
    }

    /// Names the variable instead of the flag, and leaves secrets out.
    pub(super) fn of(error: clap::Error, command: &Command) -> Self {
        let is_value = matches!(error.kind(), ErrorKind::ValueValidation | ErrorKind::InvalidValue);
        let text = |kind| match error.get(kind) {
            Some(ContextValue::String(text)) => Some(text.clone()),
            _ => None,
        };
        let (Some(flag), Some(value)) = (text(ContextKind::InvalidArg), text(ContextKind::InvalidValue)) else {
            return Self::Arguments(error);
        };
        let name = flag.split_whitespace().next().unwrap_or_default().trim_start_matches('-');
        let argument = command.get_arguments().find(|argument| argument.get_long() == Some(name));
        let variable = argument.and_then(|argument| Some((argument, argument.get_env()?.to_str()?.to_owned())));
        let Some((argument, name)) = variable.filter(|_| is_value) else { return Self::Arguments(error) };
        let message = match (error.get(ContextKind::ValidValue), std::error::Error::source(&error)) {
            (Some(ContextValue::Strings(values)), _) => format!("say {}", values.join(" or ")),
            (_, Some(source)) => source.to_string(),
            _ => "it cannot be read".to_owned(),
        };
        if argument.is_hide_env_values_set() {
            return Self::Secret { name, message };
        }
        Self::Value { name, value, message }
    }
}
