// Facebook pages and Instagram: the Graph APIs.
import { fieldsOf, newId } from './wire.mjs';

const error = (status, code, message, error_subcode) => ({
  status,
  body: { error: { message, type: code === 190 ? 'OAuthException' : 'GraphMethodException', code, error_subcode, fbtrace_id: 'AbCdEf' } },
});
const unauthorized = () => error(400, 190, 'Error validating access token: The session has been invalidated.', 460);

export const facebook = {
  unauthorized,
  answer(call) {
    const { fake, account, method, path } = call;
    const fields = method === 'POST' ? fieldsOf(call) : {};
    switch (`${method} ${path}`) {
      case `POST /${account.id}/photos`: {
        if (String(fields.published) !== 'false' || !fields.source?.length) return error(400, 100, 'Invalid parameter');
        const id = newId();
        account.media.set(id, { alt: String(fields.alt_text_custom ?? '') });
        return { status: 200, body: { id } };
      }
      case `POST /${account.id}/feed`: {
        const attached = Object.keys(fields).filter((name) => /^attached_media\[\d+\]$/.test(name));
        const ids = attached.map((name) => JSON.parse(fields[name]).media_fbid);
        if (!ids.every((id) => account.media.has(id))) return error(400, 100, 'Invalid parameter', 1366046);
        if (!fields.message && ids.length === 0) return error(400, 100, 'Invalid parameter');
        const post = fake.publish(account, fields.message ?? '', ids);
        return { status: 200, body: { id: `${account.id}_${post.id}` } };
      }
      case `GET /${account.id}/published_posts`: {
        const since = Number(call.query.get('since')) * 1000;
        const posts = fake.postsOf(account).filter((post) => post.at >= since);
        return {
          status: 200,
          body: {
            data: posts.map((post) => ({
              id: `${account.id}_${post.id}`,
              message: post.text,
              created_time: new Date(post.at).toISOString(),
              permalink_url: `https://www.facebook.com/${account.id}/posts/${post.id}`,
            })),
          },
        };
      }
      default:
        return error(404, 803, `(#803) Some of the aliases you requested do not exist: ${path}`);
    }
  },
};

export const instagram = {
  unauthorized,
  answer(call) {
    const { fake, account, method, path } = call;
    const fields = method === 'POST' ? fieldsOf(call) : {};
    switch (`${method} ${path}`) {
      case `GET /${account.id}/content_publishing_limit`:
        return { status: 200, body: { data: [{ quota_usage: account.quota, config: { quota_total: 50, quota_duration: 86400 } }] } };
      case `POST /${account.id}/media`: {
        const children = fields.children?.split(',') ?? [];
        if (fields.media_type === 'CAROUSEL' ? children.length < 2 || children.length > 10 : !fields.image_url)
          return error(400, 100, 'The parameter image_url is required');
        if (!children.every((id) => account.media.get(id)?.child)) return error(400, 9004, 'The media could not be fetched', 2207052);
        const id = newId();
        account.media.set(id, { caption: fields.caption ?? '', children, child: fields.is_carousel_item === 'true', looks: 0 });
        return { status: 200, body: { id } };
      }
      case `POST /${account.id}/media_publish`: {
        const container = account.media.get(fields.creation_id);
        if (!container || container.child) return error(400, 24, 'The requested resource does not exist', 2207006);
        if (container.looks < 2) return error(400, 9007, 'Media ID is not available', 2207027);
        if (container.published) return error(400, 9007, 'The media was published already', 2207027);
        container.published = true;
        return { status: 200, body: { id: fake.publish(account, container.caption, container.children).id } };
      }
      case `GET /${account.id}/media`:
        return {
          status: 200,
          body: {
            data: fake.postsOf(account).map(({ id, text, at }) => ({
              id,
              caption: text,
              permalink: `https://www.instagram.com/p/${id}/`,
              timestamp: new Date(at).toISOString().replace(/\.\d+Z$/, '+0000'),
            })),
          },
        };
      default: {
        const id = path.slice(1);
        const container = account.media.get(id);
        if (method !== 'GET' || !container) return error(400, 100, 'Unsupported get request.', 33);
        container.looks += 1;
        const status = container.published ? 'PUBLISHED' : container.expired ? 'EXPIRED' : container.looks < 2 ? 'IN_PROGRESS' : 'FINISHED';
        return { status: 200, body: { status_code: status, status: `${status}: Media`, id } };
      }
    }
  },
};
