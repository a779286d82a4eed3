// Calls of the API over HTTP with an API key, and what programs print of its answers.
const MAX_TRIES = 5;

export class Failure extends Error {}

/** Text of others must not command a terminal, nor show something else than it says. */
const printable = (text) =>
  text.replace(/[\p{Cc}\p{Bidi_Control}]/gu, (it) =>
    it === '\t' || it === '\n' ? it : `\\u${it.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
export const out = (line) => process.stdout.write(`${printable(line)}\n`);
export const err = (line) => process.stderr.write(`${printable(line)}\n`);

/** One call of the API. It waits when there were too many. */
export async function call(name, body) {
  const { KIJKO_URL: url, KIJKO_API_KEY: key } = process.env;
  for (let tries = 1; ; tries++) {
    let answer;
    try {
      answer = await fetch(`${url.replace(/\/+$/, '')}/rest/v1/rpc/${name}`, {
        method: 'POST',
        headers: { Authorization: `Bearer ${key}`, 'Content-Type': 'application/json' },
        body: JSON.stringify(body),
      });
    } catch (error) {
      throw new Failure(`${url} does not answer: ${error.cause?.message ?? error.message}`);
    }
    const text = await answer.text();
    if (answer.ok) return text === '' ? null : JSON.parse(text);
    if (answer.status === 429 && tries < MAX_TRIES) {
      const seconds = Math.min(Number(answer.headers.get('retry-after')) || 1, 60);
      await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
      continue;
    }
    let error;
    try {
      error = JSON.parse(text);
    } catch {
      error = { message: `HTTP ${answer.status}` };
    }
    throw Object.assign(new Failure([error.message, error.details, error.hint].filter(Boolean).join(' ')), { code: error.code });
  }
}
