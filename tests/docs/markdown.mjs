// The project's Markdown pages, parsed: their links, their anchors and their code blocks.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import GithubSlugger from 'github-slugger';
import { Lexer } from 'marked';

export const root = fileURLToPath(new URL('../..', import.meta.url));

/** Files that git tracks or would track, by pattern. */
export function files(...patterns) {
  const listed = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard', '--deduplicate', '--', ...patterns], {
    cwd: root,
    encoding: 'utf8',
    maxBuffer: 1 << 26,
  });
  const deleted = new Set(execFileSync('git', ['ls-files', '--deleted', '--', ...patterns], { cwd: root, encoding: 'utf8' }).split('\n'));
  return listed.split('\n').filter((file) => file !== '' && !deleted.has(file));
}

export const read = (file) => readFileSync(join(root, file), 'utf8');

/** Every token of a page, depth first, with the line at which its outermost block begins. */
function* tokensOf(tokens, line) {
  for (const token of tokens) {
    yield { token, line };
    if (token.type === 'table') {
      for (const cells of [token.header, ...token.rows]) for (const cell of cells) yield* tokensOf(cell.tokens, line);
    } else if (token.type === 'list') {
      for (const item of token.items) yield* tokensOf(item.tokens, line);
    } else if (token.tokens) yield* tokensOf(token.tokens, line);
  }
}

function* pageTokens(text) {
  let line = 1;
  for (const token of new Lexer({ gfm: true }).lex(text)) {
    yield* tokensOf([token], line);
    line += token.raw.split('\n').length - 1;
  }
}

const plainText = (tokens) => tokens.map((token) => (token.tokens ? plainText(token.tokens) : (token.text ?? ''))).join('');

/** A page: its headings as GitHub anchors, its links, its code blocks. */
export function parse(file, text = read(file)) {
  const slugger = new GithubSlugger();
  const page = { file, anchors: new Set(), links: [], blocks: [] };
  for (const { token, line } of pageTokens(text)) {
    if (token.type === 'heading') page.anchors.add(slugger.slug(plainText(token.tokens)));
    else if (token.type === 'link' || token.type === 'image') page.links.push({ href: token.href, line });
    else if (token.type === 'code') page.blocks.push({ file, line, ...info(token.lang ?? ''), code: token.text });
  }
  return page;
}

/** The info string of a block: its language, then words and key="value" pairs. */
export function info(text) {
  const [lang = '', ...rest] = text.split(/\s+(?=(?:[^"]*"[^"]*")*[^"]*$)/).filter((word) => word !== '');
  const attributes = {};
  for (const word of rest) {
    const [, name, quoted, bare] = word.match(/^([\w-]+)(?:=(?:"([^"]*)"|(\S+)))?$/) ?? [];
    if (!name) throw new Error(`the info string of a code block is malformed: ${text}`);
    attributes[name] = quoted ?? bare ?? true;
  }
  return { lang, attributes };
}

/** The words of a page's prose in order, and whether a link carries them. Headings, tables and code are not prose. */
export function proseOf(text) {
  const pieces = [];
  const walk = (tokens, linked) => {
    for (const { type, tokens: inner, items, text: words } of tokens) {
      if (['heading', 'table', 'code', 'codespan', 'space', 'html'].includes(type)) continue;
      if (items) for (const item of items) walk(item.tokens, linked);
      else if (inner) walk(inner, linked || type === 'link');
      else if (type === 'text') pieces.push({ words, linked });
    }
  };
  walk(new Lexer({ gfm: true }).lex(text), false);
  return pieces;
}

/** The code spans of a page with their lines; code blocks are not among them. */
export function spansOf(text) {
  return [...pageTokens(text)].flatMap(({ token, line }) => (token.type === 'codespan' ? [{ span: token.text, line }] : []));
}

/** The rows of the tables under a heading, or of the whole page, each as the text of its cells; without the heads. */
export function tableRows(file, heading) {
  const section = read(file)
    .split(/^#{2,3} /m)
    .find((part) => heading === undefined || part.startsWith(`${heading}\n`));
  if (section === undefined) throw new Error(`${file} has no heading ${heading}`);
  return new Lexer({ gfm: true })
    .lex(section.slice(heading?.length ?? 0))
    .filter(({ type }) => type === 'table')
    .flatMap(({ rows }) => rows.map((row) => row.map(({ text }) => text)));
}
