// dashboards.mjs [--check]: writes the dashboards of Grafana to deploy/grafana, or fails if a file differs from what it would write.
// They are code, so that a renamed metric is renamed here once; docs/guides/observability.md says how they are loaded.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { VizLegendOptionsBuilder } from '@grafana/grafana-foundation-sdk/common';
import {
  DashboardBuilder,
  DatasourceVariableBuilder,
  RowBuilder,
  ThresholdsConfigBuilder,
} from '@grafana/grafana-foundation-sdk/dashboard';
import { DataqueryBuilder } from '@grafana/grafana-foundation-sdk/prometheus';
import { PanelBuilder as StatBuilder } from '@grafana/grafana-foundation-sdk/stat';
import { PanelBuilder as TimeseriesBuilder } from '@grafana/grafana-foundation-sdk/timeseries';

const FOLDER = fileURLToPath(new URL('../deploy/grafana', import.meta.url));
const DATASOURCE = { type: 'prometheus', uid: '$datasource' };

const query = ([expr, legend]) => new DataqueryBuilder().expr(expr).legendFormat(legend).datasource(DATASOURCE);

function graph(title, unit, ...queries) {
  const panel = new TimeseriesBuilder().title(title).unit(unit).min(0).span(12).height(8).datasource(DATASOURCE);
  panel.legend(new VizLegendOptionsBuilder().showLegend(true).displayMode('list').placement('bottom').calcs([]));
  for (const one of queries) panel.withTarget(query(one));
  return panel;
}

function figure(title, unit, expr, warning) {
  const steps = [
    { value: null, color: 'green' },
    { value: warning, color: 'red' },
  ];
  return new StatBuilder()
    .title(title)
    .unit(unit)
    .span(6)
    .height(4)
    .datasource(DATASOURCE)
    .thresholds(new ThresholdsConfigBuilder().mode('absolute').steps(steps))
    .withTarget(query([expr, title]));
}

function dashboard(uid, title, rows) {
  const built = new DashboardBuilder(title)
    .uid(uid)
    .tags(['kijko'])
    .refresh('1m')
    .time({ from: 'now-6h', to: 'now' })
    .timezone('browser')
    .withVariable(new DatasourceVariableBuilder('datasource').label('Prometheus').type('prometheus'));
  for (const [name, panels] of rows) {
    built.withRow(new RowBuilder(name));
    for (const panel of panels) built.withPanel(panel);
  }
  return built.build();
}

const p95 = (metric, by) => `histogram_quantile(0.95, sum by (le, ${by}) (rate(${metric}_bucket[$__rate_interval])))`;
const rate = (metric, by, selector = '') => `sum by (${by}) (rate(${metric}${selector}[$__rate_interval]))`;

