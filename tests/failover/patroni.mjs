// Two machines, as network namespaces on a bridge, with a Postgres under Patroni each; etcd is on the bridge. The first one takes the
// cluster of the test stack over, the second one becomes its synchronous standby.
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { binaries } from '../postgres.mjs';
import { until } from '../until.mjs';

const HOME = process.env.TEST_HOME;
assert.ok(HOME, 'TEST_HOME names the test stack: use ./kijko test failover');
const NETWORK = '10.251.77';
const BRIDGE = 'kijko-drill';
const ETCD = `${NETWORK}.1:2379`;
export const PORT = 5432;
// Patroni gives a lost primary up after this time; loop_wait + 2 * retry_timeout may be no longer.
// A primary that steps down ends within primary_stop_timeout, also while something waits for the lost standby.
const SETTINGS = {
  ttl: 20,
  loop_wait: 5,
  retry_timeout: 5,
  synchronous_mode: true,
  primary_stop_timeout: 10,
  postgresql: { use_pg_rewind: true, use_slots: true },
};

const ip = (...args) => execFileSync('ip', args, { stdio: 'pipe' });
/** The processes of a namespace. Without one the list is empty: process 0 would be this one's whole group. */
const pidsOf = (namespace) =>
  execFileSync('ip', ['netns', 'pids', namespace], { encoding: 'utf8', stdio: 'pipe' }).split('\n').filter(Boolean).map(Number);
const quietly = (body) => {
  try {
    body();
  } catch {
    // It is not there.
  }
};

// pg_hba replaces what ./kijko has written. docs/operations/failover.md has this line.
const SCHEDULES = 'local all postgres peer map=kijko_schedules';

export class Node {
  constructor(name, number, folder, data) {
    this.name = name;
    this.address = `${NETWORK}.${number}`;
    this.namespace = `${BRIDGE}-${name}`;
    this.link = `kjd-${name}`;
    this.folder = folder;
    this.data = data;
  }

  connect() {
    ip('netns', 'add', this.namespace);
    ip('link', 'add', this.link, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', this.namespace);
    ip('link', 'set', this.link, 'master', BRIDGE, 'up');
    ip('-n', this.namespace, 'address', 'add', `${this.address}/24`, 'dev', 'eth0');
    for (const link of ['lo', 'eth0']) ip('-n', this.namespace, 'link', 'set', link, 'up');
  }

  cutOff = () => ip('link', 'set', this.link, 'down');
  heal = () => ip('link', 'set', this.link, 'up');

  /** A program in this machine, as the server's user. */
  command = (program, ...args) => [
    'netns',
    'exec',
    this.namespace,
    'setpriv',
    '--reuid=postgres',
    '--regid=postgres',
    '--init-groups',
    '--',
    program,
    ...args,
  ];

  start() {
    const log = fs.openSync(path.join(HOME, `log/patroni-${this.name}.log`), 'a');
    this.child = spawn('ip', this.command('patroni', path.join(this.folder, `${this.name}.yml`)), {
      stdio: ['ignore', log, log],
      detached: true,
      env: { PATH: process.env.PATH, HOME: this.folder, LC_ALL: 'C.UTF-8' },
    });
    fs.closeSync(log);
  }

  /** As a power failure: Patroni, the postmaster and all its children at once. */
  async kill() {
    const pids = pidsOf(this.namespace);
    assert.ok(pids.length > 5, `${this.name} runs Patroni and Postgres`);
    const exited = once(this.child, 'exit');
    for (const pid of pids) quietly(() => process.kill(pid, 'SIGKILL'));
    await exited;
    await until(`${this.name} to be dead`, () => pidsOf(this.namespace).length === 0);
  }

  /** What Patroni says of it. */
  state = async () => {
    try {
      const answer = await fetch(`http://${this.address}:8008/patroni`, { signal: AbortSignal.timeout(2000) });
      return await answer.json();
    } catch {
      return {};
    }
  };
}

export class Pair {
  constructor() {
    this.folder = path.join(HOME, 'failover');
    this.a = new Node('a', 11, this.folder, path.join(HOME, 'data'));
    this.b = new Node('b', 12, this.folder, path.join(this.folder, 'data'));
    this.nodes = [this.a, this.b];
  }

