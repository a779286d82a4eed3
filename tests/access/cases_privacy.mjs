// The cases of accounts and privacy, in the form of cases.mjs. Requests are a person's own; with an organization they are about its members.
import { randomUUID } from 'node:crypto';

export const PRIVACY_FUNCTIONS = {
  'delete_account()': { call: () => ({}) },
  'list_sessions()': { call: () => ({}) },
  'request_export(org_id,user_id)': {
    call: () => ({}),
    'call:organization': (w) => ({ org_id: w.org }),
    'call:colleague': (w) => ({ org_id: w.org, user_id: w.people.colleague.id }),
  },
  'request_erasure(org_id,user_id)': {
    call: () => ({}),
    'call:colleague': (w) => ({ org_id: w.org, user_id: w.people.colleague.id }),
  },
  'confirm_erasure(request_id,code)': { call: () => ({ request_id: randomUUID(), code: '1' }) },
  'cancel_erasure(request_id)': { call: () => ({ request_id: randomUUID() }) },
  'open_export(request_id)': { call: () => ({ request_id: randomUUID() }) },
  'claim_export(token)': { call: () => ({ token: 'x' }) },
  'list_privacy_requests()': { call: () => ({}) },
  'record_consent(purpose,version,granted)': { call: () => ({ purpose: 'matrix', version: '1', granted: true }) },
  'list_consents()': { call: () => ({}) },
};
