// X: the API v2.
import { fieldsOf, newId } from './wire.mjs';

const problem = (status, title, detail, type = 'about:blank') => ({ status, body: { title, detail, type, status } });
// What X shows of a text: links are its own, and three characters are escaped.
const escaped = (text) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');

function shown(post) {
  const urls = [];
  let text = escaped(post.text).replace(/https?:\/\/\S+/g, (link) => {
    const url = `https://t.co/${urls.length}abcdefghi`;
    urls.push({ url, expanded_url: link, display_url: link.replace(/^https?:\/\//, ''), start: 0, end: 23 });
    return url;
  });
  for (const media of post.media) {
    const url = `https://t.co/m${media}`;
    urls.push({ url, expanded_url: `https://x.com/i/status/${post.id}/photo/1`, media_key: `3_${media}` });
    text += ` ${url}`;
  }
  return { id: post.id, text, created_at: new Date(post.at).toISOString(), ...(urls.length && { entities: { urls } }) };
}

export const twitter = {
  unauthorized: () => problem(401, 'Unauthorized', 'Unauthorized'),
  answer(call) {
    const { fake, account, method, path } = call;
    const upload = path.match(/^\/2\/media\/upload\/(\d+)\/(append|finalize)$/);
    if (method === 'POST' && path === '/2/media/upload/initialize') {
      const { media_type, total_bytes, media_category } = fieldsOf(call);
      if (!media_type || !total_bytes || !media_category) return problem(400, 'Invalid Request', 'One or more parameters is invalid');
      const id = newId();
      account.media.set(id, { total: total_bytes, got: 0, final: false });
      return { status: 200, body: { data: { id, media_key: `3_${id}`, expires_after_secs: 86400 } } };
    }
    if (method === 'POST' && upload?.[2] === 'append') {
      const { segment_index, media } = fieldsOf(call);
      const held = account.media.get(upload[1]);
      if (!held || segment_index === undefined || !media) return problem(400, 'Invalid Request', 'media: required');
      held.got += media.length;
      return { status: 200, body: { data: { expires_at: Math.floor(Date.now() / 1000) + 86400 } } };
    }
    if (method === 'POST' && upload?.[2] === 'finalize') {
      const held = account.media.get(upload[1]);
      if (!held || held.got !== held.total) return problem(400, 'Invalid Request', 'size does not match');
      held.final = true;
      return { status: 200, body: { data: { id: upload[1], media_key: `3_${upload[1]}`, size: held.got, expires_after_secs: 86400 } } };
    }
    if (method === 'POST' && path === '/2/media/metadata') {
      const { id, metadata } = fieldsOf(call);
      if (!account.media.has(id)) return problem(400, 'Invalid Request', 'id: unknown');
      account.media.get(id).alt = metadata.alt_text.text;
      return { status: 200, body: { data: { id, associated_metadata: metadata } } };
    }
    if (method === 'POST' && path === '/2/tweets') {
      const { text, media } = fieldsOf(call);
      if (fake.postsOf(account).some((post) => post.text === text))
        return problem(403, 'Forbidden', 'You are not allowed to create a Tweet with duplicate content.');
      const ids = media?.media_ids ?? [];
      if (!ids.every((id) => account.media.get(id)?.final)) return problem(400, 'Invalid Request', 'Your media IDs are invalid.');
      const post = fake.publish(account, text, ids);
      return { status: 201, body: { data: { id: post.id, text: shown(post).text, edit_history_tweet_ids: [post.id] } } };
    }
    if (method === 'GET' && path === `/2/users/${account.id}/tweets`) {
      const since = Date.parse(call.query.get('start_time'));
      if (Number.isNaN(since)) return problem(400, 'Invalid Request', 'start_time: not a date');
      const posts = fake.postsOf(account).filter((post) => post.at >= since);
      return { status: 200, body: { ...(posts.length && { data: posts.map(shown).reverse() }), meta: { result_count: posts.length } } };
    }
    return problem(404, 'Not Found', path);
  },
};
