// supabase-js as a good client of a rate-limited API: it waits as long as Retry-After says, and says so.
import { createClient } from '@supabase/supabase-js';
import { wait } from './story.mjs';

const MAX_RATE_WAITS = 50;

// Node before 22 has no WebSocket, and supabase-js wants one when it is made; nothing here opens a realtime channel.
class NoRealtime {
  constructor() {
    throw new Error('the demo uses no realtime channel');
  }
}

// Returns the client with what the demo looks at: the last answer's status and headers, and how long the rate limit made it wait.
export function politeClient(url, key, { onWait = () => {}, headers = {}, patient = true } = {}) {
  const seen = { status: 0, headers: new Headers(), waits: 0, waitedSeconds: 0 };

  async function politeFetch(input, init) {
    for (let tries = 0; ; tries += 1) {
      const response = await fetch(input, { ...init, signal: init?.signal ?? AbortSignal.timeout(30_000) });
      seen.status = response.status;
      seen.headers = response.headers;
      if (response.status !== 429 || !patient || tries === MAX_RATE_WAITS) return response;
      const body = await response
        .clone()
        .json()
        .catch(() => ({}));
      if (body.code !== 'rate_limited') return response;
      const seconds = Math.min(Math.max(Number(response.headers.get('retry-after')) || 1, 1), 60);
      seen.waits += 1;
      seen.waitedSeconds += seconds;
      onWait(seen);
      await wait(seconds * 1000);
    }
  }

  const client = createClient(url, key, {
    auth: { persistSession: false, autoRefreshToken: false, detectSessionInUrl: false },
    global: { fetch: politeFetch, headers },
    realtime: { transport: NoRealtime },
  });
  return Object.assign(client, { seen });
}
