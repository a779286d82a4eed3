// What the jobs of deploy/kubernetes run, on a cluster as CloudNativePG makes it: the superuser is `postgres`, connections are TLS,
// settings are those of the Cluster. By name only, since it applies all migrations: ./kijko test kubernetes
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { parseAllDocuments } from 'yaml';
import { giveToServer, Image, root } from '../cli/image.mjs';
import { binary } from '../service.mjs';
import { until } from '../until.mjs';

const folder = path.join(process.env.TEST_HOME, 'kubernetes');
const image = new Image(folder);
const data = path.join(folder, 'cluster');
const [{ spec }] = parseAllDocuments(fs.readFileSync(path.join(root, 'deploy/kubernetes/base/postgres.yaml'), 'utf8')).map((d) => d.toJS());
const secret = (name) => fs.readFileSync(path.join(folder, 'secrets', name), 'utf8').trim();
const openssl = (...args) => execFileSync('openssl', args, { cwd: folder, stdio: 'ignore' });

/** An authority, and certificates by it: of the server for localhost, and of one client. docs/operations/encryption.md has the commands. */
function makeCertificates() {
  const ec = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-x509', '-days', '2'];
  openssl('req', ...ec, '-keyout', 'ca.key', '-out', 'ca.crt', '-subj', '/CN=authority');
  const signed = ['-CA', 'ca.crt', '-CAkey', 'ca.key', '-addext', 'basicConstraints=critical,CA:FALSE'];
  const names = ['-addext', 'subjectAltName=DNS:localhost'];
  openssl('req', ...ec, ...signed, ...names, '-keyout', 'server.key', '-out', 'server.crt', '-subj', '/CN=localhost');
  for (const name of ['kijko_storage', 'kijko_indexer']) {
    openssl('req', ...ec, ...signed, '-keyout', `${name}.key`, '-out', `${name}.crt`, '-subj', `/CN=${name}`);
  }
}

/** postgresql.conf by the Cluster. */
function configuration(port) {
  const parameters = {
    ...spec.postgresql.parameters,
    'kijko.signing_key_file': path.join(folder, 'keys/signing.keys'),
    'kijko.seal_key_file': path.join(folder, 'keys/seal.keys'),
    shared_preload_libraries: spec.postgresql.shared_preload_libraries.join(','),
    port,
    listen_addresses: 'localhost',
    // The operator's own, in the Cluster, is always the same.
    unix_socket_directories: folder,
    'cron.host': folder,
    ssl: 'on',
    ssl_cert_file: path.join(folder, 'server.crt'),
    ssl_key_file: path.join(folder, 'server.key'),
    ssl_ca_file: path.join(folder, 'ca.crt'),
  };
  return Object.entries(parameters)
    .map(([name, value]) => `${name} = '${String(value).replaceAll("'", "''")}'\n`)
    .join('');
}

