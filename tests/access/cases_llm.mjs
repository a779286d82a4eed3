// The cases of the LLM gateway, in the form of cases.mjs.

export const LLM_RELATIONS = {
  llm_providers: {
    insert: (t) => ({ org_id: t.org, name: 'new', kind: 'openai' }),
    update: () => ({ description: 'Changed' }),
  },
  llm_routes: {
    insert: (t) => ({ org_id: t.org, name: 'new', targets: ['echo/echo'] }),
    update: () => ({ description: 'Changed' }),
  },
  llm_budgets: {
    insert: (t) => ({ org_id: t.org, name: 'New', scope: 'project', project_id: t.project, period: 'day', unit: 'tokens', amount: 1 }),
    update: () => ({ amount: 2 }),
    // A budget of a project has no skill.
    points: ['project_id'],
  },
};

export const LLM_FUNCTIONS = {
  'authorize_llm_call(model,kind,input_tokens,max_output_tokens,choices,images,project_id,skill_id,fields,trace_id,prompt_version_id)': {
    call: () => ({ model: 'echo/echo' }),
    'call:project': (w) => ({ model: 'echo/echo', project_id: w.project }),
    'call:private': (w) => ({ model: 'echo/echo', project_id: w.secretProject }),
  },
  'list_llm_models()': { call: () => ({}) },
  'llm_budget_usage(budget_id)': { call: (w) => ({ budget_id: w.budget }), 'call:private': (w) => ({ budget_id: w.secretBudget }) },
  'llm_usage(by,since,until)': { call: () => ({ by: 'model' }) },
  'set_llm_provider_key(provider_id,key)': { call: (w) => ({ provider_id: w.provider, key: 'sk-matrix' }) },
  'set_llm_settings(routes_only,record_content,content_days)': { call: () => ({ content_days: 7 }) },
  // Reports of requests, which have the costs of these calls.
  'service_levels(since,until,org_id)': { call: () => ({}) },
  'usage_metrics(since,until)': { call: () => ({}) },
};
