// A frontend in a browser: an execution followed to its last word, a chat, presence, a notification, an expired token, a killed service.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { inChromium } from '../chromium.mjs';
import { killRealtimeServices, RealtimeService } from '../realtime_service.mjs';
import { newSkill, newTeam, ok } from './domain.mjs';
import { closeClients, present, realtimeClient, sendFromSql } from './realtime_support.mjs';
import { adminSql, env } from './support.mjs';

const root = join(import.meta.dirname, '../..');
const PAGE = `<!doctype html><meta charset="utf-8"><title>Kijko</title>
<script src="/supabase.js"></script>
<script type="module">
  let body;
  try {
    const { realtime } = await import('/realtime_page.mjs');
    const settings = await (await fetch('/settings.json')).json();
    body = { results: await realtime(supabase.createClient, settings), agent: navigator.userAgent };
  } catch (error) {
    body = { error: String(error.stack ?? error) };
  }
  await fetch('/result', { method: 'POST', body: JSON.stringify(body) });
</script>`;

const WORDS = Array.from({ length: 30 }, (_, n) => `word${n}`).join(' ');

let results;
let team;
before(async () => {
  team = await newTeam();
  const { owner: ada, member: bob, orgId } = team;
  const skill = await newSkill(ada, { prompt_template: `${WORDS} {{ n }}`, parameters: { delay_ms: 3_000 } });
  await ok(ada.client.from('notification_types').insert({ name: 'custom.news', description: 'News' }));
  let instance = await RealtimeService.start();
  let room;
  const settings = {
    url: env.API_URL,
    anonKey: env.ANON_KEY,
    token: ada.token,
    userId: ada.user.id,
    orgId,
    skillId: skill.id,
    instanceUrl: instance.url.replace('http', 'ws'),
  };
  const text = async (file) => readFile(join(root, file));
  const files = {
    '/': ['text/html', PAGE],
    '/supabase.js': ['text/javascript', await text('node_modules/@supabase/supabase-js/dist/umd/supabase.js')],
    '/realtime_page.mjs': ['text/javascript', await text('tests/journeys/realtime_page.mjs')],
    '/settings.json': ['application/json', JSON.stringify(settings)],
  };
  const bobs = realtimeClient({ token: async () => bob.token });
  const actions = {
    '/bob': async ({ topic }) => {
      room = await present(bobs, topic, 'bob', { private: true });
      room.channel.on('broadcast', { event: 'message' }, () =>
        room.channel.send({ type: 'broadcast', event: 'message', payload: { text: 'hello ada' } }),
      );
      await room.channel.track({ typing: true });
    },
    '/bob-goes': () => bobs.removeChannel(room.channel),
    '/notify': () => ok(ada.client.rpc('notify', { type: 'custom.news', title: 'News', user_id: ada.user.id })),
    '/send': ({ topic, payload }) => sendFromSql(topic, 'message', payload),
    '/short-token': async () => {
      const [row] = await adminSql(
        `select kijko.sign_jwt(kijko.verify_jwt($1) || jsonb_build_object('exp', floor(extract(epoch from now()))::bigint + 8)) as token`,
        [ada.token],
      );
      return row;
    },
    '/kill': () => instance.kill(),
    '/start': async () => {
      instance = await RealtimeService.start({ port: instance.port });
    },
  };
  ({ results } = await inChromium(files, actions));
});
after(async () => {
  await closeClients();
  await killRealtimeServices();
});

test('an execution is followed live to its last word', () => {
  assert.equal(results.execution.failed, undefined);
  const { text, statuses, row } = results.execution;
  assert.equal(row.status, 'succeeded');
  // What was written before the end came in pieces; the row has the whole.
  assert.ok(text.startsWith('word'), text);
  assert.ok(JSON.stringify(row.output).includes(text.trim()) && JSON.stringify(row.output).includes('to the last word'));
  assert.equal(statuses.at(-1), 'succeeded');
});

test('a private room has chat and presence', () => {
  assert.equal(results.chat.failed, undefined);
  assert.deepEqual(results.chat, { sent: 'ok', texts: ['hello ada'] });
});

test('a notification arrives on me', () => {
  assert.equal(results.notification.failed, undefined);
  assert.equal(results.notification.ready.event, 'connection_ready');
  assert.equal(results.notification.listed, true);
});

test('an expired token is survived', () => {
  assert.equal(results.expiredToken.failed, undefined);
  assert.deepEqual(results.expiredToken.texts, ['after']);
});

test('a killed service is survived', () => {
  assert.equal(results.killedService.failed, undefined);
  assert.equal(results.killedService.texts.at(-1), 'after');
});
