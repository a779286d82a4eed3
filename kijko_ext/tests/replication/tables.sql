create extension kijko;
create table memberships (org_id uuid, user_id uuid primary key);
create trigger memberships_changed after insert or update or delete on memberships
    for each row execute function kijko.invalidate_cache('memberships', 'user_id');
create trigger memberships_truncated after truncate on memberships
    for each statement execute function kijko.invalidate_cache('memberships');
alter table memberships enable always trigger memberships_changed;
alter table memberships enable always trigger memberships_truncated;
