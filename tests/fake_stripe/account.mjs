// The account behind the fake of Stripe: what payers do at checkout, what an API call changes, and what time does to subscriptions.
import { randomBytes } from 'node:crypto';
import { addInterval, amountOf, lineOf, proration, sum, totals } from './amounts.mjs';
import { invalid, missing, Objects, truth, values } from './objects.mjs';

export class Account extends Objects {
  // ---- checkout

  createSession(q) {
    if (q.mode !== 'subscription') throw invalid('mode', 'only subscriptions');
    this.find('customer', q.customer);
    for (const item of values(q.line_items)) {
      const price = this.find('price', item.price);
      const metered = price.recurring.usage_type === 'metered';
      if (metered === (item.quantity !== undefined))
        throw invalid('line_items', metered ? 'no quantity for metered prices' : 'quantity is required');
    }
    for (const rate of values(q.subscription_data?.default_tax_rates)) this.find('tax_rate', rate);
    const made = this.add('checkout.session', 'cs_test', {
      mode: q.mode,
      status: 'open',
      payment_status: 'unpaid',
      customer: q.customer,
      subscription: null,
      client_reference_id: q.client_reference_id,
      success_url: q.success_url,
      cancel_url: q.cancel_url,
      currency: 'eur',
      asked: q,
    });
    made.url = `https://checkout.stripe.com/c/pay/${made.id}`;
    return made;
  }

  expireSession(id) {
    const session = this.find('checkout.session', id);
    if (session.status !== 'open') throw invalid('session', `Only Checkout Sessions with a status in ["open"] can be expired.`);
    session.status = 'expired';
    this.emit('checkout.session.expired', session);
    return session;
  }

  createPortalSession(q) {
    this.find('customer', q.customer);
    return this.add('billing_portal.session', 'bps', { ...q, url: `https://billing.stripe.com/p/session/${q.customer}` });
  }

  /** The payer completes a session. `later`: the payment settles days later, as a SEPA debit does. */
  pay(sessionId, { later = false, fingerprint } = {}) {
    const session = this.find('checkout.session', sessionId);
    if (session.status !== 'open') throw invalid('session', `The session is ${session.status}.`);
    const { asked } = session;
    const trial = Number(asked.subscription_data?.trial_period_days ?? 0);
    const subscription = this.subscribe(session.customer, values(asked.line_items), asked.subscription_data ?? {}, trial);
    const invoice = this.invoice(subscription, 'subscription_create', this.linesOf(subscription, trial > 0));
    Object.assign(session, {
      status: 'complete',
      subscription: subscription.id,
      invoice: invoice.id,
      payment_status: invoice.total === 0 ? 'no_payment_required' : later ? 'unpaid' : 'paid',
      amount_total: invoice.total,
    });
    const method = this.add('payment_method', 'pm', {
      customer: session.customer,
      type: later ? 'sepa_debit' : 'card',
      ...(later
        ? { sepa_debit: { last4: '3000', country: 'NL', fingerprint: fingerprint ?? randomBytes(8).toString('hex') } }
        : {
            card: {
              brand: 'visa',
              last4: '4242',
              exp_month: 4,
              exp_year: 2034,
              country: 'NL',
              fingerprint: fingerprint ?? randomBytes(8).toString('hex'),
            },
          }),
    });
    this.emit('customer.subscription.created', subscription);
    this.emit('payment_method.attached', method);
    this.emit('invoice.finalized', invoice);
    if (invoice.total === 0 || !later) this.markPaid(invoice);
    this.emit('checkout.session.completed', session);
    return subscription;
  }

  /** The debit of a session that was paid `later` arrives, or does not. */
  settle(sessionId, succeeded) {
    const session = this.find('checkout.session', sessionId);
    const invoice = this.find('invoice', session.invoice);
    if (succeeded) {
      session.payment_status = 'paid';
      this.markPaid(invoice);
      this.emit('checkout.session.async_payment_succeeded', session);
    } else {
      this.markFailed(invoice);
      this.emit('checkout.session.async_payment_failed', session);
    }
  }

