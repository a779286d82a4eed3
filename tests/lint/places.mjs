// No file names a path of one machine or a package registry: other machines have other paths and mirrors, and a mirror's
// address may be private. Only lock files may name registries.
import { homedir } from 'node:os';
import { filesOf, isMain, ROOT, read, report } from './tree.mjs';

const TEXT =
  /\.(rs|sql|mjs|ts|json|md|sh|toml|yml|yaml|css|html|txt|conf|spec|out|Dockerfile)$|(^|\/)(kijko|run|Caddyfile|commit-msg|\.[\w.]+)$/;
const LOCKS = ['Cargo.lock', 'package-lock.json'];

const HOMES = /(?<![\w.$}-])\/(?:home|root|Users)\/[\w.-]+/;
const REGISTRIES =
  /\b(?:crates\.(?:io|dev)|npmjs\.(?:org|com)|pypi\.org|pythonhosted\.org|yarnpkg\.com|proxy\.golang\.org|deb\.debian\.org)\b/;

/** Every line below `root` that names a registry, a home folder, or one of `places`: this checkout and this user's home. */
export function checkPlaces(root, places) {
  return filesOf(root)
    .filter((path) => TEXT.test(path) && !LOCKS.includes(path))
    .flatMap((path) =>
      read(root, path)
        .split('\n')
        .flatMap((line, at) => {
          const found = REGISTRIES.exec(line)?.[0] ?? HOMES.exec(line)?.[0] ?? places.find((place) => line.includes(place));
          return found ? [`${path}:${at + 1} names ${found}`] : [];
        }),
    );
}

// A checkout or a home directly below the root, as /app, says nothing about a machine.
const specific = [ROOT.replace(/\/$/, ''), homedir()].filter((place) => place.split('/').length > 2);

if (isMain(import.meta)) report('places', checkPlaces(ROOT, specific));
