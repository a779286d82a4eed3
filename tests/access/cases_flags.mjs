// The cases of flags, in the form of cases.mjs. All are the organization's: no project hides them.
import { randomUUID } from 'node:crypto';

export const FLAG_RELATIONS = {
  feature_flags: {
    insert: (t) => ({ org_id: t.org, name: `new-${randomUUID()}` }),
    update: () => ({ description: 'Changed' }),
    // Another one is needed by the first, and stays.
    target: (row) => row.name === 'other',
  },
  flag_segments: { insert: (t) => ({ org_id: t.org, name: `New ${randomUUID()}` }), update: () => ({ description: 'Changed' }) },
  flag_strategies: {
    insert: (t) => ({ org_id: t.org, flag_id: t.flag, environment: 'production', name: 'default' }),
    update: () => ({ title: 'Changed' }),
  },
  flag_dependencies: {
    insert: (t) => ({ org_id: t.org, flag_id: t.flag, parent_id: t.otherFlag }),
    update: () => ({ enabled: false }),
  },
};

export const FLAG_FUNCTIONS = {
  'flags(context,environment)': { call: () => ({}) },
  'flag_definitions(environment,known_revision)': { call: () => ({}) },
  'record_flag_evaluations(toggles,environment)': { call: () => ({ toggles: { matrix: { yes: 1, no: 0 } } }) },
  'stale_flags(environment)': { call: () => ({}) },
  'set_flag_environment(name,protected)': { call: () => ({ name: 'staging' }) },
  'change_flag(flag,environment,change,reason,apply_at)': {
    call: () => ({ flag: 'matrix', environment: 'development', change: { enabled: true } }),
    'call:protected': () => ({ flag: 'matrix', environment: 'guarded', change: { enabled: true } }),
  },
  'cancel_flag_change(change_id)': { call: (w) => ({ change_id: w.flagChange }) },
};
