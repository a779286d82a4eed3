// A git host of a test's own: bare repositories, served over HTTP by `git http-backend`. Requests can be held, refused and counted.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

const ENVIRONMENT = { ...process.env, GIT_CONFIG_GLOBAL: '/dev/null', GIT_TERMINAL_PROMPT: '0' };
const IDENTITY = ['-c', 'user.name=Test', '-c', 'user.email=test@example.com', '-c', 'commit.gpgsign=false'];

const git = (folder, ...args) => execFileSync('git', [...IDENTITY, ...args], { cwd: folder, env: ENVIRONMENT, encoding: 'utf8' }).trim();

export class GitServer {
  static async start() {
    const server = new GitServer();
    server.folder = mkdtempSync(join(tmpdir(), 'kijko-git-'));
    server.requests = [];
    server.held = null;
    server.http = http.createServer((request, response) => server.#serve(request, response));
    server.http.listen(0, '127.0.0.1');
    await once(server.http, 'listening');
    server.url = `http://127.0.0.1:${server.http.address().port}`;
    return server;
  }

  /** A repository OWNER/NAME with its first commit; files is {path: content}. */
  repository(name, files) {
    const bare = join(this.folder, 'root', `${name}.git`);
    const work = join(this.folder, 'work', name);
    for (const folder of [bare, work]) mkdirSync(folder, { recursive: true });
    git(bare, 'init', '--quiet', '--bare', '--initial-branch=main');
    git(bare, 'config', 'uploadpack.allowFilter', 'true');
    git(work, 'init', '--quiet', '--initial-branch=main');
    const repository = {
      /** Writes and deletes (null) files, commits, pushes; the commit. */
      push(changes, branch = 'main') {
        for (const [path, content] of Object.entries(changes)) {
          const file = join(work, path);
          mkdirSync(dirname(file), { recursive: true });
          if (content === null) rmSync(file);
          else writeFileSync(file, content);
        }
        git(work, 'add', '--all');
        git(work, 'commit', '--quiet', '--allow-empty', '-m', 'change');
        git(work, 'push', '--quiet', '--force', bare, `HEAD:refs/heads/${branch}`);
        return git(work, 'rev-parse', 'HEAD');
      },
      git: (...args) => git(work, ...args),
      /** {path: id of the blob} of the last commit. */
      tree: () =>
        Object.fromEntries(
          git(work, 'ls-tree', '-r', 'HEAD')
            .split('\n')
            .map((line) => line.split(/[ \t]/))
            .map(([, , oid, path]) => [path, oid]),
        ),
    };
    repository.commit = repository.push(files);
    return repository;
  }

  /** Until the returned function is called, packs are not sent. */
  hold() {
    let resolve;
    this.held = new Promise((done) => {
      resolve = done;
    });
    return () => {
      this.held = null;
      resolve();
    };
  }

  async close() {
    this.http.closeAllConnections();
    this.http.close();
    rmSync(this.folder, { recursive: true });
  }

  async #serve(request, response) {
    const url = new URL(request.url, this.url);
    const body = Buffer.concat(await request.toArray());
    const isPack = body.includes('command=fetch');
    this.requests.push({ path: url.pathname, authorization: request.headers.authorization, isPack });
    if (isPack) await this.held;
    const backend = spawn('git', ['http-backend'], {
      env: {
        ...ENVIRONMENT,
        REQUEST_METHOD: request.method,
        PATH_INFO: url.pathname,
        QUERY_STRING: url.search.slice(1),
        CONTENT_TYPE: request.headers['content-type'] ?? '',
        GIT_PROTOCOL: request.headers['git-protocol'] ?? '',
        GIT_PROJECT_ROOT: join(this.folder, 'root'),
        GIT_HTTP_EXPORT_ALL: '1',
      },
      stdio: ['pipe', 'pipe', 'ignore'],
    });
    // A client that is killed leaves its request.
    backend.stdin.on('error', () => {});
    backend.stdin.end(body);
    const output = Buffer.concat(await backend.stdout.toArray());
    const end = output.indexOf('\r\n\r\n');
    for (const line of output.subarray(0, end).toString().split('\r\n')) {
      const [name, value] = line.split(': ');
      if (name === 'Status') response.statusCode = Number(value.slice(0, 3));
      else response.setHeader(name, value);
    }
    response.end(output.subarray(end + 4));
  }
}
