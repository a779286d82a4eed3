// The cases of billing and VAT, in the form of cases.mjs.

export const BILLING_RELATIONS = {
  // One row of an organization: only the one without rows can get another.
  billing_details: {
    insert: (_, { world }) => ({ org_id: world.bare, kind: 'consumer', name: 'New', country: 'NL' }),
    update: () => ({ name: 'Changed' }),
  },
  // Every organization shares the catalogue, so the cases use rows that the fixture has added to it.
  plans: {
    insert: () => ({ code: 'MATRIX_NEW', name: 'Matrix', rank: 998, rate_per_minute: 60 }),
    update: () => ({ name: 'Changed' }),
    target: (row) => row.code === 'MATRIX',
  },
  plan_limits: {
    insert: () => ({ plan: 'MATRIX', meter: 'matrix_new', period: 'month', amount: 1 }),
    update: () => ({ amount: 2 }),
    target: (row) => row.plan === 'MATRIX' && row.meter === 'matrix',
  },
  prices: {
    insert: () => ({ lookup_key: 'matrix_new', plan: 'MATRIX', recurring_interval: 'year', kind: 'flat', amount_cents: 1 }),
    update: () => ({ amount_cents: 2 }),
    target: (row) => row.lookup_key === 'matrix_monthly',
  },
  features: {
    insert: () => ({ code: 'matrix_new', name: 'Matrix' }),
    update: () => ({ name: 'Changed' }),
    target: (row) => row.code === 'matrix',
  },
  plan_features: {
    insert: () => ({ plan: 'MATRIX', feature: 'matrix_other' }),
    update: () => ({ feature: 'matrix_other' }),
    target: (row) => row.plan === 'MATRIX' && row.feature === 'matrix',
  },
  plan_overrides: {
    insert: (t) => ({ org_id: t.org, meter: 'skills', amount: 1000, reason: 'New', ends_at: '2099-01-01T00:00:00Z' }),
    update: () => ({ reason: 'Changed' }),
  },
};

export const BILLING_FUNCTIONS = {
  'authorize_billing(action,arguments)': {
    call: () => ({ action: 'usage' }),
    'call:write': () => ({ action: 'portal', arguments: { return_url: 'http://127.0.0.1:3000/billing' } }),
  },
  'check_vat_number()': { call: () => ({}) },
  'entitled(feature)': { call: () => ({ feature: 'custom_roles' }) },
  'vat_treatment()': { call: () => ({}) },
};
