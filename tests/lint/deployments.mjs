// A part of the stack is in every way to run it: ./kijko and its units, the Debian package, docker compose, Kubernetes. And
// each setting that a service reads reaches it in a container.
import { parse, parseAllDocuments } from 'yaml';
import { filesOf, isMain, ROOT, read, report } from './tree.mjs';

// The programs of Rust; the others come from their own images.
const PROGRAMS = ['sidecar', 'realtime', 'storage', 'indexer'];
// Jobs that run once, by hand or at each start.
const JOBS = ['migrate', 'restore'];
// Docker keeps the size of logs, and so does Kubernetes.
const WITHOUT_CONTAINER = ['rotation'];
// In Kubernetes it is a Cluster of CloudNativePG.
const WITHOUT_DEPLOYMENT = ['postgres'];
// Set by the images or by compose itself, or given as files. The clients of providers have names of their own.
const NOT_IN_COMPOSE = /_BIND$|^KIJKO_OAUTH_GITHUB_/;
const SECTIONS = { Sidecar: 'sidecar', Realtime: 'realtime', Storage: 'storage', Indexer: 'indexer' };

const words = (text) => text.trim().split(/\s+/);

/** The parts of ./kijko: those that always run, those on demand, Postgres and the rotation of logs. */
export function parts(root) {
  const services = read(root, 'scripts/services.sh');
  const list = (name) => words(services.match(new RegExp(`^${name}=\\(([^)]*)\\)`, 'm'))[1]);
  return ['postgres', ...list('SERVICES'), ...list('OPTIONAL_SERVICES'), 'rotation'];
}

/** Each place that lists parts, with the parts that it has. */
function places(root) {
  const compose = parse(read(root, 'docker-compose.yml'), { merge: true }).services;
  const units = read(root, 'scripts/units.sh');
  const services = read(root, 'scripts/services.sh');
  const image = read(root, 'deploy/docker/sidecar.Dockerfile');
  const names = (text, pattern) => [...text.matchAll(pattern)].map(([, name]) => name);
  const branches = (name) => {
    const [, body] = services.match(new RegExp(`^${name}\\(\\) \\{\\n([\\s\\S]*?)^\\}`, 'm'));
    return names(body, /^ {4}([a-z |]+)\)/gm).flatMap((alternatives) => alternatives.split(' | '));
  };
  const running = (all) => all.filter((part) => !WITHOUT_CONTAINER.includes(part));
  const listening = (all) => running(all).filter((part) => part !== 'postgres');
  return [
    ['docker-compose.yml', Object.keys(compose).filter((name) => !JOBS.includes(name)), running],
    ['deploy/kubernetes', deployments(root), (all) => running(all).filter((part) => !WITHOUT_DEPLOYMENT.includes(part))],
    // The sidecar's name says what it is.
    ['unit_value in scripts/units.sh', [...names(units, /DESCRIPTION:([a-z]+)\)/g), 'sidecar']],
    ['start_* in scripts/services.sh', [...names(services, /^start_([a-z]+)\(\)/gm), 'postgres']],
    ['health_url in scripts/services.sh', branches('health_url'), listening],
    ['service_port in scripts/services.sh', branches('service_port'), running],
    ['service_version in scripts/services.sh', branches('service_version'), running],
    ['stop_services in scripts/stack.sh', stopped(read(root, 'scripts/stack.sh')), (all) => all.filter((part) => part !== 'postgres')],
    ['fill_package in scripts/package.sh', names(read(root, 'scripts/package.sh'), /"\$([A-Z]+)_BINARY"/g).map(lower), programs],
    ['cargo build in sidecar.Dockerfile', names(image, /--package kijko-([a-z]+)/g), programs],
    ['COPY in sidecar.Dockerfile', names(image.match(/^COPY --from=builder .*$/m)[0], /\/release\/kijko-([a-z]+)/g), programs],
    ['ENV in sidecar.Dockerfile', names(image, /KIJKO_([A-Z]+)_BIND=/g).map(lower), programs],
    [
      'deploy/docker/sidecar-healthy.sh',
      names(read(root, 'deploy/docker/sidecar-healthy.sh'), /KIJKO_([A-Z]+)_BIND/g).map(lower),
      programs,
    ],
  ].map(([place, found, wanted = (all) => all]) => ({ place, found, wanted }));
}

