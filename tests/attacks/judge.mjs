// The verdicts. An answer is at fault if it has a value that its caller may not see, if it fails by our fault, if its code is in no
// document, or if it tells a row of another tenant from one that does not exist.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ROOT } from '../lint/tree.mjs';
import { tokensOf } from './victim.mjs';

const PAGES = ['docs/reference/errors.md', 'docs/guides/storage.md', 'docs/guides/llm.md'];

/** The codes that the documentation has: the first column of its tables, or the one after a status, and beginnings that end in `…`. */
export async function documentedCodes() {
  const texts = await Promise.all(PAGES.map((path) => readFile(join(ROOT, path), 'utf8')));
  const cells = texts.flatMap((text) => [...text.matchAll(/^\| (?:[\d, ]+ \| )?(`[^|]+`[^|]*) \|/gm)].map(([, cell]) => cell));
  const codes = cells.flatMap((cell) => [...cell.matchAll(/`([^`]+)`/g)].map(([, code]) => code));
  const beginnings = codes.filter((code) => code.endsWith('…')).map((code) => code.slice(0, -1));
  return (code) => codes.includes(code) || beginnings.some((beginning) => code.startsWith(beginning));
}

// They say what an answer is about; others name the request or its time.
const HEADERS = ['content-range', 'location', 'preference-applied', 'content-type', 'content-location'];

export class Judge {
  findings = [];
  answers = { allowed: 0, refused: 0 };
  #seen = new Set();
  #written = new Set();
  #isDocumented;

  constructor(isDocumented) {
    this.#isDocumented = isDocumented;
  }

  /** One line for each kind of fault, caller and subject: the first request that showed it stands for the others. */
  report(kind, attacker, subject, detail, request) {
    const name = `${kind} ${attacker} ${subject} ${kind === 'leak' ? detail : ''}`;
    if (this.#seen.has(name)) return;
    this.#seen.add(name);
    this.findings.push({ kind, attacker, subject, detail, request: request && describe(request) });
  }

  /** Before a request is sent: its words may be in a row of the attackers' own afterwards, where others of them read it. */
  note({ method, body }) {
    if (method !== 'GET') for (const token of tokensOf(textOf({ path: '', body }))) if (!isUuid(token)) this.#written.add(token);
  }

  /** What one answer says by itself. */
  examine(attacker, subject, request, answer) {
    this.answers[answer.status < 400 ? 'allowed' : 'refused'] += 1;
    // What is left of a limit may be any number.
    const { ratelimit: _, ...headers } = answer.headers;
    const whole = `${JSON.stringify(headers)} ${answer.text}`;
    const sent = tokensOf(textOf(request));
    for (const token of tokensOf(whole)) {
      const place = attacker.forbidden.get(token);
      // An answer may repeat what the request said.
      if (place && !sent.has(token) && !this.#written.has(token) && ![...sent].some((one) => one.includes(token))) {
        this.report('leak', attacker.name, subject, place, {
          ...request,
          answer: `${token} in ${JSON.stringify(answer.headers)} ${answer.text.slice(0, 300)}`,
        });
      }
    }
    const code = answer.body?.code ?? answer.body?.error_code ?? answer.body?.error?.code;
    if (answer.status >= 500 && !(answer.status !== 500 && request.outside)) {
      this.report('failure', attacker.name, subject, `${answer.status} ${code}: ${answer.text.slice(0, 200)}`, request);
    } else if (answer.status >= 400 && typeof code === 'string' && !this.#isDocumented(code)) {
      this.report('code', attacker.name, subject, `${answer.status} ${code}`, request);
    }
    if (attacker.refused && answer.status !== 401 && answer.status < 500 && request.subjectNeedsToken) {
      this.report('accepted', attacker.name, subject, `${answer.status} ${answer.text.slice(0, 200)}`, request);
    }
  }
}

const isUuid = (token) => /^[0-9a-f]{8}-[0-9a-f-]{27}$/.test(token);

export const textOf = ({ path, headers, body }) =>
  `${path} ${decode(path)} ${JSON.stringify(headers ?? {})} ${typeof body === 'string' ? body : JSON.stringify(body ?? '')}`;

function decode(path) {
  try {
    return decodeURIComponent(path);
  } catch {
    return '';
  }
}

const describe = ({ method, path, headers, body, answer }) =>
  [`${method} ${path}`, headers && JSON.stringify(headers), body && JSON.stringify(body), answer && `-> ${answer}`]
    .filter(Boolean)
    .join(' ')
    .slice(0, 1500);

/** An answer without what only its own request can explain: the names that it repeats, in the order in which the request had them. */
export function essence(answer, names) {
  const headers = Object.fromEntries(
    HEADERS.filter((name) => answer.headers[name] !== undefined).map((name) => [name, answer.headers[name]]),
  );
  let text = `${answer.status} ${JSON.stringify(headers)} ${answer.text}`;
  for (const [at, name] of names.entries()) text = text.replaceAll(new RegExp(escaped(name), 'gi'), `<${at}>`);
  return text;
}

/** The same without ids, keys, times and numbers that the database has chosen. */
export const gist = (text) =>
  text
    .replaceAll(/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/gi, '<id>')
    .replaceAll(/\d{4}-\d\d-\d\d[T ][\d:.]+(?:\+00:00|Z)?/g, '<time>')
    .replaceAll(/(kj\w|whsec|kji)_[\w+/=-]+/g, '<secret>')
    .replaceAll(/"(id|position|seq)":\s*\d+/g, '<number>');

/** The status and the code alone. */
export const outcome = (text) => `${text.slice(0, 3)} ${text.match(/"code":\s*"([^"]+)"/)?.[1]}`;

const escaped = (text) => text.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&');
