//! Whether an object has the shape of its schema: fields known, types, bounds, no value twice in a set.
//!
//! It walks the object along the schema that the server has, so neither can know a field that the other does not.
//! Patterns and formats are not looked at: `meaning` parses those texts.

use serde_json::{Map, Value};

use super::error::{FieldError, Problem};
use super::never_seen;

/// Adds what is wrong below `field` to `errors`.
pub(super) fn check(schema: &Value, value: &Value, field: &str, errors: &mut Vec<FieldError>) {
    let mut wrong = |problem| errors.push(FieldError { field: field.to_owned(), problem });
    match (schema.get("type").and_then(Value::as_str), value) {
        (Some("object"), Value::Object(object)) => check_object(schema, object, field, errors),
        (Some("array"), Value::Array(items)) => check_array(schema, items, field, errors),
        (Some("string"), Value::String(text)) => {
            if let Some(problem) = check_string(schema, text) {
                wrong(problem);
            }
        }
        (Some("integer"), Value::Number(number)) => match number.as_i64() {
            Some(number) => {
                if let Some(least) = bound(schema, "minimum").filter(|least| number < *least) {
                    wrong(Problem::TooSmall(least));
                }
                if let Some(most) = bound(schema, "maximum").filter(|most| number > *most) {
                    wrong(Problem::TooBig(most));
                }
            }
            None => wrong(Problem::WrongType("integer".to_owned())),
        },
        (Some("boolean"), Value::Bool(_)) => {}
        (expected, _) => wrong(Problem::WrongType(expected.unwrap_or("none").to_owned())),
    }
}

fn bound(schema: &Value, keyword: &str) -> Option<i64> {
    schema.get(keyword).and_then(Value::as_i64)
}

fn limit(schema: &Value, keyword: &str) -> Option<u64> {
    schema.get(keyword).and_then(Value::as_u64)
}

/// A length as the schema counts it; none of them comes near the type's end.
fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

fn check_string(schema: &Value, text: &str) -> Option<Problem> {
    if let Some(known) = schema.get("enum").and_then(Value::as_array) {
        let known: Vec<&str> = known.iter().filter_map(Value::as_str).collect();
        if known.contains(&text) {
            return None;
        }
        return Some(never_seen(text).unwrap_or_else(|| Problem::UnknownValue {
            // Whatever stands there goes into a status and a log.
            value: text.chars().take(64).collect(),
            known: known.join(", "),
        }));
    }
    let length = count(text.chars().count());
    let too_long = limit(schema, "maxLength").filter(|most| length > *most).map(Problem::TooLong);
    too_long.or_else(|| limit(schema, "minLength").filter(|least| length < *least).map(Problem::TooShort))
}

fn check_array(schema: &Value, items: &[Value], field: &str, errors: &mut Vec<FieldError>) {
    if let Some(most) = limit(schema, "maxItems").filter(|most| count(items.len()) > *most) {
        // One error, not one for every item.
        errors.push(FieldError { field: field.to_owned(), problem: Problem::TooMany(most) });
        return;
    }
    let is_set = schema.get("x-kubernetes-list-type").is_some_and(|kind| kind == "set");
    for (index, item) in items.iter().enumerate() {
        let field = format!("{field}[{index}]");
        if is_set && items.iter().take(index).any(|earlier| earlier == item) {
            errors.push(FieldError { field: field.clone(), problem: Problem::Duplicate });
        }
        if let Some(schema) = schema.get("items") {
            check(schema, item, &field, errors);
        }
    }
}

fn check_object(schema: &Value, object: &Map<String, Value>, field: &str, errors: &mut Vec<FieldError>) {
    if let Some(most) = limit(schema, "maxProperties").filter(|most| count(object.len()) > *most) {
        errors.push(FieldError { field: field.to_owned(), problem: Problem::TooMany(most) });
        return;
    }
    for name in
        schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
    {
        if !object.contains_key(name) {
            errors.push(FieldError { field: format!("{field}.{name}"), problem: Problem::Missing });
        }
    }
    let properties = schema.get("properties");
    for (name, value) in object {
        if let Some(schema) = properties.and_then(|properties| properties.get(name)) {
            check(schema, value, &format!("{field}.{name}"), errors);
        } else if let Some(schema) = schema.get("additionalProperties") {
            check(schema, value, &format!("{field}[{name}]"), errors);
        } else {
            errors.push(FieldError::unknown(field, name));
        }
    }
}
