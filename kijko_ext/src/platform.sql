create function kijko.platform_org_id() returns uuid
    language sql immutable parallel safe
return '00000000-0000-4000-8000-000000000001'::uuid;
comment on function kijko.platform_org_id() is 'The organization that owns rows of the platform itself, a constant. It has no members, so no user sees its rows.';
