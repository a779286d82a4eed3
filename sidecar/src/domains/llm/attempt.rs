//! One attempt with one target.

use std::time::Duration;

use kijko_core::outbound::{Answer, OutboundError, RequestBuilder};
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::{
    answer::{self, Heading},
    chat::Chat,
    echo,
    failure::Failure,
    fields::list,
    output::Output,
    pseudonym,
    reader::{Read, Reader},
    room::Room,
    store::{Kind, Opened, Spent, Target},
    to_anthropic, to_gemini, to_openai,
    upstreams::Route,
};
use crate::llm::{
    Endpoint, Events, Faults, LlmError, LlmFault, Usage, Vendor, malformed, parse, read_usage,
};

/// How long the vendor's count is waited for when the client has gone after the last piece.
pub(super) const COUNT_WAIT: Duration = Duration::from_secs(5);

/// Until when what must have come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadlines {
    /// The first piece of an answer, or a whole one.
    pub first: Instant,
    pub end: Instant,
}

/// What is known of an attempt, whatever becomes of it.
#[derive(Debug)]
pub(super) struct Attempt {
    start: Instant,
    /// The vendor may have the request.
    sent: bool,
    /// It answered with an error instead, which costs nothing.
    refused: bool,
    /// The answer came to its end.
    ended: bool,
    /// The platform may pay for thoughts that only the vendor's count shows.
    hides: bool,
    pub reader: Reader,
    pub first_token: Option<Duration>,
    pub images: u64,
    /// What its whole answer takes.
    room: Option<Room>,
}

impl Attempt {
    pub(super) fn new(kind: Kind) -> Self {
        // The development model speaks OpenAI's language.
        let vendor = kind.vendor().unwrap_or(Vendor::OpenAi);
        Self {
            start: Instant::now(),
            sent: false,
            refused: false,
            ended: false,
            hides: false,
            reader: Reader::new(vendor),
            first_token: None,
            images: 0,
            room: None,
        }
    }

    /// What it used. An answer that broke off is counted by us: half its bytes, which no vendor's count exceeds but by thoughts
    /// that nobody sees.
    pub(super) fn spent(&self, input_tokens: u64) -> Spent {
        let (usage, bytes) = (self.reader.usage, self.reader.tally.bytes);
        if !self.sent || self.refused {
            return Spent::Nothing;
        }
        let whole = self.ended || self.reader.tally.is_complete();
        let is_counted = usage.output > 0 || bytes == 0;
        if whole && is_counted && !usage.is_empty() {
            return Spent::Counted {
                usage,
                estimated: false,
            };
        }
        let is_silent = !whole && bytes == 0 && usage.is_empty();
        if is_silent || (self.hides && usage.output == 0) {
            return Spent::Unknown;
        }
        let input = if usage.input == 0 {
            input_tokens
        } else {
            usage.input
        };
        let output = usage.output.max(bytes.div_ceil(2) as u64);
        let usage = Usage {
            input,
            output,
            ..usage
        };
        Spent::Counted {
            usage,
            estimated: true,
        }
    }

    /// Sends the request and waits for the head of a good answer.
    async fn send(
        &mut self,
        route: &Route,
        request: RequestBuilder,
        body: &Map<String, Value>,
        deadline: Instant,
    ) -> Result<Answer, Failure> {
        let faults = faults(route);
        self.sent = true;
        let sent = route.client().send(request.json(body));
        let answer = match tokio::time::timeout_at(deadline, sent).await {
            Err(_) => return Err(late().into()),
            Ok(Err(error)) => {
                self.sent = !matches!(error, OutboundError::Unreachable(_));
                return Err(faults.outbound(&error).into());
            }
            Ok(Ok(answer)) => answer,
        };
        if answer.status().is_success() {
            return Ok(answer);
        }
        self.refused = true;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let body = tokio::time::timeout_at(deadline, answer.bytes()).await;
        let body = body.unwrap_or(Ok(Vec::new())).unwrap_or_default();
        Err(faults.refusal(status, &body, &headers).into())
    }

    /// A chat completion.
    pub(super) async fn chat(
        &mut self,
        chat: &Chat,
        (opened, target): (&Opened, &Target),
        route: Result<Route, Failure>,
        output: &mut Output,
        deadlines: Deadlines,
        heading: &Heading,
    ) -> Result<(), Failure> {
        self.hides = hides_thoughts(target);
        if target.kind == Kind::Echo {
            self.sent = true;
            self.first_token = Some(self.start.elapsed());
            echo::chat(chat, target, &mut self.reader, output).await?;
            self.ended = true;
            return Ok(());
        }
        let route = route?;
        let (model, limit) = (target.model.as_str(), target.max_output_tokens);
        let body = match route.vendor {
            Vendor::OpenAi => Ok(to_openai::body(chat, model, limit, route.is_openai())),
            Vendor::Anthropic => to_anthropic::body(chat, model, limit),
            Vendor::Gemini => to_gemini::body(chat, model, limit),
        };
        let mut body = body.map_err(Failure::Unfit)?;
        pseudonym::replace(&mut body, target, opened.org_id);
        let request = route.post(Endpoint::Chat, model)?;
        let answer = self.send(&route, request, &body, deadlines.first).await?;
        if route.vendor == Vendor::OpenAi && !chat.stream {
            let whole = self.whole(&route, answer, deadlines.first).await?;
            let usage = answer::usage(&self.reader.usage, self.reader.reported.as_ref());
            output.whole = Some(heading.of_openai(whole, usage)?);
        } else {
            self.stream(&route, answer, output, deadlines).await?;
        }
        self.ended = true;
        Ok(())
    }

