//! The development model: it answers with the last message, word by word, at no cost.

use super::{
    chat::Chat,
    content::{self, Part},
    delta,
    failure::Failure,
    output::Output,
    reader::Reader,
    store::Target,
};
use crate::llm::Usage;

pub(super) async fn chat(
    chat: &Chat,
    target: &Target,
    reader: &mut Reader,
    output: &mut Output,
) -> Result<(), Failure> {
    let last = chat.messages().last();
    let parts = last.map(content::parts).transpose();
    let parts = parts.map_err(Failure::Unfit)?.unwrap_or_default();
    let texts = parts.into_iter().filter_map(|part| match part {
        Part::Text(text) => Some(text),
        _ => None,
    });
    let text = texts.collect::<Vec<_>>().join("\n");
    let words: Vec<_> = text.split_inclusive(char::is_whitespace).collect();
    let said = words.len().min(target.max_output_tokens as usize);
    let reason = if said < words.len() { "length" } else { "stop" };
    reader.model = Some(target.model.clone());
    reader.usage = Usage::new(words.len() as u64, said as u64 * chat.choices);
    for choice in 0..chat.choices {
        let mut pieces = vec![delta::role(choice)];
        pieces.extend(
            words[..said]
                .iter()
                .map(|word| delta::content(choice, word)),
        );
        pieces.push(delta::finish(choice, reason));
        for piece in pieces {
            reader.tally.take(&piece);
            output.take(reader, vec![piece]).await?;
        }
    }
    Ok(())
}
