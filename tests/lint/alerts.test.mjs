import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkAlerts, isPage } from './alerts.mjs';
import { ROOT } from './tree.mjs';

const rule = (more = {}) => ({
  alert: 'A',
  labels: { severity: 'warning' },
  annotations: { summary: 's', runbook: 'page' },
  ...more,
});
const rules = (...all) => ({ groups: [{ rules: all }] });
const fires = { alertname: 'A', exp_alerts: [{}] };
const quiet = { alertname: 'A', exp_alerts: [] };
const tests = (...all) => ({ tests: [{ alert_rule_test: all }] });

test('an alert is tested both ways, has a severity and a summary, and leads to a page', () => {
  const check = (one, ...tested) => checkAlerts(rules(one, { record: 'r' }), tests(...tested), (target) => target === 'page').length;
  assert.equal(check(rule(), fires, quiet), 0);
  assert.equal(check(rule(), fires), 1);
  assert.equal(check(rule(), quiet), 1);
  assert.equal(check(rule({ labels: {} }), fires, quiet), 1);
  assert.equal(check(rule({ annotations: { summary: 's', runbook: 'elsewhere' } }), fires, quiet), 1);
  assert.equal(check(rule({ annotations: undefined }), fires, quiet), 2);
});

test('a page is a file, and an anchor one of its headings', () => {
  assert.ok(isPage(ROOT, 'docs/operations/alerting.md'));
  assert.ok(isPage(ROOT, 'docs/operations/alerting.md#exit-codes'));
  assert.ok(!isPage(ROOT, 'docs/operations/alerting.md#nothing'));
  assert.ok(!isPage(ROOT, 'docs/operations/nothing.md'));
  assert.ok(!isPage(ROOT, ''));
});
