//! The sandbox child: it answers each JSON line with one, until its input ends. When the sidecar dies, the input ends.

use std::{
    io::{self, BufRead, Write},
    process::ExitCode,
};

use rustix::process::{Resource, Rlimit, setrlimit};

use serde::Serialize;

use super::{
    chat, documents, mapping, plain,
    prompt::{Engine, PromptError, PromptRequest},
    request::Request,
    schema, template,
};

/// Address space. The largest prompt with all its copies takes a fraction of it.
const MEMORY_BYTES: u64 = 256 << 20;

/// Runs as the child; returns when its input ends.
pub fn child_main() -> ExitCode {
    let limited = limit(Resource::As, MEMORY_BYTES).and_then(|()| limit(Resource::Core, 0));
    if limited.is_err() {
        return ExitCode::FAILURE;
    }
    match serve(io::stdin().lock(), io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn limit(resource: Resource, value: u64) -> rustix::io::Result<()> {
    setrlimit(
        resource,
        Rlimit {
            current: Some(value),
            maximum: Some(value),
        },
    )
}

fn serve(requests: impl BufRead, mut answers: impl Write) -> io::Result<()> {
    for line in requests.lines() {
        match serde_json::from_str(&line?) {
            Ok(Request::Prompt(request)) => answer(&mut answers, &make_prompt(&request))?,
            Ok(Request::Chat(request)) => answer(&mut answers, &chat::render(&request))?,
            Ok(Request::Map(request)) => {
                answer(&mut answers, &Ok::<_, PromptError>(mapping::map(&request)))?;
            }
            Ok(Request::Template(template)) => answer(&mut answers, &template::check(&template))?,
            Ok(Request::Plain(template)) => {
                answer(&mut answers, &Ok::<_, PromptError>(plain::check(&template)))?;
            }
            Ok(Request::Schema(schema)) => answer(&mut answers, &schema::check_schema(&schema))?,
            Ok(Request::Feed(request)) => answer(&mut answers, &documents::feed(&request))?,
            Ok(Request::Page(request)) => answer(&mut answers, &documents::page(&request))?,
            Ok(Request::Robots(request)) => answer(&mut answers, &documents::robots(&request))?,
            Ok(Request::Items(items)) => {
                answer(&mut answers, &Ok::<_, PromptError>(documents::items(items)))?;
            }
            Err(error) => {
                let reason = format!("the request is malformed: {error}");
                answer(&mut answers, &Err::<(), _>(PromptError::Sandbox(reason)))?;
            }
        }
    }
    Ok(())
}

fn answer(answers: &mut impl Write, answer: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_string(answer)?;
    line.push('\n');
    answers.write_all(line.as_bytes())?;
    answers.flush()
}

/// Checks the input, then renders the template. Pure: the child is a loop around it.
fn make_prompt(request: &PromptRequest) -> Result<String, PromptError> {
    schema::check(&request.schema, &request.input)?;
    match request.engine {
        Engine::Minijinja => template::render(&request.template, &request.input),
        Engine::Plain => plain::render(&request.template, &request.input),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_in_one_line_out() {
        let requests = [
            r#"{"prompt":{"template":"a\n{{ x }}","input":{"x":1},"schema":{}}}"#,
            r#"{"template":"{{ x"}"#,
            r#"{"template":"{{ x }}"}"#,
            r#"{"schema":{"type":"strnig"}}"#,
            r#"{"schema":{"type":"string"}}"#,
            "not json",
        ];
        let mut answers = Vec::new();
        serve(requests.join("\n").as_bytes(), &mut answers).unwrap();
        let answers = String::from_utf8(answers).unwrap();
        let answers: Vec<&str> = answers.lines().collect();
        let prompt: Result<String, PromptError> = serde_json::from_str(answers[0]).unwrap();
        assert_eq!(prompt, Ok("a\n1".to_owned()));
        let codes: Vec<Option<&str>> = answers[1..]
            .iter()
            .map(|line| {
                serde_json::from_str::<Result<serde_json::Value, PromptError>>(line).unwrap()
            })
            .map(|answer| answer.err().map(|error| error.code()))
            .collect();
        let expected = [
            Some("template_error"),
            None,
            Some("invalid_schema"),
            None,
            Some("internal"),
        ];
        assert_eq!(codes, expected);
    }
}
