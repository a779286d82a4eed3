// The cases of flags, in the form of cases.mjs. All are the organization's: no project hides them.
import { randomUUID } from 'node:crypto';

export const FLAG_RELATIONS = {
  feature_flags: {
    insert: (t) => ({ org_id: t.org, name: `new-${randomUUID()}` }),
    update: () => ({ description: 'Changed' }),
    // Another one is needed by the first, and stays.
    target: (row) => row.name === 'other',
  },
  flag_constraints: {
    insert: (t) => ({ org_id: t.org, strategy_id: t.strategy, context_name: 'userId', operator: 'IN', values: ['a'] }),
    update: () => ({ values: ['b'] }),
  },
  flag_variants: {
    insert: (t) => ({ org_id: t.org, flag_id: t.flag, name: `new-${randomUUID()}`, weight: 1 }),
    update: () => ({ weight: 2 }),
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
  'record_flag_evaluations(toggles,environment,application)': { call: () => ({ toggles: { matrix: { yes: 1, no: 0 } } }) },
  'register_flag_application(application,environment)': { call: () => ({ application: { appName: 'matrix', instanceId: 'other' } }) },
  'set_flag_segment(name,constraints,description)': { call: () => ({ name: 'Matrix', constraints: [] }) },
  'stale_flags(environment,org_id)': { call: () => ({}) },
  'set_flag_environment(name,protected)': { call: () => ({ name: 'staging' }) },
  'change_flag(flag,environment,change,reason,apply_at)': {
    call: () => ({ flag: 'matrix', environment: 'development', change: { enabled: true } }),
    'call:protected': () => ({ flag: 'matrix', environment: 'guarded', change: { enabled: true } }),
  },
  'cancel_flag_change(change_id)': { call: (w) => ({ change_id: w.flagChange }) },
};
