//! Why an object is refused.

use crate::text::TextError;

/// Everything that is wrong with one object. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    errors: Vec<FieldError>,
}

impl Refusal {
    /// The errors, those first that this agent is too old for. `None` when there are none.
    pub(super) fn of(mut errors: Vec<FieldError>) -> Option<Self> {
        errors.sort_by_key(|error| !error.problem.is_unsupported());
        (!errors.is_empty()).then_some(Self { errors })
    }

    /// One error alone.
    pub(super) fn one(error: FieldError) -> Self {
        Self { errors: vec![error] }
    }

    /// The object may be as it should; there are too many of them: more than so many in the cluster, or in its namespace
    /// more text than there is room for.
    pub fn too_many() -> Self {
        Self::one(FieldError { field: "spec".to_owned(), problem: Problem::TooManyTraces })
    }

    /// What is wrong, in the order to tell it.
    pub fn errors(&self) -> &[FieldError] {
        &self.errors
    }

    /// Reason for a condition: `TooMany`, `UnsupportedByAgent` or `InvalidSpec`.
    pub fn reason(&self) -> &'static str {
        if self.errors.iter().any(|error| error.problem == Problem::TooManyTraces) {
            return "TooMany";
        }
        if self.errors.iter().any(|error| error.problem.is_unsupported()) {
            "UnsupportedByAgent"
        } else {
            "InvalidSpec"
        }
    }
}

impl std::error::Error for Refusal {}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut separator = "";
        for error in &self.errors {
            write!(f, "{separator}{error}")?;
            separator = "; ";
        }
        Ok(())
    }
}

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct FieldError {
    /// The field as the object's author knows it, such as `spec.localPorts[1].endPort`.
    pub field: String,
    /// What is wrong with it.
    pub problem: Problem,
}

impl FieldError {
    /// A field below another that no schema has. Its name goes into a status and a log.
    pub(super) fn unknown(below: &str, name: &str) -> Self {
        let name: String = name.chars().take(64).collect();
        Self { field: format!("{below}.{name}"), problem: Problem::UnknownField }
    }
}

/// What can be wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// A field this agent has never heard of. It may narrow the trace, so the trace is not taken without it.
    #[error("is a field that this agent does not know")]
    UnknownField,
    /// A value out of a list this agent does not know all of.
    #[error("{value:?} is a value that this agent does not know (it knows {known})")]
    UnknownValue {
        /// What was found.
        value: String,
        /// What could have stood there.
        known: String,
    },
    /// A group, version or kind this agent does not know.
    #[error("{0:?} is not a trace of this agent's version")]
    UnknownKind(String),
    /// Means nothing in the mode of the trace.
    #[error("needs mode {0}")]
    NeedsMode(&'static str),
    /// Must be there.
    #[error("is required")]
    Missing,
    /// Of another JSON type.
    #[error("must be of type {0}")]
    WrongType(String),
    /// Below the least number.
    #[error("must be at least {0}")]
    TooSmall(i64),
    /// Above the greatest number.
    #[error("must be at most {0}")]
    TooBig(i64),
    /// Fewer characters than needed.
    #[error("must have at least {0} characters")]
    TooShort(u64),
    /// More characters than allowed.
    #[error("must have at most {0} characters")]
    TooLong(u64),
    /// More items or entries than allowed.
    #[error("must have at most {0} items")]
    TooMany(u64),
    /// Others come before it, as many as there is room for.
    #[error("is not looked at: there are too many traces, and others come before this one")]
    TooManyTraces,
    /// Stands in the list before.
    #[error("stands in the list twice")]
    Duplicate,
    /// A text that is not of its form.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The end of a range lies before its start.
    #[error("must not be less than port ({0})")]
    PortOrder(u16),
    /// Both sides of a transition accept everything.
    #[error("names no state in from or in to; a trace that wants every transition has no transitions field")]
    AnyToAny,
    /// A state that no transition shows.
    #[error("{0} never appears in a transition: {1}")]
    NeverSeen(&'static str, &'static str),
    /// An operator that compares, with nothing to compare with.
    #[error("operators In and NotIn need values")]
    ValuesMissing,
    /// Values for an operator that compares with nothing.
    #[error("operators Exists and DoesNotExist take no values")]
    ValuesUnused,
}

impl Problem {
    /// Whether a later agent might understand it.
    pub const fn is_unsupported(&self) -> bool {
        matches!(self, Self::UnknownField | Self::UnknownValue { .. } | Self::UnknownKind(_))
    }
}
