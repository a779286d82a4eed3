// Checks that every domain has a file in each place that is named after domains, and that no file has more than 400 lines.
//
// The migrations name the domains: the first ten digits of a time stamp are a block, a block is a domain, and the name of
// the block's first file is the domain's name.
import { LARGE_FILES, NO_DOMAIN, SHARED_FUNCTIONS } from './exceptions.mjs';
import { exists, filesOf, isMain, namesIn, ROOT, read, repeated, report } from './tree.mjs';

const MIGRATIONS = 'supabase/migrations';
const MAX_LINES = 400;

// Where files are named after domains, and how a file's name ends there. `required` places need one for each domain.
const PLACES = [
  { folder: 'supabase/tests/database', ending: '.test.sql', required: true },
  { folder: 'tests/journeys', ending: '.test.mjs', required: true },
  { folder: 'tests/database-race', ending: '.test.mjs', required: false },
];
const GUIDES = 'docs/guides';

// The foundation needs no tests and no guide of its own: those of the other domains cover it.
const WITHOUT_PLACES = new Set(['foundation']);

const SOURCE = /\.(rs|sql|mjs|ts|sh|md|css|html)$/;
// Written by a program, or a record of what a program printed.
const GENERATED = [
  /^supabase\/database\.types\.ts$/,
  /^docs\/reference\//,
  /^kijko_ext\/sql\//,
  /\/tests\/(pg_regress|isolation)\/expected\//,
  /^CHANGELOG\.md$/,
];

/** Every finding about the tree at `root` that the exceptions do not allow, as sentences that name the place. */
export function checkLayout(root, { largeFiles, noDomain, sharedFunctions }) {
  const { domains, findings } = readDomains(namesIn(root, MIGRATIONS));
  return [
    ...findings,
    ...missingPlaces(root, domains),
    ...sidecarFolders(root, domains),
    ...foreignFiles(root, domains, noDomain),
    ...foreignFunctions(root, domains, sharedFunctions),
    ...oversized(root, largeFiles),
    ...testAreas(root),
    ...repeatedLists(root),
  ];
}

// Migrations of a product that is built on Kijko: they form no domain.
const OWN = /^\d{14}_own_/;

/** The domains in the order of their blocks, the blocks as a map to domains, and what is wrong with the migrations' names. */
export function readDomains(names) {
  const findings = [];
  const domainOfBlock = new Map();
  let last = '';
  for (const name of [...names].filter((each) => !OWN.test(each)).sort()) {
    const [, stamp, subject] = name.match(/^(\d{14})_([a-z][a-z0-9_]*)\.sql$/) ?? [];
    if (!stamp || !isTime(stamp)) {
      findings.push(`${MIGRATIONS}/${name} must be called <YYYYMMDDHHMMSS>_<domain>[_<subject>].sql`);
      continue;
    }
    if (stamp === last) findings.push(`${MIGRATIONS}/${name} has the time stamp of the file before it`);
    last = stamp;
    const block = stamp.slice(0, 10);
    const domain = domainOfBlock.get(block);
    if (!domain) {
      if ([...domainOfBlock.values()].includes(subject)) findings.push(`${MIGRATIONS}/${name} starts a second block of ${subject}`);
      domainOfBlock.set(block, subject);
    } else if (!belongsTo(subject, domain)) {
      findings.push(`${MIGRATIONS}/${name} is in the block of ${domain}: call it ${stamp}_${domain}_<subject>.sql or give it a block`);
    }
  }
  return { domains: [...domainOfBlock.values()], domainOfBlock, findings };
}

function isTime(stamp) {
  const [, year, month, day, hour, minute, second] = stamp.match(/^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)$/);
  const iso = `${year}-${month}-${day}T${hour}:${minute}:${second}.000Z`;
  const time = new Date(iso);
  return !Number.isNaN(time.getTime()) && time.toISOString() === iso;
}

const belongsTo = (name, domain) => name === domain || name.startsWith(`${domain}_`);

function missingPlaces(root, domains) {
  return domains
    .filter((domain) => !WITHOUT_PLACES.has(domain))
    .flatMap((domain) => [
      ...PLACES.filter(({ required }) => required).map(({ folder, ending }) => `${folder}/${domain}${ending}`),
      `${GUIDES}/${domain}.md`,
    ])
    .filter((path) => !exists(root, path))
    .map((path) => `${path} is missing`);
}

