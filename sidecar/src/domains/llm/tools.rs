//! The functions that a model may call, and which of them it must.

use serde_json::Value;

use super::{chat::Chat, error::ApiError, fields::list};

/// Which functions the model calls.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Choice {
    Auto,
    None,
    Required,
    Function(String),
}

/// The functions, for vendors that have a form of their own, and the choice if one was made.
pub(super) fn read(chat: &Chat) -> Result<(Vec<&Value>, Option<Choice>), ApiError> {
    for old in ["functions", "function_call"] {
        if chat.get(old).is_some() {
            return Err(ApiError::unsupported(
                old,
                "this model takes tools instead of functions",
            ));
        }
    }
    let mut functions = Vec::new();
    for tool in list(chat.get("tools")) {
        match tool.get("function") {
            Some(function) if tool["type"] == "function" && function["name"].is_string() => {
                functions.push(function);
            }
            _ => {
                let message = "this model takes tools of type function only";
                return Err(ApiError::unsupported("tools", message));
            }
        }
    }
    let Some(given) = chat.get("tool_choice") else {
        return Ok((functions, None));
    };
    let wrong = || ApiError::unsupported("tool_choice", "this model takes no such tool_choice");
    if given["type"] == "allowed_tools" {
        let allowed: Vec<&Value> = list(given.pointer("/allowed_tools/tools"))
            .iter()
            .filter_map(|tool| tool.pointer("/function/name").or_else(|| tool.get("name")))
            .collect();
        functions.retain(|function| allowed.contains(&&function["name"]));
        let choice = mode(given.pointer("/allowed_tools/mode")).ok_or_else(wrong)?;
        return Ok((functions, Some(choice)));
    }
    let named = given.pointer("/function/name").and_then(Value::as_str);
    let named = named.map(|name| Choice::Function(name.to_owned()));
    let choice = mode(Some(given)).or(named).ok_or_else(wrong)?;
    Ok((functions, Some(choice)))
}

fn mode(value: Option<&Value>) -> Option<Choice> {
    match value?.as_str()? {
        "auto" => Some(Choice::Auto),
        "none" => Some(Choice::None),
        "required" => Some(Choice::Required),
        _ => None,
    }
}
