// The words of the access matrix: what an answer of the API means for access.

/** Answers of requests that were let through. */
export const ALLOWED = {
  rows: 'allowed: sees every row of the organization, also those of a private project; a function returned rows',
  shared: "allowed: sees the organization's rows, but not those of the private project",
  own: 'allowed: sees its own rows only',
  some: 'allowed: sees a part of the rows',
  done: 'allowed: wrote the row; a function did its work or returned a value',
  yes: 'allowed: the function answered true',
};

/** Answers of requests that were let through and had no effect. */
export const EMPTY = {
  none: 'saw or changed nothing: row level security hides the row, or the function has nothing for this caller',
  no: 'the function answered false',
};

/** Refusals. The key is the word, `code` the field code of the answer, `status` its HTTP status. */
export const REFUSED = {
  signin: { code: '42501', status: 401, about: 'as `grant`, for a caller who is not signed in' },
  grant: {
    code: '42501',
    status: 403,
    about: 'the role lacks the right on the table, column or function, or a policy refuses the new row',
  },
  401: { code: 'not_identified', status: 401, about: 'the token names no user: its session has ended, or the user is banned' },
  denied: {
    code: 'permission_denied',
    status: 403,
    about: 'a function or trigger refuses the caller, or a key that only reads would write',
  },
  not_member: { code: 'not_a_member', status: 403, about: 'the caller is not a member of the organization' },
  missing: { code: 'not_found', status: 404, about: 'there is no such row for this caller' },
  conflict: { code: 'conflict', status: 409, about: 'the caller may do this, but the state of the row forbids it' },
  invalid: { code: 'invalid_input', status: 422, about: 'an argument names something that this caller cannot name' },
  badref: { code: '23503', status: 409, about: 'the row would point at a row of another organization' },
};

/** A caller that cannot exist for this object. */
export const NO_CASE = '-';

export const WORDS = Object.keys({ ...ALLOWED, ...EMPTY, ...REFUSED }).concat(NO_CASE);

export const isAllowed = (word) => word in ALLOWED;
/** Whether the answer means that nothing can have changed. */
export const isHarmless = (word) => word in REFUSED || word in EMPTY;

/**
 * The word for a refusal; anything else than a known one is about the input of the case and not about access, and is
 * spelled out, so that it equals no word.
 */
export function refusal({ status, body, text }) {
  const found = Object.entries(REFUSED).find(([, refused]) => refused.code === body?.code && refused.status === status);
  return found ? found[0] : `?${status}:${body?.code ?? text.slice(0, 60)}:${String(body?.message ?? '').replaceAll(/\s+/g, '_')}`;
}