  subscribe(customer, items, { metadata = {}, default_tax_rates = {} }, trial) {
    const start = this.now();
    const made = this.add('subscription', 'sub', {
      customer,
      status: trial > 0 ? 'trialing' : 'active',
      metadata,
      collection_method: 'charge_automatically',
      cancel_at_period_end: false,
      cancel_at: null,
      canceled_at: null,
      ended_at: null,
      trial_end: trial > 0 ? start + trial * 86_400 : null,
      pending_update: null,
      default_tax_rates: values(default_tax_rates),
      currency: 'eur',
    });
    const price = (id) => this.find('price', id);
    const end = made.trial_end ?? addInterval(start, price(items[0].price).recurring.interval);
    made.items = { object: 'list', has_more: false, data: items.map((it) => this.item(made, price(it.price), it.quantity, start, end)) };
    return made;
  }

  item(subscription, price, quantity, start, end) {
    return {
      id: `si_1F${randomBytes(8).toString('hex')}`,
      object: 'subscription_item',
      subscription: subscription.id,
      price,
      ...(price.recurring.usage_type !== 'metered' && { quantity: Number(quantity ?? 1) }),
      current_period_start: start,
      current_period_end: end,
    };
  }

  linesOf(subscription, isTrial = false) {
    return subscription.items.data
      .filter((it) => it.price.recurring.usage_type !== 'metered')
      .map((it) =>
        lineOf(it.price, it.quantity, isTrial ? 0 : amountOf(it.price, it.quantity), it.current_period_start, it.current_period_end),
      );
  }

  // ---- invoices

  invoice(subscription, billing_reason, lines) {
    const rates = subscription.default_tax_rates.map((id) => this.find('tax_rate', id).percentage);
    const pending = this.all('invoiceitem').filter(
      (it) => it.customer === subscription.customer && !it.invoice && ['subscription_cycle', 'manual'].includes(billing_reason),
    );
    const all = [...lines, ...pending.map((it) => ({ description: it.description, amount: it.amount, quantity: 1, period: it.period }))];
    const { subtotal, total } = totals(all, rates);
    const made = this.add('invoice', 'in', {
      customer: subscription.customer,
      status: total <= 0 ? 'paid' : 'open',
      number: `F-${this.all('invoice').length + 1}`,
      currency: 'eur',
      subtotal,
      total,
      total_taxes: rates.length > 0 ? [{ amount: total - subtotal, tax_behavior: 'exclusive' }] : [],
      amount_due: Math.max(total, 0),
      amount_paid: 0,
      amount_remaining: Math.max(total, 0),
      attempt_count: 0,
      billing_reason,
      period_start: this.now(),
      period_end: this.now(),
      due_date: null,
      status_transitions: { paid_at: null },
      lines: { object: 'list', has_more: false, data: all },
      parent: { type: 'subscription_details', subscription_details: { subscription: subscription.id } },
    });
    made.hosted_invoice_url = `https://invoice.stripe.com/i/${made.id}`;
    made.invoice_pdf = `${made.hosted_invoice_url}/pdf`;
    for (const each of pending) each.invoice = made.id;
    subscription.latest_invoice = made.id;
    return made;
  }

  markPaid(invoice) {
    Object.assign(invoice, {
      status: 'paid',
      amount_paid: invoice.amount_due,
      amount_remaining: 0,
      attempt_count: invoice.attempt_count + 1,
      status_transitions: { paid_at: this.now() },
    });
    this.emit('invoice.paid', invoice);
  }

  markFailed(invoice) {
    invoice.attempt_count += 1;
    this.emit('invoice.payment_failed', invoice);
  }

  /** An invoice of what a customer has pending. */
  createInvoice(q) {
    this.find('customer', q.customer);
    const made = this.invoice({ customer: q.customer, default_tax_rates: values(q.default_tax_rates), id: null }, 'manual', []);
    this.emit('invoice.finalized', made);
    if (made.total > 0) this.markPaid(made);
    return made;
  }

  createInvoiceItem(q) {
    this.find('customer', q.customer);
    const now = this.now();
    return this.add('invoiceitem', 'ii', { ...q, amount: Number(q.amount), invoice: null, period: { start: now, end: now } });
  }

