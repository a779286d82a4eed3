// Registries' hosts and paths of one machine are found in every kind of text, and what only looks alike is not.
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, test } from 'node:test';
import { checkPlaces } from './places.mjs';

const root = mkdtempSync(join(tmpdir(), 'kijko-places-'));
after(() => rmSync(root, { recursive: true }));

function found(name, text) {
  mkdirSync(dirname(join(root, name)), { recursive: true });
  writeFileSync(join(root, name), `first line\n${text}\n`);
  const findings = checkPlaces(root, ['/srv/builds/checkout']);
  rmSync(join(root, name));
  return findings;
}

// Put together here, so that this file names none.
const host = (...parts) => parts.join('.');
for (const name of ['a.rs', 'a.sql', 'a.mjs', 'a.md', 'a.sh', 'a.yml', 'kijko', '.env.example', 'a.Dockerfile']) {
  test(`a registry in ${name}`, () => {
    assert.deepEqual(found(name, `see https://${host('crates', 'io')}/crates/axum`), [`${name}:2 names ${host('crates', 'io')}`]);
  });
}

for (const text of [
  `https://registry.${host('npmjs', 'org')}/pg`,
  host('pypi', 'org'),
  `files.${host('pythonhosted', 'org')}`,
  `cd ${['', 'home', 'ada'].join('/')}`,
  `"${['', 'root', '.cargo'].join('/')}"`,
  'open /srv/builds/checkout/README.md',
]) {
  test(`found: ${text}`, () => assert.equal(found('a.md', text).length, 1));
}

for (const text of ['$HOME/root/x', 'usr/home/x', '/var/tmp/x', 'crates and io', 'npm registry', './home/x', '/homes/x']) {
  test(`passes: ${text}`, () => assert.deepEqual(found('a.md', text), []));
}

test('the settings of a checkout may name its paths, and no other file of that name', () => {
  assert.deepEqual(found('.env', 'KIJKO_HOME=/srv/builds/checkout'), []);
  for (const name of ['.env.example', 'deploy/.env']) assert.equal(found(name, 'KIJKO_HOME=/srv/builds/checkout').length, 1, name);
});

test('lock files may name the registry', () => assert.deepEqual(found('Cargo.lock', host('crates', 'io')), []));
