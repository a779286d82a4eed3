// Storage services of a test's own: with other limits, and killed. All of them share the stack's folder.
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { HOME, killServices, Service } from './service.mjs';

export const StorageService = {
  /** Starts one, as the user of the folder. */
  start({ variables = {} } = {}) {
    const folder = join(HOME, 'storage');
    const { uid, gid } = statSync(folder);
    return Service.start('storage', {
      spawnOptions: process.getuid() === 0 ? { uid, gid } : {},
      variables: {
        KIJKO_STORAGE_DIR: folder,
        KIJKO_STORAGE_SIGNING_KEY: 'a-key-of-a-test-which-is-long-enough',
        ...variables,
      },
    });
  },
};

export { HOME, killServices as killStorageServices };
