// What the site does with the pages of docs/, without building it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { apiPages } from '../../site/api_pages.mjs';
import { withoutInlineScripts } from '../../site/build.mjs';
import { isPage, slugOf } from '../../site/pages.mjs';
import { sourceLinks } from '../../site/source_links.mjs';
import { filesOf, ROOT, repeated } from './tree.mjs';

test('pages have the address of their place', () => {
  assert.equal(slugOf('docs/README.md'), '/');
  assert.equal(slugOf('docs/guides/README.md'), '/guides');
  assert.equal(slugOf('docs/guides/api_keys.md'), '/guides/api_keys');
  assert.equal(slugOf('docs/decisions/0001-login-in-sql.md'), '/decisions/0001-login-in-sql');
  assert.equal(slugOf('README.md'), '/about');
  assert.equal(slugOf('kijko_ext/README.md'), '/kijko_ext');
  assert.equal(slugOf('site/generated/api/rpc.md'), '/api/rpc');
});

test('pages are those of docs and the few that they link', () => {
  for (const path of ['docs/README.md', 'docs/guides/skills.md', 'README.md', 'kijko_ext/README.md']) assert.ok(isPage(ROOT, path), path);
  for (const path of ['docs/none.md', 'supabase/README.md', 'docs/guides', 'docs/reference/skills.schema.json', 'tests/docs/lint.mjs'])
    assert.ok(!isPage(ROOT, path), path);
});

test('no two pages have one address', () => {
  const slugs = filesOf(ROOT)
    .filter((path) => path.endsWith('.md') && isPage(ROOT, path))
    .map(slugOf);
  assert.ok(slugs.length > 100, `${slugs.length} pages`);
  assert.deepEqual(repeated(slugs), []);
});

/** The links of a paragraph of docs/guides/skills.md, after the plugin. */
function linked(url) {
  const tree = { children: [{ type: 'link', url, children: [{ type: 'text', value: 'there' }] }] };
  sourceLinks({ root: ROOT, isPage })(tree, { path: `${ROOT}docs/guides/skills.md` });
  return tree.children[0].url ?? tree.children[0].value;
}

test('links to pages stay, those to sources become text, those to nothing fail', () => {
  assert.equal(linked('habits.md#pause'), 'habits.md#pause');
  assert.equal(linked('../internals'), '../internals/README.md');
  assert.equal(linked('../../CONTRIBUTING.md'), '../../CONTRIBUTING.md');
  assert.equal(linked('https://example.com/a.md'), 'https://example.com/a.md');
  assert.equal(linked('#here'), '#here');
  assert.equal(linked('../../sql/platform'), 'there');
  assert.equal(linked('../reference/skills.schema.json'), 'there');
  assert.throws(() => linked('nowhere.md'), /there is no nowhere\.md/);
});

test('inline scripts move into files, data and other scripts stay', () => {
  const kept = [];
  const html = withoutInlineScripts(
    '<script>let a = 1</script><script src="/docs/b.js" defer="defer"></script><script type="application/ld+json">{}</script>',
    (name, text) => kept.push([name, text]),
  );
  assert.equal(kept.length, 1);
  assert.equal(kept[0][1], 'let a = 1');
  assert.match(html, new RegExp(`^<script src="/docs/assets/js/${kept[0][0]}"></script><script src="/docs/b\\.js" defer="defer">`));
  assert.ok(html.endsWith('<script type="application/ld+json">{}</script>'));
});

test('descriptions cannot leave their cell or become a tag', () => {
  const document = {
    tags: [{ name: 'tables', description: 'Rows' }],
    components: { schemas: { notes: { description: '<b> | `x`', properties: { id: { type: 'string', description: 'a | b\n# c' } } } } },
    paths: { '/rest/v1/notes': { get: { tags: ['tables'], security: [], responses: {} } } },
  };
  const [[name, page]] = apiPages(document);
  assert.equal(name, 'tables');
  assert.ok(page.includes('\\<b\\> \\| `x`'));
  assert.ok(page.includes('| `id`, optional | `string` |  | a \\| b # c |'));
});
