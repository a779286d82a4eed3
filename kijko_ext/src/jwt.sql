comment on function kijko.sign_jwt(jsonb) is 'Signs an object of claims as an ES256 token, with the first key of kijko.jwt_key_file. Adds no claims; the header names the key (kid, its RFC 7638 thumbprint).';
comment on function kijko.verify_jwt(text) is 'The claims of a token that a key of kijko.jwt_key_file signed (ES256, chosen by kid) and that is valid at this second: exp is required, no leeway, nbf counts, aud is the caller''s business. Null for anything else.';
comment on function kijko.jwks() is 'The public keys of kijko.jwt_key_file as a JSON Web Key Set.';
comment on function kijko.pre_config() is 'PostgREST''s db-pre-config: sets pgrst.jwt_secret to the public keys. Does nothing while no key file is set.';
