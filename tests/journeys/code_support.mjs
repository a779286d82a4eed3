// Plays the indexer: it claims indexing jobs as its login role and reports what it would have read.

import { createHash, randomUUID } from 'node:crypto';
import { after } from 'node:test';
import pg from 'pg';
import { until } from '../until.mjs';
import { env } from './support.mjs';

export const commitOf = (text) => createHash('sha1').update(text).digest('hex');
export const blobOf = (text) => commitOf(`blob ${Buffer.byteLength(text)}\0${text}`);

/** An indexer with a connection of its own, as the role kijko_indexer. Made in a suite and in no hook, so that it ends with the suite. */
export function newIndexer() {
  const worker = `journey-${randomUUID()}`;
  let opened;
  const connect = async () => {
    const client = new pg.Client({ connectionString: env.ADMIN_DB_URL });
    await client.connect();
    await client.query('set session authorization kijko_indexer');
    return client;
  };
  after(async () => (await opened)?.end());
  const query = async (text, values) => {
    opened ??= connect();
    return (await (await opened).query(text, values)).rows;
  };
  const call = async (job, name, ...values) => {
    const given = values.map((_, n) => `$${n + 4}`).join(', ');
    const [row] = await query(`select private.code_index_${name}($1, $2, $3${given && ', '}${given}) as answer`, [
      worker,
      job.id,
      job.attempt,
      ...values,
    ]);
    return row.answer;
  };
  /** Claims until it holds the job of this indexing job. Others that it gets go back, as this one does from other journeys. */
  const claim = (indexing) =>
    until(`the job of ${indexing.id}`, async () => {
      const claimed = await query(`select * from private.jobs_claim($1, '1 minute', 1000)`, [worker]);
      const found = claimed.find((job) => job.payload.indexing_job_id === indexing.id);
      const others = claimed.filter((job) => job !== found).map((job) => job.id);
      if (others.length > 0) await query('select private.jobs_release($1, $2)', [worker, others]);
      return found;
    });
  return { query, call, claim };
}

/** Indexes files, {path: {content, symbols, references, imports, language}}, as the whole tree of the commit. */
export async function indexFiles(indexer, job, files, commit) {
  const paths = Object.keys(files);
  const oids = Object.fromEntries(paths.map((path) => [path, blobOf(files[path].content)]));
  const missing = new Set(await indexer.call(job, 'missing', Object.values(oids)));
  const blobs = paths
    .filter((path) => missing.has(oids[path]))
    .map((path) => ({
      oid: oids[path],
      bytes: Buffer.byteLength(files[path].content),
      lines: files[path].content.split('\n').length,
      ...files[path],
    }));
  await indexer.call(job, 'put', JSON.stringify(blobs));
  const entries = paths.map((path) => ({ path, oid: oids[path], mode: 0o100644 }));
  await indexer.call(job, 'stage', true, JSON.stringify(entries));
  return indexer.call(job, 'commit', commit, new Date());
}