describe('a cluster as CloudNativePG makes it', () => {
  let port;
  const succeeds = async (promise) => {
    const { code, stdout, stderr } = await promise;
    assert.equal(code, 0, stdout + stderr);
    return (stdout + stderr).trim();
  };
  // As the operator does it: over the socket, as the user of the operating system.
  const operator = (sql, database = 'kijko') =>
    succeeds(
      image.program('psql', [
        '-X',
        '-q',
        '-At',
        '-v',
        'ON_ERROR_STOP=1',
        '-h',
        folder,
        '-p',
        port,
        '-U',
        'postgres',
        '-d',
        database,
        '-c',
        sql,
      ]),
    );
  const job = (extra = {}) => ({
    KIJKO_DB_HOST: 'localhost',
    KIJKO_DB_NAME: 'kijko',
    KIJKO_DB_OWNER: 'kijko_owner',
    PGSSLROOTCERT: path.join(folder, 'ca.crt'),
    KIJKO_PUBLIC_URL: 'https://api.example.com',
    KIJKO_SITE_URL: 'https://app.example.com',
    ...extra,
  });
  const platform = (extra) => image.run('kijko-platform', [], job(extra));
  const migrate = () => image.migrate(job({ KIJKO_DB_SSLMODE: 'verify-full' }));

  before(async () => {
    await image.prepare();
    execFileSync(path.join(root, 'deploy/kubernetes/secrets.sh'), ['make', path.join(folder, 'keys')], { stdio: 'ignore' });
    makeCertificates();
    giveToServer(folder);
    port = image.environment.KIJKO_DB_PORT;
    await succeeds(image.program('initdb', ['-D', data, '-U', 'postgres', '--auth-local=peer', '--encoding=UTF8', '--locale=C.UTF-8']));
    fs.appendFileSync(path.join(data, 'postgresql.conf'), configuration(port));
    fs.writeFileSync(
      path.join(data, 'pg_hba.conf'),
      [
        'local all all peer map=local',
        ...spec.postgresql.pg_hba,
        'hostssl kijko kijko_storage all scram-sha-256 clientcert=verify-full',
        'host all all all scram-sha-256',
        '',
      ].join('\n'),
    );
    // The images' user is called postgres.
    const own = process.getuid() === 0 ? 'postgres' : os.userInfo().username;
    const maps = spec.postgresql.pg_ident.map((line) => line.replace(/^local postgres /, `local ${own} `));
    fs.writeFileSync(path.join(data, 'pg_ident.conf'), [`local ${own} postgres`, ...maps, ''].join('\n'));
    await succeeds(image.program('pg_ctl', ['-D', data, '-w', '-s', '-l', path.join(folder, 'server.log'), 'start']));
    const { initdb } = spec.bootstrap;
    await operator(`create role ${initdb.owner} login password '${secret('postgres_password')}'`, 'postgres');
    await operator(`create database ${initdb.database} owner ${initdb.owner}`, 'postgres');
    const [{ name, superuser, login }] = spec.managed.roles;
    assert.ok(superuser && login);
    await operator(`create role ${name} superuser login password '${secret('admin_password')}'`, 'postgres');
  });

  after(async () => {
    await image.program('pg_ctl', ['-D', data, '-m', 'fast', '-s', 'stop']);
    fs.rmSync(folder, { recursive: true, force: true });
  });

  it('refuses to take the rights of the operator away, when nobody names another owner', async () => {
    const { code, stderr } = await platform({ KIJKO_DB_OWNER: 'postgres' });
    assert.equal(code, 1);
    assert.match(stderr, /owner of the domain is a superuser/);
    assert.equal(await operator(`select rolsuper from pg_roles where rolname = 'postgres'`), 't');
  });

  it('refuses a server without the certificate of the authority', async () => {
    const { code } = await platform({ PGSSLROOTCERT: '/dev/null' });
    assert.equal(code, 1);
    assert.equal(await operator(`select count(*) from pg_namespace where nspname = 'kijko'`), '0');
  });

  it('gets the platform and the migrations once, and nothing the second time', { timeout: 600_000 }, async () => {
    assert.match(await succeeds(platform()), /roles, extension, login/);
    await succeeds(migrate());
    const files = fs.readdirSync(path.join(root, 'supabase/migrations')).length;
    assert.equal(Number(await operator('select count(*) from supabase_migrations.schema_migrations')), files);
    // The container of a job keeps nothing.
    for (const name of ['home', 'migrate']) fs.rmSync(path.join(folder, name), { recursive: true });
    for (const name of ['home', 'migrate']) fs.mkdirSync(path.join(folder, name));
    giveToServer(path.join(folder, 'home'));
    assert.match(await succeeds(platform()), /sql\/platform is up to date/);
    assert.match(await succeeds(migrate()), /no migration is pending/);
    assert.equal(await operator('select issuer from auth_api.settings'), 'https://api.example.com/auth/v1');
  });

  it('has an owner that is no superuser, and owns the whole domain', async () => {
    assert.equal(await operator(`select rolsuper, rolbypassrls, rolcreaterole from pg_roles where rolname = 'kijko_owner'`), 'f|t|f');
    assert.equal(await operator(`select pg_get_userbyid(datdba) from pg_database where datname = 'kijko'`), 'supabase_admin');
    const owners = `select distinct pg_get_userbyid(relowner) from pg_class where relnamespace in ('public'::regnamespace, 'private'::regnamespace)
      union select distinct pg_get_userbyid(proowner) from pg_proc where pronamespace in ('public'::regnamespace, 'private'::regnamespace)`;
    assert.equal(await operator(owners), 'kijko_owner');
    const open = `select count(*) from pg_proc where pronamespace in ('public'::regnamespace, 'private'::regnamespace) and proacl is null`;
    assert.equal(await operator(open), '0');
    assert.equal(await operator(`select rolsuper from pg_roles where rolname = 'postgres'`), 't');
  });

  it('lets the parts in by their passwords and by TLS alone', async () => {
    const connect = (options) =>
      image.program('psql', [
        '-X',
        '-At',
        '-d',
        `postgres://kijko_sidecar:${secret('sidecar_password')}@localhost:${port}/kijko?${options}`,
        '-c',
        'select 1',
      ]);
    assert.equal(await succeeds(connect(`sslmode=verify-full&sslrootcert=${path.join(folder, 'ca.crt')}`)), '1');
    assert.notEqual((await connect('sslmode=disable')).code, 0);
  });

  it('asks a login for its own certificate, which psql and the services present', async () => {
    const url = (certificate) => {
      const own = certificate && `&sslcert=${folder}/${certificate}.crt&sslkey=${folder}/${certificate}.key`;
      const tls = `sslmode=verify-full&sslrootcert=${folder}/ca.crt${own ?? ''}`;
      return `postgres://kijko_storage:${secret('storage_password')}@localhost:${port}/kijko?${tls}`;
    };
    const psql = (certificate) => image.program('psql', ['-X', '-At', '-d', url(certificate), '-c', 'select 1']);
    const objects = path.join(folder, 'objects');
    fs.mkdirSync(objects, { recursive: true });
    const service = (certificate) =>
      image.execute([binary('storage'), ['check']], {
        DATABASE_URL: url(certificate),
        KIJKO_STORAGE_DIR: objects,
        KIJKO_STORAGE_SIGNING_KEY: secret('storage_signing_key'),
      });
    for (const connect of [psql, service]) {
      assert.notEqual((await connect()).code, 0);
      assert.notEqual((await connect('kijko_indexer')).code, 0);
      await succeeds(connect('kijko_storage'));
    }
  });

  it('runs the worker of the extension and pg_cron in the database of the domain', async () => {
    assert.match(await operator(`select count(*) from cron.job where database = 'kijko' and username = 'kijko_owner'`), /^[1-9]/);
    // They begin at full minutes.
    const runs = `select count(*) > 0 from cron.job_run_details where status = 'succeeded'`;
    await until('a schedule to succeed', async () => (await operator(runs)) === 't', { timeoutMs: 300_000, everyMs: 1000 });
    // The meter of requests and the outbox.
    const workers = `select count(*) from pg_stat_activity where datname = 'kijko' and backend_type like 'kijko%'`;
    assert.equal(await operator(workers), '2');
    assert.equal(await operator(`select kijko.verify_jwt(kijko.sign_jwt('{"role": "anon", "exp": 4000000000}')) ->> 'role'`), 'anon');
  });
});
