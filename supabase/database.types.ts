export type Json = string | number | boolean | null | { [key: string]: Json | undefined } | Json[];

export type Database = {
  public: {
    Tables: {
      analytics_queries: {
        Row: {
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          dashboard_id: string | null;
          id: string;
          kind: 'series' | 'funnel' | 'retention';
          name: string;
          org_id: string;
          position: number;
          query: NonNullable<Json>;
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          dashboard_id?: string | null;
          id?: string;
          kind: 'series' | 'funnel' | 'retention';
          name: string;
          org_id?: string;
          position?: number;
          query: NonNullable<Json>;
          updated_at?: string;
        };
        Update: {
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          dashboard_id?: string | null;
          id?: string;
          kind?: 'series' | 'funnel' | 'retention';
          name?: string;
          org_id?: string;
          position?: number;
          query?: NonNullable<Json>;
          updated_at?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'analytics_queries_org_id_dashboard_id_fkey';
            columns: ['org_id', 'dashboard_id'];
            isOneToOne: false;
            referencedRelation: 'dashboards';
            referencedColumns: ['org_id', 'id'];
          },
          {
            foreignKeyName: 'analytics_queries_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
        ];
      };
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
      api_usage: {
        Row: {
          caller: string;
          cost_microusd: number | null;
          created_at: string;
          created_by: string | null;
          duration_ms: number;
          id: string;
          key_id: string | null;
          member_id: string | null;
          method: string;
          org_id: string;
          request_id: string | null;
          response_bytes: number;
          route: string;
          sampled: number;
          status: number;
        };
        ComputedFields: never;
        Insert: {
          caller?: string;
          cost_microusd?: number | null;
          created_at?: string;
          created_by?: string | null;
          duration_ms: number;
          id: string;
          key_id?: string | null;
          member_id?: string | null;
          method: string;
          org_id?: string;
          request_id?: string | null;
          response_bytes?: number;
          route: string;
          sampled?: number;
          status: number;
        };
        Update: {
          caller?: string;
          cost_microusd?: number | null;
          created_at?: string;
          created_by?: string | null;
          duration_ms?: number;
          id?: string;
          key_id?: string | null;
          member_id?: string | null;
          method?: string;
          org_id?: string;
          request_id?: string | null;
          response_bytes?: number;
          route?: string;
          sampled?: number;
          status?: number;
        };
        Relationships: [
          {
            foreignKeyName: 'api_usage_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
        ];
      };
      approvals: {
        Row: {
          change: NonNullable<Json>;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          decided_at: string | null;
          decided_by: string | null;
          decision_reason: string | null;
          expires_at: string;
          id: string;
          kind: string;
          org_id: string;
          reason: string | null;
          requested_by: string | null;
          status: 'pending' | 'approved' | 'rejected' | 'expired' | 'withdrawn';
          subject_id: string;
          subject_part: string;
          title: string;
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          change: NonNullable<Json>;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          decided_at?: string | null;
          decided_by?: string | null;
          decision_reason?: string | null;
          expires_at: string;
          id?: string;
          kind: string;
          org_id?: string;
          reason?: string | null;
          requested_by?: string | null;
          status?: 'pending' | 'approved' | 'rejected' | 'expired' | 'withdrawn';
          subject_id: string;
          subject_part?: string;
          title: string;
          updated_at?: string;
        };
        Update: {
          change?: NonNullable<Json>;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          decided_at?: string | null;
          decided_by?: string | null;
          decision_reason?: string | null;
          expires_at?: string;
          id?: string;
          kind?: string;
          org_id?: string;
          reason?: string | null;
          requested_by?: string | null;
          status?: 'pending' | 'approved' | 'rejected' | 'expired' | 'withdrawn';
          subject_id?: string;
          subject_part?: string;
          title?: string;
          updated_at?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'approvals_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
        ];
      };
      audit_log: {
        Row: {
          action: string;
          actor_kind:
            | 'user'
            | 'personal_key'
            | 'service_key'
            | 'publishable_key'
            | 'service'
            | 'anonymous'
            | 'login'
            | 'system'
            | 'operator';
          address: unknown;
          after: Json | null;
          before: Json | null;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          database_role: string;
          id: string;
          org_id: string;
          origin_digest: string | null;
          origin_salt: string | null;
          personal: Json | null;
          personal_digest: string | null;
          personal_salt: string | null;
          request_id: string | null;
          seq: number;
          subject_user_id: string | null;
          target_id: string | null;
          target_type: string;
          user_agent: string | null;
          xid: unknown;
        };
        ComputedFields: never;
        Insert: {
          action: string;
          actor_kind:
            | 'user'
            | 'personal_key'
            | 'service_key'
            | 'publishable_key'
            | 'service'
            | 'anonymous'
            | 'login'
            | 'system'
            | 'operator';
          address?: unknown;
          after?: Json | null;
          before?: Json | null;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          database_role?: string;
          id?: string;
          org_id: string;
          origin_digest?: string | null;
          origin_salt?: string | null;
          personal?: Json | null;
          personal_digest?: string | null;
          personal_salt?: string | null;
          request_id?: string | null;
          seq?: number;
          subject_user_id?: string | null;
          target_id?: string | null;
          target_type: string;
          user_agent?: string | null;
          xid?: unknown;
        };
        Update: {
          action?: string;
          actor_kind?:
            | 'user'
            | 'personal_key'
            | 'service_key'
            | 'publishable_key'
            | 'service'
            | 'anonymous'
            | 'login'
            | 'system'
            | 'operator';
          address?: unknown;
          after?: Json | null;
          before?: Json | null;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          database_role?: string;
          id?: string;
          org_id?: string;
          origin_digest?: string | null;
          origin_salt?: string | null;
          personal?: Json | null;
          personal_digest?: string | null;
          personal_salt?: string | null;
          request_id?: string | null;
          seq?: number;
          subject_user_id?: string | null;
          target_id?: string | null;
          target_type?: string;
          user_agent?: string | null;
          xid?: unknown;
        };
        Relationships: [];
      };
      billing_details: {
        Row: {
          address_line1: string;
          address_line2: string;
          city: string;
          country: string;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          id: string;
          kind: 'business' | 'consumer';
          language: 'en' | 'nl';
          name: string;
          org_id: string;
          postal_code: string;
          region: string;
          updated_at: string;
          vat_number: string | null;
          vat_number_since: string | null;
          vat_number_status: 'pending' | 'unavailable' | 'valid' | 'invalid' | null;
        };
        ComputedFields: never;
        Insert: {
          address_line1?: string;
          address_line2?: string;
          city?: string;
          country: string;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          id?: string;
          kind: 'business' | 'consumer';
          language?: 'en' | 'nl';
          name: string;
          org_id?: string;
          postal_code?: string;
          region?: string;
          updated_at?: string;
          vat_number?: string | null;
          vat_number_since?: string | null;
          vat_number_status?: 'pending' | 'unavailable' | 'valid' | 'invalid' | null;
        };
        Update: {
          address_line1?: string;
          address_line2?: string;
          city?: string;
          country?: string;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          id?: string;
          kind?: 'business' | 'consumer';
          language?: 'en' | 'nl';
          name?: string;
          org_id?: string;
          postal_code?: string;
          region?: string;
          updated_at?: string;
          vat_number?: string | null;
          vat_number_since?: string | null;
          vat_number_status?: 'pending' | 'unavailable' | 'valid' | 'invalid' | null;
        };
        Relationships: [
          {
            foreignKeyName: 'billing_details_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: true;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
        ];
      };
      blog_comments: {
        Row: {
          body: string;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          id: string;
          mentions: string[];
          org_id: string;
          parent_id: string | null;
          post_id: string;
          resolved: boolean;
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          body: string;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          id?: string;
          mentions?: string[];
          org_id?: string;
          parent_id?: string | null;
          post_id: string;
          resolved?: boolean;
          updated_at?: string;
        };
        Update: {
          body?: string;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          id?: string;
          mentions?: string[];
          org_id?: string;
          parent_id?: string | null;
          post_id?: string;
          resolved?: boolean;
          updated_at?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'blog_comments_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
          {
            foreignKeyName: 'blog_comments_org_id_post_id_fkey';
            columns: ['org_id', 'post_id'];
            isOneToOne: false;
            referencedRelation: 'blog_posts';
            referencedColumns: ['org_id', 'id'];
          },
          {
            foreignKeyName: 'blog_comments_org_id_post_id_parent_id_fkey';
            columns: ['org_id', 'post_id', 'parent_id'];
            isOneToOne: false;
            referencedRelation: 'blog_comments';
            referencedColumns: ['org_id', 'post_id', 'id'];
          },
        ];
      };
      blog_drafts: {
        Row: {
          applied_revision: number | null;
          base_revision: number;
          call_ids: string[];
          citations: NonNullable<Json>;
          content_markdown: string | null;
          cost_microusd: number;
          cost_usd: number;
          costs_pending: boolean;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          error: string | null;
          error_code: string | null;
          finished_at: string | null;
          id: string;
          instructions: string;
          kind: 'outline' | 'draft';
          model: string;
          org_id: string;
          post_id: string;
          status: 'queued' | 'running' | 'succeeded' | 'failed';
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          applied_revision?: number | null;
          base_revision: number;
          call_ids?: string[];
          citations?: NonNullable<Json>;
          content_markdown?: string | null;
          cost_microusd?: number;
          cost_usd?: never;
          costs_pending?: boolean;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          error?: string | null;
          error_code?: string | null;
          finished_at?: string | null;
          id?: string;
          instructions?: string;
          kind: 'outline' | 'draft';
          model: string;
          org_id?: string;
          post_id: string;
          status?: 'queued' | 'running' | 'succeeded' | 'failed';
          updated_at?: string;
        };
        Update: {
          applied_revision?: number | null;
          base_revision?: number;
          call_ids?: string[];
          citations?: NonNullable<Json>;
          content_markdown?: string | null;
          cost_microusd?: number;
          cost_usd?: never;
          costs_pending?: boolean;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          error?: string | null;
          error_code?: string | null;
          finished_at?: string | null;
          id?: string;
          instructions?: string;
          kind?: 'outline' | 'draft';
          model?: string;
          org_id?: string;
          post_id?: string;
          status?: 'queued' | 'running' | 'succeeded' | 'failed';
          updated_at?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'blog_drafts_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
          {
            foreignKeyName: 'blog_drafts_org_id_post_id_fkey';
            columns: ['org_id', 'post_id'];
            isOneToOne: false;
            referencedRelation: 'blog_posts';
            referencedColumns: ['org_id', 'id'];
          },
        ];
      };
      blog_post_revisions: {
        Row: {
          content_hash: string;
          content_html: string | null;
          content_markdown: string;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          fields: NonNullable<Json>;
          id: string;
          message: string | null;
          org_id: string;
          post_id: string;
          revision: number;
          updated_at: string;
          word_count: number;
        };
        ComputedFields: never;
        Insert: {
          content_hash?: never;
          content_html?: string | null;
          content_markdown: string;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          fields: NonNullable<Json>;
          id?: string;
          message?: string | null;
          org_id?: string;
          post_id: string;
          revision: number;
          updated_at?: string;
          word_count?: number;
        };
        Update: {
          content_hash?: never;
          content_html?: string | null;
          content_markdown?: string;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          fields?: NonNullable<Json>;
          id?: string;
          message?: string | null;
          org_id?: string;
          post_id?: string;
          revision?: number;
          updated_at?: string;
          word_count?: number;
        };
        Relationships: [
          {
            foreignKeyName: 'blog_post_revisions_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
          {
            foreignKeyName: 'blog_post_revisions_org_id_post_id_fkey';
            columns: ['org_id', 'post_id'];
            isOneToOne: false;
            referencedRelation: 'blog_posts';
            referencedColumns: ['org_id', 'id'];
          },
        ];
      };
      blog_post_slugs: {
        Row: {
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          id: string;
          is_current: boolean;
          locale: string;
          org_id: string;
          post_id: string;
          slug: string;
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          id?: string;
          is_current?: boolean;
          locale: string;
          org_id?: string;
          post_id: string;
          slug: string;
          updated_at?: string;
        };
        Update: {
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          id?: string;
          is_current?: boolean;
          locale?: string;
          org_id?: string;
          post_id?: string;
          slug?: string;
          updated_at?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'blog_post_slugs_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
          {
            foreignKeyName: 'blog_post_slugs_org_id_post_id_fkey';
            columns: ['org_id', 'post_id'];
            isOneToOne: false;
            referencedRelation: 'blog_posts';
            referencedColumns: ['org_id', 'id'];
          },
        ];
      };
      blog_posts: {
        Row: {
          approval_status: 'none' | 'submitted' | 'approved' | 'rejected';
          author_name: string | null;
          canonical_url: string | null;
          content_group_id: string;
          content_hash: string;
          content_html: string | null;
          content_html_hash: string | null;
          content_markdown: string;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          hero_image_id: string | null;
          id: string;
          locale: string;
          meta_description: string | null;
          meta_title: string | null;
          noindex: boolean;
          og_description: string | null;
          og_title: string | null;
          org_id: string;
          published_at: string | null;
          published_revision: number | null;
          reading_minutes: number;
          revision: number;
          scheduled_at: string | null;
          slug: string;
          status: 'draft' | 'ready' | 'scheduled' | 'published';
          summary: string;
          tags: string[];
          title: string;
          topic_id: string | null;
          updated_at: string;
          word_count: number;
        };
        ComputedFields: never;
        Insert: {
          approval_status?: 'none' | 'submitted' | 'approved' | 'rejected';
          author_name?: string | null;
          canonical_url?: string | null;
          content_group_id: string;
          content_hash?: never;
          content_html?: string | null;
          content_html_hash?: string | null;
          content_markdown?: string;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          hero_image_id?: string | null;
          id?: string;
          locale?: string;
          meta_description?: string | null;
          meta_title?: string | null;
          noindex?: boolean;
          og_description?: string | null;
          og_title?: string | null;
          org_id?: string;
          published_at?: string | null;
          published_revision?: number | null;
          reading_minutes?: never;
          revision?: number;
          scheduled_at?: string | null;
          slug: string;
          status?: 'draft' | 'ready' | 'scheduled' | 'published';
          summary?: string;
          tags?: string[];
          title: string;
          topic_id?: string | null;
          updated_at?: string;
          word_count?: number;
        };
        Update: {
          approval_status?: 'none' | 'submitted' | 'approved' | 'rejected';
          author_name?: string | null;
          canonical_url?: string | null;
          content_group_id?: string;
          content_hash?: never;
          content_html?: string | null;
          content_html_hash?: string | null;
          content_markdown?: string;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          hero_image_id?: string | null;
          id?: string;
          locale?: string;
          meta_description?: string | null;
          meta_title?: string | null;
          noindex?: boolean;
          og_description?: string | null;
          og_title?: string | null;
          org_id?: string;
          published_at?: string | null;
          published_revision?: number | null;
          reading_minutes?: never;
          revision?: number;
          scheduled_at?: string | null;
          slug?: string;
          status?: 'draft' | 'ready' | 'scheduled' | 'published';
          summary?: string;
          tags?: string[];
          title?: string;
          topic_id?: string | null;
          updated_at?: string;
          word_count?: number;
        };
        Relationships: [
          {
            foreignKeyName: 'blog_posts_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
          {
            foreignKeyName: 'blog_posts_org_id_topic_id_fkey';
            columns: ['org_id', 'topic_id'];
            isOneToOne: false;
            referencedRelation: 'topics';
            referencedColumns: ['org_id', 'id'];
          },
        ];
      };
      blog_settings: {
        Row: {
          approval_days: number;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          id: string;
          org_id: string;
          require_approval: boolean;
          site_description: string;
          site_title: string;
          site_url: string | null;
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          approval_days?: number;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          id?: string;
          org_id?: string;
          require_approval?: boolean;
          site_description?: string;
          site_title?: string;
          site_url?: string | null;
          updated_at?: string;
        };
        Update: {
          approval_days?: number;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          id?: string;
          org_id?: string;
          require_approval?: boolean;
          site_description?: string;
          site_title?: string;
          site_url?: string | null;
          updated_at?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'blog_settings_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: true;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
        ];
      };
      connection_applications: {
        Row: {
          client_id: string;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          id: string;
          org_id: string;
          provider: string;
          secret_set_at: string;
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          client_id: string;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          id?: string;
          org_id?: string;
          provider: string;
          secret_set_at?: string;
          updated_at?: string;
        };
        Update: {
          client_id?: string;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          id?: string;
          org_id?: string;
          provider?: string;
          secret_set_at?: string;
          updated_at?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'connection_applications_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
        ];
      };
      connections: {
        Row: {
          account_id: string;
          account_name: string | null;
          authorized_at: string;
          authorized_by: string | null;
          authorizer_left_at: string | null;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          error_code: string | null;
          expires_at: string | null;
          id: string;
          org_id: string;
          paused_at: string | null;
          paused_reason: 'expired' | 'revoked' | 'refresh_interrupted' | 'application_removed' | null;
          provider: string;
          refresh_expires_at: string | null;
          refreshed_at: string | null;
          scopes: string[];
          status: 'active' | 'paused';
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          account_id: string;
          account_name?: string | null;
          authorized_at?: string;
          authorized_by?: string | null;
          authorizer_left_at?: string | null;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          error_code?: string | null;
          expires_at?: string | null;
          id?: string;
          org_id?: string;
          paused_at?: string | null;
          paused_reason?: 'expired' | 'revoked' | 'refresh_interrupted' | 'application_removed' | null;
          provider: string;
          refresh_expires_at?: string | null;
          refreshed_at?: string | null;
          scopes?: string[];
          status?: 'active' | 'paused';
          updated_at?: string;
        };
        Update: {
          account_id?: string;
          account_name?: string | null;
          authorized_at?: string;
          authorized_by?: string | null;
          authorizer_left_at?: string | null;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          error_code?: string | null;
          expires_at?: string | null;
          id?: string;
          org_id?: string;
          paused_at?: string | null;
          paused_reason?: 'expired' | 'revoked' | 'refresh_interrupted' | 'application_removed' | null;
          provider?: string;
          refresh_expires_at?: string | null;
          refreshed_at?: string | null;
          scopes?: string[];
          status?: 'active' | 'paused';
          updated_at?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'connections_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
        ];
      };
      content_costs: {
        Row: {
          blog_post_id: string | null;
          cost_microusd: number;
          cost_usd: number;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          detail: string | null;
          id: string;
          org_id: string;
          social_post_id: string | null;
          source: string;
          source_id: string;
          topic_id: string | null;
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          blog_post_id?: string | null;
          cost_microusd: number;
          cost_usd?: never;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          detail?: string | null;
          id?: string;
          org_id?: string;
          social_post_id?: string | null;
          source: string;
          source_id: string;
          topic_id?: string | null;
          updated_at?: string;
        };
        Update: {
          blog_post_id?: string | null;
          cost_microusd?: number;
          cost_usd?: never;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          detail?: string | null;
          id?: string;
          org_id?: string;
          social_post_id?: string | null;
          source?: string;
          source_id?: string;
          topic_id?: string | null;
          updated_at?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'content_costs_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
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
      dashboards: {
        Row: {
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          description: string | null;
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
          description?: string | null;
          id?: string;
          name: string;
          org_id?: string;
          updated_at?: string;
        };
        Update: {
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          description?: string | null;
          id?: string;
          name?: string;
          org_id?: string;
          updated_at?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'dashboards_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
        ];
      };
      discoveries: {
        Row: {
          category: 'general' | 'news';
          collector: 'feed' | 'searxng' | 'tavily' | 'gemini';
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          cron: string;
          enabled: boolean;
          etag: string | null;
          failures: number;
          id: string;
          language: string;
          last_error: string | null;
          last_error_code: string | null;
          last_modified: string | null;
          last_run_at: string | null;
          max_items: number;
          name: string;
          next_run_at: string | null;
          org_id: string;
          query: string | null;
          read_pages: boolean;
          schedule: 'daily' | 'weekly' | 'custom';
          timezone: string;
          topic_id: string | null;
          updated_at: string;
          url: string | null;
        };
        ComputedFields: never;
        Insert: {
          category?: 'general' | 'news';
          collector: 'feed' | 'searxng' | 'tavily' | 'gemini';
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          cron?: string;
          enabled?: boolean;
          etag?: string | null;
          failures?: number;
          id?: string;
          language?: string;
          last_error?: string | null;
          last_error_code?: string | null;
          last_modified?: string | null;
          last_run_at?: string | null;
          max_items?: number;
          name: string;
          next_run_at?: string | null;
          org_id?: string;
          query?: string | null;
          read_pages?: boolean;
          schedule?: 'daily' | 'weekly' | 'custom';
          timezone?: string;
          topic_id?: string | null;
          updated_at?: string;
          url?: string | null;
        };
        Update: {
          category?: 'general' | 'news';
          collector?: 'feed' | 'searxng' | 'tavily' | 'gemini';
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          cron?: string;
          enabled?: boolean;
          etag?: string | null;
          failures?: number;
          id?: string;
          language?: string;
          last_error?: string | null;
          last_error_code?: string | null;
          last_modified?: string | null;
          last_run_at?: string | null;
          max_items?: number;
          name?: string;
          next_run_at?: string | null;
          org_id?: string;
          query?: string | null;
          read_pages?: boolean;
          schedule?: 'daily' | 'weekly' | 'custom';
          timezone?: string;
          topic_id?: string | null;
          updated_at?: string;
          url?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: 'discoveries_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
          {
            foreignKeyName: 'discoveries_org_id_topic_id_fkey';
            columns: ['org_id', 'topic_id'];
            isOneToOne: false;
            referencedRelation: 'topics';
            referencedColumns: ['org_id', 'id'];
          },
        ];
      };
      discovery_runs: {
        Row: {
          added_sources: number;
          added_topics: number;
          collector: string | null;
          cost_microusd: number;
          cost_usd: number;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          discovery_id: string;
          duplicates: number;
          error: string | null;
          error_code: string | null;
          finished_at: string | null;
          found: number;
          id: string;
          job_id: string | null;
          org_id: string;
          scheduled_for: string | null;
          started_at: string | null;
          status: 'queued' | 'running' | 'succeeded' | 'failed';
          trigger: 'schedule' | 'manual';
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          added_sources?: number;
          added_topics?: number;
          collector?: string | null;
          cost_microusd?: number;
          cost_usd?: never;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          discovery_id: string;
          duplicates?: number;
          error?: string | null;
          error_code?: string | null;
          finished_at?: string | null;
          found?: number;
          id?: string;
          job_id?: string | null;
          org_id?: string;
          scheduled_for?: string | null;
          started_at?: string | null;
          status?: 'queued' | 'running' | 'succeeded' | 'failed';
          trigger: 'schedule' | 'manual';
          updated_at?: string;
        };
        Update: {
          added_sources?: number;
          added_topics?: number;
          collector?: string | null;
          cost_microusd?: number;
          cost_usd?: never;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          discovery_id?: string;
          duplicates?: number;
          error?: string | null;
          error_code?: string | null;
          finished_at?: string | null;
          found?: number;
          id?: string;
          job_id?: string | null;
          org_id?: string;
          scheduled_for?: string | null;
          started_at?: string | null;
          status?: 'queued' | 'running' | 'succeeded' | 'failed';
          trigger?: 'schedule' | 'manual';
          updated_at?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'discovery_runs_org_id_discovery_id_fkey';
            columns: ['org_id', 'discovery_id'];
            isOneToOne: false;
            referencedRelation: 'discoveries';
            referencedColumns: ['org_id', 'id'];
          },
          {
            foreignKeyName: 'discovery_runs_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
        ];
      };
      documents: {
        Row: {
          content: string;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          file_id: string | null;
          file_version: number | null;
          id: string;
          metadata: NonNullable<Json>;
          org_id: string;
          path: string;
          project_id: string | null;
          size_bytes: number;
          tags: string[];
          title: string | null;
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          content?: string;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          file_id?: string | null;
          file_version?: number | null;
          id?: string;
          metadata?: NonNullable<Json>;
          org_id?: string;
          path: string;
          project_id?: string | null;
          size_bytes?: never;
          tags?: string[];
          title?: string | null;
          updated_at?: string;
        };
        Update: {
          content?: string;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          file_id?: string | null;
          file_version?: number | null;
          id?: string;
          metadata?: NonNullable<Json>;
          org_id?: string;
          path?: string;
          project_id?: string | null;
          size_bytes?: never;
          tags?: string[];
          title?: string | null;
          updated_at?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'documents_org_id_file_id_fkey';
            columns: ['org_id', 'file_id'];
            isOneToOne: false;
            referencedRelation: 'project_files';
            referencedColumns: ['org_id', 'id'];
          },
          {
            foreignKeyName: 'documents_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
          {
            foreignKeyName: 'documents_org_id_project_id_fkey';
            columns: ['org_id', 'project_id'];
            isOneToOne: false;
            referencedRelation: 'projects';
            referencedColumns: ['org_id', 'id'];
          },
        ];
      };
      event_intake: {
        Row: {
          accepted: number;
          created_at: string;
          created_by: string | null;
          dropped: number;
          duplicates: number;
          hour: string;
          id: string;
          org_id: string;
          quarantined: number;
        };
        ComputedFields: never;
        Insert: {
          accepted?: number;
          created_at?: string;
          created_by?: string | null;
          dropped?: number;
          duplicates?: number;
          hour: string;
          id?: string;
          org_id?: string;
          quarantined?: number;
        };
        Update: {
          accepted?: number;
          created_at?: string;
          created_by?: string | null;
          dropped?: number;
          duplicates?: number;
          hour?: string;
          id?: string;
          org_id?: string;
          quarantined?: number;
        };
        Relationships: [
          {
            foreignKeyName: 'event_intake_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
        ];
      };
      event_properties: {
        Row: {
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          event_name: string;
          id: string;
          kind: 'dimension' | 'measure';
          org_id: string;
          property: string;
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          event_name: string;
          id?: string;
          kind: 'dimension' | 'measure';
          org_id?: string;
          property: string;
          updated_at?: string;
        };
        Update: {
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          event_name?: string;
          id?: string;
          kind?: 'dimension' | 'measure';
          org_id?: string;
          property?: string;
          updated_at?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'event_properties_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
        ];
      };
      events: {
        Row: {
          anonymous_id: string | null;
          context: NonNullable<Json>;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          group_id: string | null;
          id: string;
          message_id: string;
          name: string;
          org_id: string;
          original_timestamp: string | null;
          person_id: string;
          properties: NonNullable<Json>;
          sent_at: string | null;
          timestamp: string;
          type: 'track' | 'page' | 'screen' | 'identify' | 'group' | 'alias';
          user_id: string | null;
        };
        ComputedFields: never;
        Insert: {
          anonymous_id?: string | null;
          context?: NonNullable<Json>;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          group_id?: string | null;
          id?: string;
          message_id: string;
          name: string;
          org_id?: string;
          original_timestamp?: string | null;
          person_id: string;
          properties?: NonNullable<Json>;
          sent_at?: string | null;
          timestamp: string;
          type: 'track' | 'page' | 'screen' | 'identify' | 'group' | 'alias';
          user_id?: string | null;
        };
        Update: {
          anonymous_id?: string | null;
          context?: NonNullable<Json>;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          group_id?: string | null;
          id?: string;
          message_id?: string;
          name?: string;
          org_id?: string;
          original_timestamp?: string | null;
          person_id?: string;
          properties?: NonNullable<Json>;
          sent_at?: string | null;
          timestamp?: string;
          type?: 'track' | 'page' | 'screen' | 'identify' | 'group' | 'alias';
          user_id?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: 'events_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
        ];
      };
      execution_text_chunks: {
        Row: {
          attempt: number;
          created_at: string;
          created_by: string | null;
          execution_id: string;
          id: string;
          org_id: string;
          seq: number;
          text: string;
        };
        ComputedFields: never;
        Insert: {
          attempt: number;
          created_at?: string;
          created_by?: string | null;
          execution_id: string;
          id?: string;
          org_id: string;
          seq: number;
          text: string;
        };
        Update: {
          attempt?: number;
          created_at?: string;
          created_by?: string | null;
          execution_id?: string;
          id?: string;
          org_id?: string;
          seq?: number;
          text?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'execution_text_chunks_org_id_execution_id_fkey';
            columns: ['org_id', 'execution_id'];
            isOneToOne: false;
            referencedRelation: 'executions';
            referencedColumns: ['org_id', 'id'];
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
          depth: number;
          error: string | null;
          error_code: string | null;
          finished_at: string | null;
          habit_id: string | null;
          hold_id: string | null;
          id: string;
          idempotency_key: string | null;
          input: NonNullable<Json>;
          input_files: NonNullable<Json>;
          input_tokens: number;
          job_id: string | null;
          managers_only: boolean;
          model: string | null;
          org_id: string;
          output: Json | null;
          output_tokens: number;
          project_id: string | null;
          prompt_id: string | null;
          prompt_version: number | null;
          reflex_delivery_id: string | null;
          reflex_id: string | null;
          retry_of: string | null;
          scheduled_for: string | null;
          skill_id: string | null;
          skill_version: number | null;
          skip_count: number;
          started_at: string | null;
          status: 'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled' | 'skipped';
          trigger: 'manual' | 'api' | 'habit' | 'reflex' | 'retry' | 'test';
          updated_at: string;
          usage_attributes: NonNullable<Json>;
          retried_execution: {
            cache_read_tokens: number;
            cache_write_tokens: number;
            cost_microusd: number;
            created_at: string;
            created_by: string | null;
            created_by_key: string | null;
            depth: number;
            error: string | null;
            error_code: string | null;
            finished_at: string | null;
            habit_id: string | null;
            hold_id: string | null;
            id: string;
            idempotency_key: string | null;
            input: NonNullable<Json>;
            input_files: NonNullable<Json>;
            input_tokens: number;
            job_id: string | null;
            managers_only: boolean;
            model: string | null;
            org_id: string;
            output: Json | null;
            output_tokens: number;
            project_id: string | null;
            prompt_id: string | null;
            prompt_version: number | null;
            reflex_delivery_id: string | null;
            reflex_id: string | null;
            retry_of: string | null;
            scheduled_for: string | null;
            skill_id: string | null;
            skill_version: number | null;
            skip_count: number;
            started_at: string | null;
            status: 'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled' | 'skipped';
            trigger: 'manual' | 'api' | 'habit' | 'reflex' | 'retry' | 'test';
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
            depth: number;
            error: string | null;
            error_code: string | null;
            finished_at: string | null;
            habit_id: string | null;
            hold_id: string | null;
            id: string;
            idempotency_key: string | null;
            input: NonNullable<Json>;
            input_files: NonNullable<Json>;
            input_tokens: number;
            job_id: string | null;
            managers_only: boolean;
            model: string | null;
            org_id: string;
            output: Json | null;
            output_tokens: number;
            project_id: string | null;
            prompt_id: string | null;
            prompt_version: number | null;
            reflex_delivery_id: string | null;
            reflex_id: string | null;
            retry_of: string | null;
            scheduled_for: string | null;
            skill_id: string | null;
            skill_version: number | null;
            skip_count: number;
            started_at: string | null;
            status: 'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled' | 'skipped';
            trigger: 'manual' | 'api' | 'habit' | 'reflex' | 'retry' | 'test';
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
          depth?: number;
          error?: string | null;
          error_code?: string | null;
          finished_at?: string | null;
          habit_id?: string | null;
          hold_id?: string | null;
          id?: string;
          idempotency_key?: string | null;
          input?: NonNullable<Json>;
          input_files?: NonNullable<Json>;
          input_tokens?: number;
          job_id?: string | null;
          managers_only?: boolean;
          model?: string | null;
          org_id?: string;
          output?: Json | null;
          output_tokens?: number;
          project_id?: string | null;
          prompt_id?: string | null;
          prompt_version?: number | null;
          reflex_delivery_id?: string | null;
          reflex_id?: string | null;
          retry_of?: string | null;
          scheduled_for?: string | null;
          skill_id?: string | null;
          skill_version?: number | null;
          skip_count?: number;
          started_at?: string | null;
          status?: 'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled' | 'skipped';
          trigger?: 'manual' | 'api' | 'habit' | 'reflex' | 'retry' | 'test';
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
          depth?: number;
          error?: string | null;
          error_code?: string | null;
          finished_at?: string | null;
          habit_id?: string | null;
          hold_id?: string | null;
          id?: string;
          idempotency_key?: string | null;
          input?: NonNullable<Json>;
          input_files?: NonNullable<Json>;
          input_tokens?: number;
          job_id?: string | null;
          managers_only?: boolean;
          model?: string | null;
          org_id?: string;
          output?: Json | null;
          output_tokens?: number;
          project_id?: string | null;
          prompt_id?: string | null;
          prompt_version?: number | null;
          reflex_delivery_id?: string | null;
          reflex_id?: string | null;
          retry_of?: string | null;
          scheduled_for?: string | null;
          skill_id?: string | null;
          skill_version?: number | null;
          skip_count?: number;
          started_at?: string | null;
          status?: 'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled' | 'skipped';
          trigger?: 'manual' | 'api' | 'habit' | 'reflex' | 'retry' | 'test';
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
          {
            foreignKeyName: 'executions_reflex_id_fkey';
            columns: ['org_id', 'reflex_id'];
            isOneToOne: false;
            referencedRelation: 'reflexes';
            referencedColumns: ['org_id', 'id'];
          },
        ];
      };
      feature_flags: {
        Row: {
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          description: string;
          enabled_in: string[];
          id: string;
          impression_data: boolean;
          name: string;
          org_id: string;
          required_feature: string | null;
          required_plans: string[];
          required_roles: string[];
          type: 'release' | 'experiment' | 'operational' | 'kill-switch' | 'permission';
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          description?: string;
          enabled_in?: string[];
          id?: string;
          impression_data?: boolean;
          name: string;
          org_id?: string;
          required_feature?: string | null;
          required_plans?: string[];
          required_roles?: string[];
          type?: 'release' | 'experiment' | 'operational' | 'kill-switch' | 'permission';
          updated_at?: string;
        };
        Update: {
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          description?: string;
          enabled_in?: string[];
          id?: string;
          impression_data?: boolean;
          name?: string;
          org_id?: string;
          required_feature?: string | null;
          required_plans?: string[];
          required_roles?: string[];
          type?: 'release' | 'experiment' | 'operational' | 'kill-switch' | 'permission';
          updated_at?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'feature_flags_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
        ];
      };
      features: {
        Row: {
          code: string;
          created_at: string;
          description: string;
          name: string;
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          code: string;
          created_at?: string;
          description?: string;
          name: string;
          updated_at?: string;
        };
        Update: {
          code?: string;
          created_at?: string;
          description?: string;
          name?: string;
          updated_at?: string;
        };
        Relationships: [];
      };
      flag_applications: {
        Row: {
          app_name: string;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          environment: string;
          id: string;
          instance_id: string;
          last_seen_at: string;
          org_id: string;
          sdk_version: string | null;
          strategies: string[];
          unknown_strategies: string[];
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          app_name: string;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          environment: string;
          id?: string;
          instance_id: string;
          last_seen_at?: string;
          org_id?: string;
          sdk_version?: string | null;
          strategies?: string[];
          unknown_strategies?: string[];
          updated_at?: string;
        };
        Update: {
          app_name?: string;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          environment?: string;
          id?: string;
          instance_id?: string;
          last_seen_at?: string;
          org_id?: string;
          sdk_version?: string | null;
          strategies?: string[];
          unknown_strategies?: string[];
          updated_at?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'flag_applications_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
        ];
      };
      flag_changes: {
        Row: {
          apply_at: string;
          approval_id: string | null;
          basis: string | null;
          change: NonNullable<Json>;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          environment: string;
          error: string | null;
          finished_at: string | null;
          flag_id: string;
          id: string;
          org_id: string;
          reason: string | null;
          status: 'scheduled' | 'applied' | 'failed' | 'cancelled';
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          apply_at: string;
          approval_id?: string | null;
          basis?: string | null;
          change: NonNullable<Json>;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          environment: string;
          error?: string | null;
          finished_at?: string | null;
          flag_id: string;
          id?: string;
          org_id?: string;
          reason?: string | null;
          status?: 'scheduled' | 'applied' | 'failed' | 'cancelled';
          updated_at?: string;
        };
        Update: {
          apply_at?: string;
          approval_id?: string | null;
          basis?: string | null;
          change?: NonNullable<Json>;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          environment?: string;
          error?: string | null;
          finished_at?: string | null;
          flag_id?: string;
          id?: string;
          org_id?: string;
          reason?: string | null;
          status?: 'scheduled' | 'applied' | 'failed' | 'cancelled';
          updated_at?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'flag_changes_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
          {
            foreignKeyName: 'flag_changes_org_id_flag_id_fkey';
            columns: ['org_id', 'flag_id'];
            isOneToOne: false;
            referencedRelation: 'feature_flags';
            referencedColumns: ['org_id', 'id'];
          },
        ];
      };
      flag_constraints: {
        Row: {
          case_insensitive: boolean;
          context_name: string;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          id: string;
          inverted: boolean;
          operator: string;
          org_id: string;
          position: number;
          segment_id: string | null;
          strategy_id: string | null;
          updated_at: string;
          value: string | null;
          values: string[];
        };
        ComputedFields: never;
        Insert: {
          case_insensitive?: boolean;
          context_name: string;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          id?: string;
          inverted?: boolean;
          operator: string;
          org_id?: string;
          position?: number;
          segment_id?: string | null;
          strategy_id?: string | null;
          updated_at?: string;
          value?: string | null;
          values?: string[];
        };
        Update: {
          case_insensitive?: boolean;
          context_name?: string;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          id?: string;
          inverted?: boolean;
          operator?: string;
          org_id?: string;
          position?: number;
          segment_id?: string | null;
          strategy_id?: string | null;
          updated_at?: string;
          value?: string | null;
          values?: string[];
        };
        Relationships: [
          {
            foreignKeyName: 'flag_constraints_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
          {
            foreignKeyName: 'flag_constraints_org_id_segment_id_fkey';
            columns: ['org_id', 'segment_id'];
            isOneToOne: false;
            referencedRelation: 'flag_segments';
            referencedColumns: ['org_id', 'id'];
          },
          {
            foreignKeyName: 'flag_constraints_org_id_strategy_id_fkey';
            columns: ['org_id', 'strategy_id'];
            isOneToOne: false;
            referencedRelation: 'flag_strategies';
            referencedColumns: ['org_id', 'id'];
          },
        ];
      };
      flag_dependencies: {
        Row: {
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          enabled: boolean;
          flag_id: string;
          id: string;
          org_id: string;
          parent_id: string;
          updated_at: string;
          variants: string[];
        };
        ComputedFields: never;
        Insert: {
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          enabled?: boolean;
          flag_id: string;
          id?: string;
          org_id?: string;
          parent_id: string;
          updated_at?: string;
          variants?: string[];
        };
        Update: {
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          enabled?: boolean;
          flag_id?: string;
          id?: string;
          org_id?: string;
          parent_id?: string;
          updated_at?: string;
          variants?: string[];
        };
        Relationships: [
          {
            foreignKeyName: 'flag_dependencies_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
          {
            foreignKeyName: 'flag_dependencies_org_id_flag_id_fkey';
            columns: ['org_id', 'flag_id'];
            isOneToOne: false;
            referencedRelation: 'feature_flags';
            referencedColumns: ['org_id', 'id'];
          },
        ];
      };
      flag_environments: {
        Row: {
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          id: string;
          name: string;
          org_id: string;
          protected: boolean;
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
          protected?: boolean;
          updated_at?: string;
        };
        Update: {
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          id?: string;
          name?: string;
          org_id?: string;
          protected?: boolean;
          updated_at?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'flag_environments_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
        ];
      };
      flag_evaluations: {
        Row: {
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          environment: string;
          flag_id: string;
          hour: string;
          id: string;
          no: number;
          org_id: string;
          updated_at: string;
          variants: NonNullable<Json>;
          yes: number;
        };
        ComputedFields: never;
        Insert: {
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          environment: string;
          flag_id: string;
          hour: string;
          id?: string;
          no?: number;
          org_id?: string;
          updated_at?: string;
          variants?: NonNullable<Json>;
          yes?: number;
        };
        Update: {
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          environment?: string;
          flag_id?: string;
          hour?: string;
          id?: string;
          no?: number;
          org_id?: string;
          updated_at?: string;
          variants?: NonNullable<Json>;
          yes?: number;
        };
        Relationships: [
          {
            foreignKeyName: 'flag_evaluations_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
          {
            foreignKeyName: 'flag_evaluations_org_id_flag_id_fkey';
            columns: ['org_id', 'flag_id'];
            isOneToOne: false;
            referencedRelation: 'feature_flags';
            referencedColumns: ['org_id', 'id'];
          },
        ];
      };
      flag_segments: {
        Row: {
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          description: string;
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
          description?: string;
          id?: string;
          name: string;
          org_id?: string;
          updated_at?: string;
        };
        Update: {
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          description?: string;
          id?: string;
          name?: string;
          org_id?: string;
          updated_at?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'flag_segments_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
        ];
      };
      flag_strategies: {
        Row: {
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          environment: string;
          flag_id: string;
          id: string;
          name: string;
          org_id: string;
          parameters: NonNullable<Json>;
          position: number;
          segment_ids: string[];
          title: string;
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          environment?: string;
          flag_id: string;
          id?: string;
          name: string;
          org_id?: string;
          parameters?: NonNullable<Json>;
          position?: number;
          segment_ids?: string[];
          title?: string;
          updated_at?: string;
        };
        Update: {
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          environment?: string;
          flag_id?: string;
          id?: string;
          name?: string;
          org_id?: string;
          parameters?: NonNullable<Json>;
          position?: number;
          segment_ids?: string[];
          title?: string;
          updated_at?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'flag_strategies_org_id_environment_fkey';
            columns: ['org_id', 'environment'];
            isOneToOne: false;
            referencedRelation: 'flag_environments';
            referencedColumns: ['org_id', 'name'];
          },
          {
            foreignKeyName: 'flag_strategies_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
          {
            foreignKeyName: 'flag_strategies_org_id_flag_id_fkey';
            columns: ['org_id', 'flag_id'];
            isOneToOne: false;
            referencedRelation: 'feature_flags';
            referencedColumns: ['org_id', 'id'];
          },
        ];
      };
      flag_variants: {
        Row: {
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          flag_id: string | null;
          id: string;
          name: string;
          org_id: string;
          overrides: NonNullable<Json>;
          payload: Json | null;
          position: number;
          stickiness: string | null;
          strategy_id: string | null;
          updated_at: string;
          weight: number;
          weight_type: 'fix' | 'variable' | null;
        };
        ComputedFields: never;
        Insert: {
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          flag_id?: string | null;
          id?: string;
          name: string;
          org_id?: string;
          overrides?: NonNullable<Json>;
          payload?: Json | null;
          position?: number;
          stickiness?: string | null;
          strategy_id?: string | null;
          updated_at?: string;
          weight: number;
          weight_type?: 'fix' | 'variable' | null;
        };
        Update: {
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          flag_id?: string | null;
          id?: string;
          name?: string;
          org_id?: string;
          overrides?: NonNullable<Json>;
          payload?: Json | null;
          position?: number;
          stickiness?: string | null;
          strategy_id?: string | null;
          updated_at?: string;
          weight?: number;
          weight_type?: 'fix' | 'variable' | null;
        };
        Relationships: [
          {
            foreignKeyName: 'flag_variants_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
          {
            foreignKeyName: 'flag_variants_org_id_flag_id_fkey';
            columns: ['org_id', 'flag_id'];
            isOneToOne: false;
            referencedRelation: 'feature_flags';
            referencedColumns: ['org_id', 'id'];
          },
          {
            foreignKeyName: 'flag_variants_org_id_strategy_id_fkey';
            columns: ['org_id', 'strategy_id'];
            isOneToOne: false;
            referencedRelation: 'flag_strategies';
            referencedColumns: ['org_id', 'id'];
          },
        ];
      };
      functions: {
        Row: {
          access: 'anyone' | 'signed_in' | 'permission';
          created_at: string;
          description: string;
          enabled: boolean;
          max_response_bytes: number;
          methods: string[];
          name: string;
          permission: string | null;
          timeout_seconds: number;
          updated_at: string;
          url: string;
        };
        ComputedFields: never;
        Insert: {
          access?: 'anyone' | 'signed_in' | 'permission';
          created_at?: string;
          description?: string;
          enabled?: boolean;
          max_response_bytes?: number;
          methods?: string[];
          name: string;
          permission?: string | null;
          timeout_seconds?: number;
          updated_at?: string;
          url: string;
        };
        Update: {
          access?: 'anyone' | 'signed_in' | 'permission';
          created_at?: string;
          description?: string;
          enabled?: boolean;
          max_response_bytes?: number;
          methods?: string[];
          name?: string;
          permission?: string | null;
          timeout_seconds?: number;
          updated_at?: string;
          url?: string;
        };
        Relationships: [];
      };
      habits: {
        Row: {
          catch_up: 'none' | 'latest' | 'all';
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          cron: string;
          enabled: boolean;
          enabled_at: string;
          ends_at: string | null;
          id: string;
          input: NonNullable<Json>;
          jitter_seconds: number;
          last_error: string | null;
          last_run_at: string | null;
          name: string;
          next_run_at: string | null;
          org_id: string;
          overlap: 'skip' | 'queue' | 'cancel';
          pause_after_failures: number | null;
          paused_at: string | null;
          paused_reason: string | null;
          skill_id: string;
          starts_at: string | null;
          timezone: string;
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          catch_up?: 'none' | 'latest' | 'all';
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          cron: string;
          enabled?: boolean;
          enabled_at?: string;
          ends_at?: string | null;
          id?: string;
          input?: NonNullable<Json>;
          jitter_seconds?: number;
          last_error?: string | null;
          last_run_at?: string | null;
          name: string;
          next_run_at?: string | null;
          org_id?: string;
          overlap?: 'skip' | 'queue' | 'cancel';
          pause_after_failures?: number | null;
          paused_at?: string | null;
          paused_reason?: string | null;
          skill_id: string;
          starts_at?: string | null;
          timezone?: string;
          updated_at?: string;
        };
        Update: {
          catch_up?: 'none' | 'latest' | 'all';
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          cron?: string;
          enabled?: boolean;
          enabled_at?: string;
          ends_at?: string | null;
          id?: string;
          input?: NonNullable<Json>;
          jitter_seconds?: number;
          last_error?: string | null;
          last_run_at?: string | null;
          name?: string;
          next_run_at?: string | null;
          org_id?: string;
          overlap?: 'skip' | 'queue' | 'cancel';
          pause_after_failures?: number | null;
          paused_at?: string | null;
          paused_reason?: string | null;
          skill_id?: string;
          starts_at?: string | null;
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
      images: {
        Row: {
          alt_text: string;
          applied_revision: number | null;
          base_revision: number;
          blog_post_id: string;
          bytes: number | null;
          call_ids: string[];
          content_hash: string | null;
          content_type: 'image/png' | 'image/jpeg' | null;
          cost_microusd: number;
          cost_usd: number;
          costs_pending: boolean;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          error: string | null;
          error_code: string | null;
          finished_at: string | null;
          height: number | null;
          id: string;
          kind: 'hero' | 'supporting';
          model: string;
          org_id: string;
          prompt: string;
          provider: string | null;
          size: string;
          status: 'queued' | 'running' | 'succeeded' | 'failed';
          storage_path: string | null;
          updated_at: string;
          width: number | null;
          image_url: string | null;
        };
        ComputedFields: 'image_url';
        Insert: {
          alt_text?: string;
          applied_revision?: number | null;
          base_revision: number;
          blog_post_id: string;
          bytes?: number | null;
          call_ids?: string[];
          content_hash?: string | null;
          content_type?: 'image/png' | 'image/jpeg' | null;
          cost_microusd?: number;
          cost_usd?: never;
          costs_pending?: boolean;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          error?: string | null;
          error_code?: string | null;
          finished_at?: string | null;
          height?: number | null;
          id?: string;
          kind: 'hero' | 'supporting';
          model: string;
          org_id?: string;
          prompt: string;
          provider?: string | null;
          size: string;
          status?: 'queued' | 'running' | 'succeeded' | 'failed';
          storage_path?: string | null;
          updated_at?: string;
          width?: number | null;
        };
        Update: {
          alt_text?: string;
          applied_revision?: number | null;
          base_revision?: number;
          blog_post_id?: string;
          bytes?: number | null;
          call_ids?: string[];
          content_hash?: string | null;
          content_type?: 'image/png' | 'image/jpeg' | null;
          cost_microusd?: number;
          cost_usd?: never;
          costs_pending?: boolean;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          error?: string | null;
          error_code?: string | null;
          finished_at?: string | null;
          height?: number | null;
          id?: string;
          kind?: 'hero' | 'supporting';
          model?: string;
          org_id?: string;
          prompt?: string;
          provider?: string | null;
          size?: string;
          status?: 'queued' | 'running' | 'succeeded' | 'failed';
          storage_path?: string | null;
          updated_at?: string;
          width?: number | null;
        };
        Relationships: [
          {
            foreignKeyName: 'images_org_id_blog_post_id_fkey';
            columns: ['org_id', 'blog_post_id'];
            isOneToOne: false;
            referencedRelation: 'blog_posts';
            referencedColumns: ['org_id', 'id'];
          },
          {
            foreignKeyName: 'images_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
        ];
      };
      indexing_job_events: {
        Row: {
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          data: NonNullable<Json>;
          event: string;
          id: string;
          indexing_job_id: string;
          org_id: string;
          seq: number;
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          data?: NonNullable<Json>;
          event: string;
          id?: string;
          indexing_job_id: string;
          org_id?: string;
          seq?: never;
          updated_at?: string;
        };
        Update: {
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          data?: NonNullable<Json>;
          event?: string;
          id?: string;
          indexing_job_id?: string;
          org_id?: string;
          seq?: never;
          updated_at?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'indexing_job_events_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
          {
            foreignKeyName: 'indexing_job_events_org_id_indexing_job_id_fkey';
            columns: ['org_id', 'indexing_job_id'];
            isOneToOne: false;
            referencedRelation: 'indexing_jobs';
            referencedColumns: ['org_id', 'id'];
          },
        ];
      };
      indexing_jobs: {
        Row: {
          base_commit_sha: string | null;
          branch: string;
          bytes: number;
          cancel_requested: boolean;
          commit_sha: string | null;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          error: string | null;
          error_code: string | null;
          files_done: number;
          files_total: number;
          finished_at: string | null;
          id: string;
          org_id: string;
          phase: 'fetching' | 'parsing' | 'writing' | 'committing' | 'waiting' | null;
          queue_job_id: string | null;
          repository_id: string;
          seq: number;
          started_at: string | null;
          status: 'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled' | 'superseded';
          trigger: 'manual' | 'push' | 'ingestion' | 'schedule';
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          base_commit_sha?: string | null;
          branch: string;
          bytes?: number;
          cancel_requested?: boolean;
          commit_sha?: string | null;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          error?: string | null;
          error_code?: string | null;
          files_done?: number;
          files_total?: number;
          finished_at?: string | null;
          id?: string;
          org_id?: string;
          phase?: 'fetching' | 'parsing' | 'writing' | 'committing' | 'waiting' | null;
          queue_job_id?: string | null;
          repository_id: string;
          seq?: never;
          started_at?: string | null;
          status?: 'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled' | 'superseded';
          trigger: 'manual' | 'push' | 'ingestion' | 'schedule';
          updated_at?: string;
        };
        Update: {
          base_commit_sha?: string | null;
          branch?: string;
          bytes?: number;
          cancel_requested?: boolean;
          commit_sha?: string | null;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          error?: string | null;
          error_code?: string | null;
          files_done?: number;
          files_total?: number;
          finished_at?: string | null;
          id?: string;
          org_id?: string;
          phase?: 'fetching' | 'parsing' | 'writing' | 'committing' | 'waiting' | null;
          queue_job_id?: string | null;
          repository_id?: string;
          seq?: never;
          started_at?: string | null;
          status?: 'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled' | 'superseded';
          trigger?: 'manual' | 'push' | 'ingestion' | 'schedule';
          updated_at?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'indexing_jobs_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
          {
            foreignKeyName: 'indexing_jobs_org_id_repository_id_fkey';
            columns: ['org_id', 'repository_id'];
            isOneToOne: false;
            referencedRelation: 'repositories';
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
      llm_budgets: {
        Row: {
          amount: number;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          enabled: boolean;
          id: string;
          key_id: string | null;
          member_id: string | null;
          model: string | null;
          name: string;
          on_exceeded: 'refuse' | 'flag' | 'bill';
          org_id: string;
          period: 'hour' | 'day' | 'week' | 'month' | 'total';
          project_id: string | null;
          scope: 'organization' | 'project' | 'skill' | 'key' | 'member' | 'model';
          skill_id: string | null;
          unit: 'tokens' | 'microusd';
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          amount: number;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          enabled?: boolean;
          id?: string;
          key_id?: string | null;
          member_id?: string | null;
          model?: string | null;
          name: string;
          on_exceeded?: 'refuse' | 'flag' | 'bill';
          org_id?: string;
          period: 'hour' | 'day' | 'week' | 'month' | 'total';
          project_id?: string | null;
          scope: 'organization' | 'project' | 'skill' | 'key' | 'member' | 'model';
          skill_id?: string | null;
          unit: 'tokens' | 'microusd';
          updated_at?: string;
        };
        Update: {
          amount?: number;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          enabled?: boolean;
          id?: string;
          key_id?: string | null;
          member_id?: string | null;
          model?: string | null;
          name?: string;
          on_exceeded?: 'refuse' | 'flag' | 'bill';
          org_id?: string;
          period?: 'hour' | 'day' | 'week' | 'month' | 'total';
          project_id?: string | null;
          scope?: 'organization' | 'project' | 'skill' | 'key' | 'member' | 'model';
          skill_id?: string | null;
          unit?: 'tokens' | 'microusd';
          updated_at?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'llm_budgets_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
          {
            foreignKeyName: 'llm_budgets_org_id_key_id_fkey';
            columns: ['org_id', 'key_id'];
            isOneToOne: false;
            referencedRelation: 'api_keys';
            referencedColumns: ['org_id', 'id'];
          },
          {
            foreignKeyName: 'llm_budgets_org_id_member_id_fkey';
            columns: ['org_id', 'member_id'];
            isOneToOne: false;
            referencedRelation: 'memberships';
            referencedColumns: ['org_id', 'user_id'];
          },
          {
            foreignKeyName: 'llm_budgets_org_id_project_id_fkey';
            columns: ['org_id', 'project_id'];
            isOneToOne: false;
            referencedRelation: 'projects';
            referencedColumns: ['org_id', 'id'];
          },
          {
            foreignKeyName: 'llm_budgets_org_id_skill_id_fkey';
            columns: ['org_id', 'skill_id'];
            isOneToOne: false;
            referencedRelation: 'skills';
            referencedColumns: ['org_id', 'id'];
          },
        ];
      };
      llm_call_contents: {
        Row: {
          answer: Json | null;
          called_at: string;
          created_at: string;
          created_by: string | null;
          delete_after: string;
          id: string;
          org_id: string;
          project_id: string | null;
          prompt: Json | null;
        };
        ComputedFields: never;
        Insert: {
          answer?: Json | null;
          called_at: string;
          created_at?: string;
          created_by?: string | null;
          delete_after: string;
          id: string;
          org_id?: string;
          project_id?: string | null;
          prompt?: Json | null;
        };
        Update: {
          answer?: Json | null;
          called_at?: string;
          created_at?: string;
          created_by?: string | null;
          delete_after?: string;
          id?: string;
          org_id?: string;
          project_id?: string | null;
          prompt?: Json | null;
        };
        Relationships: [
          {
            foreignKeyName: 'llm_call_contents_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
        ];
      };
      llm_calls: {
        Row: {
          attempts: number;
          cache_read_tokens: number;
          cache_write_tokens: number;
          cost_microusd: number;
          created_at: string;
          created_by: string | null;
          error_code: string | null;
          estimated: boolean;
          execution_id: string | null;
          finish_reason: string | null;
          finished_at: string | null;
          first_token_ms: number | null;
          held_microusd: number;
          held_tokens: number;
          http_status: number | null;
          id: string;
          images: number;
          input_tokens: number;
          key_id: string | null;
          kind: 'chat' | 'embeddings' | 'images';
          member_id: string | null;
          model: string;
          org_id: string;
          output_tokens: number;
          own_key: boolean;
          project_id: string | null;
          prompt_id: string | null;
          prompt_version: number | null;
          provider: string;
          reasoning_tokens: number;
          reported_model: string | null;
          request_id: string | null;
          requested_model: string;
          route: string | null;
          skill_id: string | null;
          status: 'reserved' | 'sent' | 'succeeded' | 'failed' | 'cancelled';
          total_ms: number | null;
          trace_id: string | null;
        };
        ComputedFields: never;
        Insert: {
          attempts?: number;
          cache_read_tokens?: number;
          cache_write_tokens?: number;
          cost_microusd?: number;
          created_at?: string;
          created_by?: string | null;
          error_code?: string | null;
          estimated?: boolean;
          execution_id?: string | null;
          finish_reason?: string | null;
          finished_at?: string | null;
          first_token_ms?: number | null;
          held_microusd: number;
          held_tokens: number;
          http_status?: number | null;
          id?: string;
          images?: number;
          input_tokens?: number;
          key_id?: string | null;
          kind?: 'chat' | 'embeddings' | 'images';
          member_id?: string | null;
          model: string;
          org_id?: string;
          output_tokens?: number;
          own_key: boolean;
          project_id?: string | null;
          prompt_id?: string | null;
          prompt_version?: number | null;
          provider: string;
          reasoning_tokens?: number;
          reported_model?: string | null;
          request_id?: string | null;
          requested_model: string;
          route?: string | null;
          skill_id?: string | null;
          status?: 'reserved' | 'sent' | 'succeeded' | 'failed' | 'cancelled';
          total_ms?: number | null;
          trace_id?: string | null;
        };
        Update: {
          attempts?: number;
          cache_read_tokens?: number;
          cache_write_tokens?: number;
          cost_microusd?: number;
          created_at?: string;
          created_by?: string | null;
          error_code?: string | null;
          estimated?: boolean;
          execution_id?: string | null;
          finish_reason?: string | null;
          finished_at?: string | null;
          first_token_ms?: number | null;
          held_microusd?: number;
          held_tokens?: number;
          http_status?: number | null;
          id?: string;
          images?: number;
          input_tokens?: number;
          key_id?: string | null;
          kind?: 'chat' | 'embeddings' | 'images';
          member_id?: string | null;
          model?: string;
          org_id?: string;
          output_tokens?: number;
          own_key?: boolean;
          project_id?: string | null;
          prompt_id?: string | null;
          prompt_version?: number | null;
          provider?: string;
          reasoning_tokens?: number;
          reported_model?: string | null;
          request_id?: string | null;
          requested_model?: string;
          route?: string | null;
          skill_id?: string | null;
          status?: 'reserved' | 'sent' | 'succeeded' | 'failed' | 'cancelled';
          total_ms?: number | null;
          trace_id?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: 'llm_calls_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
        ];
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
          image_microusd: number | null;
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
          image_microusd?: number | null;
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
          image_microusd?: number | null;
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
      llm_providers: {
        Row: {
          base_url: string | null;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          description: string;
          enabled: boolean;
          id: string;
          key_set_at: string | null;
          kind: 'openai' | 'anthropic' | 'gemini' | 'echo';
          max_concurrency: number | null;
          name: string;
          org_id: string;
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          base_url?: string | null;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          description?: string;
          enabled?: boolean;
          id?: string;
          key_set_at?: string | null;
          kind: 'openai' | 'anthropic' | 'gemini' | 'echo';
          max_concurrency?: number | null;
          name: string;
          org_id?: string;
          updated_at?: string;
        };
        Update: {
          base_url?: string | null;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          description?: string;
          enabled?: boolean;
          id?: string;
          key_set_at?: string | null;
          kind?: 'openai' | 'anthropic' | 'gemini' | 'echo';
          max_concurrency?: number | null;
          name?: string;
          org_id?: string;
          updated_at?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'llm_providers_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
        ];
      };
      llm_routes: {
        Row: {
          allowed_keys: string[] | null;
          allowed_roles: string[] | null;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          default_output_tokens: number;
          description: string;
          enabled: boolean;
          first_token_seconds: number;
          id: string;
          idle_seconds: number;
          max_output_tokens: number | null;
          name: string;
          org_id: string;
          retries: number;
          targets: string[];
          time_budget_seconds: number;
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          allowed_keys?: string[] | null;
          allowed_roles?: string[] | null;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          default_output_tokens?: number;
          description?: string;
          enabled?: boolean;
          first_token_seconds?: number;
          id?: string;
          idle_seconds?: number;
          max_output_tokens?: number | null;
          name: string;
          org_id?: string;
          retries?: number;
          targets: string[];
          time_budget_seconds?: number;
          updated_at?: string;
        };
        Update: {
          allowed_keys?: string[] | null;
          allowed_roles?: string[] | null;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          default_output_tokens?: number;
          description?: string;
          enabled?: boolean;
          first_token_seconds?: number;
          id?: string;
          idle_seconds?: number;
          max_output_tokens?: number | null;
          name?: string;
          org_id?: string;
          retries?: number;
          targets?: string[];
          time_budget_seconds?: number;
          updated_at?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'llm_routes_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
        ];
      };
      llm_settings: {
        Row: {
          content_days: number;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          id: string;
          org_id: string;
          record_content: boolean;
          routes_only: boolean;
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          content_days?: number;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          id?: string;
          org_id?: string;
          record_content?: boolean;
          routes_only?: boolean;
          updated_at?: string;
        };
        Update: {
          content_days?: number;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          id?: string;
          org_id?: string;
          record_content?: boolean;
          routes_only?: boolean;
          updated_at?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'llm_settings_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: true;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
        ];
      };
      memberships: {
        Row: {
          created_at: string;
          created_by: string | null;
          custom_role_id: string | null;
          id: string;
          is_break_glass: boolean;
          mfa_required: boolean;
          org_id: string;
          role: 'viewer' | 'member' | 'admin' | 'owner';
          sso_required: boolean;
          updated_at: string;
          user_id: string;
        };
        ComputedFields: never;
        Insert: {
          created_at?: string;
          created_by?: string | null;
          custom_role_id?: string | null;
          id?: string;
          is_break_glass?: boolean;
          mfa_required?: boolean;
          org_id?: string;
          role?: 'viewer' | 'member' | 'admin' | 'owner';
          sso_required?: boolean;
          updated_at?: string;
          user_id: string;
        };
        Update: {
          created_at?: string;
          created_by?: string | null;
          custom_role_id?: string | null;
          id?: string;
          is_break_glass?: boolean;
          mfa_required?: boolean;
          org_id?: string;
          role?: 'viewer' | 'member' | 'admin' | 'owner';
          sso_required?: boolean;
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
      notification_types: {
        Row: {
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          description: string;
          has_own_mail: boolean;
          id: string;
          in_app: boolean;
          mail: 'off' | 'now' | 'hourly' | 'daily';
          mail_choices: string[];
          mail_permission: string | null;
          name: string;
          org_id: string;
          permission: string | null;
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          description?: string;
          has_own_mail?: boolean;
          id?: string;
          in_app?: boolean;
          mail?: 'off' | 'now' | 'hourly' | 'daily';
          mail_choices?: string[];
          mail_permission?: string | null;
          name: string;
          org_id?: string;
          permission?: string | null;
          updated_at?: string;
        };
        Update: {
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          description?: string;
          has_own_mail?: boolean;
          id?: string;
          in_app?: boolean;
          mail?: 'off' | 'now' | 'hourly' | 'daily';
          mail_choices?: string[];
          mail_permission?: string | null;
          name?: string;
          org_id?: string;
          permission?: string | null;
          updated_at?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'notification_types_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
        ];
      };
      notifications: {
        Row: {
          audience: 'user' | 'organization' | 'everyone';
          body: string | null;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          data: NonNullable<Json>;
          dedupe_key: string | null;
          id: string;
          link: string | null;
          org_id: string;
          permission: string | null;
          project_id: string | null;
          title: string;
          type: string;
          updated_at: string;
          user_id: string | null;
          xid: unknown;
        };
        ComputedFields: never;
        Insert: {
          audience: 'user' | 'organization' | 'everyone';
          body?: string | null;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          data?: NonNullable<Json>;
          dedupe_key?: string | null;
          id?: string;
          link?: string | null;
          org_id?: string;
          permission?: string | null;
          project_id?: string | null;
          title: string;
          type: string;
          updated_at?: string;
          user_id?: string | null;
          xid?: unknown;
        };
        Update: {
          audience?: 'user' | 'organization' | 'everyone';
          body?: string | null;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          data?: NonNullable<Json>;
          dedupe_key?: string | null;
          id?: string;
          link?: string | null;
          org_id?: string;
          permission?: string | null;
          project_id?: string | null;
          title?: string;
          type?: string;
          updated_at?: string;
          user_id?: string | null;
          xid?: unknown;
        };
        Relationships: [
          {
            foreignKeyName: 'notifications_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
          {
            foreignKeyName: 'notifications_org_id_project_id_fkey';
            columns: ['org_id', 'project_id'];
            isOneToOne: false;
            referencedRelation: 'projects';
            referencedColumns: ['org_id', 'id'];
          },
          {
            foreignKeyName: 'notifications_user_id_fkey';
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
          mfa_required: boolean;
          name: string;
          personal_for: string | null;
          slug: string;
          sso_required: boolean;
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          created_at?: string;
          created_by?: string | null;
          id?: string;
          mfa_required?: boolean;
          name: string;
          personal_for?: string | null;
          slug?: string;
          sso_required?: boolean;
          updated_at?: string;
        };
        Update: {
          created_at?: string;
          created_by?: string | null;
          id?: string;
          mfa_required?: boolean;
          name?: string;
          personal_for?: string | null;
          slug?: string;
          sso_required?: boolean;
          updated_at?: string;
        };
        Relationships: [];
      };
      persons: {
        Row: {
          created_at: string;
          created_by: string | null;
          id: string;
          last_seen_at: string;
          org_id: string;
          traits: NonNullable<Json>;
          user_id: string | null;
        };
        ComputedFields: never;
        Insert: {
          created_at?: string;
          created_by?: string | null;
          id?: string;
          last_seen_at?: string;
          org_id?: string;
          traits?: NonNullable<Json>;
          user_id?: string | null;
        };
        Update: {
          created_at?: string;
          created_by?: string | null;
          id?: string;
          last_seen_at?: string;
          org_id?: string;
          traits?: NonNullable<Json>;
          user_id?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: 'persons_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
        ];
      };
      plan_features: {
        Row: {
          feature: string;
          plan: string;
        };
        ComputedFields: never;
        Insert: {
          feature: string;
          plan: string;
        };
        Update: {
          feature?: string;
          plan?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'plan_features_feature_fkey';
            columns: ['feature'];
            isOneToOne: false;
            referencedRelation: 'features';
            referencedColumns: ['code'];
          },
          {
            foreignKeyName: 'plan_features_plan_fkey';
            columns: ['plan'];
            isOneToOne: false;
            referencedRelation: 'plans';
            referencedColumns: ['code'];
          },
        ];
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
      plan_overrides: {
        Row: {
          amount: number | null;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          ended_at: string | null;
          ends_at: string;
          feature: string | null;
          id: string;
          included: boolean | null;
          meter: string | null;
          org_id: string;
          reason: string;
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          amount?: number | null;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          ended_at?: string | null;
          ends_at: string;
          feature?: string | null;
          id?: string;
          included?: boolean | null;
          meter?: string | null;
          org_id?: string;
          reason: string;
          updated_at?: string;
        };
        Update: {
          amount?: number | null;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          ended_at?: string | null;
          ends_at?: string;
          feature?: string | null;
          id?: string;
          included?: boolean | null;
          meter?: string | null;
          org_id?: string;
          reason?: string;
          updated_at?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'plan_overrides_feature_fkey';
            columns: ['feature'];
            isOneToOne: false;
            referencedRelation: 'features';
            referencedColumns: ['code'];
          },
          {
            foreignKeyName: 'plan_overrides_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
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
      prices: {
        Row: {
          active: boolean;
          amount_cents: number;
          created_at: string;
          currency: string;
          kind: 'flat' | 'seat' | 'metered';
          lookup_key: string;
          meter: string | null;
          plan: string;
          recurring_interval: 'month' | 'year';
          trial_days: number;
          units: number;
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          active?: boolean;
          amount_cents: number;
          created_at?: string;
          currency?: string;
          kind: 'flat' | 'seat' | 'metered';
          lookup_key: string;
          meter?: string | null;
          plan: string;
          recurring_interval: 'month' | 'year';
          trial_days?: number;
          units?: number;
          updated_at?: string;
        };
        Update: {
          active?: boolean;
          amount_cents?: number;
          created_at?: string;
          currency?: string;
          kind?: 'flat' | 'seat' | 'metered';
          lookup_key?: string;
          meter?: string | null;
          plan?: string;
          recurring_interval?: 'month' | 'year';
          trial_days?: number;
          units?: number;
          updated_at?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'prices_plan_fkey';
            columns: ['plan'];
            isOneToOne: false;
            referencedRelation: 'plans';
            referencedColumns: ['code'];
          },
        ];
      };
      profiles: {
        Row: {
          avatar_url: string | null;
          created_at: string;
          display_name: string;
          email: string | null;
          id: string;
          updated_at: string;
          active_org_id: string | null;
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
      project_file_versions: {
        Row: {
          bytes: number;
          content_type: string | null;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          file_id: string;
          id: string;
          object_name: string;
          org_id: string;
          project_id: string;
          updated_at: string;
          version: number;
        };
        ComputedFields: never;
        Insert: {
          bytes: number;
          content_type?: string | null;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          file_id: string;
          id?: string;
          object_name: string;
          org_id?: string;
          project_id: string;
          updated_at?: string;
          version: number;
        };
        Update: {
          bytes?: number;
          content_type?: string | null;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          file_id?: string;
          id?: string;
          object_name?: string;
          org_id?: string;
          project_id?: string;
          updated_at?: string;
          version?: number;
        };
        Relationships: [
          {
            foreignKeyName: 'project_file_versions_org_id_file_id_fkey';
            columns: ['org_id', 'file_id'];
            isOneToOne: false;
            referencedRelation: 'project_files';
            referencedColumns: ['org_id', 'id'];
          },
          {
            foreignKeyName: 'project_file_versions_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
          {
            foreignKeyName: 'project_file_versions_org_id_project_id_fkey';
            columns: ['org_id', 'project_id'];
            isOneToOne: false;
            referencedRelation: 'projects';
            referencedColumns: ['org_id', 'id'];
          },
        ];
      };
      project_files: {
        Row: {
          bytes: number;
          content_type: string | null;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          deleted_at: string | null;
          id: string;
          last_version: number;
          object_name: string;
          org_id: string;
          path: string;
          project_id: string;
          updated_at: string;
          version: number;
        };
        ComputedFields: never;
        Insert: {
          bytes: number;
          content_type?: string | null;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          deleted_at?: string | null;
          id?: string;
          last_version: number;
          object_name: string;
          org_id?: string;
          path: string;
          project_id: string;
          updated_at?: string;
          version: number;
        };
        Update: {
          bytes?: number;
          content_type?: string | null;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          deleted_at?: string | null;
          id?: string;
          last_version?: number;
          object_name?: string;
          org_id?: string;
          path?: string;
          project_id?: string;
          updated_at?: string;
          version?: number;
        };
        Relationships: [
          {
            foreignKeyName: 'project_files_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
          {
            foreignKeyName: 'project_files_org_id_project_id_fkey';
            columns: ['org_id', 'project_id'];
            isOneToOne: false;
            referencedRelation: 'projects';
            referencedColumns: ['org_id', 'id'];
          },
        ];
      };
      project_members: {
        Row: {
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          id: string;
          org_id: string;
          project_id: string;
          role: 'viewer' | 'member' | 'admin';
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
          role?: 'viewer' | 'member' | 'admin';
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
          role?: 'viewer' | 'member' | 'admin';
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
          archived_at: string | null;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          description: string | null;
          id: string;
          name: string;
          org_id: string;
          settings: NonNullable<Json>;
          slug: string;
          updated_at: string;
          visibility: 'organization' | 'private';
        };
        ComputedFields: never;
        Insert: {
          archived_at?: string | null;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          description?: string | null;
          id?: string;
          name: string;
          org_id?: string;
          settings?: NonNullable<Json>;
          slug?: string;
          updated_at?: string;
          visibility?: 'organization' | 'private';
        };
        Update: {
          archived_at?: string | null;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          description?: string | null;
          id?: string;
          name?: string;
          org_id?: string;
          settings?: NonNullable<Json>;
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
      prompt_label_changes: {
        Row: {
          approval_id: string | null;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          from_version: number | null;
          id: string;
          label: string;
          org_id: string;
          prompt_id: string;
          to_version: number | null;
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          approval_id?: string | null;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          from_version?: number | null;
          id?: string;
          label: string;
          org_id?: string;
          prompt_id: string;
          to_version?: number | null;
          updated_at?: string;
        };
        Update: {
          approval_id?: string | null;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          from_version?: number | null;
          id?: string;
          label?: string;
          org_id?: string;
          prompt_id?: string;
          to_version?: number | null;
          updated_at?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'prompt_label_changes_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
          {
            foreignKeyName: 'prompt_label_changes_org_id_prompt_id_fkey';
            columns: ['org_id', 'prompt_id'];
            isOneToOne: false;
            referencedRelation: 'prompts';
            referencedColumns: ['org_id', 'id'];
          },
        ];
      };
      prompt_labels: {
        Row: {
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          id: string;
          label: string;
          org_id: string;
          prompt_id: string;
          updated_at: string;
          version: number;
        };
        ComputedFields: never;
        Insert: {
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          id?: string;
          label: string;
          org_id?: string;
          prompt_id: string;
          updated_at?: string;
          version: number;
        };
        Update: {
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          id?: string;
          label?: string;
          org_id?: string;
          prompt_id?: string;
          updated_at?: string;
          version?: number;
        };
        Relationships: [
          {
            foreignKeyName: 'prompt_labels_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
          {
            foreignKeyName: 'prompt_labels_org_id_prompt_id_version_fkey';
            columns: ['org_id', 'prompt_id', 'version'];
            isOneToOne: false;
            referencedRelation: 'prompt_versions';
            referencedColumns: ['org_id', 'prompt_id', 'version'];
          },
        ];
      };
      prompt_settings: {
        Row: {
          approval_days: number;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          id: string;
          org_id: string;
          protected_labels: string[];
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          approval_days?: number;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          id?: string;
          org_id?: string;
          protected_labels?: string[];
          updated_at?: string;
        };
        Update: {
          approval_days?: number;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          id?: string;
          org_id?: string;
          protected_labels?: string[];
          updated_at?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'prompt_settings_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: true;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
        ];
      };
      prompt_versions: {
        Row: {
          checked_at: string | null;
          content: NonNullable<Json>;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          engine: 'minijinja' | 'plain';
          id: string;
          input_schema: NonNullable<Json>;
          message: string | null;
          model: string | null;
          org_id: string;
          parameters: NonNullable<Json>;
          problems: NonNullable<Json>;
          prompt_id: string;
          size_bytes: number;
          updated_at: string;
          version: number;
        };
        ComputedFields: never;
        Insert: {
          checked_at?: string | null;
          content: NonNullable<Json>;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          engine?: 'minijinja' | 'plain';
          id?: string;
          input_schema?: NonNullable<Json>;
          message?: string | null;
          model?: string | null;
          org_id?: string;
          parameters?: NonNullable<Json>;
          problems?: NonNullable<Json>;
          prompt_id: string;
          size_bytes?: never;
          updated_at?: string;
          version: number;
        };
        Update: {
          checked_at?: string | null;
          content?: NonNullable<Json>;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          engine?: 'minijinja' | 'plain';
          id?: string;
          input_schema?: NonNullable<Json>;
          message?: string | null;
          model?: string | null;
          org_id?: string;
          parameters?: NonNullable<Json>;
          problems?: NonNullable<Json>;
          prompt_id?: string;
          size_bytes?: never;
          updated_at?: string;
          version?: number;
        };
        Relationships: [
          {
            foreignKeyName: 'prompt_versions_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
          {
            foreignKeyName: 'prompt_versions_org_id_prompt_id_fkey';
            columns: ['org_id', 'prompt_id'];
            isOneToOne: false;
            referencedRelation: 'prompts';
            referencedColumns: ['org_id', 'id'];
          },
        ];
      };
      prompts: {
        Row: {
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          description: string | null;
          id: string;
          latest_version: number;
          org_id: string;
          path: string;
          tags: string[];
          type: 'text' | 'chat';
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          description?: string | null;
          id?: string;
          latest_version?: number;
          org_id?: string;
          path: string;
          tags?: string[];
          type: 'text' | 'chat';
          updated_at?: string;
        };
        Update: {
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          description?: string | null;
          id?: string;
          latest_version?: number;
          org_id?: string;
          path?: string;
          tags?: string[];
          type?: 'text' | 'chat';
          updated_at?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'prompts_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
        ];
      };
      publish_logs: {
        Row: {
          attempt: number;
          cost_microusd: number;
          cost_usd: number | null;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          error_code: string | null;
          event:
            | 'started'
            | 'prepared'
            | 'create_started'
            | 'published'
            | 'refused'
            | 'rescheduled'
            | 'connection_paused'
            | 'outcome_unknown'
            | 'not_found'
            | 'unconfirmed'
            | 'missed'
            | 'confirmed'
            | 'resent';
          http_status: number | null;
          id: string;
          message: string | null;
          org_id: string;
          platform: string;
          platform_post_id: string | null;
          social_post_id: string;
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          attempt: number;
          cost_microusd?: number;
          cost_usd?: never;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          error_code?: string | null;
          event:
            | 'started'
            | 'prepared'
            | 'create_started'
            | 'published'
            | 'refused'
            | 'rescheduled'
            | 'connection_paused'
            | 'outcome_unknown'
            | 'not_found'
            | 'unconfirmed'
            | 'missed'
            | 'confirmed'
            | 'resent';
          http_status?: number | null;
          id?: string;
          message?: string | null;
          org_id?: string;
          platform: string;
          platform_post_id?: string | null;
          social_post_id: string;
          updated_at?: string;
        };
        Update: {
          attempt?: number;
          cost_microusd?: number;
          cost_usd?: never;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          error_code?: string | null;
          event?:
            | 'started'
            | 'prepared'
            | 'create_started'
            | 'published'
            | 'refused'
            | 'rescheduled'
            | 'connection_paused'
            | 'outcome_unknown'
            | 'not_found'
            | 'unconfirmed'
            | 'missed'
            | 'confirmed'
            | 'resent';
          http_status?: number | null;
          id?: string;
          message?: string | null;
          org_id?: string;
          platform?: string;
          platform_post_id?: string | null;
          social_post_id?: string;
          updated_at?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'publish_logs_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
          {
            foreignKeyName: 'publish_logs_org_id_social_post_id_fkey';
            columns: ['org_id', 'social_post_id'];
            isOneToOne: false;
            referencedRelation: 'social_posts';
            referencedColumns: ['org_id', 'id'];
          },
        ];
      };
      quarantined_events: {
        Row: {
          code: string;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          id: string;
          message: Json | null;
          org_id: string;
          problem: string;
        };
        ComputedFields: never;
        Insert: {
          code: string;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          id?: string;
          message?: Json | null;
          org_id?: string;
          problem: string;
        };
        Update: {
          code?: string;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          id?: string;
          message?: Json | null;
          org_id?: string;
          problem?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'quarantined_events_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
        ];
      };
      reflex_deliveries: {
        Row: {
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          depth: number;
          dry_run: boolean;
          duplicate_count: number;
          error: string | null;
          error_code: string | null;
          event: string | null;
          execution_id: string | null;
          external_id: string | null;
          finished_at: string | null;
          headers: NonNullable<Json>;
          id: string;
          input: Json | null;
          org_id: string;
          payload: Json | null;
          payload_bytes: number;
          project_id: string | null;
          redelivery_of: string | null;
          reflex_id: string;
          source: 'webhook' | 'event' | 'repository' | 'test';
          status: 'received' | 'filtered' | 'queued' | 'refused' | 'failed' | 'tested';
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          depth?: number;
          dry_run?: boolean;
          duplicate_count?: number;
          error?: string | null;
          error_code?: string | null;
          event?: string | null;
          execution_id?: string | null;
          external_id?: string | null;
          finished_at?: string | null;
          headers?: NonNullable<Json>;
          id?: string;
          input?: Json | null;
          org_id?: string;
          payload?: Json | null;
          payload_bytes?: number;
          project_id?: string | null;
          redelivery_of?: string | null;
          reflex_id: string;
          source: 'webhook' | 'event' | 'repository' | 'test';
          status?: 'received' | 'filtered' | 'queued' | 'refused' | 'failed' | 'tested';
          updated_at?: string;
        };
        Update: {
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          depth?: number;
          dry_run?: boolean;
          duplicate_count?: number;
          error?: string | null;
          error_code?: string | null;
          event?: string | null;
          execution_id?: string | null;
          external_id?: string | null;
          finished_at?: string | null;
          headers?: NonNullable<Json>;
          id?: string;
          input?: Json | null;
          org_id?: string;
          payload?: Json | null;
          payload_bytes?: number;
          project_id?: string | null;
          redelivery_of?: string | null;
          reflex_id?: string;
          source?: 'webhook' | 'event' | 'repository' | 'test';
          status?: 'received' | 'filtered' | 'queued' | 'refused' | 'failed' | 'tested';
          updated_at?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'reflex_deliveries_org_id_execution_id_fkey';
            columns: ['org_id', 'execution_id'];
            isOneToOne: false;
            referencedRelation: 'executions';
            referencedColumns: ['org_id', 'id'];
          },
          {
            foreignKeyName: 'reflex_deliveries_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
          {
            foreignKeyName: 'reflex_deliveries_org_id_project_id_fkey';
            columns: ['org_id', 'project_id'];
            isOneToOne: false;
            referencedRelation: 'projects';
            referencedColumns: ['org_id', 'id'];
          },
          {
            foreignKeyName: 'reflex_deliveries_org_id_reflex_id_fkey';
            columns: ['org_id', 'reflex_id'];
            isOneToOne: false;
            referencedRelation: 'reflexes';
            referencedColumns: ['org_id', 'id'];
          },
        ];
      };
      reflexes: {
        Row: {
          authorized_by: string | null;
          authorized_by_key: string | null;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          enabled: boolean;
          event: string | null;
          filter: string | null;
          id: string;
          input_mapping: Json | null;
          last_error: string | null;
          last_error_at: string | null;
          last_error_code: string | null;
          last_rejected_at: string | null;
          name: string;
          org_id: string;
          rate_per_minute: number;
          refuse_same_body: boolean;
          rejected_count: number;
          repository_id: string | null;
          secret_prefix: string;
          signature_header: string;
          skill_id: string;
          source: 'webhook' | 'event' | 'repository';
          updated_at: string;
          verification: 'standard_webhooks' | 'github' | 'stripe' | 'hmac' | 'bearer';
          signing_secret: string | null;
        };
        ComputedFields: 'signing_secret';
        Insert: {
          authorized_by?: string | null;
          authorized_by_key?: string | null;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          enabled?: boolean;
          event?: string | null;
          filter?: string | null;
          id?: string;
          input_mapping?: Json | null;
          last_error?: string | null;
          last_error_at?: string | null;
          last_error_code?: string | null;
          last_rejected_at?: string | null;
          name: string;
          org_id?: string;
          rate_per_minute?: number;
          refuse_same_body?: boolean;
          rejected_count?: number;
          repository_id?: string | null;
          secret_prefix?: string;
          signature_header?: string;
          skill_id: string;
          source?: 'webhook' | 'event' | 'repository';
          updated_at?: string;
          verification?: 'standard_webhooks' | 'github' | 'stripe' | 'hmac' | 'bearer';
        };
        Update: {
          authorized_by?: string | null;
          authorized_by_key?: string | null;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          enabled?: boolean;
          event?: string | null;
          filter?: string | null;
          id?: string;
          input_mapping?: Json | null;
          last_error?: string | null;
          last_error_at?: string | null;
          last_error_code?: string | null;
          last_rejected_at?: string | null;
          name?: string;
          org_id?: string;
          rate_per_minute?: number;
          refuse_same_body?: boolean;
          rejected_count?: number;
          repository_id?: string | null;
          secret_prefix?: string;
          signature_header?: string;
          skill_id?: string;
          source?: 'webhook' | 'event' | 'repository';
          updated_at?: string;
          verification?: 'standard_webhooks' | 'github' | 'stripe' | 'hmac' | 'bearer';
        };
        Relationships: [
          {
            foreignKeyName: 'reflexes_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
          {
            foreignKeyName: 'reflexes_org_id_repository_id_fkey';
            columns: ['org_id', 'repository_id'];
            isOneToOne: false;
            referencedRelation: 'repositories';
            referencedColumns: ['org_id', 'id'];
          },
          {
            foreignKeyName: 'reflexes_org_id_skill_id_fkey';
            columns: ['org_id', 'skill_id'];
            isOneToOne: false;
            referencedRelation: 'skills';
            referencedColumns: ['org_id', 'id'];
          },
        ];
      };
      repositories: {
        Row: {
          api_key_id: string | null;
          branch_override: string | null;
          clone_url: string;
          connection_id: string | null;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          default_branch: string;
          exclude_paths: string[];
          extra_branches: string[];
          full_name: string;
          id: string;
          include_paths: string[];
          indexed_at: string | null;
          last_error: string | null;
          last_error_code: string | null;
          org_id: string;
          project_id: string | null;
          provider: 'github' | 'gitlab' | 'git';
          requested_by: string | null;
          status: 'pending' | 'indexing' | 'ready' | 'failed';
          updated_at: string;
          webhook_secret_issued_at: string | null;
        };
        ComputedFields: never;
        Insert: {
          api_key_id?: string | null;
          branch_override?: string | null;
          clone_url?: string;
          connection_id?: string | null;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          default_branch?: string;
          exclude_paths?: string[];
          extra_branches?: string[];
          full_name?: string;
          id?: string;
          include_paths?: string[];
          indexed_at?: string | null;
          last_error?: string | null;
          last_error_code?: string | null;
          org_id?: string;
          project_id?: string | null;
          provider?: 'github' | 'gitlab' | 'git';
          requested_by?: string | null;
          status?: 'pending' | 'indexing' | 'ready' | 'failed';
          updated_at?: string;
          webhook_secret_issued_at?: string | null;
        };
        Update: {
          api_key_id?: string | null;
          branch_override?: string | null;
          clone_url?: string;
          connection_id?: string | null;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          default_branch?: string;
          exclude_paths?: string[];
          extra_branches?: string[];
          full_name?: string;
          id?: string;
          include_paths?: string[];
          indexed_at?: string | null;
          last_error?: string | null;
          last_error_code?: string | null;
          org_id?: string;
          project_id?: string | null;
          provider?: 'github' | 'gitlab' | 'git';
          requested_by?: string | null;
          status?: 'pending' | 'indexing' | 'ready' | 'failed';
          updated_at?: string;
          webhook_secret_issued_at?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: 'repositories_connection_id_fkey';
            columns: ['org_id', 'connection_id'];
            isOneToOne: false;
            referencedRelation: 'connections';
            referencedColumns: ['org_id', 'id'];
          },
          {
            foreignKeyName: 'repositories_org_id_api_key_id_fkey';
            columns: ['org_id', 'api_key_id'];
            isOneToOne: false;
            referencedRelation: 'api_keys';
            referencedColumns: ['org_id', 'id'];
          },
          {
            foreignKeyName: 'repositories_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
          {
            foreignKeyName: 'repositories_org_id_project_id_fkey';
            columns: ['org_id', 'project_id'];
            isOneToOne: false;
            referencedRelation: 'projects';
            referencedColumns: ['org_id', 'id'];
          },
          {
            foreignKeyName: 'repositories_org_id_requested_by_fkey';
            columns: ['org_id', 'requested_by'];
            isOneToOne: false;
            referencedRelation: 'memberships';
            referencedColumns: ['org_id', 'user_id'];
          },
        ];
      };
      repository_branches: {
        Row: {
          bytes: number;
          commit_sha: string;
          committed_at: string | null;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          files: number;
          id: string;
          indexed_at: string;
          indexing_seq: number;
          name: string;
          org_id: string;
          repository_id: string;
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          bytes?: number;
          commit_sha: string;
          committed_at?: string | null;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          files?: number;
          id?: string;
          indexed_at?: string;
          indexing_seq: number;
          name: string;
          org_id?: string;
          repository_id: string;
          updated_at?: string;
        };
        Update: {
          bytes?: number;
          commit_sha?: string;
          committed_at?: string | null;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          files?: number;
          id?: string;
          indexed_at?: string;
          indexing_seq?: number;
          name?: string;
          org_id?: string;
          repository_id?: string;
          updated_at?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'repository_branches_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
          {
            foreignKeyName: 'repository_branches_org_id_repository_id_fkey';
            columns: ['org_id', 'repository_id'];
            isOneToOne: false;
            referencedRelation: 'repositories';
            referencedColumns: ['org_id', 'id'];
          },
        ];
      };
      research_sources: {
        Row: {
          canonical_url: string;
          collector: string;
          content_hash: string | null;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          excerpt: string;
          host: string;
          id: string;
          language: string | null;
          org_id: string;
          published_at: string | null;
          score: number | null;
          score_parts: Json | null;
          scored_at: string | null;
          title: string;
          topic_id: string;
          updated_at: string;
          url: string;
        };
        ComputedFields: never;
        Insert: {
          canonical_url?: never;
          collector?: string;
          content_hash?: never;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          excerpt?: string;
          host?: never;
          id?: string;
          language?: string | null;
          org_id?: string;
          published_at?: string | null;
          score?: number | null;
          score_parts?: Json | null;
          scored_at?: string | null;
          title?: string;
          topic_id: string;
          updated_at?: string;
          url: string;
        };
        Update: {
          canonical_url?: never;
          collector?: string;
          content_hash?: never;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          excerpt?: string;
          host?: never;
          id?: string;
          language?: string | null;
          org_id?: string;
          published_at?: string | null;
          score?: number | null;
          score_parts?: Json | null;
          scored_at?: string | null;
          title?: string;
          topic_id?: string;
          updated_at?: string;
          url?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'research_sources_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
          {
            foreignKeyName: 'research_sources_org_id_topic_id_fkey';
            columns: ['org_id', 'topic_id'];
            isOneToOne: false;
            referencedRelation: 'topics';
            referencedColumns: ['org_id', 'id'];
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
      skill_versions: {
        Row: {
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          id: string;
          input_schema: NonNullable<Json>;
          model: string;
          org_id: string;
          parameters: NonNullable<Json>;
          prompt_label: string | null;
          prompt_path: string | null;
          prompt_template: string;
          size_bytes: number;
          skill_id: string;
          updated_at: string;
          version: number;
        };
        ComputedFields: never;
        Insert: {
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          id?: string;
          input_schema: NonNullable<Json>;
          model: string;
          org_id?: string;
          parameters: NonNullable<Json>;
          prompt_label?: string | null;
          prompt_path?: string | null;
          prompt_template: string;
          size_bytes?: never;
          skill_id: string;
          updated_at?: string;
          version: number;
        };
        Update: {
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          id?: string;
          input_schema?: NonNullable<Json>;
          model?: string;
          org_id?: string;
          parameters?: NonNullable<Json>;
          prompt_label?: string | null;
          prompt_path?: string | null;
          prompt_template?: string;
          size_bytes?: never;
          skill_id?: string;
          updated_at?: string;
          version?: number;
        };
        Relationships: [
          {
            foreignKeyName: 'skill_versions_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
          {
            foreignKeyName: 'skill_versions_org_id_skill_id_fkey';
            columns: ['org_id', 'skill_id'];
            isOneToOne: false;
            referencedRelation: 'skills';
            referencedColumns: ['org_id', 'id'];
          },
        ];
      };
      skills: {
        Row: {
          checked_at: string | null;
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
          problems: NonNullable<Json>;
          project_id: string | null;
          prompt_label: string | null;
          prompt_path: string | null;
          prompt_template: string;
          tags: string[];
          updated_at: string;
          version: number;
        };
        ComputedFields: never;
        Insert: {
          checked_at?: string | null;
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
          problems?: NonNullable<Json>;
          project_id?: string | null;
          prompt_label?: string | null;
          prompt_path?: string | null;
          prompt_template?: string;
          tags?: string[];
          updated_at?: string;
          version?: number;
        };
        Update: {
          checked_at?: string | null;
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
          problems?: NonNullable<Json>;
          project_id?: string | null;
          prompt_label?: string | null;
          prompt_path?: string | null;
          prompt_template?: string;
          tags?: string[];
          updated_at?: string;
          version?: number;
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
      social_media_files: {
        Row: {
          bytes: number | null;
          content_type: 'image/jpeg' | 'image/png' | 'image/gif' | null;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          frames: number | null;
          height: number | null;
          id: string;
          measured_at: string | null;
          org_id: string;
          path: string;
          reason: 'unknown_type' | 'incomplete' | 'no_size' | 'too_large' | 'missing' | null;
          status: 'pending' | 'measured' | 'unreadable';
          updated_at: string;
          version: string;
          width: number | null;
        };
        ComputedFields: never;
        Insert: {
          bytes?: number | null;
          content_type?: 'image/jpeg' | 'image/png' | 'image/gif' | null;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          frames?: number | null;
          height?: number | null;
          id?: string;
          measured_at?: string | null;
          org_id?: string;
          path: string;
          reason?: 'unknown_type' | 'incomplete' | 'no_size' | 'too_large' | 'missing' | null;
          status?: 'pending' | 'measured' | 'unreadable';
          updated_at?: string;
          version: string;
          width?: number | null;
        };
        Update: {
          bytes?: number | null;
          content_type?: 'image/jpeg' | 'image/png' | 'image/gif' | null;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          frames?: number | null;
          height?: number | null;
          id?: string;
          measured_at?: string | null;
          org_id?: string;
          path?: string;
          reason?: 'unknown_type' | 'incomplete' | 'no_size' | 'too_large' | 'missing' | null;
          status?: 'pending' | 'measured' | 'unreadable';
          updated_at?: string;
          version?: string;
          width?: number | null;
        };
        Relationships: [
          {
            foreignKeyName: 'social_media_files_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
        ];
      };
      social_posts: {
        Row: {
          approval_status: 'none' | 'submitted' | 'approved' | 'rejected';
          attempts: number;
          blog_post_id: string | null;
          connection_id: string | null;
          cost_microusd: number;
          cost_usd: number | null;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          error: string | null;
          error_code: string | null;
          hashtags: string[];
          id: string;
          media: NonNullable<Json>;
          org_id: string;
          platform: 'linkedin' | 'facebook' | 'instagram' | 'twitter';
          platform_post_id: string | null;
          platform_url: string | null;
          publish_after: string | null;
          published_at: string | null;
          revision: number;
          scheduled_at: string | null;
          scheduled_local: string | null;
          status: 'draft' | 'scheduled' | 'publishing' | 'published' | 'failed' | 'missed' | 'unconfirmed' | 'cancelled';
          text: string;
          text_hash: string | null;
          time_zone: string | null;
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          approval_status?: 'none' | 'submitted' | 'approved' | 'rejected';
          attempts?: number;
          blog_post_id?: string | null;
          connection_id?: string | null;
          cost_microusd?: number;
          cost_usd?: never;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          error?: string | null;
          error_code?: string | null;
          hashtags?: string[];
          id?: string;
          media?: NonNullable<Json>;
          org_id?: string;
          platform: 'linkedin' | 'facebook' | 'instagram' | 'twitter';
          platform_post_id?: string | null;
          platform_url?: string | null;
          publish_after?: string | null;
          published_at?: string | null;
          revision?: number;
          scheduled_at?: string | null;
          scheduled_local?: string | null;
          status?: 'draft' | 'scheduled' | 'publishing' | 'published' | 'failed' | 'missed' | 'unconfirmed' | 'cancelled';
          text?: string;
          text_hash?: never;
          time_zone?: string | null;
          updated_at?: string;
        };
        Update: {
          approval_status?: 'none' | 'submitted' | 'approved' | 'rejected';
          attempts?: number;
          blog_post_id?: string | null;
          connection_id?: string | null;
          cost_microusd?: number;
          cost_usd?: never;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          error?: string | null;
          error_code?: string | null;
          hashtags?: string[];
          id?: string;
          media?: NonNullable<Json>;
          org_id?: string;
          platform?: 'linkedin' | 'facebook' | 'instagram' | 'twitter';
          platform_post_id?: string | null;
          platform_url?: string | null;
          publish_after?: string | null;
          published_at?: string | null;
          revision?: number;
          scheduled_at?: string | null;
          scheduled_local?: string | null;
          status?: 'draft' | 'scheduled' | 'publishing' | 'published' | 'failed' | 'missed' | 'unconfirmed' | 'cancelled';
          text?: string;
          text_hash?: never;
          time_zone?: string | null;
          updated_at?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'social_posts_org_id_blog_post_id_fkey';
            columns: ['org_id', 'blog_post_id'];
            isOneToOne: false;
            referencedRelation: 'blog_posts';
            referencedColumns: ['org_id', 'id'];
          },
          {
            foreignKeyName: 'social_posts_org_id_connection_id_fkey';
            columns: ['org_id', 'connection_id'];
            isOneToOne: false;
            referencedRelation: 'connections';
            referencedColumns: ['org_id', 'id'];
          },
          {
            foreignKeyName: 'social_posts_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
        ];
      };
      social_settings: {
        Row: {
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          id: string;
          missed_after_minutes: number;
          org_id: string;
          require_approval: boolean;
          time_zone: string;
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          id?: string;
          missed_after_minutes?: number;
          org_id?: string;
          require_approval?: boolean;
          time_zone?: string;
          updated_at?: string;
        };
        Update: {
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          id?: string;
          missed_after_minutes?: number;
          org_id?: string;
          require_approval?: boolean;
          time_zone?: string;
          updated_at?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'social_settings_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: true;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
        ];
      };
      source_embeddings: {
        Row: {
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          embedding: number[];
          id: string;
          model: string;
          org_id: string;
          source_id: string;
          text_hash: string;
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          embedding: number[];
          id?: string;
          model: string;
          org_id?: string;
          source_id: string;
          text_hash: string;
          updated_at?: string;
        };
        Update: {
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          embedding?: number[];
          id?: string;
          model?: string;
          org_id?: string;
          source_id?: string;
          text_hash?: string;
          updated_at?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'source_embeddings_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
          {
            foreignKeyName: 'source_embeddings_org_id_source_id_fkey';
            columns: ['org_id', 'source_id'];
            isOneToOne: false;
            referencedRelation: 'research_sources';
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
      stripe_credit_notes: {
        Row: {
          as_of: string;
          currency: string;
          id: string;
          invoice_id: string;
          livemode: boolean;
          number: string | null;
          org_id: string | null;
          pdf: string | null;
          reason: string | null;
          status: string;
          total: number;
          vat_credit_id: string | null;
        };
        ComputedFields: never;
        Insert: {
          as_of: string;
          currency: string;
          id: string;
          invoice_id: string;
          livemode: boolean;
          number?: string | null;
          org_id?: string | null;
          pdf?: string | null;
          reason?: string | null;
          status: string;
          total: number;
          vat_credit_id?: string | null;
        };
        Update: {
          as_of?: string;
          currency?: string;
          id?: string;
          invoice_id?: string;
          livemode?: boolean;
          number?: string | null;
          org_id?: string | null;
          pdf?: string | null;
          reason?: string | null;
          status?: string;
          total?: number;
          vat_credit_id?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: 'stripe_credit_notes_org_id_fkey';
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
          tax: number;
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
          tax?: number;
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
          tax?: number;
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
      stripe_mandates: {
        Row: {
          as_of: string;
          id: string;
          livemode: boolean;
          org_id: string | null;
          payment_method_id: string | null;
          reference: string | null;
          status: string;
        };
        ComputedFields: never;
        Insert: {
          as_of: string;
          id: string;
          livemode: boolean;
          org_id?: string | null;
          payment_method_id?: string | null;
          reference?: string | null;
          status: string;
        };
        Update: {
          as_of?: string;
          id?: string;
          livemode?: boolean;
          org_id?: string | null;
          payment_method_id?: string | null;
          reference?: string | null;
          status?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'stripe_mandates_org_id_fkey';
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
          payment_lost_at: string | null;
          status: string;
          tax_rate_ids: string[];
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
          payment_lost_at?: string | null;
          status: string;
          tax_rate_ids?: string[];
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
          payment_lost_at?: string | null;
          status?: string;
          tax_rate_ids?: string[];
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
      topics: {
        Row: {
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          description: string;
          id: string;
          keywords: string[];
          language: string;
          org_id: string;
          origin: string;
          researched_at: string | null;
          score: number | null;
          score_parts: Json | null;
          scored_at: string | null;
          source_count: number;
          status: 'discovered' | 'researched' | 'written';
          title: string;
          title_key: string;
          updated_at: string;
          written_at: string | null;
        };
        ComputedFields: never;
        Insert: {
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          description?: string;
          id?: string;
          keywords?: string[];
          language?: string;
          org_id?: string;
          origin?: string;
          researched_at?: string | null;
          score?: number | null;
          score_parts?: Json | null;
          scored_at?: string | null;
          source_count?: number;
          status?: 'discovered' | 'researched' | 'written';
          title: string;
          title_key?: never;
          updated_at?: string;
          written_at?: string | null;
        };
        Update: {
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          description?: string;
          id?: string;
          keywords?: string[];
          language?: string;
          org_id?: string;
          origin?: string;
          researched_at?: string | null;
          score?: number | null;
          score_parts?: Json | null;
          scored_at?: string | null;
          source_count?: number;
          status?: 'discovered' | 'researched' | 'written';
          title?: string;
          title_key?: never;
          updated_at?: string;
          written_at?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: 'topics_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
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
      vat_checks: {
        Row: {
          address: string | null;
          attempts: number;
          consultation_number: string | null;
          consulted_at: string | null;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          error: string | null;
          id: string;
          name: string | null;
          org_id: string;
          requester_number: string | null;
          status: 'pending' | 'unavailable' | 'valid' | 'invalid';
          updated_at: string;
          vat_number: string;
          vies_date: string | null;
        };
        ComputedFields: never;
        Insert: {
          address?: string | null;
          attempts?: number;
          consultation_number?: string | null;
          consulted_at?: string | null;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          error?: string | null;
          id?: string;
          name?: string | null;
          org_id?: string;
          requester_number?: string | null;
          status?: 'pending' | 'unavailable' | 'valid' | 'invalid';
          updated_at?: string;
          vat_number: string;
          vies_date?: string | null;
        };
        Update: {
          address?: string | null;
          attempts?: number;
          consultation_number?: string | null;
          consulted_at?: string | null;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          error?: string | null;
          id?: string;
          name?: string | null;
          org_id?: string;
          requester_number?: string | null;
          status?: 'pending' | 'unavailable' | 'valid' | 'invalid';
          updated_at?: string;
          vat_number?: string;
          vies_date?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: 'vat_checks_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
        ];
      };
      vat_evidence: {
        Row: {
          country: string;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          id: string;
          kind: 'billing_address' | 'payment_method' | 'ip_address';
          last_seen_at: string;
          org_id: string;
          reference: string;
          updated_at: string;
          vat_country: string | null;
        };
        ComputedFields: never;
        Insert: {
          country: string;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          id?: string;
          kind: 'billing_address' | 'payment_method' | 'ip_address';
          last_seen_at?: string;
          org_id?: string;
          reference?: string;
          updated_at?: string;
          vat_country?: string | null;
        };
        Update: {
          country?: string;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          id?: string;
          kind?: 'billing_address' | 'payment_method' | 'ip_address';
          last_seen_at?: string;
          org_id?: string;
          reference?: string;
          updated_at?: string;
          vat_country?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: 'vat_evidence_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
        ];
      };
      webhook_deliveries: {
        Row: {
          action: string | null;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          delivery_id: string | null;
          duplicate_count: number;
          error: string | null;
          error_code: string | null;
          event: string;
          headers: NonNullable<Json>;
          id: string;
          org_id: string;
          payload: Json | null;
          payload_bytes: number;
          processed_at: string | null;
          project_id: string | null;
          reflex_count: number;
          repository_id: string;
          status: 'pending' | 'processing' | 'completed' | 'failed' | 'ignored';
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          action?: string | null;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          delivery_id?: string | null;
          duplicate_count?: number;
          error?: string | null;
          error_code?: string | null;
          event: string;
          headers?: NonNullable<Json>;
          id?: string;
          org_id?: string;
          payload?: Json | null;
          payload_bytes?: number;
          processed_at?: string | null;
          project_id?: string | null;
          reflex_count?: number;
          repository_id: string;
          status?: 'pending' | 'processing' | 'completed' | 'failed' | 'ignored';
          updated_at?: string;
        };
        Update: {
          action?: string | null;
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          delivery_id?: string | null;
          duplicate_count?: number;
          error?: string | null;
          error_code?: string | null;
          event?: string;
          headers?: NonNullable<Json>;
          id?: string;
          org_id?: string;
          payload?: Json | null;
          payload_bytes?: number;
          processed_at?: string | null;
          project_id?: string | null;
          reflex_count?: number;
          repository_id?: string;
          status?: 'pending' | 'processing' | 'completed' | 'failed' | 'ignored';
          updated_at?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'webhook_deliveries_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
          {
            foreignKeyName: 'webhook_deliveries_org_id_project_id_fkey';
            columns: ['org_id', 'project_id'];
            isOneToOne: false;
            referencedRelation: 'projects';
            referencedColumns: ['org_id', 'id'];
          },
          {
            foreignKeyName: 'webhook_deliveries_org_id_repository_id_fkey';
            columns: ['org_id', 'repository_id'];
            isOneToOne: false;
            referencedRelation: 'repositories';
            referencedColumns: ['org_id', 'id'];
          },
        ];
      };
      webhook_endpoints: {
        Row: {
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          description: string;
          disabled_at: string | null;
          disabled_reason: 'user' | 'gone' | 'failing' | null;
          enabled: boolean;
          event_types: string[] | null;
          failing_since: string | null;
          failure_count: number;
          filter: Json | null;
          former_secret_until: string | null;
          id: string;
          include_private_projects: boolean;
          last_success_at: string | null;
          org_id: string;
          public_key: string | null;
          signature: 'hmac' | 'ed25519';
          updated_at: string;
          url: string;
          webhook_secret: string | null;
        };
        ComputedFields: 'webhook_secret';
        Insert: {
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          description?: string;
          disabled_at?: string | null;
          disabled_reason?: 'user' | 'gone' | 'failing' | null;
          enabled?: boolean;
          event_types?: string[] | null;
          failing_since?: string | null;
          failure_count?: number;
          filter?: Json | null;
          former_secret_until?: string | null;
          id?: string;
          include_private_projects?: boolean;
          last_success_at?: string | null;
          org_id?: string;
          public_key?: string | null;
          signature?: 'hmac' | 'ed25519';
          updated_at?: string;
          url: string;
        };
        Update: {
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          description?: string;
          disabled_at?: string | null;
          disabled_reason?: 'user' | 'gone' | 'failing' | null;
          enabled?: boolean;
          event_types?: string[] | null;
          failing_since?: string | null;
          failure_count?: number;
          filter?: Json | null;
          former_secret_until?: string | null;
          id?: string;
          include_private_projects?: boolean;
          last_success_at?: string | null;
          org_id?: string;
          public_key?: string | null;
          signature?: 'hmac' | 'ed25519';
          updated_at?: string;
          url?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'webhook_endpoints_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
        ];
      };
      webhook_event_types: {
        Row: {
          description: string;
          example: NonNullable<Json>;
          name: string;
          permission: string;
          version: number;
        };
        ComputedFields: never;
        Insert: {
          description: string;
          example: NonNullable<Json>;
          name: string;
          permission: string;
          version?: number;
        };
        Update: {
          description?: string;
          example?: NonNullable<Json>;
          name?: string;
          permission?: string;
          version?: number;
        };
        Relationships: [];
      };
      webhook_messages: {
        Row: {
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          entity: string;
          id: string;
          org_id: string;
          payload: NonNullable<Json>;
          payload_bytes: number;
          permission: string;
          project_id: string | null;
          type: string;
          updated_at: string;
          version: number;
        };
        ComputedFields: never;
        Insert: {
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          entity: string;
          id?: string;
          org_id?: string;
          payload: NonNullable<Json>;
          payload_bytes?: never;
          permission: string;
          project_id?: string | null;
          type: string;
          updated_at?: string;
          version: number;
        };
        Update: {
          created_at?: string;
          created_by?: string | null;
          created_by_key?: string | null;
          entity?: string;
          id?: string;
          org_id?: string;
          payload?: NonNullable<Json>;
          payload_bytes?: never;
          permission?: string;
          project_id?: string | null;
          type?: string;
          updated_at?: string;
          version?: number;
        };
        Relationships: [
          {
            foreignKeyName: 'webhook_messages_org_id_fkey';
            columns: ['org_id'];
            isOneToOne: false;
            referencedRelation: 'organizations';
            referencedColumns: ['id'];
          },
          {
            foreignKeyName: 'webhook_messages_org_id_project_id_fkey';
            columns: ['org_id', 'project_id'];
            isOneToOne: false;
            referencedRelation: 'projects';
            referencedColumns: ['org_id', 'id'];
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
      token_usage: {
        Row: {
          api_key_id: string | null;
          day: string;
          entries: number;
          id: string;
          meter: string;
          org_id: string;
          overage: number;
          repository_id: string | null;
          used: number;
        };
        ComputedFields: never;
        Insert: {
          api_key_id?: string | null;
          day?: string | null;
          entries?: number | null;
          id?: string | null;
          meter?: string | null;
          org_id?: string | null;
          overage?: number | null;
          repository_id?: string | null;
          used?: number | null;
        };
        Update: {
          api_key_id?: string | null;
          day?: string | null;
          entries?: number | null;
          id?: string | null;
          meter?: string | null;
          org_id?: string | null;
          overage?: number | null;
          repository_id?: string | null;
          used?: number | null;
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
          is_break_glass: boolean;
          mfa_required: boolean;
          org_id: string;
          role: 'viewer' | 'member' | 'admin' | 'owner';
          sso_required: boolean;
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
        Returns: string | null;
      };
      add_research_source: {
        Args: { excerpt?: string; language?: string | null; published_at?: string | null; title?: string; topic_id: string; url: string };
        Returns: {
          canonical_url: string;
          collector: string;
          content_hash: string | null;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          excerpt: string;
          host: string;
          id: string;
          language: string | null;
          org_id: string;
          published_at: string | null;
          score: number | null;
          score_parts: Json | null;
          scored_at: string | null;
          title: string;
          topic_id: string;
          updated_at: string;
          url: string;
        };
        SetofOptions: {
          from: '*';
          to: 'research_sources';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      analytics_funnel: { Args: { query: Json }; Returns: Json };
      analytics_retention: { Args: { query: Json }; Returns: Json };
      analytics_series: { Args: { query: Json }; Returns: Json };
      approve_change: {
        Args: { approval_id: string; reason?: string | null };
        Returns: {
          change: NonNullable<Json>;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          decided_at: string | null;
          decided_by: string | null;
          decision_reason: string | null;
          expires_at: string;
          id: string;
          kind: string;
          org_id: string;
          reason: string | null;
          requested_by: string | null;
          status: 'pending' | 'approved' | 'rejected' | 'expired' | 'withdrawn';
          subject_id: string;
          subject_part: string;
          title: string;
          updated_at: string;
        };
        SetofOptions: {
          from: '*';
          to: 'approvals';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      archive_notifications: { Args: { archived?: boolean; ids: string[] }; Returns: number };
      archive_project: {
        Args: { project_id: string };
        Returns: {
          archived_at: string | null;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          description: string | null;
          id: string;
          name: string;
          org_id: string;
          settings: NonNullable<Json>;
          slug: string;
          updated_at: string;
          visibility: 'organization' | 'private';
        };
        SetofOptions: {
          from: '*';
          to: 'projects';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      authorize_billing: { Args: { action: string; arguments?: Json }; Returns: Json };
      authorize_function: { Args: { name: string }; Returns: Json };
      authorize_llm_call: {
        Args: {
          choices?: number;
          fields?: string[];
          images?: number;
          input_tokens?: number;
          kind?: string;
          max_output_tokens?: number | null;
          model: string;
          project_id?: string | null;
          prompt_version_id?: string | null;
          skill_id?: string | null;
          trace_id?: string | null;
        };
        Returns: Json;
      };
      before_request: { Args: Record<PropertyKey, never>; Returns: undefined };
      begin_connection: {
        Args: { connection_id?: string | null; provider?: string | null; redirect_to?: string | null; scopes?: string[] | null };
        Returns: Database['public']['CompositeTypes']['begun_connection'];
        SetofOptions: {
          from: '*';
          to: 'begun_connection';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      blog_feed: { Args: { format?: string; org_slug: string; post_locale?: string | null }; Returns: unknown };
      can: { Args: { org: string; permission: string }; Returns: boolean };
      cancel_erasure: { Args: { request_id: string }; Returns: undefined };
      cancel_execution: {
        Args: { id: string };
        Returns: {
          cache_read_tokens: number;
          cache_write_tokens: number;
          cost_microusd: number;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          depth: number;
          error: string | null;
          error_code: string | null;
          finished_at: string | null;
          habit_id: string | null;
          hold_id: string | null;
          id: string;
          idempotency_key: string | null;
          input: NonNullable<Json>;
          input_files: NonNullable<Json>;
          input_tokens: number;
          job_id: string | null;
          managers_only: boolean;
          model: string | null;
          org_id: string;
          output: Json | null;
          output_tokens: number;
          project_id: string | null;
          prompt_id: string | null;
          prompt_version: number | null;
          reflex_delivery_id: string | null;
          reflex_id: string | null;
          retry_of: string | null;
          scheduled_for: string | null;
          skill_id: string | null;
          skill_version: number | null;
          skip_count: number;
          started_at: string | null;
          status: 'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled' | 'skipped';
          trigger: 'manual' | 'api' | 'habit' | 'reflex' | 'retry' | 'test';
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
      cancel_executions: {
        Args: { ids: string[] };
        Returns: {
          error: Json | null;
          execution: Database['public']['Tables']['executions']['Row'] | null;
          id: string;
        }[];
      };
      cancel_flag_change: {
        Args: { change_id: string };
        Returns: {
          apply_at: string;
          approval_id: string | null;
          basis: string | null;
          change: NonNullable<Json>;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          environment: string;
          error: string | null;
          finished_at: string | null;
          flag_id: string;
          id: string;
          org_id: string;
          reason: string | null;
          status: 'scheduled' | 'applied' | 'failed' | 'cancelled';
          updated_at: string;
        };
        SetofOptions: {
          from: '*';
          to: 'flag_changes';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      cancel_indexing: {
        Args: { indexing_job_id: string };
        Returns: {
          base_commit_sha: string | null;
          branch: string;
          bytes: number;
          cancel_requested: boolean;
          commit_sha: string | null;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          error: string | null;
          error_code: string | null;
          files_done: number;
          files_total: number;
          finished_at: string | null;
          id: string;
          org_id: string;
          phase: 'fetching' | 'parsing' | 'writing' | 'committing' | 'waiting' | null;
          queue_job_id: string | null;
          repository_id: string;
          seq: number;
          started_at: string | null;
          status: 'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled' | 'superseded';
          trigger: 'manual' | 'push' | 'ingestion' | 'schedule';
          updated_at: string;
        };
        SetofOptions: {
          from: '*';
          to: 'indexing_jobs';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      cancel_ingestion: {
        Args: { project_id: string };
        Returns: Database['public']['CompositeTypes']['ingestion_status'];
        SetofOptions: {
          from: '*';
          to: 'ingestion_status';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      cancel_social_post: {
        Args: { post_id: string };
        Returns: {
          approval_status: 'none' | 'submitted' | 'approved' | 'rejected';
          attempts: number;
          blog_post_id: string | null;
          connection_id: string | null;
          cost_microusd: number;
          cost_usd: number | null;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          error: string | null;
          error_code: string | null;
          hashtags: string[];
          id: string;
          media: NonNullable<Json>;
          org_id: string;
          platform: 'linkedin' | 'facebook' | 'instagram' | 'twitter';
          platform_post_id: string | null;
          platform_url: string | null;
          publish_after: string | null;
          published_at: string | null;
          revision: number;
          scheduled_at: string | null;
          scheduled_local: string | null;
          status: 'draft' | 'scheduled' | 'publishing' | 'published' | 'failed' | 'missed' | 'unconfirmed' | 'cancelled';
          text: string;
          text_hash: string | null;
          time_zone: string | null;
          updated_at: string;
        };
        SetofOptions: {
          from: '*';
          to: 'social_posts';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      change_flag: {
        Args: { apply_at?: string | null; change: Json; environment: string; flag: string; reason?: string | null };
        Returns: Json;
      };
      check_prompt: { Args: { label?: string | null; path?: string | null; version?: number | null }; Returns: Json };
      check_skill: { Args: { model?: string | null; parameters?: Json | null; skill_id?: string | null }; Returns: Json };
      check_vat_number: {
        Args: Record<PropertyKey, never>;
        Returns: {
          address: string | null;
          attempts: number;
          consultation_number: string | null;
          consulted_at: string | null;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          error: string | null;
          id: string;
          name: string | null;
          org_id: string;
          requester_number: string | null;
          status: 'pending' | 'unavailable' | 'valid' | 'invalid';
          updated_at: string;
          vat_number: string;
          vies_date: string | null;
        };
        SetofOptions: {
          from: '*';
          to: 'vat_checks';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      claim_export: { Args: { token: string }; Returns: string };
      code_candidates: {
        Args: {
          after?: string | null;
          branch?: string | null;
          languages?: string[] | null;
          literals?: Json;
          max_bytes?: number;
          path?: string | null;
          repository_id?: string | null;
        };
        Returns: Json;
      };
      code_overview: { Args: { branch?: string | null; repository_id?: string | null }; Returns: Json };
      compare_post_revisions: { Args: { from_revision: number; post_id: string; to_revision: number }; Returns: Json };
      compare_prompt_versions: {
        Args: { from_version: number; path: string; since?: string | null; to_version: number; until?: string | null };
        Returns: Json;
      };
      complete_connection: {
        Args: { code: string };
        Returns: {
          account_id: string;
          account_name: string | null;
          authorized_at: string;
          authorized_by: string | null;
          authorizer_left_at: string | null;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          error_code: string | null;
          expires_at: string | null;
          id: string;
          org_id: string;
          paused_at: string | null;
          paused_reason: 'expired' | 'revoked' | 'refresh_interrupted' | 'application_removed' | null;
          provider: string;
          refresh_expires_at: string | null;
          refreshed_at: string | null;
          scopes: string[];
          status: 'active' | 'paused';
          updated_at: string;
        };
        SetofOptions: {
          from: '*';
          to: 'connections';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      confirm_erasure: { Args: { code: string; request_id: string }; Returns: string };
      confirm_social_post: {
        Args: { platform_post_id?: string | null; post_id: string };
        Returns: {
          approval_status: 'none' | 'submitted' | 'approved' | 'rejected';
          attempts: number;
          blog_post_id: string | null;
          connection_id: string | null;
          cost_microusd: number;
          cost_usd: number | null;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          error: string | null;
          error_code: string | null;
          hashtags: string[];
          id: string;
          media: NonNullable<Json>;
          org_id: string;
          platform: 'linkedin' | 'facebook' | 'instagram' | 'twitter';
          platform_post_id: string | null;
          platform_url: string | null;
          publish_after: string | null;
          published_at: string | null;
          revision: number;
          scheduled_at: string | null;
          scheduled_local: string | null;
          status: 'draft' | 'scheduled' | 'publishing' | 'published' | 'failed' | 'missed' | 'unconfirmed' | 'cancelled';
          text: string;
          text_hash: string | null;
          time_zone: string | null;
          updated_at: string;
        };
        SetofOptions: {
          from: '*';
          to: 'social_posts';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      content_cost_report: {
        Args: { group_by?: string; n?: number; since?: string | null; until?: string | null };
        Returns: {
          cost_microusd: number;
          cost_usd: number;
          entries: number;
          id: string | null;
          title: string | null;
        }[];
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
          mfa_required: boolean;
          name: string;
          personal_for: string | null;
          slug: string;
          sso_required: boolean;
          updated_at: string;
        };
        SetofOptions: {
          from: '*';
          to: 'organizations';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      create_post: {
        Args: { fields?: Json; locale?: string; title: string; topic_id?: string | null; translation_of?: string | null };
        Returns: {
          approval_status: 'none' | 'submitted' | 'approved' | 'rejected';
          author_name: string | null;
          canonical_url: string | null;
          content_group_id: string;
          content_hash: string;
          content_html: string | null;
          content_html_hash: string | null;
          content_markdown: string;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          hero_image_id: string | null;
          id: string;
          locale: string;
          meta_description: string | null;
          meta_title: string | null;
          noindex: boolean;
          og_description: string | null;
          og_title: string | null;
          org_id: string;
          published_at: string | null;
          published_revision: number | null;
          reading_minutes: number;
          revision: number;
          scheduled_at: string | null;
          slug: string;
          status: 'draft' | 'ready' | 'scheduled' | 'published';
          summary: string;
          tags: string[];
          title: string;
          topic_id: string | null;
          updated_at: string;
          word_count: number;
        };
        SetofOptions: {
          from: '*';
          to: 'blog_posts';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      decline_invitation: { Args: { token: string }; Returns: undefined };
      delete_account: { Args: Record<PropertyKey, never>; Returns: undefined };
      delete_analytics_person: {
        Args: { anonymous_id?: string | null; person_id?: string | null; user_id?: string | null };
        Returns: Json;
      };
      delete_image: { Args: { image_id: string }; Returns: undefined };
      delete_post: { Args: { post_id: string }; Returns: undefined };
      delete_project_file: {
        Args: { file_id: string };
        Returns: {
          bytes: number;
          content_type: string | null;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          deleted_at: string | null;
          id: string;
          last_version: number;
          object_name: string;
          org_id: string;
          path: string;
          project_id: string;
          updated_at: string;
          version: number;
        };
        SetofOptions: {
          from: '*';
          to: 'project_files';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      delete_prompt: { Args: { path: string }; Returns: undefined };
      delete_secret: { Args: { name: string }; Returns: undefined };
      delete_skills: {
        Args: { ids: string[] };
        Returns: {
          code: string | null;
          done: boolean;
          id: string;
          message: string | null;
        }[];
      };
      describe_cron: { Args: { expression: string; timezone?: string }; Returns: string };
      diff_skill_versions: {
        Args: { from_version: number; skill_id: string; to_version?: number | null };
        Returns: {
          after: Json;
          before: Json;
          field: string;
        }[];
      };
      draft_post: {
        Args: { instructions?: string; kind?: string; model: string; post_id: string; revision: number };
        Returns: {
          applied_revision: number | null;
          base_revision: number;
          call_ids: string[];
          citations: NonNullable<Json>;
          content_markdown: string | null;
          cost_microusd: number;
          cost_usd: number;
          costs_pending: boolean;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          error: string | null;
          error_code: string | null;
          finished_at: string | null;
          id: string;
          instructions: string;
          kind: 'outline' | 'draft';
          model: string;
          org_id: string;
          post_id: string;
          status: 'queued' | 'running' | 'succeeded' | 'failed';
          updated_at: string;
        };
        SetofOptions: {
          from: '*';
          to: 'blog_drafts';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      duplicate_skill: {
        Args: { name?: string | null; skill_id: string };
        Returns: {
          checked_at: string | null;
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
          problems: NonNullable<Json>;
          project_id: string | null;
          prompt_label: string | null;
          prompt_path: string | null;
          prompt_template: string;
          tags: string[];
          updated_at: string;
          version: number;
        };
        SetofOptions: {
          from: '*';
          to: 'skills';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      embed_topic: { Args: { model: string; topic_id: string }; Returns: number };
      end_session: { Args: { session_id: string }; Returns: undefined };
      enroll_issuer: {
        Args: {
          audiences: string[];
          default_role?: string | null;
          email_domains?: string[] | null;
          org_claim?: string | null;
          org_value?: string | null;
          owns_roles?: boolean;
          role_claims?: string[];
          role_map?: Json;
          url: string;
        };
        Returns: Database['public']['CompositeTypes']['issuer'];
        SetofOptions: {
          from: '*';
          to: 'issuer';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      entitled: { Args: { feature: string }; Returns: boolean };
      execute_skill: {
        Args: { idempotency_key?: string | null; input?: Json; skill_id: string };
        Returns: {
          cache_read_tokens: number;
          cache_write_tokens: number;
          cost_microusd: number;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          depth: number;
          error: string | null;
          error_code: string | null;
          finished_at: string | null;
          habit_id: string | null;
          hold_id: string | null;
          id: string;
          idempotency_key: string | null;
          input: NonNullable<Json>;
          input_files: NonNullable<Json>;
          input_tokens: number;
          job_id: string | null;
          managers_only: boolean;
          model: string | null;
          org_id: string;
          output: Json | null;
          output_tokens: number;
          project_id: string | null;
          prompt_id: string | null;
          prompt_version: number | null;
          reflex_delivery_id: string | null;
          reflex_id: string | null;
          retry_of: string | null;
          scheduled_for: string | null;
          skill_id: string | null;
          skill_version: number | null;
          skip_count: number;
          started_at: string | null;
          status: 'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled' | 'skipped';
          trigger: 'manual' | 'api' | 'habit' | 'reflex' | 'retry' | 'test';
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
      execution_detail: { Args: { id: string }; Returns: Json };
      execution_stats: {
        Args: {
          by?: string | null;
          habit_id?: string | null;
          period?: string | null;
          project_id?: string | null;
          reflex_id?: string | null;
          since?: string | null;
          skill_id?: string | null;
          timezone?: string;
          until?: string | null;
        };
        Returns: {
          cancelled: number;
          cost_microusd: number;
          failed: number;
          input_tokens: number;
          last_run_at: string | null;
          output_tokens: number;
          p50_ms: number | null;
          p95_ms: number | null;
          period_start: string;
          runs: number;
          skipped: number;
          succeeded: number;
          success_rate: number | null;
          value: string | null;
        }[];
      };
      explain_access: { Args: { operation: string; row_id?: string | null; subject: string; table_name: string }; Returns: Json };
      explain_limit: { Args: { meter: string; org_id: string }; Returns: Json };
      export_audit_log: { Args: { after_position?: number; max_rows?: number; org_id?: string | null }; Returns: Json[] };
      export_skills: { Args: { ids?: string[] | null }; Returns: Json };
      flag_definitions: { Args: { environment?: string; known_revision?: number | null }; Returns: Json };
      flags: { Args: { context?: Json; environment?: string }; Returns: Json };
      generate_image: {
        Args: { alt_text?: string; kind?: string; model: string; post_id: string; prompt: string; revision: number; size?: string };
        Returns: {
          alt_text: string;
          applied_revision: number | null;
          base_revision: number;
          blog_post_id: string;
          bytes: number | null;
          call_ids: string[];
          content_hash: string | null;
          content_type: 'image/png' | 'image/jpeg' | null;
          cost_microusd: number;
          cost_usd: number;
          costs_pending: boolean;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          error: string | null;
          error_code: string | null;
          finished_at: string | null;
          height: number | null;
          id: string;
          kind: 'hero' | 'supporting';
          model: string;
          org_id: string;
          prompt: string;
          provider: string | null;
          size: string;
          status: 'queued' | 'running' | 'succeeded' | 'failed';
          storage_path: string | null;
          updated_at: string;
          width: number | null;
        };
        SetofOptions: {
          from: '*';
          to: 'images';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      get_prompt: { Args: { label?: string | null; path: string; version?: number | null }; Returns: Json };
      habit_stats: {
        Args: { habit_id: string; since?: string | null; until?: string | null };
        Returns: Database['public']['CompositeTypes']['execution_summary'];
        SetofOptions: {
          from: '*';
          to: 'execution_summary';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      has_role: { Args: { org: string; role: string }; Returns: boolean };
      image_url: {
        Args: { image: Omit<Database['public']['Tables']['images']['Row'], Database['public']['Tables']['images']['ComputedFields']> };
        Returns: string | null;
      };
      import_research: { Args: { document: Json; dry_run?: boolean }; Returns: Json };
      import_skills: {
        Args: { document: Json; on_conflict?: string };
        Returns: {
          code: string | null;
          message: string | null;
          name: string | null;
          place: number;
          skill_id: string | null;
          status: string;
        }[];
      };
      index_repository: {
        Args: { branch?: string | null; repository_id: string };
        Returns: {
          base_commit_sha: string | null;
          branch: string;
          bytes: number;
          cancel_requested: boolean;
          commit_sha: string | null;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          error: string | null;
          error_code: string | null;
          files_done: number;
          files_total: number;
          finished_at: string | null;
          id: string;
          org_id: string;
          phase: 'fetching' | 'parsing' | 'writing' | 'committing' | 'waiting' | null;
          queue_job_id: string | null;
          repository_id: string;
          seq: number;
          started_at: string | null;
          status: 'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled' | 'superseded';
          trigger: 'manual' | 'push' | 'ingestion' | 'schedule';
          updated_at: string;
        };
        SetofOptions: {
          from: '*';
          to: 'indexing_jobs';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      ingest_usage: { Args: { events: Json }; Returns: Json } | { Args: { events: Json; org_id: string }; Returns: Json };
      ingestion_status: {
        Args: { project_id: string };
        Returns: Database['public']['CompositeTypes']['ingestion_status'];
        SetofOptions: {
          from: '*';
          to: 'ingestion_status';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
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
      list_code_files: {
        Args: { after_path?: string | null; branch?: string | null; n?: number; path?: string | null; repository_id: string };
        Returns: Database['public']['CompositeTypes']['code_file'][];
        SetofOptions: {
          from: '*';
          to: 'code_file';
          isOneToOne: false;
          isSetofReturn: true;
        };
      };
      list_connection_providers: {
        Args: Record<PropertyKey, never>;
        Returns: Database['public']['CompositeTypes']['connection_provider'][];
        SetofOptions: {
          from: '*';
          to: 'connection_provider';
          isOneToOne: false;
          isSetofReturn: true;
        };
      };
      list_consents: {
        Args: Record<PropertyKey, never>;
        Returns: {
          created_at: string;
          granted: boolean;
          purpose: string;
          version: string;
        }[];
      };
      list_file_symbols: {
        Args: { branch?: string | null; path: string; repository_id: string };
        Returns: Database['public']['CompositeTypes']['symbol_match'][];
        SetofOptions: {
          from: '*';
          to: 'symbol_match';
          isOneToOne: false;
          isSetofReturn: true;
        };
      };
      list_issuers: {
        Args: Record<PropertyKey, never>;
        Returns: Database['public']['CompositeTypes']['issuer'][];
        SetofOptions: {
          from: '*';
          to: 'issuer';
          isOneToOne: false;
          isSetofReturn: true;
        };
      };
      list_llm_models: {
        Args: Record<PropertyKey, never>;
        Returns: {
          created_at: string;
          id: string;
          owned_by: string;
        }[];
      };
      list_notification_preferences: {
        Args: Record<PropertyKey, never>;
        Returns: {
          description: string;
          in_app: boolean;
          is_chosen: boolean;
          mail: string;
          mail_choices: string[];
          org_id: string;
          type: string;
        }[];
      };
      list_notifications: {
        Args: { after_cursor?: string | null; before_id?: string | null; include_archived?: boolean; limit?: number };
        Returns: {
          archived_at: string | null;
          audience: string;
          body: string | null;
          created_at: string;
          cursor: string;
          data: Json;
          id: string;
          link: string | null;
          org_id: string;
          project_id: string | null;
          read_at: string | null;
          seen_at: string | null;
          title: string;
          type: string;
        }[];
      };
      list_privacy_requests: {
        Args: Record<PropertyKey, never>;
        Returns: {
          bytes: number | null;
          created_at: string;
          due_at: string | null;
          error_code: string | null;
          expires_at: string | null;
          id: string;
          kind: string;
          org_id: string | null;
          requested_by: string | null;
          sha256: string | null;
          status: string;
          user_id: string;
        }[];
      };
      list_prompts: {
        Args: {
          after?: string | null;
          changed_since?: string | null;
          changed_until?: string | null;
          label?: string | null;
          n?: number;
          path?: string | null;
          prefix?: string | null;
          skip?: number;
          tag?: string | null;
          with_content?: boolean;
        };
        Returns: Json;
      };
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
      list_topics: {
        Args: { n?: number; query?: string | null; skip?: number; status?: string | null };
        Returns: {
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          description: string;
          id: string;
          keywords: string[];
          language: string;
          org_id: string;
          origin: string;
          researched_at: string | null;
          score: number | null;
          score_parts: Json | null;
          scored_at: string | null;
          source_count: number;
          status: 'discovered' | 'researched' | 'written';
          title: string;
          title_key: string;
          updated_at: string;
          written_at: string | null;
        }[];
        SetofOptions: {
          from: '*';
          to: 'topics';
          isOneToOne: false;
          isSetofReturn: true;
        };
      };
      list_webhook_attempts: {
        Args: { delivery_id: string };
        Returns: Database['public']['CompositeTypes']['webhook_attempt'][];
        SetofOptions: {
          from: '*';
          to: 'webhook_attempt';
          isOneToOne: false;
          isSetofReturn: true;
        };
      };
      list_webhook_deliveries: {
        Args: { before_id?: string | null; endpoint_id: string; limit?: number; status?: string | null };
        Returns: Database['public']['CompositeTypes']['webhook_delivery'][];
        SetofOptions: {
          from: '*';
          to: 'webhook_delivery';
          isOneToOne: false;
          isSetofReturn: true;
        };
      };
      llm_budget_usage: {
        Args: { budget_id?: string | null };
        Returns: Database['public']['CompositeTypes']['llm_budget_state'][];
        SetofOptions: {
          from: '*';
          to: 'llm_budget_state';
          isOneToOne: false;
          isSetofReturn: true;
        };
      };
      llm_usage: {
        Args: { by: string; since?: string | null; until?: string | null };
        Returns: Database['public']['CompositeTypes']['llm_usage_line'][];
        SetofOptions: {
          from: '*';
          to: 'llm_usage_line';
          isOneToOne: false;
          isSetofReturn: true;
        };
      };
      mark_read: { Args: { ids?: string[] | null; read?: boolean }; Returns: number };
      mark_seen: { Args: { ids?: string[] | null }; Returns: number };
      notify:
        | {
            Args: {
              body?: string | null;
              data?: Json;
              dedupe_key?: string | null;
              link?: string | null;
              title: string;
              type: string;
              user_id?: string | null;
            };
            Returns: {
              audience: 'user' | 'organization' | 'everyone';
              body: string | null;
              created_at: string;
              created_by: string | null;
              created_by_key: string | null;
              data: NonNullable<Json>;
              dedupe_key: string | null;
              id: string;
              link: string | null;
              org_id: string;
              permission: string | null;
              project_id: string | null;
              title: string;
              type: string;
              updated_at: string;
              user_id: string | null;
              xid: unknown;
            };
            SetofOptions: {
              from: '*';
              to: 'notifications';
              isOneToOne: true;
              isSetofReturn: false;
            };
          }
        | {
            Args: {
              body?: string | null;
              data?: Json;
              dedupe_key?: string | null;
              link?: string | null;
              org_id: string;
              title: string;
              type: string;
              user_id?: string | null;
            };
            Returns: {
              audience: 'user' | 'organization' | 'everyone';
              body: string | null;
              created_at: string;
              created_by: string | null;
              created_by_key: string | null;
              data: NonNullable<Json>;
              dedupe_key: string | null;
              id: string;
              link: string | null;
              org_id: string;
              permission: string | null;
              project_id: string | null;
              title: string;
              type: string;
              updated_at: string;
              user_id: string | null;
              xid: unknown;
            };
            SetofOptions: {
              from: '*';
              to: 'notifications';
              isOneToOne: true;
              isSetofReturn: false;
            };
          };
      open_export: { Args: { request_id: string }; Returns: string };
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
      post_seo: { Args: { post_id: string }; Returns: Json };
      preview_cron: { Args: { expression: string; n?: number; timezone?: string }; Returns: string[] };
      preview_habit: {
        Args: { habit_id: string; n?: number };
        Returns: {
          local_time: string | null;
          run_at: string;
          slot: string;
        }[];
      };
      preview_social_post: { Args: { post_id: string }; Returns: Json };
      project_stats: {
        Args: { project_id: string; since?: string | null; until?: string | null };
        Returns: Database['public']['CompositeTypes']['execution_summary'];
        SetofOptions: {
          from: '*';
          to: 'execution_summary';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      prompt_stats: {
        Args: { path?: string | null; since?: string | null; until?: string | null };
        Returns: Database['public']['CompositeTypes']['prompt_stat'][];
        SetofOptions: {
          from: '*';
          to: 'prompt_stat';
          isOneToOne: false;
          isSetofReturn: true;
        };
      };
      provision: {
        Args: Record<PropertyKey, never>;
        Returns: {
          created_at: string;
          created_by: string | null;
          custom_role_id: string | null;
          id: string;
          is_break_glass: boolean;
          mfa_required: boolean;
          org_id: string;
          role: 'viewer' | 'member' | 'admin' | 'owner';
          sso_required: boolean;
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
      publish_post: {
        Args: { post_id: string; revision: number };
        Returns: {
          approval_status: 'none' | 'submitted' | 'approved' | 'rejected';
          author_name: string | null;
          canonical_url: string | null;
          content_group_id: string;
          content_hash: string;
          content_html: string | null;
          content_html_hash: string | null;
          content_markdown: string;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          hero_image_id: string | null;
          id: string;
          locale: string;
          meta_description: string | null;
          meta_title: string | null;
          noindex: boolean;
          og_description: string | null;
          og_title: string | null;
          org_id: string;
          published_at: string | null;
          published_revision: number | null;
          reading_minutes: number;
          revision: number;
          scheduled_at: string | null;
          slug: string;
          status: 'draft' | 'ready' | 'scheduled' | 'published';
          summary: string;
          tags: string[];
          title: string;
          topic_id: string | null;
          updated_at: string;
          word_count: number;
        };
        SetofOptions: {
          from: '*';
          to: 'blog_posts';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      published_post: { Args: { locale?: string | null; org_slug: string; slug: string }; Returns: Json };
      published_posts: {
        Args: { before?: string | null; n?: number; org_slug: string; post_locale?: string | null; tag?: string | null };
        Returns: {
          author_name: string | null;
          image_alt_text: string | null;
          image_url: string | null;
          locale: string;
          modified_at: string;
          published_at: string;
          reading_minutes: number;
          slug: string;
          summary: string;
          tags: string[];
          title: string;
          url: string | null;
        }[];
      };
      push_prompt: {
        Args: {
          base_version?: number | null;
          content: Json;
          description?: string | null;
          engine?: string;
          input_schema?: Json;
          message?: string | null;
          model?: string | null;
          parameters?: Json;
          path: string;
          tags?: string[];
          type?: string;
        };
        Returns: Json;
      };
      read_code_file: {
        Args: { branch?: string | null; end_line?: number | null; path: string; repository_id: string; start_line?: number };
        Returns: Database['public']['CompositeTypes']['code_content'];
        SetofOptions: {
          from: '*';
          to: 'code_content';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      record_consent: { Args: { granted: boolean; purpose: string; version: string }; Returns: string };
      record_flag_evaluations: { Args: { application?: Json | null; environment?: string; toggles: Json }; Returns: undefined };
      recover_webhooks: { Args: { endpoint_id: string; since: string }; Returns: number };
      redeliver_reflex_delivery: {
        Args: { id: string };
        Returns: {
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          depth: number;
          dry_run: boolean;
          duplicate_count: number;
          error: string | null;
          error_code: string | null;
          event: string | null;
          execution_id: string | null;
          external_id: string | null;
          finished_at: string | null;
          headers: NonNullable<Json>;
          id: string;
          input: Json | null;
          org_id: string;
          payload: Json | null;
          payload_bytes: number;
          project_id: string | null;
          redelivery_of: string | null;
          reflex_id: string;
          source: 'webhook' | 'event' | 'repository' | 'test';
          status: 'received' | 'filtered' | 'queued' | 'refused' | 'failed' | 'tested';
          updated_at: string;
        };
        SetofOptions: {
          from: '*';
          to: 'reflex_deliveries';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      redeliver_webhook: {
        Args: { endpoint_id: string; message_id: string };
        Returns: Database['public']['CompositeTypes']['webhook_delivery'];
        SetofOptions: {
          from: '*';
          to: 'webhook_delivery';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      reflex_stats: {
        Args: { reflex_id: string; since?: string | null; until?: string | null };
        Returns: Database['public']['CompositeTypes']['execution_summary'];
        SetofOptions: {
          from: '*';
          to: 'execution_summary';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      register_flag_application: { Args: { application: Json; environment?: string }; Returns: undefined };
      reject_change: {
        Args: { approval_id: string; reason?: string | null };
        Returns: {
          change: NonNullable<Json>;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          decided_at: string | null;
          decided_by: string | null;
          decision_reason: string | null;
          expires_at: string;
          id: string;
          kind: string;
          org_id: string;
          reason: string | null;
          requested_by: string | null;
          status: 'pending' | 'approved' | 'rejected' | 'expired' | 'withdrawn';
          subject_id: string;
          subject_part: string;
          title: string;
          updated_at: string;
        };
        SetofOptions: {
          from: '*';
          to: 'approvals';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      remove_issuer: { Args: { id: string }; Returns: undefined };
      request_erasure: { Args: { org_id?: string | null; user_id?: string | null }; Returns: string };
      request_export: { Args: { org_id?: string | null; user_id?: string | null }; Returns: string };
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
      resend_social_post: {
        Args: { post_id: string };
        Returns: {
          approval_status: 'none' | 'submitted' | 'approved' | 'rejected';
          attempts: number;
          blog_post_id: string | null;
          connection_id: string | null;
          cost_microusd: number;
          cost_usd: number | null;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          error: string | null;
          error_code: string | null;
          hashtags: string[];
          id: string;
          media: NonNullable<Json>;
          org_id: string;
          platform: 'linkedin' | 'facebook' | 'instagram' | 'twitter';
          platform_post_id: string | null;
          platform_url: string | null;
          publish_after: string | null;
          published_at: string | null;
          revision: number;
          scheduled_at: string | null;
          scheduled_local: string | null;
          status: 'draft' | 'scheduled' | 'publishing' | 'published' | 'failed' | 'missed' | 'unconfirmed' | 'cancelled';
          text: string;
          text_hash: string | null;
          time_zone: string | null;
          updated_at: string;
        };
        SetofOptions: {
          from: '*';
          to: 'social_posts';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      restore_post_revision: {
        Args: { from_revision: number; post_id: string; revision: number };
        Returns: {
          approval_status: 'none' | 'submitted' | 'approved' | 'rejected';
          author_name: string | null;
          canonical_url: string | null;
          content_group_id: string;
          content_hash: string;
          content_html: string | null;
          content_html_hash: string | null;
          content_markdown: string;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          hero_image_id: string | null;
          id: string;
          locale: string;
          meta_description: string | null;
          meta_title: string | null;
          noindex: boolean;
          og_description: string | null;
          og_title: string | null;
          org_id: string;
          published_at: string | null;
          published_revision: number | null;
          reading_minutes: number;
          revision: number;
          scheduled_at: string | null;
          slug: string;
          status: 'draft' | 'ready' | 'scheduled' | 'published';
          summary: string;
          tags: string[];
          title: string;
          topic_id: string | null;
          updated_at: string;
          word_count: number;
        };
        SetofOptions: {
          from: '*';
          to: 'blog_posts';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      restore_project: {
        Args: { project_id: string };
        Returns: {
          archived_at: string | null;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          description: string | null;
          id: string;
          name: string;
          org_id: string;
          settings: NonNullable<Json>;
          slug: string;
          updated_at: string;
          visibility: 'organization' | 'private';
        };
        SetofOptions: {
          from: '*';
          to: 'projects';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      restore_project_file: {
        Args: { file_id: string; version?: number | null };
        Returns: {
          bytes: number;
          content_type: string | null;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          deleted_at: string | null;
          id: string;
          last_version: number;
          object_name: string;
          org_id: string;
          path: string;
          project_id: string;
          updated_at: string;
          version: number;
        };
        SetofOptions: {
          from: '*';
          to: 'project_files';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      restore_skill_version: {
        Args: { skill_id: string; version: number };
        Returns: {
          checked_at: string | null;
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
          problems: NonNullable<Json>;
          project_id: string | null;
          prompt_label: string | null;
          prompt_path: string | null;
          prompt_template: string;
          tags: string[];
          updated_at: string;
          version: number;
        };
        SetofOptions: {
          from: '*';
          to: 'skills';
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
          depth: number;
          error: string | null;
          error_code: string | null;
          finished_at: string | null;
          habit_id: string | null;
          hold_id: string | null;
          id: string;
          idempotency_key: string | null;
          input: NonNullable<Json>;
          input_files: NonNullable<Json>;
          input_tokens: number;
          job_id: string | null;
          managers_only: boolean;
          model: string | null;
          org_id: string;
          output: Json | null;
          output_tokens: number;
          project_id: string | null;
          prompt_id: string | null;
          prompt_version: number | null;
          reflex_delivery_id: string | null;
          reflex_id: string | null;
          retry_of: string | null;
          scheduled_for: string | null;
          skill_id: string | null;
          skill_version: number | null;
          skip_count: number;
          started_at: string | null;
          status: 'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled' | 'skipped';
          trigger: 'manual' | 'api' | 'habit' | 'reflex' | 'retry' | 'test';
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
          depth: number;
          error: string | null;
          error_code: string | null;
          finished_at: string | null;
          habit_id: string | null;
          hold_id: string | null;
          id: string;
          idempotency_key: string | null;
          input: NonNullable<Json>;
          input_files: NonNullable<Json>;
          input_tokens: number;
          job_id: string | null;
          managers_only: boolean;
          model: string | null;
          org_id: string;
          output: Json | null;
          output_tokens: number;
          project_id: string | null;
          prompt_id: string | null;
          prompt_version: number | null;
          reflex_delivery_id: string | null;
          reflex_id: string | null;
          retry_of: string | null;
          scheduled_for: string | null;
          skill_id: string | null;
          skill_version: number | null;
          skip_count: number;
          started_at: string | null;
          status: 'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled' | 'skipped';
          trigger: 'manual' | 'api' | 'habit' | 'reflex' | 'retry' | 'test';
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
          depth: number;
          error: string | null;
          error_code: string | null;
          finished_at: string | null;
          habit_id: string | null;
          hold_id: string | null;
          id: string;
          idempotency_key: string | null;
          input: NonNullable<Json>;
          input_files: NonNullable<Json>;
          input_tokens: number;
          job_id: string | null;
          managers_only: boolean;
          model: string | null;
          org_id: string;
          output: Json | null;
          output_tokens: number;
          project_id: string | null;
          prompt_id: string | null;
          prompt_version: number | null;
          reflex_delivery_id: string | null;
          reflex_id: string | null;
          retry_of: string | null;
          scheduled_for: string | null;
          skill_id: string | null;
          skill_version: number | null;
          skip_count: number;
          started_at: string | null;
          status: 'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled' | 'skipped';
          trigger: 'manual' | 'api' | 'habit' | 'reflex' | 'retry' | 'test';
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
      retry_executions: {
        Args: { ids: string[] };
        Returns: {
          error: Json | null;
          execution: Database['public']['Tables']['executions']['Row'] | null;
          id: string;
        }[];
      };
      retry_indexing: {
        Args: { indexing_job_id: string };
        Returns: {
          base_commit_sha: string | null;
          branch: string;
          bytes: number;
          cancel_requested: boolean;
          commit_sha: string | null;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          error: string | null;
          error_code: string | null;
          files_done: number;
          files_total: number;
          finished_at: string | null;
          id: string;
          org_id: string;
          phase: 'fetching' | 'parsing' | 'writing' | 'committing' | 'waiting' | null;
          queue_job_id: string | null;
          repository_id: string;
          seq: number;
          started_at: string | null;
          status: 'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled' | 'superseded';
          trigger: 'manual' | 'push' | 'ingestion' | 'schedule';
          updated_at: string;
        };
        SetofOptions: {
          from: '*';
          to: 'indexing_jobs';
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
      rotate_reflex_secret: {
        Args: { overlap?: string; reflex_id: string; secret?: string | null };
        Returns: Database['public']['CompositeTypes']['issued_reflex_secret'];
        SetofOptions: {
          from: '*';
          to: 'issued_reflex_secret';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      rotate_repository_secret: {
        Args: { overlap?: string; repository_id: string };
        Returns: Database['public']['CompositeTypes']['issued_repository_secret'];
        SetofOptions: {
          from: '*';
          to: 'issued_repository_secret';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      rotate_webhook_secret: {
        Args: { endpoint_id: string; overlap?: string };
        Returns: Database['public']['CompositeTypes']['issued_webhook_secret'];
        SetofOptions: {
          from: '*';
          to: 'issued_webhook_secret';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      run_analytics_query: { Args: { query_id: string }; Returns: Json };
      run_discovery: {
        Args: { discovery_id: string };
        Returns: {
          added_sources: number;
          added_topics: number;
          collector: string | null;
          cost_microusd: number;
          cost_usd: number;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          discovery_id: string;
          duplicates: number;
          error: string | null;
          error_code: string | null;
          finished_at: string | null;
          found: number;
          id: string;
          job_id: string | null;
          org_id: string;
          scheduled_for: string | null;
          started_at: string | null;
          status: 'queued' | 'running' | 'succeeded' | 'failed';
          trigger: 'schedule' | 'manual';
          updated_at: string;
        };
        SetofOptions: {
          from: '*';
          to: 'discovery_runs';
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
          depth: number;
          error: string | null;
          error_code: string | null;
          finished_at: string | null;
          habit_id: string | null;
          hold_id: string | null;
          id: string;
          idempotency_key: string | null;
          input: NonNullable<Json>;
          input_files: NonNullable<Json>;
          input_tokens: number;
          job_id: string | null;
          managers_only: boolean;
          model: string | null;
          org_id: string;
          output: Json | null;
          output_tokens: number;
          project_id: string | null;
          prompt_id: string | null;
          prompt_version: number | null;
          reflex_delivery_id: string | null;
          reflex_id: string | null;
          retry_of: string | null;
          scheduled_for: string | null;
          skill_id: string | null;
          skill_version: number | null;
          skip_count: number;
          started_at: string | null;
          status: 'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled' | 'skipped';
          trigger: 'manual' | 'api' | 'habit' | 'reflex' | 'retry' | 'test';
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
      save_post: {
        Args: { changes: Json; message?: string | null; post_id: string; revision: number };
        Returns: {
          approval_status: 'none' | 'submitted' | 'approved' | 'rejected';
          author_name: string | null;
          canonical_url: string | null;
          content_group_id: string;
          content_hash: string;
          content_html: string | null;
          content_html_hash: string | null;
          content_markdown: string;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          hero_image_id: string | null;
          id: string;
          locale: string;
          meta_description: string | null;
          meta_title: string | null;
          noindex: boolean;
          og_description: string | null;
          og_title: string | null;
          org_id: string;
          published_at: string | null;
          published_revision: number | null;
          reading_minutes: number;
          revision: number;
          scheduled_at: string | null;
          slug: string;
          status: 'draft' | 'ready' | 'scheduled' | 'published';
          summary: string;
          tags: string[];
          title: string;
          topic_id: string | null;
          updated_at: string;
          word_count: number;
        };
        SetofOptions: {
          from: '*';
          to: 'blog_posts';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      schedule_post: {
        Args: { post_id: string; publish_at: string; revision: number };
        Returns: {
          approval_status: 'none' | 'submitted' | 'approved' | 'rejected';
          author_name: string | null;
          canonical_url: string | null;
          content_group_id: string;
          content_hash: string;
          content_html: string | null;
          content_html_hash: string | null;
          content_markdown: string;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          hero_image_id: string | null;
          id: string;
          locale: string;
          meta_description: string | null;
          meta_title: string | null;
          noindex: boolean;
          og_description: string | null;
          og_title: string | null;
          org_id: string;
          published_at: string | null;
          published_revision: number | null;
          reading_minutes: number;
          revision: number;
          scheduled_at: string | null;
          slug: string;
          status: 'draft' | 'ready' | 'scheduled' | 'published';
          summary: string;
          tags: string[];
          title: string;
          topic_id: string | null;
          updated_at: string;
          word_count: number;
        };
        SetofOptions: {
          from: '*';
          to: 'blog_posts';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      schedule_social_post: {
        Args: { local_time?: string | null; post_id: string; time_zone?: string | null };
        Returns: {
          approval_status: 'none' | 'submitted' | 'approved' | 'rejected';
          attempts: number;
          blog_post_id: string | null;
          connection_id: string | null;
          cost_microusd: number;
          cost_usd: number | null;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          error: string | null;
          error_code: string | null;
          hashtags: string[];
          id: string;
          media: NonNullable<Json>;
          org_id: string;
          platform: 'linkedin' | 'facebook' | 'instagram' | 'twitter';
          platform_post_id: string | null;
          platform_url: string | null;
          publish_after: string | null;
          published_at: string | null;
          revision: number;
          scheduled_at: string | null;
          scheduled_local: string | null;
          status: 'draft' | 'scheduled' | 'publishing' | 'published' | 'failed' | 'missed' | 'unconfirmed' | 'cancelled';
          text: string;
          text_hash: string | null;
          time_zone: string | null;
          updated_at: string;
        };
        SetofOptions: {
          from: '*';
          to: 'social_posts';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      score_topic: {
        Args: { topic_id: string };
        Returns: {
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          description: string;
          id: string;
          keywords: string[];
          language: string;
          org_id: string;
          origin: string;
          researched_at: string | null;
          score: number | null;
          score_parts: Json | null;
          scored_at: string | null;
          source_count: number;
          status: 'discovered' | 'researched' | 'written';
          title: string;
          title_key: string;
          updated_at: string;
          written_at: string | null;
        };
        SetofOptions: {
          from: '*';
          to: 'topics';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      search_code: {
        Args: {
          branch?: string | null;
          context?: number;
          languages?: string[] | null;
          match_case?: boolean;
          n?: number;
          path?: string | null;
          q: string;
          repository_id?: string | null;
          whole_word?: boolean;
        };
        Returns: Database['public']['CompositeTypes']['code_match'][];
        SetofOptions: {
          from: '*';
          to: 'code_match';
          isOneToOne: false;
          isSetofReturn: true;
        };
      };
      search_documents: {
        Args: { n?: number; path?: string | null; project_id?: string | null; q?: string | null; skip?: number; tags?: string[] | null };
        Returns: Database['public']['CompositeTypes']['document_match'][];
        SetofOptions: {
          from: '*';
          to: 'document_match';
          isOneToOne: false;
          isSetofReturn: true;
        };
      };
      search_skills: {
        Args: {
          enabled?: boolean | null;
          n?: number;
          project_id?: string | null;
          q?: string | null;
          skip?: number;
          tags?: string[] | null;
        };
        Returns: {
          checked_at: string | null;
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
          problems: NonNullable<Json>;
          project_id: string | null;
          prompt_label: string | null;
          prompt_path: string | null;
          prompt_template: string;
          tags: string[];
          updated_at: string;
          version: number;
        }[];
        SetofOptions: {
          from: '*';
          to: 'skills';
          isOneToOne: false;
          isSetofReturn: true;
        };
      };
      search_symbols: {
        Args: {
          branch?: string | null;
          kinds?: string[] | null;
          languages?: string[] | null;
          matches?: string[] | null;
          min_score?: number;
          n?: number;
          path?: string | null;
          q: string;
          repository_id?: string | null;
        };
        Returns: Database['public']['CompositeTypes']['symbol_match'][];
        SetofOptions: {
          from: '*';
          to: 'symbol_match';
          isOneToOne: false;
          isSetofReturn: true;
        };
      };
      secret: {
        Args: { key: Omit<Database['public']['Tables']['api_keys']['Row'], Database['public']['Tables']['api_keys']['ComputedFields']> };
        Returns: string | null;
      };
      send_test_webhook: {
        Args: { endpoint_id: string };
        Returns: Database['public']['CompositeTypes']['webhook_delivery'];
        SetofOptions: {
          from: '*';
          to: 'webhook_delivery';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      service_levels: {
        Args: { org_id?: string | null; since?: string | null; until?: string | null };
        Returns: Database['public']['CompositeTypes']['service_level'][];
        SetofOptions: {
          from: '*';
          to: 'service_level';
          isOneToOne: false;
          isSetofReturn: true;
        };
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
      set_blog_settings: {
        Args: {
          approval_days?: number | null;
          require_approval?: boolean | null;
          site_description?: string | null;
          site_title?: string | null;
          site_url?: string | null;
        };
        Returns: {
          approval_days: number;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          id: string;
          org_id: string;
          require_approval: boolean;
          site_description: string;
          site_title: string;
          site_url: string | null;
          updated_at: string;
        };
        SetofOptions: {
          from: '*';
          to: 'blog_settings';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      set_connection_application: {
        Args: { client_id: string; client_secret: string; provider: string };
        Returns: {
          client_id: string;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          id: string;
          org_id: string;
          provider: string;
          secret_set_at: string;
          updated_at: string;
        };
        SetofOptions: {
          from: '*';
          to: 'connection_applications';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      set_digest_time: { Args: { hour?: number; timezone?: string }; Returns: undefined };
      set_flag_environment: {
        Args: { name: string; protected?: boolean };
        Returns: {
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          id: string;
          name: string;
          org_id: string;
          protected: boolean;
          updated_at: string;
        };
        SetofOptions: {
          from: '*';
          to: 'flag_environments';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      set_flag_segment: {
        Args: { constraints: Json; description?: string | null; name: string };
        Returns: {
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          description: string;
          id: string;
          name: string;
          org_id: string;
          updated_at: string;
        };
        SetofOptions: {
          from: '*';
          to: 'flag_segments';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      set_image_alt_text: {
        Args: { alt_text: string; image_id: string };
        Returns: {
          alt_text: string;
          applied_revision: number | null;
          base_revision: number;
          blog_post_id: string;
          bytes: number | null;
          call_ids: string[];
          content_hash: string | null;
          content_type: 'image/png' | 'image/jpeg' | null;
          cost_microusd: number;
          cost_usd: number;
          costs_pending: boolean;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          error: string | null;
          error_code: string | null;
          finished_at: string | null;
          height: number | null;
          id: string;
          kind: 'hero' | 'supporting';
          model: string;
          org_id: string;
          prompt: string;
          provider: string | null;
          size: string;
          status: 'queued' | 'running' | 'succeeded' | 'failed';
          storage_path: string | null;
          updated_at: string;
          width: number | null;
        };
        SetofOptions: {
          from: '*';
          to: 'images';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      set_llm_provider_key: {
        Args: { key: string; provider_id: string };
        Returns: {
          base_url: string | null;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          description: string;
          enabled: boolean;
          id: string;
          key_set_at: string | null;
          kind: 'openai' | 'anthropic' | 'gemini' | 'echo';
          max_concurrency: number | null;
          name: string;
          org_id: string;
          updated_at: string;
        };
        SetofOptions: {
          from: '*';
          to: 'llm_providers';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      set_llm_settings: {
        Args: { content_days?: number | null; record_content?: boolean | null; routes_only?: boolean | null };
        Returns: {
          content_days: number;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          id: string;
          org_id: string;
          record_content: boolean;
          routes_only: boolean;
          updated_at: string;
        };
        SetofOptions: {
          from: '*';
          to: 'llm_settings';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      set_notification_preference: {
        Args: { in_app?: boolean | null; mail?: string | null; org_id?: string | null; type?: string | null };
        Returns: undefined;
      };
      set_prompt_label: { Args: { label: string; path: string; reason?: string | null; version: number }; Returns: Json };
      set_prompt_settings: {
        Args: { approval_days?: number | null; protected_labels?: string[] | null; require_approval?: boolean | null };
        Returns: {
          approval_days: number;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          id: string;
          org_id: string;
          protected_labels: string[];
          updated_at: string;
        };
        SetofOptions: {
          from: '*';
          to: 'prompt_settings';
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
      set_social_settings: {
        Args: { missed_after_minutes?: number | null; require_approval?: boolean | null; time_zone?: string | null };
        Returns: {
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          id: string;
          missed_after_minutes: number;
          org_id: string;
          require_approval: boolean;
          time_zone: string;
          updated_at: string;
        };
        SetofOptions: {
          from: '*';
          to: 'social_settings';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      signing_secret: {
        Args: { reflex: Omit<Database['public']['Tables']['reflexes']['Row'], Database['public']['Tables']['reflexes']['ComputedFields']> };
        Returns: string | null;
      };
      similar_sources: {
        Args: { n?: number; source_id: string };
        Returns: {
          id: string;
          similarity: number;
          title: string;
          topic_id: string;
          url: string;
        }[];
      };
      skill_stats: {
        Args: { since?: string | null; skill_id: string; until?: string | null };
        Returns: Database['public']['CompositeTypes']['execution_summary'];
        SetofOptions: {
          from: '*';
          to: 'execution_summary';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      social_calendar: {
        Args: { first_day: string; last_day: string };
        Returns: Database['public']['CompositeTypes']['social_calendar_entry'][];
        SetofOptions: {
          from: '*';
          to: 'social_calendar_entry';
          isOneToOne: false;
          isSetofReturn: true;
        };
      };
      stale_flags: {
        Args: { environment?: string; org_id?: string | null };
        Returns: {
          flag_id: string;
          last_evaluated_at: string | null;
          name: string;
          reason: string;
          type: string;
        }[];
      };
      start_ingestion: {
        Args: { project_id: string };
        Returns: Database['public']['CompositeTypes']['ingestion_status'];
        SetofOptions: {
          from: '*';
          to: 'ingestion_status';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      submit_post: {
        Args: { post_id: string; reason?: string | null; revision: number };
        Returns: {
          approval_status: 'none' | 'submitted' | 'approved' | 'rejected';
          author_name: string | null;
          canonical_url: string | null;
          content_group_id: string;
          content_hash: string;
          content_html: string | null;
          content_html_hash: string | null;
          content_markdown: string;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          hero_image_id: string | null;
          id: string;
          locale: string;
          meta_description: string | null;
          meta_title: string | null;
          noindex: boolean;
          og_description: string | null;
          og_title: string | null;
          org_id: string;
          published_at: string | null;
          published_revision: number | null;
          reading_minutes: number;
          revision: number;
          scheduled_at: string | null;
          slug: string;
          status: 'draft' | 'ready' | 'scheduled' | 'published';
          summary: string;
          tags: string[];
          title: string;
          topic_id: string | null;
          updated_at: string;
          word_count: number;
        };
        SetofOptions: {
          from: '*';
          to: 'blog_posts';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      submit_social_post: {
        Args: { post_id: string; reason?: string | null };
        Returns: {
          change: NonNullable<Json>;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          decided_at: string | null;
          decided_by: string | null;
          decision_reason: string | null;
          expires_at: string;
          id: string;
          kind: string;
          org_id: string;
          reason: string | null;
          requested_by: string | null;
          status: 'pending' | 'approved' | 'rejected' | 'expired' | 'withdrawn';
          subject_id: string;
          subject_part: string;
          title: string;
          updated_at: string;
        };
        SetofOptions: {
          from: '*';
          to: 'approvals';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      symbol_graph: {
        Args: {
          at_commit?: string | null;
          branch?: string | null;
          depth?: number;
          direction?: string;
          kinds?: string[] | null;
          n?: number;
          path?: string | null;
          repository_id?: string | null;
          symbol: string;
        };
        Returns: Database['public']['CompositeTypes']['code_edge'][];
        SetofOptions: {
          from: '*';
          to: 'code_edge';
          isOneToOne: false;
          isSetofReturn: true;
        };
      };
      test_reflex: {
        Args: { event?: string | null; headers?: Json; payload: Json; reflex_id: string; run?: boolean };
        Returns: {
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          depth: number;
          dry_run: boolean;
          duplicate_count: number;
          error: string | null;
          error_code: string | null;
          event: string | null;
          execution_id: string | null;
          external_id: string | null;
          finished_at: string | null;
          headers: NonNullable<Json>;
          id: string;
          input: Json | null;
          org_id: string;
          payload: Json | null;
          payload_bytes: number;
          project_id: string | null;
          redelivery_of: string | null;
          reflex_id: string;
          source: 'webhook' | 'event' | 'repository' | 'test';
          status: 'received' | 'filtered' | 'queued' | 'refused' | 'failed' | 'tested';
          updated_at: string;
        };
        SetofOptions: {
          from: '*';
          to: 'reflex_deliveries';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      test_skill: { Args: { dry_run?: boolean; input?: Json; skill_id: string }; Returns: Json };
      track: { Args: { events: Json }; Returns: Json };
      transfer_ownership: {
        Args: { org_id: string; user_id: string };
        Returns: {
          created_at: string;
          created_by: string | null;
          custom_role_id: string | null;
          id: string;
          is_break_glass: boolean;
          mfa_required: boolean;
          org_id: string;
          role: 'viewer' | 'member' | 'admin' | 'owner';
          sso_required: boolean;
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
      unpublish_post: {
        Args: { post_id: string };
        Returns: {
          approval_status: 'none' | 'submitted' | 'approved' | 'rejected';
          author_name: string | null;
          canonical_url: string | null;
          content_group_id: string;
          content_hash: string;
          content_html: string | null;
          content_html_hash: string | null;
          content_markdown: string;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          hero_image_id: string | null;
          id: string;
          locale: string;
          meta_description: string | null;
          meta_title: string | null;
          noindex: boolean;
          og_description: string | null;
          og_title: string | null;
          org_id: string;
          published_at: string | null;
          published_revision: number | null;
          reading_minutes: number;
          revision: number;
          scheduled_at: string | null;
          slug: string;
          status: 'draft' | 'ready' | 'scheduled' | 'published';
          summary: string;
          tags: string[];
          title: string;
          topic_id: string | null;
          updated_at: string;
          word_count: number;
        };
        SetofOptions: {
          from: '*';
          to: 'blog_posts';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      unread_count: { Args: Record<PropertyKey, never>; Returns: number };
      unschedule_post: {
        Args: { post_id: string };
        Returns: {
          approval_status: 'none' | 'submitted' | 'approved' | 'rejected';
          author_name: string | null;
          canonical_url: string | null;
          content_group_id: string;
          content_hash: string;
          content_html: string | null;
          content_html_hash: string | null;
          content_markdown: string;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          hero_image_id: string | null;
          id: string;
          locale: string;
          meta_description: string | null;
          meta_title: string | null;
          noindex: boolean;
          og_description: string | null;
          og_title: string | null;
          org_id: string;
          published_at: string | null;
          published_revision: number | null;
          reading_minutes: number;
          revision: number;
          scheduled_at: string | null;
          slug: string;
          status: 'draft' | 'ready' | 'scheduled' | 'published';
          summary: string;
          tags: string[];
          title: string;
          topic_id: string | null;
          updated_at: string;
          word_count: number;
        };
        SetofOptions: {
          from: '*';
          to: 'blog_posts';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      update_issuer: {
        Args: { changes: Json; id: string };
        Returns: Database['public']['CompositeTypes']['issuer'];
        SetofOptions: {
          from: '*';
          to: 'issuer';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      update_skills: {
        Args: { clear_project?: boolean; enabled?: boolean | null; ids: string[]; project_id?: string | null };
        Returns: {
          code: string | null;
          done: boolean;
          id: string;
          message: string | null;
        }[];
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
      usage_metrics: {
        Args: { since?: string | null; until?: string | null };
        Returns: {
          cost_microusd: number;
          failed: number;
          hour: string;
          p50_ms: number;
          p95_ms: number;
          refused: number;
          requests: number;
          route: string;
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
      validate_project: {
        Args: { project_id: string };
        Returns: Database['public']['CompositeTypes']['project_finding'][];
        SetofOptions: {
          from: '*';
          to: 'project_finding';
          isOneToOne: false;
          isSetofReturn: true;
        };
      };
      vat_treatment: {
        Args: Record<PropertyKey, never>;
        Returns: {
          country: string | null;
          legal_note: string | null;
          rate_basis_points: number | null;
          treatment: string;
          vat_number_status: string | null;
        }[];
      };
      verify_audit_chain: {
        Args: {
          after_seal?: number;
          known_hash?: string | null;
          known_seal?: number | null;
          max_seals?: number | null;
          org_id?: string | null;
        };
        Returns: Json;
      };
      webhook_secret: {
        Args: {
          endpoint: Omit<
            Database['public']['Tables']['webhook_endpoints']['Row'],
            Database['public']['Tables']['webhook_endpoints']['ComputedFields']
          >;
        };
        Returns: string | null;
      };
      withdraw_change: {
        Args: { approval_id: string };
        Returns: {
          change: NonNullable<Json>;
          created_at: string;
          created_by: string | null;
          created_by_key: string | null;
          decided_at: string | null;
          decided_by: string | null;
          decision_reason: string | null;
          expires_at: string;
          id: string;
          kind: string;
          org_id: string;
          reason: string | null;
          requested_by: string | null;
          status: 'pending' | 'approved' | 'rejected' | 'expired' | 'withdrawn';
          subject_id: string;
          subject_part: string;
          title: string;
          updated_at: string;
        };
        SetofOptions: {
          from: '*';
          to: 'approvals';
          isOneToOne: true;
          isSetofReturn: false;
        };
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
      begun_connection: {
        url: string | null;
        expires_at: string | null;
      };
      code_content: {
        path: string | null;
        commit_sha: string | null;
        language: string | null;
        bytes: number | null;
        lines: number | null;
        skipped: string | null;
        start_line: number | null;
        content: string | null;
      };
      code_edge: {
        depth: number | null;
        repository_id: string | null;
        branch: string | null;
        source_path: string | null;
        source_symbol: string | null;
        kind: string | null;
        target_path: string | null;
        target_symbol: string | null;
        resolution: string | null;
        line: number | null;
        from_commit: string | null;
        to_commit: string | null;
      };
      code_file: {
        path: string | null;
        language: string | null;
        bytes: number | null;
        lines: number | null;
        skipped: string | null;
        oid: string | null;
      };
      code_match: {
        repository_id: string | null;
        branch: string | null;
        path: string | null;
        language: string | null;
        line: number | null;
        column: number | null;
        text: string | null;
        before: string[] | null;
        after: string[] | null;
      };
      connection_provider: {
        provider: string | null;
        scopes: string[] | null;
      };
      document_match: {
        id: string | null;
        project_id: string | null;
        path: string | null;
        title: string | null;
        tags: string[] | null;
        metadata: Json | null;
        size_bytes: number | null;
        updated_at: string | null;
        rank: number | null;
        excerpt: string | null;
      };
      execution_summary: {
        runs: number | null;
        succeeded: number | null;
        failed: number | null;
        cancelled: number | null;
        skipped: number | null;
        success_rate: number | null;
        p50_ms: number | null;
        p95_ms: number | null;
        cost_microusd: number | null;
        input_tokens: number | null;
        output_tokens: number | null;
        last_run_at: string | null;
      };
      ingestion_status: {
        project_id: string | null;
        status: string | null;
        repositories: number | null;
        queued: number | null;
        running: number | null;
        succeeded: number | null;
        failed: number | null;
        cancelled: number | null;
        files_done: number | null;
        files_total: number | null;
        started_at: string | null;
        finished_at: string | null;
        files_skipped: number | null;
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
      issued_reflex_secret: {
        reflex_id: string | null;
        secret: string | null;
        secret_prefix: string | null;
        former_expires_at: string | null;
      };
      issued_repository_secret: {
        repository_id: string | null;
        secret: string | null;
        former_expires_at: string | null;
      };
      issued_webhook_secret: {
        endpoint_id: string | null;
        secret: string | null;
        public_key: string | null;
        former_secret_until: string | null;
      };
      issuer: {
        id: string | null;
        url: string | null;
        audiences: string[] | null;
        role_claims: string[] | null;
        role_map: Json | null;
        default_role: string | null;
        org_claim: string | null;
        org_value: string | null;
        email_domains: string[] | null;
        owns_roles: boolean | null;
        enabled: boolean | null;
        status: string | null;
        error: string | null;
        verified_at: string | null;
        keys_at: string | null;
        created_at: string | null;
        updated_at: string | null;
      };
      llm_budget_state: {
        budget_id: string | null;
        name: string | null;
        scope: string | null;
        value: string | null;
        period: string | null;
        unit: string | null;
        on_exceeded: string | null;
        limit: number | null;
        used: number | null;
        held: number | null;
        remaining: number | null;
        resets_at: string | null;
      };
      llm_usage_line: {
        value: string | null;
        calls: number | null;
        failed: number | null;
        input_tokens: number | null;
        output_tokens: number | null;
        cache_read_tokens: number | null;
        cost_microusd: number | null;
        estimated: number | null;
        median_first_token_ms: number | null;
        median_total_ms: number | null;
      };
      project_finding: {
        code: string | null;
        severity: string | null;
        message: string | null;
        hint: string | null;
        where: Json | null;
      };
      prompt_stat: {
        prompt_id: string | null;
        path: string | null;
        version: number | null;
        uses: number | null;
        calls: number | null;
        executions: number | null;
        failed: number | null;
        error_rate: number | null;
        input_tokens: number | null;
        output_tokens: number | null;
        cost_microusd: number | null;
        mean_cost_microusd: number | null;
        p50_ms: number | null;
        p95_ms: number | null;
        first_used_at: string | null;
        last_used_at: string | null;
      };
      service_level: {
        name: string | null;
        value: number | null;
        target: number | null;
        unit: string | null;
        samples: number | null;
        met: boolean | null;
      };
      social_calendar_entry: {
        post_id: string | null;
        platform: string | null;
        status: string | null;
        approval_status: string | null;
        day: string | null;
        local_time: string | null;
        scheduled_at: string | null;
        title: string | null;
        conflicts_with: string[] | null;
        duplicate_of: string[] | null;
      };
      symbol_match: {
        score: number | null;
        match: string | null;
        repository_id: string | null;
        branch: string | null;
        path: string | null;
        language: string | null;
        name: string | null;
        kind: string | null;
        parent: string | null;
        signature: string | null;
        documentation: string | null;
        exported: boolean | null;
        line: number | null;
        column: number | null;
        end_line: number | null;
      };
      webhook_attempt: {
        attempt: number | null;
        started_at: string | null;
        duration_ms: number | null;
        response_status: number | null;
        response_body: string | null;
        error_code: string | null;
        error: string | null;
      };
      webhook_delivery: {
        id: string | null;
        endpoint_id: string | null;
        message_id: string | null;
        type: string | null;
        cause: string | null;
        status: string | null;
        attempts: number | null;
        response_status: number | null;
        error_code: string | null;
        next_attempt_at: string | null;
        created_at: string | null;
        ended_at: string | null;
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
