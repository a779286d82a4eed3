// A server of S3 by another author: moto, of target/tools/python-tests.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { freePort } from '../ports.mjs';
import { until } from '../until.mjs';
import { root } from './stack.mjs';

const PYTHON = join(root, 'target/tools/python-tests/bin/python');

export class S3Server {
  /** Starts one with a bucket. It keeps everything in memory, and asks for no signature. */
  static async start(bucket) {
    assert.ok(existsSync(PYTHON), 'target/tools/python-tests is missing: ./kijko test cli installs it');
    const server = new S3Server();
    const port = await freePort();
    server.endpoint = `http://127.0.0.1:${port}`;
    server.url = `${server.endpoint}/${bucket}`;
    server.child = spawn(PYTHON, ['-m', 'moto.server', '-H', '127.0.0.1', '-p', String(port)], { stdio: 'ignore' });
    await until('the S3 server to answer', () => {
      assert.equal(server.child.exitCode, null, 'it ended at once');
      return fetch(server.endpoint).then(
        (answer) => answer.arrayBuffer(),
        () => false,
      );
    });
    assert.equal((await fetch(server.url, { method: 'PUT' })).status, 200);
    return server;
  }

  async text(query) {
    const answer = await fetch(`${this.url}?${query}`);
    assert.equal(answer.status, 200);
    return answer.text();
  }

  /** Names of all that is stored. */
  keys = async () => [...(await this.text('list-type=2')).matchAll(/<Key>([^<]*)<\/Key>/g)].map(([, key]) => key).sort();

  /** Names of multipart uploads that are neither complete nor aborted. */
  uploads = async () => [...(await this.text('uploads')).matchAll(/<Key>([^<]*)<\/Key>/g)].map(([, key]) => key);

  // Whether requests are signed is looked at, but not by whom.
  as = { Authorization: 'AWS somebody:something' };
  put = (key, body) => fetch(`${this.url}/${key}`, { method: 'PUT', body, headers: this.as });
  delete = (key) => fetch(`${this.url}/${key}`, { method: 'DELETE', headers: this.as });

  async stop() {
    const ended = once(this.child, 'exit');
    this.child.kill();
    await ended;
  }
}
