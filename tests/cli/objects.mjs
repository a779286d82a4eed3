// Objects of the test stack, as the service key: a bucket of a test's own, and requests to it.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { asPostgres } from './stack.mjs';

/** A bucket on a stack: the one under test, or one with these variables of `status -o env`. */
export class Bucket {
  constructor(stack = process.env, name = `cli-${randomUUID()}`) {
    this.stack = stack;
    this.name = name;
  }

  static async make() {
    const bucket = new Bucket();
    await asPostgres((client) => client.query('insert into storage.buckets (id, name) values ($1, $1)', [bucket.name]));
    return bucket;
  }

  /** The same bucket on another stack. */
  on = (stack) => new Bucket(stack, this.name);

  request(method, name, { body, headers = {}, ...more } = {}) {
    return fetch(`${this.stack.API_URL}/storage/v1/object/${this.name}/${name}`, {
      method,
      body,
      headers: {
        Authorization: `Bearer ${this.stack.SERVICE_ROLE_KEY}`,
        ...(body !== undefined && { 'Content-Type': 'application/octet-stream' }),
        ...headers,
      },
      ...more,
    });
  }

  async put(name, body) {
    const answer = await this.request('PUT', name, { body });
    assert.equal(answer.status, 200, await answer.text());
  }

  async delete(name) {
    const answer = await this.request('DELETE', name);
    assert.equal(answer.status, 200, await answer.text());
  }

  /** The bytes, or the status that refuses them. */
  async get(name, headers = {}) {
    const answer = await this.request('GET', name, { headers });
    const bytes = Buffer.from(await answer.arrayBuffer());
    return answer.ok ? bytes : answer.status;
  }

  /** Where the bytes of an object lie. */
  async version(name) {
    const { rows } = await asPostgres((client) =>
      client.query('select version from storage.objects where bucket_id = $1 and name = $2', [this.name, name]),
    );
    return rows[0]?.version;
  }

  remove = () =>
    asPostgres(async (client) => {
      await client.query(`set storage.allow_delete_query = 'true'`);
      await client.query('delete from storage.objects where bucket_id = $1', [this.name]);
      await client.query('delete from storage.buckets where id = $1', [this.name]);
    });
}

/** Below the place of all objects. */
export const blob = (version) => `${version.slice(0, 2)}/${version.slice(2, 4)}/${version}`;
