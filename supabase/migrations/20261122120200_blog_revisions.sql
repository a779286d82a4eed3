-- ============================================================================
-- Blog: revisions are compared, and rendered by the sidecar.
-- ============================================================================

create function private.blog_diff_lines(former text, later text) returns jsonb
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
  a text[] := string_to_array(former, E'\n');
  b text[] := string_to_array(later, E'\n');
  head integer := 0;
  tail integer := 0;
  n integer;
  m integer;
  lengths integer[];
  i integer := 1;
  j integer := 1;
  lines jsonb[] := array[]::jsonb[];
begin
  while head < least(cardinality(a), cardinality(b)) and a[head + 1] = b[head + 1] loop
    head := head + 1;
  end loop;
  while tail < least(cardinality(a), cardinality(b)) - head and a[cardinality(a) - tail] = b[cardinality(b) - tail] loop
    tail := tail + 1;
  end loop;
  n := cardinality(a) - head - tail;
  m := cardinality(b) - head - tail;
  a := a[head + 1:head + n];
  b := b[head + 1:head + m];
  if head > 0 then
    lines := lines || jsonb_build_object('op', '=', 'lines', head);
  end if;
  -- The longest common subsequence, in n times m steps; a larger change is one block that takes the place of another.
  if n::bigint * m <= 40000 and n > 0 and m > 0 then
    lengths := array_fill(0, array[(n + 1) * (m + 1)]);
    for x in reverse n .. 1 loop
      for y in reverse m .. 1 loop
        lengths[(x - 1) * (m + 1) + y] := case
          when a[x] = b[y] then lengths[x * (m + 1) + y + 1] + 1
          else greatest(lengths[x * (m + 1) + y], lengths[(x - 1) * (m + 1) + y + 1])
        end;
      end loop;
    end loop;
    while i <= n and j <= m loop
      if a[i] = b[j] then
        lines := lines || jsonb_build_object('op', '=', 'lines', 1);
        i := i + 1;
        j := j + 1;
      elsif lengths[i * (m + 1) + j] >= lengths[(i - 1) * (m + 1) + j + 1] then
        lines := lines || jsonb_build_object('op', '-', 'text', a[i]);
        i := i + 1;
      else
        lines := lines || jsonb_build_object('op', '+', 'text', b[j]);
        j := j + 1;
      end if;
    end loop;
  end if;
  lines := lines || array(select jsonb_build_object('op', '-', 'text', a[x]) from generate_series(i, n) as x)
    || array(select jsonb_build_object('op', '+', 'text', b[y]) from generate_series(j, m) as y);
  if tail > 0 then
    lines := lines || jsonb_build_object('op', '=', 'lines', tail);
  end if;
  return to_jsonb(lines);
end
$$;
comment on function private.blog_diff_lines(text, text) is 'How one text becomes another, line by line: {op: "=", lines}, {op: "-", text}, {op: "+", text}.';

create function public.compare_post_revisions(post_id uuid, from_revision integer, to_revision integer) returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  post constant public.blog_posts := private.blog_require(compare_post_revisions.post_id, 'content:read');
  former public.blog_post_revisions;
  later public.blog_post_revisions;
begin
  perform private.limit_rate('blog_compare:' || post.org_id, 120, interval '1 minute', 'an organization compares at most %s revisions a minute');
  select r.* into former from public.blog_post_revisions as r where r.org_id = post.org_id and r.post_id = post.id and r.revision = from_revision;
  select r.* into later from public.blog_post_revisions as r where r.org_id = post.org_id and r.post_id = post.id and r.revision = to_revision;
  if former.id is null or later.id is null then
    perform kijko.fail('not_found', 'the post has no such revision');
  end if;
  return jsonb_build_object(
    'fields', (
      select coalesce(jsonb_agg(jsonb_build_object('field', f.key, 'from', f.value, 'to', later.fields -> f.key) order by f.key), '[]')
      from jsonb_each(former.fields) as f where f.value is distinct from later.fields -> f.key
    ),
    'lines', private.blog_diff_lines(former.content_markdown, later.content_markdown)
  );
end
$$;
comment on function public.compare_post_revisions(uuid, integer, integer) is 'How one revision of a post became another: fields, as {field, from, to}, and lines of the text, as {op: "=", lines}, {op: "-", text} and {op: "+", text}. Requires content:read. Definer: it checks the permission itself.';
grant execute on function public.compare_post_revisions(uuid, integer, integer) to authenticated;

-- ----------------------------------------------------------------------------
-- For the sidecar: the renderer
-- ----------------------------------------------------------------------------

create function private.blog_start_render(post_id uuid, content_hash text) returns text
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  -- An aggregate, so that there is always one row.
  select max(r.content_markdown) from public.blog_post_revisions as r
  join public.blog_posts as p on p.org_id = r.org_id and p.id = r.post_id
  where p.id = blog_start_render.post_id and r.content_hash = blog_start_render.content_hash and r.content_html is null
$$;
comment on function private.blog_start_render(uuid, text) is 'The text of a post that is to be rendered, by its hash; null if no revision waits for that. Nullable: result. Definer: the sidecar holds no table rights.';
grant execute on function private.blog_start_render(uuid, text) to kijko_sidecar;

create function private.blog_record_render(post_id uuid, content_hash text, content_html text, words integer) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  post public.blog_posts;
begin
  perform 1 from public.organizations as o
  where o.id = (select p.org_id from public.blog_posts as p where p.id = blog_record_render.post_id) for key share;
  select p.* into post from public.blog_posts as p where p.id = blog_record_render.post_id for update;
  if post.id is null then
    return false;
  end if;
  update public.blog_post_revisions as r
  set content_html = blog_record_render.content_html, word_count = blog_record_render.words
  where r.org_id = post.org_id and r.post_id = post.id and r.content_hash = blog_record_render.content_hash and r.content_html is null;
  if post.content_hash = blog_record_render.content_hash and post.content_html is null then
    update public.blog_posts as p
    set content_html = blog_record_render.content_html, content_html_hash = blog_record_render.content_hash, word_count = blog_record_render.words
    where p.id = post.id
    returning p.* into post;
    -- publish_post() may have been called before.
    perform private.blog_publish_due(post);
  end if;
  return true;
end
$$;
comment on function private.blog_record_render(uuid, text, text, integer) is 'Records the HTML of a text of a post, for each revision that has this text, and publishes the post if that is due; false if the post was deleted. Definer: the sidecar holds no table rights.';
grant execute on function private.blog_record_render(uuid, text, text, integer) to kijko_sidecar;

create function private.blog_end_render(worker text, job_id uuid, attempt integer) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  return private.jobs_delete_leased(worker, job_id, attempt, 'blog_render');
end
$$;
comment on function private.blog_end_render(text, uuid, integer) is 'Deletes the job of a rendering that has ended; false when the lease was lost. Its result is in the post. Definer: the sidecar holds no table rights.';
grant execute on function private.blog_end_render(text, uuid, integer) to kijko_sidecar;
