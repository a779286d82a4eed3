-- A constant of the platform beside the functions that name the caller's organization, so that migrations can use it from the
-- first one on. The extension itself keeps nothing for it.
create function kijko.platform_org_id() returns uuid
    language sql immutable parallel safe
return '00000000-0000-4000-8000-000000000001'::uuid;
comment on function kijko.platform_org_id() is 'The organization that owns rows of the platform itself, a constant. It has no members, so no user sees its rows.';
