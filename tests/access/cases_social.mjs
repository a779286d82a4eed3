// The cases of social posts, in the form of cases.mjs. They are the organization's: no project hides them.

const day = (fromToday) => new Date(Date.now() + fromToday * 86_400_000).toISOString().slice(0, 10);

export const SOCIAL_RELATIONS = {
  social_posts: {
    insert: (t) => ({ org_id: t.org, platform: 'twitter', text: 'New' }),
    update: () => ({ text: 'Changed' }),
    target: (row, { world }) => row.id !== world.unconfirmedPost,
  },
};

export const SOCIAL_FUNCTIONS = {
  'set_social_settings(time_zone,require_approval,missed_after_minutes)': { call: () => ({ missed_after_minutes: 60 }) },
  'schedule_social_post(post_id,local_time,time_zone)': { call: (w) => ({ post_id: w.socialPost, local_time: '2027-11-01T09:00:00' }) },
  'cancel_social_post(post_id)': { call: (w) => ({ post_id: w.socialPost }) },
  'submit_social_post(post_id,reason)': { call: (w) => ({ post_id: w.socialPost }) },
  'preview_social_post(post_id)': { call: (w) => ({ post_id: w.socialPost }) },
  'confirm_social_post(post_id,platform_post_id)': { call: (w) => ({ post_id: w.unconfirmedPost }) },
  'resend_social_post(post_id)': { call: (w) => ({ post_id: w.unconfirmedPost }) },
  'social_calendar(first_day,last_day)': { call: () => ({ first_day: day(-45), last_day: day(45) }) },
};
