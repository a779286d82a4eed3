//! The functions that are asked without PostgREST, with their arguments as the migrations declare them
//! (`tests/journeys/requests_direct.test.mjs` compares names, types and defaults).

use serde_json::Value;

/// A function that is asked in this way, because its callers wait for it and for little else.
pub(super) struct Function {
    name: &'static str,
    /// Arguments without a default.
    required: &'static [&'static str],
    /// Arguments whose default is null.
    optional: &'static [&'static str],
    /// Arguments with another default.
    with_default: &'static [&'static str],
    pub call: Call,
}

/// The statement that calls a function with an object of arguments.
pub(super) enum Call {
    /// For a caller who has entered. What that has set, such as the statement timeout, counts for it.
    Entered(&'static str),
    /// The caller enters by it, too, with the request as the first argument: one statement is faster. Null: they did not enter.
    Entering(&'static str),
}

const FUNCTIONS: [Function; 2] = [
    Function {
        name: "authorize_llm_call",
        required: &["model"],
        optional: &[
            "max_output_tokens",
            "project_id",
            "skill_id",
            "trace_id",
            "prompt_version_id",
        ],
        with_default: &["kind", "input_tokens", "choices", "images", "fields"],
        // Its arguments are in the migrations.
        call: Call::Entering("select private.llm_enter_call($1, $2)"),
    },
    Function {
        name: "search_symbols",
        required: &["q"],
        optional: &[
            "kinds",
            "languages",
            "path",
            "repository_id",
            "branch",
            "matches",
        ],
        with_default: &["min_score", "n"],
        call: Call::Entered(
            "
            select jsonb_build_object(
                'answer', (
                    select coalesce(jsonb_agg(to_jsonb(f)), '[]')
                    from public.search_symbols(
                        q => a.q, kinds => a.kinds, languages => a.languages, path => a.path, repository_id => a.repository_id,
                        branch => a.branch, min_score => coalesce(a.min_score, 0), n => coalesce(a.n, 20), matches => a.matches
                    ) as f
                ),
                'headers', nullif(current_setting('response.headers', true), '')::jsonb
            )
            from jsonb_to_record($1) as a (
                q text, kinds text[], languages text[], path text, repository_id uuid, branch text, min_score real, n integer,
                matches text[]
            )",
        ),
    },
];

/// A function that can be asked in this way with these arguments. None: PostgREST is to be asked. It refuses an unknown argument, and a
/// required one that is missing; and null is no default.
pub(super) fn function(name: &str, arguments: &Value) -> Option<&'static Function> {
    let function = FUNCTIONS.iter().find(|known| known.name == name)?;
    let arguments = arguments.as_object()?;
    let is_known = |(name, value): (&String, &Value)| {
        let name = name.as_str();
        function.required.contains(&name)
            || function.optional.contains(&name)
            || function.with_default.contains(&name) && !value.is_null()
    };
    let is_given = |name: &&str| arguments.contains_key(*name);
    (arguments.iter().all(is_known) && function.required.iter().all(is_given)).then_some(function)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_function_is_asked_with_arguments_that_it_has() {
        let asked = |name: &str, arguments: Value| function(name, &arguments).is_some();
        assert!(asked(
            "search_symbols",
            json!({"q": "a", "kinds": ["function"]})
        ));
        assert!(!asked("search_symbols", json!({"q": "a", "m": 1})));
        assert!(asked("search_symbols", json!({"q": null})));
        assert!(asked("search_symbols", json!({"q": "a", "path": null})));
        // A null is no default.
        assert!(!asked("search_symbols", json!({"q": "a", "n": null})));
        assert!(!asked("search_symbols", json!(["a"])));
        assert!(!asked("org_id", json!({})));
    }

    #[test]
    fn a_function_is_asked_with_all_arguments_that_it_requires() {
        let asked = |name: &str, arguments: Value| function(name, &arguments).is_some();
        assert!(!asked("search_symbols", json!({})));
        assert!(!asked("search_symbols", json!({"n": 5})));
        assert!(!asked("authorize_llm_call", json!({"kind": "chat"})));
        assert!(asked("authorize_llm_call", json!({"model": "m"})));
        let null = json!({"model": "m", "kind": null});
        assert!(!asked("authorize_llm_call", null));
    }
}
