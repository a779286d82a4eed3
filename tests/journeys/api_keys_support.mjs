// Clients that call with an API key.
import { createClient } from '@supabase/supabase-js';
import { ok } from './domain.mjs';
import { env, http } from './support.mjs';

/** The documented form of a key (docs/guides/api_keys.md). */
export const FORM = /^kjk_live_[0-9A-Za-z]{38}$/;

class NoRealtime {}

/** Real supabase-js, made with the key as its key. */
export const keyClient = (secret, headers = {}) =>
  createClient(env.API_URL, secret, {
    auth: { persistSession: false, autoRefreshToken: false, detectSessionInUrl: false },
    global: { headers },
    realtime: { transport: NoRealtime },
  });

/** A new key of the person's organization, with its secret. */
export const createKey = (person, fields) =>
  ok(person.client.rpc('create_api_key', { name: 'Key', ...fields }).setHeader('x-org-id', person.orgId));

/** A request by key as curl would send it. */
export const withKey = (secret, method, path, options = {}) =>
  http(method, `/rest/v1${path}`, { ...options, headers: { apikey: '', Authorization: `Bearer ${secret}`, ...options.headers } });
