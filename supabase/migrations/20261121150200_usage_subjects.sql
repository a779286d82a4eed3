-- ============================================================================
-- Usage: subjects of limits that an organization has beside itself.
--
-- The limits engine knows subjects by an id. A domain that gives a part of an organization limits of its own writes a row here.
-- Then the organization is notified of its thresholds.
-- ============================================================================

create table private.usage_subjects (
  subject uuid primary key,
  organization uuid not null references public.organizations (id) on delete cascade,
  notification text not null check (char_length(notification) <= 63),
  project_id uuid,
  data jsonb not null default '{}' check (jsonb_typeof(data) = 'object' and private.json_fits(data, 2000))
);
create index usage_subjects_organization_idx on private.usage_subjects (organization);
comment on table private.usage_subjects is 'Whose the subjects of limits are that are no organizations, and how their thresholds are notified.';
comment on column private.usage_subjects.subject is 'The subject.';
comment on column private.usage_subjects.organization is 'Organization that it belongs to.';
comment on column private.usage_subjects.notification is 'Type of the notification of its thresholds.';
comment on column private.usage_subjects.project_id is 'Project whose members alone are notified, if it is private.';
comment on column private.usage_subjects.data is 'Data of the notification, beside those of the threshold.';
select private.describe_data('private.usage_subjects', '{
  "subject, organization, notification, project_id, data": "notifies an organization of limits that are nearly used up"
}');
alter table private.usage_subjects enable row level security;
