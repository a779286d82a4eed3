// The conformance steps under the Node.js that runs this; prints their results as JSON. Before Node 22 there is no WebSocket, and
// supabase-js takes the one of `ws`.
import { createClient } from '@supabase/supabase-js';
import { conformance } from './conformance.mjs';

const { API_URL: url, ANON_KEY: anonKey, FUNCTION_NAME: functionName } = process.env;
const options = {};
if (typeof WebSocket === 'undefined') options.realtime = { transport: (await import('ws')).default };
console.log(
  JSON.stringify({
    version: process.version,
    websocket: typeof WebSocket,
    results: await conformance(createClient, { url, anonKey, functionName }, options),
  }),
);
