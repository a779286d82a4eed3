// A fake of Stripe's API on this machine: its paths, shapes and errors. Parameters are checked by the types that Stripe publishes
// (interface.mjs); idempotency keys repeat their answer, lists have pages, and faults come on command. What payers do,
// and what time does to subscriptions, is in account.mjs.
import { createServer } from 'node:http';
import { Account } from './account.mjs';
import { API_VERSION, parseForm, problem } from './interface.mjs';
import { missing, StripeFault } from './objects.mjs';

/** Method and path → interface of its parameters, and what it does. `:id` is a part of the path. */
const ENDPOINTS = [
  ['GET /v1/customers', 'Customers', 'CustomerListParams', (a, _, q) => a.list('customer', q)],
  ['POST /v1/customers', 'Customers', 'CustomerCreateParams', (a, _, q) => a.createCustomer(q)],
  ['GET /v1/customers/:id', 'Customers', 'CustomerRetrieveParams', (a, id) => a.find('customer', id)],
  ['POST /v1/customers/:id', 'Customers', 'CustomerUpdateParams', (a, id, q) => a.updateCustomer(id, q)],
  ['DELETE /v1/customers/:id', 'Customers', 'CustomerDeleteParams', (a, id) => a.deleteCustomer(id)],
  [
    'GET /v1/customers/:id/payment_methods',
    'Customers',
    'CustomerListPaymentMethodsParams',
    (a, id, q) => a.list('payment_method', q, (it) => it.customer === id),
  ],
  ['POST /v1/customers/:id/tax_ids', 'Customers', 'CustomerCreateTaxIdParams', (a, id, q) => a.createTaxId(id, q)],
  ['DELETE /v1/customers/[^/]+/tax_ids/:id', 'Customers', 'CustomerDeleteTaxIdParams', (a, id) => a.deleteTaxId(id)],
  ['POST /v1/checkout/sessions/:id/expire', 'Checkout/Sessions', 'Checkout.SessionExpireParams', (a, id) => a.expireSession(id)],
  ['POST /v1/credit_notes', 'CreditNotes', 'CreditNoteCreateParams', (a, _, q) => a.createCreditNote(q)],
  ['GET /v1/products/:id', 'Products', 'ProductRetrieveParams', (a, id) => a.find('product', id)],
  ['POST /v1/products', 'Products', 'ProductCreateParams', (a, _, q) => a.createProduct(q)],
  ['GET /v1/prices', 'Prices', 'PriceListParams', (a, _, q) => a.listPrices(q)],
  ['POST /v1/prices', 'Prices', 'PriceCreateParams', (a, _, q) => a.createPrice(q)],
  ['POST /v1/prices/:id', 'Prices', 'PriceUpdateParams', (a, id, q) => a.updatePrice(id, q)],
  ['GET /v1/billing/meters', 'Billing/Meters', 'Billing.MeterListParams', (a, _, q) => a.list('billing.meter', q)],
  ['POST /v1/billing/meters', 'Billing/Meters', 'Billing.MeterCreateParams', (a, _, q) => a.createMeter(q)],
  ['POST /v1/billing/meter_events', 'Billing/MeterEvents', 'Billing.MeterEventCreateParams', (a, _, q) => a.createMeterEvent(q)],
  [
    'GET /v1/billing/meters/:id/event_summaries',
    'Billing/Meters',
    'Billing.MeterListEventSummariesParams',
    (a, id, q) => a.summarize(id, q),
  ],
  ['POST /v1/tax_rates', 'TaxRates', 'TaxRateCreateParams', (a, _, q) => a.createTaxRate(q)],
  [
    'GET /v1/billing_portal/configurations',
    'BillingPortal/Configurations',
    'BillingPortal.ConfigurationListParams',
    (a, _, q) => a.list('billing_portal.configuration', q),
  ],
  [
    'POST /v1/billing_portal/configurations',
    'BillingPortal/Configurations',
    'BillingPortal.ConfigurationCreateParams',
    (a, _, q) => a.add('billing_portal.configuration', 'bpc', { ...q, active: true }),
  ],
  [
    'POST /v1/billing_portal/sessions',
    'BillingPortal/Sessions',
    'BillingPortal.SessionCreateParams',
    (a, _, q) => a.createPortalSession(q),
  ],
  ['POST /v1/checkout/sessions', 'Checkout/Sessions', 'Checkout.SessionCreateParams', (a, _, q) => a.createSession(q)],
  ['GET /v1/checkout/sessions/:id', 'Checkout/Sessions', 'Checkout.SessionRetrieveParams', (a, id) => a.find('checkout.session', id)],
  ['GET /v1/subscriptions', 'Subscriptions', 'SubscriptionListParams', (a, _, q) => a.listSubscriptions(q)],
  ['GET /v1/subscriptions/:id', 'Subscriptions', 'SubscriptionRetrieveParams', (a, id) => a.find('subscription', id)],
  ['POST /v1/subscriptions/:id', 'Subscriptions', 'SubscriptionUpdateParams', (a, id, q) => a.updateSubscription(id, q)],
  ['DELETE /v1/subscriptions/:id', 'Subscriptions', 'SubscriptionCancelParams', (a, id) => a.cancelSubscription(id)],
  ['POST /v1/subscription_items/:id', 'SubscriptionItems', 'SubscriptionItemUpdateParams', (a, id, q) => a.updateItem(id, q)],
  [
    'GET /v1/invoices',
    'Invoices',
    'InvoiceListParams',
    (a, _, q) => a.list('invoice', q, (it) => !q.customer || it.customer === q.customer),
  ],
  ['POST /v1/invoices/create_preview', 'Invoices', 'InvoiceCreatePreviewParams', (a, _, q) => a.preview(q)],
  ['POST /v1/invoices', 'Invoices', 'InvoiceCreateParams', (a, _, q) => a.createInvoice(q)],
  ['GET /v1/invoices/:id', 'Invoices', 'InvoiceRetrieveParams', (a, id) => a.find('invoice', id)],
  [
    'GET /v1/invoiceitems',
    'InvoiceItems',
    'InvoiceItemListParams',
    (a, _, q) => a.list('invoiceitem', q, (it) => it.customer === q.customer),
  ],
  ['POST /v1/invoiceitems', 'InvoiceItems', 'InvoiceItemCreateParams', (a, _, q) => a.createInvoiceItem(q)],
].map(([route, file, parameters, run]) => {
  const [method, path] = route.split(' ');
  return { method, pattern: new RegExp(`^${path.replace(/:id/, '([^/]+)')}$`), file, parameters, run };
});

