// deploy/kubernetes: both overlays build, their resources are what Kubernetes and CloudNativePG know, and fit each other: secrets
// and the files that parts read, services and who may reach them, the settings of PostgREST and those of docker compose.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { parse, parseAllDocuments } from 'yaml';

const root = path.resolve(import.meta.dirname, '../..');
const kubernetes = path.join(root, 'deploy/kubernetes');
const python = path.join(root, 'target/tools/kubernetes/bin/python');
const build = (folder) => execFileSync(process.env.KUBECTL ?? 'kubectl', ['kustomize', folder], { encoding: 'utf8' });
const resources = (text) => parseAllDocuments(text, { version: '1.1' }).map((document) => document.toJS());
const check = (input) => spawnSync(python, [path.join(import.meta.dirname, 'kubernetes.py')], { input, encoding: 'utf8' });
const key = 'app.kubernetes.io/name';
const containersOf = ({ template: { spec } }) => [...(spec.initContainers ?? []), ...spec.containers];

let folder;
let secretsFolder;
const secrets = (...command) => execFileSync(path.join(kubernetes, 'secrets.sh'), [...command, secretsFolder], { stdio: 'pipe' });
before(() => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'kijko-kubernetes-'));
  secretsFolder = path.join(folder, 'secrets');
  secrets('make');
});
after(() => fs.rmSync(folder, { recursive: true }));

