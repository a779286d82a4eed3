// Indexers of a test's own, each with a cache of its own. They fetch from a git host of the test what the URL says is at GitHub.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { killServices, Service } from './service.mjs';

/** Starts one. With the folder of a former one it goes on with that one's cache. */
export async function startIndexer(git, { folder = newCache(), variables = {} } = {}) {
  const service = await Service.start('indexer', {
    variables: { KIJKO_INDEXER_DIR: folder, KIJKO_INDEXER_MIRRORS: `github.com=${git.url}`, KIJKO_POLL_SECONDS: '1', ...variables },
  });
  return Object.assign(service, { folder });
}

const folders = new Set();

export function newCache() {
  const folder = mkdtempSync(join(tmpdir(), 'kijko-indexer-'));
  folders.add(folder);
  return folder;
}

export async function killIndexers() {
  await killServices();
  for (const folder of folders) rmSync(folder, { recursive: true });
  folders.clear();
}