/** The dashboards by the names of their files. */
export const DASHBOARDS = {
  'kijko-api.json': () =>
    dashboard('kijko-api', 'Kijko: API', [
      [
        'Service levels',
        [
          figure(
            'Requests that fail',
            'percentunit',
            'sum(rate(kijko_api_requests_total{status="5xx"}[$__range])) / sum(rate(kijko_api_requests_total[$__range]))',
            0.01,
          ),
          figure(
            'p95 of requests',
            's',
            'histogram_quantile(0.95, sum by (le) (rate(kijko_api_request_duration_seconds_bucket{part=~"rest|auth|storage|code"}[$__range])))',
            0.2,
          ),
          figure(
            'Jobs that were given up',
            'percentunit',
            'sum(rate(kijko_jobs_total{outcome="dead"}[$__range])) / sum(rate(kijko_jobs_total{outcome=~"succeeded|dead"}[$__range]))',
            0.01,
          ),
          figure(
            'Calls of models that fail',
            'percentunit',
            'sum(rate(kijko_llm_calls_total{outcome!~"ok|dropped"}[$__range])) / sum(rate(kijko_llm_calls_total[$__range]))',
            0.05,
          ),
        ],
      ],
      [
        'Requests',
        [
          graph('Requests', 'reqps', [rate('kijko_api_requests_total', 'part'), '{{part}}']),
          graph('By status', 'reqps', [rate('kijko_api_requests_total', 'status'), '{{status}}']),
          graph('p95', 's', [p95('kijko_api_request_duration_seconds', 'part'), '{{part}}']),
          graph('Log of requests that is not read', 'bytes', ['kijko_access_log_unread_bytes', '{{instance}}']),
        ],
      ],
      [
        'Parts',
        [
          graph('Routes: p95', 's', [p95('kijko_http_request_duration_seconds', 'job, route'), '{{job}} {{route}}']),
          graph('Routes: failures', 'reqps', [rate('kijko_http_requests_total', 'job, route', '{status=~"5.."}'), '{{job}} {{route}}']),
          graph('Sockets', 'short', ['kijko_realtime_sockets', 'sockets'], ['kijko_realtime_channels', 'channels']),
          graph(
            'Objects',
            'Bps',
            [rate('kijko_storage_received_bytes_total', 'job'), 'received'],
            [rate('kijko_storage_sent_bytes_total', 'job'), 'sent'],
          ),
        ],
      ],
    ]),
  'kijko-jobs.json': () =>
    dashboard('kijko-jobs', 'Kijko: jobs and deliveries', [
      [
        'Queue',
        [
          graph('Jobs', 'short', ['max by (kind, state) (kijko_queue_jobs)', '{{kind}} {{state}}']),
          graph('Oldest due job', 's', ['max by (kind) (kijko_queue_oldest_seconds)', '{{kind}}']),
          graph('Ended', 'ops', [rate('kijko_jobs_total', 'kind, outcome'), '{{kind}} {{outcome}}']),
          graph('p95 of their time', 's', [p95('kijko_job_duration_seconds', 'kind'), '{{kind}}']),
          graph('Leases that have ended', 'short', ['max by (kind) (kijko_queue_overdue_leases)', '{{kind}}']),
          graph('Slots of workers', 'short', ['kijko_worker_slots', '{{instance}} {{state}}']),
        ],
      ],
      [
        'Deliveries',
        [
          graph('Outbox', 'short', ['max by (state) (kijko_outbox_requests)', '{{state}}']),
          graph('Outbox: oldest due request', 's', ['max(kijko_outbox_oldest_due_seconds)', 'oldest']),
          graph('Mails', 'short', ['max by (state) (kijko_mail_messages)', '{{state}}']),
          graph('Social posts', 'ops', [rate('kijko_social_attempts_total', 'platform, outcome'), '{{platform}} {{outcome}}']),
          graph('Events of Stripe', 'ops', [rate('kijko_stripe_events_total', 'outcome'), '{{outcome}}']),
          graph('Deliveries to reflexes', 'ops', [rate('kijko_reflex_deliveries_total', 'outcome'), '{{outcome}}']),
        ],
      ],
      [
        'Privacy',
        [
          graph('Exports and erasures', 'short', ['max by (state) (kijko_privacy_backlog)', '{{state}}']),
          graph('Oldest that is due', 's', ['max(kijko_privacy_oldest_due_seconds)', 'oldest']),
        ],
      ],
    ]),
  'kijko-models.json': () =>
    dashboard('kijko-models', 'Kijko: models', [
      [
        'Vendors',
        [
          graph('Calls', 'ops', [rate('kijko_llm_calls_total', 'provider, outcome'), '{{provider}} {{outcome}}']),
          graph('p95 of their time', 's', [p95('kijko_llm_call_duration_seconds', 'provider'), '{{provider}}']),
          graph('p95 until the first token', 's', [p95('kijko_llm_first_token_seconds', 'provider'), '{{provider}}']),
          graph('Tokens', 'short', [rate('kijko_llm_tokens_total', 'provider, direction'), '{{provider}} {{direction}}']),
        ],
      ],
      [
        'Gateway',
        [
          graph('Calls', 'ops', [rate('kijko_llm_gateway_calls_total', 'kind, outcome'), '{{kind}} {{outcome}}']),
          graph('Attempts', 'ops', [rate('kijko_llm_gateway_attempts_total', 'api, outcome'), '{{api}} {{outcome}}']),
          graph('p95 until the first piece', 's', [p95('kijko_llm_gateway_first_token_seconds', 'kind'), '{{kind}}']),
          graph(
            'Calls under way',
            'short',
            ['sum(kijko_llm_gateway_calls_running)', 'running'],
            ['sum(kijko_llm_gateway_calls_unsettled)', 'not settled'],
          ),
        ],
      ],
    ]),
  'kijko-machine.json': () =>
    dashboard('kijko-machine', 'Kijko: machine and database', [
      [
        'Database',
        [
          graph('Answers', 'short', ['kijko_database_up', '{{job}} {{instance}}']),
          graph('Connections of pools', 'short', ['sum by (job, state) (kijko_db_pool_connections)', '{{job}} {{state}}']),
          graph('WAL that slots hold back', 'bytes', ['max by (state) (kijko_replication_retained_bytes)', '{{state}}']),
          graph('Notifications arrive', 'short', ['kijko_listener_connected', '{{job}} {{instance}}']),
        ],
      ],
      [
        'Machine',
        [
          graph('Free on disks', 'bytes', ['kijko_disk_bytes{state="free"}', '{{instance}} {{folder}}']),
          graph('Certificate', 's', ['min(kijko_certificate_remaining_seconds)', 'until it ends']),
          graph('Memory', 'bytes', ['process_resident_memory_bytes{job=~"kijko-.*"}', '{{job}} {{instance}}']),
          graph('Processor', 'short', ['rate(process_cpu_seconds_total{job=~"kijko-.*"}[$__rate_interval])', '{{job}} {{instance}}']),
        ],
      ],
    ]),
};

const text = (build) => `${JSON.stringify(build(), null, 2)}\n`;

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const isCheck = process.argv[2] === '--check';
  for (const [name, build] of Object.entries(DASHBOARDS)) {
    const path = join(FOLDER, name);
    if (!isCheck) writeFileSync(path, text(build));
    else if (readFileSync(path, 'utf8') !== text(build)) {
      console.error(`deploy/grafana/${name} is out of date: run node scripts/dashboards.mjs`);
      process.exitCode = 1;
    }
  }
}
