// Runs in a browser: what a frontend does with realtime, with the latest supabase-js and nothing else. Each step returns what it saw.

const act = async (name, body = null) => {
  const response = await fetch(`/${name}`, { method: 'POST', body: JSON.stringify(body) });
  const answer = await response.json();
  if (answer?.failed) throw new Error(`${name}: ${answer.failed}`);
  return answer;
};

async function until(what, probe) {
  for (const end = Date.now() + 40_000; Date.now() < end; await new Promise((resolve) => setTimeout(resolve, 50))) {
    const found = await probe();
    if (found) return found;
  }
  throw new Error(`waited for ${what}`);
}

export async function realtime(createClient, { url, anonKey, token, userId, orgId, skillId, instanceUrl }) {
  let current = token;
  const client = createClient(url, anonKey, { accessToken: async () => current });

  function listen(supabase, topic, config = {}) {
    const log = { events: [], states: [], channel: supabase.channel(topic, { config: { private: true, ...config } }) };
    log.channel.on('broadcast', { event: '*' }, ({ event, payload }) => log.events.push({ event, payload }));
    log.channel.on('presence', { event: 'sync' }, () => {});
    log.joined = async () => {
      await supabase.realtime.setAuth();
      log.channel.subscribe((status, error) => log.states.push(error ? `${status} ${error.message}` : status));
      await until(`${topic} to be joined`, () => log.states.at(-1) === 'SUBSCRIBED');
      return log;
    };
    return log;
  }

  async function execution() {
    const { data, error } = await client.rpc('execute_skill', { skill_id: skillId, input: { n: 'to the last word' } });
    if (error) throw new Error(JSON.stringify(error));
    const run = await listen(client, `execution:${data.id}`).joined();
    const row = async () => (await client.from('executions').select('status, output').eq('id', data.id).single()).data;
    await until('the end', () => run.events.some(({ event, payload }) => event === 'execution' && payload.status === 'succeeded'));
    const pieces = run.events.filter(({ event }) => event === 'execution_text').map(({ payload }) => payload.text);
    const statuses = run.events.filter(({ event }) => event === 'execution').map(({ payload }) => payload.status);
    await client.removeChannel(run.channel);
    return { text: pieces.join(''), statuses, row: await row() };
  }

  async function chat() {
    const topic = `room:${orgId}:general`;
    const room = await listen(client, topic, { presence: { key: userId, enabled: true }, broadcast: { ack: true } }).joined();
    await room.channel.track({ typing: false });
    await act('bob', { topic });
    await until('bob to come', () => room.channel.presenceState().bob);
    const sent = await room.channel.send({ type: 'broadcast', event: 'message', payload: { text: 'hello bob' } });
    await until('an answer', () => room.events.some(({ payload }) => payload.text === 'hello ada'));
    await act('bob-goes');
    await until('bob to go', () => !room.channel.presenceState().bob);
    return { sent, texts: room.events.map(({ payload }) => payload.text) };
  }

  async function notification() {
    const me = await listen(client, 'me').joined();
    await act('notify');
    const { payload } = await until('the notification', () => me.events.find(({ event }) => event === 'notification'));
    const { data } = await client.rpc('list_notifications', { limit: 5 });
    return { ready: me.events[0], listed: data.some(({ id }) => id === payload.notification_id) };
  }

  async function expiredToken() {
    current = (await act('short-token')).token;
    const other = createClient(url, anonKey, { accessToken: async () => current, realtime: { heartbeatIntervalMs: 1_000 } });
    const room = await listen(other, `room:${orgId}:expired`).joined();
    await until('the token to expire', () => room.states.some((status) => status.startsWith('CHANNEL_ERROR')));
    current = token;
    await until('the channel to come back', () => room.states.at(-1) === 'SUBSCRIBED');
    await act('send', { topic: `room:${orgId}:expired`, payload: { text: 'after' } });
    await until('a message', () => room.events.length > 0);
    return { texts: room.events.map(({ payload }) => payload.text) };
  }

  async function killedService() {
    // The browser's own WebSocket, to a service that the test may kill.
    class ToInstance extends WebSocket {
      constructor(address, ...rest) {
        super(address.replace(/^.*\/realtime\/v1/, instanceUrl), ...rest);
      }
    }
    const other = createClient(url, anonKey, { accessToken: async () => current, realtime: { transport: ToInstance } });
    const room = await listen(other, `room:${orgId}:killed`).joined();
    await act('kill');
    await until('the socket to be lost', () => !other.realtime.isConnected());
    await act('send', { topic: `room:${orgId}:killed`, payload: { text: 'meanwhile' } });
    await act('start');
    const joins = room.states.length;
    await until('the channel to come back', () => room.states.length > joins && room.states.at(-1) === 'SUBSCRIBED');
    await act('send', { topic: `room:${orgId}:killed`, payload: { text: 'after' } });
    await until('a message', () => room.events.some(({ payload }) => payload.text === 'after'));
    return { texts: room.events.map(({ payload }) => payload.text) };
  }

  const results = {};
  for (const [name, step] of Object.entries({ execution, chat, notification, expiredToken, killedService })) {
    results[name] = await step().catch((error) => ({ failed: String(error.stack ?? error) }));
  }
  return results;
}
