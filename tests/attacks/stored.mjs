// The victim's objects in storage: one that its members read, one of the private project, and one in a bucket whose policies are
// those that most products write.
import { randomBytes, randomUUID } from 'node:crypto';
import { query } from '../access/db.mjs';
import { tenantBucket } from '../journeys/storage_support.mjs';
import { env } from '../journeys/support.mjs';
import { send } from './wire.mjs';

const BUCKET = 'project-files';

/** { bucket, other, folder, names, words }: words are in the bytes, and nowhere else. */
export async function makeObjects(world) {
  const other = await tenantBucket();
  const words = [];
  const upload = async (bucket, name) => {
    const word = `kanary${randomBytes(6).toString('hex')}`;
    words.push(word);
    const { status, text } = await send('POST', `/storage/v1/object/${bucket}/${name}`, {
      headers: { apikey: env.ANON_KEY, Authorization: `Bearer ${world.people.owner.token}`, 'Content-Type': 'text/plain' },
      body: Buffer.from(`What only we may read: ${word}`),
    });
    if (status !== 200) throw new Error(`upload of ${name}: ${status} ${text}`);
    return name;
  };
  const names = [
    await upload(BUCKET, `${world.org}/${world.project}/plan.md/${randomUUID()}`),
    await upload(BUCKET, `${world.org}/${world.secretProject}/secret.md/${randomUUID()}`),
    await upload(other, `${world.org}/plan.md`),
  ];
  return { bucket: BUCKET, other, folder: world.org, names, words };
}

export async function removeObjects({ other, folder }) {
  for (const operation of ['select', 'insert', 'update', 'delete'])
    await query(`drop policy if exists "${other} ${operation}" on storage.objects`);
  // Supabase refuses a deletion by SQL unless its caller says that it means it. The sweeper deletes bytes that no row names.
  await query(`begin; set local storage.allow_delete_query = 'true';
    delete from storage.objects where bucket_id = '${other}' or starts_with(name, '${folder}'); commit`);
}
