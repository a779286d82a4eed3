// What no log may have: keys, tokens, credentials, addresses of people, prompts. `./kijko test journeys` ends with it, over the
// logs of the whole run:
//   node tests/journeys/log_secrets.mjs DIRECTORY
import fs from 'node:fs';
import path from 'node:path';

/** A key that a test has Postgres log on purpose, to see that it would. */
export const LOGGED_KEY = 'kjk_live_0123456789ABCDEFGHIJKLMNOPQRSTUV0ScoqP';

const SECRETS = [
  ['an API key', /\bkjk_[a-z]+_[A-Za-z0-9]{20,}/],
  ["an invitation's token", /\bkji_[A-Za-z0-9_-]{10,}/],
  ["a provider's token", /\bgh[oprsu]_[A-Za-z0-9]{16,}/],
  ["a webhook's secret", /\bwhsec_[A-Za-z0-9+/=]{10,}/],
  ['a signed token', /\beyJ[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{10,}/],
  ['credentials', /\b(?:bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}/i],
  ['a password in an address', /\b[a-z][a-z0-9+.-]*:\/\/[^\s/@":]+:[^\s/@":]*[a-z][^\s/@"]*@/i],
  // Journeys, demo and crash tests use these domains only.
  ['an address of a person', /[A-Za-z0-9._%+-]+@example\.(?:com|test|org|net)\b/],
  ['a prompt', /Say \{\{|Summarize: /],
];

/** What lines of a log have: [{line, what}]. The line's number, and never the line: it would be a second leak. */
export const leaks = (text) =>
  text.split('\n').flatMap((line, n) => {
    const rest = line.replaceAll(LOGGED_KEY, '');
    return SECRETS.filter(([, pattern]) => pattern.test(rest)).map(([what]) => ({ line: n + 1, what }));
  });

/** Every log of a folder, rotated ones too. */
export function scan(directory) {
  const names = fs.readdirSync(directory, { recursive: true }).filter((name) => /\.log(\.1)?$/.test(name));
  const found = names.flatMap((name) =>
    leaks(fs.readFileSync(path.join(directory, name), 'utf8')).map(({ line, what }) => `${name}:${line}: ${what}`),
  );
  return { names, found };
}

if (process.argv[1]?.endsWith('/log_secrets.mjs')) {
  const { names, found } = scan(process.argv[2]);
  for (const fault of found) console.log(fault);
  console.log(`${names.length} logs, ${found.length} with what none may have`);
  process.exitCode = found.length > 0 || names.length === 0 ? 1 : 0;
}
