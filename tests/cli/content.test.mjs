// ./kijko content: what the command passes on. What it does is in tests/journeys/topics.test.mjs.
import assert from 'node:assert/strict';
import { tmpdir } from 'node:os';
import { describe, it } from 'node:test';
import { kijko } from './stack.mjs';

describe('content', () => {
  it('asks the stack that KIJKO_URL names, and hands its exit code on', async () => {
    const misused = await kijko(['content', 'sing', '.'], { KIJKO_API_KEY: 'kjk_live_x' });
    assert.deepEqual([misused.code, /content import DIR/.test(misused.stderr)], [2, true], misused.stderr);
    const unknown = await kijko(['content', 'import', '/nonexistent'], { KIJKO_API_KEY: 'kjk_live_x', KIJKO_URL: '' });
    assert.deepEqual([unknown.code, /no such folder/.test(unknown.stderr)], [2, true], unknown.stderr);
    const bare = await kijko(['content', 'import', tmpdir()], { KIJKO_API_KEY: '' });
    assert.deepEqual([bare.code, /KIJKO_API_KEY is not set/.test(bare.stderr)], [2, true], bare.stderr);
  });
});
