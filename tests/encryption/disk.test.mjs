// The commands of docs/operations/encryption.md for the disk, in a machine of QEMU with Debian's kernel: containers have no device
// mapper. Without KVM it takes a minute or two. ./kijko test encryption
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, it } from 'node:test';

const root = path.resolve(import.meta.dirname, '../..');
const tools = path.join(root, 'target/tools/kernel');
const DISK_BYTES = 128 << 20;
// The directories of the kernel's modules that a disk of virtio, dm-crypt and AES in XTS come from.
const MODULES = ['drivers/block', 'drivers/virtio', 'drivers/md', 'crypto', 'arch/x86/crypto', 'lib'];
const run = (command, args, options) => execFileSync(command, args, { stdio: ['ignore', 'pipe', 'pipe'], encoding: 'utf8', ...options });

let folder, kernel, initrd;
const disk = (name) => path.join(folder, name);

/** Debian's kernel for machines of a cloud, unpacked; nothing is installed. */
function fetchKernel() {
  const [, name] = run('apt-cache', ['depends', 'linux-image-cloud-amd64']).match(/Depends: (linux-image-\S+)/);
  const place = path.join(tools, name);
  if (!fs.existsSync(place)) {
    const partial = `${place}.partial`;
    fs.rmSync(partial, { recursive: true, force: true });
    fs.mkdirSync(partial, { recursive: true });
    run('apt-get', ['-o', 'APT::Sandbox::User=root', 'download', name], { cwd: partial });
    run('dpkg', ['-x', fs.readdirSync(partial).find((file) => file.endsWith('.deb')), '.'], { cwd: partial });
    fs.renameSync(partial, place);
  }
  return { place, version: name.replace('linux-image-', '') };
}

/** A block of commands of the page, without comments. */
function documented(page, after) {
  const [, commands] = page.slice(page.indexOf(after)).match(/```sh [^\n]*\n([\s\S]*?)```/);
  return commands
    .replaceAll('/dev/DEVICE', '/dev/vda')
    .split('\n')
    .map((line) => line.replace(/ +# .*$/, ''))
    .filter((line) => line && !line.startsWith('apt-get '));
}

/** A small system of files: the programs, the modules, and guest.sh with the commands of the page. */
function makeInitrd({ place, version }) {
  const image = disk('root');
  const at = (...parts) => path.join(image, ...parts);
  for (const made of ['bin', 'sbin', 'etc', 'proc', 'sys', 'dev', 'tmp', 'root-keys', 'var/lib'])
    fs.mkdirSync(at(made), { recursive: true });
  fs.copyFileSync('/bin/busybox', at('bin/busybox'));
  fs.copyFileSync('/etc/mke2fs.conf', at('etc/mke2fs.conf'));
  for (const program of ['/usr/sbin/cryptsetup', '/usr/sbin/mkfs.ext4']) {
    fs.copyFileSync(program, at('sbin', path.basename(program)));
    for (const [library] of run('ldd', [program]).matchAll(/\/\S+/g)) {
      fs.mkdirSync(path.dirname(at(library)), { recursive: true });
      fs.copyFileSync(library, at(library));
    }
  }
  const modules = path.join('lib/modules', version);
  for (const each of MODULES) {
    fs.cpSync(path.join(place, modules, 'kernel', each), at(modules, 'kernel', each), { recursive: true });
  }
  for (const list of ['modules.order', 'modules.builtin']) fs.copyFileSync(path.join(place, modules, list), at(modules, list));
  run('/bin/busybox', ['depmod', '-b', image, version]);

  const page = fs.readFileSync(path.join(root, 'docs/operations/encryption.md'), 'utf8');
  const checked = (lines) => lines.map((line) => `${line} || return 1`).join('\n');
  const format = documented(page, '## At rest').map((line) =>
    line.replace(/^cryptsetup luksFormat .*/, '$& < /tmp/answer').replace(/^cryptsetup luksAddKey .*/, `printf 'PASSPHRASE\\n' | ${line}`),
  );
  assert.ok(format.length >= 9 && format.some((line) => line.includes('luksFormat')));
  const change = documented(page, '**Change the key**');
  assert.ok(change.some((line) => line.includes('luksRemoveKey')));
  const guest = fs.readFileSync(path.join(import.meta.dirname, 'guest.sh'), 'utf8');
  const init = guest.replace('DOCUMENTED_FORMAT', () => checked(format)).replace('DOCUMENTED_CHANGE', () => checked(change));
  fs.writeFileSync(at('init'), init, { mode: 0o755 });
  const files = run('find', ['.'], { cwd: image });
  fs.writeFileSync(disk('initrd'), execFileSync('cpio', ['-o', '-H', 'newc', '--quiet'], { cwd: image, input: files, maxBuffer: 1e9 }));
  return disk('initrd');
}

/** What the machine says until it is off. */
function start(task) {
  const drives = ['disk', 'keys'].flatMap((name) => ['-drive', `file=${disk(name)},format=raw,if=virtio`]);
  const args = ['-accel', 'tcg', '-cpu', 'max', '-m', '512', '-nographic', '-no-reboot', '-net', 'none', '-kernel', kernel];
  const { stdout, error } = spawnSync(
    'qemu-system-x86_64',
    [...args, '-initrd', initrd, '-append', `console=ttyS0 quiet panic=-1 kijko=${task}`, ...drives],
    { input: '', encoding: 'utf8', timeout: 600_000 },
  );
  assert.equal(error, undefined, stdout);
  return stdout;
}

const holds = (name, word) => fs.readFileSync(disk(name)).includes(word);

before(() => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'kijko-encryption-'));
  const fetched = fetchKernel();
  kernel = path.join(fetched.place, 'boot', `vmlinuz-${fetched.version}`);
  initrd = makeInitrd(fetched);
  fs.writeFileSync(disk('disk'), '');
  fs.truncateSync(disk('disk'), DISK_BYTES);
  fs.writeFileSync(disk('keys'), '');
  fs.truncateSync(disk('keys'), DISK_BYTES);
});
after(() => fs.rmSync(folder, { recursive: true }));

it('a volume is made and opened, by no other key, and the disk has no word of its files', () => {
  assert.match(start('make'), /^guest: passed/m);
  assert.ok(holds('keys', 'WORD-ON-THE-OTHER-DEVICE'), 'a word is found where nothing is encrypted');
  assert.ok(!holds('disk', 'WORD-ON-THE-DISK'));
});

it('after a start it opens again, its key changes, and a lost header comes back', () => {
  assert.match(start('again'), /^guest: passed/m);
  assert.ok(!holds('disk', 'WORD-ON-THE-DISK'));
});