const lower = (name) => name.toLowerCase();
const programs = (all) => all.filter((part) => PROGRAMS.includes(part));

/** The parts that stop_services stops. */
function stopped(text) {
  const [, body] = text.match(/^stop_services\(\) \{\n([\s\S]*?)^\}/m);
  return [...body.matchAll(/stop_service ([a-z]+);/g), ...body.matchAll(/for name in ([^;]+);/g)].flatMap(([, list]) => words(list));
}

/** The names of all Deployments of the base and its components. */
function deployments(root) {
  return filesOf(root, 'deploy/kubernetes')
    .filter((path) => /\/(base|components)\/.*\.yaml$/.test(path))
    .flatMap((path) => parseAllDocuments(read(root, path)).map((document) => document.toJS()))
    .filter((resource) => resource?.kind === 'Deployment')
    .map(({ metadata }) => metadata.name);
}

/** The settings that a service reads by docs/reference/settings.md. */
function settingsOf(root, section) {
  const text = read(root, 'docs/reference/settings.md').split(`\n## ${section}\n`)[1].split('\n## ')[0];
  return text
    .split('\n')
    .filter((line) => line.startsWith('| `'))
    .flatMap((line) => [...line.split(' | ')[0].matchAll(/`([A-Z][A-Z0-9_]+)`/g)].map(([, name]) => name));
}

/** The roles with a password, by the first list of each place. */
function passwords(root) {
  const lists = (path, pattern) => words(read(root, path).match(pattern)[1].replaceAll(',', ' ').toUpperCase());
  return [
    ['make_secrets in scripts/cluster.sh', lists('scripts/cluster.sh', /for name in ([A-Z ]+); do/)],
    ['load_secrets in scripts/cluster.sh', lists('scripts/cluster.sh', /export -n KIJKO_\{([A-Z,]+)\}_PASSWORD/)],
    ['SECRET_VARIABLES in scripts/config.sh', lists('scripts/config.sh', /KIJKO_\{([A-Z,]+)\}_PASSWORD/)],
    ['deploy/docker/postgres-lib.sh', lists('deploy/docker/postgres-lib.sh', /for name in (ADMIN [A-Z ]+); do/)],
    ['deploy/docker/make-secrets.sh', lists('deploy/docker/make-secrets.sh', /for name in (admin [a-z ]+); do/)],
    [
      'docker-compose.yml',
      [...read(root, 'docker-compose.yml').matchAll(/^ {2}([a-z]+)_password:/gm)].map(([, name]) => name.toUpperCase()),
    ],
    [
      'deploy/kubernetes/secrets.yaml',
      [...read(root, 'deploy/kubernetes/secrets.yaml').matchAll(/- ([a-z]+)_password$/gm)].map(([, name]) => name.toUpperCase()),
    ],
  ];
}

export function checkDeployments(root) {
  const all = parts(root);
  const compose = parse(read(root, 'docker-compose.yml'), { merge: true }).services;
  const forgotten = places(root).flatMap(({ place, found, wanted }) =>
    wanted(all)
      .filter((part) => !found.includes(part))
      .map((part) => `${place} lacks the part ${part}`),
  );
  const unknown = PROGRAMS.filter((part) => !all.includes(part)).map((part) => `scripts/services.sh lacks the part ${part}`);
  const settings = Object.entries(SECTIONS).flatMap(([section, service]) => {
    const given = Object.keys(compose[service]?.environment ?? {});
    return settingsOf(root, section)
      .filter((name) => !NOT_IN_COMPOSE.test(name) && !given.includes(name) && !given.includes(`${name}_FILE`))
      .map((name) => `docker-compose.yml does not give ${name} to ${service}`);
  });
  const [[, roles], ...others] = passwords(root);
  const secrets = others.flatMap(([place, found]) =>
    roles.filter((role) => !found.includes(role)).map((role) => `${place} lacks the password of ${role}`),
  );
  return [...unknown, ...forgotten, ...settings, ...secrets];
}

if (isMain(import.meta)) report('deployments', checkDeployments(ROOT));
