// LinkedIn: the Posts and Images APIs.
import { fieldsOf, newId } from './wire.mjs';

const refusal = (status, code, message) => ({ status, body: { status, code, message } });

/** The "little" format: the text ends, without an error, at the first reserved character that is not escaped. */
export function little(commentary) {
  let text = '';
  for (let at = 0; at < commentary.length; ) {
    const rest = commentary.slice(at);
    const kept = rest.match(/^(#[\p{L}\p{N}]+|https?:\/\/[^\s\\|{}[\]()<>"]+)/u)?.[0];
    const quoted = rest.match(/^\\([\\|{}@[\]()<>#*_~])/);
    if (kept) {
      text += kept;
      at += kept.length;
    } else if (quoted) {
      text += quoted[1];
      at += 2;
    } else if (/^[\\|{}@[\]()<>#*_~]/.test(rest)) {
      return text;
    } else {
      text += rest[0];
      at += 1;
    }
  }
  return text;
}

export const linkedin = {
  unauthorized: () => ({
    status: 401,
    body: { status: 401, serviceErrorCode: 65600, code: 'INVALID_ACCESS_TOKEN', message: 'Invalid access token' },
  }),
  answer(call) {
    const { fake, account, method, path, headers } = call;
    if (method === 'PUT' && path.startsWith('/upload/')) {
      const image = account.media.get(`urn:li:image:${path.slice(8)}`);
      if (!image) return refusal(404, 'NOT_FOUND', 'no such upload');
      image.bytes = call.bytes.length;
      return { status: 201 };
    }
    if (!/^\d{6}$/.test(headers['linkedin-version'] ?? '')) return refusal(400, 'VERSION_MISSING', 'A version must be present.');
    if (headers['x-restli-protocol-version'] !== '2.0.0') return refusal(400, 'ILLEGAL_ARGUMENT', 'unsupported protocol version');
    const author = `urn:li:person:${account.id}`;
    if (method === 'POST' && path === '/rest/images' && call.query.get('action') === 'initializeUpload') {
      if (fieldsOf(call).initializeUploadRequest?.owner !== author) return refusal(403, 'ACCESS_DENIED', 'not the owner');
      const id = newId();
      const image = `urn:li:image:${id}`;
      account.media.set(image, { looks: 0 });
      return {
        status: 200,
        body: { value: { uploadUrlExpiresAt: Date.now() + 86_400_000, uploadUrl: `${call.origin}/upload/${id}`, image } },
      };
    }
    if (method === 'GET' && path.startsWith('/rest/images/')) {
      const id = path.slice('/rest/images/'.length);
      const image = account.media.get(id);
      if (!image) return refusal(404, 'NOT_FOUND', 'no such image');
      return { status: 200, body: { id, owner: author, status: image.bytes ? 'AVAILABLE' : 'WAITING_UPLOAD' } };
    }
    if (method === 'POST' && path === '/rest/posts') {
      const post = fieldsOf(call);
      if (post.author !== author) return refusal(403, 'ACCESS_DENIED', 'not the author');
      if (post.lifecycleState !== 'PUBLISHED' || post.visibility !== 'PUBLIC' || post.distribution?.feedDistribution !== 'MAIN_FEED')
        return refusal(400, 'FIELD_INVALID', 'lifecycleState, visibility and distribution');
      const images = post.content?.multiImage?.images ?? (post.content?.media ? [post.content.media] : []);
      if (!images.every(({ id }) => account.media.get(id)?.bytes)) return refusal(422, 'UNPROCESSABLE_ENTITY', 'an image is not available');
      const made = fake.publish(
        account,
        little(post.commentary),
        images.map(({ id }) => id),
      );
      return { status: 201, headers: { 'x-restli-id': `urn:li:share:${made.id}` } };
    }
    return refusal(404, 'NOT_FOUND', path);
  },
};
