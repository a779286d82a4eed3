// The routes in the code: of login, storage, realtime and the sidecar, from the sources that list them.
import { filesOf, ROOT, read } from './lint/tree.mjs';

const LOGIN = 'sql/platform/69_auth_api_handle.sql';
// What operators alone reach.
const OPERATORS = ['/ready', '/metrics'];
// Handlers of paths that are only refused.
const REFUSED = /^any\((?:nothing|\s*async \|\| not_served\()/;

/** Every route as { method, path, refused }: a path as the proxy serves it, in axum's spelling; `ANY` where a handler takes each method. */
export function routesOf(source = (path) => read(ROOT, path)) {
  const login = [...source(LOGIN).matchAll(/when '(GET|POST|PUT|DELETE) (\/[^']*)'/g)];
  const rust = ['sidecar/src', 'services/realtime/src', 'services/storage/src']
    .flatMap((folder) => filesOf(ROOT, folder))
    .filter((path) => path.endsWith('.rs') && !/\/tests?(\.rs$|\/)/.test(path));
  return [
    ...['', '/realtime/v1', '/storage/v1'].map((prefix) => ({ method: 'GET', path: `${prefix}/health`, refused: false })),
    ...login.map(([, method, path]) => ({ method, path: `/auth/v1${path}`, refused: false })),
    ...rust.flatMap((path) => {
      const prefix = path.match(/^services\/(\w+)/)?.[1];
      return rustRoutes(source(path))
        .filter((route) => !OPERATORS.includes(route.path))
        .map((route) => ({ ...route, path: (prefix ? `/${prefix}/v1` : '') + route.path }));
    }),
  ];
}

/** The routes of axum's `.route("/path", get(…).post(…))`. */
export function rustRoutes(text) {
  return text
    .split('#[cfg(test)]')[0]
    .split(/\.route\(/)
    .slice(1)
    .flatMap((part) => {
      const [start, path] = part.match(/^\s*"([^"]+)",\s*/) ?? [];
      if (!path) return [];
      const handlers = part.split(/\.with_state|\n\s*\n/)[0];
      const methods = [...handlers.matchAll(/\b(get|post|put|delete|patch|any)\(/g)].map(([, name]) => name.toUpperCase());
      // A function of its own makes the route.
      if (methods.length === 0) methods.push('ANY');
      return methods.map((method) => ({ method, path, refused: REFUSED.test(part.slice(start.length)) }));
    });
}
