comment on function kijko.seal_key_id(text) is 'The id of the key by which a text was sealed, as the text says; null for a text that is not of the format of kijko.seal(). Checks the format only. Every role may call it, because a restore builds indexes before it grants rights.';

create domain kijko.sealed as text constraint is_sealed check (value is null or kijko.seal_key_id(value) is not null);
comment on domain kijko.sealed is 'A text that kijko.seal() made. A plaintext cannot be stored in a column of this type.';
comment on constraint is_sealed on domain kijko.sealed is 'Checks the format only. kijko.can_unseal() says whether a text can be unsealed.';

create function kijko.seal(plaintext text, context text) returns text
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_seal';
comment on function kijko.seal(text, text) is 'Seals up to 65,536 bytes of text by AES-256-GCM-SIV with the first key of kijko.seal_key_file: kjs1.<key id>.<base64url>. Two calls never give the same text. The context (1 to 1,024 bytes) says where the text belongs, for example table, organization and name; kijko.unseal() needs the same. The plaintext is padded, so that the length of the result reveals only a step: 64, 128, 256 or 512 bytes, or a number of KiB.';

create function kijko.unseal(sealed text, context text) returns text
    language c stable parallel unsafe as 'MODULE_PATHNAME', 'kijko_unseal';
comment on function kijko.unseal(text, text) is 'The plaintext of a sealed text. Fails with cannot_unseal for another context, a changed text, or a key that is not in kijko.seal_key_file, without saying which; with unavailable while the file cannot be used.';

create function kijko.reseal(sealed text, context text) returns text
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'kijko_reseal';
comment on function kijko.reseal(text, text) is 'The same plaintext sealed by the first key of kijko.seal_key_file; the same text if it is sealed by that key already. Fails as kijko.unseal() does.';

create function kijko.can_unseal(sealed text, context text) returns boolean
    language c stable parallel unsafe as 'MODULE_PATHNAME', 'kijko_can_unseal';
comment on function kijko.can_unseal(text, text) is 'Whether kijko.unseal() would succeed; false for null. Fails with unavailable while the file of keys cannot be used.';

create function kijko.seal_key_ids() returns text[]
    language c stable parallel unsafe as 'MODULE_PATHNAME', 'kijko_seal_key_ids';
comment on function kijko.seal_key_ids() is 'The ids of the keys in kijko.seal_key_file, in their order: the first seals, all unseal. An id says nothing about its key.';
