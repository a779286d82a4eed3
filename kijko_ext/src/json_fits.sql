create function kijko.json_fits(given jsonb, max_bytes integer) returns boolean
    language c immutable strict parallel safe as 'MODULE_PATHNAME', 'kijko_json_fits';
comment on function kijko.json_fits(jsonb, integer) is 'Whether the text of a value has at most so many bytes, and no number has more than 400 digits before or behind its point. The text is not made.';