  other = (node) => this.nodes.find((each) => each !== node);

  #configuration({ name, address, data }) {
    const { KIJKO_ADMIN_PASSWORD: admin } = passwords();
    const own = {
      listen: `${address}:${PORT}`,
      connect_address: `${address}:${PORT}`,
      data_dir: data,
      bin_dir: binaries(path.join(HOME, 'pgsql')),
    };
    return {
      scope: 'kijko',
      name,
      restapi: { listen: `${address}:8008`, connect_address: `${address}:8008` },
      etcd3: { hosts: [ETCD] },
      bootstrap: { dcs: SETTINGS },
      postgresql: {
        ...own,
        pgpass: path.join(this.folder, `${name}.pgpass`),
        use_unix_socket: false,
        authentication: {
          superuser: { username: 'supabase_admin', password: admin },
          replication: { username: 'kijko_replicator', password: admin },
        },
        parameters: { max_connections: 120, max_worker_processes: 24, wal_log_hints: 'on' },
        pg_hba: [
          SCHEDULES,
          `host all all ${NETWORK}.0/24 scram-sha-256`,
          `host replication kijko_replicator ${NETWORK}.0/24 scram-sha-256`,
        ],
      },
    };
  }

  async start() {
    this.stop();
    fs.rmSync(this.folder, { recursive: true, force: true });
    fs.mkdirSync(this.folder, { mode: 0o700 });
    ip('link', 'add', BRIDGE, 'type', 'bridge');
    ip('address', 'add', `${NETWORK}.1/24`, 'dev', BRIDGE);
    ip('link', 'set', BRIDGE, 'up');
    for (const node of this.nodes) {
      node.connect();
      // YAML is a superset of JSON.
      fs.writeFileSync(path.join(this.folder, `${node.name}.yml`), JSON.stringify(this.#configuration(node)), { mode: 0o600 });
    }
    execFileSync('chown', ['-R', 'postgres:', this.folder]);
    const urls = [
      '--listen-client-urls',
      `http://${ETCD}`,
      '--advertise-client-urls',
      `http://${ETCD}`,
      '--listen-peer-urls',
      `http://${NETWORK}.1:2380`,
    ];
    const log = fs.openSync(path.join(HOME, 'log/etcd.log'), 'a');
    this.etcd = spawn('etcd', ['--name', 'drill', '--data-dir', path.join(this.folder, 'etcd'), ...urls], { stdio: ['ignore', log, log] });
    fs.closeSync(log);
    await until('etcd to answer', () =>
      fetch(`http://${ETCD}/health`).then(
        ({ ok }) => ok,
        () => false,
      ),
    );
    this.started = true;
    this.a.start();
    await this.becomesPrimary(this.a);
    this.b.start();
    await this.isSynchronous(this.b);
  }

  becomesPrimary = (node) =>
    until(`${node.name} to be the primary`, async () => (await node.state()).role === 'master', { timeoutMs: 300_000, everyMs: 100 });

  /** Whether commits wait for this node. */
  isSynchronous = (node) =>
    until(`${node.name} to be the synchronous standby`, async () => (await node.state()).sync_standby === true, {
      timeoutMs: 300_000,
      everyMs: 200,
    });

  stop() {
    for (const node of this.nodes) {
      quietly(() => {
        for (const pid of pidsOf(node.namespace)) quietly(() => process.kill(pid, 'SIGKILL'));
      });
      // Of a server that was killed: ./kijko down would wait for it.
      if (this.started) fs.rmSync(path.join(node.data, 'postmaster.pid'), { force: true });
      quietly(() => ip('link', 'del', node.link));
      quietly(() => ip('netns', 'del', node.namespace));
    }
    this.etcd?.kill('SIGKILL');
    quietly(() => ip('link', 'del', BRIDGE));
  }
}

/** Of the roles of the test stack. */
export const passwords = () =>
  Object.fromEntries(
    [...fs.readFileSync(path.join(HOME, 'secrets/passwords'), 'utf8').matchAll(/^(\w+)=(\S+)$/gm)].map(([, name, value]) => [name, value]),
  );
