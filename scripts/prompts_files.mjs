// The files of prompts: DIR/support/summarise.prompt.md is the prompt support/summarise. Front matter between two lines `---`, whose
// values are JSON (or a bare word), then the text. What a file says, and nothing else, goes round without a difference.
import { mkdir, readdir, readFile, rename, writeFile } from 'node:fs/promises';
import { dirname, join, relative, sep } from 'node:path';

const SUFFIX = '.prompt.md';
const PATH = /^[A-Za-z0-9_][A-Za-z0-9._-]*(\/[A-Za-z0-9_][A-Za-z0-9._-]*)*$/;
const ROLES = ['system', 'developer', 'user', 'assistant'];
/** A message begins with this line. A line of its text that begins so, or with backslashes before it, has one backslash more. */
const MESSAGE = /^=== (?:(system|developer|user|assistant)|placeholder ([A-Za-z_][A-Za-z0-9_]*))$/;
const LOOKS_LIKE_MESSAGE = /^\\*=== /;
const DEFAULTS = {
  type: 'text',
  engine: 'minijinja',
  description: null,
  tags: [],
  model: null,
  parameters: {},
  input_schema: { type: 'object' },
};
const ORDER = ['version', 'type', 'engine', 'description', 'tags', 'model', 'parameters', 'input_schema'];

const fault = (message) => Object.assign(new Error(message), { isFile: true });

const contentOf = (type, body) => (type === 'chat' ? readMessages(body) : body);

function readMessages(body) {
  const parts = [];
  let lines;
  for (const line of body.split('\n')) {
    const [, role, name] = MESSAGE.exec(line) ?? [];
    if (role) parts.push({ role, content: (lines = []) });
    else if (name) {
      parts.push({ type: 'placeholder', name });
      lines = undefined;
    } else if (lines) lines.push(LOOKS_LIKE_MESSAGE.test(line) && line.startsWith('\\') ? line.slice(1) : line);
    else if (line !== '') throw fault(`the text before the first message is of none: ${JSON.stringify(line.slice(0, 40))}`);
  }
  return parts.map((part) => (part.role ? { ...part, content: part.content.join('\n') } : part));
}

function writeMessages(parts) {
  return parts
    .map((part) => {
      if (!part.role) return `=== placeholder ${part.name}`;
      if (!ROLES.includes(part.role)) throw fault(`a message of the role ${part.role} cannot be written`);
      const content = part.content.split('\n').map((line) => (LOOKS_LIKE_MESSAGE.test(line) ? `\\${line}` : line));
      return `=== ${part.role}\n${content.join('\n')}`;
    })
    .join('\n');
}

/** A file's text as a prompt. */
export function parse(text) {
  // A file whose first line ends as on Windows was checked out there; \r in other files is the prompt's.
  const lines = text.startsWith('---\r\n') ? text.replaceAll('\r\n', '\n') : text;
  const [, front, rest] = /^---\n([\s\S]*?)^---\n([\s\S]*)$/m.exec(lines) ?? [];
  if (front === undefined || !text.startsWith('---')) throw fault('it begins with front matter between two lines ---');
  const given = {};
  for (const entry of front.split(/^(?=[a-z_]+:)/m)) {
    const [, name, value] = /^([a-z_]+):([\s\S]*)$/.exec(entry) ?? [];
    if (!name) {
      if (entry.trim() === '') continue;
      throw fault(`no key: ${JSON.stringify(entry.trim().slice(0, 40))}`);
    }
    if (!ORDER.includes(name)) throw fault(`unknown key ${name}: ${ORDER.join(', ')}`);
    if (Object.hasOwn(given, name)) throw fault(`the key ${name} is there twice`);
    given[name] = readValue(name, value.trim());
  }
  const prompt = { ...DEFAULTS, ...given };
  // One line end at the end of the file is the editor's.
  const body = rest.replace(/\n$/, '');
  return { ...prompt, content: contentOf(prompt.type, body), text };
}

function readValue(name, value) {
  if (/^[A-Za-z][\w./:@-]*$/.test(value) && !['null', 'true', 'false'].includes(value)) return value;
  try {
    return JSON.parse(value);
  } catch {
    throw fault(`${name}: its value is JSON, or a word`);
  }
}

/** The text of a prompt's file. */
export function format(prompt) {
  const lines = ORDER.filter((name) => name === 'version' || name === 'type' || !equal(prompt[name], DEFAULTS[name])).map(
    (name) => `${name}: ${writeValue(prompt[name])}`,
  );
  const body = prompt.type === 'chat' ? writeMessages(prompt.content) : prompt.content;
  return `---\n${lines.join('\n')}\n---\n${body}\n`;
}

