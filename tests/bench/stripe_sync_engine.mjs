// npm @supabase/stripe-sync-engine behind the smallest HTTP server, in a process of its own: what tests/bench/stripe.mjs compares with.
import { createServer } from 'node:http';
import { createRequire } from 'node:module';

// Its ES module build looks for its migrations by __dirname, which only CommonJS has.
const { StripeSync, runMigrations } = createRequire(import.meta.url)('@supabase/stripe-sync-engine');

const { SYNC_DATABASE_URL, SYNC_SECRET, SYNC_CONNECTIONS } = process.env;
await runMigrations({ databaseUrl: SYNC_DATABASE_URL, schema: 'stripe' });
const sync = new StripeSync({
  poolConfig: { connectionString: SYNC_DATABASE_URL, max: Number(SYNC_CONNECTIONS) },
  stripeSecretKey: 'sk_test_unused',
  stripeWebhookSecret: SYNC_SECRET,
  // Both would call Stripe; neither side is to wait for a network here.
  backfillRelatedEntities: false,
  autoExpandLists: false,
});

const server = createServer(async (request, response) => {
  try {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    await sync.processWebhook(Buffer.concat(chunks), request.headers['stripe-signature']);
    response.writeHead(200).end('{"received":true}');
  } catch (error) {
    response.writeHead(500).end(String(error));
  }
});
server.listen(0, '127.0.0.1', () => process.send({ port: server.address().port }));
process.on('disconnect', () => process.exit(0));
