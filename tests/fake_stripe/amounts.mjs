// What the fake of Stripe charges: amounts of prices, prorations by the second, and VAT by the rates of a subscription.

export const sum = (numbers) => numbers.reduce((all, each) => all + each, 0);

/** A month or year later, on the same day where there is one. */
export function addInterval(seconds, interval) {
  const date = new Date(seconds * 1000);
  const day = date.getUTCDate();
  date.setUTCDate(1);
  date.setUTCMonth(date.getUTCMonth() + (interval === 'year' ? 12 : 1));
  const last = new Date(Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 0)).getUTCDate();
  date.setUTCDate(Math.min(day, last));
  return date.getTime() / 1000;
}

/** What a quantity of a price costs. Begun packages count. */
export function amountOf(price, quantity) {
  const packages = price.transform_quantity ? Math.ceil(quantity / price.transform_quantity.divide_by) : quantity;
  return packages * price.unit_amount;
}

export const lineOf = (price, quantity, amount, start, end, description = `${quantity} × ${price.lookup_key}`) => ({
  object: 'line_item',
  description,
  amount,
  quantity,
  period: { start, end },
  pricing: { type: 'price_details', price_details: { price: price.id } },
});

/** The rest of the former item is credited, and that of the new one charged. A new period is charged whole. */
export function proration(former, item, at) {
  const share = (it) => Math.max(0, it.current_period_end - at) / (it.current_period_end - it.current_period_start);
  const lines = [];
  if (former) {
    const amount = -Math.round(amountOf(former.price, former.quantity) * share(former));
    lines.push(lineOf(former.price, former.quantity, amount, at, former.current_period_end, `Unused time on ${former.price.lookup_key}`));
  }
  const amount = Math.round(amountOf(item.price, item.quantity) * share(item));
  lines.push(lineOf(item.price, item.quantity, amount, at, item.current_period_end, `Remaining time on ${item.price.lookup_key}`));
  return lines;
}

/** Before and with VAT, in cents. */
export function totals(lines, rates) {
  const subtotal = sum(lines.map((line) => line.amount));
  return { subtotal, total: subtotal + sum(rates.map((rate) => Math.round((subtotal * rate) / 100))) };
}