  preview(q) {
    const subscription = this.find('subscription', q.subscription);
    const { lines } = this.changed(subscription, q.subscription_details ?? {});
    const rates = subscription.default_tax_rates.map((id) => this.find('tax_rate', id).percentage);
    const { subtotal, total } = totals(lines, rates);
    return {
      object: 'invoice',
      id: `upcoming_in_${subscription.id}`,
      currency: 'eur',
      subtotal,
      total,
      amount_due: Math.max(total, 0),
      lines: { object: 'list', data: lines, has_more: false },
    };
  }

  // ---- changes of subscriptions

  /** The items after a change, and the lines of what it costs. */
  changed(subscription, { items = {}, proration_date }) {
    const at = Number(proration_date ?? this.now());
    const lines = [];
    let next = [...subscription.items.data];
    for (const change of values(items)) {
      const present = next.find((it) => it.id === change.id);
      if (change.id && !present) throw invalid('items', `No such subscription item: ${change.id}`);
      const price = change.price ? this.find('price', change.price) : present.price;
      if (truth(change.deleted)) next = next.filter((it) => it !== present);
      else {
        const same = present && price.recurring.interval === present.price.recurring.interval;
        const [start, end] =
          same || !present
            ? [subscription.items.data[0].current_period_start, subscription.items.data[0].current_period_end]
            : [at, addInterval(at, price.recurring.interval)];
        const item = {
          ...this.item(subscription, price, change.quantity ?? present?.quantity, start, end),
          ...(present && { id: present.id }),
        };
        next = present ? next.map((it) => (it === present ? item : it)) : [...next, item];
        if (subscription.status !== 'trialing' && price.recurring.usage_type !== 'metered') lines.push(...proration(present, item, at));
      }
    }
    const intervals = new Set(next.map((it) => it.price.recurring.interval));
    if (intervals.size > 1) throw invalid('items', 'All prices on a subscription must have the same recurring interval.');
    return { next, lines };
  }

  updateSubscription(id, q) {
    const found = this.find('subscription', id);
    if (found.status === 'canceled') throw missing('subscription', id);
    const before = structuredClone(found);
    let invoice;
    if (q.items) {
      const { next, lines } = this.changed(found, q);
      if (lines.length > 0 && q.proration_behavior !== 'none') invoice = this.invoice(found, 'subscription_update', lines);
      const refused = invoice?.status === 'open' && this.declining.has(found.customer);
      if (invoice) this.emit('invoice.finalized', invoice);
      if (refused && q.payment_behavior === 'pending_if_incomplete') {
        found.pending_update = { expires_at: this.now() + 82_800, subscription_items: next };
        this.markFailed(invoice);
      } else {
        found.items.data = next;
        if (invoice) this.markPaid(invoice);
      }
    }
    if (q.cancel_at_period_end !== undefined) {
      found.cancel_at_period_end = truth(q.cancel_at_period_end);
      found.cancel_at = found.cancel_at_period_end ? found.items.data[0].current_period_end : null;
      found.canceled_at = found.cancel_at_period_end ? this.now() : null;
    }
    if (q.default_tax_rates !== undefined) {
      found.default_tax_rates = values(q.default_tax_rates);
      for (const rate of found.default_tax_rates) this.find('tax_rate', rate);
    }
    if (q.trial_end === 'now' && found.status === 'trialing') return this.endTrial(found, before);
    if (q.cancellation_details) found.cancellation_details = q.cancellation_details;
    this.emitUpdate('customer.subscription.updated', found, before);
    return values(q.expand).includes('latest_invoice') ? { ...found, latest_invoice: this.objects.get(found.latest_invoice) } : found;
  }

  /** The trial is over now: the first period begins and is billed. */
  endTrial(found, before) {
    found.trial_end = this.now();
    found.status = 'active';
    for (const it of found.items.data)
      Object.assign(it, { current_period_start: this.now(), current_period_end: addInterval(this.now(), it.price.recurring.interval) });
    const invoice = this.invoice(found, 'subscription_cycle', this.linesOf(found));
    this.emit('invoice.finalized', invoice);
    this.markPaid(invoice);
    this.emitUpdate('customer.subscription.updated', found, before);
    return found;
  }