/** The folders of the sidecar are the domains that app.rs lists, and every one of them is a domain. */
function sidecarFolders(root, domains) {
  if (!exists(root, 'sidecar/src/domains')) return [];
  const folders = [...new Set(filesOf(root, 'sidecar/src/domains').map((path) => path.split('/')[3]))].filter(
    (name) => !name.endsWith('.rs'),
  );
  const list = read(root, 'sidecar/src/app.rs').match(/\bconst DOMAINS\b[^=]*=\s*&?\[([^\]]*)\]/);
  if (!list) return ['sidecar/src/app.rs has no list DOMAINS, although sidecar/src/domains has folders'];
  const listed = [...list[1].matchAll(/\bdomains::([a-z0-9_]+)::/g)].map(([, name]) => name);
  return [
    ...folders
      .filter((name) => !listed.includes(name))
      .map((name) => `sidecar/src/domains/${name} is not in the list of sidecar/src/app.rs`),
    ...listed
      .filter((name, at) => !folders.includes(name) && listed.indexOf(name) === at)
      .map((name) => `sidecar/src/domains/${name} is missing, but sidecar/src/app.rs lists it`),
    ...folders
      .filter((name) => !domains.includes(name))
      .map((name) => `sidecar/src/domains/${name} is no domain: ${MIGRATIONS} has no block of that name`),
  ];
}

function foreignFiles(root, domains, noDomain) {
  return PLACES.flatMap(({ folder, ending }) => {
    const names = namesIn(root, folder)
      .filter((name) => name.endsWith(ending))
      .map((name) => name.slice(0, -ending.length));
    const allowed = Object.keys(noDomain[folder] ?? {});
    return [
      ...names
        .filter((name) => ![...domains, ...allowed].some((domain) => belongsTo(name, domain)))
        .map((name) => `${folder}/${name}${ending} begins with no domain's name: ${domains.join(', ')}`),
      ...allowed
        .filter((subject) => domains.includes(subject) || !names.some((name) => belongsTo(name, subject)))
        .map((subject) => `${folder}/${subject}* needs no exception any more: remove it from tests/lint/exceptions.mjs`),
    ];
  });
}

/** A domain's functions of schema private begin with its name. Those of the foundation are named after what they do. */
function foreignFunctions(root, domains, sharedFunctions) {
  const functions = namesIn(root, MIGRATIONS).flatMap((name) => {
    const subject = name.replace(/^\d+_(.*)\.sql$/, '$1');
    const domain = domains.find((candidate) => belongsTo(subject, candidate));
    return domain === undefined || WITHOUT_PLACES.has(domain)
      ? []
      : [...read(root, `${MIGRATIONS}/${name}`).matchAll(/^create (?:or replace )?(?:function|procedure) private\.(\w+)/gim)]
          .map(([, called]) => ({ name, domain, called }))
          .filter(({ called }) => !belongsTo(called, domain));
  });
  return [
    ...functions
      .filter(({ called }) => !(called in sharedFunctions))
      .map(({ name, domain, called }) => `${MIGRATIONS}/${name} creates private.${called}: its name must begin with ${domain}_`),
    ...Object.keys(sharedFunctions)
      .filter((shared) => !functions.some(({ called }) => called === shared))
      .map((shared) => `private.${shared} needs no exception any more: remove it from tests/lint/exceptions.mjs`),
  ];
}

function oversized(root, largeFiles) {
  const allowed = new Map(largeFiles.map(({ path, lines }) => [path, lines]));
  const lines = new Map(
    filesOf(root)
      .filter((path) => SOURCE.test(path) && !GENERATED.some((pattern) => pattern.test(path)))
      .map((path) => [path, read(root, path).split('\n').length - 1]),
  );
  return [
    ...[...lines]
      .filter(([path, count]) => count > (allowed.get(path) ?? MAX_LINES))
      .map(([path, count]) => `${path} has ${count} lines, more than ${allowed.get(path) ?? MAX_LINES}: split it by subject`),
    ...[...allowed.keys()]
      .filter((path) => !(lines.get(path) > MAX_LINES))
      .map((path) => `${path} needs no exception any more: remove it from tests/lint/exceptions.mjs`),
  ];
}

/** The workflow runs each test area, in a job of its own. */
function testAreas(root) {
  const [here, there] = [
    ['scripts/tests.sh', /^TEST_AREAS=\(([^)]*)\)$/m],
    ['.github/workflows/ci.yml', /^ +area: \[([^\]]*)\]$/m],
  ].map(([path, list]) => exists(root, path) && (read(root, path).match(list)?.[1] ?? '').split(/[, ]+/).join(' '));
  return here === there ? [] : [`.github/workflows/ci.yml runs the areas "${there}", scripts/tests.sh has "${here}"`];
}

/** A list of a script that is set twice: the second one replaces the first, as when two branches each brought one. */
function repeatedLists(root) {
  return namesIn(root, 'scripts')
    .filter((name) => name.endsWith('.sh'))
    .flatMap((name) => {
      const lists = [...read(root, `scripts/${name}`).matchAll(/^([A-Z][A-Z0-9_]*)=\(/gm)].map(([, list]) => list);
      return repeated(lists).map((list) => `scripts/${name} sets ${list} twice: join both lists`);
    });
}

if (isMain(import.meta)) {
  const exceptions = { largeFiles: LARGE_FILES, noDomain: NO_DOMAIN, sharedFunctions: SHARED_FUNCTIONS };
  report('layout', checkLayout(ROOT, exceptions));
}
