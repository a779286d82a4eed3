// Image files of a given size, as real ones are, in one colour. JPEG and PNG can be decoded to all their pixels, so files are small and
// what a test says about a size is what a platform would see.
import { crc32, deflateSync } from 'node:zlib';

const uint16 = (value, little = false) => {
  const bytes = Buffer.alloc(2);
  if (little) bytes.writeUInt16LE(value);
  else bytes.writeUInt16BE(value);
  return bytes;
};
const uint32 = (value) => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};

const segment = (marker, ...content) => {
  const body = Buffer.concat(content);
  return Buffer.concat([Buffer.from([0xff, marker]), uint16(body.length + 2), body]);
};

/** The only entry of EXIF is the orientation: 6 turns the picture by a quarter. */
const exif = (orientation) =>
  segment(
    0xe1,
    Buffer.from('Exif\0\0MM\0*'),
    uint32(8),
    uint16(1),
    uint16(0x0112),
    uint16(3),
    uint32(1),
    uint16(orientation),
    Buffer.alloc(6),
  );

/** A grey JPEG. Each block of 8 x 8 is two bits: no difference to the one before it, and nothing else. */
export function jpeg(width, height, { orientation } = {}) {
  const blocks = Math.ceil(width / 8) * Math.ceil(height / 8);
  const scan = Buffer.alloc(Math.ceil(blocks / 4));
  if (blocks % 4) scan[scan.length - 1] = 0xff >> ((blocks % 4) * 2);
  const table = (kind) => segment(0xc4, Buffer.from([kind, 1, ...Array(15).fill(0), 0]));
  return Buffer.concat([
    Buffer.from([0xff, 0xd8]),
    segment(0xe0, Buffer.from('JFIF\0'), Buffer.from([1, 1, 0, 0, 1, 0, 1, 0, 0])),
    ...(orientation ? [exif(orientation)] : []),
    segment(0xdb, Buffer.from([0, ...Array(64).fill(1)])),
    segment(0xc0, Buffer.from([8]), uint16(height), uint16(width), Buffer.from([1, 1, 0x11, 0])),
    table(0x00),
    table(0x10),
    segment(0xda, Buffer.from([1, 1, 0, 0, 63, 0])),
    scan,
    Buffer.from([0xff, 0xd9]),
  ]);
}

const chunk = (kind, content = Buffer.alloc(0)) => {
  const body = Buffer.concat([Buffer.from(kind), content]);
  return Buffer.concat([uint32(content.length), body, uint32(crc32(body))]);
};

/** A black PNG of one bit a pixel. `pixels: false` claims the size and has none of them. */
export function png(width, height, { pixels = true } = {}) {
  const rows = pixels ? Buffer.alloc((1 + Math.ceil(width / 8)) * height) : Buffer.alloc(1);
  return Buffer.concat([
    Buffer.from('89504e470d0a1a0a', 'hex'),
    chunk('IHDR', Buffer.concat([uint32(width), uint32(height), Buffer.from([1, 0, 0, 0, 0])])),
    chunk('IDAT', deflateSync(rows)),
    chunk('IEND'),
  ]);
}

/** A GIF whose frames change one pixel. */
export function gif(width, height, frames = 1) {
  const frame = Buffer.from('21f904040a0000002c0000000001000100000202440100', 'hex');
  return Buffer.concat([
    Buffer.from('GIF89a'),
    uint16(width, true),
    uint16(height, true),
    Buffer.from('810000000000ffffff000000000000', 'hex'),
    ...Array(frames).fill(frame),
    Buffer.from([0x3b]),
  ]);
}