/** Every interface that the fake checks by, for a test that they exist. */
export const INTERFACES = ENDPOINTS.map(({ file, parameters }) => [file, parameters]);

/** The fake on a port of this machine. `webhook`: {url, secret} of the stack that gets its events. */
export async function startStripe({ port = 0, key, webhook }) {
  const account = new Account(webhook);
  const faults = [];
  const requests = [];
  const answers = new Map();
  const server = createServer((request, response) => {
    handle(request, response).catch((error) => send(response, new StripeFault(500, 'api_error', '', error.stack)));
  });

  async function handle(request, response) {
    const body = await text(request);
    const [path, query = ''] = request.url.split('?');
    const seen = { method: request.method, path, parameters: parseForm(request.method === 'GET' ? query : body), headers: request.headers };
    requests.push(seen);
    const idempotencyKey = request.headers['idempotency-key'];
    const fault = faults.findIndex((each) => !each.path || each.path.test(path));
    if (fault >= 0) {
      const [{ status, after, silent }] = faults.splice(fault, 1);
      // The change is made and its answer is lost.
      if (after) await answer(seen, idempotencyKey, body);
      if (silent) return request.socket.destroy();
      const code = { 409: 'lock_timeout', 429: 'rate_limit' }[status] ?? '';
      return send(response, new StripeFault(status, 'api_error', code, 'on command'));
    }
    send(response, await answer(seen, idempotencyKey, body));
  }

  async function answer(seen, idempotencyKey, body) {
    if (seen.headers.authorization !== `Bearer ${key}`)
      return new StripeFault(401, 'invalid_request_error', '', 'Invalid API Key provided');
    if (seen.headers['stripe-version'] !== API_VERSION)
      return new StripeFault(400, 'invalid_request_error', '', 'Invalid Stripe API version');
    const known = seen.method === 'GET' ? undefined : answers.get(idempotencyKey);
    if (known) {
      const same = known.path === seen.path && known.body === body;
      return same
        ? known.value
        : new StripeFault(400, 'idempotency_error', '', 'Keys for idempotent requests can only be used with the same parameters');
    }
    const value = await run(seen).catch((error) => {
      if (error instanceof StripeFault) return error;
      throw error;
    });
    // An endpoint that has not begun to run keeps no answer.
    const began = !(value instanceof StripeFault) || value.began;
    if (idempotencyKey && began && seen.method !== 'GET')
      answers.set(idempotencyKey, { path: seen.path, body, value: structuredClone(value) });
    return value;
  }

  async function run({ method, path, parameters, headers }) {
    for (const endpoint of ENDPOINTS) {
      const [matched, id] = path.match(endpoint.pattern) ?? [];
      if (!matched || method !== endpoint.method) continue;
      const found = problem(endpoint.file, endpoint.parameters, parameters);
      if (found) throw new StripeFault(400, 'invalid_request_error', found.code, found.message, found.param);
      account.idempotencyKey = headers['idempotency-key'];
      try {
        return structuredClone(endpoint.run(account, id && decodeURIComponent(id), parameters));
      } finally {
        account.idempotencyKey = undefined;
      }
    }
    throw missing('URL', `${method}: ${path}`);
  }

  await new Promise((resolve, reject) => server.once('error', reject).listen(port, 'localhost', resolve));
  return {
    account,
    requests,
    url: `http://localhost:${server.address().port}`,
    /** The next request (to a path) ends with a status, or without an answer; `after`: it is done nevertheless. */
    fail: (fault) => faults.push(fault),
    /** Stripe forgets keys after 24 hours. */
    forgetKeys: () => answers.clear(),
    close: () => {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(resolve));
    },
  };
}

async function text(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return Buffer.concat(parts).toString();
}

function send(response, value) {
  const fault = value instanceof StripeFault;
  const body = fault ? { error: { type: value.type, code: value.code || undefined, message: value.message, param: value.param } } : value;
  response
    .writeHead(fault ? value.status : 200, { 'Content-Type': 'application/json', 'Stripe-Version': API_VERSION })
    .end(JSON.stringify(body));
}