  /** A paid invoice goes back, in whole or in part. */
  createCreditNote(q) {
    const invoice = this.find('invoice', q.invoice);
    const amount = q.lines ? sum(values(q.lines).map((it) => Number(it.quantity) * Number(it.unit_amount))) : Number(q.amount);
    const back = Number(q.refund_amount ?? 0) + Number(q.credit_amount ?? 0);
    if (invoice.status === 'paid' && back !== amount) throw invalid('credit_amount', 'must say where all of what was paid goes');
    const credited = sum(
      this.all('credit_note')
        .filter((it) => it.invoice === invoice.id)
        .map((it) => it.amount),
    );
    if (amount < 1 || credited + amount > invoice.total) throw invalid('amount', 'more than the invoice has left');
    if (Number(q.refund_amount ?? 0) > invoice.amount_paid) throw invalid('refund_amount', 'more than was paid');
    const made = this.add('credit_note', 'cn', {
      ...q,
      amount,
      total: amount,
      customer: invoice.customer,
      currency: 'eur',
      status: 'issued',
      number: `${invoice.number}-CN-${this.all('credit_note').length + 1}`,
    });
    made.pdf = `https://pay.stripe.com/credit_notes/${made.id}/pdf`;
    const customer = this.find('customer', invoice.customer);
    customer.balance = (customer.balance ?? 0) - Number(q.credit_amount ?? 0);
    this.emit('credit_note.created', made);
    return made;
  }

  updateItem(id, { quantity, proration_behavior }) {
    const owner = this.all('subscription').find((each) => each.items.data.some((it) => it.id === id));
    if (!owner) throw missing('subscription_item', id);
    this.updateSubscription(owner.id, { items: { 0: { id, quantity } }, proration_behavior });
    return owner.items.data.find((it) => it.id === id);
  }

  cancelSubscription(id) {
    const found = this.find('subscription', id);
    if (found.status === 'canceled') throw missing('subscription', id);
    Object.assign(found, { status: 'canceled', canceled_at: this.now(), ended_at: this.now() });
    this.emit('customer.subscription.deleted', found);
    return found;
  }

  listSubscriptions(q) {
    return this.list(
      'subscription',
      q,
      (it) =>
        (!q.customer || it.customer === q.customer) &&
        (q.status === 'all' || (q.status ? it.status === q.status : it.status !== 'canceled')),
    );
  }

  // ---- time

  /** The period of a subscription ends: it renews, is billed with its use, and the payment succeeds unless the customer's are refused. */
  renew(id) {
    const found = this.find('subscription', id);
    const before = structuredClone(found);
    const [{ current_period_start: from, current_period_end: to }] = found.items.data;
    this.offset = Math.max(this.offset, to - Math.floor(Date.now() / 1000));
    if (found.cancel_at_period_end) return this.cancelSubscription(id);
    const used = found.items.data
      .filter((it) => it.price.recurring.usage_type === 'metered')
      .map((it) => {
        const quantity = this.usedOf(this.find('billing.meter', it.price.recurring.meter), found.customer, from, to);
        return lineOf(it.price, quantity, amountOf(it.price, quantity), from, to);
      });
    for (const it of found.items.data)
      Object.assign(it, { current_period_start: to, current_period_end: addInterval(to, it.price.recurring.interval) });
    const invoice = this.invoice(found, 'subscription_cycle', [...this.linesOf(found), ...used]);
    this.emit('invoice.finalized', invoice);
    const refused = this.declining.has(found.customer) && invoice.total > 0;
    found.status = refused ? 'past_due' : 'active';
    if (refused) this.markFailed(invoice);
    else this.markPaid(invoice);
    this.emitUpdate('customer.subscription.updated', found, before);
    return invoice;
  }

  /** The payer pays an open invoice. */
  payInvoice(id) {
    const invoice = this.find('invoice', id);
    const found = this.find('subscription', invoice.parent.subscription_details.subscription);
    const before = structuredClone(found);
    this.markPaid(invoice);
    if (found.pending_update) {
      found.items.data = found.pending_update.subscription_items;
      found.pending_update = null;
    }
    found.status = 'active';
    this.emitUpdate('customer.subscription.updated', found, before);
  }
}
