export type Json = string | number | boolean | null | { [key: string]: Json | undefined } | Json[];

export type Database = {
  public: {
    Tables: {
      api_keys: {
        Row: {
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          daily_quota: number | null;
          expires_at: string | null;
          id: string;
          kind: 'service' | 'personal' | 'publishable';
          monthly_quota: number | null;
          name: string;
          org_id: string;
          origins: string[];
          permissions: NonNullable<Json>;
          prefix: string;
          rate_limit: number;
          revoked_at: string | null;
          updated_at: string;
          user_id: string | null;
          last_used_at: string | null;
          secret: string | null;
        };
        ComputedFields: 'last_used_at' | 'secret';
        Insert: {
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          daily_quota?: number | null;
          expires_at?: string | null;
          id?: string;
          kind?: 'service' | 'personal' | 'publishable';
          monthly_quota?: number | null;
          name: string;
          org_id?: string;
          origins?: string[];
          permissions: NonNullable<Json>;
          prefix?: string;
          rate_limit?: number;
          revoked_at?: string | null;
          updated_at?: string;
          user_id?: string | null;
        };
        Update: {
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          daily_quota?: number | null;
          expires_at?: string | null;
          id?: string;
          kind?: 'service' | 'personal' | 'publishable';
          monthly_quota?: number | null;
          name?: string;
          org_id?: string;
          origins?: string[];
          permissions?: NonNullable<Json>;
          prefix?: string;
          rate_limit?: number;
          revoked_at?: string | null;
          updated_at?: string;
          user_id?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: 'api_keys_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
          {
            foreignKeyName: 'api_keys_org_id_user_id_fkey';
            columns: ['org_id', 'user_id'];
            isOneToOne: false;
            referencedRelation: 'memberships';
            referencedColumns: ['org_id', 'user_id'];
          },
        ];
      };
      custom_roles: {
        Row: {
          base_role: 'viewer' | 'member' | 'admin';
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          description: string | null;
          id: string;
          name: string;
          org_id: string;
          permissions: string[];
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          base_role?: 'viewer' | 'member' | 'admin';
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          description?: string | null;
          id?: string;
          name: string;
          org_id?: string;
          permissions?: string[];
          updated_at?: string;
        };
        Update: {
          base_role?: 'viewer' | 'member' | 'admin';
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          description?: string | null;
          id?: string;
          name?: string;
          org_id?: string;
          permissions?: string[];
          updated_at?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'custom_roles_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
        ];
      };
      executions: {
        Row: {
          cache_read_tokens: number;
          cache_write_tokens: number;
          cost_microusd: number;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          error: string | null;
          error_code: string | null;
          finished_at: string | null;
          habit_id: string | null;
          hold_id: string | null;
          id: string;
          idempotency_key: string | null;
          input: NonNullable<Json>;
          input_tokens: number;
          job_id: string | null;
          managers_only: boolean;
          model: string | null;
          org_id: string;
          output: Json | null;
          output_tokens: number;
          project_id: string | null;
          retry_of: string | null;
          scheduled_for: string | null;
          skill_id: string | null;
          skip_count: number;
          started_at: string | null;
          status: 'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled' | 'skipped';
          trigger: 'manual' | 'habit' | 'reflex' | 'api';
          updated_at: string;
          usage_attributes: NonNullable<Json>;
          retried_execution: {
            cache_read_tokens: number;
            cache_write_tokens: number;
            cost_microusd: number;
            created_at: string;
            created_by: string | null;
            created_by_key: string | null;
            error: string | null;
            error_code: string | null;
            finished_at: string | null;
            habit_id: string | null;
            hold_id: string | null;
            id: string;
            idempotency_key: string | null;
            input: NonNullable<Json>;
            input_tokens: number;
            job_id: string | null;
            managers_only: boolean;
            model: string | null;
            org_id: string;
            output: Json | null;
            output_tokens: number;
            project_id: string | null;
            retry_of: string | null;
            scheduled_for: string | null;
            skill_id: string | null;
            skip_count: number;
            started_at: string | null;
            status: 'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled' | 'skipped';
            trigger: 'manual' | 'habit' | 'reflex' | 'api';
            updated_at: string;
            usage_attributes: NonNullable<Json>;
          } | null;
          retries: {
            cache_read_tokens: number;
            cache_write_tokens: number;
            cost_microusd: number;
            created_at: string;
            created_by: string | null;
            created_by_key: string | null;
            error: string | null;
            error_code: string | null;
            finished_at: string | null;
            habit_id: string | null;
            hold_id: string | null;
            id: string;
            idempotency_key: string | null;
            input: NonNullable<Json>;
            input_tokens: number;
            job_id: string | null;
            managers_only: boolean;
            model: string | null;
            org_id: string;
            output: Json | null;
            output_tokens: number;
            project_id: string | null;
            retry_of: string | null;
            scheduled_for: string | null;
            skill_id: string | null;
            skip_count: number;
            started_at: string | null;
            status: 'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled' | 'skipped';
            trigger: 'manual' | 'habit' | 'reflex' | 'api';
            updated_at: string;
            usage_attributes: NonNullable<Json>;
          } | null;
        };
        ComputedFields: 'retried_execution' | 'retries';
        Insert: {
          cache_read_tokens?: number;
          cache_write_tokens?: number;
          cost_microusd?: number;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          error?: string | null;
          error_code?: string | null;
          finished_at?: string | null;
          habit_id?: string | null;
          hold_id?: string | null;
          id?: string;
          idempotency_key?: string | null;
          input?: NonNullable<Json>;
          input_tokens?: number;
          job_id?: string | null;
          managers_only?: boolean;
          model?: string | null;
          org_id?: string;
          output?: Json | null;
          output_tokens?: number;
          project_id?: string | null;
          retry_of?: string | null;
          scheduled_for?: string | null;
          skill_id?: string | null;
          skip_count?: number;
          started_at?: string | null;
          status?: 'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled' | 'skipped';
          trigger?: 'manual' | 'habit' | 'reflex' | 'api';
          updated_at?: string;
          usage_attributes?: NonNullable<Json>;
        };
        Update: {
          cache_read_tokens?: number;
          cache_write_tokens?: number;
          cost_microusd?: number;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          error?: string | null;
          error_code?: string | null;
          finished_at?: string | null;
          habit_id?: string | null;
          hold_id?: string | null;
          id?: string;
          idempotency_key?: string | null;
          input?: NonNullable<Json>;
          input_tokens?: number;
          job_id?: string | null;
          managers_only?: boolean;
          model?: string | null;
          org_id?: string;
          output?: Json | null;
          output_tokens?: number;
          project_id?: string | null;
          retry_of?: string | null;
          scheduled_for?: string | null;
          skill_id?: string | null;
          skip_count?: number;
          started_at?: string | null;
          status?: 'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled' | 'skipped';
          trigger?: 'manual' | 'habit' | 'reflex' | 'api';
          updated_at?: string;
          usage_attributes?: NonNullable<Json>;
        };
        Relationships: [
          {
            foreignKeyName: 'executions_habit_id_fkey';
            columns: ['org_id', 'habit_id'];
            isOneToOne: false;
            referencedRelation: 'habits';
            referencedColumns: ['org_id', 'id'];
          },
          {
            foreignKeyName: 'executions_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
          {
            foreignKeyName: 'executions_org_id_project_id_fkey';
            columns: ['org_id', 'project_id'];
            isOneToOne: false;
            referencedRelation: 'projects';
            referencedColumns: ['org_id', 'id'];
          },
          {
            foreignKeyName: 'executions_org_id_retry_of_fkey';
            columns: ['org_id', 'retry_of'];
            isOneToOne: false;
            referencedRelation: 'executions';
            referencedColumns: ['org_id', 'id'];
          },
          {
            foreignKeyName: 'executions_org_id_skill_id_fkey';
            columns: ['org_id', 'skill_id'];
            isOneToOne: false;
            referencedRelation: 'skills';
            referencedColumns: ['org_id', 'id'];
          },
        ];
      };
      habits: {
        Row: {
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          cron: string;
          enabled: boolean;
          id: string;
          input: NonNullable<Json>;
          last_error: string | null;
          last_run_at: string | null;
          name: string;
          next_run_at: string | null;
          org_id: string;
          skill_id: string;
          timezone: string;
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          cron: string;
          enabled?: boolean;
          id?: string;
          input?: NonNullable<Json>;
          last_error?: string | null;
          last_run_at?: string | null;
          name: string;
          next_run_at?: string | null;
          org_id?: string;
          skill_id: string;
          timezone?: string;
          updated_at?: string;
        };
        Update: {
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          cron?: string;
          enabled?: boolean;
          id?: string;
          input?: NonNullable<Json>;
          last_error?: string | null;
          last_run_at?: string | null;
          name?: string;
          next_run_at?: string | null;
          org_id?: string;
          skill_id?: string;
          timezone?: string;
          updated_at?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'habits_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
          {
            foreignKeyName: 'habits_org_id_skill_id_fkey';
            columns: ['org_id', 'skill_id'];
            isOneToOne: false;
            referencedRelation: 'skills';
            referencedColumns: ['org_id', 'id'];
          },
        ];
      };
      invitations: {
        Row: {
          accepted_by: string | null;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          custom_role_id: string | null;
          email: string;
          expires_at: string;
          id: string;
          org_id: string;
          role: 'viewer' | 'member' | 'admin' | 'owner';
          sent_at: string;
          sent_by: string | null;
          status: 'pending' | 'accepted' | 'declined' | 'revoked';
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          accepted_by?: string | null;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          custom_role_id?: string | null;
          email: string;
          expires_at?: string;
          id?: string;
          org_id?: string;
          role: 'viewer' | 'member' | 'admin' | 'owner';
          sent_at?: string;
          sent_by?: string | null;
          status?: 'pending' | 'accepted' | 'declined' | 'revoked';
          updated_at?: string;
        };
        Update: {
          accepted_by?: string | null;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          custom_role_id?: string | null;
          email?: string;
          expires_at?: string;
          id?: string;
          org_id?: string;
          role?: 'viewer' | 'member' | 'admin' | 'owner';
          sent_at?: string;
          sent_by?: string | null;
          status?: 'pending' | 'accepted' | 'declined' | 'revoked';
          updated_at?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'invitations_org_id_custom_role_id_role_fkey';
            columns: ['org_id', 'custom_role_id', 'role'];
            isOneToOne: false;
            referencedRelation: 'custom_roles';
            referencedColumns: ['org_id', 'id', 'base_role'];
          },
          {
            foreignKeyName: 'invitations_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
        ];
      };
      job_event_log: {
        Row: {
          attempt: number;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          data: NonNullable<Json>;
          event: string;
          id: string;
          job_id: string;
          org_id: string;
          seq: number;
          worker: string | null;
        };
        ComputedFields: never;
        Insert: {
          attempt: number;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          data?: NonNullable<Json>;
          event: string;
          id?: string;
          job_id: string;
          org_id: string;
          seq?: never;
          worker?: string | null;
        };
        Update: {
          attempt?: number;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          data?: NonNullable<Json>;
          event?: string;
          id?: string;
          job_id?: string;
          org_id?: string;
          seq?: never;
          worker?: string | null;
        };
        Relationships: [];
      };
      jobs: {
        Row: {
          attempt: number;
          cancel_requested: boolean;
          concurrency_key: string | null;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          error: string | null;
          error_code: string | null;
          finished_at: string | null;
          first_worker: string | null;
          id: string;
          kind: string;
          last_worker: string | null;
          locked_by: string | null;
          locked_until: string | null;
          managers_only: boolean;
          max_attempts: number;
          org_id: string;
          payload: NonNullable<Json>;
          priority: number;
          project_id: string | null;
          result: Json | null;
          run_at: string;
          started_at: string | null;
          status: 'queued' | 'running' | 'succeeded' | 'dead' | 'cancelled';
          timeout_seconds: number;
          uncounted_attempts: number;
          unique_key: string | null;
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          attempt?: number;
          cancel_requested?: boolean;
          concurrency_key?: string | null;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          error?: string | null;
          error_code?: string | null;
          finished_at?: string | null;
          first_worker?: string | null;
          id?: string;
          kind: string;
          last_worker?: string | null;
          locked_by?: string | null;
          locked_until?: string | null;
          managers_only?: boolean;
          max_attempts?: number;
          org_id: string;
          payload?: NonNullable<Json>;
          priority?: number;
          project_id?: string | null;
          result?: Json | null;
          run_at?: string;
          started_at?: string | null;
          status?: 'queued' | 'running' | 'succeeded' | 'dead' | 'cancelled';
          timeout_seconds?: number;
          uncounted_attempts?: number;
          unique_key?: string | null;
          updated_at?: string;
        };
        Update: {
          attempt?: number;
          cancel_requested?: boolean;
          concurrency_key?: string | null;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          error?: string | null;
          error_code?: string | null;
          finished_at?: string | null;
          first_worker?: string | null;
          id?: string;
          kind?: string;
          last_worker?: string | null;
          locked_by?: string | null;
          locked_until?: string | null;
          managers_only?: boolean;
          max_attempts?: number;
          org_id?: string;
          payload?: NonNullable<Json>;
          priority?: number;
          project_id?: string | null;
          result?: Json | null;
          run_at?: string;
          started_at?: string | null;
          status?: 'queued' | 'running' | 'succeeded' | 'dead' | 'cancelled';
          timeout_seconds?: number;
          uncounted_attempts?: number;
          unique_key?: string | null;
          updated_at?: string;
        };
        Relationships: [];
      };
      llm_models: {
        Row: {
          batch_input_microusd_per_mtok: number | null;
          batch_output_microusd_per_mtok: number | null;
          cache_read_microusd_per_mtok: number | null;
          cache_write_1h_microusd_per_mtok: number | null;
          cache_write_microusd_per_mtok: number | null;
          created_at: string;
          id: string;
          input_microusd_per_mtok: number;
          long_cache_read_microusd_per_mtok: number | null;
          long_cache_write_1h_microusd_per_mtok: number | null;
          long_cache_write_microusd_per_mtok: number | null;
          long_context_tokens: number | null;
          long_input_microusd_per_mtok: number | null;
          long_output_microusd_per_mtok: number | null;
          max_output_tokens: number | null;
          output_microusd_per_mtok: number;
          priority_cache_read_microusd_per_mtok: number | null;
          priority_input_microusd_per_mtok: number | null;
          priority_output_microusd_per_mtok: number | null;
          provider: string;
          reasoning_microusd_per_mtok: number | null;
          source: 'operator' | 'seed' | 'litellm';
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          batch_input_microusd_per_mtok?: number | null;
          batch_output_microusd_per_mtok?: number | null;
          cache_read_microusd_per_mtok?: number | null;
          cache_write_1h_microusd_per_mtok?: number | null;
          cache_write_microusd_per_mtok?: number | null;
          created_at?: string;
          id: string;
          input_microusd_per_mtok: number;
          long_cache_read_microusd_per_mtok?: number | null;
          long_cache_write_1h_microusd_per_mtok?: number | null;
          long_cache_write_microusd_per_mtok?: number | null;
          long_context_tokens?: number | null;
          long_input_microusd_per_mtok?: number | null;
          long_output_microusd_per_mtok?: number | null;
          max_output_tokens?: number | null;
          output_microusd_per_mtok: number;
          priority_cache_read_microusd_per_mtok?: number | null;
          priority_input_microusd_per_mtok?: number | null;
          priority_output_microusd_per_mtok?: number | null;
          provider?: never;
          reasoning_microusd_per_mtok?: number | null;
          source?: 'operator' | 'seed' | 'litellm';
          updated_at?: string;
        };
        Update: {
          batch_input_microusd_per_mtok?: number | null;
          batch_output_microusd_per_mtok?: number | null;
          cache_read_microusd_per_mtok?: number | null;
          cache_write_1h_microusd_per_mtok?: number | null;
          cache_write_microusd_per_mtok?: number | null;
          created_at?: string;
          id?: string;
          input_microusd_per_mtok?: number;
          long_cache_read_microusd_per_mtok?: number | null;
          long_cache_write_1h_microusd_per_mtok?: number | null;
          long_cache_write_microusd_per_mtok?: number | null;
          long_context_tokens?: number | null;
          long_input_microusd_per_mtok?: number | null;
          long_output_microusd_per_mtok?: number | null;
          max_output_tokens?: number | null;
          output_microusd_per_mtok?: number;
          priority_cache_read_microusd_per_mtok?: number | null;
          priority_input_microusd_per_mtok?: number | null;
          priority_output_microusd_per_mtok?: number | null;
          provider?: never;
          reasoning_microusd_per_mtok?: number | null;
          source?: 'operator' | 'seed' | 'litellm';
          updated_at?: string;
        };
        Relationships: [];
      };
      memberships: {
        Row: {
          created_at: string;
          created_by: string | null;
          custom_role_id: string | null;
          id: string;
          org_id: string;
          role: 'viewer' | 'member' | 'admin' | 'owner';
          updated_at: string;
          user_id: string;
        };
        ComputedFields: never;
        Insert: {
          created_at?: string;
          created_by?: string | null;
          custom_role_id?: string | null;
          id?: string;
          org_id?: string;
          role?: 'viewer' | 'member' | 'admin' | 'owner';
          updated_at?: string;
          user_id: string;
        };
        Update: {
          created_at?: string;
          created_by?: string | null;
          custom_role_id?: string | null;
          id?: string;
          org_id?: string;
          role?: 'viewer' | 'member' | 'admin' | 'owner';
          updated_at?: string;
          user_id?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'memberships_org_id_custom_role_id_role_fkey';
            columns: ['org_id', 'custom_role_id', 'role'];
            isOneToOne: false;
            referencedRelation: 'custom_roles';
            referencedColumns: ['org_id', 'id', 'base_role'];
          },
          {
            foreignKeyName: 'memberships_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
          {
            foreignKeyName: 'memberships_user_id_fkey';
            columns: ['user_id'];
            isOneToOne: false;
            referencedRelation: 'profiles';
            referencedColumns: ['id'];
          },
        ];
      };
      organizations: {
        Row: {
          created_at: string;
          created_by: string | null;
          id: string;
          name: string;
          personal_for: string | null;
          slug: string;
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          created_at?: string;
          created_by?: string | null;
          id?: string;
          name: string;
          personal_for?: string | null;
          slug?: string;
          updated_at?: string;
        };
        Update: {
          created_at?: string;
          created_by?: string | null;
          id?: string;
          name?: string;
          personal_for?: string | null;
          slug?: string;
          updated_at?: string;
        };
        Relationships: [];
      };
      plan_limits: {
        Row: {
          amount: number | null;
          meter: string;
          overage_policy: 'refuse' | 'flag' | 'bill';
          period: 'month' | 'day' | 'lifetime';
          plan: string;
        };
        ComputedFields: never;
        Insert: {
          amount?: number | null;
          meter: string;
          overage_policy?: 'refuse' | 'flag' | 'bill';
          period: 'month' | 'day' | 'lifetime';
          plan: string;
        };
        Update: {
          amount?: number | null;
          meter?: string;
          overage_policy?: 'refuse' | 'flag' | 'bill';
          period?: 'month' | 'day' | 'lifetime';
          plan?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'plan_limits_plan_fkey';
            columns: ['plan'];
            isOneToOne: false;
            referencedRelation: 'plans';
            referencedColumns: ['code'];
          },
        ];
      };
      plans: {
        Row: {
          code: string;
          created_at: string;
          max_organizations: number | null;
          name: string;
          rank: number;
          rate_per_minute: number;
          statement_seconds: number;
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          code: string;
          created_at?: string;
          max_organizations?: number | null;
          name: string;
          rank: number;
          rate_per_minute: number;
          statement_seconds?: number;
          updated_at?: string;
        };
        Update: {
          code?: string;
          created_at?: string;
          max_organizations?: number | null;
          name?: string;
          rank?: number;
          rate_per_minute?: number;
          statement_seconds?: number;
          updated_at?: string;
        };
        Relationships: [];
      };
      profiles: {
        Row: {
          avatar_url: string | null;
          created_at: string;
          display_name: string;
          email: string | null;
          id: string;
          updated_at: string;
          active_org_id: string;
        };
        ComputedFields: 'active_org_id';
        Insert: {
          avatar_url?: string | null;
          created_at?: string;
          display_name: string;
          email?: string | null;
          id: string;
          updated_at?: string;
        };
        Update: {
          avatar_url?: string | null;
          created_at?: string;
          display_name?: string;
          email?: string | null;
          id?: string;
          updated_at?: string;
        };
        Relationships: [];
      };
      project_members: {
        Row: {
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          id: string;
          org_id: string;
          project_id: string;
          updated_at: string;
          user_id: string;
        };
        ComputedFields: never;
        Insert: {
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          id?: string;
          org_id?: string;
          project_id: string;
          updated_at?: string;
          user_id: string;
        };
        Update: {
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          id?: string;
          org_id?: string;
          project_id?: string;
          updated_at?: string;
          user_id?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'project_members_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
          {
            foreignKeyName: 'project_members_org_id_project_id_fkey';
            columns: ['org_id', 'project_id'];
            isOneToOne: false;
            referencedRelation: 'projects';
            referencedColumns: ['org_id', 'id'];
          },
          {
            foreignKeyName: 'project_members_org_id_user_id_fkey';
            columns: ['org_id', 'user_id'];
            isOneToOne: false;
            referencedRelation: 'memberships';
            referencedColumns: ['org_id', 'user_id'];
          },
          {
            foreignKeyName: 'project_members_user_id_fkey';
            columns: ['user_id'];
            isOneToOne: false;
            referencedRelation: 'profiles';
            referencedColumns: ['id'];
          },
        ];
      };
      projects: {
        Row: {
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          description: string | null;
          id: string;
          name: string;
          org_id: string;
          slug: string;
          updated_at: string;
          visibility: 'organization' | 'private';
        };
        ComputedFields: never;
        Insert: {
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          description?: string | null;
          id?: string;
          name: string;
          org_id?: string;
          slug?: string;
          updated_at?: string;
          visibility?: 'organization' | 'private';
        };
        Update: {
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          description?: string | null;
          id?: string;
          name?: string;
          org_id?: string;
          slug?: string;
          updated_at?: string;
          visibility?: 'organization' | 'private';
        };
        Relationships: [
          {
            foreignKeyName: 'projects_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
        ];
      };
      secrets: {
        Row: {
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          id: string;
          name: string;
          org_id: string;
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          id?: string;
          name: string;
          org_id?: string;
          updated_at?: string;
        };
        Update: {
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          id?: string;
          name?: string;
          org_id?: string;
          updated_at?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'secrets_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
        ];
      };
      skills: {
        Row: {
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          description: string | null;
          enabled: boolean;
          id: string;
          input_schema: NonNullable<Json>;
          model: string;
          name: string;
          org_id: string;
          parameters: NonNullable<Json>;
          project_id: string | null;
          prompt_template: string;
          updated_at: string;
          problems: Json;
        };
        ComputedFields: 'problems';
        Insert: {
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          description?: string | null;
          enabled?: boolean;
          id?: string;
          input_schema?: NonNullable<Json>;
          model?: string;
          name: string;
          org_id?: string;
          parameters?: NonNullable<Json>;
          project_id?: string | null;
          prompt_template: string;
          updated_at?: string;
        };
        Update: {
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          description?: string | null;
          enabled?: boolean;
          id?: string;
          input_schema?: NonNullable<Json>;
          model?: string;
          name?: string;
          org_id?: string;
          parameters?: NonNullable<Json>;
          project_id?: string | null;
          prompt_template?: string;
          updated_at?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'skills_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
          {
            foreignKeyName: 'skills_org_id_project_id_fkey';
            columns: ['org_id', 'project_id'];
            isOneToOne: false;
            referencedRelation: 'projects';
            referencedColumns: ['org_id', 'id'];
          },
        ];
      };
      stripe_checkouts: {
        Row: {
          amount_total: number | null;
          as_of: string;
          client_reference_id: string | null;
          created_at: string;
          currency: string | null;
          customer_id: string | null;
          event_id: string;
          id: string;
          livemode: boolean;
          mode: string | null;
          org_id: string | null;
          payment_status: string;
          status: string | null;
          subscription_id: string | null;
        };
        ComputedFields: never;
        Insert: {
          amount_total?: number | null;
          as_of: string;
          client_reference_id?: string | null;
          created_at: string;
          currency?: string | null;
          customer_id?: string | null;
          event_id: string;
          id: string;
          livemode: boolean;
          mode?: string | null;
          org_id?: string | null;
          payment_status: string;
          status?: string | null;
          subscription_id?: string | null;
        };
        Update: {
          amount_total?: number | null;
          as_of?: string;
          client_reference_id?: string | null;
          created_at?: string;
          currency?: string | null;
          customer_id?: string | null;
          event_id?: string;
          id?: string;
          livemode?: boolean;
          mode?: string | null;
          org_id?: string | null;
          payment_status?: string;
          status?: string | null;
          subscription_id?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: 'stripe_checkouts_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
        ];
      };
      stripe_customers: {
        Row: {
          as_of: string | null;
          created_at: string | null;
          currency: string | null;
          deleted: boolean;
          delinquent: boolean | null;
          email: string | null;
          event_id: string | null;
          id: string;
          livemode: boolean;
          metadata_org_id: string | null;
          name: string | null;
          org_id: string | null;
        };
        ComputedFields: never;
        Insert: {
          as_of?: string | null;
          created_at?: string | null;
          currency?: string | null;
          deleted?: boolean;
          delinquent?: boolean | null;
          email?: string | null;
          event_id?: string | null;
          id: string;
          livemode: boolean;
          metadata_org_id?: string | null;
          name?: string | null;
          org_id?: string | null;
        };
        Update: {
          as_of?: string | null;
          created_at?: string | null;
          currency?: string | null;
          deleted?: boolean;
          delinquent?: boolean | null;
          email?: string | null;
          event_id?: string | null;
          id?: string;
          livemode?: boolean;
          metadata_org_id?: string | null;
          name?: string | null;
          org_id?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: 'stripe_customers_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
        ];
      };
      stripe_invoices: {
        Row: {
          amount_due: number;
          amount_paid: number;
          amount_remaining: number;
          as_of: string;
          attempt_count: number;
          billing_reason: string | null;
          created_at: string | null;
          currency: string | null;
          customer_id: string | null;
          deleted: boolean;
          due_date: string | null;
          event_id: string;
          hosted_invoice_url: string | null;
          id: string;
          invoice_pdf: string | null;
          livemode: boolean;
          number: string | null;
          org_id: string | null;
          paid_at: string | null;
          paid_out_of_band: boolean;
          period_end: string | null;
          period_start: string | null;
          status: string | null;
          subscription_id: string | null;
          total: number;
        };
        ComputedFields: never;
        Insert: {
          amount_due: number;
          amount_paid: number;
          amount_remaining: number;
          as_of: string;
          attempt_count: number;
          billing_reason?: string | null;
          created_at?: string | null;
          currency?: string | null;
          customer_id?: string | null;
          deleted: boolean;
          due_date?: string | null;
          event_id: string;
          hosted_invoice_url?: string | null;
          id: string;
          invoice_pdf?: string | null;
          livemode: boolean;
          number?: string | null;
          org_id?: string | null;
          paid_at?: string | null;
          paid_out_of_band: boolean;
          period_end?: string | null;
          period_start?: string | null;
          status?: string | null;
          subscription_id?: string | null;
          total: number;
        };
        Update: {
          amount_due?: number;
          amount_paid?: number;
          amount_remaining?: number;
          as_of?: string;
          attempt_count?: number;
          billing_reason?: string | null;
          created_at?: string | null;
          currency?: string | null;
          customer_id?: string | null;
          deleted?: boolean;
          due_date?: string | null;
          event_id?: string;
          hosted_invoice_url?: string | null;
          id?: string;
          invoice_pdf?: string | null;
          livemode?: boolean;
          number?: string | null;
          org_id?: string | null;
          paid_at?: string | null;
          paid_out_of_band?: boolean;
          period_end?: string | null;
          period_start?: string | null;
          status?: string | null;
          subscription_id?: string | null;
          total?: number;
        };
        Relationships: [
          {
            foreignKeyName: 'stripe_invoices_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
        ];
      };
      stripe_prices: {
        Row: {
          active: boolean;
          as_of: string;
          created_at: string | null;
          currency: string | null;
          deleted: boolean;
          event_id: string;
          id: string;
          livemode: boolean;
          lookup_key: string | null;
          nickname: string | null;
          product_id: string | null;
          recurring_interval: string | null;
          recurring_interval_count: number | null;
          unit_amount: number | null;
        };
        ComputedFields: never;
        Insert: {
          active: boolean;
          as_of: string;
          created_at?: string | null;
          currency?: string | null;
          deleted: boolean;
          event_id: string;
          id: string;
          livemode: boolean;
          lookup_key?: string | null;
          nickname?: string | null;
          product_id?: string | null;
          recurring_interval?: string | null;
          recurring_interval_count?: number | null;
          unit_amount?: number | null;
        };
        Update: {
          active?: boolean;
          as_of?: string;
          created_at?: string | null;
          currency?: string | null;
          deleted?: boolean;
          event_id?: string;
          id?: string;
          livemode?: boolean;
          lookup_key?: string | null;
          nickname?: string | null;
          product_id?: string | null;
          recurring_interval?: string | null;
          recurring_interval_count?: number | null;
          unit_amount?: number | null;
        };
        Relationships: [];
      };
      stripe_subscriptions: {
        Row: {
          as_of: string;
          cancel_at: string | null;
          cancel_at_period_end: boolean;
          canceled_at: string | null;
          collection_method: string | null;
          created_at: string;
          current_period_end: string | null;
          current_period_start: string | null;
          customer_id: string;
          ended_at: string | null;
          event_id: string;
          id: string;
          items: NonNullable<Json>;
          latest_invoice_id: string | null;
          livemode: boolean;
          metadata_org_id: string | null;
          org_id: string | null;
          past_due_since: string | null;
          status: string;
          trial_end: string | null;
        };
        ComputedFields: never;
        Insert: {
          as_of: string;
          cancel_at?: string | null;
          cancel_at_period_end: boolean;
          canceled_at?: string | null;
          collection_method?: string | null;
          created_at: string;
          current_period_end?: string | null;
          current_period_start?: string | null;
          customer_id: string;
          ended_at?: string | null;
          event_id: string;
          id: string;
          items: NonNullable<Json>;
          latest_invoice_id?: string | null;
          livemode: boolean;
          metadata_org_id?: string | null;
          org_id?: string | null;
          past_due_since?: string | null;
          status: string;
          trial_end?: string | null;
        };
        Update: {
          as_of?: string;
          cancel_at?: string | null;
          cancel_at_period_end?: boolean;
          canceled_at?: string | null;
          collection_method?: string | null;
          created_at?: string;
          current_period_end?: string | null;
          current_period_start?: string | null;
          customer_id?: string;
          ended_at?: string | null;
          event_id?: string;
          id?: string;
          items?: NonNullable<Json>;
          latest_invoice_id?: string | null;
          livemode?: boolean;
          metadata_org_id?: string | null;
          org_id?: string | null;
          past_due_since?: string | null;
          status?: string;
          trial_end?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: 'stripe_subscriptions_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
        ];
      };
      subscriptions: {
        Row: {
          created_at: string;
          created_by: string | null;
          current_period_end: string | null;
          current_period_start: string;
          id: string;
          org_id: string;
          plan: string;
          plan_override: string | null;
          status: 'active' | 'trialing' | 'past_due' | 'unpaid' | 'canceled';
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          created_at?: string;
          created_by?: string | null;
          current_period_end?: string | null;
          current_period_start?: string;
          id?: string;
          org_id?: string;
          plan?: string;
          plan_override?: string | null;
          status?: 'active' | 'trialing' | 'past_due' | 'unpaid' | 'canceled';
          updated_at?: string;
        };
        Update: {
          created_at?: string;
          created_by?: string | null;
          current_period_end?: string | null;
          current_period_start?: string;
          id?: string;
          org_id?: string;
          plan?: string;
          plan_override?: string | null;
          status?: 'active' | 'trialing' | 'past_due' | 'unpaid' | 'canceled';
          updated_at?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'subscriptions_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: true;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
          {
            foreignKeyName: 'subscriptions_plan_fkey';
            columns: ['plan'];
            isOneToOne: false;
            referencedRelation: 'plans';
            referencedColumns: ['code'];
          },
        ];
      };
      usage_meters: {
        Row: {
          amount_field: string | null;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          event_type: string;
          id: string;
          meter: string;
          org_id: string;
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          amount_field?: string | null;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          event_type: string;
          id?: string;
          meter: string;
          org_id?: string;
          updated_at?: string;
        };
        Update: {
          amount_field?: string | null;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          event_type?: string;
          id?: string;
          meter?: string;
          org_id?: string;
          updated_at?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'usage_meters_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
        ];
      };
    };
    Views: {
      job_events: {
        Row: {
          attempt: number;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          data: NonNullable<Json>;
          event: string;
          id: string;
          job_id: string;
          org_id: string;
          seq: number;
          worker: string | null;
        };
        ComputedFields: never;
        Insert: {
          attempt?: number | null;
          created_at?: string | null;
          created_by?: string | null;
          created_by_key?: string | null;
          data?: Json | null;
          event?: string | null;
          id?: string | null;
          job_id?: string | null;
          org_id?: string | null;
          seq?: number | null;
          worker?: string | null;
        };
        Update: {
          attempt?: number | null;
          created_at?: string | null;
          created_by?: string | null;
          created_by_key?: string | null;
          data?: Json | null;
          event?: string | null;
          id?: string | null;
          job_id?: string | null;
          org_id?: string | null;
          seq?: number | null;
          worker?: string | null;
        };
        Relationships: [];
      };
    };
    Functions: {
      accept_invitation: {
        Args: { token: string };
        Returns: {
          created_at: string;
          created_by: string | null;
          custom_role_id: string | null;
          id: string;
          org_id: string;
          role: 'viewer' | 'member' | 'admin' | 'owner';
          updated_at: string;
          user_id: string;
        };
        SetofOptions: {
          from: '*';
          to: 'memberships';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      active_org_id: {
        Args: {
          profile: Omit<Database['public']['Tables']['profiles']['Row'], Database['public']['Tables']['profiles']['ComputedFields']>;
        };
        Returns: string;
      };
      before_request: { Args: Record<PropertyKey, never>; Returns: undefined };
      can: { Args: { org: string; permission: string }; Returns: boolean };
      cancel_execution: {
        Args: { id: string };
        Returns: {
          cache_read_tokens: number;
          cache_write_tokens: number;
          cost_microusd: number;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          error: string | null;
          error_code: string | null;
          finished_at: string | null;
          habit_id: string | null;
          hold_id: string | null;
          id: string;
          idempotency_key: string | null;
          input: NonNullable<Json>;
          input_tokens: number;
          job_id: string | null;
          managers_only: boolean;
          model: string | null;
          org_id: string;
          output: Json | null;
          output_tokens: number;
          project_id: string | null;
          retry_of: string | null;
          scheduled_for: string | null;
          skill_id: string | null;
          skip_count: number;
          started_at: string | null;
          status: 'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled' | 'skipped';
          trigger: 'manual' | 'habit' | 'reflex' | 'api';
          updated_at: string;
          usage_attributes: NonNullable<Json>;
        };
        SetofOptions: {
          from: '*';
          to: 'executions';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      create_api_key: {
        Args: {
          daily_quota?: number | null;
          expires_at?: string | null;
          kind?: string;
          monthly_quota?: number;
          name: string;
          origins?: string[];
          permissions: Json;
          rate_limit?: number;
        };
        Returns: Database['public']['CompositeTypes']['issued_api_key'];
        SetofOptions: {
          from: '*';
          to: 'issued_api_key';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      create_organization: {
        Args: { name: string };
        Returns: {
          created_at: string;
          created_by: string | null;
          id: string;
          name: string;
          personal_for: string | null;
          slug: string;
          updated_at: string;
        };
        SetofOptions: {
          from: '*';
          to: 'organizations';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      decline_invitation: { Args: { token: string }; Returns: undefined };
      delete_account: { Args: Record<PropertyKey, never>; Returns: undefined };
      delete_secret: { Args: { name: string }; Returns: undefined };
      end_session: { Args: { session_id: string }; Returns: undefined };
      execute_skill: {
        Args: { idempotency_key?: string | null; input?: Json; skill_id: string };
        Returns: {
          cache_read_tokens: number;
          cache_write_tokens: number;
          cost_microusd: number;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          error: string | null;
          error_code: string | null;
          finished_at: string | null;
          habit_id: string | null;
          hold_id: string | null;
          id: string;
          idempotency_key: string | null;
          input: NonNullable<Json>;
          input_tokens: number;
          job_id: string | null;
          managers_only: boolean;
          model: string | null;
          org_id: string;
          output: Json | null;
          output_tokens: number;
          project_id: string | null;
          retry_of: string | null;
          scheduled_for: string | null;
          skill_id: string | null;
          skip_count: number;
          started_at: string | null;
          status: 'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled' | 'skipped';
          trigger: 'manual' | 'habit' | 'reflex' | 'api';
          updated_at: string;
          usage_attributes: NonNullable<Json>;
        };
        SetofOptions: {
          from: '*';
          to: 'executions';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      explain_access: { Args: { operation: string; row_id?: string | null; subject: string; table_name: string }; Returns: Json };
      explain_limit: { Args: { meter: string; org_id: string }; Returns: Json };
      has_role: { Args: { org: string; role: string }; Returns: boolean };
      ingest_usage: { Args: { events: Json }; Returns: Json } | { Args: { events: Json; org_id: string }; Returns: Json };
      invite_member: {
        Args: { custom_role_id?: string | null; email: string; role?: string };
        Returns: Database['public']['CompositeTypes']['issued_invitation'];
        SetofOptions: {
          from: '*';
          to: 'issued_invitation';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      last_used_at: {
        Args: { key: Omit<Database['public']['Tables']['api_keys']['Row'], Database['public']['Tables']['api_keys']['ComputedFields']> };
        Returns: string | null;
      };
      leave_organization: { Args: { org_id: string }; Returns: undefined };
      list_sessions: {
        Args: Record<PropertyKey, never>;
        Returns: {
          aal: string | null;
          created_at: string;
          id: string;
          ip_address: string | null;
          is_current: boolean | null;
          last_seen_at: string;
          user_agent: string | null;
        }[];
      };
      org_id: { Args: Record<PropertyKey, never>; Returns: string | null };
      org_ids: { Args: Record<PropertyKey, never>; Returns: string[] };
      permissions: {
        Args: Record<PropertyKey, never>;
        Returns: {
          description: string;
          permission: string;
          wildcard: string | null;
        }[];
      };
      preview_cron: { Args: { expression: string; n?: number; timezone?: string }; Returns: string[] };
      problems: {
        Args: { skill: Omit<Database['public']['Tables']['skills']['Row'], Database['public']['Tables']['skills']['ComputedFields']> };
        Returns: Json;
      };
      resend_invitation: {
        Args: { id: string };
        Returns: Database['public']['CompositeTypes']['issued_invitation'];
        SetofOptions: {
          from: '*';
          to: 'issued_invitation';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      retried_execution: {
        Args: {
          execution: Omit<Database['public']['Tables']['executions']['Row'], Database['public']['Tables']['executions']['ComputedFields']>;
        };
        Returns: {
          cache_read_tokens: number;
          cache_write_tokens: number;
          cost_microusd: number;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          error: string | null;
          error_code: string | null;
          finished_at: string | null;
          habit_id: string | null;
          hold_id: string | null;
          id: string;
          idempotency_key: string | null;
          input: NonNullable<Json>;
          input_tokens: number;
          job_id: string | null;
          managers_only: boolean;
          model: string | null;
          org_id: string;
          output: Json | null;
          output_tokens: number;
          project_id: string | null;
          retry_of: string | null;
          scheduled_for: string | null;
          skill_id: string | null;
          skip_count: number;
          started_at: string | null;
          status: 'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled' | 'skipped';
          trigger: 'manual' | 'habit' | 'reflex' | 'api';
          updated_at: string;
          usage_attributes: NonNullable<Json>;
        };
        SetofOptions: {
          from: 'executions';
          to: 'executions';
          isOneToOne: true;
          isSetofReturn: true;
        };
      };
      retries: {
        Args: {
          execution: Omit<Database['public']['Tables']['executions']['Row'], Database['public']['Tables']['executions']['ComputedFields']>;
        };
        Returns: {
          cache_read_tokens: number;
          cache_write_tokens: number;
          cost_microusd: number;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          error: string | null;
          error_code: string | null;
          finished_at: string | null;
          habit_id: string | null;
          hold_id: string | null;
          id: string;
          idempotency_key: string | null;
          input: NonNullable<Json>;
          input_tokens: number;
          job_id: string | null;
          managers_only: boolean;
          model: string | null;
          org_id: string;
          output: Json | null;
          output_tokens: number;
          project_id: string | null;
          retry_of: string | null;
          scheduled_for: string | null;
          skill_id: string | null;
          skip_count: number;
          started_at: string | null;
          status: 'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled' | 'skipped';
          trigger: 'manual' | 'habit' | 'reflex' | 'api';
          updated_at: string;
          usage_attributes: NonNullable<Json>;
        }[];
        SetofOptions: {
          from: 'executions';
          to: 'executions';
          isOneToOne: false;
          isSetofReturn: true;
        };
      };
      retry_execution: {
        Args: { id: string };
        Returns: {
          cache_read_tokens: number;
          cache_write_tokens: number;
          cost_microusd: number;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          error: string | null;
          error_code: string | null;
          finished_at: string | null;
          habit_id: string | null;
          hold_id: string | null;
          id: string;
          idempotency_key: string | null;
          input: NonNullable<Json>;
          input_tokens: number;
          job_id: string | null;
          managers_only: boolean;
          model: string | null;
          org_id: string;
          output: Json | null;
          output_tokens: number;
          project_id: string | null;
          retry_of: string | null;
          scheduled_for: string | null;
          skill_id: string | null;
          skip_count: number;
          started_at: string | null;
          status: 'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled' | 'skipped';
          trigger: 'manual' | 'habit' | 'reflex' | 'api';
          updated_at: string;
          usage_attributes: NonNullable<Json>;
        };
        SetofOptions: {
          from: '*';
          to: 'executions';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      revoke_api_key: {
        Args: { id: string };
        Returns: {
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          daily_quota: number | null;
          expires_at: string | null;
          id: string;
          kind: 'service' | 'personal' | 'publishable';
          monthly_quota: number | null;
          name: string;
          org_id: string;
          origins: string[];
          permissions: NonNullable<Json>;
          prefix: string;
          rate_limit: number;
          revoked_at: string | null;
          updated_at: string;
          user_id: string | null;
        };
        SetofOptions: {
          from: '*';
          to: 'api_keys';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      revoke_invitation: {
        Args: { id: string };
        Returns: {
          accepted_by: string | null;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          custom_role_id: string | null;
          email: string;
          expires_at: string;
          id: string;
          org_id: string;
          role: 'viewer' | 'member' | 'admin' | 'owner';
          sent_at: string;
          sent_by: string | null;
          status: 'pending' | 'accepted' | 'declined' | 'revoked';
          updated_at: string;
        };
        SetofOptions: {
          from: '*';
          to: 'invitations';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      rotate_api_key: {
        Args: { id: string; overlap?: string };
        Returns: Database['public']['CompositeTypes']['issued_api_key'];
        SetofOptions: {
          from: '*';
          to: 'issued_api_key';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      run_habit: {
        Args: { habit_id: string };
        Returns: {
          cache_read_tokens: number;
          cache_write_tokens: number;
          cost_microusd: number;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          error: string | null;
          error_code: string | null;
          finished_at: string | null;
          habit_id: string | null;
          hold_id: string | null;
          id: string;
          idempotency_key: string | null;
          input: NonNullable<Json>;
          input_tokens: number;
          job_id: string | null;
          managers_only: boolean;
          model: string | null;
          org_id: string;
          output: Json | null;
          output_tokens: number;
          project_id: string | null;
          retry_of: string | null;
          scheduled_for: string | null;
          skill_id: string | null;
          skip_count: number;
          started_at: string | null;
          status: 'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled' | 'skipped';
          trigger: 'manual' | 'habit' | 'reflex' | 'api';
          updated_at: string;
          usage_attributes: NonNullable<Json>;
        };
        SetofOptions: {
          from: '*';
          to: 'executions';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      secret: {
        Args: { key: Omit<Database['public']['Tables']['api_keys']['Row'], Database['public']['Tables']['api_keys']['ComputedFields']> };
        Returns: string | null;
      };
      set_active_organization: {
        Args: { org_id: string };
        Returns: Database['public']['CompositeTypes']['active_organization'];
        SetofOptions: {
          from: '*';
          to: 'active_organization';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      set_secret: {
        Args: { name: string; value: string };
        Returns: {
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          id: string;
          name: string;
          org_id: string;
          updated_at: string;
        };
        SetofOptions: {
          from: '*';
          to: 'secrets';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      transfer_ownership: {
        Args: { org_id: string; user_id: string };
        Returns: {
          created_at: string;
          created_by: string | null;
          custom_role_id: string | null;
          id: string;
          org_id: string;
          role: 'viewer' | 'member' | 'admin' | 'owner';
          updated_at: string;
          user_id: string;
        };
        SetofOptions: {
          from: '*';
          to: 'memberships';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      usage_alerts: {
        Args: { since?: string | null };
        Returns: {
          crossed_at: string;
          limit: number;
          meter: string;
          period_start: string | null;
          threshold: number;
          used: number;
        }[];
      };
      usage_by: {
        Args: { dimension: string; only_meter?: string | null; since?: string | null; until?: string | null };
        Returns: {
          entries: number;
          meter: string;
          overage: number;
          used: number;
          value: string | null;
        }[];
      };
      usage_forecast: {
        Args: Record<PropertyKey, never>;
        Returns: {
          at_period_rate: number;
          at_week_rate: number;
          limit: number | null;
          meter: string;
          period: string;
          reset_at: string;
          used: number;
        }[];
      };
      usage_summary: {
        Args: Record<PropertyKey, never>;
        Returns: {
          limit: number | null;
          meter: string;
          period: string;
          remaining: number | null;
          reset_at: string | null;
          used: number;
        }[];
      };
    };
    Enums: {
      [_ in never]: never;
    };
    CompositeTypes: {
      active_organization: {
        user_id: string | null;
        active_org_id: string | null;
      };
      issued_api_key: {
        id: string | null;
        org_id: string | null;
        name: string | null;
        kind: string | null;
        permissions: Json | null;
        prefix: string | null;
        rate_limit: number | null;
        monthly_quota: number | null;
        daily_quota: number | null;
        origins: string[] | null;
        expires_at: string | null;
        created_at: string | null;
        secret: string | null;
      };
      issued_invitation: {
        id: string | null;
        org_id: string | null;
        email: string | null;
        role: string | null;
        custom_role_id: string | null;
        expires_at: string | null;
        token: string | null;
      };
    };
  };
};

type DatabaseWithoutInternals = Omit<Database, '__InternalSupabase'>;

type DefaultSchema = DatabaseWithoutInternals[Extract<keyof Database, 'public'>];

export type Tables<
  DefaultSchemaTableNameOrOptions extends
    | keyof (DefaultSchema['Tables'] & DefaultSchema['Views'])
    | { schema: keyof DatabaseWithoutInternals },
  TableName extends DefaultSchemaTableNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  }
    ? keyof (DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions['schema']]['Tables'] &
        DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions['schema']]['Views'])
    : never = never,
> = DefaultSchemaTableNameOrOptions extends { schema: keyof DatabaseWithoutInternals }
  ? (DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions['schema']]['Tables'] &
      DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions['schema']]['Views'])[TableName] extends {
      Row: infer R;
    }
    ? R
    : never
  : DefaultSchemaTableNameOrOptions extends keyof (DefaultSchema['Tables'] & DefaultSchema['Views'])
    ? (DefaultSchema['Tables'] & DefaultSchema['Views'])[DefaultSchemaTableNameOrOptions] extends {
        Row: infer R;
      }
      ? R
      : never
    : never;

export type TablesInsert<
  DefaultSchemaTableNameOrOptions extends keyof DefaultSchema['Tables'] | { schema: keyof DatabaseWithoutInternals },
  TableName extends DefaultSchemaTableNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  }
    ? keyof DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions['schema']]['Tables']
    : never = never,
> = DefaultSchemaTableNameOrOptions extends { schema: keyof DatabaseWithoutInternals }
  ? DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions['schema']]['Tables'][TableName] extends {
      Insert: infer I;
    }
    ? I
    : never
  : DefaultSchemaTableNameOrOptions extends keyof DefaultSchema['Tables']
    ? DefaultSchema['Tables'][DefaultSchemaTableNameOrOptions] extends {
        Insert: infer I;
      }
      ? I
      : never
    : never;

export type TablesUpdate<
  DefaultSchemaTableNameOrOptions extends keyof DefaultSchema['Tables'] | { schema: keyof DatabaseWithoutInternals },
  TableName extends DefaultSchemaTableNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  }
    ? keyof DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions['schema']]['Tables']
    : never = never,
> = DefaultSchemaTableNameOrOptions extends { schema: keyof DatabaseWithoutInternals }
  ? DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions['schema']]['Tables'][TableName] extends {
      Update: infer U;
    }
    ? U
    : never
  : DefaultSchemaTableNameOrOptions extends keyof DefaultSchema['Tables']
    ? DefaultSchema['Tables'][DefaultSchemaTableNameOrOptions] extends {
        Update: infer U;
      }
      ? U
      : never
    : never;

export type Enums<
  DefaultSchemaEnumNameOrOptions extends keyof DefaultSchema['Enums'] | { schema: keyof DatabaseWithoutInternals },
  EnumName extends DefaultSchemaEnumNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  }
    ? keyof DatabaseWithoutInternals[DefaultSchemaEnumNameOrOptions['schema']]['Enums']
    : never = never,
> = DefaultSchemaEnumNameOrOptions extends { schema: keyof DatabaseWithoutInternals }
  ? DatabaseWithoutInternals[DefaultSchemaEnumNameOrOptions['schema']]['Enums'][EnumName]
  : DefaultSchemaEnumNameOrOptions extends keyof DefaultSchema['Enums']
    ? DefaultSchema['Enums'][DefaultSchemaEnumNameOrOptions]
    : never;

export type CompositeTypes<
  PublicCompositeTypeNameOrOptions extends keyof DefaultSchema['CompositeTypes'] | { schema: keyof DatabaseWithoutInternals },
  CompositeTypeName extends PublicCompositeTypeNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  }
    ? keyof DatabaseWithoutInternals[PublicCompositeTypeNameOrOptions['schema']]['CompositeTypes']
    : never = never,
> = PublicCompositeTypeNameOrOptions extends { schema: keyof DatabaseWithoutInternals }
  ? DatabaseWithoutInternals[PublicCompositeTypeNameOrOptions['schema']]['CompositeTypes'][CompositeTypeName]
  : PublicCompositeTypeNameOrOptions extends keyof DefaultSchema['CompositeTypes']
    ? DefaultSchema['CompositeTypes'][PublicCompositeTypeNameOrOptions]
    : never;

export const Constants = {
  public: {
    Enums: {},
  },
} as const;
