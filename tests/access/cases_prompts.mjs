// The cases of prompts and approvals, in the form of cases.mjs. Both are the organization's: no project hides them.

export const PROMPT_FUNCTIONS = {
  'approve_change(approval_id,reason)': { call: (w) => ({ approval_id: w.approval }) },
  'reject_change(approval_id,reason)': { call: (w) => ({ approval_id: w.approval }) },
  // Of a request that this caller has made: nobody has, but the one whom the row names.
  'withdraw_change(approval_id)': { call: (w) => ({ approval_id: w.ownApproval }) },
  'get_prompt(path,label,version)': { call: () => ({ path: 'matrix/prompt' }) },
  'list_prompts(path,prefix,label,tag,after,n,skip,changed_since,changed_until,with_content)': { call: () => ({ prefix: 'matrix' }) },
  'check_prompt(path,label,version)': { call: () => ({ path: 'matrix/prompt' }), 'call:draft': () => ({}) },
  'push_prompt(path,content,type,engine,input_schema,model,parameters,description,tags,message,base_version)': {
    call: () => ({ path: 'matrix/new', content: 'x' }),
  },
  'delete_prompt(path)': { call: () => ({ path: 'matrix/prompt' }) },
  'set_prompt_label(path,label,version,reason)': {
    call: () => ({ path: 'matrix/prompt', label: 'staging', version: 1 }),
    'call:protected': () => ({ path: 'matrix/prompt', label: 'guarded', version: 1 }),
  },
  'set_prompt_settings(require_approval,protected_labels,approval_days)': { call: () => ({ approval_days: 3 }) },
  'prompt_stats(path,since,until)': { call: () => ({}) },
  'compare_prompt_versions(path,from_version,to_version,since,until)': {
    call: () => ({ path: 'matrix/prompt', from_version: 1, to_version: 1 }),
  },
};