for (const name of ['staging', 'production']) {
  describe(`the overlay ${name}`, () => {
    let text;
    let all;
    const kind = (wanted) => all.filter((resource) => resource.kind === wanted);
    const named = (wanted, called) => kind(wanted).find(({ metadata }) => metadata.name === called);
    const pods = () => [...kind('Deployment'), ...kind('Job')];
    before(() => {
      text = build(path.join(kubernetes, 'overlays', name));
      all = resources(text);
    });

    it('is known to the schemas', () => {
      const { status, stdout, stderr } = check(text);
      assert.equal(stdout + stderr, '');
      assert.equal(status, 0);
    });

    it('has a fault noticed: a wrong field of Kubernetes, of CloudNativePG, a wrong value', () => {
      const broken = text
        .replace('maxUnavailable', 'maxUnavailible')
        .replace('dataChecksums', 'dataCheckSums')
        .replace('poolMode: transaction', 'poolMode: statement');
      const { status, stdout } = check(broken);
      assert.equal(status, 1);
      for (const word of ['maxUnavailible', 'dataCheckSums', 'statement']) assert.match(stdout, new RegExp(word));
    });

    it('gives each pod the files that it reads, out of secrets that secrets.sh makes', () => {
      const made = new Map(resources(build(secretsFolder)).map(({ metadata, data }) => [metadata.name, Object.keys(data)]));
      // CloudNativePG makes it.
      made.set('kijko-db-ca', ['ca.crt']);
      for (const { metadata, spec } of pods()) {
        const { volumes } = spec.template.spec;
        for (const { secret } of volumes.filter(({ secret: it }) => it)) {
          assert.ok(made.has(secret.secretName), `${metadata.name}: ${secret.secretName}`);
          assert.equal(secret.defaultMode, 0o440);
          for (const item of secret.items ?? []) assert.ok(made.get(secret.secretName).includes(item.key));
        }
        const own = volumes.filter((volume) => volume.name === 'secrets').flatMap(({ secret }) => made.get(secret.secretName));
        const read = containersOf(spec)
          .flatMap(({ env }) => env)
          .map(({ value }) => /^@?\/run\/secrets\/(.+)$/.exec(value ?? '')?.[1])
          .filter(Boolean);
        assert.deepEqual(
          read.filter((file) => !own.includes(file)),
          [],
          metadata.name,
        );
      }
      const { bootstrap, managed, projectedVolumeTemplate } = named('Cluster', 'kijko-db').spec;
      for (const secret of [bootstrap.initdb.secret, managed.roles[0].passwordSecret]) assert.ok(made.has(secret.name));
      assert.deepEqual(made.get(projectedVolumeTemplate.sources[0].secret.name).sort(), ['seal.keys', 'signing.keys']);
    });

    it('confines every pod, asks whether it lives, bounds its memory and its disruption', () => {
      for (const { kind: of, metadata, spec } of pods()) {
        const { securityContext, containers, automountServiceAccountToken } = spec.template.spec;
        assert.equal(securityContext.runAsNonRoot, true, metadata.name);
        assert.equal(automountServiceAccountToken, false);
        for (const container of containersOf(spec)) {
          assert.deepEqual(container.securityContext, {
            allowPrivilegeEscalation: false,
            readOnlyRootFilesystem: true,
            capabilities: { drop: ['ALL'] },
          });
          assert.ok(container.resources.limits.memory && container.resources.requests.cpu);
          if (of !== 'Job') assert.ok(container.livenessProbe, container.name);
        }
        if (of === 'Job') continue;
        assert.ok(containers[0].readinessProbe, metadata.name);
        const budget = named('PodDisruptionBudget', metadata.name);
        assert.equal(budget.spec.selector.matchLabels[key], spec.template.metadata.labels[key]);
      }
    });

    it('lets a pod be reached by the names and on the ports that others are given, and by no pod that is given none', () => {
      const policies = kind('NetworkPolicy');
      const policyOf = (label) => policies.find(({ spec }) => spec.podSelector.matchLabels?.[key] === label && spec.ingress);
      const ports = (rules) => (rules ?? []).flatMap((rule) => (rule.ports ?? []).map(({ port }) => port));
      for (const { metadata, spec } of kind('Deployment')) {
        for (const { name: variable, value } of spec.template.spec.containers[0].env) {
          const [, host, port] = /^(?:http:\/\/)?([a-z]+):(\d+)$/.exec(value ?? '') ?? [];
          if (!host || !/_UPSTREAM$|_URL$/.test(variable)) continue;
          const service = named('Service', host);
          const target = service.spec.ports.find((each) => each.port === Number(port)).targetPort;
          const container = named('Deployment', service.spec.selector[key]).spec.template.spec.containers[0];
          assert.equal(container.ports.find((each) => each.name === target).containerPort, Number(port));
          const from = policyOf(host).spec.ingress.filter((rule) => ports([rule]).includes(Number(port)));
          assert.ok(
            from.some((rule) => rule.from.some(({ podSelector }) => podSelector.matchLabels[key] === metadata.name)),
            `${metadata.name} to ${host}`,
          );
          const out = policies.filter((policy) => policy.spec.podSelector.matchLabels?.[key] === metadata.name);
          assert.ok(ports(out.flatMap((policy) => policy.spec.egress)).includes(Number(port)), `${metadata.name} out to ${host}`);
        }
        assert.ok(
          policies.some((policy) => policy.spec.podSelector.matchLabels?.[key] === metadata.name),
          metadata.name,
        );
      }
      assert.deepEqual(named('NetworkPolicy', 'default-deny').spec, { podSelector: {}, policyTypes: ['Ingress', 'Egress'] });
    });

    it('has the log of requests read beside Caddy, to its end, by a program that alone has the password', () => {
      const { spec } = named('Deployment', 'caddy').spec.template;
      const [[reader], [caddy]] = [spec.initContainers, spec.containers];
      const given = (container, variable) => container.env.find(({ name: it }) => it === variable)?.value;
      assert.equal(given(caddy, 'KIJKO_ACCESS_LOGGING'), 'access_log');
      assert.equal(given(caddy, 'KIJKO_ACCESS_LOG'), given(reader, 'KIJKO_ACCESS_LOG'));
      const mountOf = (container, volume) => container.volumeMounts.find(({ name: it }) => it === volume);
      const [written, read] = [caddy, reader].map((container) => mountOf(container, 'requests'));
      assert.equal(written.mountPath, path.dirname(given(caddy, 'KIJKO_ACCESS_LOG')));
      assert.deepEqual(read, { ...written, readOnly: true });
      assert.ok(!mountOf(caddy, 'secrets'));
      const { secret } = spec.volumes.find(({ name: it }) => it === 'secrets');
      assert.deepEqual(secret.items, [{ key: 'sidecar_db_uri', path: 'sidecar_db_uri' }]);
      // With this policy Kubernetes ends it after Caddy. Both take their time.
      assert.equal(reader.restartPolicy, 'Always');
      assert.ok(!reader.readinessProbe, 'requests are served without it');
      const seconds = Number(/^\tgrace_period (\d+)s$/m.exec(fs.readFileSync(path.join(root, 'deploy/Caddyfile'), 'utf8'))[1]);
      const [, reading] = /KIJKO_SHUTDOWN_SECONDS` \| `(\d+)`/.exec(fs.readFileSync(path.join(root, 'docs/reference/settings.md'), 'utf8'));
      assert.ok(spec.terminationGracePeriodSeconds > seconds + Number(reading));
      // The log, all of its former files, and one more.
      const [, keep] = /roll_keep (\d+)/.exec(fs.readFileSync(path.join(root, 'deploy/Caddyfile'), 'utf8'));
      const { emptyDir } = spec.volumes.find(({ name: it }) => it === 'requests');
      assert.ok(Number.parseInt(emptyDir.sizeLimit, 10) >= (Number(keep) + 2) * 10);
      const out = kind('NetworkPolicy').find(({ metadata }) => metadata.name === 'caddy').spec.egress;
      assert.ok(out.some(({ to, ports }) => to[0].podSelector.matchLabels['cnpg.io/cluster'] === 'kijko-db' && ports[0].port === 5432));
      for (const [policy, port] of [
        ['database', 5432],
        ['metrics', reader.ports[0].containerPort],
      ]) {
        const { ingress, podSelector } = kind('NetworkPolicy').find(({ metadata }) => metadata.name === policy).spec;
        const admitted = JSON.stringify(policy === 'database' ? ingress[0].from : podSelector);
        assert.match(admitted, /"caddy"/);
        assert.ok(
          ingress[0].ports.some((each) => each.port === port),
          policy,
        );
      }
    });

    it("has pg_cron connect over the operator's socket, as the owner of the schedules", () => {
      const { bootstrap, postgresql } = named('Cluster', 'kijko-db').spec;
      assert.equal(postgresql.parameters['cron.use_background_workers'], 'off');
      assert.equal(postgresql.parameters['cron.host'], '/controller/run');
      assert.equal(postgresql.parameters['cron.database_name'], bootstrap.initdb.database);
      assert.deepEqual(postgresql.pg_ident, [`local postgres ${bootstrap.initdb.owner}`]);
    });

    it('leads every part to the primary by a verified certificate', () => {
      const uris = fs.readdirSync(secretsFolder).filter((file) => file.endsWith('_db_uri'));
      assert.equal(uris.length, 7);
      for (const file of uris) {
        const uri = new URL(fs.readFileSync(path.join(secretsFolder, file), 'utf8').trim());
        assert.equal(uri.hostname, file === 'rest_db_uri' ? 'kijko-pooler' : 'kijko-db-rw');
        assert.equal(uri.search, '?sslmode=verify-full&sslrootcert=/run/ca/ca.crt');
      }
      const [cluster, pooler] = [named('Cluster', 'kijko-db').spec, named('Pooler', 'kijko-pooler')];
      assert.equal(cluster.certificates.serverAltDNSNames[0], pooler.metadata.name);
      // Tenants share the connections that all PostgREST together have.
      const connections = pooler.spec.instances * Number(pooler.spec.pgbouncer.parameters.default_pool_size);
      assert.equal(Number(cluster.postgresql.parameters['kijko.connection_pool_size']), connections);
    });
  });
}

it('in production a commit is on two instances, and no image is called latest', () => {
  const all = resources(build(path.join(kubernetes, 'overlays/production')));
  const { spec } = all.find(({ kind }) => kind === 'Cluster');
  assert.deepEqual(spec.postgresql.synchronous, { method: 'any', number: 1, dataDurability: 'required' });
  assert.ok(spec.instances >= 3);
  const images = all.flatMap(
    (resource) => resource.spec?.template?.spec.containers?.map(({ image }) => image) ?? [resource.spec?.imageName],
  );
  for (const image of images.filter(Boolean)) assert.match(image, /:v?\d/);
});

it('the component telemetry lets every program that reports faults out to the internet and to a collector, and no other pod', () => {
  const own = fs.mkdtempSync(path.join(folder, 'overlay-'));
  const from = (name) => path.relative(fs.realpathSync(own), path.join(kubernetes, name));
  const overlay = { resources: [from('overlays/production')], components: [from('components/telemetry')] };
  const settings = { literals: ['SENTRY_DSN=https://key@sentry.example.com/1'], name: 'kijko-settings', namespace: 'kijko' };
  const kustomization = { ...overlay, namespace: 'kijko', configMapGenerator: [{ ...settings, behavior: 'merge' }] };
  fs.writeFileSync(path.join(own, 'kustomization.yaml'), JSON.stringify(kustomization));
  const text = build(own);
  assert.equal(check(text).status, 0);
  const all = resources(text);
  const config = all.find(({ kind, metadata }) => kind === 'ConfigMap' && metadata.name.startsWith('kijko-settings'));
  const isOurs = ({ image }) => /\/sidecar:/.test(image);
  const programs = all.filter(({ kind, spec }) => kind === 'Deployment' && containersOf(spec).some(isOurs));
  assert.equal(programs.length, 5);
  for (const { spec } of programs) {
    assert.deepEqual(containersOf(spec).find(isOurs).envFrom, [{ configMapRef: { name: config.metadata.name } }]);
  }
  assert.equal(config.data.SENTRY_DSN, 'https://key@sentry.example.com/1');
  const { spec } = all.find(({ kind, metadata }) => kind === 'NetworkPolicy' && metadata.name === 'telemetry');
  assert.deepEqual(
    spec.podSelector.matchExpressions[0].values.toSorted(),
    programs.map((program) => program.spec.template.metadata.labels[key]).toSorted(),
  );
  const [internet, collector] = spec.egress;
  assert.deepEqual(internet.ports, [{ protocol: 'TCP', port: 443 }]);
  const [ipv4] = internet.to;
  for (const range of ['10.0.0.0/8', '169.254.0.0/16', '172.16.0.0/12', '192.168.0.0/16']) assert.ok(ipv4.ipBlock.except.includes(range));
  assert.deepEqual(collector.ports, [{ protocol: 'TCP', port: 4318 }]);
  assert.deepEqual(collector.to, [{ namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'monitoring' } } }]);
});

it('PostgREST has the settings that docker compose gives it, but for its way to the database', () => {
  const compose = parse(fs.readFileSync(path.join(root, 'docker-compose.yml'), 'utf8'), { merge: true }).services;
  const all = resources(build(path.join(kubernetes, 'overlays/staging')));
  for (const name of ['rest', 'login']) {
    const [container] = all.find(({ kind, metadata }) => kind === 'Deployment' && metadata.name === name).spec.template.spec.containers;
    const { PGRST_DB_PREPARED_STATEMENTS: prepared, ...given } = Object.fromEntries(container.env.map((each) => [each.name, each.value]));
    assert.deepEqual(given, compose[name].environment);
    assert.equal(prepared, name === 'rest' ? 'false' : undefined);
  }
});

it('secrets.sh changes nothing when run again, and rotates both kinds of keys', () => {
  const read = (name) => fs.readFileSync(path.join(secretsFolder, name), 'utf8');
  const signing = () =>
    [...read('signing.keys').matchAll(/^# (\w+) since .*\n(-----BEGIN[\s\S]*?-----END .*-----)$/gm)].map((m) => m.slice(1));
  const former = fs.readdirSync(secretsFolder).map((name) => [name, read(name)]);
  secrets('make');
  assert.deepEqual(
    fs.readdirSync(secretsFolder).map((name) => [name, read(name)]),
    former,
  );
  const [[, first]] = signing();
  assert.throws(() => secrets('rotate'));
  secrets('next');
  const [, [, second]] = signing();
  assert.deepEqual(
    signing().map(([state]) => state),
    ['current', 'next'],
  );
  secrets('rotate');
  assert.deepEqual(signing(), [
    ['current', second],
    ['previous', first],
  ]);
  secrets('prune');
  assert.deepEqual(signing(), [['current', second]]);
  const seals = () => read('seal.keys').trim().split('\n');
  const [sealed] = seals();
  secrets('seal');
  assert.equal(seals().length, 2);
  assert.equal(seals()[1], sealed);
  secrets('prune-seal');
  assert.equal(seals().length, 1);
  assert.notEqual(seals()[0], sealed);
});
