// Each line of the log of our own programs is of the documented schema. `./kijko test journeys` ends with it, over the logs of the
// whole run:
//   node tests/journeys/log_schema.mjs DIRECTORY
import fs from 'node:fs';
import path from 'node:path';
import { Ajv2020 } from 'ajv/dist/2020.js';
import formats from 'ajv-formats';

const SCHEMA = new URL('../../docs/reference/logs.schema.json', import.meta.url);
const OURS = ['sidecar', 'realtime', 'storage', 'indexer'];

const ajv = new Ajv2020({ allErrors: true, strictTypes: false, allowUnionTypes: true });
formats.default(ajv);
const validate = ajv.compile(JSON.parse(fs.readFileSync(SCHEMA, 'utf8')));

/** What is wrong with a line: the fields, and never their values. */
export function faultsOf(line) {
  let parsed;
  try {
    parsed = JSON.parse(line);
  } catch {
    return ['not JSON'];
  }
  if (validate(parsed)) return [];
  return validate.errors.map(({ instancePath, message, params }) => `${instancePath} ${message} ${params.additionalProperty ?? ''}`.trim());
}

/** Every line of our programs in a folder of logs. */
export function scan(directory) {
  const names = OURS.flatMap((name) => [`${name}.log`, `${name}.log.1`]).filter((name) => fs.existsSync(path.join(directory, name)));
  let lines = 0;
  const found = names.flatMap((name) => {
    const all = fs.readFileSync(path.join(directory, name), 'utf8').split('\n');
    // The last one may be half written, and the first one of a log that was emptied.
    const whole = all.slice(name.endsWith('.1') || !fs.existsSync(path.join(directory, `${name}.1`)) ? 0 : 1, -1);
    lines += whole.length;
    return whole.flatMap((line, n) => faultsOf(line).map((fault) => `${name}:${n + 1}: ${fault}`));
  });
  return { names, lines, found };
}

if (process.argv[1]?.endsWith('/log_schema.mjs')) {
  const { names, lines, found } = scan(process.argv[2]);
  for (const fault of [...new Set(found)].slice(0, 50)) console.log(fault);
  console.log(`${lines} lines of ${names.length} logs, ${found.length} faults`);
  process.exitCode = found.length > 0 || lines === 0 ? 1 : 0;
}
