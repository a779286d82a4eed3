// A block of shell is read: its syntax, and that each command of ./kijko, script, test area, benchmark and path of the API in it
// exists. One that is marked `run` runs then, from the root of the checkout against the test's stack.
import { execFile, execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { read, root } from './markdown.mjs';

const shell = (code, env) =>
  new Promise((resolve) => {
    const options = { cwd: root, env: { ...process.env, ...env }, timeout: 60_000, maxBuffer: 1 << 24 };
    execFile('bash', ['-euo', 'pipefail', '-c', code], options, (error, stdout, stderr) => resolve({ error, stdout, stderr }));
  });

export async function runShell({ file, line, code }, env) {
  const { error, stderr, stdout } = await shell(code, env);
  return error ? [`${file}:${line}: exit ${error.code}: ${(stderr || stdout).trim().split('\n').slice(-3).join(' | ')}`] : [];
}

/** The commands that `./kijko help` lists. */
export const commands = new Set(
  execFileSync(join(root, 'kijko'), ['help'], { encoding: 'utf8' })
    .split('\n')
    .flatMap((line) => line.match(/^ {2}([a-z]+)/)?.[1] ?? []),
);
const areas = new Set(
  [...read('scripts/tests.sh').matchAll(/^(?:TEST|NAMED)_AREAS=\(([^)]*)\)/gm)].flatMap(([, names]) => names.split(' ')),
);
/** What a command writes, and the repository has not. */
const isIgnored = (path) => spawnSync('git', ['check-ignore', path, `${path}/any`], { cwd: root }).status === 0;
export const benchmarks = new Set(readdirSync(join(root, 'tests/bench')).flatMap((name) => name.match(/^(\w+)\.mjs$/)?.[1] ?? []));
const routes = [...read('deploy/Caddyfile').matchAll(/^\t@\w+ path (.*)$/gm)].flatMap(([, paths]) => paths.split(' '));

export const isRoute = (path) => routes.some((route) => (route.endsWith('*') ? path.startsWith(route.slice(0, -1)) : path === route));

/** The faults of a block that is not run. `functions` are the names that /rest/v1/rpc serves. */
export function readShell({ file, line, code }, { functions }) {
  const faults = [];
  const fault = (text) => faults.push(`${file}:${line}: ${text}`);
  try {
    execFileSync('bash', ['-n'], { input: code, stdio: ['pipe', 'ignore', 'pipe'] });
  } catch (error) {
    fault(`not shell: ${String(error.stderr).trim()}`);
  }
  for (const [, command, rest] of code.matchAll(/\.\/kijko(?: +([a-z]+))?([^#\n;&|)]*)/g)) {
    if (command === undefined) continue;
    if (!commands.has(command)) fault(`there is no ./kijko ${command}`);
    const known = { test: areas, bench: benchmarks }[command];
    const words = rest.replace(/--[a-z-]+ +\S+/g, '');
    for (const word of known ? (words.match(/[a-z]+/g) ?? []) : []) if (!known.has(word)) fault(`./kijko ${command} knows no ${word}`);
  }
  for (const [path] of code.matchAll(/(?<![\w/.$@-])(?:deploy|scripts|sql|kijko_ext|tests|supabase)\/[\w./-]+/g)) {
    // Scripts of a release are made by the commands that name them.
    if (!existsSync(join(root, path)) && !isIgnored(path) && !/kijko--\d/.test(path)) fault(`there is no ${path}`);
  }
  for (const [, path] of code.matchAll(/\$\{?(?:API|API_URL)\}?(\/[\w./-]+)/g)) {
    if (!isRoute(path)) fault(`nothing serves ${path}`);
    const name = path.match(/^\/rest\/v1\/rpc\/(\w+)/)?.[1];
    if (name && !functions.has(name)) fault(`there is no function ${name}`);
  }
  return faults;
}
