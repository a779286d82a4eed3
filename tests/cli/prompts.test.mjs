// ./kijko prompts: what the command passes on. What it does is in tests/journeys/prompts_files.test.mjs.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { kijko } from './stack.mjs';

describe('prompts', () => {
  it('asks this stack unless KIJKO_URL names another, and hands its exit code on', async () => {
    const misused = await kijko(['prompts', 'sing', '.'], { KIJKO_API_KEY: 'kjk_live_x' });
    assert.deepEqual([misused.code, /push, pull or diff/.test(misused.stderr)], [2, true], misused.stderr);
    const unknown = await kijko(['prompts', 'diff', '/nonexistent'], { KIJKO_API_KEY: 'kjk_live_x', KIJKO_URL: '' });
    assert.deepEqual([unknown.code, /^prompts: /.test(unknown.stderr)], [1, true], unknown.stderr);
    const away = await kijko(['prompts', 'diff', '/nonexistent'], { KIJKO_API_KEY: 'kjk_live_x', KIJKO_URL: 'http://127.0.0.1:1' });
    assert.deepEqual([away.code, /127\.0\.0\.1:1 does not answer/.test(away.stderr)], [1, true], away.stderr);
  });
});
