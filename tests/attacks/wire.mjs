// Requests as an attacker sends them: any path, headers and body, over connections that stay open.
import { Agent, request as open } from 'node:http';
import { env } from '../journeys/support.mjs';

const ORIGIN = new URL(env.API_URL);
const agent = new Agent({ keepAlive: true, maxSockets: 64 });
const TRIES = 20;
const RATES = ['rate_limited', 'over_request_rate_limit', 'SlowDown'];
const LATE = ['57014', 'PGRST003'];

/** How long answers took, in milliseconds: of requests that name the victim's rows, and of their twins that name nothing. */
export const timings = { sent: 0, limited: 0, real: [], none: [] };

/** The answer: status, headers as an object, text, and what it is as JSON. */
export async function send(method, path, { headers = {}, body, timed } = {}) {
  const bytes =
    body === undefined ? undefined : Buffer.from(typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body));
  for (let tries = 1; ; tries += 1) {
    const answer = await once(method, path, {
      headers: {
        ...(bytes && { 'Content-Type': 'application/json', 'Content-Length': bytes.length }),
        'X-Supabase-Api-Version': '2024-01-01',
        ...headers,
      },
      bytes,
    });
    timings.sent += 1;
    if (timed) timings[timed].push(answer.ms);
    // A rate is nobody's secret, and an attack that was not let in has attacked nothing. A machine that is busy with other things may
    // take longer than a statement may: what fails by its own doing fails each time.
    const limited = answer.status === 429 && (method === 'HEAD' || RATES.includes(answer.body?.code));
    const late = LATE.includes(answer.body?.code) && tries < 4;
    if (!(limited || late) || tries === TRIES) return answer;
    timings.limited += 1;
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
}

function once(method, path, { headers, bytes }) {
  return new Promise((resolve, reject) => {
    const started = performance.now();
    const request = open(
      { agent, method, host: ORIGIN.hostname, port: ORIGIN.port, path, headers, setHost: true, timeout: 60_000 },
      (response) => {
        const parts = [];
        // A stream of events ends when its reader goes.
        if (response.headers['content-type']?.startsWith('text/event-stream')) setTimeout(() => response.destroy(), 500);
        response.on('aborted', () => response.emit('end'));
        response.on('data', (part) => parts.push(part));
        response.on('error', (error) => (error.code === 'ECONNRESET' ? response.emit('end') : reject(error)));
        response.on('end', () => {
          const text = Buffer.concat(parts).toString();
          resolve({ status: response.statusCode, headers: response.headers, text, body: parse(text), ms: performance.now() - started });
        });
      },
    );
    request.on('timeout', () => request.destroy(new Error(`no answer within a minute: ${method} ${path}`)));
    request.on('error', reject);
    request.end(bytes);
  });
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

export const closeConnections = () => agent.destroy();

/** Runs all of these, so many at a time, and each to its end: an attack that fails is a fault of this test. */
export async function inParallel(tasks, width) {
  const waiting = [...tasks];
  await Promise.all(
    Array.from({ length: width }, async () => {
      while (waiting.length > 0) await waiting.shift()();
    }),
  );
}
