-- ============================================================================
-- Mail: invitations. Their functions call this, late bound: invitations are an earlier domain.
-- ============================================================================

create function private.mail_plain_name(name text) returns text
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
  -- Mail programs make links of addresses. "evil.test/now" and "https://evil.test" become text that none of them recognizes. The
  -- other characters are those that a browser reads as a dot, an @, a slash or a colon, too (UTS 46): ideographic, fullwidth, halfwidth, small.
  select left(regexp_replace(
    regexp_replace(name, '[:\ufe55\uff1a][/\uff0f]{2}', ' ', 'g'),
    '([^[:space:]])([.@/\u2024\u3002\ufe52\uff0e\uff61\ufe6b\uff20\uff0f])(?=[^[:space:]])', '\1\2 ', 'g'), 120)
$$;
comment on function private.mail_plain_name(text) is 'A name that a user chose, for a mail to somebody else: no mail program makes a link of any part of it.';

create function private.mail_send_invitation(invitation public.invitations, token text) returns uuid
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  settings private.mail_settings;
  organization constant text := (select private.mail_plain_name(o.name) from public.organizations as o where o.id = invitation.org_id);
  inviter record;
  sent uuid;
  muted boolean := false;
begin
  select s.* into settings from private.mail_settings as s;
  select p.display_name, u.email, u.raw_user_meta_data ->> 'locale' as locale into inviter
  from auth.users as u
  left join public.profiles as p on p.id = u.id
  where u.id = invitation.sent_by;
  begin
    sent := private.mail_send(
      invitation.email, 'invitation', inviter.locale,
      jsonb_build_object(
        'link', settings.site_url || settings.invitation_path || '?token=' || token,
        'organization', organization,
        -- The address too: a name alone could be anybody's. Without a name and an address it names the organization.
        'inviter', coalesce(nullif(concat_ws(' ', private.mail_plain_name(inviter.display_name), '(' || inviter.email || ')'), ''), organization),
        'role', invitation.role,
        'email', invitation.email
      ),
      org => invitation.org_id
    );
    -- An invitee who wants no such mail gets a notification. It is undone, and not left out: the inviter must not learn from the time,
    -- nor from the limits of mails, that the address has an account.
    if (private.notifications_choice(private.notifications_invitee(invitation.email), kijko.platform_org_id(), 'invitation.received')).mail = 'off' then
      muted := true;
      perform kijko.fail('conflict');
    end if;
  exception when others then
    if not muted then
      raise;
    end if;
    return null;
  end;
  return sent;
end
$$;
comment on function private.mail_send_invitation(public.invitations, text) is 'Sends the token of an invitation to its address, in the language of the inviter (locale of their user metadata). Null if the invitee wants none. Refuses as mail_send() does. Nullable: result. Called by the definer functions of invitations.';
