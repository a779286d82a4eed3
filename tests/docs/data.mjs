// Blocks that are data or configuration: each parses, and what it names exists.
import { execFileSync } from 'node:child_process';
import { parse as parseToml } from 'smol-toml';
import { parseAllDocuments } from 'yaml';
import { tableRows } from './markdown.mjs';

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
  // Names of our metrics, and of their labels: in selectors those of the metric, in by (…) and the like those of any in the block.
  promql: (code, { labelsOf }) => {
    const known = new Set();
    for (const [, name, matchers = ''] of code.matchAll(/(kijko_\w+)(?:\s*\{([^}]*)\})?/g)) {
      if (!labelsOf.has(name)) throw new Error(`there is no metric ${name}`);
      for (const label of labelsOf.get(name)) known.add(label);
      for (const [, label] of matchers.matchAll(/(\w+)\s*(?:=~|!~|!=|=)\s*"/g))
        if (!labelsOf.get(name).includes(label)) throw new Error(`${name} has no label ${label}`);
    }
    for (const [, labels] of code.matchAll(/\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)/g))
      for (const [label] of labels.matchAll(/\w+/g))
        if (!known.has(label)) throw new Error(`no metric of the block has the label ${label}`);
  },
  // Drawings and what a program prints: nothing to check.
  text: () => {},
};

/** The labels of each metric of the sidecar, as the documentation lists them. */
export function labelsOfMetrics() {
  const quoted = (cell) => [...cell.matchAll(/`(\w+)`/g)].map(([, name]) => name);
  const rows = tableRows('docs/operations/sidecar.md', 'Metrics');
  return new Map(rows.flatMap(([metrics, labels]) => quoted(metrics).map((metric) => [metric, quoted(labels)])));
}

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
