// Small changes to SQL that a test should notice, each at one place. Pure: text in, texts out.

const OPERATOR = /[+\-*/<>=~!@#%^&|`?]/;

/** The parts of a body of SQL or PL/pgSQL: { kind: 'code' | 'string' | 'comment' | 'name', start, end }. */
export function partsOf(text) {
  const parts = [];
  let at = 0;
  const push = (kind, end) => {
    if (end > at) parts.push({ kind, start: at, end });
    at = end;
  };
  const until = (pattern, from, length) => {
    const found = text.indexOf(pattern, from);
    return found === -1 ? text.length : found + length;
  };
  const special = /--|\/\*|'|"|\$[A-Za-z_]*\$/g;
  while (at < text.length) {
    special.lastIndex = at;
    const found = special.exec(text);
    push('code', found ? found.index : text.length);
    if (!found) break;
    const [mark] = found;
    if (mark === '--') push('comment', until('\n', at, 0));
    else if (mark === '/*') push('comment', until('*/', at + 2, 2));
    else if (mark === '"') push('name', until('"', at + 1, 1));
    else if (mark === "'") push('string', quoteEnd(text, at));
    else push('string', until(mark, at + mark.length, mark.length));
  }
  return parts;
}

function quoteEnd(text, start) {
  const escapes = /[eE]$/.test(text.slice(Math.max(0, start - 1), start));
  for (let at = start + 1; at < text.length; at += 1) {
    if (escapes && text[at] === '\\') at += 1;
    else if (text[at] === "'" && text[at + 1] === "'") at += 1;
    else if (text[at] === "'") return at + 1;
  }
  return text.length;
}

const COMPARISONS = { '<': '<=', '>': '>=', '<=': '<', '>=': '>' };
const SIGNS = { '+': '-', '-': '+' };
const WORDS = [
  [/\bis\s+not\s+null\b/gi, 'null', 'is null'],
  [/\bis\s+null\b/gi, 'null', 'is not null'],
  [/\bis\s+not\s+distinct\s+from\b/gi, 'distinct', 'is distinct from'],
  [/\bis\s+distinct\s+from\b/gi, 'distinct', 'is not distinct from'],
  [/\bnot\s+exists\b/gi, 'exists', 'exists'],
  [/\bleast\b(?=\s*\()/gi, 'bound', 'greatest'],
  [/\bgreatest\b(?=\s*\()/gi, 'bound', 'least'],
  [/\breturn\s+false\b/gi, 'return', 'return true'],
];

/** Every change to a body: { kind, line, from, to, text }, where text is the whole body with the change. */
export function mutantsOf(body) {
  const parts = partsOf(body);
  const code = parts.reduce(
    (text, { kind, start, end }) => text + (kind === 'code' ? body.slice(start, end) : blank(body.slice(start, end))),
    '',
  );
  const found = [];
  const add = (kind, start, end, to) =>
    found.push({
      kind,
      line: body.slice(0, start).split('\n').length,
      source: lineAt(body, start),
      from: body.slice(start, end).replace(/\s+/g, ' '),
      to,
      text: body.slice(0, start) + to + body.slice(end),
    });
  for (const { 0: run, index } of code.matchAll(new RegExp(`${OPERATOR.source}+`, 'g'))) {
    if (COMPARISONS[run]) add('comparison', index, index + run.length, COMPARISONS[run]);
    else if (
      SIGNS[run] &&
      /[\w)\]]\s*$/.test(code.slice(0, index)) &&
      !/\b(return|then|select|and|or|else|when|in|by|=)\s*$/i.test(code.slice(0, index))
    )
      add('sign', index, index + run.length, SIGNS[run]);
  }
  for (const [pattern, kind, to] of WORDS) {
    for (const { 0: words, index } of code.matchAll(pattern)) add(kind, index, index + words.length, to);
  }
  let between = 0;
  for (const { 0: word, index } of code.matchAll(/\b(between|and|or)\b/gi)) {
    if (/between/i.test(word)) between += 1;
    else if (/and/i.test(word) && between > 0) between -= 1;
    else add('logic', index, index + word.length, /and/i.test(word) ? 'or' : 'and');
  }
  for (const { 0: start, index, 1: called } of code.matchAll(/\bperform\s+([a-z_.]+)\s*\(/gi)) {
    const end = statementEnd(code, index + start.length);
    if (/(^|[._])(require|requires|assert|check|guard|validate|limit_rate)[a-z_]*$|_require_/i.test(called))
      add('guard', index, end, 'null');
    else if (/^kijko\.fail$/i.test(called)) add('refusal', index, end, 'null');
  }
  for (const { kind, start, end } of parts) {
    const [, resource, action] = kind === 'string' ? (/^'([a-z_]+):([a-z_]+)'$/.exec(body.slice(start, end)) ?? []) : [];
    if (action && action !== 'read') add('permission', start, end, `'${resource}:read'`);
  }
  return found;
}

const blank = (text) => text.replace(/[^\n]/g, ' ');

function lineAt(text, at) {
  const start = text.lastIndexOf('\n', at - 1) + 1;
  const end = text.indexOf('\n', at);
  return text.slice(start, end === -1 ? text.length : end).trim();
}

/** Where the statement ends that is open at this place, before its semicolon. */
function statementEnd(code, from) {
  const end = code.indexOf(';', from);
  return end === -1 ? code.length : end;
}

/** The terms of an expression that AND joins at its top, without the parentheses around all of it. */
export function conjuncts(expression) {
  const inner = stripped(expression);
  const terms = [];
  let depth = 0;
  let start = 0;
  const parts = partsOf(inner);
  for (const part of parts.filter(({ kind }) => kind === 'code')) {
    for (let at = part.start; at < part.end; at += 1) {
      if ('([{'.includes(inner[at])) depth += 1;
      else if (')]}'.includes(inner[at])) depth -= 1;
      else if (depth === 0 && /^\s(and)\s/i.test(inner.slice(at, at + 5))) {
        terms.push(inner.slice(start, at).trim());
        start = at + 5;
      }
    }
  }
  terms.push(inner.slice(start).trim());
  return terms;
}

function stripped(expression) {
  const text = expression.trim();
  if (!text.startsWith('(')) return text;
  let depth = 0;
  for (const part of partsOf(text)) {
    if (part.kind !== 'code') continue;
    for (let at = part.start; at < part.end; at += 1) {
      if (text[at] === '(') depth += 1;
      if (text[at] === ')' && --depth === 0) return at === text.length - 1 ? stripped(text.slice(1, -1)) : text;
    }
  }
  return text;
}

/** Changes to an expression of a policy, of which `true` has none: all rows, each term left out, each term turned by one change, a weaker permission. */
export function expressionMutants(expression) {
  const terms = conjuncts(expression);
  if (stripped(expression) === 'true') return [];
  const changed = [{ kind: 'everything', from: 'the policy', to: 'true', text: 'true' }];
  if (terms.length > 1) {
    for (const [n, term] of terms.entries()) {
      changed.push({ kind: 'term', from: term.replace(/\s+/g, ' '), to: '', text: terms.filter((_, at) => at !== n).join(' and ') });
    }
  }
  return [...changed, ...mutantsOf(expression).filter(({ kind }) => kind !== 'sign')];
}

/** Numbers between 0 and 1 that depend on the seed alone (mulberry32). */
function random(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

/** So many of the list, chosen by the seed. */
export function sample(list, count, seed) {
  const next = random(seed);
  return list
    .map((one) => [next(), one])
    .sort(([a], [b]) => a - b)
    .slice(0, count)
    .map(([, one]) => one);
}
