//! The tools that agents have: their names, arguments, and what each asks the API.

use std::sync::LazyLock;

use axum::http::HeaderMap;
use kijko_core::error::Error;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{
    documents, repositories,
    search::CodeQuery,
    service::{Answer, Code},
};

/// Of a file, if its reader does not say how many.
const DEFAULT_LINES: u64 = 500;

/// One tool, as `tools/list` has it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Tool {
    pub name: &'static str,
    title: &'static str,
    description: &'static str,
    input_schema: Value,
    annotations: Value,
    #[serde(skip)]
    call: Call,
}

/// What a tool does.
#[derive(Debug, Clone, Copy)]
enum Call {
    /// Calls a function of the API, whose parameters its arguments are.
    Function(&'static str),
    /// The same, of one that returns rows, which get this name.
    Rows(&'static str, &'static str),
    /// Searches in files.
    SearchCode,
    /// Reads a part of a file that fits a model.
    ReadFile,
    /// Lists repositories.
    Repositories,
    /// Reads an indexing job.
    IndexingJob,
    /// Reads a document.
    Document,
}

pub(super) static TOOLS: LazyLock<Vec<Tool>> = LazyLock::new(all);

impl Tool {
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        TOOLS.iter().find(|tool| tool.name == name)
    }

    /// Arguments have the types of the schema, and no other names. What they may be the database says.
    pub(super) fn check(&self, arguments: &Map<String, Value>) -> Result<(), String> {
        let properties = &self.input_schema["properties"];
        for (name, value) in arguments {
            let Some(wanted) = properties[name]["type"].as_str() else {
                let known: Vec<_> = properties
                    .as_object()
                    .into_iter()
                    .flat_map(Map::keys)
                    .collect();
                return Err(format!("{name}: no such argument; there are {known:?}"));
            };
            let fits = match wanted {
                "string" => value.is_string(),
                "integer" => value.is_i64() || value.is_u64(),
                "boolean" => value.is_boolean(),
                _ => value
                    .as_array()
                    .is_some_and(|all| all.iter().all(Value::is_string)),
            };
            if !fits {
                return Err(format!("{name}: must be of the type {wanted}"));
            }
        }
        let required = self.input_schema["required"].as_array();
        for name in required.into_iter().flatten().filter_map(Value::as_str) {
            if !arguments.contains_key(name) {
                return Err(format!("{name}: is missing"));
            }
        }
        Ok(())
    }

    /// The answer is an object.
    pub(super) async fn call(
        &self,
        code: &Code,
        headers: &HeaderMap,
        arguments: Map<String, Value>,
    ) -> Answer<Value> {
        let api = code.api()?;
        match self.call {
            Call::Function(function) => {
                api.call(function, headers, &Value::Object(arguments)).await
            }
            Call::Rows(function, name) => {
                let arguments = Value::Object(arguments);
                let (rows, limits): (Value, _) = api.call(function, headers, &arguments).await?;
                Ok((json!({ name: rows }), limits))
            }
            Call::ReadFile => {
                let mut arguments = arguments;
                let start = arguments.get("start_line").and_then(Value::as_u64);
                let end = start.unwrap_or(1).saturating_add(DEFAULT_LINES - 1);
                arguments.entry("end_line").or_insert(json!(end));
                let arguments = Value::Object(arguments);
                api.call("read_code_file", headers, &arguments).await
            }
            Call::SearchCode => {
                let query: CodeQuery = serde_json::from_value(Value::Object(arguments))
                    .map_err(|error| Error::BadRequest(error.to_string()))?;
                let (found, limits) = code.search.code(api, headers, query).await?;
                Ok((json!(found), limits))
            }
            Call::Repositories => {
                let (rows, limits) = repositories::list(api, headers).await?;
                Ok((json!({ "repositories": rows }), limits))
            }
            Call::IndexingJob => {
                let id = arguments["indexing_job_id"]
                    .as_str()
                    .and_then(|id| id.parse().ok());
                let id = id.ok_or_else(|| {
                    Error::BadRequest("indexing_job_id: must be a UUID".to_owned())
                })?;
                let (job, limits) = repositories::indexing_job(api, headers, id).await?;
                Ok((json!(job), limits))
            }
            Call::Document => {
                let id = arguments["document_id"].as_str();
                let id = id
                    .and_then(|id| id.parse().ok())
                    .ok_or_else(|| Error::BadRequest("document_id: must be a UUID".to_owned()))?;
                documents::document_of(code, headers, id).await
            }
        }
    }
}

fn tool(
    name: &'static str,
    title: &'static str,
    description: &'static str,
    call: Call,
    required: &[&str],
    properties: Value,
) -> Tool {
    let reads = name != "index_repository";
    Tool {
        name,
        title,
        description,
        input_schema: json!({
            "type": "object", "properties": properties, "required": required, "additionalProperties": false,
        }),
        annotations: json!({ "readOnlyHint": reads, "destructiveHint": false, "idempotentHint": true, "openWorldHint": false }),
        call,
    }
}

const LANGUAGES: &str = "Only these languages: rust, typescript, javascript, python, go, java, c.";

/// Arguments of tools that search.
fn with_filters(properties: Value) -> Value {
    let mut all = of_repository(json!({ "path": text("Only files whose path begins with this.") }));
    join(&mut all, properties);
    all
}

/// Arguments of tools that read.
fn of_repository(properties: Value) -> Value {
    let mut all = json!({
        "repository_id": text("An id of list_repositories."),
        "branch": text("Without it, the branch that the repository is searched in."),
    });
    join(&mut all, properties);
    all
}