function writeValue(value) {
  if (typeof value === 'string' && /^(text|chat|plain|minijinja)$/.test(value)) return value;
  return value !== null && typeof value === 'object' && !Array.isArray(value) ? JSON.stringify(value, null, 2) : JSON.stringify(value);
}

/** The same file with another version. */
export function withVersion(text, version) {
  const [front] = /^---\r?\n[\s\S]*?^---\r?\n/m.exec(text);
  const changed = /^version:.*$/m.test(front)
    ? front.replace(/^version:.*$/m, `version: ${version}`)
    : front.replace(/^---(\r?\n)/, `---$1version: ${version}$1`);
  return changed + text.slice(front.length);
}

/** Values as the database compares them: the order of keys says nothing. */
const canonical = (value) => {
  if (Array.isArray(value)) return value.map(canonical);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(
    Object.keys(value)
      .sort()
      .map((key) => [key, canonical(value[key])]),
  );
};
const equal = (one, other) => JSON.stringify(canonical(one ?? null)) === JSON.stringify(canonical(other ?? null));

/** The fields in which a file and a prompt differ. */
export const differences = (file, prompt) =>
  ['type', 'content', 'engine', 'input_schema', 'model', 'parameters', 'description', 'tags'].filter(
    (field) => !equal(file[field], prompt[field]),
  );

/** The files of a folder by the paths of their prompts. */
export async function readFolder(directory, prefix) {
  const files = new Map();
  let entries;
  try {
    entries = await readdir(directory, { recursive: true, withFileTypes: true });
  } catch (error) {
    if (error.code === 'ENOENT') return files;
    throw fault(`${directory}: ${error.message}`);
  }
  for (const entry of entries) {
    if (!entry.isFile() || !entry.name.endsWith(SUFFIX)) continue;
    const file = join(entry.parentPath ?? entry.path, entry.name);
    const path = relative(directory, file).split(sep).join('/').slice(0, -SUFFIX.length);
    if (!PATH.test(path)) throw fault(`${file}: its name is no path of a prompt`);
    if (prefix && !path.startsWith(`${prefix.replace(/\/+$/, '')}/`)) continue;
    try {
      files.set(path, parse(await readFile(file, 'utf8')));
    } catch (error) {
      throw error.isFile ? fault(`${file}: ${error.message}`) : error;
    }
  }
  return files;
}

/** Writes the file of a prompt, whole or not at all. */
export async function write(directory, path, text) {
  // The server's word is no reason to write outside the folder.
  if (!PATH.test(path)) throw fault(`${path}: no path of a prompt`);
  const file = join(directory, `${path}${SUFFIX}`);
  await mkdir(dirname(file), { recursive: true });
  await writeFile(`${file}.new`, text);
  await rename(`${file}.new`, file);
}

/** Lines that only one of two texts has, with - and +, by their longest common subsequence. */
export function diffLines(before, after) {
  const [a, b] = [before, after].map((text) => text.split('\n'));
  // Beyond this a table of all pairs is too large; what is the same at both ends is left out first.
  let [start, end] = [0, 0];
  while (start < a.length && start < b.length && a[start] === b[start]) start++;
  while (end < a.length - start && end < b.length - start && a.at(-1 - end) === b.at(-1 - end)) end++;
  const [one, other] = [a.slice(start, a.length - end), b.slice(start, b.length - end)];
  if (one.length * other.length > 4_000_000) return [...one.map((line) => `- ${line}`), ...other.map((line) => `+ ${line}`)];
  const lengths = Array.from({ length: one.length + 1 }, () => new Uint32Array(other.length + 1));
  for (let i = one.length - 1; i >= 0; i--) {
    for (let j = other.length - 1; j >= 0; j--) {
      lengths[i][j] = one[i] === other[j] ? lengths[i + 1][j + 1] + 1 : Math.max(lengths[i + 1][j], lengths[i][j + 1]);
    }
  }
  const lines = [];
  for (let [i, j] = [0, 0]; i < one.length || j < other.length; ) {
    if (i < one.length && j < other.length && one[i] === other[j]) [i, j] = [i + 1, j + 1];
    else if (j >= other.length || (i < one.length && lengths[i + 1][j] >= lengths[i][j + 1])) lines.push(`- ${one[i++]}`);
    else lines.push(`+ ${other[j++]}`);
  }
  return lines;
}
