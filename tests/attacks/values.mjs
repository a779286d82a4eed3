// Values for columns and arguments, by their types as the OpenAPI document spells them.
import { randomUUID } from 'node:crypto';

/** A harmless value of a type. */
export function plain(type = 'text') {
  if (/\[\]$|^array/.test(type)) return [];
  if (/^(integer|bigint|smallint|numeric|real|double)/.test(type)) return 1;
  if (type === 'boolean') return false;
  if (/^json/.test(type)) return {};
  if (type === 'uuid') return randomUUID();
  if (/^timestamp|^date/.test(type)) return '2020-01-01T00:00:00Z';
  if (type === 'interval') return '1 hour';
  return 'a';
}

/** How a filter or a query writes a value. */
export const spelled = (value) => (value !== null && typeof value === 'object' ? JSON.stringify(value) : String(value));
