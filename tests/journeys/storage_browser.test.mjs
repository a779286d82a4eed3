// A frontend in a browser: upload, list, a signed URL, replace, delete; and that a page which somebody uploaded does not run.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { before, test } from 'node:test';
import { inChromium } from '../chromium.mjs';
import { newTeam } from './domain.mjs';
import { tenantBucket } from './storage_support.mjs';
import { env } from './support.mjs';

const root = join(import.meta.dirname, '../..');
const PAGE = `<!doctype html><meta charset="utf-8"><title>Kijko</title>
<script src="/supabase.js"></script>
<script type="module">
  const steps = {};
  try {
    const { url, anonKey, token, bucket, orgId } = await (await fetch('/settings.json')).json();
    const client = supabase.createClient(url, anonKey, { accessToken: async () => token });
    const files = client.storage.from(bucket);
    const path = orgId + '/browser/note.txt';
    const message = ({ error }) => error?.message ?? null;
    steps.upload = message(await files.upload(path, new File(['from a browser'], 'note.txt', { type: 'text/plain' })));
    steps.list = (await files.list(orgId + '/browser')).data.map((row) => row.name);
    const signed = (await files.createSignedUrl(path, 60)).data.signedUrl;
    const opened = await fetch(signed);
    steps.signed = await opened.text();
    steps.readable = opened.headers.get('etag') !== null;
    steps.replace = message(await files.update(path, new Blob(['replaced'])));
    steps.download = await (await files.download(path)).data.text();
    const page = orgId + '/browser/evil.html';
    await files.upload(page, new Blob(['<script>parent.postMessage("ran", "*")</scr' + 'ipt>'], { type: 'text/html' }));
    const ran = new Promise((resolve) => {
      addEventListener('message', ({ data }) => data === 'ran' && resolve(true));
    });
    const frame = document.createElement('iframe');
    frame.src = (await files.createSignedUrl(page, 60)).data.signedUrl;
    document.body.append(frame);
    // What the page would send comes before what is asked after it.
    await fetch(frame.src).then((answer) => answer.text());
    steps.ran = await Promise.race([ran, new Promise((resolve) => setTimeout(() => resolve(false), 500))]);
    steps.remove = (await files.remove([path, page])).data.length;
    steps.gone = (await files.list(orgId + '/browser')).data;
  } catch (error) {
    steps.error = String(error.stack ?? error);
  }
  await fetch('/result', { method: 'POST', body: JSON.stringify(steps) });
</script>`;

let bucket;
let team;
before(async () => {
  [team, bucket] = [await newTeam(), await tenantBucket()];
});

test('supabase.storage in Chromium', async () => {
  const settings = { url: env.API_URL, anonKey: env.ANON_KEY, token: team.member.token, bucket, orgId: team.orgId };
  const steps = await inChromium({
    '/': ['text/html', PAGE],
    '/supabase.js': ['text/javascript', await readFile(join(root, 'node_modules/@supabase/supabase-js/dist/umd/supabase.js'))],
    '/settings.json': ['application/json', JSON.stringify(settings)],
  });
  assert.deepEqual(steps, {
    upload: null,
    list: ['note.txt'],
    signed: 'from a browser',
    readable: true,
    replace: null,
    download: 'replaced',
    ran: false,
    remove: 2,
    gone: [],
  });
});
