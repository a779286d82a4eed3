// The cases of topics, discoveries, blog posts, social posts and flags, in the form of cases.mjs. All are the organization's: no project hides them.
import { randomUUID } from 'node:crypto';
import { ANALYTICS_FUNCTIONS, ANALYTICS_RELATIONS } from './cases_analytics.mjs';
import { FLAG_FUNCTIONS, FLAG_RELATIONS } from './cases_flags.mjs';
import { SOCIAL_FUNCTIONS, SOCIAL_RELATIONS } from './cases_social.mjs';

export const CONTENT_RELATIONS = {
  ...ANALYTICS_RELATIONS,
  ...FLAG_RELATIONS,
  ...SOCIAL_RELATIONS,
  topics: { insert: (t) => ({ org_id: t.org, title: `New ${randomUUID()}` }), update: () => ({ description: 'Changed' }) },
  research_sources: {
    insert: (t) => ({ org_id: t.org, topic_id: t.topic, url: `https://example.com/${randomUUID()}` }),
    update: () => ({ title: 'Changed' }),
  },
  discoveries: {
    insert: (t) => ({ org_id: t.org, name: 'New', collector: 'searxng', query: 'New', enabled: false }),
    update: () => ({ name: 'Changed' }),
  },
  blog_comments: {
    insert: (t) => ({ org_id: t.org, post_id: t.post, body: 'New' }),
    update: () => ({ resolved: true }),
    more: { 'update:body': { method: 'PATCH', body: () => ({ body: 'Changed' }) } },
  },
};

export const CONTENT_FUNCTIONS = {
  ...ANALYTICS_FUNCTIONS,
  ...FLAG_FUNCTIONS,
  ...SOCIAL_FUNCTIONS,
  'list_topics(status,query,n,skip)': { call: () => ({}) },
  'score_topic(topic_id)': { call: (w) => ({ topic_id: w.topic }) },
  'embed_topic(topic_id,model)': { call: (w) => ({ topic_id: w.topic, model: 'echo/echo' }) },
  'similar_sources(source_id,n)': { call: (w) => ({ source_id: w.source }) },
  'add_research_source(topic_id,url,title,excerpt,language,published_at)': {
    call: (w) => ({ topic_id: w.topic, url: 'https://example.com/new' }),
  },
  'import_research(document,dry_run)': { call: () => ({ document: { topic: 'New', sources: [] } }) },
  'run_discovery(discovery_id)': { call: (w) => ({ discovery_id: w.discovery }) },
  'content_cost_report(group_by,since,until,n)': { call: () => ({ group_by: 'topic' }) },
  'set_blog_settings(site_url,site_title,site_description,require_approval,approval_days)': { call: () => ({ site_title: 'New' }) },
  'create_post(title,fields,topic_id,locale,translation_of)': {
    call: (w) => ({ title: 'New', topic_id: w.topic }),
    'call:translation': (w) => ({ title: 'New', locale: 'nl', translation_of: w.post }),
  },
  'save_post(post_id,revision,changes,message)': { call: (w) => ({ post_id: w.post, revision: 1, changes: { title: 'Changed' } }) },
  'restore_post_revision(post_id,revision,from_revision)': { call: (w) => ({ post_id: w.post, revision: 1, from_revision: 1 }) },
  'compare_post_revisions(post_id,from_revision,to_revision)': { call: (w) => ({ post_id: w.post, from_revision: 1, to_revision: 1 }) },
  'delete_post(post_id)': { call: (w) => ({ post_id: w.post }) },
  'draft_post(post_id,revision,model,kind,instructions)': { call: (w) => ({ post_id: w.post, revision: 1, model: 'echo/echo' }) },
  'generate_image(post_id,revision,prompt,model,kind,size,alt_text)': {
    call: (w) => ({ post_id: w.post, revision: 1, prompt: 'a cat', model: 'echo/echo' }),
  },
  'set_image_alt_text(image_id,alt_text)': { call: (w) => ({ image_id: w.image, alt_text: 'A cat' }) },
  'delete_image(image_id)': { call: (w) => ({ image_id: w.image }) },
  'submit_post(post_id,revision,reason)': { call: (w) => ({ post_id: w.post, revision: 1 }) },
  'schedule_post(post_id,revision,publish_at)': {
    call: (w) => ({ post_id: w.post, revision: 1, publish_at: new Date(Date.now() + 86_400_000).toISOString() }),
  },
  'publish_post(post_id,revision)': { call: (w) => ({ post_id: w.post, revision: 1 }) },
  'post_seo(post_id)': { call: (w) => ({ post_id: w.post }) },
  'unschedule_post(post_id)': { call: (w) => ({ post_id: w.scheduledPost }) },
  'unpublish_post(post_id)': { call: (w) => ({ post_id: w.publishedPost }) },
  'blog_feed(org_slug,format,post_locale)': { call: (w) => ({ org_slug: `matrix-${w.org}` }) },
  'published_posts(org_slug,post_locale,tag,before,n)': { call: (w) => ({ org_slug: `matrix-${w.org}` }) },
  'published_post(org_slug,slug,locale)': { call: (w) => ({ org_slug: `matrix-${w.org}`, slug: 'published' }) },
};
