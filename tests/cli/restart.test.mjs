// ./kijko restart, and that only the call itself agrees to a loss of data.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { kijko, letRequestsRollBack, pidOf, requestsRollBack, root } from './stack.mjs';

const SERVICES = ['rest', 'login', 'sidecar', 'realtime', 'storage', 'caddy'];

describe('restart', () => {
  it('of one part starts this one anew, leaves the others, and waits until it answers', async () => {
    const former = SERVICES.map(pidOf);
    await letRequestsRollBack();
    const { code, stderr } = await kijko(['restart', 'rest']);
    assert.equal(code, 0, stderr);
    assert.equal(await requestsRollBack(), false);
    const now = SERVICES.map(pidOf);
    assert.notEqual(now[0], former[0]);
    assert.deepEqual(now.slice(1), former.slice(1));
    assert.equal((await kijko(['status'])).code, 0);
  });

  it('of everything starts all parts anew', async () => {
    const former = SERVICES.map(pidOf);
    const { code, stderr } = await kijko(['restart']);
    assert.equal(code, 0, stderr);
    for (const [at, name] of SERVICES.entries()) assert.notEqual(pidOf(name), former[at], name);
    assert.equal((await kijko(['status'])).code, 0);
  });

  it('of Postgres leaves the other parts running, and they find it again', async () => {
    const former = SERVICES.map(pidOf);
    const { code, stderr } = await kijko(['restart', 'postgres']);
    assert.equal(code, 0, stderr);
    assert.deepEqual(SERVICES.map(pidOf), former);
    assert.equal((await kijko(['status'])).code, 0);
  });

  it('starts a part that was killed', async () => {
    process.kill(pidOf('caddy'), 'SIGKILL');
    assert.equal((await kijko(['restart', 'caddy'])).code, 0);
    assert.equal((await kijko(['status'])).code, 0);
  });

  for (const args of [['nobody'], ['rest', 'login']]) {
    it(`restart ${args.join(' ')} is misuse`, async () => assert.equal((await kijko(['restart', ...args])).code, 2));
  }
});

describe('reset', () => {
  let folder;
  const reset = (environment) =>
    new Promise((resolve) => {
      const env = { ...process.env, KIJKO_HOME: path.join(folder, 'home'), KIJKO_API_PORT: '54000', ...environment };
      execFile(path.join(folder, 'kijko'), ['reset'], { env, timeout: 60_000 }, (error, _stdout, stderr) =>
        resolve({ code: error ? error.code : 0, stderr }),
      ).stdin.end();
    });
  const data = () => fs.existsSync(path.join(folder, 'home/data/PG_VERSION'));

  before(() => {
    folder = fs.mkdtempSync('/var/tmp/kijko-reset-');
    fs.chmodSync(folder, 0o755);
    for (const entry of ['kijko', 'scripts']) fs.cpSync(path.join(root, entry), path.join(folder, entry), { recursive: true });
    fs.mkdirSync(path.join(folder, 'home/data'), { recursive: true });
    fs.writeFileSync(path.join(folder, 'home/data/PG_VERSION'), '15\n');
    fs.writeFileSync(path.join(folder, '.env'), 'KIJKO_YES=1\nexport KIJKO_YES="1"\n');
  });
  after(() => fs.rmSync(folder, { recursive: true, force: true }));

  it('is not answered by KIJKO_YES=1 in .env, without a terminal', async () => {
    const { code, stderr } = await reset({ KIJKO_YES: undefined });
    assert.equal(code, 1, stderr);
    assert.match(stderr, /nothing was changed/);
    assert.ok(data());
  });

  it('is answered by the environment of the call', async () => {
    // It goes on to `up`, which finds no compiler here.
    const bin = path.join(folder, 'bin');
    fs.mkdirSync(bin);
    for (const tool of fs.readdirSync('/usr/bin'))
      if (!/^(cargo|node|npm)/.test(tool)) fs.symlinkSync(`/usr/bin/${tool}`, path.join(bin, tool));
    for (const tool of ['setpriv', 'getent'])
      if (!fs.existsSync(path.join(bin, tool))) fs.symlinkSync(`/bin/${tool}`, path.join(bin, tool));
    const { code, stderr } = await reset({ KIJKO_YES: '1', PATH: bin });
    assert.equal(code, 1, stderr);
    assert.match(stderr, /Rust is missing/);
    assert.ok(!data());
  });
});
