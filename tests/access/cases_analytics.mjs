// The cases of product events and their queries, in the form of cases.mjs. All are the organization's: no project hides them.
import { randomUUID } from 'node:crypto';

const FROM = '2026-01-01T00:00:00Z';
const UNTIL = '2026-01-02T00:00:00Z';
// One that no other caller has asked: an answer would come from the cache, and write nothing.
const series = () => ({ event: `Ordered ${randomUUID()}`, from: FROM, until: UNTIL });

export const ANALYTICS_RELATIONS = {
  events: {
    insert: (t) => ({ org_id: t.org, type: 'track', name: 'New', person_id: t.person, message_id: randomUUID() }),
    update: () => ({ name: 'Changed' }),
  },
  event_intake: { insert: (t) => ({ org_id: t.org, hour: FROM }), update: () => ({ accepted: 9 }) },
  quarantined_events: { insert: (t) => ({ org_id: t.org, code: 'x', problem: 'x' }), update: () => ({ code: 'y' }) },
  persons: { insert: (t) => ({ org_id: t.org, user_id: randomUUID() }), update: () => ({ traits: {} }) },
  event_properties: {
    insert: (t) => ({ org_id: t.org, event_name: 'New', property: 'colour', kind: 'dimension' }),
    update: () => ({ kind: 'measure' }),
  },
  dashboards: { insert: (t) => ({ org_id: t.org, name: `New ${randomUUID()}` }), update: () => ({ description: 'Changed' }) },
  analytics_queries: {
    insert: (t) => ({ org_id: t.org, dashboard_id: t.dashboard, name: 'New', kind: 'series', query: series() }),
    update: () => ({ name: 'Changed' }),
  },
};

export const ANALYTICS_FUNCTIONS = {
  'track(events)': {
    call: () => ({ events: [{ type: 'track', event: 'New', userId: 'matrix', messageId: randomUUID() }] }),
  },
  'analytics_series(query)': { call: () => ({ query: series() }) },
  'analytics_funnel(query)': { call: () => ({ query: { steps: [{ event: `Ordered ${randomUUID()}` }], from: FROM, until: UNTIL } }) },
  'analytics_retention(query)': { call: () => ({ query: { start: { event: `Ordered ${randomUUID()}` }, from: FROM, until: UNTIL } }) },
  // One who is not in the rows, which others read.
  'delete_analytics_person(user_id,anonymous_id,person_id)': { call: () => ({ user_id: randomUUID() }) },
  'run_analytics_query(query_id)': { call: (w) => ({ query_id: w.query }) },
};
