// What the tests of privacy share: a person with a row in every table, in an organization of their own and in one of others; and what
// is left of them anywhere.
import { randomUUID } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { query, sql, transaction } from '../access/db.mjs';
import { fill, newIds } from '../access/rows.mjs';
import { tieAll } from './privacy_ties.mjs';
import { http, newUser } from './support.mjs';

/** A person whose name, address and device are nobody else's, and a colleague. */
export async function someone() {
  const marker = `marker${randomUUID().replaceAll('-', '')}`;
  const person = await newUser({ display_name: `Name ${marker}` });
  const colleague = await newUser();
  const world = { marker, person, colleague, shared: { org: randomUUID(), ...newIds() }, own: { org: randomUUID(), ...newIds() } };
  const { id, email } = person.user;
  await transaction([
    sql`set local role postgres`,
    organization(world.shared.org, { [colleague.user.id]: 'owner', [id]: 'admin' }),
    organization(world.own.org, { [id]: 'owner' }),
    fill(world.shared, { owner: id, colleague: colleague.user.id, invitee: email }),
    sql`drop table pg_temp.queued`,
    fill(world.own, { owner: id, colleague: id, invitee: `guest-${marker}@example.com` }),
    sql`drop table pg_temp.queued`,
    sql`insert into private.mail_messages (org_id, recipient, template, locale, status, expires_at, finished_at)
      values (${world.shared.org}, ${email}, 'invitation', 'en', 'kept', now(), now())`,
    sql`update public.stripe_customers set email = ${email}, name = case id when ${world.own.stripe_customers} then ${`Name ${marker}`} else 'Company' end
      where id in (${world.own.stripe_customers}, ${world.shared.stripe_customers})`,
    sql`insert into private.stripe_events (id, type, created, livemode, object_id, object_type, rank, payload, status, attempts, applied_at)
      values (${`evt_${marker}`}, 'customer.updated', now(), false, ${world.own.stripe_customers}, 'customer', 1,
        ${{ data: { object: { id: world.own.stripe_customers, email, name: `Name ${marker}` } } }}, 'applied', 1, now())`,
    // Somebody who was a member once, an address of before with a mail to it, and mails to others that name the person.
    sql`insert into public.memberships (org_id, user_id, role) values (${world.own.org}, ${colleague.user.id}, 'member')`,
    sql`delete from public.memberships where org_id = ${world.own.org} and user_id = ${colleague.user.id}`,
    sql`insert into private.mail_messages (org_id, recipient, template, locale, status, expires_at, finished_at, created_at)
      values (${world.shared.org}, ${`before-${email}`}, 'invitation', 'en', 'kept', now(), now(), now() - interval '1 hour')`,
    ...[`before-${email}`, email].flatMap((address) => [
      sql`update auth.users set email_change = ${address} where id = ${id}`,
      sql`update auth.users set email = ${address}, email_change = '' where id = ${id}`,
    ]),
    sql`select private.mail_store(${world.shared.org}, 'guest@example.com', 'invitation', 'en', ${{ link: 'x', organization: 'x', inviter: `Name ${marker}` }})`,
    sql`update private.mail_messages set created_by = ${id} where org_id = ${world.shared.org} and recipient = 'guest@example.com'`,
    sql`update auth.sessions set user_agent = ${`agent ${marker}`}, ip = '198.51.100.77' where user_id = ${id}`,
  ]);
  for (const [org, name] of [
    [world.own, `own-${email}`],
    [world.shared, 'shared'],
  ]) {
    const path = `${org.org}/${org.project}/${name}.txt/${org.delivery}`;
    const { error } = await person.client.storage.from('project-files').upload(path, `file ${name} ${marker}`);
    if (error) throw new Error(`${path}: ${JSON.stringify(error)}`);
  }
  const key = await http('POST', '/rest/v1/rpc/create_api_key', {
    token: person.session.access_token,
    headers: { 'Content-Type': 'application/json', 'x-org-id': world.shared.org },
    body: { name: 'Key', permissions: ['projects:read'] },
  });
  if (key.status !== 200) throw new Error(JSON.stringify(key.body));
  await tieAll({ id, email, ...world.shared });
  return world;
}

