// What the fakes share.
import { randomBytes } from 'node:crypto';

export const newId = () => `${BigInt(`0x1${randomBytes(7).toString('hex')}`)}`;

/** The fields of a form, or the parts of a multipart body. */
export function fieldsOf({ headers, bytes }) {
  const type = headers['content-type'] ?? '';
  if (type.startsWith('application/json')) return JSON.parse(bytes);
  const boundary = type.match(/^multipart\/form-data; boundary=(.+)$/)?.[1];
  if (!boundary) return Object.fromEntries(new URLSearchParams(bytes.toString()));
  const parts = bytes.toString('latin1').split(`--${boundary}`).slice(1, -1);
  return Object.fromEntries(
    parts.map((part) => {
      const [head, ...body] = part.split('\r\n\r\n');
      return [head.match(/name="([^"]+)"/)[1], Buffer.from(body.join('\r\n\r\n').replace(/\r\n$/, ''), 'latin1')];
    }),
  );
}
