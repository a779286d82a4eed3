// Buckets of a test's own, with the policies that most products write: members read and write below the id of their organization.
import { randomUUID } from 'node:crypto';
import { until } from '../until.mjs';
import { env, sql } from './support.mjs';

/** Policies lock the table of all objects. Who waits for that lock keeps all others waiting, so this waits briefly, and again. */
export const createPolicies = (policies) =>
  until('the table of objects to be free for policies', () =>
    sql(`set local lock_timeout = '200ms'; ${policies}`).then(
      () => true,
      (error) => {
        if (error.code !== '55P03') throw error;
      },
    ),
  );

/** A metered bucket in which an organization's members read by content:read and write by content:write. */
export async function tenantBucket(options = {}) {
  const id = `t-${randomUUID()}`;
  const { public: isPublic = false, sizeLimit = null, types = null } = options;
  await sql('insert into storage.buckets (id, name, public, file_size_limit, allowed_mime_types) values ($1, $1, $2, $3, $4)', [
    id,
    isPublic,
    sizeLimit,
    types,
  ]);
  const may = (permission) =>
    `bucket_id = '${id}' and private.storage_org_id(name) = any (array(select private.org_ids_with('${permission}')))`;
  await createPolicies(`
    create policy "${id} select" on storage.objects for select to authenticated using (${may('content:read')});
    create policy "${id} insert" on storage.objects for insert to authenticated with check (${may('content:write')});
    create policy "${id} update" on storage.objects for update to authenticated using (${may('content:write')}) with check (${may('content:write')});
    create policy "${id} delete" on storage.objects for delete to authenticated using (${may('content:write')});
  `);
  await sql('select private.storage_meter_bucket($1)', [id]);
  return id;
}

/** What a call of supabase-js is refused with: the code, and the status inside. */
export async function refusedWith(promise) {
  const { data, error } = await promise;
  return error ? { code: error.code ?? error.statusCode, status: String(error.statusCode) } : { data };
}

/** A request to storage with any path, as it is. */
export async function storage(method, path, { token, body, headers = {} } = {}) {
  const response = await fetch(`${env.API_URL}/storage/v1${path}`, {
    method,
    body: body === undefined || typeof body === 'string' || body instanceof Uint8Array ? body : JSON.stringify(body),
    headers: {
      apikey: env.ANON_KEY,
      Authorization: `Bearer ${token ?? env.ANON_KEY}`,
      ...(body !== undefined && { 'Content-Type': 'application/json' }),
      ...headers,
    },
  });
  const bytes = Buffer.from(await response.arrayBuffer());
  let json;
  try {
    json = JSON.parse(bytes.toString());
  } catch {
    json = undefined;
  }
  return { status: response.status, headers: response.headers, body: json, bytes };
}

/** Bytes that an organization's objects have: what the gauge says, and what the rows say. */
export async function storedBytes(orgId) {
  const [{ gauge }] = await sql(`select coalesce((select used from kijko.usage($1) where meter = 'storage_bytes'), 0)::bigint as gauge`, [
    orgId,
  ]);
  const [{ rows }] = await sql(
    `select coalesce(sum((o.metadata ->> 'size')::bigint), 0)::bigint as rows
     from storage.objects as o join private.metered_buckets as m using (bucket_id) where private.storage_org_id(o.name) = $1`,
    [orgId],
  );
  return { gauge: Number(gauge), rows: Number(rows) };
}

/** An object as text, or what refuses it. */
export async function read(files, name) {
  const { data, error } = await files.download(name);
  return error ? { code: error.code ?? error.statusCode } : Buffer.from(await data.arrayBuffer()).toString();
}
