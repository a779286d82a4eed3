// Which files are pages, and where.
import { existsSync } from 'node:fs';

/** As globs from the root of the checkout. */
export const PAGES = [
  'docs/**/*.md',
  'README.md',
  'CONTRIBUTING.md',
  'SECURITY.md',
  'CHANGELOG.md',
  'kijko_ext/README.md',
  'tests/reports/LOG.md',
  'site/generated/api/*.md',
];

/** Whether a path from the root is a page. */
export function isPage(root, path) {
  const matches = PAGES.some((glob) =>
    new RegExp(
      `^${glob
        .replaceAll('.', '\\.')
        .replace('**/', '(?:.+/)?')
        .replace(/\*(?!\?)/, '[^/]*')}$`,
    ).test(path),
  );
  return matches && existsSync(`${root}${path}`);
}

/** The address of a page, without the base: /guides/skills of docs/guides/skills.md, and a folder's own of its README. */
export function slugOf(path) {
  if (path === 'README.md') return '/about';
  const [, name] = path.match(/^(?:docs\/|site\/generated\/)?(.*)\.md$/);
  return `/${name.replace(/(?:^|\/)README$/, '').toLowerCase()}`;
}
