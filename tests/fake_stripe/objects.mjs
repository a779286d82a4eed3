// What the fake of Stripe keeps: objects, their events, which are signed and delivered to the stack's webhook, the catalogue, and use.
import { randomBytes } from 'node:crypto';
import { deliver } from '../journeys/stripe_events.mjs';
import { sum } from './amounts.mjs';
import { API_VERSION } from './interface.mjs';

/** An answer that is an error. `began`: the endpoint ran, so that its idempotency key repeats it. */
export class StripeFault extends Error {
  constructor(status, type, code, message, param, began = false) {
    super(message);
    Object.assign(this, { status, type, code, param, began });
  }
}

export const missing = (kind, id) =>
  new StripeFault(404, 'invalid_request_error', 'resource_missing', `No such ${kind}: '${id}'`, 'id', true);
export const invalid = (param, message) => new StripeFault(400, 'invalid_request_error', '', message, param);

export const values = (object) => Object.values(object ?? {});
export const truth = (value) => value === 'true';

export class Objects {
  constructor(webhook) {
    this.webhook = webhook;
    this.objects = new Map();
    this.meterEvents = [];
    this.events = [];
    this.offset = 0;
    this.deliveries = Promise.resolve();
    /** Of the request that is answered: its events name it. */
    this.idempotencyKey = undefined;
    /** Customers whose payments are refused. */
    this.declining = new Set();
    this.delivering = true;
    /** Ids of events that were delivered. */
    this.seen = new Set();
  }

  /** Delivers what was held back, in any order. */
  async deliverRest(order = (events) => events) {
    for (const event of order(this.events.filter(({ id }) => !this.seen.has(id)))) await this.deliver(event);
  }

  now() {
    return Math.floor(Date.now() / 1000) + this.offset;
  }

  add(object, prefix, fields) {
    const made = {
      id: `${prefix}_1F${randomBytes(8).toString('hex')}`,
      object,
      created: this.now(),
      livemode: false,
      metadata: {},
      ...fields,
    };
    this.objects.set(made.id, made);
    return made;
  }

  find(object, id) {
    const found = this.objects.get(id);
    if (found?.object !== object) throw missing(object, id);
    return found;
  }

  all(object) {
    return [...this.objects.values()].filter((each) => each.object === object);
  }

  /** A page, the newest first. */
  list(object, { limit = '10', starting_after }, keep = () => true) {
    if (Number(limit) < 1 || Number(limit) > 100) throw invalid('limit', 'limit must be 1 to 100');
    let found = this.all(object).filter(keep).reverse();
    if (starting_after) {
      const place = found.findIndex((each) => each.id === starting_after);
      if (place < 0) throw missing(object, starting_after);
      found = found.slice(place + 1);
    }
    return { object: 'list', url: '/v1', data: found.slice(0, Number(limit)), has_more: found.length > Number(limit) };
  }

  emit(type, object, previous_attributes) {
    const event = {
      id: `evt_1F${randomBytes(8).toString('hex')}`,
      object: 'event',
      api_version: API_VERSION,
      created: this.now(),
      livemode: false,
      pending_webhooks: 1,
      request: { id: null, idempotency_key: this.idempotencyKey ?? null },
      type,
      data: { object: structuredClone(object), ...(previous_attributes && { previous_attributes }) },
    };
    this.events.push(event);
    if (this.delivering && this.webhook) this.deliveries = this.deliveries.then(() => this.deliver(event));
    return event;
  }

  async deliver(event) {
    this.seen.add(event.id);
    const answer = await deliver(this.webhook.url, event, this.webhook.secret);
    if (answer.status !== 200) throw new Error(`the webhook answered ${answer.status} ${JSON.stringify(answer.body)}`);
  }

  /** Reports an object that has changed since `before`, with the values that changed as they were, which order events of one second. */
  emitUpdate(type, object, before) {
    const same = (key) => JSON.stringify(before[key]) === JSON.stringify(object[key]);
    const changed = Object.keys(before).filter((key) => !same(key));
    return this.emit(type, object, Object.fromEntries(changed.map((key) => [key, before[key]])));
  }

  /** Until every event so far has been delivered. */
  async delivered() {
    await this.deliveries;
  }

  // ---- customers and the catalogue

  createCustomer({ tax_id_data, ...q }) {
    const empty = (value) => value === '' || (typeof value === 'object' && values(value).some(empty));
    if (empty(q)) throw invalid('', 'You passed an empty string. We assume empty values are an attempt to unset a parameter.');
    const made = this.add('customer', 'cus', { delinquent: false, currency: null, ...q });
    this.emit('customer.created', made);
    for (const each of values(tax_id_data)) this.createTaxId(made.id, each);
    return made;
  }

  createTaxId(customer, q) {
    this.find('customer', customer);
    const made = this.add('tax_id', 'txi', { customer, ...q });
    this.emit('customer.tax_id.created', made);
    return made;
  }

  deleteTaxId(id) {
    const found = this.find('tax_id', id);
    this.objects.delete(id);
    this.emit('customer.tax_id.deleted', found);
    return { id, object: 'tax_id', deleted: true };
  }

