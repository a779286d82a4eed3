// Clients of one gateway in a process of its own: so many calls a second, whether or not former ones are answered, or streams.
import http from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';

const agent = new http.Agent({ keepAlive: true, maxSockets: Infinity });
const MESSAGES = [{ role: 'user', content: 'Say a few words about the sea, and say them slowly.' }];

/** One call, from its sending until its last byte: ms, or null if it was refused or broke off. */
function call({ url, headers, model }, stream, onFirst = () => {}) {
  return new Promise((resolve) => {
    const started = performance.now();
    const body = JSON.stringify({ model, messages: MESSAGES, max_tokens: 50, ...(stream && { stream }) });
    const request = http.request(
      `${url}/chat/completions`,
      { method: 'POST', agent, headers: { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body), ...headers } },
      (response) => {
        let tail = '';
        response.setEncoding('utf8');
        response.on('data', (part) => {
          if (tail === '') onFirst();
          tail = (tail + part).slice(-300);
        });
        response.on('close', () => {
          const good = response.statusCode === 200 && response.complete && (stream ? tail.includes('[DONE]') : tail.includes('usage'));
          if (!good) failures[`${response.statusCode}: ${tail.slice(0, 120)}`] = true;
          resolve(good ? performance.now() - started : null);
        });
      },
    );
    request.on('error', (error) => {
      failures[error.code] = true;
      resolve(null);
    });
    request.end(body);
  });
}

let failures = {};

async function atRate(target, perSecond, seconds) {
  const calls = [];
  const started = performance.now();
  for (let sent = 0; ; ) {
    const elapsed = (performance.now() - started) / 1000;
    if (elapsed >= seconds) break;
    for (const due = Math.floor(elapsed * perSecond); sent < due; sent += 1) calls.push(call(target, false));
    await sleep(1);
  }
  const times = await Promise.all(calls);
  const good = times.filter((time) => time !== null).sort((a, b) => a - b);
  const took = (performance.now() - started) / 1000;
  const at = (share) => good[Math.min(good.length - 1, Math.floor(good.length * share))] ?? Infinity;
  return { sent: times.length, good: good.length, p50: at(0.5), p99: at(0.99), took };
}

async function streams(target, count) {
  let begun = 0;
  const calls = [];
  const note = () => {
    begun += 1;
    if (begun === count) process.send({ begun });
  };
  for (let n = 0; n < count; n += 1) {
    calls.push(call(target, true, note));
    if (n % 25 === 24) await sleep(25);
  }
  const times = await Promise.all(calls);
  return { sent: count, good: times.filter((time) => time !== null).length };
}

process.on('message', async ({ target, perSecond, seconds, count }) => {
  failures = {};
  const result = count ? await streams(target, count) : await atRate(target, perSecond, seconds);
  process.send({ result: { ...result, failures: Object.keys(failures).slice(0, 3) } });
});
process.on('disconnect', () => process.exit(0));
process.send({ ready: true });
