// Unleash's specification of its clients: its cases, and what a client knows in each.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

const FOLDER = join(dirname(createRequire(import.meta.url).resolve('@unleash/client-specification/package.json')), 'specifications');
const read = (name) => JSON.parse(readFileSync(join(FOLDER, name), 'utf8'));

export const SPECIFICATIONS = read('index.json').map((name) => ({ name, ...read(name) }));

/** What a client knows after these events. */
export function stateOf({ state }) {
  if (!state.events) return state;
  const known = { version: 2, features: [], segments: [] };
  const replace = (list, key, value, item) => [...list.filter((other) => other[key] !== value), ...(item ? [item] : [])];
  for (const event of state.events) {
    if (event.type === 'hydration') Object.assign(known, { features: event.features, segments: event.segments });
    if (event.type === 'feature-updated') known.features = replace(known.features, 'name', event.feature.name, event.feature);
    if (event.type === 'feature-removed') known.features = replace(known.features, 'name', event.featureName);
    if (event.type === 'segment-updated') known.segments = replace(known.segments, 'id', event.segment.id, event.segment);
    if (event.type === 'segment-removed') known.segments = replace(known.segments, 'id', event.segmentId);
  }
  return known;
}

export const OFF = { name: 'disabled', enabled: false, feature_enabled: false };

export const asExpected = ({ name, payload, enabled, feature_enabled: on }) => ({
  name,
  enabled,
  feature_enabled: on,
  ...(payload && { payload }),
});
