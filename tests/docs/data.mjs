// Blocks that are data or configuration: each parses, and what it names exists.
import { execFileSync } from 'node:child_process';
import { parse as parseToml } from 'smol-toml';
import { parseAllDocuments } from 'yaml';

const MERMAID = /^(flowchart|graph|sequenceDiagram|stateDiagram-v2|erDiagram) ?/;

const check = {
  json: (code) => JSON.parse(code),
  toml: (code) => parseToml(code),
  yaml: (code) => {
    for (const { errors } of parseAllDocuments(code)) if (errors.length > 0) throw errors[0];
  },
  caddyfile: (code) => execFileSync('caddy', ['adapt', '--adapter', 'caddyfile', '--config', '-'], { input: code, stdio: 'pipe' }),
  mermaid: (code) => {
    if (!MERMAID.test(code)) throw new Error('not a diagram that mermaid knows');
  },
  // Settings of Postgres: name = value.
  conf: (code, { settings }) => {
    for (const line of code.split('\n').filter((text) => !/^\s*(#|$)/.test(text))) {
      const [, name] = line.match(/^([a-z_.]+) *= *\S/) ?? [];
      if (!settings.has(name)) throw new Error(`there is no setting ${name ?? line}`);
    }
  },
  promql: (code, { metrics }) => {
    for (const [name] of code.matchAll(/kijko_\w+/g)) if (!metrics.has(name)) throw new Error(`there is no metric ${name}`);
  },
  // Drawings and what a program prints: nothing to check.
  text: () => {},
};

export const isData = ({ lang }) => Object.hasOwn(check, lang);

export function readData({ file, line, lang, code }, known) {
  try {
    check[lang](code, known);
    return [];
  } catch (error) {
    return [
      `${file}:${line}: ${String(error.stderr ?? error.message)
        .trim()
        .split('\n')
        .at(-1)}`,
    ];
  }
}