    /// A request whose answer is one JSON document.
    pub(super) async fn json(
        &mut self,
        route: &Route,
        endpoint: Endpoint,
        model: &str,
        body: &Map<String, Value>,
        deadline: Instant,
    ) -> Result<Value, Failure> {
        let request = route.post(endpoint, model)?;
        let answer = self.send(route, request, body, deadline).await?;
        let whole = self.whole(route, answer, deadline).await?;
        Ok(whole)
    }

    /// The answer came to its end and was understood.
    pub(super) fn done(&mut self) {
        self.ended = true;
    }

    async fn whole(
        &mut self,
        route: &Route,
        answer: Answer,
        deadline: Instant,
    ) -> Result<Value, Failure> {
        let body = tokio::time::timeout_at(deadline, route.collect(answer)).await;
        let (body, room) = body.map_err(|_| late())??;
        self.room = room;
        let whole = parse(&body).map_err(|_| malformed())?;
        if whole.get("error").is_some_and(|error| !error.is_null()) {
            return Err(faults(route).event(&whole).into());
        }
        read_usage(route.vendor, &whole, &mut self.reader.usage);
        for choice in list(whole.get("choices")) {
            self.reader.tally.take(choice);
            self.reader.tally.bytes += choice.to_string().len();
        }
        let usage = whole.get("usage").filter(|usage| usage.is_object());
        self.reader.reported = usage.cloned();
        let model = whole.get("model").and_then(Value::as_str);
        self.reader.model = model.map(str::to_owned);
        Ok(whole)
    }

    async fn stream(
        &mut self,
        route: &Route,
        mut answer: Answer,
        output: &mut Output,
        deadlines: Deadlines,
    ) -> Result<(), Failure> {
        let faults = faults(route);
        let mut events = Events::default();
        // Until when the count of a whole answer is waited for, once there is nobody to take it.
        let mut alone = None;
        'answer: loop {
            let deadline = match (alone, self.first_token) {
                (Some(alone), _) => deadlines.end.min(alone),
                (None, Some(_)) => deadlines.end,
                (None, None) => deadlines.first,
            };
            let part = match tokio::time::timeout_at(deadline, answer.next()).await {
                Ok(Ok(Some(part))) => part,
                Ok(Ok(None)) => break,
                // All was said; only the end of the connection is missing.
                _ if self.reader.tally.is_complete() => break,
                Ok(Err(error)) => return Err(faults.outbound(&error).into()),
                Err(_) => return Err(late().into()),
            };
            for event in events.push(&part) {
                let pieces = match self.reader.read(&event, &faults)? {
                    Read::Choices(pieces) => pieces,
                    Read::End => break 'answer,
                };
                for choices in pieces {
                    match self.take(choices, output).await {
                        Err(Failure::ClientGone) if self.reader.tally.is_complete() => {
                            alone.get_or_insert_with(|| Instant::now() + COUNT_WAIT);
                        }
                        taken => taken?,
                    }
                }
            }
        }
        for choices in self.reader.end()? {
            if alone.is_none() {
                self.take(choices, output).await?;
            }
        }
        Ok(())
    }

    async fn take(&mut self, choices: Vec<Value>, output: &mut Output) -> Result<(), Failure> {
        if output.take(&self.reader, choices).await? {
            let elapsed = self.start.elapsed();
            self.first_token.get_or_insert(elapsed);
        }
        Ok(())
    }
}

fn faults(route: &Route) -> Faults<'_> {
    Faults {
        vendor: route.vendor,
        api_key: route.key.as_ref(),
    }
}

/// Whether a model of the platform's key may think unseen. OpenAI's older ones do not, and Anthropic's only if they are asked to.
fn hides_thoughts(target: &Target) -> bool {
    let plain = ["gpt-3", "gpt-4", "chatgpt-4"];
    !target.own_key
        && match target.kind {
            Kind::OpenAi => !plain.iter().any(|name| target.model.starts_with(name)),
            Kind::Gemini => true,
            Kind::Anthropic | Kind::Echo => false,
        }
}

pub(super) fn late() -> LlmError {
    LlmError::new(LlmFault::TimedOut, "the vendor did not answer in time")
}
