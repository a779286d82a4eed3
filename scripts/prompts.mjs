// Prompts as files: `push`, `pull` and `diff` between a folder and the API, over HTTP with an API key. ./kijko prompts runs it; so may
// a pull request's check, which needs this file, api_call.mjs, prompts_files.mjs and Node.js 20. Exit codes: 0 done or the same, 1 differs or failed, 2 misused.
import { parseArgs } from 'node:util';
import { call, err, Failure, out } from './api_call.mjs';
import { differences, diffLines, format, readFolder, withVersion, write } from './prompts_files.mjs';

const USAGE = `./kijko prompts push DIR   files become versions of prompts   (--message TEXT, --label LABEL, --reason TEXT, --force, --dry-run)
./kijko prompts pull DIR   prompts become files
./kijko prompts diff DIR   what differs; exits 1 if anything does
  --prefix FOLDER: only the prompts in this folder
KIJKO_URL: the API's address. KIJKO_API_KEY: a key with prompts:read, and prompts:write to push.`;
const PAGE = 20;

/** All prompts by path, each with its newest version. */
async function readServer(prefix) {
  const prompts = new Map();
  for (let after = null; ; ) {
    const { prompts: page } = await call('list_prompts', { prefix, after, n: PAGE });
    for (const prompt of page) prompts.set(prompt.path, prompt);
    if (page.length < PAGE) return prompts;
    after = page.at(-1).path;
  }
}

/** What differs between the file and the newest version, one line each. */
function describe(file, prompt) {
  const lines = [];
  for (const field of differences(file, prompt)) {
    lines.push(`  ${field}:`);
    const [before, after] = [prompt[field], file[field]].map((value) =>
      typeof value === 'string' ? value : JSON.stringify(value ?? null, null, 2),
    );
    for (const line of diffLines(before, after)) lines.push(`    ${line}`);
  }
  return lines;
}

/** same, changed, stale (the file's version is not the newest), new, missing (on the server only). */
function compare(files, prompts) {
  const found = [];
  for (const [path, file] of files) {
    const prompt = prompts.get(path);
    if (!prompt) found.push({ path, file, state: 'new' });
    else if (differences(file, prompt).length === 0) found.push({ path, file, prompt, state: 'same' });
    else found.push({ path, file, prompt, state: file.version === prompt.version ? 'changed' : 'stale' });
  }
  for (const [path, prompt] of prompts) if (!files.has(path)) found.push({ path, prompt, state: 'missing' });
  return found.sort((one, other) => (one.path < other.path ? -1 : 1));
}

const STATES = {
  new: () => 'is in the folder only',
  missing: () => 'is on the server only',
  changed: ({ file }) => `differs from version ${file.version}`,
  stale: ({ file, prompt }) => `is of version ${file.version ?? 'none'}, and the newest is ${prompt.version}`,
};

async function diff(directory, { prefix }) {
  const found = compare(await readFolder(directory, prefix), await readServer(prefix));
  const different = found.filter(({ state }) => state !== 'same');
  for (const one of different) {
    out(`${one.path} ${STATES[one.state](one)}`);
    if (one.file && one.prompt) for (const line of describe(one.file, one.prompt)) out(line);
  }
  out(`${found.length - different.length} the same, ${different.length} different`);
  return different.length === 0 ? 0 : 1;
}

async function pull(directory, { prefix }) {
  const files = await readFolder(directory, prefix);
  const prompts = await readServer(prefix);
  let changed = 0;
  for (const [path, prompt] of prompts) {
    const file = files.get(path);
    // A file that says the same keeps its layout.
    if (file && differences(file, prompt).length === 0) {
      if (file.version === prompt.version) continue;
      await write(directory, path, withVersion(file.text, prompt.version));
    } else {
      await write(directory, path, format(prompt));
    }
    changed++;
    out(`${path}: version ${prompt.version}`);
  }
  for (const path of files.keys()) if (!prompts.has(path)) out(`${path} is in the folder only`);
  out(`${changed} written, ${prompts.size - changed} were the same`);
  return 0;
}

async function push(directory, options) {
  const files = await readFolder(directory, options.prefix);
  const found = compare(files, await readServer(options.prefix)).filter(({ file }) => file);
  const stale = found.filter(({ state }) => state === 'stale');
  if (stale.length > 0 && !options.force) {
    for (const one of stale) {
      out(`${one.path} ${STATES.stale(one)}; from which it differs in:`);
      for (const line of describe(one.file, one.prompt)) out(line);
    }
    out('nothing was pushed: pull into another folder and merge, or push with --force what the folder has');
    return 1;
  }
  let [pushed, failed] = [0, 0];
  for (const { path, file, prompt, state } of found) {
    let version = prompt?.version;
    try {
      if (state !== 'same') {
        pushed++;
        if (options['dry-run']) {
          out(`${path} would be pushed`);
          continue;
        }
        const { version: _, text: __, ...fields } = file;
        const base = options.force ? (prompt?.version ?? 0) : (file.version ?? 0);
        const stored = await call('push_prompt', { ...fields, path, message: options.message, base_version: base });
        version = stored.version;
        out(`${path}: version ${version}`);
      }
      if (options['dry-run']) continue;
      if (file.version !== version) await write(directory, path, withVersion(file.text, version));
      if (options.label && !prompt?.labels?.includes(options.label)) await move(path, version, options);
      else if (options.label && state !== 'same') await move(path, version, options);
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      failed++;
      err(`${path}: ${error.message}`);
    }
  }
  out(`${pushed} ${options['dry-run'] ? 'to push' : 'pushed'}, ${found.length - pushed} were the same, ${failed} failed`);
  return failed === 0 ? 0 : 1;
}

async function move(path, version, { label, reason, message }) {
  const moved = await call('set_prompt_label', { path, label, version, reason: reason ?? message });
  if (moved.applied) out(`${path}: ${label} is version ${version}`);
  else out(`${path}: ${label} waits for the approval ${moved.approval_id}`);
}

async function main() {
  const options = {
    prefix: { type: 'string' },
    message: { type: 'string' },
    label: { type: 'string' },
    reason: { type: 'string' },
    force: { type: 'boolean' },
    'dry-run': { type: 'boolean' },
  };
  let parsed;
  try {
    parsed = parseArgs({ options, allowPositionals: true });
  } catch (error) {
    return misuse(error.message);
  }
  const [command, directory, ...more] = parsed.positionals;
  const commands = { push, pull, diff };
  const taken = command === 'push' ? Object.keys(options) : ['prefix'];
  const wrong = Object.keys(parsed.values).filter((name) => !taken.includes(name));
  if (!Object.hasOwn(commands, command ?? '') || !directory || more.length > 0) return misuse('push, pull or diff, and one folder');
  if (wrong.length > 0) return misuse(`${command} has no option --${wrong[0]}`);
  if (!process.env.KIJKO_URL || !process.env.KIJKO_API_KEY) return misuse('KIJKO_URL and KIJKO_API_KEY must be set');
  return commands[command](directory, parsed.values);
}

function misuse(message) {
  err(`prompts: ${message}\n${USAGE}`);
  return 2;
}

try {
  process.exitCode = await main();
} catch (error) {
  // A fault of ours shows where it is; all others say what is wrong.
  err(`prompts: ${error instanceof Failure || error.isFile ? error.message : error.stack}`);
  process.exitCode = 1;
}
