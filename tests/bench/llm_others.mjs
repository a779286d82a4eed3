// The gateways that ours is measured beside: npm @portkey-ai/gateway and PyPI litellm[proxy], installed when the benchmark runs.
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePort } from '../ports.mjs';
import { until } from '../until.mjs';

const PORTKEY = '1.15.2';
// Later ones need a package of their proxy that does not install everywhere.
const LITELLM = '1.100.0';
const FOLDER = join(import.meta.dirname, '../../target/bench-llm');
const MASTER_KEY = 'sk-bench-master-key';

const run = (program, args) => execFileSync(program, args, { cwd: FOLDER, stdio: ['ignore', 'ignore', 'inherit'] });

function start(program, args, env, url) {
  const child = spawn(program, args, { cwd: FOLDER, stdio: 'ignore', env: { PATH: process.env.PATH, HOME: FOLDER, ...env } });
  const ready = until(`${program} to answer`, () => {
    if (child.exitCode !== null) throw new Error(`${program} ended at once`);
    return fetch(url).then(
      () => true,
      () => false,
    );
  });
  return ready.then(() => child);
}

/** Portkey's gateway. It has no keys of its own, no budgets and no records. */
export async function portkey(upstream) {
  mkdirSync(FOLDER, { recursive: true });
  const main = join(FOLDER, 'node_modules/@portkey-ai/gateway/build/start-server.js');
  if (!existsSync(main)) run('npm', ['install', '--no-save', '--silent', '--prefix', FOLDER, `@portkey-ai/gateway@${PORTKEY}`]);
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const env = { NODE_ENV: 'production', TRUSTED_CUSTOM_HOSTS: '127.0.0.1' };
  // Its streams fail on Node.js 20.
  const child = await start(
    join(import.meta.dirname, '../../node_modules/node22/bin/node'),
    [main, `--port=${port}`, '--headless'],
    env,
    url,
  );
  const headers = { Authorization: 'Bearer sk-upstream', 'x-portkey-provider': 'openai', 'x-portkey-custom-host': upstream };
  return {
    name: `portkey ${PORTKEY}`,
    pid: child.pid,
    stop: () => child.kill('SIGKILL'),
    target: { url: `${url}/v1`, headers, model: 'bench' },
  };
}

/** LiteLLM's proxy with one worker and its master key. Keys with budgets would need a database of its own. */
export async function litellm(upstream) {
  mkdirSync(FOLDER, { recursive: true });
  const bin = join(FOLDER, 'python/bin');
  if (!existsSync(join(bin, 'litellm'))) {
    run('python3', ['-m', 'venv', '--clear', join(FOLDER, 'python')]);
    run(join(bin, 'pip'), ['install', '--quiet', '--disable-pip-version-check', `litellm[proxy]==${LITELLM}`]);
  }
  const config = join(FOLDER, 'litellm.yaml');
  writeFileSync(
    config,
    JSON.stringify({
      model_list: [{ model_name: 'bench', litellm_params: { model: 'openai/bench', api_base: upstream, api_key: 'sk-upstream' } }],
      general_settings: { master_key: MASTER_KEY },
      litellm_settings: { telemetry: false },
    }),
  );
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const env = { LITELLM_LOG: 'ERROR', LITELLM_MODE: 'PRODUCTION', LITELLM_LOCAL_MODEL_COST_MAP: 'True' };
  const args = ['--config', config, '--host', '127.0.0.1', '--port', String(port), '--num_workers', '1'];
  const child = await start(join(bin, 'litellm'), args, env, `${url}/health/liveliness`);
  const headers = { Authorization: `Bearer ${MASTER_KEY}` };
  return {
    name: `litellm ${LITELLM}`,
    pid: child.pid,
    stop: () => child.kill('SIGKILL'),
    target: { url: `${url}/v1`, headers, model: 'bench' },
  };
}
