//! Sandbox children. They are kept for the next job: starting one takes milliseconds, asking a running one microseconds.

use std::{
    path::PathBuf,
    process::Stdio,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use super::{
    chat::{ChatRequest, Message},
    documents::{DocumentRequest, Feed, Item, Robots, RobotsRequest},
    mapping::{Mapped, MappingRequest},
    prompt::{ARGUMENT, Engine, PromptError, PromptRequest},
    request::RequestRef,
};

/// Wall time for one prompt. Ordinary ones take well under a millisecond; the rest is for a busy machine.
const TIME_LIMIT: Duration = Duration::from_secs(5);

/// A child is replaced after so many prompts, so that memory that a tenant's template leaves behind does not add up.
const USES: u32 = 1_000;

/// The pool. There are never more children than jobs that run at once.
#[derive(Debug)]
pub struct Sandbox {
    program: PathBuf,
    idle: Mutex<Vec<Warm>>,
}

#[derive(Debug)]
struct Warm {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    uses: u32,
}

impl Sandbox {
    /// Children of this very program, even when its file was replaced since it started.
    pub fn of_this_program() -> std::io::Result<Self> {
        let own = PathBuf::from("/proc/self/exe");
        let program = if own.exists() {
            own
        } else {
            std::env::current_exe()?
        };
        Ok(Self::new(program))
    }

    /// Children of the sidecar at this path.
    pub fn new(program: PathBuf) -> Self {
        Self {
            program,
            idle: Mutex::new(Vec::new()),
        }
    }

    /// Makes a prompt. If the caller drops the future, the child is killed.
    pub async fn make_prompt(&self, request: &PromptRequest) -> Result<String, PromptError> {
        self.ask(RequestRef::Prompt(request)).await
    }

    /// Makes the messages of a chat prompt. If the caller drops the future, the child is killed.
    pub async fn make_messages(&self, request: &ChatRequest) -> Result<Vec<Message>, PromptError> {
        self.ask(RequestRef::Chat(request)).await
    }

    /// Filters an event and maps it to an input. If the caller drops the future, the child is killed.
    pub async fn map(&self, request: &MappingRequest) -> Result<Mapped, PromptError> {
        self.ask(RequestRef::Map(request)).await
    }

    /// The variables that a template asks for, or why it is none.
    pub async fn check_template(
        &self,
        template: &str,
        engine: Engine,
    ) -> Result<Vec<String>, PromptError> {
        match engine {
            Engine::Minijinja => self.ask(RequestRef::Template(template)).await,
            Engine::Plain => self.ask(RequestRef::Plain(template)).await,
        }
    }

    /// Whether this is a JSON schema.
    pub async fn check_schema(&self, schema: &Value) -> Result<(), PromptError> {
        let checked = self.ask(RequestRef::Schema(schema)).await;
        checked.map_err(PromptError::of_schema)
    }

    /// Reads a feed. If the caller drops the future, the child is killed.
    pub async fn read_feed(&self, request: &DocumentRequest) -> Result<Feed, PromptError> {
        self.ask(RequestRef::Feed(request)).await
    }

    /// Reads a page. If the caller drops the future, the child is killed.
    pub async fn read_page(&self, request: &DocumentRequest) -> Result<Item, PromptError> {
        self.ask(RequestRef::Page(request)).await
    }

    /// Reads robots.txt.
    pub async fn read_robots(&self, request: &RobotsRequest) -> Result<Robots, PromptError> {
        self.ask(RequestRef::Robots(request)).await
    }

    /// Items whose markup is gone, with their languages and fingerprints.
    pub async fn read_items(&self, items: &[Item]) -> Result<Vec<Item>, PromptError> {
        self.ask(RequestRef::Items(items)).await
    }

    async fn ask<T: DeserializeOwned>(&self, request: RequestRef<'_>) -> Result<T, PromptError> {
        let mut line = serde_json::to_string(&request)
            .map_err(|error| PromptError::Sandbox(error.to_string()))?;
        line.push('\n');
        if let Some(mut warm) = self.take() {
            match tokio::time::timeout(TIME_LIMIT, warm.ask(&line)).await {
                Ok(Ok(answer)) => return self.accept(warm, &answer),
                // It may have died while it was idle, without any template's fault: a fresh child is asked.
                Ok(Err(())) => {}
                Err(_) => return Err(too_slow()),
            }
        }
        let mut fresh = self
            .start()
            .map_err(|error| PromptError::Sandbox(error.to_string()))?;
        match tokio::time::timeout(TIME_LIMIT, fresh.ask(&line)).await {
            Ok(Ok(answer)) => self.accept(fresh, &answer),
            Ok(Err(())) => Err(gave_up(&mut fresh).await),
            Err(_) => Err(too_slow()),
        }
    }

    fn accept<T: DeserializeOwned>(&self, warm: Warm, answer: &str) -> Result<T, PromptError> {
        self.put_back(warm);
        serde_json::from_str::<Result<T, PromptError>>(answer)
            .unwrap_or_else(|error| Err(PromptError::Sandbox(error.to_string())))
    }

    fn take(&self) -> Option<Warm> {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
    }

    fn put_back(&self, mut warm: Warm) {
        warm.uses += 1;
        if warm.uses < USES {
            self.idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(warm);
        }
    }

    /// No environment, since it holds our keys; a process group of its own, so that Ctrl-C reaches only the sidecar,
    /// which still has jobs to finish.
    fn start(&self) -> std::io::Result<Warm> {
        let mut child = Command::new(&self.program)
            .arg(ARGUMENT)
            .env_clear()
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(requests), Some(answers)) => Ok(Warm {
                child,
                requests,
                answers: BufReader::new(answers),
                uses: 0,
            }),
            _ => Err(std::io::ErrorKind::BrokenPipe.into()),
        }
    }
}

fn too_slow() -> PromptError {
    PromptError::Template("the template or schema takes too long".to_owned())
}

impl Warm {
    /// Sends one line and reads one. `gave_up` finds out why a child ended instead.
    async fn ask(&mut self, line: &str) -> Result<String, ()> {
        let mut answer = String::new();
        self.requests
            .write_all(line.as_bytes())
            .await
            .map_err(drop)?;
        match self.answers.read_line(&mut answer).await {
            Ok(read) if read > 0 => Ok(answer),
            _ => Err(()),
        }
    }
}

/// A child that a signal ended ran out of memory or stack because of its input. A child that ended by itself could not set its
/// limits, which is our fault.
async fn gave_up(warm: &mut Warm) -> PromptError {
    use std::os::unix::process::ExitStatusExt;
    match tokio::time::timeout(TIME_LIMIT, warm.child.wait()).await {
        Ok(Ok(status)) if status.signal().is_some() => {
            PromptError::Template("the template or schema takes too much memory".to_owned())
        }
        Ok(Ok(status)) => PromptError::Sandbox(format!("it ended with {status}")),
        Ok(Err(error)) => PromptError::Sandbox(error.to_string()),
        Err(_) => PromptError::Sandbox("it neither answered nor ended".to_owned()),
    }
}
