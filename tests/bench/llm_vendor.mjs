// A vendor in a process of its own: OpenAI's chat completions after a fixed delay, or a stream whose chunks come slowly.
import { createServer } from 'node:http';

const { DELAY_MS, CHUNKS, CHUNK_MS } = process.env;
const USAGE = { prompt_tokens: 20, completion_tokens: 20, total_tokens: 40 };
const head = (object) => ({ id: 'chatcmpl-bench', object, created: 1, model: 'bench' });
const TEXT = 'a word or two '.repeat(8);

const WHOLE = JSON.stringify({
  ...head('chat.completion'),
  choices: [{ index: 0, message: { role: 'assistant', content: TEXT }, logprobs: null, finish_reason: 'stop' }],
  usage: USAGE,
});

const event = (choices, more = {}) => `data: ${JSON.stringify({ ...head('chat.completion.chunk'), choices, ...more })}\n\n`;
const choice = (delta, finish_reason = null) => [{ index: 0, delta, finish_reason }];

function stream(response) {
  response.writeHead(200, { 'Content-Type': 'text/event-stream' });
  response.write(event(choice({ role: 'assistant', content: '' })));
  let left = Number(CHUNKS);
  const timer = setInterval(() => {
    left -= 1;
    response.write(event(choice({ content: TEXT })));
    if (left > 0) return;
    clearInterval(timer);
    response.end(`${event(choice({}, 'stop'))}${event([], { usage: USAGE })}data: [DONE]\n\n`);
  }, Number(CHUNK_MS));
  response.on('close', () => clearInterval(timer));
}

const server = createServer((request, response) => {
  let body = '';
  request.setEncoding('utf8');
  request.on('data', (part) => {
    body += part;
  });
  request.on('end', () => {
    if (JSON.parse(body).stream) return stream(response);
    setTimeout(() => response.writeHead(200, { 'Content-Type': 'application/json' }).end(WHOLE), Number(DELAY_MS));
  });
});
server.keepAliveTimeout = 60_000;
server.listen(0, '127.0.0.1', 4_096, () => process.send({ port: server.address().port }));
process.on('disconnect', () => process.exit(0));