fn join(properties: &mut Value, more: Value) {
    if let (Some(properties), Value::Object(more)) = (properties.as_object_mut(), more) {
        properties.extend(more);
    }
}

fn text(description: &str) -> Value {
    json!({ "type": "string", "description": description })
}

fn texts(description: &str) -> Value {
    json!({ "type": "array", "items": { "type": "string" }, "description": description })
}

fn number(description: &str, least: u32, most: u32) -> Value {
    json!({ "type": "integer", "minimum": least, "maximum": most, "description": description })
}

fn flag(description: &str) -> Value {
    json!({ "type": "boolean", "description": description })
}

fn all() -> Vec<Tool> {
    vec![
        tool(
            "search_symbols",
            "Search symbols",
            "Finds definitions of functions, types, constants and others by name: exact names first, then prefixes, words of a name, \
             and parts. Start here to find where something is defined.",
            Call::Rows("search_symbols", "symbols"),
            &["q"],
            with_filters(json!({
                "q": text("A name or a part of one."),
                "kinds": texts("Only these kinds: function, method, class, struct, enum, interface, trait, type, constant, variable, field, \
                                module, macro, constructor, variant, property."),
                "languages": texts(LANGUAGES),
                "matches": texts("Only names that match in these ways: exact, prefix, word, infix."),
                "n": number("At most so many.", 1, 200),
            })),
        ),
        tool(
            "search_code",
            "Search code",
            "Finds lines of files by a literal or a regular expression, with the lines around them. Punctuation counts. A page may be \
             short or empty while next is not null: go on with it.",
            Call::SearchCode,
            &["q"],
            with_filters(json!({
                "q": text("A literal, or with regex a regular expression, matched within lines (the syntax of Rust's regex: no look-around, \
                           no back-references)."),
                "regex": flag("Whether q is a regular expression."),
                "match_case": flag("Whether upper and lower case differ. By default they do not."),
                "whole_word": flag("Whether only whole words match."),
                "languages": texts(LANGUAGES),
                "context": number("Lines before and after each line.", 0, 10),
                "n": number("Lines of a page.", 1, 100),
                "after": text("next of the page before."),
            })),
        ),
        tool(
            "symbol_graph",
            "Callers, callees, impact",
            "Follows uses of a symbol: callers (who uses it), callees (what it uses), or impact (callers of callers). Each edge says how it \
             was resolved: exact, import, same_file, or only by name.",
            Call::Rows("symbol_graph", "edges"),
            &["symbol"],
            with_filters(json!({
                "symbol": text("A name, or Parent.name."),
                "direction": text("callers, callees or impact."),
                "depth": number("Levels.", 1, 6),
                "at_commit": text("What held at this commit, if it was indexed."),
                "n": number("At most so many edges.", 1, 1_000),
            })),
        ),
        tool(
            "list_file_symbols",
            "Symbols of a file",
            "Lists the definitions in a file, with their lines.",
            Call::Rows("list_file_symbols", "symbols"),
            &["repository_id", "path"],
            of_repository(json!({ "path": text("The path of the file.") })),
        ),
        tool(
            "read_code_file",
            "Read a file",
            "Reads lines of a file as it is in the index.",
            Call::ReadFile,
            &["repository_id", "path"],
            of_repository(json!({
                "path": text("The path of the file."),
                "start_line": number("First line, from 1.", 1, 10_000_000),
                "end_line": number("Last line. Without it 500 lines are read.", 1, 10_000_000),
            })),
        ),
        tool(
            "list_code_files",
            "List files",
            "Lists the files of a repository by path.",
            Call::Rows("list_code_files", "files"),
            &["repository_id"],
            of_repository(json!({
                "path": text("Only files whose path begins with this."),
                "after_path": text("The last path of the page before."),
                "n": number("Files of a page.", 1, 1_000),
            })),
        ),
        tool(
            "code_overview",
            "Overview",
            "Says what is indexed: repositories, files of each language, symbols of each kind.",
            Call::Function("code_overview"),
            &[],
            of_repository(json!({})),
        ),
        tool(
            "list_repositories",
            "List repositories",
            "Lists the repositories that you see, with the state of their index.",
            Call::Repositories,
            &[],
            json!({}),
        ),
        tool(
            "search_documents",
            "Search documents",
            "Finds texts that people and programs keep beside the code, such as notes and decisions: by words (in quotes together, - \
             excludes, or), tags and path. Without q, the last changed first.",
            Call::Rows("search_documents", "documents"),
            &[],
            json!({
                "q": text("Words."),
                "tags": texts("Only documents that have all of these tags."),
                "path": text("Only documents whose path begins with this."),
                "project_id": text("Only documents of this project."),
                "n": number("At most so many.", 1, 100),
                "skip": number("Leaves out so many: those of the pages before.", 0, 10_000),
            }),
        ),
        tool(
            "read_document",
            "Read a document",
            "Reads the whole text of a document, with its tags and metadata.",
            Call::Document,
            &["document_id"],
            json!({ "document_id": text("An id of search_documents.") }),
        ),
        tool(
            "index_repository",
            "Index a repository",
            "Queues the indexing of a branch at its newest commit. Pushes that a webhook delivers are indexed without this.",
            Call::Function("index_repository"),
            &["repository_id"],
            json!({
                "repository_id": text("The id of the repository."),
                "branch": text("The branch. Without it, the one that searches read."),
            }),
        ),
        tool(
            "get_indexing_job",
            "Progress of indexing",
            "Reads the status and the progress of an indexing job.",
            Call::IndexingJob,
            &["indexing_job_id"],
            json!({ "indexing_job_id": text("The id that index_repository returned.") }),
        ),
    ]
}