  updateCustomer(id, q) {
    const found = this.find('customer', id);
    const before = structuredClone(found);
    // An empty text unsets.
    const unset = (name) => (name === 'metadata' ? {} : null);
    Object.assign(found, Object.fromEntries(Object.entries(q).map(([name, value]) => [name, value === '' ? unset(name) : value])));
    this.emitUpdate('customer.updated', found, before);
    return found;
  }

  deleteCustomer(id) {
    const found = this.find('customer', id);
    for (const each of this.all('subscription')) if (each.customer === id && each.status !== 'canceled') this.cancelSubscription(each.id);
    this.objects.delete(id);
    this.emit('customer.deleted', found);
    return { id, object: 'customer', deleted: true };
  }

  createProduct(q) {
    if (this.objects.has(q.id))
      throw new StripeFault(400, 'invalid_request_error', 'resource_already_exists', 'Product already exists.', 'id');
    const made = this.add('product', 'prod', { active: true, ...q });
    if (q.id) this.objects.set(q.id, made);
    return made;
  }

  listPrices(q) {
    const keys = values(q.lookup_keys);
    return this.list(
      'price',
      q,
      (it) => (keys.length === 0 || keys.includes(it.lookup_key)) && (q.active === undefined || it.active === truth(q.active)),
    );
  }

  createPrice({ transfer_lookup_key, transform_quantity, recurring, unit_amount, ...q }) {
    this.find('product', q.product);
    const owner = this.all('price').find((each) => q.lookup_key && each.lookup_key === q.lookup_key);
    if (owner && !truth(transfer_lookup_key)) throw invalid('lookup_key', 'A price already uses that lookup key.');
    if (recurring?.usage_type === 'metered' && !this.objects.has(recurring.meter)) throw invalid('recurring[meter]', 'needs a meter');
    const made = this.add('price', 'price', {
      active: true,
      type: 'recurring',
      billing_scheme: 'per_unit',
      ...q,
      unit_amount: Number(unit_amount),
      recurring: { interval_count: 1, meter: null, usage_type: 'licensed', ...recurring },
      transform_quantity: transform_quantity ? { ...transform_quantity, divide_by: Number(transform_quantity.divide_by) } : null,
    });
    if (owner) {
      owner.lookup_key = null;
      this.emit('price.updated', owner, { lookup_key: q.lookup_key });
    }
    this.emit('price.created', made);
    return made;
  }

  updatePrice(id, q) {
    const found = this.find('price', id);
    const before = structuredClone(found);
    if (q.active) found.active = truth(q.active);
    this.emitUpdate('price.updated', found, before);
    return found;
  }

  createMeter(q) {
    if (this.all('billing.meter').some((each) => each.event_name === q.event_name)) throw invalid('event_name', 'There is one already.');
    return this.add('billing.meter', 'mtr', { status: 'active', ...q });
  }

  createTaxRate(q) {
    return this.add('tax_rate', 'txr', { active: true, ...q, percentage: Number(q.percentage), inclusive: truth(q.inclusive) });
  }

  // ---- use

  createMeterEvent({ event_name, payload, identifier, timestamp }) {
    if (!this.all('billing.meter').some((each) => each.event_name === event_name)) throw invalid('event_name', 'No meter has this name.');
    if (!/^\d+$/.test(payload.value ?? '')) throw invalid('payload[value]', 'must be a whole number');
    this.find('customer', payload.stripe_customer_id);
    // Identifiers are unique for 24 hours.
    const since = this.now() - 86_400;
    if (this.meterEvents.some((each) => each.identifier === identifier && each.created > since)) {
      throw new StripeFault(400, 'invalid_request_error', 'duplicate_meter_event', `An event already exists with identifier ${identifier}`);
    }
    const made = {
      object: 'billing.meter_event',
      event_name,
      payload,
      identifier,
      created: this.now(),
      timestamp: Number(timestamp ?? this.now()),
      livemode: false,
    };
    this.meterEvents.push(made);
    return made;
  }

  usedOf(meter, customer, from, to) {
    return sum(
      this.meterEvents
        .filter(
          (it) =>
            it.event_name === meter.event_name && it.payload.stripe_customer_id === customer && it.timestamp >= from && it.timestamp < to,
        )
        .map((it) => Number(it.payload.value)),
    );
  }

  summarize(id, { customer, start_time, end_time }) {
    const meter = this.find('billing.meter', id);
    const [from, to] = [Number(start_time), Number(end_time)];
    if (from % 60 !== 0 || to % 60 !== 0) throw invalid('start_time', 'must be aligned with minute boundaries');
    const data = [
      {
        id: 'mtrusg_1',
        object: 'billing.meter_event_summary',
        aggregated_value: this.usedOf(meter, customer, from, to),
        start_time: from,
        end_time: to,
        meter: id,
        livemode: false,
      },
    ];
    return { object: 'list', url: '/v1', data, has_more: false };
  }
}