const organization = (org, members) => [
  sql`insert into public.organizations (id, name, slug) values (${org}, 'Privacy', 'privacy-' || ${org}::text)`,
  sql`update public.subscriptions set plan = 'ENTERPRISE' where org_id = ${org}`,
  sql`insert into public.memberships (org_id, user_id, role)
    select ${org}, m.user_id, m.role from unnest(${Object.keys(members)}::uuid[], ${Object.values(members)}::text[]) as m (user_id, role)`,
];

export const forget = (world) =>
  query('delete from public.organizations where id = any ($1)', [[world.shared.org, world.own.org]]).then(() =>
    query('delete from auth.users where id = any ($1)', [[world.person.user.id, world.colleague.user.id]]),
  );

/**
 * What an erased person has left where the data catalogue says that nothing stays: in tables, in the text of mails, in files and logs of
 * a stack, whose home is given. Each must be empty.
 */
export async function leftovers({ person, marker }, home, run = query) {
  const names = [person.email, `Name ${marker}`, `agent ${marker}`];
  const columns = await columnsWith(person.user.id, names, run);
  const mails = await run(
    `select m.template from private.mail_messages as m
     where m.sealed_data is not null and exists (select from unnest($1::text[]) as w (word) where strpos(private.mail_data(m)::text, w.word) > 0)`,
    [names],
  );
  // Bytes wait for a restore to an earlier moment, in the queue of deletions.
  const waiting = (await run('select version::text from storage_service.deletions')).map(({ version }) => version);
  const files = await filesWith(join(home, 'storage'), [`file own-${person.email} ${marker}`]);
  return {
    columns: columns.filter(({ erasure }) => erasure !== 'retention' && erasure !== 'organization' && erasure !== 'none'),
    // A schedule works through the audit log's list.
    names: columns.filter(({ named, place }) => named > 0 && !place.startsWith('private.audit_erasures.')),
    mails,
    files: files.filter((file) => !waiting.includes(file.split('/').at(-1))),
    logs: await filesWith(join(home, 'log'), [person.email, marker]),
  };
}

/** Nothing of what leftovers() says. */
export const NOTHING = { columns: [], names: [], mails: [], files: [], logs: [] };

/** Columns of all tables in which the id or one of the names is, how often a name is, and what the data catalogue says of them. */
async function columnsWith(id, names, run) {
  const named = names.map((word) => word.replace(/[^\w@.-]/g, '.')).join('|');
  const pattern = `${id}|${named}`;
  const tables = await run(
    `select c.oid::regclass::text as name, coalesce(pn.nspname || '.' || p.relname, n.nspname || '.' || c.relname) as described
     from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
     left join pg_inherits as i on i.inhrelid = c.oid left join pg_class as p on p.oid = i.inhparent
     left join pg_namespace as pn on pn.oid = p.relnamespace
     where c.relkind = 'r' and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname !~ '^pg_(toast|temp)'`,
  );
  const found = [];
  for (const { name, described } of tables) {
    const rows = await run(
      `select e.key as column, count(*)::integer as rows, (count(*) filter (where e.value ~* $2))::integer as named from ${name} as t cross join lateral jsonb_each_text(to_jsonb(t)) as e
       where t::text ~* $1 and e.value ~* $1 group by e.key`,
      [pattern, named],
    );
    for (const row of rows) {
      const [line] = await run('select subject, erasure from private.data_catalogue where table_name = $1 and column_name = $2', [
        described,
        row.column,
      ]);
      found.push({ place: `${described}.${row.column}`, rows: row.rows, named: row.named, erasure: line?.erasure });
    }
  }
  return found;
}

/** Files below a folder in which one of the words is. */
async function filesWith(folder, words) {
  const found = [];
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => [])) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath ?? entry.path, entry.name);
    const bytes = await readFile(path).catch(() => Buffer.alloc(0));
    if (words.some((word) => bytes.includes(word))) found.push(path);
  }
  return found;
}
