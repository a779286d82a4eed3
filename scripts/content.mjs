// The research cache of the earlier system: `import` takes a folder's *_research.json over, by the API with a key. ./kijko content runs
// it. The same folder again changes nothing, and each run reports how disk and database differ. Exit codes: 0 done or the same, 1 failed,
// or a dry run that found differences, 2 misused.
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { call, err, Failure, out } from './api_call.mjs';

const USAGE = `./kijko content import DIR   takes over DIR/**/*_research.json   (--dry-run: only reports)
KIJKO_URL: the API's address. KIJKO_API_KEY: a key with content:read and content:write.`;
const SUFFIX = '_research.json';
/** As import_research() takes it. */
const MAX_BYTES = 4 << 20;

class Misuse extends Error {}

/** The files of a folder and those below it, by name. */
async function filesOf(folder) {
  let entries;
  try {
    entries = await readdir(folder, { withFileTypes: true, recursive: true });
  } catch (error) {
    throw new Misuse(`${folder}: ${error.code === 'ENOENT' ? 'there is no such folder' : error.message}`);
  }
  const files = entries.filter((entry) => entry.isFile() && entry.name.endsWith(SUFFIX));
  return files.map((entry) => join(entry.parentPath ?? entry.path, entry.name)).sort();
}

/** One file, as the database is asked: its topic may be in the name only. */
async function read(file) {
  if ((await stat(file)).size > MAX_BYTES) throw new Failure(`larger than ${MAX_BYTES >> 20} MiB`);
  let document;
  try {
    document = JSON.parse(await readFile(file, 'utf8'));
  } catch (error) {
    throw new Failure(`no JSON: ${error.message}`);
  }
  if (Array.isArray(document)) document = { sources: document };
  if (document === null || typeof document !== 'object') throw new Failure('neither an object nor a list');
  const { topic, title, query, sources, results, ...rest } = document;
  const name = file.split('/').at(-1).slice(0, -SUFFIX.length).replace(/[_-]+/g, ' ').trim();
  return { ...rest, topic: topic ?? title ?? query ?? name, sources: sources ?? results ?? [] };
}

/** The line of a file's report, and whether disk and database differ. */
function describe(report) {
  const { added, changed, same, unreadable, created, topic, differing, only_in_database: missing } = report;
  const parts = [`${added} added`, `${changed} changed`, `${same} the same`];
  if (unreadable > 0) parts.push(`${unreadable} unreadable`);
  if (differing.length > 0) parts.push(`${differing.length} that say something else there`);
  if (missing.length > 0) parts.push(`${missing.length} in the database only`);
  return {
    line: `${topic}${created ? ' (new)' : ''}: ${parts.join(', ')}`,
    differs: created || added + changed + unreadable + differing.length + missing.length > 0,
  };
}

const PAGE = 200;

/** The topics that were taken over and have no file any more. The database lists 10,000 at most, as many as an organization has. */
async function topicsWithout(seen) {
  const missing = [];
  for (let skip = 0; skip <= 10_000; skip += PAGE) {
    const page = await call('list_topics', { n: PAGE, skip });
    missing.push(...page.filter(({ id, origin }) => origin === 'import' && !seen.has(id)).map(({ title }) => title));
    if (page.length < PAGE) break;
  }
  return missing.sort();
}

async function importFolder(folder, dryRun) {
  const files = await filesOf(folder);
  const seen = new Set();
  let [failed, differing] = [0, 0];
  for (const file of files) {
    try {
      const report = await call('import_research', { document: await read(file), dry_run: dryRun });
      const { line, differs } = describe(report);
      if (differs) differing++;
      out(line);
      seen.add(report.topic_id);
      for (const { url, fields } of report.differing) out(`  says something else in the database: ${url} (${fields.join(', ')})`);
      for (const url of report.only_in_database) out(`  only in the database: ${url}`);
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      // The key is wrong for all of them.
      if (['invalid_api_key', 'not_identified', 'permission_denied', '42501'].includes(error.code)) throw error;
      failed++;
      err(`${file}: ${error.message}`);
    }
  }
  const missing = await topicsWithout(seen);
  for (const title of missing) out(`${title}: has no file`);
  out(`${files.length} files, ${differing} with differences, ${failed} failed; ${missing.length} topics without a file`);
  return failed > 0 || (dryRun && differing + missing.length > 0) ? 1 : 0;
}

async function main() {
  const { values, positionals } = parseArgs({
    options: { 'dry-run': { type: 'boolean', default: false }, help: { type: 'boolean', short: 'h', default: false } },
    allowPositionals: true,
  });
  if (values.help) return out(USAGE);
  const [command, folder, ...more] = positionals;
  if (command !== 'import' || folder === undefined || more.length > 0) throw new Misuse(USAGE);
  if (!process.env.KIJKO_API_KEY) throw new Misuse('KIJKO_API_KEY is not set');
  process.exitCode = await importFolder(folder, values['dry-run']);
}

main().catch((error) => {
  const isMisuse = error instanceof Misuse || error.code?.startsWith?.('ERR_PARSE_ARGS');
  err(error instanceof Failure || isMisuse ? error.message : error.stack);
  process.exitCode = isMisuse ? 2 : 1;
});
