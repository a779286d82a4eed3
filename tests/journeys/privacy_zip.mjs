// Reads a zip file: the entries of its central directory, by their paths. No package of the tests does.
import { inflateRawSync } from 'node:zlib';

/** The entries of an archive: a map from path to bytes. */
export function unzip(archive) {
  const end = archive.lastIndexOf(Buffer.from([0x50, 0x4b, 5, 6]));
  const entries = new Map();
  let at = archive.readUInt32LE(end + 16);
  for (let n = archive.readUInt16LE(end + 10); n > 0; n--) {
    const [method, size, nameLength, extraLength, commentLength] = [10, 20, 28, 30, 32].map((place, i) =>
      i === 1 ? archive.readUInt32LE(at + place) : archive.readUInt16LE(at + place),
    );
    const name = archive.toString('utf8', at + 46, at + 46 + nameLength);
    const local = archive.readUInt32LE(at + 42);
    const start = local + 30 + archive.readUInt16LE(local + 26) + archive.readUInt16LE(local + 28);
    const bytes = archive.subarray(start, start + size);
    entries.set(name, method === 8 ? inflateRawSync(bytes) : Buffer.from(bytes));
    at += 46 + nameLength + extraLength + commentLength;
  }
  return entries;
}
