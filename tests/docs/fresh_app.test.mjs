// The first step of the guides as a reader does it: a project of its own with the guide's own tsconfig.json, and its first lines
// word for word. The program of the other examples has a head of its own instead.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { copyFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { parse, read, root } from './markdown.mjs';

const GUIDE = 'docs/guides/README.md';
const step = read(GUIDE).split('### 1. Make a client\n')[1].split('\n### ')[0];
const { blocks } = parse(GUIDE, step);
const [config] = blocks.filter(({ lang }) => lang === 'json');
const programs = blocks.filter(({ lang }) => lang === 'ts');

test("a fresh project compiles the guide's first lines under its tsconfig.json", async () => {
  await mkdir(join(root, 'target/docs'), { recursive: true });
  // Inside of the checkout, so that it finds the packages.
  const folder = await mkdtemp(join(root, 'target/docs/fresh-'));
  try {
    await mkdir(join(folder, 'src'));
    await copyFile(join(root, 'supabase/database.types.ts'), join(folder, 'src/database.types.ts'));
    await writeFile(join(folder, 'package.json'), '{ "type": "module" }');
    await writeFile(join(folder, 'tsconfig.json'), config.code);
    const known = 'declare const API_URL: string, ANON_KEY: string\n';
    // The types must be there, and not be any: a wrong option of createClient() takes them all away.
    const uses = (name) => `
const made = await ${name}.rpc('create_organization', { name: 'Acme' }).throwOnError()
const id: string = made.data.id
// @ts-expect-error a text is no number
const none: number = made.data.id
console.log(id, none)
`;
    assert.equal(programs.length, 2);
    const [first, node20] = programs.map(({ code }) => code);
    const imports = first.match(/^import .*$/gm).join('\n');
    await writeFile(join(folder, 'src/main.ts'), `${first}\n${known}${uses('supabase')}`);
    await writeFile(join(folder, 'src/node20.ts'), `${imports}\n${node20}\n${known}${uses('client')}`);
    const faults = await new Promise((resolve) => {
      execFile(join(root, 'node_modules/.bin/tsc'), ['-p', folder, '--pretty', 'false'], (error, out, err) =>
        resolve(error ? `${out}${err}` : ''),
      );
    });
    assert.equal(faults, '');
  } finally {
    await rm(folder, { recursive: true });
  }
});
