// ./kijko mail: what a developer without a mail server sees, and what changes with one.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { newEmail, newUser } from '../journeys/support.mjs';
import { MailServer } from '../smtp.mjs';
import { until } from '../until.mjs';
import { asPostgres, kijko, pidOf } from './stack.mjs';

const row = async (text, values) => (await asPostgres((client) => client.query(text, values))).rows[0];
const mailTo = (address) => row('select id, status, created_at from private.mail_messages where recipient = $1', [address]);

describe('./kijko mail', () => {
  const address = newEmail('invited');
  let token;
  let id;
  before(async () => {
    const { client } = await newUser();
    const { data, error } = await client.rpc('invite_member', { email: address });
    assert.equal(error, null);
    token = data.token;
    ({ id } = await mailTo(address));
  });

  it('lists mails without their links', async () => {
    const { code, stdout } = await kijko(['mail']);
    assert.equal(code, 0);
    assert.match(stdout, new RegExp(`${id} .* kept .* invitation .* ${address}`));
    assert.ok(!stdout.includes(token));
  });

  it('shows one with its link', async () => {
    const { code, stdout } = await kijko(['mail', id]);
    assert.equal(code, 0);
    assert.match(stdout, new RegExp(`^To: +${address}$`, 'm'));
    assert.match(stdout, new RegExp(`^Link: +http://\\S+/invitations\\?token=${token}$`, 'm'));
  });

  it('sends nothing without a mail server', async () => {
    const { code, stderr } = await kijko(['mail', 'send', id]);
    assert.equal(code, 1);
    assert.match(stderr, /SMTP_URL/);
  });

  for (const args of [['nobody'], ['list', 'all'], ['send'], ['send', "x'; drop table t"], [`${'0'.repeat(8)}'`]]) {
    it(`mail ${args.join(' ')} is misuse`, async () => assert.equal((await kijko(['mail', ...args])).code, 2));
  }
  it('a mail that does not exist fails', async () => {
    const unknown = '00000000-0000-4000-8000-000000000000';
    assert.equal((await kijko(['mail', unknown])).code, 1);
    assert.equal((await kijko(['mail', 'send', unknown])).code, 1);
  });

  it('an address of the frontend that is none is misuse', async () => {
    for (const site of ['app.example.com', 'ftp://app.example.com', 'https://app.example.com/"']) {
      assert.equal((await kijko(['status'], { KIJKO_SITE_URL: site })).code, 2, site);
    }
  });
});

describe('with SMTP_URL', () => {
  let server;
  before(async () => {
    server = await new MailServer({ allowInsecureAuth: true }).start();
  });
  after(async () => {
    await restart({ SMTP_URL: '' });
    await server.stop();
  });

  async function restart(variables) {
    process.kill(pidOf('sidecar'), 'SIGTERM');
    await until('the sidecar to end', async () => /^sidecar +crashed/m.test((await kijko(['status'])).stdout));
    const { code, stderr } = await kijko(['up'], variables);
    assert.equal(code, 0, stderr);
  }

  it('new mails are sent, kept ones stay until they are sent one by one', async () => {
    const { client } = await newUser();
    const invite = async (email) => assert.equal((await client.rpc('invite_member', { email })).error, null);
    const [kept, other, sent] = ['kept', 'other', 'sent'].map((name) => newEmail(name));
    await invite(kept);
    await invite(other);
    await restart({
      SMTP_URL: `smtp://127.0.0.1:${server.port}`,
      KIJKO_SMTP_STARTTLS: 'off',
      KIJKO_MAIL_FROM: 'no-reply@kijko.test',
      KIJKO_SITE_URL: 'https://app.kijko.test/',
    });
    await invite(sent);
    await until('the new mail to be sent', async () => (await mailTo(sent)).status === 'sent');
    // Schedules may mail other tests' people meanwhile.
    const accepted = server.accepted.filter(({ to }) => [kept, other, sent].includes(to[0]));
    assert.deepEqual(
      accepted.map(({ to }) => to),
      [[sent]],
    );
    assert.match(accepted[0].text, /https:\/\/app\.kijko\.test\/invitations/);

    assert.equal((await kijko(['mail', 'send', (await mailTo(kept)).id])).code, 0);
    await until('the kept mail to be sent', async () => (await mailTo(kept)).status === 'sent');
    assert.equal((await mailTo(other)).status, 'kept');
    const { stdout } = await kijko(['mail', (await mailTo(sent)).id]);
    assert.match(stdout, /^Status: +sent$/m);
    assert.doesNotMatch(stdout, /token=/, 'the link of a sent mail is gone');
  });

  it('without it again, mails are kept', async () => {
    await restart({ SMTP_URL: '' });
    const { client } = await newUser();
    const address = newEmail('again');
    assert.equal((await client.rpc('invite_member', { email: address })).error, null);
    assert.equal((await mailTo(address)).status, 'kept');
  });
});
